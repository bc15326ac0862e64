"""Tasks to train on and tasks held out, with nothing in common that would give an answer away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import jax
import numpy as np

from envs_jax.arguments import as_integer, check_seed
from envs_jax.tasks import Task, TaskBank

TaskT = TypeVar("TaskT", bound=Task)


def check(tasks: TaskBank[TaskT], num_held_out: int, seed: int) -> None:
    """Raises TypeError or ValueError unless that many tasks can be held out and others are left."""
    check_seed(seed)
    if as_integer("num_held_out", num_held_out) < 1:
        raise ValueError(f"num_held_out={num_held_out} must be at least 1")
    if num_held_out >= len(tasks):
        raise ValueError(
            f"num_held_out={num_held_out} leaves none of the {len(tasks)} tasks to train on; hold out fewer, or make "
            "more"
        )


def boards_apart(
    tasks: TaskBank[TaskT], num_held_out: int, seed: int, incidental: Sequence[str]
) -> tuple[TaskBank[TaskT], TaskBank[TaskT]]:
    """(tasks to train on, tasks held out), in random order; a board that is held out does not occur in training.

    Args:
      tasks: the bank.
      num_held_out: tasks that are held out.
      seed: determines which.
      incidental: fields of a task that do not make it another board.

    Raises:
      TypeError, ValueError: no such number of tasks can be held out.
    """
    check(tasks, num_held_out, seed)
    shuffled = tasks.shuffle(jax.random.key(seed))
    boards = _boards(shuffled, incidental)
    held_out = set(boards[:num_held_out])
    apart = np.array([board not in held_out for board in boards])
    if not apart.any():
        raise ValueError(f"num_held_out={num_held_out}: all tasks have a board that is held out")
    return shuffled.filter(apart), shuffled[:num_held_out]


def _boards(tasks: TaskBank[TaskT], incidental: Sequence[str]) -> list[bytes]:
    """What makes each task's board, as bytes."""
    leaves = jax.tree_util.tree_leaves_with_path(tasks.instances)
    kept = [leaf for path, leaf in leaves if path[0].name not in incidental]
    rows = [np.ascontiguousarray(leaf).reshape(len(tasks), -1).view(np.uint8).reshape(len(tasks), -1) for leaf in kept]
    return [row.tobytes() for row in np.concatenate(rows, axis=1)]
