"""Random words for batches: the bits of `jax.random`, computed elementwise.

JAX lowers threefry to rolled loops on CPUs, at some 10 ns a word and many small operations a call. Written out, it is
plain arithmetic that XLA vectorises: the same bits at a fraction of the time.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from envs_jax.arguments import check_integer

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)


def random_words(key: jax.Array, num_words: int) -> jax.Array:
    """uint32[num_words]: the bits of `jax.random.bits(key, (num_words,), uint32)` (partitionable, JAX's default)."""
    num_words = check_integer("num_words", num_words, 0, 2**32 - 1)
    if not _is_threefry(key):
        return jax.random.bits(key, (num_words,), jnp.uint32)
    # The upper half of JAX's 64-bit counter is 0 for all arrays that fit into memory here.
    first, second = _threefry_2x32(key, jnp.arange(num_words, dtype=jnp.uint32))
    return first ^ second


def word_pairs(key: jax.Array, index: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Two words for each index (uint32[N]): the data of the keys `jax.random.fold_in(key, index)`."""
    if not _is_threefry(key):
        data = jax.vmap(lambda i: jax.random.key_data(jax.random.fold_in(key, i)))(index)
        return data[:, 0], data[:, 1]
    return _threefry_2x32(key, index)


def check_key(key: Any) -> None:
    """Raises TypeError or ValueError unless `key` is one typed random key."""
    if not isinstance(key, jax.Array) or not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        got = f"{key.dtype}{list(key.shape)}" if isinstance(key, jax.Array | np.ndarray) else repr(key)
        raise TypeError(f"key must be a typed key, jax.random.key(seed); got {got}")
    if key.shape != ():
        raise ValueError(f"key must be one key; got an array of keys of shape {key.shape} (for a batch: jax.vmap)")


def _is_threefry(key: jax.Array) -> bool:
    check_key(key)
    return str(jax.random.key_impl(key)) == "threefry2x32"


def _threefry_2x32(key: jax.Array, counter: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Threefry-2x32 with 20 rounds on the counters (0, counter): Salmon et al., "Parallel random numbers: as easy as
    1, 2, 3" (SC 2011).
    """
    data = jax.random.key_data(key)
    schedule = (data[0], data[1], data[0] ^ data[1] ^ _PARITY)
    x, y = jnp.zeros_like(counter) + schedule[0], counter + schedule[1]
    for i in range(5):
        for rotation in _ROTATIONS[i % 2]:
            x = x + y
            y = (y << rotation | y >> (32 - rotation)) ^ x
        x = x + schedule[(i + 1) % 3]
        y = y + schedule[(i + 2) % 3] + np.uint32(i + 1)
    return x, y
