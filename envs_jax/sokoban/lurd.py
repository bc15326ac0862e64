"""Plans in LURD notation: a letter for each move, upper case where the move pushes a box."""

from __future__ import annotations

import re
from collections.abc import Iterable

import jax
import numpy as np

from envs_jax.arguments import check_integer, check_string
from envs_jax.sokoban import rules
from envs_jax.sokoban.board import Layout
from envs_jax.sokoban.checks import check_task
from envs_jax.sokoban.types import SokobanTask

LURD = "udlr"  # by action


def lurd_to_actions(text: str) -> np.ndarray:
    """int32[L]: the actions of a plan in LURD notation; blanks and line ends are skipped, case is not looked at.

    Raises:
      TypeError: `text` is not a string.
      ValueError: another character.
    """
    moves = "".join(check_string("text", text).split())
    wrong = re.search(f"[^{LURD}{LURD.upper()}]", moves)
    if wrong:
        raise ValueError(f"{wrong.group()!r} at move {wrong.start() + 1} is not one of u, d, l, r, U, D, L, R")
    return np.array([LURD.index(move) for move in moves.lower()], np.int32)


def actions_to_lurd(layout: Layout, task: SokobanTask, actions: Iterable[int]) -> str:
    """A plan in LURD notation: one letter a move from the start of `task`, upper case where it pushes a box.

    Raises:
      TypeError: an action is not an integer, `layout` is no Layout or `task` no level.
      ValueError: an action is not in 0 … 3, a move of the plan is blocked, or `task` is of another size than `layout`.
    """
    check_task(layout, task)
    plan = np.array([check_integer(f"actions[{i}]", action, 0, 3) for i, action in enumerate(actions)], np.int32)
    padded = np.full(-(-max(len(plan), 1) // 64) * 64, -1, np.int32)  # few lengths, few compilations
    padded[: len(plan)] = plan
    outcome = _replay(layout, task.walls, task.boxes, task.player, padded)
    blocked = ~np.asarray(outcome.legal)[: len(plan)]
    if blocked.any():
        move = int(blocked.argmax())
        raise ValueError(f"actions[{move}]={plan[move]} is blocked; a plan consists of moves that have an effect")
    pushes = np.asarray(outcome.pushes)
    return "".join(LURD[a].upper() if push else LURD[a] for a, push in zip(plan, pushes[: len(plan)], strict=True))


_replay = jax.jit(rules.replay, static_argnums=0)
