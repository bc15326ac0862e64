"""Attention as functions of arrays: rotary positions, who sees whom, and the weighted sum.

Arrays are [B, T, kv_heads, group, head_dim] for queries, where `group` query heads share a key head (grouped-query
attention, Ainslie et al. 2023, arXiv:2305.13245), and [B, T, kv_heads, head_dim] for keys and values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Past(NamedTuple):
    """What a cache holds of one layer."""

    keys: jax.Array  # [B, kv_heads, S, head_dim]
    values: jax.Array  # [B, kv_heads, S, head_dim]
    filled: jax.Array  # bool[B, S]


class Angles(NamedTuple):
    """The rotations of tokens, float32[B, T, head_dim / 2] (B is 1 where all rows have the same)."""

    cos: jax.Array
    sin: jax.Array


def rotary_angles(positions: jax.Array, head_dim: int, theta: float) -> Angles:
    """Angles of rotary position embedding (Su et al. 2021, arXiv:2104.09864): position · theta^(−2i / head_dim)."""
    frequencies = np.float32(theta) ** (-np.arange(0, head_dim, 2, dtype=np.float32) / head_dim)
    angles = positions[..., None].astype(jnp.float32) * frequencies
    return Angles(jnp.cos(angles), jnp.sin(angles))


def rotate(x: jax.Array, angles: Angles) -> jax.Array:
    """`x` [B, T, …, head_dim], with dimension i turned together with dimension i + head_dim / 2."""
    shape = (*angles.cos.shape[:2], *(1,) * (x.ndim - 3), angles.cos.shape[-1])
    cos, sin = angles.cos.reshape(shape), angles.sin.reshape(shape)
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)


def visible_tokens(
    query_block: jax.Array | None, key_block: jax.Array | None, mask: jax.Array | None
) -> jax.Array | None:
    """bool[B, Tq, Tk]: a token sees the whole of its own block and of earlier ones, but no padding.

    Args:
      query_block: int[B, Tq], or None where there is but one block.
      key_block: int[B, Tk], or None.
      mask: bool[B, Tk], False for padding; None without padding.

    Returns:
      None where every token sees every other.
    """
    if query_block is None or key_block is None:
        return None if mask is None else mask[:, None, :]
    visible = key_block[:, None, :] <= query_block[:, :, None]
    return visible if mask is None else visible & mask[:, None, :]


def attend(
    queries: jax.Array, keys: jax.Array, values: jax.Array, visible: jax.Array | None, past: Sequence[Past] = ()
) -> jax.Array:
    """Softmax attention over the tokens given and over all that caches hold.

    Args:
      queries: [B, Tq, kv_heads, group, head_dim].
      keys: [B, Tk, kv_heads, head_dim].
      values: the same.
      visible: bool[B, Tq, Tk], or None where all are; every query must see at least one token.
      past: of the same layer, one entry a cache.

    Returns:
      [B, Tq, kv_heads, group, head_dim], in the dtype of the values; softmax is in float32.
    """
    queries = queries * np.asarray(queries.shape[-1] ** -0.5, queries.dtype)
    product = lambda spec, a, b: jnp.einsum(spec, a, b, preferred_element_type=jnp.float32)
    scores = product("bqkgh,btkh->bkgqt", queries, keys)
    scores = scores if visible is None else _hidden(scores, visible[:, None, None])
    earlier = [_hidden(product("bqkgh,bkth->bkgqt", queries, p.keys), p.filled[:, None, None, None]) for p in past]
    weights = _softmax(jnp.concatenate([*earlier, scores], axis=-1) if past else scores).astype(values.dtype)
    *parts, now = jnp.split(weights, np.cumsum([p.keys.shape[2] for p in past]), axis=-1) if past else [weights]
    total = product("bkgqt,btkh->bqkgh", now, values)
    for part, p in zip(parts, past, strict=True):
        total += product("bkgqt,bkth->bqkgh", part, p.values)
    return total.astype(values.dtype)


def _hidden(scores: jax.Array, visible: jax.Array) -> jax.Array:
    """Scores, too low to matter where not visible; finite, so that rows of padding make no NaN."""
    return jnp.where(visible, scores, jnp.finfo(scores.dtype).min)


def _softmax(scores: jax.Array) -> jax.Array:
    weights = jnp.exp(scores - jax.lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True)))
    return weights / jnp.sum(weights, axis=-1, keepdims=True)
