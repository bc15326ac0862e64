"""What the rollouts of an epoch are like: Table 1 of the paper, and the readings of what it leaves open."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from envs_jax.pytree import pytree_dataclass
from jaxrl_agents.methods.expseek_rollouts.rollouts import Rollouts


@pytree_dataclass
class Metrics:
    """Of the rollouts of one epoch, float32[] each."""

    success: jax.Array  # share that completed their task
    mean_return: jax.Array
    coverage: jax.Array  # share of the S · A pairs that were used
    action_diversity: jax.Array  # mean share of steps at which the actions of two rollouts differ
    pair_diversity: jax.Array  # the same of (page, action) pairs
    length: jax.Array  # steps that were kept
    retries: jax.Array


def measure(rollouts: Rollouts, num_pages: int, num_actions: int) -> Metrics:
    """The metrics of rollouts [B, T]."""
    pairs = rollouts.pages * num_actions + rollouts.actions
    used = jnp.zeros(num_pages * num_actions, bool).at[pairs.reshape(-1)].max(rollouts.mask.reshape(-1))
    return Metrics(
        success=rollouts.success.mean(),
        mean_return=rollouts.returns.mean(),
        coverage=used.mean(),
        action_diversity=diversity(rollouts.actions, rollouts.mask, num_actions),
        pair_diversity=diversity(pairs, rollouts.mask, num_pages * num_actions),
        length=rollouts.mask.sum(axis=1).mean(),
        retries=rollouts.retries.mean(),
    )


def diversity(symbols: jax.Array, mask: jax.Array, num_symbols: int) -> jax.Array:
    """float32[]: the mean normalised Hamming distance of two of the sequences [B, T], over the steps that both have.

    Without masked steps and for actions it is `envs_jax.web.tabular.diversity`. With A symbols and many sequences it is
    at most about 1 − 1/A.
    """
    steps = jnp.broadcast_to(jnp.arange(mask.shape[1]), mask.shape)
    users = jnp.zeros((mask.shape[1], num_symbols)).at[steps, symbols].add(mask.astype(jnp.float32))
    present = mask.sum(axis=0).astype(jnp.float32)
    differing = jnp.square(present) - jnp.square(users).sum(axis=1)  # of ordered pairs; one with itself agrees
    return differing.sum() / jnp.maximum((present * (present - 1)).sum(), 1)
