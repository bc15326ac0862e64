"""Observations as tokens: the words that a page shows, each with what it is and what a click on it does.

Words are the lower-case runs of letters and digits of a text. A row of tokens has four fields: the word's id, its
`Segment`, its slot (1 + the action that clicking the text takes, 0 where there is none), and its position in the text.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from envs_jax.pytree import pytree_dataclass
from envs_jax.web import pages
from envs_jax.web.pages import MAX_NUMBER, Element, Segment, words
from envs_jax.web.shop import Shop
from envs_jax.web.state_machine import SUB_PAGES, Actions, Links, Page, Session, shown_products

_TOTAL_AT = 7  # which token of a results page's head is the number of results


@pytree_dataclass
class Rows:
    """Token rows [R, length]."""

    word: jax.Array  # uint16 or uint32: index into the vocabulary; 0 is padding
    segment: jax.Array  # uint8: a Segment
    slot: jax.Array  # uint8 or uint16: 1 + action, or 0
    position: jax.Array  # uint16: from 0 in each text


@pytree_dataclass
class TokenTables:
    """The token rows of everything that pages are made of."""

    instructions: jax.Array  # uint16 or uint32[goals, I]: words
    bodies: Rows  # [S + P + P · sub-pages, N]: search pages of the S goal sources, item pages, sub-pages
    entries: Rows  # [P, E]: products as results pages list them; `slot` is 1 where the product's link is
    headers: Rows  # [100, H]: the head of results page 0 … 99, the number of results being 0
    numbers: jax.Array  # uint16 or uint32[100]: the words "0" … "99"


def observe(
    tables: TokenTables,
    actions: Actions,
    links: Links,
    session: Session,
    goal: jax.Array,
    source: jax.Array,
    queries: jax.Array,
) -> dict[str, jax.Array]:
    """The tokens of the open page: the instruction, then the page; each field [I + N]."""
    instruction = tables.instructions[goal]
    row = _body_row(tables, actions, links, session, source)
    body = jax.tree.map(lambda table: table[row], tables.bodies)
    body = _mark_chosen(body, actions, session)
    results = _results_body(tables, actions, links, session, queries)
    on_results, done = session.page == Page.RESULTS, session.page == Page.DONE
    choose = lambda a, b: jnp.where(done, jnp.zeros_like(a), jnp.where(on_results, b, a))
    body = jax.tree.map(choose, body, results)
    there = instruction > 0
    head = Rows(
        instruction,
        jnp.where(there, Segment.INSTRUCTION, 0).astype(body.segment.dtype),
        jnp.zeros(instruction.shape, body.slot.dtype),
        jnp.where(there, np.arange(instruction.shape[0]), 0).astype(body.position.dtype),
    )
    rows = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), head, body)
    return {"word": rows.word, "segment": rows.segment, "slot": rows.slot, "position": rows.position}


def build_tables(shop: Shop, actions: Actions, sources: np.ndarray) -> TokenTables:
    """The token tables of a shop.

    Args:
      shop: the texts.
      actions: the numbering of the actions.
      sources: int[goals]: the goal source of each goal, numbered in order of first appearance.
    """
    first_goals = np.unique(sources, return_index=True)[1]
    index_pages = [pages.index_page(shop.searches[goal]) for goal in first_goals]
    item_pages = [pages.item_page(actions, product) for product in shop.products]
    sub_pages = [
        pages.sub_page(actions, product, page)
        for product in shop.products
        for page in SUB_PAGES[: actions.num_sub_pages]
    ]
    entries = [pages.product_entry(product, 0) for product in shop.products]
    heads = [pages.results_page(actions, [], number, 0) for number in range(MAX_NUMBER + 1)]
    instructions = [[Element(goal.instruction, Segment.INSTRUCTION)] for goal in shop.goals]
    ids = {word: i for i, word in enumerate(shop.vocabulary)}

    table = lambda page_list, length=0: _table([_encode(page, ids) for page in page_list], actions, len(ids), length)
    entry_table, header_table = table(entries), table(heads)
    results_length = header_table.word.shape[1] + actions.page_size * entry_table.word.shape[1]
    length = max(results_length, *(len(_encode(page, ids)) for page in (*index_pages, *item_pages)))
    return TokenTables(
        instructions=table(instructions).word,
        bodies=table([*index_pages, *item_pages, *sub_pages], length),
        entries=entry_table,
        headers=header_table,
        numbers=jnp.asarray([ids[str(number)] for number in range(MAX_NUMBER + 1)], entry_table.word.dtype),
    )


def _encode(page: Sequence[Element], ids: dict[str, int]) -> np.ndarray:
    """int32[tokens, 4]: word, segment, slot, position."""
    rows = [
        (ids[word], element.segment, 0 if element.action is None else element.action + 1, position)
        for element in page
        for position, word in enumerate(words(element.text))
    ]
    return np.array(rows, np.int32).reshape(-1, 4)


def _table(rows: Sequence[np.ndarray], actions: Actions, num_words: int, length: int = 0) -> Rows:
    """Rows of equal length: `length`, or the longest row's; longer rows are cut, shorter ones padded with 0."""
    length = length or max(len(row) for row in rows)
    table = np.zeros((4, len(rows), length), np.int32)
    for i, row in enumerate(rows):
        table[:, i, : len(row)] = row[:length].T
    words, segments, slots, positions = table
    return Rows(
        word=jnp.asarray(words.astype(np.min_scalar_type(num_words))),
        segment=jnp.asarray(segments.astype(np.uint8)),
        slot=jnp.asarray(slots.astype(np.min_scalar_type(actions.total))),
        position=jnp.asarray(positions.astype(np.uint16)),
    )


def _body_row(tables: TokenTables, actions: Actions, links: Links, session: Session, source: jax.Array) -> jax.Array:
    product = session.product.astype(jnp.int32)
    sub = session.page.astype(jnp.int32) - Page.DESCRIPTION
    num_products = links.offered.shape[0]
    num_sources = tables.bodies.word.shape[0] - num_products * (1 + actions.num_sub_pages)
    item = num_sources + product
    below = num_sources + num_products + product * actions.num_sub_pages + sub
    row = jnp.where(session.page == Page.INDEX, source.astype(jnp.int32), item)
    return jnp.where((sub >= 0) & (session.page < Page.DONE), below, row)


def _mark_chosen(body: Rows, actions: Actions, session: Session) -> Rows:
    starts = np.array(actions.group_starts, np.int32)
    slots = jnp.where(session.options > 0, actions.options + starts + session.options.astype(jnp.int32), -1)
    picked = jnp.any(body.slot.astype(jnp.int32)[:, None] == slots, axis=1) & (body.segment == Segment.OPTION)
    segment = jnp.where(picked, jnp.asarray(Segment.CHOSEN_OPTION, body.segment.dtype), body.segment)
    return dataclasses.replace(body, segment=segment)


def _results_body(tables: TokenTables, actions: Actions, links: Links, session: Session, queries: jax.Array) -> Rows:
    """The tokens of a results page: the head, then one region of equal length for each product."""
    header = jax.tree.map(lambda table: table[jnp.minimum(session.number, MAX_NUMBER)], tables.headers)
    total = links.num_results[jnp.maximum(queries[session.search], 0)]
    header = dataclasses.replace(header, word=header.word.at[_TOTAL_AT].set(tables.numbers[total]))
    products, there = shown_products(actions, links, session, queries)
    # One product at a time: XLA copies a whole row, but goes word by word where several rows are gathered and joined.
    slots = range(actions.products + 1, actions.options + 1)
    entries = [_entry(tables, products[i], there[i], slot) for i, slot in enumerate(slots)]
    body = jax.tree.map(lambda *parts: jnp.concatenate(parts), header, *entries)
    missing = tables.bodies.word.shape[1] - body.word.shape[0]
    return jax.tree.map(lambda tokens: jnp.pad(tokens, (0, missing)), body)


def _entry(tables: TokenTables, product: jax.Array, shown: jax.Array, slot: int) -> Rows:
    """The tokens of one product on a results page; padding where it is not `shown`."""
    entry = jax.tree.map(lambda table: jnp.where(shown, table[product], 0), tables.entries)
    return dataclasses.replace(entry, slot=entry.slot * np.asarray(slot, entry.slot.dtype))
