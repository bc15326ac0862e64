"""Random rooms: the floor that a random walk with small masks carves out of solid wall, as gym-sokoban does it.

Works on any batch: words and boards may have leading axes.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from envs_jax import bitboard as bb
from envs_jax.bitboard import Board, Cell
from envs_jax.sokoban.board import Layout
from envs_jax.sokoban.sampling import below, random_cell

TURN = round(0.35 * 2**16)  # the probability of a new direction, in units of 2⁻¹⁶


def num_steps(layout: Layout) -> int:
    """Steps of the walk in gym-sokoban: 1.7 × (height + width), rounded down."""
    return int(1.7 * (layout.height + layout.width))


def random_floor(layout: Layout, words: jax.Array) -> Board:
    """A connected floor.

    A walk starts anywhere, takes a random direction with probability 0.35 before each step, and is held inside the wall
    ring; after each step it carves one of five masks of 3 or 4 cells around it. The distribution is that of
    gym-sokoban's `room_topology_generation`.

    Args:
      layout: the size of the board.
      words: uint32[1 + steps, …], random: one for the start and one for each step of the walk, of which there is at
        least one.
    """
    start, *_ = words
    # Like the original the start may lie on the lower or right wall; the first step brings it inside.
    row, column = below(start, layout.rows + 1), below(start << 16, layout.columns + 1)
    direction = (words[1] >> 30).astype(jnp.int32)  # bits that the step below does not use
    floor = tuple(jnp.zeros_like(start) for _ in range(layout.num_words))

    def step(carry: tuple, word: jax.Array) -> tuple[tuple, None]:
        row, column, direction, floor = carry
        direction = jnp.where((word & 0xFFFF) < TURN, (word >> 16 & 3).astype(jnp.int32), direction)
        sign = 2 * (direction & 1) - 1
        row = jnp.clip(row + jnp.where(direction < 2, sign, 0), 0, layout.rows - 1)
        column = jnp.clip(column + jnp.where(direction < 2, 0, sign), 0, layout.columns - 1)
        carved = _mask(layout, row * layout.columns + column, (word >> 18 & 0xFFF) * 5 >> 12)
        return (row, column, direction, bb.union(floor, carved)), None

    (_, _, _, floor), _ = jax.lax.scan(step, (row, column, direction, floor), words[1:])
    return floor


def _mask(layout: Layout, cell: Cell, kind: jax.Array) -> Board:
    """One of gym-sokoban's masks around `cell`: 0 a bar, 1 a post, 2 and 4 two corners, 3 a square."""
    center = bb.singleton(layout, cell)
    up, down, left, right = (bb.shift(layout, center, direction) for direction in bb.DIRECTIONS)
    corner = bb.shift(layout, left, bb.DOWN)
    parts = ((up, {1}), (down, {1, 2, 3, 4}), (left, {0, 2, 3}), (right, {0, 4}), (corner, {3}))
    cells = center
    for part, kinds in parts:
        is_part = (jnp.uint32(sum(1 << k for k in kinds)) >> kind) & 1 == 1
        cells = bb.union(cells, bb.where(is_part, part, bb.empty(layout)))
    return cells


def random_subset(layout: Layout, board: Board, words: jax.Array) -> Board:
    """One uniformly random cell of `board` for each of `words` (uint32[number, …]), all different.

    Where the board has fewer cells the result is smaller.
    """

    def add(carry: tuple[Board, Board], word: jax.Array) -> tuple[tuple[Board, Board], None]:
        chosen, rest = carry
        new = bb.intersection(bb.singleton(layout, random_cell(rest, word)), rest)
        return (bb.union(chosen, new), bb.difference(rest, new)), None

    (chosen, _), _ = jax.lax.scan(add, (tuple(jnp.zeros_like(word) for word in board), board), words)
    return chosen
