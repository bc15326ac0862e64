"""The open nodes of all levels together: a stack for each priority, in pages taken from one pool.

A bucket is a chain of pages of which all but the first (its head) are full. An empty bucket has the head NO_PAGE,
which counts as full, so that the first node takes a page like any node that finds the head full.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_agents.search.best_first.lanes import class_ranks, compact
from jaxrl_agents.search.best_first.types import Config, Nodes, Pages

NO_PAGE = np.int32(-1)
_WINDOW = 64  # buckets that one pass of `push` serves


def empty_pages(config: Config) -> Pages:
    """No nodes; buckets are padded by a window so that a slice of one never moves."""
    buckets = config.num_buckets + _WINDOW
    return Pages(
        head=jnp.full(buckets, NO_PAGE),
        fill=jnp.full(buckets, config.num_children, jnp.int32),
        previous=jnp.full(config.num_pages, NO_PAGE),
        free=jnp.arange(config.num_pages, dtype=jnp.int32),
        num_free=jnp.int32(config.num_pages),
        overflow=jnp.bool_(False),
    )


def empty_pool(config: Config) -> Nodes:
    """Room for all pages, and for a slice that begins at the last node."""
    words = lambda: jnp.zeros(config.num_pages * config.num_children + config.num_lanes, jnp.uint32)
    return Nodes(tuple(words() for _ in range(config.layout.num_words)), words(), words(), words())


def push(
    config: Config, pool: Nodes, pages: Pages, nodes: Nodes, buckets: jax.Array, valid: jax.Array
) -> tuple[Nodes, Pages]:
    """Puts the valid `nodes` (at most a page of them) on top of their buckets; int32[n], bool[n]."""
    lost = valid & (buckets >= config.num_buckets)
    pages = dataclasses.replace(pages, overflow=pages.overflow | jnp.any(lost))
    buckets = jnp.where(valid & ~lost, buckets, config.num_buckets)

    def serve_window(carry: tuple[Nodes, Pages, jax.Array]) -> tuple[Nodes, Pages, jax.Array]:
        pool, pages, first = carry
        slots, pages = _claim(config, pages, buckets, first)
        write = lambda to, words: to.at[slots].set(words, mode="drop")
        later = jnp.where(buckets >= first + _WINDOW, buckets, config.num_buckets)
        return jax.tree.map(write, pool, nodes), pages, jnp.min(later)

    waiting = lambda carry: carry[2] < config.num_buckets
    pool, pages, _ = jax.lax.while_loop(waiting, serve_window, (pool, pages, jnp.min(buckets)))
    return pool, pages


def _claim(config: Config, pages: Pages, buckets: jax.Array, first: jax.Array) -> tuple[jax.Array, Pages]:
    """Slots of the pool for the nodes of buckets `first` … `first + _WINDOW − 1`; beyond the pool for others."""
    size = config.num_children
    ranks, counts = class_ranks(jnp.where(buckets < config.num_buckets, buckets - first, -1), _WINDOW)
    head = jax.lax.dynamic_slice(pages.head, (first,), (_WINDOW,))
    fill = jax.lax.dynamic_slice(pages.fill, (first,), (_WINDOW,))
    needs_page = fill + counts > size
    order = jnp.cumsum(needs_page)
    page = pages.free[jnp.maximum(pages.num_free - order, 0)]

    bucket = jnp.clip(buckets - first, 0, _WINDOW - 1)
    position = fill[bucket] + ranks
    slots = jnp.where(position < size, head[bucket] * size + position, (page[bucket] - 1) * size + position)
    served = (buckets >= first) & (buckets < first + _WINDOW) & (buckets < config.num_buckets)
    out_of_pages = order[-1] > pages.num_free
    slots = jnp.where(served & ~out_of_pages, slots, config.num_pages * size + config.num_lanes)

    previous = pages.previous.at[jnp.where(needs_page, page, config.num_pages)].set(head, mode="drop")
    fill = fill + counts - jnp.where(needs_page, size, 0)
    head = jnp.where(needs_page, page, head)
    return slots, Pages(
        head=jax.lax.dynamic_update_slice(pages.head, head, (first,)),
        fill=jax.lax.dynamic_update_slice(pages.fill, jnp.where(head == NO_PAGE, size, fill), (first,)),
        previous=previous,
        free=pages.free,
        num_free=jnp.maximum(pages.num_free - order[-1], 0),
        overflow=pages.overflow | out_of_pages,
    )


def pop(config: Config, pool: Nodes, pages: Pages, is_open: jax.Array) -> tuple[Nodes, jax.Array, Pages]:
    """Takes nodes from the best buckets: from the best one only in the optimal mode, else from several.

    Args:
      config: the program's shape.
      pool: all nodes.
      pages: where they are.
      is_open: bool[L]; nodes of other levels are dropped.

    Returns:
      (nodes [num_lanes], how many of them int32[], pages).
    """
    lanes = config.num_lanes
    best_bucket = lambda pages: jnp.argmax(pages.head != NO_PAGE)

    def wanted(carry: tuple[Nodes, jax.Array, Pages, jax.Array]) -> jax.Array:
        _, count, pages, bucket = carry
        more = (count == 0) | (count < lanes - lanes // 4) & _may_mix(config, bucket, best_bucket(pages))
        return more & jnp.any(pages.head != NO_PAGE)

    def take_slice(carry: tuple[Nodes, jax.Array, Pages, jax.Array]) -> tuple[Nodes, jax.Array, Pages, jax.Array]:
        nodes, count, pages, _ = carry
        bucket = best_bucket(pages)
        number = jnp.minimum(pages.fill[bucket], lanes - count)
        start = pages.head[bucket] * config.num_children + pages.fill[bucket] - number
        taken = jax.tree.map(lambda words: jax.lax.dynamic_slice(words, (start,), (lanes,)), pool)
        alive = (jnp.arange(lanes) < number) & is_open[jnp.minimum(taken.level, is_open.shape[0] - 1)]
        chosen, kept = compact(alive)
        slots = jnp.where(jnp.arange(lanes) < kept, jnp.arange(lanes) + count, lanes)
        put = lambda to, words: to.at[slots].set(words[chosen], mode="drop")
        return jax.tree.map(put, nodes, taken), count + kept, _shrink(config, pages, bucket, number), bucket

    words = lambda: jnp.zeros(lanes, jnp.uint32)
    nodes = Nodes(tuple(words() for _ in range(config.layout.num_words)), words(), words(), words())
    start = (nodes, jnp.int32(0), pages, best_bucket(pages))
    nodes, count, pages, _ = jax.lax.while_loop(wanted, take_slice, start)
    return nodes, count, pages


def _may_mix(config: Config, bucket: jax.Array, best: jax.Array) -> jax.Array | bool:
    """Whether nodes of two buckets may be expanded together: A* must finish the better one first."""
    return bucket == best if config.mode == "optimal" else True


def _shrink(config: Config, pages: Pages, bucket: jax.Array, number: jax.Array) -> Pages:
    """The pages after `number` nodes of a bucket's head were taken; an empty head is freed."""
    head, fill = pages.head[bucket], pages.fill[bucket] - number
    emptied = fill == 0
    slot = jnp.where(emptied, pages.num_free, config.num_pages)
    return dataclasses.replace(
        pages,
        head=pages.head.at[bucket].set(jnp.where(emptied, pages.previous[head], head)),
        fill=pages.fill.at[bucket].set(jnp.where(emptied, config.num_children, fill)),
        free=pages.free.at[slot].set(head, mode="drop"),
        num_free=pages.num_free + emptied,
    )
