"""The rules of Sokoban on bitboards: moves, pushes, pulls and what they earn.

Actions 0–3 move up, down, left, right and push a box that stands there; a blocked move has no effect. Rewards are
gym-sokoban's: −0.1 a step, +1 for a box pushed onto a target, −1 for one pushed off, +10 when all targets are covered.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from envs_jax.sokoban.board import Board, Cell, Layout, contains, difference, is_empty, singleton, where

STEP_REWARD = -0.1
BOX_REWARD = 1.0
SOLVED_REWARD = 10.0


class Move(NamedTuple):
    """What a move would do."""

    legal: jax.Array  # bool[]: the player moves
    pushes: jax.Array  # bool[]: and pushes a box
    ahead: Cell  # the cell one step ahead of the player
    beyond: Cell  # the cell two steps ahead


def plan_move(layout: Layout, walls: Board, boxes: Board, player: Cell, action: jax.Array) -> Move:
    """Looks at the two cells ahead of the player; an action outside 0 … 3 is never legal."""
    player = player.astype(jnp.int32)
    action = action.astype(jnp.int32)
    row, column = player // layout.columns, player % layout.columns
    room = jnp.where(action == 0, row, 0) + jnp.where(action == 1, layout.rows - 1 - row, 0)
    room += jnp.where(action == 2, column, 0) + jnp.where(action == 3, layout.columns - 1 - column, 0)
    delta = jnp.where(action < 2, layout.columns, 1) * jnp.where(action & 1 == 1, 1, -1)
    ahead, beyond = player + delta, player + 2 * delta
    box_ahead = contains(boxes, ahead)
    occupied = tuple(wall | box for wall, box in zip(walls, boxes, strict=True))
    pushes = box_ahead & (room >= 2) & ~contains(occupied, beyond)
    steps = ~contains(occupied, ahead) & (room >= 1)
    return Move(steps | pushes, pushes, ahead, beyond)


def apply_move(layout: Layout, boxes: Board, player: Cell, move: Move) -> tuple[Board, Cell]:
    """(boxes, player) after a move; the same where it is not legal."""
    moved = [a ^ b for a, b in zip(singleton(layout, move.ahead), singleton(layout, move.beyond), strict=True)]
    boxes = tuple(jnp.where(move.pushes, box ^ change, box) for box, change in zip(boxes, moved, strict=True))
    return boxes, jnp.where(move.legal, move.ahead.astype(player.dtype), player)


def is_solved(targets: Board, boxes: Board) -> jax.Array:
    """bool[]: every target is covered by a box."""
    return is_empty(difference(targets, boxes))


def dense_reward(targets: Board, move: Move, solved: jax.Array) -> jax.Array:
    """float32[]: gym-sokoban's reward of a move, `solved` being asked of the boxes after it."""
    gained = contains(targets, move.beyond).astype(jnp.float32) - contains(targets, move.ahead).astype(jnp.float32)
    reward = STEP_REWARD + BOX_REWARD * jnp.where(move.pushes, gained, 0.0)
    return (reward + SOLVED_REWARD * solved).astype(jnp.float32)


def pull(
    layout: Layout, walls: Board, boxes: Board, player: Cell, action: jax.Array
) -> tuple[jax.Array, Board, Cell]:
    """The reverse of a push: the player steps in a direction and drags the box that stands behind.

    Args:
      action: the direction the player steps in.

    Returns:
      (legal bool[], boxes, player): legal where the cell ahead is free and a box stands behind; else unchanged.
    """
    forward = plan_move(layout, walls, boxes, player, action)
    behind = player.astype(jnp.int32) - (forward.ahead - player.astype(jnp.int32))
    legal = forward.legal & ~forward.pushes & has_neighbour(layout, player, action ^ 1) & contains(boxes, behind)
    dragged = [a ^ b for a, b in zip(singleton(layout, behind), singleton(layout, player), strict=True)]
    moved = tuple(box ^ change for box, change in zip(boxes, dragged, strict=True))
    return legal, where(legal, moved, boxes), jnp.where(legal, forward.ahead.astype(player.dtype), player)


def has_neighbour(layout: Layout, cell: Cell, action: jax.Array) -> jax.Array:
    """bool[]: whether the interior has a cell next to `cell` in a direction."""
    row, column = cell.astype(jnp.int32) // layout.columns, cell.astype(jnp.int32) % layout.columns
    edges = (row > 0, row < layout.rows - 1, column > 0, column < layout.columns - 1)
    open_to = jnp.bool_(False)
    for direction, edge in enumerate(edges):
        open_to |= (action == direction) & edge
    return open_to
