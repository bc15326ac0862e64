"""WebShop's pages and links as a pure function: index → results → item → sub-pages → done.

Source: princeton-nlp/WebShop, `web_agent_site/envs/web_agent_text_env.py` and the page templates.
"""

from __future__ import annotations

import dataclasses
import enum

import jax
import jax.numpy as jnp
import numpy as np

from envs_jax.pytree import pytree_dataclass
from envs_jax.web.ranking import RESULTS_PER_QUERY


class Page(enum.IntEnum):
    """The kinds of page; the sub-pages of an item lie between ITEM and DONE."""

    INDEX = 0
    RESULTS = 1
    ITEM = 2
    DESCRIPTION = 3
    FEATURES = 4
    REVIEWS = 5
    ATTRIBUTES = 6
    DONE = 7


QUERY, INSTRUCTION = 0, 1  # the first two search templates; the others are "attribute query"
SUB_PAGES = (Page.DESCRIPTION, Page.FEATURES, Page.REVIEWS, Page.ATTRIBUTES)


@dataclasses.dataclass(frozen=True)
class Actions:
    """The fixed numbering of the actions.

    In order: the search templates, next, prev, back, the products of a results page, the option values (group by
    group), the sub-pages, buy.
    """

    num_searches: int  # search templates a task has at most
    page_size: int  # products on a results page
    group_sizes: tuple[int, ...]  # the most values that any product has in its first, second, … option group
    num_sub_pages: int  # 3, or 4 with the attributes page

    @property
    def next(self) -> int:
        return self.num_searches

    @property
    def prev(self) -> int:
        return self.num_searches + 1

    @property
    def back(self) -> int:
        return self.num_searches + 2

    @property
    def products(self) -> int:
        return self.num_searches + 3

    @property
    def options(self) -> int:
        return self.products + self.page_size

    @property
    def num_options(self) -> int:
        return sum(self.group_sizes)

    @property
    def group_starts(self) -> tuple[int, ...]:
        """For each group, how many option actions come before its own."""
        return tuple(int(start) for start in np.cumsum((0, *self.group_sizes))[:-1])

    @property
    def sub_pages(self) -> int:
        return self.options + self.num_options

    @property
    def buy(self) -> int:
        return self.sub_pages + self.num_sub_pages

    @property
    def total(self) -> int:
        return self.buy + 1

    @property
    def names(self) -> tuple[str, ...]:
        """A short name for each action, the same on every page."""
        options = [f"option {g}.{v}" for g, size in enumerate(self.group_sizes) for v in range(size)]
        return (
            *(f"search {i}" for i in range(self.num_searches)),
            *("next", "prev", "back"),
            *(f"product {i}" for i in range(self.page_size)),
            *options,
            *(page.name.lower() for page in SUB_PAGES[: self.num_sub_pages]),
            "buy",
        )

    def __post_init__(self) -> None:
        if self.num_searches > 255:
            raise ValueError(
                f"a goal has {self.num_searches} searches, one for each attribute; at most 255 are possible"
            )


@pytree_dataclass
class Session:
    """Where the customer is. Fields that mean nothing on a page are 0 there."""

    page: jax.Array  # uint8[]: a Page
    search: jax.Array  # uint8[]: the search template whose results are open
    number: jax.Array  # uint16[]: of the results page, from 1; unbounded, as WebShop's
    product: jax.Array  # uint8, uint16 or uint32[]: the open product
    options: jax.Array  # uint8 or uint16[G]: per group of the open product 1 + the chosen value, 0 for none
    steps: jax.Array  # uint16[]: steps taken


@pytree_dataclass
class Links:
    """What the pages link to: tables over Q distinct queries and P products."""

    results: jax.Array  # uint8, uint16 or uint32[Q, 50]: the products that a query finds, best first; then 0
    num_results: jax.Array  # uint8[Q]
    offered: jax.Array  # uint32[P, ⌈options / 32⌉]: bit i: option action i can be clicked on the product's page


def first_session(actions: Actions, links: Links) -> Session:
    """The search page."""
    return Session(
        page=jnp.uint8(Page.INDEX),
        search=jnp.uint8(0),
        number=jnp.uint16(0),
        product=jnp.zeros((), links.results.dtype),
        options=jnp.zeros(len(actions.group_sizes), np.min_scalar_type(max((0, *actions.group_sizes)))),
        steps=jnp.uint16(0),
    )


def advance(actions: Actions, links: Links, session: Session, action: jax.Array, queries: jax.Array) -> Session:
    """The session after a click or a search; the same where the page does not offer it. Does not count the step.

    Args:
      actions: the numbering of the actions.
      links: what the pages link to.
      session: the session now.
      action: integer scalar.
      queries: int32[K]: the task's queries, rows of `links.results`; −1 where it has no such template.
    """
    action = action.astype(jnp.int32)
    page = session.page
    on_index, on_results, on_item = page == Page.INDEX, page == Page.RESULTS, page == Page.ITEM
    on_sub = (page > Page.ITEM) & (page < Page.DONE)

    query = queries[jnp.clip(action, 0, actions.num_searches - 1)]
    searches = on_index & (action >= 0) & (action < actions.num_searches) & (query >= 0)
    turns = on_results & ((action == actions.next) | ((action == actions.prev) & (session.number > 1)))
    opens, product = _product_link(actions, links, session, action - actions.products, queries)
    opens &= on_results
    leaves_item = on_item & (action == actions.prev)
    leaves_sub = on_sub & (action == actions.prev)
    goes_back = (on_results | on_item | on_sub) & (action == actions.back)
    looks = on_item & (action >= actions.sub_pages) & (action < actions.buy)
    buys = on_item & (action == actions.buy)

    to_results = searches | leaves_item
    new_page = jnp.where(to_results, jnp.uint8(Page.RESULTS), page)
    new_page = jnp.where(opens | leaves_sub, jnp.uint8(Page.ITEM), new_page)
    new_page = jnp.where(looks, (action - actions.sub_pages + Page.DESCRIPTION).astype(jnp.uint8), new_page)
    new_page = jnp.where(buys, jnp.uint8(Page.DONE), new_page)
    new_page = jnp.where(goes_back, jnp.uint8(Page.INDEX), new_page)

    number = session.number.astype(jnp.int32) + jnp.where(turns, jnp.where(action == actions.next, 1, -1), 0)
    number = jnp.where(goes_back, 0, jnp.where(searches, 1, number))
    search = jnp.where(goes_back, 0, jnp.where(searches, action, session.search.astype(jnp.int32)))
    closes = leaves_item | goes_back
    kept = jnp.where(closes, jnp.zeros_like(session.product), session.product)
    options = _choose(actions, links, session, on_item, action - actions.options)
    return dataclasses.replace(
        session,
        page=new_page,
        search=search.astype(jnp.uint8),
        number=number.astype(jnp.uint16),
        product=jnp.where(opens, product, kept),
        options=jnp.where(closes, jnp.zeros_like(options), options),
    )


def mask(actions: Actions, links: Links, session: Session, queries: jax.Array) -> jax.Array:
    """bool[A]: the actions that change the session; none when it is done.

    These are the links of the page, except that an option value that is chosen already is not marked.
    """
    page = session.page
    on_results, on_item = page == Page.RESULTS, page == Page.ITEM
    below_results = (page >= Page.ITEM) & (page < Page.DONE)
    turning = [on_results, below_results | (on_results & (session.number > 1)), on_results | below_results]
    rank = _first_rank(actions, session) + jnp.arange(actions.page_size)
    products = on_results & (rank < links.num_results[_row(session, queries)])
    sub_pages = jnp.broadcast_to(on_item, (actions.num_sub_pages + 1,))  # and buy
    parts = [
        (page == Page.INDEX) & (queries >= 0),
        jnp.stack(turning),
        products,
        on_item & _offered(actions, links, session) & ~chosen(actions, session),
        sub_pages,
    ]
    return jnp.concatenate(parts)


def chosen(actions: Actions, session: Session) -> jax.Array:
    """bool[options]: the option actions whose values are chosen."""
    groups = [jnp.arange(size) + 1 == session.options[g] for g, size in enumerate(actions.group_sizes)]
    return jnp.concatenate([*groups, jnp.zeros(0, bool)])


def shown_products(actions: Actions, links: Links, session: Session, queries: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(products [W], bool[W]: there is one) of the open results page."""
    row = _row(session, queries)
    rank = _first_rank(actions, session) + jnp.arange(actions.page_size)
    there = rank < links.num_results[row]
    return links.results[row, jnp.minimum(rank, RESULTS_PER_QUERY - 1)], there


def packed(session: Session) -> jax.Array:
    """uint32[2 + ⌈G / 4⌉] (⌈G / 2⌉ where options are uint16): the session without its clock."""
    place = session.page.astype(jnp.uint32) | session.search.astype(jnp.uint32) << 8
    words = [place | session.number.astype(jnp.uint32) << 16, session.product.astype(jnp.uint32)]
    bits = 8 * session.options.dtype.itemsize
    for start in range(0, session.options.shape[0], 32 // bits):
        digits = session.options[start : start + 32 // bits].astype(jnp.uint32)
        shifts = np.arange(digits.shape[0], dtype=np.uint32) * np.uint32(bits)
        words.append(jnp.sum(digits << shifts, dtype=jnp.uint32))
    return jnp.stack(words)


def _row(session: Session, queries: jax.Array) -> jax.Array:
    """The row of `links.results` that is open; any row where none is."""
    return jnp.maximum(queries[session.search], 0)


def _first_rank(actions: Actions, session: Session) -> jax.Array:
    return (jnp.maximum(session.number.astype(jnp.int32), 1) - 1) * actions.page_size


def _product_link(
    actions: Actions, links: Links, session: Session, slot: jax.Array, queries: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """(whether a results page shows a product in the slot, which)."""
    row = _row(session, queries)
    rank = _first_rank(actions, session) + slot
    there = (slot >= 0) & (slot < actions.page_size) & (rank < links.num_results[row])
    return there, links.results[row, jnp.clip(rank, 0, RESULTS_PER_QUERY - 1)]


def _choose(actions: Actions, links: Links, session: Session, on_item: jax.Array, option: jax.Array) -> jax.Array:
    """The chosen options after a click on an option value (any integer: not one, no effect)."""
    if not actions.group_sizes:
        return session.options
    inside = jnp.clip(option, 0, actions.num_options - 1)
    word = links.offered[session.product, inside >> 5]
    clicked = on_item & (inside == option) & ((word >> (inside & 31).astype(jnp.uint32)) & 1 == 1)
    starts = np.array(actions.group_starts, np.int32)
    value = inside - starts  # [G]; the value's own group is the one where this is a valid value
    here = (value >= 0) & (value < np.array(actions.group_sizes, np.int32))
    return jnp.where(clicked & here, (value + 1).astype(session.options.dtype), session.options)


def _offered(actions: Actions, links: Links, session: Session) -> jax.Array:
    """bool[options]: the option actions that the open product's page offers."""
    words = jnp.repeat(links.offered[session.product], 32)[: actions.num_options]
    return (words >> (np.arange(actions.num_options, dtype=np.uint32) & np.uint32(31))) & 1 == 1
