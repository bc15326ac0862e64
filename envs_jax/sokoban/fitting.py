"""Levels on boards of another size, so that levels of several sizes share a bank and a compiled program."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np

from envs_jax.bitboard import Board
from envs_jax.sokoban.board import Layout
from envs_jax.sokoban.checks import check_layout, check_tasks
from envs_jax.sokoban.types import SokobanTask
from envs_jax.tasks import TaskBank


def fit(layout: Layout, tasks: TaskBank[SokobanTask], to: Layout) -> TaskBank[SokobanTask]:
    """The same levels on boards of another size: at the top left, with walls around them, as files are read.

    `TaskBank.concatenate` then joins banks of several sizes into one. A level can go onto a smaller board, too, where
    only walls are cut off. Time limits, weights and dead squares stay as they are; so do plans, which consist of moves.

    Args:
      layout: the size of the boards that the tasks are made for, `env.layout` of their environment.
      tasks: the levels.
      to: the size of the new boards.

    Raises:
      TypeError: `tasks` is not a bank of Sokoban levels, or `layout` or `to` is no Layout.
      ValueError: the tasks are of another size than `layout`, or a level needs a larger board than `to`.
    """
    check_tasks(layout, tasks)
    check_layout("to", to)
    levels = tasks.instances
    floor = ~layout.unpack(levels.walls)
    _check_sizes(floor, to)
    row, column = np.divmod(np.asarray(levels.player, np.int32), layout.columns)

    def resized(board: Board, fill: bool) -> Board:
        return tuple(map(jnp.asarray, to.pack_batch(_resized(layout.unpack(board), to, fill)))) if board else ()

    fitted = dataclasses.replace(
        levels,
        walls=resized(levels.walls, True),
        targets=resized(levels.targets, False),
        boxes=resized(levels.boxes, False),
        player=jnp.asarray((row * to.columns + column).astype(to.cell_dtype)),
        dead=resized(levels.dead, False),
        made_for=to.name,
    )
    return dataclasses.replace(tasks, instances=fitted)


def _check_sizes(floor: np.ndarray, to: Layout) -> None:
    """Refuses a level with floor, bool[T, rows, columns], beyond the boards of `to`."""
    heights, widths = _extent(floor, 1) + 2, _extent(floor, 2) + 2  # with the ring of walls
    too_large = (heights > to.height) | (widths > to.width)
    if too_large.any():
        index = int(too_large.argmax())
        raise ValueError(
            f"tasks[{index}] needs a board of {heights[index]}×{widths[index]}, larger than to={to}; "
            f"all {len(floor)} levels fit in {Layout(max(3, heights.max()), max(3, widths.max()))}"
        )


def _extent(cells: np.ndarray, axis: int) -> np.ndarray:
    """int[T]: 1 + the last row (axis 1) or column (axis 2) of bool[T, rows, columns] with a cell; 0 without one."""
    used = np.any(cells, axis=3 - axis)
    return np.where(used, np.arange(1, cells.shape[axis] + 1), 0).max(axis=1)


def _resized(cells: np.ndarray, to: Layout, fill: bool) -> np.ndarray:
    """bool[T, rows, columns] cut or filled up at the bottom and at the right."""
    resized = np.full((len(cells), to.rows, to.columns), fill)
    rows, columns = min(cells.shape[1], to.rows), min(cells.shape[2], to.columns)
    resized[:, :rows, :columns] = cells[:, :rows, :columns]
    return resized
