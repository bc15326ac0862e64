"""The best W of C candidates, and moving what they hold."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_agents.search.barriers import once

RANKED = 128  # up to so many candidates all pairs are compared, which is much faster than sorting on every backend


@jax.named_scope("select")
def best(turn: jax.Array, scores: jax.Array, width: int) -> tuple[jax.Array, jax.Array]:
    """(scores float32[W, B], indices int32[W, B]) of the best W of [C, B], best first; ties go to the lower index.

    Where there are fewer candidates than W, the rest have score −inf and index 0. `turn` is as in `once`.
    """
    if len(scores) < width:
        scores = jnp.pad(scores, [(0, width - len(scores)), (0, 0)], constant_values=-jnp.inf)
    if len(scores) > RANKED:
        values, indices = jax.lax.top_k(scores.T, width)
        return values.T, indices.T
    ranks = once(turn, ranks_of, scores)
    indices = once(turn, lambda ranks: _with_ranks(ranks, width), ranks)
    return jnp.take_along_axis(scores, indices, axis=0), indices


def ranks_of(scores: jax.Array) -> jax.Array:
    """int32[C, B]: how many candidates are better, or as good with a lower index."""
    order = ordered(scores)
    number = np.arange(len(scores), dtype=np.int32)[:, None]
    ranks = jnp.zeros(scores.shape, jnp.int32)
    for other in range(len(scores)):
        ahead = (other < number).astype(np.int32)  # an equal one with a lower index counts as better
        ranks += (order[other] > order - ahead).astype(jnp.int32)
    return ranks


def ordered(scores: jax.Array) -> jax.Array:
    """int32 that compare as the float32 `scores` do."""
    bits = jax.lax.bitcast_convert_type(jnp.where(scores == 0, 0.0, scores), jnp.int32)  # −0 and 0 are equal
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


def _with_ranks(ranks: jax.Array, width: int) -> jax.Array:
    """int32[W, B]: the candidate of each rank below W."""
    rank = np.arange(width, dtype=np.int32)[:, None]
    found = jnp.zeros((width, ranks.shape[1]), jnp.int32)
    for index, candidate in enumerate(ranks):
        found = jnp.where(candidate == rank, index, found)
    return found


@jax.named_scope("gather")
def take(leaves: Any, indices: jax.Array) -> Any:
    """Rows of every leaf: `indices` int32[W, …] picks along axis 0 of leaves [C, …, …], giving [W, …, …]."""

    def pick(leaf: jax.Array) -> jax.Array:
        rows = indices.reshape(indices.shape + (1,) * (leaf.ndim - indices.ndim))
        return jnp.take_along_axis(leaf, rows, axis=0, mode="promise_in_bounds")

    return jax.tree.map(pick, leaves)
