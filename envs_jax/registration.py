"""The registry behind `envs_jax.make`."""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from envs_jax.environment import Environment
from envs_jax.tasks import TaskBank

EntryPoint = Callable[..., tuple[Environment[Any, Any], TaskBank[Any]]]

_PATH = re.compile(r"[\w.]+:\w+")
_ID = re.compile(r"[A-Za-z][\w-]*-v\d+")
_KEYWORD = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_registry: dict[str, _Entry] = {}


class _Entry(NamedTuple):
    entry_point: EntryPoint | str
    defaults: dict[str, Any]
    description: str


def register(id: str, entry_point: EntryPoint | str, *, description: str = "", **defaults: Any) -> None:
    """Makes `make(id)` call `entry_point(**defaults)`.

    Args:
      id: `<name>-v<number>`, not registered before.
      entry_point: a function `(*, seed, …) -> (env, tasks)`, or `"module:function"`, imported at the first use.
      description: one line for lists of environments.
      **defaults: keyword arguments, which those of `make` override.

    Raises:
      TypeError: `id` is not a string, or `entry_point` is no such function.
      ValueError: `id` has another form or is registered already.
    """
    if not isinstance(id, str):
        raise TypeError(f"id={id!r} is not a string, such as 'Sokoban-v0'")
    if not _ID.fullmatch(id):
        raise ValueError(f"id={id!r} is not of the form <name>-v<number>")
    if id in _registry:
        raise ValueError(f"id={id!r} is registered already")
    if not callable(entry_point) and not (isinstance(entry_point, str) and _PATH.fullmatch(entry_point)):
        raise TypeError(f"entry_point={entry_point!r} is neither a function nor 'module:function'")
    if callable(entry_point):
        _check_seed(id, entry_point)
    _registry[id] = _Entry(entry_point, defaults, description)


def registered_ids() -> tuple[str, ...]:
    """The ids that `make` knows, sorted."""
    return tuple(sorted(_registry))


def modules() -> tuple[str, ...]:
    """The modules that registered ids name, each once; they may not have been imported yet."""
    paths = [entry.entry_point for entry in _registry.values() if isinstance(entry.entry_point, str)]
    return tuple(dict.fromkeys(path.partition(":")[0] for path in paths))


def describe(id: str) -> str:
    """The description of a registered id, one line; empty where it was registered without."""
    return _entry(id).description


def make(id: str, *, seed: int = 0, **kwargs: Any) -> tuple[Environment[Any, Any], TaskBank[Any]]:
    """Makes an environment and a bank of its tasks.

    Args:
      id: one of `registered_ids()`.
      seed: determines the tasks; the same seed gives the same bank on every machine.
      **kwargs: the environment's own arguments (see its page in the documentation), for example `observation="grid"`.

    Returns:
      (env, tasks).

    Raises:
      TypeError: `id` is not a string, the environment has no argument of a name in `kwargs`, or the registered
        function makes something else.
      ValueError: `id` is not registered.
      ImportError: the registered "module:function" cannot be imported.
    """
    entry_point, defaults, _ = _entry(id)
    if isinstance(entry_point, str):
        entry_point = _imported(id, entry_point)
        _check_seed(id, entry_point)
    _check_names(id, entry_point, kwargs)
    made = entry_point(seed=seed, **{**defaults, **kwargs})
    match made:
        case (Environment(), TaskBank()):
            return made
    kinds = ", ".join(type(part).__name__ for part in made) if isinstance(made, tuple) else type(made).__name__
    raise TypeError(f"id={id!r}: its function returned ({kinds}), not (Environment, TaskBank)")


def _entry(id: str) -> _Entry:
    if not isinstance(id, str):
        raise TypeError(f"id={id!r} is not a string, such as 'Sokoban-v0'")
    if id not in _registry:
        raise ValueError(f"id={id!r} is not registered.{_hint(id, _registry)} Known ids: {', '.join(registered_ids())}")
    return _registry[id]


def _imported(id: str, path: str) -> EntryPoint:
    module, _, function = path.partition(":")
    try:
        imported = importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"id={id!r}: its entry_point={path!r} cannot be imported: {error}") from error
    if not callable(getattr(imported, function, None)):
        raise ImportError(f"id={id!r}: its entry_point={path!r} does not exist: {module} has no function {function!r}")
    return getattr(imported, function)


def _check_seed(id: str, entry_point: EntryPoint) -> None:
    parameters = inspect.signature(entry_point).parameters
    if not any(p.kind is p.VAR_KEYWORD or (p.name == "seed" and p.kind in _KEYWORD) for p in parameters.values()):
        raise TypeError(
            f"id={id!r}: entry_point takes ({', '.join(parameters)}); it must take `seed` as a keyword argument"
        )


def _check_names(id: str, entry_point: EntryPoint, arguments: Iterable[str]) -> None:
    parameters = inspect.signature(entry_point).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return
    known = [parameter.name for parameter in parameters]
    for name in arguments:
        if name not in known:
            raise TypeError(f"id={id!r} has no argument {name!r}.{_hint(name, known)} Arguments: {', '.join(known)}")


def _hint(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" Did you mean {close[0]!r}?" if close else ""
