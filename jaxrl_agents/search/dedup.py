"""Merging candidates that lead to the same state."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from envs_jax.barriers import once
from jaxrl_agents.search.nodes import added
from jaxrl_agents.search.selection import RANKED, ordered

_CHUNK = 8  # candidates compared at once: with more, XLA's CPU compiler no longer makes vector code


@jax.named_scope("select")
def keep_best(turn: jax.Array, scores: jax.Array, keys: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
    """Leaves of the candidates of a root with equal keys only the best-scored, the first of equals.

    Args:
      turn: as in `once`.
      scores: float32[C, B]; −inf for what is not a candidate.
      keys: the words of the keys, uint32[C, B] each; compared in full.

    Returns:
      (scores with −inf for the merged ones, int32[B]: how many they are).
    """
    order = ordered(scores)
    if len(scores) <= RANKED:
        merged = jnp.zeros(scores.shape, jnp.int32)
        for start in range(0, len(scores), _CHUNK):
            others = range(start, min(start + _CHUNK, len(scores)))
            merged = once(turn, partial(_against, others), merged, order, keys)
    else:
        merged = _one_by_one(order, keys)
    merged = (merged > 0) & (scores > -jnp.inf)
    return jnp.where(merged, -jnp.inf, scores), added(merged)


def _against(others: range, merged: jax.Array, order: jax.Array, keys: tuple[jax.Array, ...]) -> jax.Array:
    """int32[C, B]: `merged`, and 1 where one of `others` has the same key and goes first."""
    for other in others:
        merged = jnp.maximum(merged, _beaten(order, keys, other))
    return merged


def _one_by_one(order: jax.Array, keys: tuple[jax.Array, ...]) -> jax.Array:
    """`_against` all, as a loop, for many candidates."""
    against = lambda other, merged: jnp.maximum(merged, _beaten(order, keys, other))
    return jax.lax.fori_loop(0, len(order), against, jnp.zeros(order.shape, jnp.int32))


def _beaten(order: jax.Array, keys: tuple[jax.Array, ...], other: int | jax.Array) -> jax.Array:
    """int32[C, B]: 1 where candidate `other` has the same key and goes first (booleans would not vectorise)."""
    differs = jnp.uint32(0)
    for word in keys:
        differs |= word ^ word[other]
    number = np.arange(len(order), dtype=np.int32)[:, None]
    first = (order[other] > order - (number > other).astype(np.int32)).astype(jnp.int32)
    return jnp.where(differs == 0, first, 0)
