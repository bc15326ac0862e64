"""FrozenLake's scripted policy: the optimal one."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from envs_jax.frozen_lake import planning
from envs_jax.frozen_lake.env import FrozenLake, FrozenLakeState, FrozenLakeTask


@dataclasses.dataclass(frozen=True)
class Optimal:
    """The best policy of those that do not look at the time, by value iteration without an end (`planning`)."""

    def plan(self, env: FrozenLake, task: FrozenLakeTask) -> jax.Array:
        return planning.infinite_horizon(env, task).policy

    def act(
        self, env: FrozenLake, plan: jax.Array, state: FrozenLakeState, task: FrozenLakeTask, word: jax.Array
    ) -> jax.Array:
        del task, word
        return plan[state.row.astype(jnp.int32) * env.layout.columns + state.column.astype(jnp.int32)]
