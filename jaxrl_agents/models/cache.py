"""The decoding cache: keys and values of the tokens that a row has seen, so that they are computed once.

The rows are the leading axis of every leaf, and what belongs to a row is contiguous: gathering rows by parent index
copies whole rows. Tokens are stored without padding, so that the j-th of a row is the token at position j.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from envs_jax.pytree import pytree_dataclass
from jaxrl_agents.models.config import TransformerConfig


@pytree_dataclass
class Cache:
    """Keys and values of B rows of different lengths; S tokens fit in each."""

    keys: jax.Array  # float32 or bfloat16[B, layers, kv_heads, S, head_dim]: rotated
    values: jax.Array  # the same
    length: jax.Array  # int32[B]: tokens it was given; more than S where a row has overflowed
    before: Any = None  # Cache | None: of the tokens that stand before these; it is read and never written

    @property
    def capacity(self) -> int:
        """S."""
        return self.keys.shape[3]

    @property
    def seen(self) -> jax.Array:
        """int32[B]: tokens, with those before."""
        return self.length if self.before is None else self.length + self.before.seen

    @property
    def filled(self) -> jax.Array:
        """bool[B, S]: which places hold a token."""
        return jnp.arange(self.capacity) < self.length[:, None]

    @property
    def overflowed(self) -> jax.Array:
        """bool[B]: rows that were given more tokens than fit; their logits and values are NaN."""
        own = self.length > self.capacity
        return own if self.before is None else own | self.before.overflowed

    def after(self, before: Cache | None) -> Cache:
        """The cache as one of tokens that follow those of another.

        What branches off from the same tokens, such as the candidates of a node, so shares one cache of them, and only
        short ones of its own are written and copied.
        """
        return dataclasses.replace(self, before=before)

    def rows(self, index: jax.Array) -> Cache:
        """The rows `index` int[B'], such as the parents of the nodes that a search keeps."""
        return jax.tree.map(lambda leaf: leaf[index], self)

    def extended(self, keys: jax.Array, values: jax.Array, positions: jax.Array, count: jax.Array) -> Cache:
        """The cache with new tokens behind those it has.

        Args:
          keys: [B, layers, T, kv_heads, head_dim].
          values: the same.
          positions: int32[B, T]: where each token belongs, those before not counted; S or more drops it.
          count: int32[B]: how many of the T tokens are no padding.
        """
        rows = jnp.arange(positions.shape[0])[:, None]
        put = lambda old, new: old.at[rows, :, :, positions].set(
            new.transpose(0, 2, 1, 3, 4).astype(old.dtype), mode="drop"
        )
        return Cache(put(self.keys, keys), put(self.values, values), self.length + count, self.before)


def empty_cache(config: TransformerConfig, batch_size: int, capacity: int) -> Cache:
    """An empty cache for `batch_size` rows of up to `capacity` tokens."""
    if capacity < 1:
        raise ValueError(f"capacity={capacity} must be at least 1")
    shape = batch_size, config.num_layers, config.kv_heads, capacity, config.head_width
    zeros = jnp.zeros(shape, config.compute_dtype)
    return Cache(zeros, zeros, jnp.zeros(batch_size, jnp.int32))
