"""A shop on the host: products with their prices, goals, and the searches that each goal offers."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import random
from collections.abc import Sequence

from envs_jax.web.catalogue import Product
from envs_jax.web.goals import Goal, GoalKind, draw_prices, make_goals
from envs_jax.web.pages import fixed_words, words


@dataclasses.dataclass(frozen=True, eq=False)
class Shop:
    """Everything that is text, for making tables, rendering and parsing; two shops are equal if their checksums are."""

    products: tuple[Product, ...]
    prices: tuple[float, ...]  # dollars
    goals: tuple[Goal, ...]
    searches: tuple[tuple[str, ...], ...]  # for each goal: its query, its instruction, then attribute + query
    checksum: str  # of all the above

    @functools.cached_property
    def vocabulary(self) -> tuple[str, ...]:
        """All words that any page can show, sorted; "" first. A word's id is its index."""
        texts = {goal.instruction for goal in self.goals} | {text for searches in self.searches for text in searches}
        for product in self.products:
            texts |= {product.title, product.description, product.price_tag, *product.bullets, *product.attributes}
            texts |= {product.category, product.query, product.product_category, *product.options}
            texts |= {value for values in product.options.values() for value in values}
        return ("", *sorted(fixed_words().union(*map(words, texts))))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Shop) and self.checksum == other.checksum

    def __hash__(self) -> int:
        return hash(self.checksum)


def open_shop(products: Sequence[Product], kind: GoalKind, seed: int, num_distractors: int) -> Shop:
    """Draws prices, goals and search templates for `products`."""
    rng = random.Random(seed)
    prices = draw_prices(products, rng)
    goals = make_goals(products, prices, kind, rng)
    searches = _search_texts(products, goals, num_distractors, rng)
    content = json.dumps([[dataclasses.asdict(product) for product in products], prices, goals, searches])
    checksum = hashlib.sha256(content.encode()).hexdigest()[:16]
    return Shop(tuple(products), tuple(prices), tuple(goals), searches, checksum)


def _search_texts(
    products: Sequence[Product], goals: Sequence[Goal], num_distractors: int, rng: random.Random
) -> tuple[tuple[str, ...], ...]:
    """For each goal: its query, its whole instruction, then "attribute query" for attributes in random order.

    The attributes are the goal's and `num_distractors` that it does not have. Goals for the same product and attributes
    share their distractors and order.
    """
    everything = sorted({attribute for goal in goals for attribute in goal.attributes})
    mixed: dict[tuple[int, tuple[str, ...]], list[str]] = {}
    for goal in goals:
        source = goal.product, goal.attributes
        if source not in mixed:
            wrong = [attribute for attribute in everything if attribute not in goal.attributes]
            mixed[source] = [*goal.attributes, *rng.sample(wrong, min(num_distractors, len(wrong)))]
            rng.shuffle(mixed[source])
    texts = []
    for goal in goals:
        query = products[goal.product].query
        attributes = [f"{attribute} {query}" for attribute in mixed[goal.product, goal.attributes]]
        texts.append((query, goal.instruction.lower(), *attributes))
    return tuple(texts)
