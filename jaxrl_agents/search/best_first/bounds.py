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
from envs_jax.barriers import once
from envs_jax.bitboard import OPPOSITE, Board, Cell
from envs_jax.sokoban import pushes
from envs_jax.sokoban.board import Layout
from jaxrl_agents.search.best_first.types import Config, Nodes, Tables

MAX_MATCHED = 6
_PART = 1 << 16  # words of the boards that say where a box's sides lead, made at once: tens of ms on an open board
MAX_CELLS = 32_000  # beyond, push distances might not fit 16 bits
INFINITE = np.int32(0xFFFF)  # there is no solution; what a node's cost has room for
TOO_LONG = np.int32(0xFFFE)  # this many pushes, or more than a node's cost has room for
_UNREACHABLE = 1 << 24  # a push distance that makes any sum infinite

Row = list[jax.Array]  # uint32[n] words: the distances of one box of each of n states


def distance_bits(layout: Layout) -> int:
    """Bits of a packed distance: a lone box meets each cell at most twice on a shortest way, on average."""
    return 8 if 2 * layout.num_cells < 255 else 16


def distance_words(config: Config) -> int:
    """Words of a row of distances."""
    return max(-(-config.num_slots * distance_bits(config.layout) // 32), 1)


def part_of(config: Config) -> tuple[int, int]:
    """(levels, cells) of a part of the tables: all cells of some levels (a power of two, or all), or some of one."""
    cells = config.layout.num_cells
    words = cells * config.layout.num_words
    if words > _PART:
        return 1, -(-cells // -(-words // _PART))
    return min(1 << ((_PART // words).bit_length() - 1), config.num_levels), cells


def num_parts(config: Config, num_levels: int) -> int:
    """The parts of the tables of so many levels."""
    levels, cells = part_of(config)
    return -(-num_levels // levels) * -(-config.layout.num_cells // cells)


def preparing_bytes(config: Config) -> int:
    """Memory that making a part of the tables takes beside them: as the compiler counts it, rounded up."""
    levels, cells = part_of(config)
    boards = 12 if config.layout.is_stacked else 10
    sides = cells * (boards * config.layout.num_words + 40)
    return 4 * levels * (sides + config.layout.num_cells * (40 * config.num_slots + 40))


def make_sides(
    layout: Layout, walls: Board, cells: jax.Array, part: jax.Array
) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
    """What `sides` (here uint32[L, n, num_words]) and `joined` (uint8[L, n]) of `Tables` say of n cells, int32[n]."""
    regions = pushes.side_regions(layout, walls, cells)
    _, down, left, right = regions
    planes = bb.stacked_words(bb.union(down, right)), bb.stacked_words(bb.union(left, right))
    return planes, once(part, lambda: pushes.joined_sides(layout, regions, cells))


def make_distances(config: Config, walls: Board, targets: Board, joined: jax.Array) -> tuple[jax.Array, ...]:
    """`distances` of `Tables`."""
    layout = config.layout
    if config.num_slots == 0:
        nearest = pushes.push_distances(layout, walls, targets, joined).astype(jnp.uint32)
        nearest = jnp.where(nearest == pushes.UNREACHABLE, jnp.uint32(_UNREACHABLE), nearest)
        return (jnp.pad(nearest, ((0, 0), (0, 1), (0, 0))).reshape(-1),)

    bits = distance_bits(layout)
    cells = jnp.stack(pushes.cells_of(layout, targets, config.num_slots))
    distance = pushes.push_distances(layout, walls, bb.singleton(layout, cells), joined)
    distance = jnp.minimum(distance.astype(jnp.uint32), (1 << bits) - 1)
    rows = jnp.pad(distance, ((0, 0), (0, 0), (0, 1), (0, 0)), constant_values=(1 << bits) - 1)
    rows = jnp.where((cells < layout.num_cells)[:, :, None, None], rows, 0)
    words = [jnp.zeros(rows.shape[1:], jnp.uint32)] * distance_words(config)
    for slot, row in enumerate(rows):
        words[slot * bits // 32] |= row << (slot * bits % 32)
    return tuple(word.reshape(-1) for word in words)


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
