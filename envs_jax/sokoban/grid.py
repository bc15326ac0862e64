"""What a Sokoban position looks like as an array: the observations, and what rendering starts from."""

from __future__ import annotations

import enum

import jax
import jax.numpy as jnp

from envs_jax import bitboard as bb
from envs_jax.bitboard import Board, Cell
from envs_jax.sokoban.board import Layout, map_cells


class Code(enum.IntEnum):
    """The code of a cell in `grid` and `tokens`; gym-sokoban's, with its missing player on a target as 6."""

    WALL = 0
    FLOOR = 1
    TARGET = 2
    BOX_ON_TARGET = 3
    BOX = 4
    PLAYER = 5
    PLAYER_ON_TARGET = 6


PLANES = ("walls", "targets", "boxes", "player")


def codes(layout: Layout, walls: Board, targets: Board, boxes: Board, player: Cell) -> jax.Array:
    """uint8[height, width]: the `Code` of every cell, the wall ring included."""
    # The three binary digits of a code as boards: boolean algebra on whole words, then one pass over the cells.
    ones = bb.complement(layout, bb.union(walls, bb.symmetric_difference(targets, boxes)))
    fours = bb.union(bb.difference(boxes, targets), bb.singleton(layout, player))
    join = lambda one, two, four: (one | two << 1 | four << 2).astype(jnp.uint8)
    return map_cells(layout, (ones, targets, fours), join)


def planes(layout: Layout, walls: Board, targets: Board, boxes: Board, player: Cell) -> jax.Array:
    """uint8[height, width, 4]: for every cell whether it holds wall, target, box, player (`PLANES`), 0 or 1."""
    floor = bb.complement(layout, walls)  # the ring, which no board holds, is wall

    def join(floor: jax.Array, *others: jax.Array) -> jax.Array:
        return jnp.stack([1 - floor, *others], axis=-1).astype(jnp.uint8)

    return map_cells(layout, (floor, targets, boxes, bb.singleton(layout, player)), join)
