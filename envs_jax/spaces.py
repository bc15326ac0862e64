"""Descriptions of actions and observations: what they look like, a random one, and whether a value is one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True)
class Discrete:
    """The integers `0 … n - 1`, as scalars of `dtype`."""

    n: int
    dtype: Any = np.int32
    shape: tuple[int, ...] = ()

    def sample(self, key: jax.Array) -> jax.Array:
        """One uniform element."""
        return jax.random.randint(key, (), 0, self.n, self.dtype)

    def contains(self, x: Any) -> bool:
        """Whether `x` (concrete) is an integer scalar of the space."""
        x = np.asarray(x)
        return x.shape == () and np.issubdtype(x.dtype, np.integer) and 0 <= int(x) < self.n


@dataclasses.dataclass(frozen=True)
class Box:
    """Arrays of a fixed `shape` and `dtype` with every element in `[low, high]`, both inclusive."""

    low: float
    high: float
    shape: tuple[int, ...]
    dtype: Any

    def sample(self, key: jax.Array) -> jax.Array:
        """One array, uniform in the bounds."""
        if jnp.issubdtype(self.dtype, jnp.floating):
            return jax.random.uniform(key, self.shape, self.dtype, self.low, self.high)
        if self.dtype == np.bool_:
            return jax.random.bernoulli(key, shape=self.shape)
        return jax.random.randint(key, self.shape, int(self.low), int(self.high) + 1).astype(self.dtype)

    def contains(self, x: Any) -> bool:
        """Whether `x` (concrete) has the shape and dtype and lies within the bounds."""
        x = np.asarray(x)
        in_form = x.shape == self.shape and x.dtype == np.dtype(self.dtype)
        return in_form and bool(np.all(x >= self.low) and np.all(x <= self.high))


@dataclasses.dataclass(frozen=True)
class Dict:
    """Mappings with one value from each of the named `spaces`."""

    spaces: Mapping[str, Space]

    def sample(self, key: jax.Array) -> dict[str, Any]:
        """One mapping, its values independent."""
        keys = jax.random.split(key, len(self.spaces))
        return {name: space.sample(k) for (name, space), k in zip(self.spaces.items(), keys, strict=True)}

    def contains(self, x: Any) -> bool:
        """Whether `x` is a mapping with exactly these names and valid values."""
        if not isinstance(x, Mapping) or x.keys() != self.spaces.keys():
            return False
        return all(space.contains(x[name]) for name, space in self.spaces.items())


Space = Discrete | Box | Dict
