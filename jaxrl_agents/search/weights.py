"""Action weights: what a search says about the root's actions, as a target for a policy."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxrl_agents.search.nodes import where_rows


def softmax(scores: jax.Array, temperature: jax.Array) -> jax.Array:
    """float32[M, B]: weights ∝ exp(score / temperature) that sum to 1 over the first axis; 0 for scores of −inf."""
    top = jnp.max(scores, axis=0)
    tried = top > -jnp.inf
    weights = jnp.exp((scores - jnp.where(tried, top, 0)) / temperature)
    return weights / jnp.where(tried, jnp.sum(weights, axis=0), 1)


def best_action(action: jax.Array, value: jax.Array) -> jax.Array:
    """The first actions [B, …] of the best paths; −1 where their score [B] is −inf or NaN: there is no path."""
    return where_rows(value > -jnp.inf, action, jnp.full_like(action, -1))


def action_scores(scores: jax.Array, actions: jax.Array, num_actions: int) -> jax.Array:
    """float32[A, B]: the best score [M, B] of the candidates with each action [M, B]; −inf where there is none."""
    numbers = jnp.arange(num_actions)[:, None, None]
    return jnp.max(jnp.where(actions == numbers, scores, -jnp.inf), axis=1)


def best_below(first: jax.Array, final: jax.Array, origin: jax.Array) -> jax.Array:
    """float32[M, B]: of each root candidate the best score of the nodes below it.

    Args:
      first: float32[M, B], the candidates' own scores; what counts where nothing of theirs is left.
      final: float32[W, B], the scores of the last frontier; −inf for empty slots.
      origin: int[W, B], the root candidate that each descends from.
    """
    numbers = jnp.arange(len(first))[:, None, None]
    below = jnp.max(jnp.where(origin == numbers, final, -jnp.inf), axis=1)
    return jnp.where(below > -jnp.inf, below, first)
