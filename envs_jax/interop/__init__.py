"""The environments behind the interfaces of other packages: gymnax, Jumanji, Gymnasium and dm_env.

`to_gymnax(env, tasks)`, `to_jumanji`, `to_gymnasium`, `to_gymnasium_vector` and `to_dm_env` take what `envs_jax.make`
returns; `register_gymnasium()` makes every id known to `gymnasium.make`. A package is imported when its function is
first asked for, so none of them is needed to import this one.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from envs_jax.interop.dm_env import to_dm_env
    from envs_jax.interop.gymnasium import register_gymnasium, to_gymnasium, to_gymnasium_vector
    from envs_jax.interop.gymnax import to_gymnax
    from envs_jax.interop.jumanji import to_jumanji

__all__ = [
    "register_gymnasium",
    "to_dm_env",
    "to_gymnasium",
    "to_gymnasium_vector",
    "to_gymnax",
    "to_jumanji",
]

_MODULES = {name: "gymnasium" if "gymnasium" in name else name.removeprefix("to_") for name in __all__}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
