"""The open nodes: for each level a stack for each class of priority, in pages taken from one pool.

A stack is a chain of pages of which all but the first (its head) are full. Every round each level gives some of the
nodes of its best class, so that thousands of searches advance side by side and each expands in its own order.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_agents.search.best_first.lanes import compact, prefix_sum
from jaxrl_agents.search.best_first.types import Config, Nodes, Pages

PAGE_BITS = 6
PAGE = 1 << PAGE_BITS  # nodes of a page
_WINDOW = 4  # classes that one pass of `push` serves
_DIGIT = 1 << 12  # two counts are summed in one word; more than there are children at once


def empty_pages(config: Config) -> Pages:
    """No nodes."""
    stacks = config.num_levels * config.num_classes
    return Pages(
        head=jnp.zeros(stacks, jnp.int32),
        size=jnp.zeros(stacks, jnp.int32),
        best=jnp.zeros(config.num_levels, jnp.int32),
        below=jnp.zeros(config.num_pages, jnp.int32),
        free=jnp.arange(config.num_pages, dtype=jnp.int32),
        num_free=jnp.int32(config.num_pages),
        overflow=jnp.bool_(False),
    )


def empty_pool(config: Config) -> Nodes:
    """Room for all pages."""
    words = lambda: jnp.zeros(config.num_pages * PAGE, jnp.uint32)
    return Nodes(tuple(words() for _ in range(config.layout.num_words)), words(), words(), words())


def push(
    config: Config, pool: Nodes, pages: Pages, nodes: Nodes, classes: jax.Array, valid: jax.Array
) -> tuple[Nodes, Pages]:
    """Puts nodes on top of their stacks.

    Args:
      config: the program's shape.
      pool: all nodes.
      pages: where they are.
      nodes: n < 4,096 new nodes; those of one level are neighbours.
      classes: int32[n]; a class that does not exist is an overflow.
      valid: bool[n]: which lanes hold a node.
    """
    level, lost = nodes.level, valid & (classes >= config.num_classes)
    valid &= ~lost
    stack = jnp.where(valid, level * config.num_classes + classes, pages.size.shape[0])
    size, head = pages.size[stack], pages.head[stack]
    first = level != jnp.concatenate([jnp.full(1, -1, jnp.int32), level[:-1]])
    far = jnp.int32(config.num_classes)
    distance = jnp.where(valid, classes - pages.best[level], far)

    def serve_window(carry: _Claims) -> _Claims:
        here = (distance >= carry.nearest) & (distance < carry.nearest + _WINDOW)
        place = jnp.where(here & valid, distance - carry.nearest, -1)
        sums = _counts(place)
        position = size + _pick(sums - _at_segment_start(sums, place, first), place) - 1
        begins = (place >= 0) & (position % PAGE == 0)
        sums = _counts(jnp.where(begins, place, -1))
        order = carry.used + _pick(sums + _lower_totals(sums), place) - 1
        page = jnp.where(position >> PAGE_BITS == (size - 1) >> PAGE_BITS, head, _unused(pages, order))
        beneath = jnp.where((position >> PAGE_BITS) - 1 == (size - 1) >> PAGE_BITS, head, _unused(pages, order - 1))
        below = carry.below.at[jnp.where(begins, page, config.num_pages)].set(beneath, mode="drop")
        keep = lambda new, old: jnp.where(place >= 0, new, old)
        later = jnp.min(jnp.where(distance >= carry.nearest + _WINDOW, distance, far))
        return _Claims(keep(position, carry.position), keep(page, carry.page), below, carry.used + _total(sums), later)

    zeros = jnp.zeros_like(stack)
    claims = _Claims(zeros, zeros, pages.below, jnp.int32(0), jnp.min(distance))
    claims = jax.lax.while_loop(lambda carry: carry.nearest < far, serve_window, claims)

    overflow = pages.overflow | jnp.any(lost) | (claims.used > pages.num_free)
    slot = jnp.where(valid & ~overflow, claims.page * PAGE + claims.position % PAGE, config.num_pages * PAGE)
    pool = jax.tree.map(lambda to, words: to.at[slot].set(words, mode="drop"), pool, nodes)
    sizes = pages.size.at[stack].add(1, mode="drop")
    is_top = (claims.position % PAGE == 0) & (claims.position >> PAGE_BITS == (sizes[stack] - 1) >> PAGE_BITS)
    return pool, dataclasses.replace(
        pages,
        head=pages.head.at[jnp.where(is_top, stack, sizes.shape[0])].set(claims.page, mode="drop"),
        size=sizes,
        best=pages.best.at[jnp.where(valid, level, config.num_levels)].min(classes, mode="drop"),
        below=claims.below,
        num_free=jnp.maximum(pages.num_free - claims.used, 0),
        overflow=overflow,
    )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Claims:
    """What `push` has found out after some windows of classes."""

    position: jax.Array  # int32[n]: of each node in its stack
    page: jax.Array  # int32[n]
    below: jax.Array  # int32[pages]
    used: jax.Array  # int32[]: new pages
    nearest: jax.Array  # int32[]: the first class of the next window


def _counts(place: jax.Array) -> jax.Array:
    """int32[2, n]: inclusive counts of the lanes of place 0 and 1 (as digits of a number), and of 2 and 3."""
    digit = jnp.where(place % 2 == 0, 1, _DIGIT)
    return jnp.stack([prefix_sum(jnp.where(place >> 1 == half, digit, 0)) for half in (0, 1)])


def _pick(sums: jax.Array, place: jax.Array) -> jax.Array:
    """int32[n]: each lane's own count out of `_counts`."""
    both = jnp.where(place >> 1 == 0, sums[0], sums[1])
    return jnp.where(place % 2 == 0, both % _DIGIT, both // _DIGIT)


def _at_segment_start(sums: jax.Array, place: jax.Array, first: jax.Array) -> jax.Array:
    """int32[2, n]: the counts before the first lane of each lane's segment."""
    digit = jnp.where(place % 2 == 0, 1, _DIGIT)
    own = jnp.stack([jnp.where(place >> 1 == half, digit, 0) for half in (0, 1)])
    return jax.lax.cummax(jnp.where(first, sums - own, 0), axis=1)


def _lower_totals(sums: jax.Array) -> jax.Array:
    """int32[2, 1]: how many lanes are of lower places, as digits like `_counts`."""
    zero, one = sums[0, -1] % _DIGIT, sums[0, -1] // _DIGIT
    two = sums[1, -1] % _DIGIT
    return jnp.stack([zero * _DIGIT, zero + one + (zero + one + two) * _DIGIT])[:, None]


def _total(sums: jax.Array) -> jax.Array:
    return jnp.sum(sums[:, -1] % _DIGIT + sums[:, -1] // _DIGIT)


def _unused(pages: Pages, order: jax.Array) -> jax.Array:
    """The `order`-th free page."""
    return pages.free[jnp.clip(pages.num_free - 1 - order, 0, pages.free.shape[0] - 1)]


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
    pages = dataclasses.replace(pages, best=_best_classes(config, pages, is_open))
    stack = levels * config.num_classes + pages.best
    size, head = pages.size[stack], pages.head[stack]
    ready = is_open & (size > 0)
    quota = jnp.maximum(lanes // jnp.maximum(jnp.sum(ready, dtype=jnp.int32), 1), 1)
    on_page = jnp.where(ready, (size - 1) % PAGE + 1, 0)
    ends = prefix_sum(jnp.minimum(on_page, quota))
    begins = jnp.minimum(jnp.concatenate([jnp.zeros(1, jnp.int32), ends[:-1]]), lanes)
    number = jnp.minimum(ends, lanes) - begins

    owner = prefix_sum(jnp.zeros(lanes, jnp.int32).at[begins].add(1, mode="drop")) - 1
    count = jnp.minimum(ends[-1], lanes)
    base = head * PAGE + on_page - number - begins
    slot = jnp.where(jnp.arange(lanes) < count, base[owner] + jnp.arange(lanes), 0)
    nodes = jax.tree.map(lambda words: words[slot], pool)

    emptied = ready & (number == on_page)
    freed, num_freed = compact(emptied)
    at = jnp.where(levels < num_freed, pages.num_free + levels, config.num_pages)
    pages = dataclasses.replace(
        pages,
        head=pages.head.at[stack].set(jnp.where(emptied, pages.below[head], head)),
        size=pages.size.at[stack].set(size - number),
        free=pages.free.at[at].set(head[freed], mode="drop"),
        num_free=pages.num_free + num_freed,
    )
    return nodes, count, pages, is_open & (size == 0)


def _best_classes(config: Config, pages: Pages, is_open: jax.Array) -> jax.Array:
    """int32[L]: the first class of each open level that holds a node; the last one where none does."""
    first = jnp.arange(config.num_levels, dtype=jnp.int32) * config.num_classes

    def is_empty(best: jax.Array) -> jax.Array:
        return is_open & (pages.size[first + best] == 0) & (best < config.num_classes - 1)

    step = lambda best: best + is_empty(best)
    return jax.lax.while_loop(lambda best: jnp.any(is_empty(best)), step, pages.best)
