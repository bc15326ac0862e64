"""The environments and tasks that the suites measure on."""

from __future__ import annotations

import functools
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

import envs_jax
from benchmarks.suites import Settings
from envs_jax.sokoban import levels
from envs_jax.web import catalogue

MAIN_IDS = ("Sokoban-v0", "FrozenLake-v0", "TabularWeb-v0", "WebShop-v0")
PLAYING = ("environments", "search")  # suites that play the given levels as Sokoban-v0; others take those of any size
MIN_TASKS = 1_024  # of a bank that resets are drawn from


def check_inputs(settings: Settings, suites: Collection[str]) -> None:
    """Reads the levels and products that the user gave, so that a run of `suites` finds out at once what is wrong.

    Raises:
      ValueError, OSError: naming the file, and the line or the product.
    """
    if settings.levels is not None:
        if set(PLAYING).isdisjoint(suites):
            levels.read(settings.levels)
        else:
            environment("Sokoban-v0", settings)
    if settings.products is not None:
        catalogue.load_products(settings.products)


def environment(id: str, settings: Settings, **options: float) -> tuple[Any, Any]:
    """The environment `id`, made with `options`, and a bank of at least 1,024 tasks: the user's where there are some.

    Sokoban-v0 plays the levels of `settings.levels`, WebShop-v0 the products of `settings.products`. A bank that is
    smaller (a fixed map is one task) is repeated, so that a reset always reads from a bank of realistic size.
    """
    given = {"Sokoban-v0": ("levels", settings.levels), "WebShop-v0": ("products", settings.products)}
    name, path = given.get(id, ("", None))
    return _environment(id, name, path, tuple(options.items()))


@functools.cache
def _environment(id: str, name: str, path: Path | None, options: tuple[tuple[str, float], ...]) -> tuple[Any, Any]:
    arguments: dict[str, Any] = dict(options) if path is None else {**dict(options), name: path}
    env, tasks = envs_jax.make(id, **arguments)
    if len(tasks) < MIN_TASKS:
        tasks = tasks[np.arange(MIN_TASKS) % len(tasks)]
    return env, tasks
