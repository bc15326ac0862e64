"""Paths through a search tree, and playing them."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl_agents.search.types import SearchTree, Trajectories


def best_paths(tree: Any, k: int, simulated: bool) -> Trajectories:
    """The k best paths of a SearchTree."""
    if not 1 <= k <= tree.width:
        raise ValueError(f"k={k}; this search kept {tree.width} paths per root: 1 … {tree.width}")
    return _best_paths(tree, k, simulated)


@partial(jax.jit, static_argnames=("k", "simulated"))
def _best_paths(tree: SearchTree, k: int, simulated: bool) -> Trajectories:
    order = jnp.argsort(-tree.final_values, axis=1, stable=True)[:, :k]

    def back(slot: jax.Array, turn: Any) -> tuple[jax.Array, Any]:
        parents, action, *rest = turn
        pick = lambda leaf: jnp.take_along_axis(leaf, slot.reshape(slot.shape + (1,) * (leaf.ndim - 2)), axis=1)
        parent = jnp.maximum(pick(parents).astype(jnp.int32), 0)
        return parent, tuple(map(pick, (action, *rest)))

    rows = (tree.parents, tree.action_from_parent, tree.lengths, tree.rewards, tree.log_probs)
    _, (actions, lengths, rewards, log_probs) = jax.lax.scan(back, order, rows, reverse=True)
    by_root = lambda leaf: jnp.moveaxis(leaf, 0, 2)
    lengths = by_root(lengths).astype(jnp.int32)
    pick = lambda leaf: jnp.take_along_axis(leaf, order, axis=1)
    return Trajectories(
        by_root(actions).astype(jnp.int32), lengths, by_root(rewards), by_root(log_probs), lengths > 0,
        pick(tree.final_returns), pick(tree.final_values), simulated,
    )  # fmt: skip
