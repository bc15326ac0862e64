"""The rules of Sokoban on bitboards: moves, pushes, their inverse, and what moves earn.

Actions 0–3 move up, down, left, right and push a box that stands there; a blocked move has no effect. Rewards are
gym-sokoban's: −0.1 a step, +1 for a box pushed onto a target, −1 for one pushed off, +10 when all targets are covered.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from envs_jax import bitboard as bb
from envs_jax.bitboard import Board, Cell
from envs_jax.sokoban.board import Layout

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
    room = jnp.where(action == bb.UP, row, 0) + jnp.where(action == bb.DOWN, layout.rows - 1 - row, 0)
    room += jnp.where(action == bb.LEFT, column, 0) + jnp.where(action == bb.RIGHT, layout.columns - 1 - column, 0)
    delta = jnp.where(action < 2, layout.columns, 1) * jnp.where(action & 1 == 1, 1, -1)
    ahead, beyond = player + delta, player + 2 * delta
    occupied = bb.union(walls, boxes)
    pushes = bb.contains(boxes, ahead) & (room >= 2) & ~bb.contains(occupied, beyond)
    steps = ~bb.contains(occupied, ahead) & (room >= 1)
    return Move(steps | pushes, pushes, ahead, beyond)


def apply_move(layout: Layout, boxes: Board, player: Cell, move: Move) -> tuple[Board, Cell]:
    """(boxes, player) after a move; the same where it is not legal."""
    moved = bb.symmetric_difference(bb.singleton(layout, move.ahead), bb.singleton(layout, move.beyond))
    boxes = bb.where(move.pushes, bb.symmetric_difference(boxes, moved), boxes)
    return boxes, jnp.where(move.legal, move.ahead.astype(player.dtype), player)


def is_solved(targets: Board, boxes: Board) -> jax.Array:
    """bool[]: every target is covered by a box."""
    return bb.is_empty(bb.difference(targets, boxes))


def dense_reward(targets: Board, move: Move, solved: jax.Array) -> jax.Array:
    """float32[]: gym-sokoban's reward of a move, `solved` being asked of the boxes after it."""
    gained = bb.contains(targets, move.beyond).astype(jnp.float32)
    gained -= bb.contains(targets, move.ahead).astype(jnp.float32)
    reward = STEP_REWARD + BOX_REWARD * jnp.where(move.pushes, gained, 0.0)
    return (reward + SOLVED_REWARD * solved).astype(jnp.float32)


def retreat(
    layout: Layout, walls: Board, boxes: Board, player: Cell, action: jax.Array, *, drag: bool
) -> tuple[jax.Array, Board, Cell]:
    """The inverse of a move: the player steps in a direction, without or with the box that stands behind.

    The move of the opposite action undoes a legal retreat, so the legal ones of the four actions, with and without
    `drag`, are all the states from which one move leads here.

    Args:
      layout: the size of the board.
      walls: the walls.
      boxes: the boxes.
      player: the player's cell.
      action: the direction the player steps in; outside 0 … 3 it is never legal.
      drag: pull the box behind the player along (the inverse of a push).

    Returns:
      (legal bool[], boxes, player): legal where the cell ahead is free and, with `drag`, a box stands behind;
      boxes and player are unchanged where it is not.
    """
    step = plan_move(layout, walls, boxes, player, action)
    legal = step.legal & ~step.pushes
    if drag:
        here = player.astype(jnp.int32)
        behind = 2 * here - step.ahead
        legal &= _has_neighbour(layout, here, action ^ 1) & bb.contains(boxes, behind)
        moved = bb.symmetric_difference(bb.singleton(layout, behind), bb.singleton(layout, here))
        boxes = bb.where(legal, bb.symmetric_difference(boxes, moved), boxes)
    return legal, boxes, jnp.where(legal, step.ahead.astype(player.dtype), player)


def _has_neighbour(layout: Layout, cell: Cell, action: jax.Array) -> jax.Array:
    """bool[]: whether the interior has a cell next to `cell` in a direction."""
    row, column = cell // layout.columns, cell % layout.columns
    edges = (row > 0, row < layout.rows - 1, column > 0, column < layout.columns - 1)
    open_to = jnp.bool_(False)
    for direction, edge in enumerate(edges):
        open_to |= (action == direction) & edge
    return open_to


class Replay(NamedTuple):
    """What a plan of L actions does."""

    legal: jax.Array  # bool[L]: the move had an effect
    pushes: jax.Array  # bool[L]: it pushed a box
    boxes: Board  # uint32[L] × num_words: the boxes after each move
    player: Cell  # [L]: the player's cell after each move


def replay(layout: Layout, walls: Board, boxes: Board, player: Cell, actions: jax.Array) -> Replay:
    """Plays `actions` (integers [L]; −1 may pad them) from a position, whatever the time limit."""

    def step(carry: tuple[Board, Cell], action: jax.Array) -> tuple[tuple[Board, Cell], Replay]:
        move = plan_move(layout, walls, *carry, action)
        after = apply_move(layout, *carry, move)
        return after, Replay(move.legal, move.pushes, *after)

    boxes = tuple(jnp.asarray(word) for word in boxes)
    return jax.lax.scan(step, (boxes, jnp.asarray(player)), jnp.asarray(actions))[1]
