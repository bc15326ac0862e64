"""Admissible and consistent bounds on the pushes that are left.

Up to MAX_MATCHED boxes: the least total push distance over all ways to give every target a box of its own, exact.
More boxes: the sum over the boxes of the push distance to the nearest target. Push distances are those of a lone box
on the empty board, so neither exceeds the truth; one push moves one box by one, so neither falls by more than one.

The distances of a cell are packed in words: 8 bits each on boards of fewer than 255 interior cells, else 16; the
largest value stands for infinity. Row `num_cells` belongs to a box that a level does not have: free for the targets
that it does not have either.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from envs_jax.sokoban import board as bb
from envs_jax.sokoban import pushes
from envs_jax.sokoban.board import Board, Layout
from jaxrl_agents.search.best_first.types import Config, Tables

MAX_MATCHED = 6
INFINITE = np.int32(1 << 16)  # any bound from here on means: no solution


def distance_bits(layout: Layout) -> int:
    """Bits of a packed distance."""
    return 8 if layout.num_cells < 255 else 16


def pack_distances(layout: Layout, walls: Board, targets: Board, num_slots: int) -> tuple[tuple[jax.Array, ...], Board]:
    """(packed distances of L levels, live cells): the part of `Tables` that the bounds read."""
    nearest = pushes.push_distances(layout, walls, targets)
    live = _pack_bits(layout, nearest != pushes.UNREACHABLE)
    if num_slots == 0:
        return (jnp.pad(nearest.astype(jnp.uint32), ((0, 0), (0, 1))).reshape(-1),), live
    bits = distance_bits(layout)
    infinity = (1 << bits) - 1
    per_word = 32 // bits
    words = [jnp.zeros((walls[0].shape[0], layout.num_cells + 1), jnp.uint32) for _ in range(-(-num_slots // per_word))]
    for slot, cell in enumerate(pushes.cells_of(layout, targets, num_slots)):
        there = cell < layout.num_cells
        distance = pushes.push_distances(layout, walls, bb.singleton(layout, cell)).astype(jnp.uint32)
        row = jnp.pad(jnp.minimum(distance, infinity), ((0, 0), (0, 1)), constant_values=infinity)
        row = jnp.where(there[:, None], row, 0) << (bits * (slot % per_word))
        words[slot // per_word] |= row
    return tuple(word.reshape(-1) for word in words), live


def _pack_bits(layout: Layout, cells: jax.Array) -> Board:
    """bool[L, num_cells] → uint32[L] words."""
    bits = jnp.pad(cells, ((0, 0), (0, layout.num_words * 32 - layout.num_cells)))
    weights = np.uint32(1) << np.arange(32, dtype=np.uint32)
    words = bits.reshape(-1, layout.num_words, 32) * weights
    return tuple(jnp.sum(words, axis=2, dtype=jnp.uint32).T)


def full_bound(config: Config, distances: tuple[jax.Array, ...], level: jax.Array, boxes: Board) -> jax.Array:
    """int32[n]: the matching bound; INFINITE or more where no assignment exists."""
    layout, slots = config.layout, config.num_slots
    bits = distance_bits(layout)
    per_word, infinity = 32 // bits, np.uint32((1 << bits) - 1)
    base = level * (layout.num_cells + 1)
    costs = []
    for cell in pushes.cells_of(layout, boxes, slots):
        words = [word[base + cell] for word in distances]
        row = [(words[j // per_word] >> (bits * (j % per_word))) & infinity for j in range(slots)]
        costs.append([jnp.where(cost == infinity, INFINITE, cost.astype(jnp.int32)) for cost in row])
    return pushes.assignment(costs)


def child_bound(
    config: Config, tables: Tables, level: jax.Array, boxes: Board, parent: jax.Array, box: jax.Array, target: jax.Array
) -> jax.Array:
    """int32[n]: the bound of states that a push of the box at `box` to `target` made from ones of bound `parent`."""
    if config.num_slots:
        return full_bound(config, tables.distances, level, boxes)
    (nearest,) = tables.distances
    base = level * (config.layout.num_cells + 1)
    return parent - nearest[base + box].astype(jnp.int32) + nearest[base + target].astype(jnp.int32)


def start_bound(config: Config, distances: tuple[jax.Array, ...], boxes: Board) -> jax.Array:
    """int32[L]: the bound of the starts."""
    level = jnp.arange(boxes[0].shape[0], dtype=jnp.int32)
    if config.num_slots:
        return full_bound(config, distances, level, boxes)
    rows = distances[0].reshape(level.shape[0], -1)[:, :-1].astype(jnp.int32)
    rows = jnp.where(rows == pushes.UNREACHABLE, INFINITE, rows)
    return jnp.sum(jnp.where(pushes.unpack_cells(config.layout, boxes), rows, 0), axis=1)
