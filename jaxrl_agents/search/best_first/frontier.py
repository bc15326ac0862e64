"""The open nodes: for each level a stack for each class of priority, in pages taken from one pool.

A stack is a chain of pages of which all but the first (its head) are full. Every round each level gives some of the
nodes of its best class, so that thousands of searches advance side by side and each expands in its own order.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from envs_jax.barriers import once
from jaxrl_agents.search.best_first.lanes import compact, prefix_sum
from jaxrl_agents.search.best_first.types import Config, Nodes, Pages

PAGE_BITS = 6
PAGE = 1 << PAGE_BITS  # nodes of a page
_WINDOW = 4  # keys that one pass of `_ranks` counts: two in each of two sums
_DIGIT_BITS = 12  # of a count; fewer than 4,096 nodes are pushed at once


def begin(config: Config, roots: Nodes, classes: jax.Array) -> tuple[Nodes, Pages]:
    """A frontier with one node for each of the L levels, alone on a page, which a closed level just keeps."""
    levels = jnp.arange(config.num_levels, dtype=jnp.int32)
    stacks = jnp.zeros(config.num_levels * config.num_classes, jnp.int32)
    own = levels * config.num_classes + classes
    pages = Pages(
        head=stacks.at[own].set(levels),
        size=stacks.at[own].set(1),
        best=classes,
        below=jnp.zeros(config.num_pages, jnp.int32),
        free=jnp.arange(config.num_pages, dtype=jnp.int32) + config.num_levels,
        num_free=jnp.int32(config.num_pages - config.num_levels),
        overflow=jnp.bool_(False),
        classless=jnp.bool_(False),
        scratch=stacks,
    )
    room = lambda words: jnp.zeros((config.num_pages * PAGE, *words.shape[1:]), jnp.uint32)
    return jax.tree.map(lambda words: room(words).at[levels * PAGE].set(words), roots), pages


@jax.named_scope("push")
def push(
    config: Config, pool: Nodes, pages: Pages, nodes: Nodes, classes: jax.Array, valid: jax.Array
) -> tuple[Nodes, Pages]:
    """Puts nodes on top of their stacks.

    Args:
      config: the program's shape.
      pool: all nodes.
      pages: where they are.
      nodes: n < 4,096 new nodes; those of one level are neighbours.
      classes: int32[n]; nodes of a class that does not exist are lost, and `pages.classless` says so.
      valid: bool[n]: which lanes hold a node.
    """
    level, lost = nodes.level, valid & (classes >= config.num_classes)
    valid &= ~lost
    stack = jnp.where(valid, level * config.num_classes + classes, pages.size.shape[0])
    rank = _ranks(config, pages, level, stack)
    size, head = once(pages.num_free, lambda: (pages.size[stack], pages.head[stack]))
    # The new size, rather than an increment, makes sure that this comes after the reading.
    sizes = pages.size.at[stack].max(size + rank + 1, mode="drop")

    # The first of the new nodes of a stack takes all pages that they need and tells the others which these are.
    top = (size - 1) >> PAGE_BITS
    is_first = valid & (rank == 0)
    needed = jnp.where(is_first, ((sizes[stack] - 1) >> PAGE_BITS) - top, 0)
    taken = prefix_sum(needed)
    first_stack = jnp.where(is_first, stack, sizes.shape[0])
    start = pages.scratch.at[first_stack].set(taken - needed, mode="drop")
    position = size + rank
    order = start[stack] + (position >> PAGE_BITS) - top - 1
    page = jnp.where(position >> PAGE_BITS == top, head, _unused(pages, order))
    beneath = jnp.where((position >> PAGE_BITS) - 1 == top, head, _unused(pages, order - 1))
    begins = valid & (position & (PAGE - 1) == 0)

    overflow = pages.overflow | (taken[-1] > pages.num_free)
    slot = jnp.where(valid & ~overflow, page * PAGE + (position & (PAGE - 1)), config.num_pages * PAGE)
    pool = jax.tree.map(lambda to, words: to.at[slot].set(words, mode="drop"), pool, nodes)
    grows = jnp.where(needed > 0, stack, sizes.shape[0])
    return pool, dataclasses.replace(
        pages,
        head=pages.head.at[grows].set(_unused(pages, taken - 1), mode="drop"),
        size=sizes,
        best=pages.best.at[jnp.where(valid, level, config.num_levels)].min(classes, mode="drop"),
        below=pages.below.at[jnp.where(begins, page, config.num_pages)].set(beneath, mode="drop"),
        num_free=jnp.maximum(pages.num_free - taken[-1], 0),
        overflow=overflow,
        classless=pages.classless | jnp.any(lost),
        scratch=start,
    )


def _ranks(config: Config, pages: Pages, level: jax.Array, stack: jax.Array) -> jax.Array:
    """For each lane how many earlier lanes go to its stack.

    The lanes of a level are neighbours, and among them the classes are counted, _WINDOW of them at a time.
    """
    end = config.num_classes
    valid = stack < pages.size.shape[0]
    key = jnp.where(valid, stack - level * end - pages.best[level], end)
    lanes = jnp.arange(level.shape[0], dtype=jnp.int32)
    first_lanes = jnp.full(config.num_levels, lanes.shape[0] - 1, jnp.int32)
    begin = first_lanes.at[jnp.where(valid, level, config.num_levels)].min(lanes, mode="drop")[level]

    def count_window(carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        rank, lowest = carry
        place = key - lowest
        here = (place >= 0) & (place < _WINDOW) & (key < end)
        shift = (place & 1) * _DIGIT_BITS
        digit = jnp.where(here, 1 << shift, 0)
        high = place >> 1 == 1
        counted = jnp.zeros_like(rank)
        for half in (~high, high):
            mine = jnp.where(half, digit, 0)
            before = prefix_sum(mine) - mine
            counted = jnp.where(half, before - before[begin], counted)
        counted = (counted >> shift) & ((1 << _DIGIT_BITS) - 1)
        later = jnp.min(jnp.where(place >= _WINDOW, key, end))
        return jnp.where(here, counted, rank), later

    zeros = jnp.zeros_like(stack)
    return jax.lax.while_loop(lambda carry: carry[1] < end, count_window, (zeros, jnp.min(key)))[0]


def _unused(pages: Pages, order: jax.Array) -> jax.Array:
    """The `order`-th free page."""
    return pages.free[jnp.clip(pages.num_free - 1 - order, 0, pages.free.shape[0] - 1)]


@jax.named_scope("pop")
def pop(config: Config, pool: Nodes, pages: Pages, is_open: jax.Array) -> tuple[Nodes, jax.Array, Pages, jax.Array]:
    """Takes nodes of the best class of each open level, about as many of each; levels are served in order.

    Args:
      config: the program's shape.
      pool: all nodes.
      pages: where they are.
      is_open: bool[L].

    Returns:
      (nodes [num_lanes], how many of them int32[], pages, exhausted bool[L]: open levels without any node).
    """
    lanes, levels = config.num_lanes, jnp.arange(config.num_levels, dtype=jnp.int32)
    best, size = _best_classes(config, pages, is_open)
    stack = levels * config.num_classes + best
    ready = is_open & (size > 0)
    quota = jnp.maximum(lanes // jnp.maximum(jnp.sum(ready, dtype=jnp.int32), 1), 1)
    ends = jnp.minimum(prefix_sum(jnp.where(ready, jnp.minimum(size, quota), 0)), lanes)
    begins = jnp.concatenate([jnp.zeros(1, jnp.int32), ends[:-1]])
    left = size - (ends - begins)

    lane = jnp.arange(lanes, dtype=jnp.int32)
    owner = prefix_sum(jnp.zeros(lanes, jnp.int32).at[begins].add(1, mode="drop")) - 1
    taken = lane < ends[-1]
    position = left[owner] + lane - begins[owner]
    down = jnp.where(taken, ((size[owner] - 1) >> PAGE_BITS) - (position >> PAGE_BITS), 0)
    page = _descend(pages, pages.head[stack[owner]], down)
    slot = jnp.where(taken, page * PAGE + (position & (PAGE - 1)), 0)
    nodes = jax.tree.map(lambda words: words[slot], pool)

    emptied = taken & (position & (PAGE - 1) == 0)
    freed, num_freed = compact(emptied)
    at = jnp.where(lane < num_freed, pages.num_free + lane, config.num_pages)
    lowest = taken & (lane == begins[owner])
    pages = dataclasses.replace(
        pages,
        head=pages.head.at[jnp.where(lowest, stack[owner], pages.head.shape[0])].set(
            jnp.where(emptied, pages.below[page], page), mode="drop"
        ),
        size=pages.size.at[stack].set(left),
        best=best,
        free=pages.free.at[at].set(page[freed], mode="drop"),
        num_free=pages.num_free + num_freed,
    )
    return nodes, ends[-1], pages, is_open & (size == 0)


def _descend(pages: Pages, page: jax.Array, steps: jax.Array) -> jax.Array:
    """int32[n]: the pages that lie some steps below others."""

    def step(carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        page, steps = carry
        return jnp.where(steps > 0, pages.below[page], page), steps - 1

    return jax.lax.while_loop(lambda carry: jnp.any(carry[1] > 0), step, (page, steps))[0]


def _best_classes(config: Config, pages: Pages, is_open: jax.Array) -> tuple[jax.Array, jax.Array]:
    """int32[L] each: the first class of each open level that holds a node, the last one where none does; its nodes."""
    first = jnp.arange(config.num_levels, dtype=jnp.int32) * config.num_classes
    is_empty = lambda best, size: is_open & (size == 0) & (best < config.num_classes - 1)

    def step(carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        best = carry[0] + is_empty(*carry)
        return best, pages.size[first + best]

    return jax.lax.while_loop(
        lambda carry: jnp.any(is_empty(*carry)), step, (pages.best, pages.size[first + pages.best])
    )
