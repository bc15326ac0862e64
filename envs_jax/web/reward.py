"""WebShop's reward, split into tables that are made once and a few look-ups at the purchase.

    reward = type · (matched attributes + matched options + [price ≤ limit]) / (attributes + options + 1)

Source: `get_reward` in princeton-nlp/WebShop, `web_agent_site/engine/goal.py`, quirks included (docs/webshop.md).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs_jax.pytree import pytree_dataclass
from envs_jax.web.catalogue import Product
from envs_jax.web.fuzzy import fuzzy_matches
from envs_jax.web.goals import Goal
from envs_jax.web.nouns import NounFn
from envs_jax.web.state_machine import Actions, Session

TYPE_FACTORS = (0.0, 0.1, 0.5, 1.0)

# The colour words of WebShop's `normalize.py`, in its order: of those that occur in a text, as any part of it, the
# first counts.
_COLOR_WORDS = """
    alabaster apricot aqua ash asphalt azure banana beige black blue blush bordeaux bronze brown burgundy camel camo
    caramel champagne charcoal cheetah chestnut chocolate christmas coffee cognac copper coral cranberry cream
    crystal dark denim eggplant elephant espresso fuchsia gold granite grape graphite grass gray green grey heather
    indigo ivory ivy khaki lavender lemon leopard light lilac lime magenta maroon mauve merlot midnight mint mocha
    multicolor mushroom mustard natural navy nude olive orange peach pewter pink plum purple rainbow red rose royal
    rust sand sapphire seashell silver skull slate steel stone stonewash sunflower tan taupe teal tiger turquoise
    violet walnut wheat white wine yellow
"""
COLORS = tuple(_COLOR_WORDS.split())


@pytree_dataclass
class RewardTables:
    """For S goal sources (product and attributes), P products, O distinct goal options, V distinct option values."""

    kind: jax.Array  # uint8 or uint16[S, P]: index into TYPE_FACTORS + 4 · matched attributes
    option_match: jax.Array  # bool[O + 1, V + 1]: a chosen value fulfils a goal option; the last of each is "none"
    option_values: jax.Array  # uint[P, options]: the value behind each option action; V where there is none
    price_rank: jax.Array  # uint8[P]: how many of the distinct price limits are below the product's price


class GoalCodes(NamedTuple):
    """What the reward needs of a goal, or of T goals (every array [T, …]); the smallest unsigned types."""

    source: jax.Array  # []: row of RewardTables.kind
    options: jax.Array  # [J]: rows of RewardTables.option_match; O where the goal has fewer options
    price_limit: jax.Array  # []: the price is within the limit where price_rank ≤ this
    num_criteria: jax.Array  # []: attributes + options + 1


def score(tables: RewardTables, actions: Actions, session: Session, codes: GoalCodes) -> tuple[jax.Array, jax.Array]:
    """(WebShop's reward for buying the open product with the chosen options, float32[]; whether it is exactly 1)."""
    kind = tables.kind[codes.source, session.product].astype(jnp.int32)
    starts = np.array(actions.group_starts, np.int32)
    none = tables.option_match.shape[1] - 1
    picked = session.options.astype(jnp.int32)
    values = tables.option_values[session.product, jnp.maximum(starts + picked - 1, 0)]
    values = jnp.where(picked > 0, values, none)
    fulfilled = jnp.any(tables.option_match[codes.options[:, None], values[None, :]], axis=1)
    affordable = tables.price_rank[session.product] <= codes.price_limit
    met = (kind >> 2) + jnp.sum(fulfilled, dtype=jnp.int32) + affordable
    best = (kind & 3 == 3) & (met == codes.num_criteria)
    factor = jnp.select([kind & 3 == i for i in range(4)], [jnp.float32(f) for f in TYPE_FACTORS])
    return factor * (met.astype(jnp.float32) / codes.num_criteria.astype(jnp.float32)), best


def build_tables(
    products: Sequence[Product], prices: Sequence[float], goals: Sequence[Goal], noun_fn: NounFn, actions: Actions
) -> tuple[RewardTables, GoalCodes]:
    """The tables of a catalogue and the codes of its goals."""
    sources = {source: i for i, source in enumerate(dict.fromkeys((goal.product, goal.attributes) for goal in goals))}
    matched = _matched_attributes(products, list(sources))
    kinds = _type_codes(products, [product for product, _ in sources], noun_fn) + 4 * matched
    option_match, option_rows, value_columns = _option_matches(products, goals)
    none_row, none_column = np.array(option_match.shape) - 1

    num_options = max(max(len(goal.options) for goal in goals), 1)
    option_codes = np.full((len(goals), num_options), none_row)
    for i, goal in enumerate(goals):
        option_codes[i, : len(goal.options)] = [option_rows[_goal_option_text(option)] for option in goal.options]
    option_values = np.full((len(products), max(actions.num_options, 1)), none_column)
    for p, product in enumerate(products):
        for start, values in zip(actions.group_starts, product.options.values(), strict=False):
            option_values[p, start : start + len(values)] = [value_columns[normalize_color(value)] for value in values]

    limits = np.unique([goal.price_upper for goal in goals])
    tables = RewardTables(
        kind=compact(kinds),
        option_match=jnp.asarray(option_match),
        option_values=compact(option_values),
        price_rank=compact(np.searchsorted(limits, np.array(prices), side="left")),
    )
    codes = GoalCodes(
        source=compact([sources[goal.product, goal.attributes] for goal in goals]),
        options=compact(option_codes),
        price_limit=compact(np.searchsorted(limits, [goal.price_upper for goal in goals], side="left")),
        num_criteria=compact([len(goal.attributes) + len(goal.options) + 1 for goal in goals]),
    )
    return tables, codes


def normalize_color(text: str) -> str:
    """The first of `COLORS` that is part of `text`; `text` itself where none is."""
    return next((color for color in COLORS if color in text), text)


def _goal_option_text(option: tuple[str, str] | str) -> str:
    """A goal option as the fuzzy comparison sees it.

    WebShop passes a synthetic option as the pair (group, value): its colour is normalised only where the group or the
    value is exactly a colour word, and it is compared as Python prints it.
    """
    if isinstance(option, str):
        return normalize_color(option)
    return next((color for color in COLORS if color in option), str(option))


def _option_matches(
    products: Sequence[Product], goals: Sequence[Goal]
) -> tuple[np.ndarray, dict[str, int], dict[str, int]]:
    """(bool[O + 1, V + 1], row of each goal option text, column of each normalised option value)."""
    wanted = sorted({_goal_option_text(option) for goal in goals for option in goal.options})
    values = {value for product in products for group in product.options.values() for value in group}
    offered = sorted({normalize_color(value) for value in values})
    matches = np.pad(fuzzy_matches(wanted, offered), ((0, 1), (0, 1)))
    return matches, {text: i for i, text in enumerate(wanted)}, {text: i for i, text in enumerate(offered)}


def _matched_attributes(products: Sequence[Product], sources: Sequence[tuple[int, tuple[str, ...]]]) -> np.ndarray:
    """int[S, P]: how many attributes of each source a product has: among its own, fuzzily, or literally in a text."""
    wanted = sorted({attribute for _, attributes in sources for attribute in attributes})
    owned = sorted({attribute for product in products for attribute in product.attributes})
    similar = fuzzy_matches(wanted, owned)
    columns = {attribute: i for i, attribute in enumerate(owned)}
    has = np.zeros((len(wanted), len(products)), bool)
    for p, product in enumerate(products):
        own = similar[:, [columns[attribute] for attribute in product.attributes]].any(axis=1)
        texts = product.title.lower(), " ".join(product.bullets).lower(), product.description.lower()
        has[:, p] = own | np.array([any(attribute in text for text in texts) for attribute in wanted])
    rows = {attribute: i for i, attribute in enumerate(wanted)}
    return np.stack([has[[rows[name] for name in attributes]].sum(axis=0) for _, attributes in sources])


def _type_codes(products: Sequence[Product], goal_products: Sequence[int], noun_fn: NounFn) -> np.ndarray:
    """int[S, P]: index into TYPE_FACTORS: do the goal's product and another seem to be the same kind of thing?"""
    nouns = [_nouns(noun_fn, product.title) for product in products]
    noun_sets = _incidence([set(words) for words in nouns])
    category_sets = _incidence([{part.strip() for part in product.product_category.split("›")} for product in products])
    _, query_ids = np.unique([product.query for product in products], return_inverse=True)

    goal = np.asarray(goal_products)
    same_query = query_ids[goal][:, None] == query_ids[None]
    same_category = category_sets[goal] @ category_sets.T >= 2
    # Repeated nouns count once above and every time below the line, as in WebShop.
    num_nouns = np.array([len(nouns[product]) for product in goal_products])[:, None]
    shared = (noun_sets[goal] @ noun_sets.T).astype(np.float64)
    title_score = np.where(num_nouns == 0, 0.2, shared / np.maximum(num_nouns, 1))
    codes = np.where(same_query | same_category | (title_score > 0.2), 3, 2)
    return np.where(title_score == 0, 0, np.where(title_score < 0.1, 1, codes))


def _nouns(noun_fn: NounFn, title: str) -> Collection[str]:
    nouns = noun_fn(title)
    if isinstance(nouns, str) or not isinstance(nouns, Collection) or not all(isinstance(noun, str) for noun in nouns):
        raise TypeError(f"noun_fn({title!r}) returned {nouns!r}; it must return a list of nouns, each a str")
    return nouns


def _incidence(sets: Sequence[set[str]]) -> np.ndarray:
    """float32[N, M]: 1 where a set holds an element; products of such matrices count shared elements exactly."""
    columns = {element: i for i, element in enumerate(sorted(set().union(*sets)))}
    incidence = np.zeros((len(sets), len(columns)), np.float32)
    for i, elements in enumerate(sets):
        incidence[i, [columns[element] for element in elements]] = 1
    return incidence


def compact(values: Any) -> jax.Array:
    """The same non-negative integers in the smallest unsigned type."""
    values = np.asarray(values)
    return jnp.asarray(values.astype(np.min_scalar_type(int(values.max(initial=0)))))
