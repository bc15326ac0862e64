"""Merging candidates that lead to the same state."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def keep_best(turn: jax.Array, scores: jax.Array, keys: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Leaves of the candidates of a root with equal keys only the best-scored, the first of equals.

    Args:
      turn: as in `barriers.once`.
      scores: float32[C, B]; −inf for what is not a candidate.
      keys: uint32[C, B, n]; compared in full.

    Returns:
      (scores with −inf for the merged ones, int32[B]: how many they are).
    """
    index = jnp.arange(len(scores))[:, None]

    def against(other: jax.Array, merged: jax.Array) -> jax.Array:
        better = (scores[other] > scores) | ((scores[other] == scores) & (other < index))
        return merged | (better & jnp.all(keys[other] == keys, axis=-1))

    merged = jax.lax.fori_loop(0, len(scores), against, jnp.zeros(scores.shape, bool))
    merged &= scores > -jnp.inf
    return jnp.where(merged, -jnp.inf, scores), merged.sum(0, dtype=jnp.int32)
