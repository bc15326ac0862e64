"""Random parameters: the numbers of `jax.nn.initializers`, from elementwise random bits.

JAX's threefry is a program of its own for every shape, and on CPUs XLA takes half a second to compile each. Written out
elementwise it compiles several times faster, and is split over a mesh like any arithmetic.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from envs_jax.random_words import word_pairs


def normal(std: float) -> nn.initializers.Initializer:
    """Normal numbers with mean 0 and standard deviation `std`."""
    return lambda key, shape, dtype=jnp.float32: (std * _normal(key, shape, math.inf)).astype(dtype)


def truncated_normal(std: float) -> nn.initializers.Initializer:
    """Normal numbers of `std` before those beyond two standard deviations are drawn anew."""
    return lambda key, shape, dtype=jnp.float32: (std * _normal(key, shape, 2.0)).astype(dtype)


def _normal(key: jax.Array, shape: tuple[int, ...], bound: float) -> jax.Array:
    """float32 of `shape`: standard normal numbers within ±`bound`, by the inverse of their distribution."""
    high = np.float32(math.erf(bound / math.sqrt(2)))
    low = -high if high < 1 else np.nextafter(np.float32(-1), np.float32(0))
    one = np.float32(1).view(np.uint32)
    share = jax.lax.bitcast_convert_type(_bits(key, shape) >> 9 | one, jnp.float32) - 1  # 23 bits, in [0, 1)
    drawn = np.float32(math.sqrt(2)) * jax.lax.erf_inv(jnp.maximum(low, share * (high - low) + low))
    if math.isinf(bound):
        return drawn
    inside = np.nextafter(np.float32(bound), np.float32(0))
    return jnp.clip(drawn, -inside, inside)


def _bits(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """uint32 of `shape`: those of `jax.random.bits` (partitionable, JAX's default)."""
    if str(jax.random.key_impl(key)) != "threefry2x32" or math.prod(shape) >= 2**32:  # the counter below has 32 bits
        return jax.random.bits(key, shape, jnp.uint32)
    counter = jnp.zeros(shape, jnp.uint32)
    for axis in range(len(shape)):
        stride = np.uint32(math.prod(shape[axis + 1 :]))
        counter += jax.lax.broadcasted_iota(jnp.uint32, shape, axis) * stride
    first, second = word_pairs(key, counter)
    return first ^ second
