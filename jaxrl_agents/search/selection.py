"""The best W of C candidates, and moving what they hold."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def best(scores: jax.Array, width: int) -> tuple[jax.Array, jax.Array]:
    """(scores float32[W, B], indices int32[W, B]) of the best W of [C, B], best first; ties go to the lower index."""
    values, indices = jax.lax.top_k(scores.T, width)
    return values.T, indices.T


def take(leaves: Any, indices: jax.Array) -> Any:
    """Rows of every leaf: `indices` int32[W, …] picks along axis 0 of leaves [C, …, …], giving [W, …, …]."""

    def pick(leaf: jax.Array) -> jax.Array:
        rows = indices.reshape(indices.shape + (1,) * (leaf.ndim - indices.ndim))
        return jnp.take_along_axis(leaf, rows, axis=0)

    return jax.tree.map(pick, leaves)
