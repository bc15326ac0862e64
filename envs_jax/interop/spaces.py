"""Our spaces in the types of other packages, and observations as NumPy values that lie in them."""

from __future__ import annotations

from typing import Any

import numpy as np

from envs_jax.spaces import Box, Dict, Discrete, Space


def to_gymnax_space(space: Space) -> Any:
    """The gymnax space: `Discrete` (int32), `Box` or `Dict`."""
    from gymnax.environments import spaces

    class DictOfItems(spaces.Dict):
        """gymnax's own `Dict.contains` reads attributes; these observations are dictionaries, as `sample` returns."""

        def contains(self, x: Any) -> Any:
            inside = [space.contains(x[name]) for name, space in self.spaces.items()]
            return np.logical_and.reduce(inside)

    if isinstance(space, Dict):
        return DictOfItems({name: to_gymnax_space(inner) for name, inner in space.spaces.items()})
    if isinstance(space, Discrete):
        return spaces.Discrete(space.n)
    return spaces.Box(space.low, space.high, space.shape, space.dtype)


def to_jumanji_spec(space: Discrete | Box, name: str = "") -> Any:
    """The Jumanji spec: `DiscreteArray` or `BoundedArray`."""
    from jumanji import specs

    if isinstance(space, Discrete):
        return specs.DiscreteArray(space.n, dtype=space.dtype, name=name)
    return specs.BoundedArray(space.shape, space.dtype, _bound(space, space.low), _bound(space, space.high), name)


def to_gymnasium_space(space: Space) -> Any:
    """The Gymnasium space: `Discrete` (int64, which its checkers want), `Box` or `Dict`."""
    from gymnasium import spaces

    if isinstance(space, Dict):
        return spaces.Dict({name: to_gymnasium_space(inner) for name, inner in space.spaces.items()})
    if isinstance(space, Discrete):
        return spaces.Discrete(space.n)
    return spaces.Box(_bound(space, space.low), _bound(space, space.high), space.shape, space.dtype)


def to_dm_env_spec(space: Space, name: str | None = None) -> Any:
    """The dm_env spec: `DiscreteArray` (int64), `BoundedArray`, or a dictionary of specs."""
    from dm_env import specs

    if isinstance(space, Dict):
        return {key: to_dm_env_spec(inner, key) for key, inner in space.spaces.items()}
    if isinstance(space, Discrete):
        return specs.DiscreteArray(space.n, np.int64, name)
    return specs.BoundedArray(space.shape, space.dtype, _bound(space, space.low), _bound(space, space.high), name)


def to_numpy(space: Space, observation: Any) -> Any:
    """An observation, or a batch of them, as writable NumPy arrays; what a Discrete space describes becomes int64."""
    if isinstance(space, Dict):
        return {name: to_numpy(inner, observation[name]) for name, inner in space.spaces.items()}
    if isinstance(space, Discrete):
        return np.array(observation, np.int64)[()]
    return np.array(observation)


def _bound(space: Box, value: float) -> Any:
    return np.dtype(space.dtype).type(value)
