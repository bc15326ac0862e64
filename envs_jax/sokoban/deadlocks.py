"""Deadlocks: positions that no sequence of moves can solve. Every test here is sound: it never flags a solvable one.

Levels hold as many boxes as targets, so every box has to end on a target. The functions take the boards of one
position (`jax.vmap` maps them) or, but for `safe_actions`, of a batch directly: every word may be an array of any
shape, which spares the selects that vmap puts into loops.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from envs_jax import bitboard as bb
from envs_jax.bitboard import Board, Cell
from envs_jax.sokoban import rules
from envs_jax.sokoban.board import Layout
from envs_jax.sokoban.checks import check_tasks
from envs_jax.sokoban.types import SokobanTask
from envs_jax.tasks import TaskBank

T = TypeVar("T")


def dead_squares(layout: Layout, walls: Board, targets: Board) -> Board:
    """The floor cells from which a box can be pushed to no target, even with no other box and the player anywhere.

    Found backwards: the cells that a box on a target can be pulled to are alive, all other floor is dead.
    """
    floor = bb.complement(layout, walls)
    # A push in a direction takes a box off these cells: floor, with floor behind it for the player.
    pushable = [bb.intersection(floor, bb.shift(layout, floor, direction)) for direction in bb.DIRECTIONS]

    def grow(alive: Board) -> Board:
        pulled = [
            bb.intersection(bb.shift(layout, alive, bb.OPPOSITE[direction]), pushable[direction])
            for direction in bb.DIRECTIONS
        ]
        return bb.union(alive, *pulled)

    return bb.difference(floor, _fixpoint(grow, targets))


def frozen_boxes(layout: Layout, walls: Board, boxes: Board, dead: Board | None = None) -> Board:
    """Boxes that can never move again on a way to a solution.

    A box is blocked along an axis by a wall or a frozen box on either side, or by dead squares on both sides; it is
    frozen when it is blocked along both axes. This is the largest such set of boxes: none of them can be the first
    to move (without landing on a dead square), because what blocks it is still there.

    Args:
      layout: the size of the board.
      walls: the walls.
      boxes: the boxes.
      dead: the dead squares, where they are to count.
    """
    blocked = [_blocked_by_level(layout, walls, dead, axis) for axis in _AXES]

    def release(frozen: Board) -> Board:
        beside = [bb.union(*(bb.shift(layout, frozen, direction) for direction in axis)) for axis in _AXES]
        held = [bb.union(a, b) for a, b in zip(blocked, beside, strict=True)]
        return bb.intersection(frozen, *held)

    return _fixpoint(release, boxes)


def is_frozen_deadlock(
    layout: Layout, walls: Board, targets: Board, boxes: Board, dead: Board | None = None
) -> jax.Array:
    """bool[]: a box that is not on a target is frozen (see `frozen_boxes`), as in a 2×2 block or a chain of boxes."""
    return ~bb.is_empty(bb.difference(frozen_boxes(layout, walls, boxes, dead), targets))


def is_deadlock(layout: Layout, walls: Board, targets: Board, boxes: Board, dead: Board) -> jax.Array:
    """bool[]: a box is on one of the `dead` squares, or frozen off its target."""
    on_dead = ~bb.is_empty(bb.intersection(boxes, dead))
    return on_dead | is_frozen_deadlock(layout, walls, targets, boxes, dead)


def safe_actions(layout: Layout, walls: Board, targets: Board, boxes: Board, player: Cell, dead: Board) -> jax.Array:
    """bool[4]: the moves that have an effect and do not lead to a position that `is_deadlock` flags.

    A mask for a policy or a search: it keeps every solution. All False in some lost positions.
    """

    def is_safe(action: jax.Array) -> jax.Array:
        move = rules.plan_move(layout, walls, boxes, player, action)
        after, _ = rules.apply_move(layout, boxes, player, move)
        return move.legal & ~is_deadlock(layout, walls, targets, after, dead)

    return jax.vmap(is_safe)(jnp.arange(4))


def with_dead_squares(layout: Layout, tasks: TaskBank[SokobanTask]) -> TaskBank[SokobanTask]:
    """The same bank with each task's `dead` filled in, for an environment with `deadlock_termination`.

    Raises:
      TypeError, ValueError: `layout` is no Layout, or `tasks` is not a bank of levels of that size.
    """
    check_tasks(layout, tasks)
    levels = tasks.instances
    dead = _dead_squares_of_levels(layout, levels.walls, levels.targets)
    return dataclasses.replace(tasks, instances=dataclasses.replace(levels, dead=dead))


@partial(jax.jit, static_argnums=0)
def _dead_squares_of_levels(layout: Layout, walls: Board, targets: Board) -> Board:
    return jax.vmap(partial(dead_squares, layout))(walls, targets)


_AXES = ((bb.UP, bb.DOWN), (bb.LEFT, bb.RIGHT))


def _blocked_by_level(layout: Layout, walls: Board, dead: Board | None, axis: tuple[int, int]) -> Board:
    """Cells where a box cannot, or must not, be pushed along an axis whatever the other boxes do."""
    blocked = bb.union(*(_next_to(layout, walls, direction, ring=True) for direction in axis))
    if dead is not None:
        blocked = bb.union(blocked, bb.intersection(*(_next_to(layout, dead, direction) for direction in axis)))
    return blocked


def _next_to(layout: Layout, board: Board, direction: int, *, ring: bool = False) -> Board:
    """The cells whose neighbour in a direction is in `board` (or, with `ring`, in the wall ring)."""
    cells = bb.shift(layout, board, bb.OPPOSITE[direction])
    if ring:
        cells = bb.union(cells, bb.complement(layout, bb.constant_like(board, layout.open_to[direction])))
    return cells


def _fixpoint(function: Any, board: Board) -> Board:
    """The board at which repeated application of `function` (growing or shrinking) comes to rest."""
    board = jax.tree.map(jnp.asarray, board)
    apply = lambda carry: (function(carry[0]), carry[0])
    moving = lambda carry: jnp.any(~bb.equal(*carry))
    return jax.lax.while_loop(moving, apply, (function(board), board))[0]
