"""Checks of the arguments `layout`, `task` and `tasks`, which belong together; they read types and shapes only."""

from __future__ import annotations

from typing import Any

from envs_jax.sokoban.board import Layout
from envs_jax.sokoban.types import SokobanTask
from envs_jax.tasks import TaskBank


def check_layout(name: str, value: Any) -> None:
    """TypeError where the value is no Layout, such as the tuple (height, width) that `make` takes."""
    if not isinstance(value, Layout):
        way_out = f"Layout{value}" if isinstance(value, tuple) and len(value) == 2 else "Layout(height, width)"
        raise TypeError(f"{name}={value!r} must be a Layout: {way_out}")


def check_tasks(layout: Layout, tasks: TaskBank[SokobanTask]) -> None:
    """TypeError or ValueError unless `tasks` is a bank of levels on boards of size `layout`."""
    check_layout("layout", layout)
    if not (isinstance(tasks, TaskBank) and isinstance(tasks.instances, SokobanTask)):
        raise TypeError(f"tasks must be a TaskBank of Sokoban levels; got {type(tasks).__name__}")
    _check_size(layout, "tasks were", tasks.instances)


def check_task(layout: Layout, task: SokobanTask) -> None:
    """TypeError or ValueError unless `task` is a level on a board of size `layout`."""
    check_layout("layout", layout)
    if not isinstance(task, SokobanTask):
        raise TypeError(f"task must be a SokobanTask, such as tasks[0]; got {type(task).__name__}")
    _check_size(layout, "task was", task)


def _check_size(layout: Layout, subject: str, levels: SokobanTask) -> None:
    if len(levels.walls) != layout.num_words or levels.made_for not in ("", layout.name):
        made_for = levels.made_for or f"boards of {len(levels.walls)} words"
        raise ValueError(f"{subject} made for {made_for}; layout is for {layout.name}")
