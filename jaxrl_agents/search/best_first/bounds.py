"""Admissible and consistent bounds on the pushes that are left.

Up to MAX_MATCHED boxes: the least total push distance over all ways to give every target a box of its own, exact.
More boxes: the sum over the boxes of the push distance to the nearest target. A push distance is that of a lone box on
the empty board, with the player on the side where it is, so neither bound exceeds the truth. A push moves one box by
one and leaves the player on the same side of every other box, so neither falls by more than one.

Row (level, cell, side) of a table holds the distances to all targets, packed: 8 bits each on boards of at most 127
interior cells, else 16; the largest value stands for infinity. Cell `num_cells` belongs to the boxes that a level
lacks: they are free for the targets that it lacks too.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from envs_jax import bitboard as bb
from envs_jax.bitboard import OPPOSITE, Board, Cell
from envs_jax.sokoban import pushes
from envs_jax.sokoban.board import Layout
from jaxrl_agents.search.best_first.types import Config, Nodes, Tables

MAX_MATCHED = 6
_PREPARING = 128 << 20  # bytes for making tables, or what one level takes
MAX_CELLS = 32_000  # beyond, push distances might not fit 16 bits
INFINITE = np.int32(0xFFFF)  # there is no solution; what a node's cost has room for
TOO_LONG = np.int32(0xFFFE)  # this many pushes, or more than a node's cost has room for
_UNREACHABLE = 1 << 24  # a push distance that makes any sum infinite

Row = list[jax.Array]  # uint32[n] words: the distances of one box of each of n states


def distance_bits(layout: Layout) -> int:
    """Bits of a packed distance: a lone box meets each cell at most twice on a shortest way, on average."""
    return 8 if 2 * layout.num_cells < 255 else 16


def prepared_together(config: Config) -> int:
    """How many levels' tables are made at once: a power of two, as `num_levels` is unless it is the answer."""
    together = max(_PREPARING // preparing_bytes(config), 1)
    return min(1 << (together.bit_length() - 1), config.num_levels)


def preparing_bytes(config: Config) -> int:
    """Memory that making one level's tables takes beside them: as the compiler counts it, rounded up."""
    cells = config.layout.num_cells
    boards = 12 if config.layout.is_stacked else 10
    return 4 * cells * (boards * config.layout.num_words + 40 * config.num_slots + 40)


def make_distances(
    config: Config, walls: Board, targets: Board
) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, jax.Array]]:
    """(`distances`, `sides`) of `Tables`."""
    layout = config.layout
    regions = pushes.side_regions(layout, walls)
    _, down, left, right = regions
    sides = _by_cell(layout, bb.union(down, right)), _by_cell(layout, bb.union(left, right))
    if config.num_slots == 0:
        nearest = pushes.push_distances(layout, walls, targets, regions).astype(jnp.uint32)
        nearest = jnp.where(nearest == pushes.UNREACHABLE, jnp.uint32(_UNREACHABLE), nearest)
        return (jnp.pad(nearest, ((0, 0), (0, 1), (0, 0))).reshape(-1),), sides

    bits = distance_bits(layout)
    cells = jnp.stack(pushes.cells_of(layout, targets, config.num_slots))
    distance = pushes.push_distances(layout, walls, bb.singleton(layout, cells), regions)
    distance = jnp.minimum(distance.astype(jnp.uint32), (1 << bits) - 1)
    rows = jnp.pad(distance, ((0, 0), (0, 0), (0, 1), (0, 0)), constant_values=(1 << bits) - 1)
    rows = jnp.where((cells < layout.num_cells)[:, :, None, None], rows, 0)
    words = [jnp.zeros(rows.shape[1:], jnp.uint32)] * -(-config.num_slots * bits // 32)
    for slot, row in enumerate(rows):
        words[slot * bits // 32] |= row << (slot * bits % 32)
    return tuple(word.reshape(-1) for word in words), sides


def _by_cell(layout: Layout, board: Board) -> jax.Array:
    """Words [L, num_cells] → uint32[L × (num_cells + 1) × num_words]."""
    return jnp.pad(bb.stacked_words(board), ((0, 0), (0, 1), (0, 0))).reshape(-1)


@jax.named_scope("rows_of")
def rows_of(config: Config, tables: Tables, level: jax.Array, boxes: Board, player: Cell) -> list[Row]:
    """The distances of each of the `num_slots` boxes of n states, boxes in the order of their cells."""
    index = level * (config.layout.num_cells + 1)
    rows = []
    for cell in pushes.cells_of(config.layout, boxes, config.num_slots):
        side = _side(config, tables, index + cell, player)
        rows.append([word[(index + cell) * 4 + side] for word in tables.distances])
    return rows


def _side(config: Config, tables: Tables, index: jax.Array, player: Cell) -> jax.Array:
    """int32: on which side of a box at (level, cell) `index` the player is, 0–3; the first of connected ones."""
    word = index * config.layout.num_words + (player >> 5).astype(jnp.int32)
    low, high = ((plane[word] >> (player & 31)) & 1 for plane in tables.sides)
    return (low + 2 * high).astype(jnp.int32)


@jax.named_scope("matching")
def matching(config: Config, rows: list[Row]) -> jax.Array:
    """int32[n]: the matching bound, TOO_LONG at most; INFINITE where no assignment exists."""
    bits = distance_bits(config.layout)
    infinity = np.uint32((1 << bits) - 1)
    at = lambda row, slot: (row[slot * bits // 32] >> (slot * bits % 32)) & infinity
    costs = [[at(row, slot) for slot in range(config.num_slots)] for row in rows]
    costs = [[jnp.where(cost == infinity, jnp.uint32(_UNREACHABLE), cost) for cost in row] for row in costs]
    total = pushes.assignment(costs).astype(jnp.int32)
    return _capped(total, total >= _UNREACHABLE)


def _capped(total: jax.Array, is_infinite: jax.Array) -> jax.Array:
    return jnp.where(is_infinite, INFINITE, jnp.minimum(total, TOO_LONG))


def start_bound(config: Config, tables: Tables, boxes: Board, player: Cell) -> jax.Array:
    """int32[L]: the bound of the starts."""
    level = jnp.arange(player.shape[0], dtype=jnp.int32)
    if config.num_slots:
        return matching(config, rows_of(config, tables, level, boxes, player))
    index = level[:, None] * (config.layout.num_cells + 1) + jnp.arange(config.layout.num_cells)
    side = _side(config, tables, index, player[:, None])
    nearest = tables.distances[0][index * 4 + side].astype(jnp.int32)
    nearest = jnp.where(pushes.unpack_cells(config.layout, boxes), nearest, 0)
    total = jnp.sum(jnp.minimum(nearest, INFINITE), axis=1)  # below 2^31 on boards of MAX_CELLS
    return _capped(total, jnp.any(nearest == _UNREACHABLE, axis=1))


@jax.named_scope("child_bound")
def child_bound(
    config: Config,
    tables: Tables,
    parent: Nodes,
    rows: list[Row],
    box: Cell,
    target: Cell,
    direction: jax.Array,
) -> jax.Array:
    """int32[n]: the bound of the states that pushes make.

    Args:
      config: the program's shape.
      tables: of all levels.
      parent: the states before the push.
      rows: their `rows_of`; unused without slots.
      box: where the pushed box was.
      target: where it is now.
      direction: of the push.
    """
    side = jnp.array(OPPOSITE)[direction]
    index = parent.level * (config.layout.num_cells + 1)
    before, after = ((index + cell.astype(jnp.int32)) * 4 + side for cell in (box, target))
    if config.num_slots == 0:
        (nearest,) = tables.distances
        h, now = (parent.cost & 0xFFFF).astype(jnp.int32), nearest[after].astype(jnp.int32)
        return _capped(h - nearest[before].astype(jnp.int32) + now, now == _UNREACHABLE)
    moved = [word[after] for word in tables.distances]
    rank = bb.count(bb.intersection(parent.boxes, bb.below(config.layout, box)))
    return matching(
        config,
        [[jnp.where(rank == k, new, old) for new, old in zip(moved, row, strict=True)] for k, row in enumerate(rows)],
    )
