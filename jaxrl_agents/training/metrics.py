"""What a step reports about the trajectories that it collected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_agents.rollouts.types import Trajectory
from jaxrl_agents.search import rng

Metrics = dict[str, jax.Array]  # numbers, [] each, by name


def of_trajectory(trajectory: Trajectory, group_size: int, num_actions: int) -> Metrics:
    """Means over the episodes, and what they cost.

    Returns:
      "success", "return", "length" (actions), "coverage", "diversity": float32[]; "env_steps", "policy_forwards":
      int32[], those of the search included.
    """
    valid = trajectory.mask.any(axis=-1)
    mean = lambda values: jnp.sum(jnp.where(valid, values, 0)) / jnp.maximum(jnp.sum(valid), 1)
    return {
        "success": mean(trajectory.success.astype(jnp.float32)),
        "return": mean(trajectory.returns),
        "length": mean(trajectory.lengths.astype(jnp.float32)),
        "coverage": coverage(trajectory, group_size),
        "diversity": diversity(trajectory.actions, group_size, num_actions),
        "env_steps": jnp.sum(trajectory.counts.env_steps),
        "policy_forwards": jnp.sum(trajectory.counts.policy_forwards),
    }


def coverage(trajectory: Trajectory, group_size: int) -> jax.Array:
    """float32[]: the share of turns that no other turn of the group repeats, the first of each kind counting as new.

    Turns are of a kind where state and actions are the same. They are compared by a hash of 31 bits: of n turns of a
    group about n²/2³² are taken for another.
    """
    columns = [*jnp.moveaxis(trajectory.state_keys, -1, 0), *jnp.moveaxis(trajectory.actions, -1, 0)]
    kind = jnp.zeros(trajectory.mask.shape, jnp.uint32)
    for column in columns:
        kind = rng.mix(kind ^ column.astype(jnp.uint32), 1)
    blank = np.uint32(2**32 - 1)
    kind = jnp.where(trajectory.mask, kind >> 1, blank).reshape(-1, group_size * kind.shape[1])
    ordered = jnp.sort(kind, axis=-1)
    new = jnp.concatenate([jnp.ones_like(ordered[:, :1], bool), ordered[:, 1:] != ordered[:, :-1]], axis=-1)
    return jnp.sum(new & (ordered != blank)) / jnp.maximum(jnp.sum(trajectory.mask), 1)


def diversity(actions: jax.Array, group_size: int, num_actions: int) -> jax.Array:
    """float32[]: the mean over pairs of a group's rows of the share of actions in which they differ.

    Having ended differs from any action; actions that no row of the group took do not count. 0 for groups of one.
    """
    grouped = actions.reshape(-1, group_size, actions[0].size)
    users = jnp.sum(grouped[..., None] == jnp.arange(-1, num_actions), axis=1, dtype=jnp.float32)  # [P, K · L, A + 1]
    agreeing = jnp.sum(users * (users - 1), axis=-1)
    pairs = group_size * (group_size - 1)
    anyone = users[..., 0] < group_size
    return jnp.sum(jnp.where(anyone, pairs - agreeing, 0)) / jnp.maximum(pairs * jnp.sum(anyone), 1)


def divergence(metrics: Mapping[str, Any]) -> str | None:
    """What is not finite, as "gradient_norm is nan"; None where all is well. Waits for the metrics."""
    for name in ("loss", "gradient_norm", *metrics):
        value = float(metrics.get(name, 0.0))
        if not np.isfinite(value):
            return f"{name} is {value}"
    return None
