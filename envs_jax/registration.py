"""The registry behind `envs_jax.make`."""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Callable
from typing import Any

from envs_jax.environment import Environment
from envs_jax.tasks import TaskBank

EntryPoint = Callable[..., tuple[Environment[Any, Any], TaskBank[Any]]]

_ID = re.compile(r"[A-Za-z][\w-]*-v\d+")
_registry: dict[str, tuple[EntryPoint | str, dict[str, Any]]] = {}


def register(id: str, entry_point: EntryPoint | str, **defaults: Any) -> None:
    """Makes `make(id)` call `entry_point(**defaults)`.

    Args:
      id: `<name>-v<number>`, not registered before.
      entry_point: a function `(*, seed, …) -> (env, tasks)`, or `"module:function"`, imported at the first use.
      **defaults: keyword arguments, which those of `make` override.
    """
    if not _ID.fullmatch(id):
        raise ValueError(f"id={id!r} is not of the form <name>-v<number>")
    if id in _registry:
        raise ValueError(f"id={id!r} is registered already")
    _registry[id] = (entry_point, defaults)


def registered_ids() -> tuple[str, ...]:
    """The ids that `make` knows, sorted."""
    return tuple(sorted(_registry))


def make(id: str, *, seed: int = 0, **kwargs: Any) -> tuple[Environment[Any, Any], TaskBank[Any]]:
    """Makes an environment and a bank of its tasks.

    Args:
      id: one of `registered_ids()`.
      seed: determines the tasks; the same seed gives the same bank on every machine.
      **kwargs: the environment's own arguments (see its page in the documentation), for example `observation="grid"`.

    Returns:
      (env, tasks).
    """
    if id not in _registry:
        close = difflib.get_close_matches(id, _registry, n=1, cutoff=0.3)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"id={id!r} is not registered.{hint} Known ids: {', '.join(registered_ids())}")
    entry_point, defaults = _registry[id]
    if isinstance(entry_point, str):
        module, _, function = entry_point.partition(":")
        entry_point = getattr(importlib.import_module(module), function)
    return entry_point(seed=seed, **{**defaults, **kwargs})
