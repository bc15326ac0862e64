"""The checks of what users ask `solve` for, before anything is compiled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import jax
import numpy as np

from envs_jax.arguments import check_choice
from envs_jax.sokoban.checks import check_tasks
from jaxrl_agents.arguments import count
from jaxrl_agents.search.best_first import bounds
from jaxrl_agents.search.best_first.types import Mode


def check(
    tasks: Any,
    layout: Any,
    mode: Any,
    *,
    max_nodes: Any,
    time_limit: Any,
    memory_limit: Any,
    on_progress: Any,
    stop: Any,
) -> None:
    """Raises unless the arguments of `solve` are what it documents; boxes and devices are checked below."""
    _check_levels(layout, tasks)
    check_choice("mode", mode, get_args(Mode))
    count("max_nodes", max_nodes)
    if time_limit is not None:
        _check_positive("time_limit", time_limit, "seconds, or None for no limit")
    _check_positive("memory_limit", memory_limit, "bytes, such as 4 << 30")
    _check_function("on_progress", on_progress, "(Progress) -> None")
    _check_function("stop", stop, "() -> bool")


def check_boxes(boxes: np.ndarray, targets: np.ndarray) -> None:
    """Raises unless each level has as many `boxes` as `targets`, int[T] both, and at least one."""
    wrong = (boxes != targets) | (boxes == 0)
    if wrong.any():
        level = int(wrong.argmax())
        raise ValueError(
            f"tasks[{level}] has {boxes[level]} boxes and {targets[level]} targets; a level needs as many boxes as "
            "targets, and at least one"
        )


def checked_devices(devices: Any) -> list[jax.Device]:
    """The devices to use, all of the default backend for None; raises unless they are different ones of one kind."""
    if devices is None:
        return jax.devices()
    given: list[Any] = list(devices) if isinstance(devices, Sequence | np.ndarray) else [devices]
    for device in given:
        if not isinstance(device, jax.Device):
            raise TypeError(f"devices={devices!r} must be a list of devices, such as jax.devices()[:1]")
    if not given:
        raise ValueError("devices=[] has no device; give at least one, or None for all")
    if len(set(given)) < len(given) or len({device.device_kind for device in given}) > 1:
        raise ValueError(f"devices={given} must be different ones, all of one kind")
    return given


def _check_levels(layout: Any, tasks: Any) -> None:
    """Raises unless `tasks` is a bank of concrete levels for `layout`, and a board of that size can be searched."""
    check_tasks(layout, tasks)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(tasks)):
        raise TypeError("tasks are traced; solve runs on the host: call it outside of jax.jit")
    if layout.num_cells > bounds.MAX_CELLS:
        raise ValueError(f"layout={layout.height}×{layout.width} has more than {bounds.MAX_CELLS} interior cells")


def _check_positive(name: str, value: Any, way_out: str) -> None:
    """TypeError where the value is no real number, ValueError where it is not above 0."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{name}={value!r} is not a number; give {way_out}")
    if not value > 0:
        raise ValueError(f"{name}={value} is not above 0; give {way_out}")


def _check_function(name: str, value: Any, form: str) -> None:
    """Raises unless the value is None or can be called."""
    if value is not None and not callable(value):
        raise TypeError(f"{name}={value!r} is neither None nor a function {form}")
