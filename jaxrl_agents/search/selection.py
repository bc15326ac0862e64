"""The best W of C candidates, and moving what they hold."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from envs_jax.barriers import once

RANKED = 128  # up to so many candidates all pairs are compared, which is much faster than sorting on every backend
_CHOSEN_AMONG = 32  # rows among which a tree of selects, which is vector code, is faster than a gather on CPUs


@jax.named_scope("select")
def best(turn: jax.Array, scores: jax.Array, width: int) -> tuple[jax.Array, jax.Array]:
    """(scores float32[W, B], indices int32[W, B]) of the best W of [C, B], best first; ties go to the lower index.

    Where there are fewer candidates than W, the rest have score −inf and index 0. `turn` is as in `once`.
    """
    if len(scores) < width:
        scores = jnp.pad(scores, [(0, width - len(scores)), (0, 0)], constant_values=-jnp.inf)
    if len(scores) > RANKED:
        values, indices = jax.lax.top_k(jnp.where(scores == 0, 0.0, scores).T, width)  # which ranks −0 below 0
        return values.T, indices.T
    ranks = once(turn, ranks_of, scores)
    indices = once(turn, lambda ranks: _with_ranks(ranks, width), ranks)
    return take(scores, indices), indices


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
        if leaf.ndim == indices.ndim and len(leaf) <= _CHOSEN_AMONG:
            return _chosen(leaf, indices)
        rows = indices.reshape(indices.shape + (1,) * (leaf.ndim - indices.ndim))
        return jnp.take_along_axis(leaf, rows, axis=0, mode="promise_in_bounds")

    return jax.tree.map(pick, leaves)


def _chosen(leaf: jax.Array, indices: jax.Array) -> jax.Array:
    """`take` by a tree of selects, one level for each bit of the indices."""
    rows = list(leaf[:, None])
    bit = 0
    while len(rows) > 1:
        odd = (indices >> bit) & 1 > 0
        pairs = zip(rows[::2], [*rows[1::2], rows[-1]] if len(rows) % 2 else rows[1::2], strict=True)
        rows = [jnp.where(odd, high, low) for low, high in pairs]
        bit += 1
    return jnp.broadcast_to(rows[0], indices.shape)
