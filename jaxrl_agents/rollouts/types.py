"""What rollouts give: one type from every strategy to every loss."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from envs_jax.pytree import pytree_dataclass, static_field
from jaxrl_agents.rollouts.policy import Policy

POLICY, EXPERT, HINT = range(3)  # values of `Trajectory.source`


class Counts(NamedTuple):
    """What each row cost, int32[B]: all the rows and nodes that were searched for it, used or not."""

    env_steps: jax.Array  # transitions of episodes that had not ended
    policy_forwards: jax.Array  # observations that went through the policy, but for those of turns tried again


@pytree_dataclass
class Trajectory:
    """B episodes of up to K turns of up to L actions; the rows of a group play the same task.

    After an episode's end `mask` is False, actions are −1, rewards and log-probabilities 0, and the observation is that
    of the last state.
    """

    observations: Any  # leaves [B, K, …]: what each turn saw
    actions: jax.Array  # int32[B, K, L]; −1 for what was not taken
    # float32[B, K]: of the turn under the policy, at the temperature that it was drawn with; where a search picks among
    # turns or rollouts, not the probability of ending with it
    log_probs: jax.Array
    rewards: jax.Array  # float32[B, K]: the sum over the turn's actions
    mask: jax.Array  # bool[B, K]: the turn was taken
    loss_mask: jax.Array  # bool[B, K]: the turn is learned from; within `mask`
    action_mask: jax.Array | None  # bool[B, K, A]: the actions that might have come first; None without a mask
    state_keys: jax.Array  # uint32[B, K, n]: `env.state_key` before each turn
    success: jax.Array  # bool[B]: of the last state
    ended: jax.Array  # bool[B]: the episode is over, not cut off after K turns
    source: jax.Array  # int8[B, K]: POLICY, EXPERT or HINT; strategies give POLICY
    prefix_length: jax.Array  # int32[B]: turns at the start that were not the policy's choice; strategies give 0
    groups: jax.Array  # int32[B]: rows with the same number share a task
    counts: Counts
    simulated: bool = static_field(default=False)  # outcomes were drawn by a search that picked among them

    @property
    def returns(self) -> jax.Array:
        """float32[B]: the undiscounted sum of the rewards."""
        return jnp.sum(self.rewards, axis=-1)

    @property
    def lengths(self) -> jax.Array:
        """int32[B]: actions taken."""
        return jnp.sum(self.actions >= 0, axis=(-2, -1), dtype=jnp.int32)

    @property
    def final(self) -> jax.Array:
        """bool[B, K]: the turn in which the episode ended."""
        return self.mask & ~jnp.pad(self.mask[:, 1:], [(0, 0), (0, 1)]) & self.ended[:, None]

    def replace(self, **fields: Any) -> Trajectory:
        """The trajectory with other `fields`."""
        return dataclasses.replace(self, **fields)


class Strategy(Protocol):
    """How trajectories are collected: a frozen dataclass of options that is called like this."""

    def check(self, policy: Policy, group_size: int) -> None:
        """Raises ValueError where the options do not fit the policy or the groups, before anything is traced."""

    def __call__(
        self, params: Any, key: jax.Array, policy: Policy, tasks: Any, *, group_size: int, num_turns: int
    ) -> Trajectory:
        """Plays each of P tasks N times.

        Args:
          params: of the policy's model.
          key: a typed key, or one per task, [P]; then a task's rows do not depend on the other tasks.
          policy: the environment, the model and how the one sees the other.
          tasks: task instances, leaves [P, …], or a TaskBank of P.
          group_size: N.
          num_turns: K.

        Returns:
          B = P · N rows, group by group: row b belongs to group b // N, and `groups` says so.
        """
