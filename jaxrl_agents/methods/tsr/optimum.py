"""FrozenLake's ceiling where a turn of several actions is decided at one observation."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from envs_jax.frozen_lake import planning
from envs_jax.frozen_lake.env import FrozenLake, FrozenLakeTask
from envs_jax.tasks import TaskBank


def turn_optimum(
    env: FrozenLake, tasks: TaskBank[FrozenLakeTask], *, num_turns: int, max_turn_actions: int, num_actions: int
) -> jax.Array:
    """float32[T]: the expected return of the best policy of each task, exact up to float32.

    It sees where the player stands at the start of a turn, and which turns and actions are left, but not where the
    slips within a turn lead. So it is at most `planning.optimal_return` of as many actions, and equal to it for turns
    of one action.

    Args:
      env: the environment.
      tasks: T of them.
      num_turns: K.
      max_turn_actions: L; a turn has 1 … L actions, and every sequence of them is tried: 4^L.
      num_actions: of an episode, at most.
    """
    value = partial(_value, env, num_turns=num_turns, max_turn_actions=max_turn_actions, num_actions=num_actions)
    return jax.jit(lambda instances: jax.lax.map(value, instances))(tasks.instances)


def _value(env: FrozenLake, task: Any, *, num_turns: int, max_turn_actions: int, num_actions: int) -> jax.Array:
    """float32[]: of one task."""
    model = planning.transition_tensor(env, task)
    reward = jnp.sum(model.probability * model.reward, axis=-1)  # [S, A]

    def before_action(values: jax.Array) -> jax.Array:
        """[N, Q, S] → [N, 4 Q, S]: with each of the actions put first."""
        after = reward + jnp.einsum("sat,nqt->nqsa", model.probability, values)
        return jnp.moveaxis(after, -1, 2).reshape(len(values), -1, values.shape[-1])

    def before_turn(values: jax.Array, _: None) -> tuple[jax.Array, None]:
        """[num_actions + 1, S], by the actions left after a turn, → the same by those left before it."""
        best, sequences = jnp.full_like(values, -jnp.inf).at[0].set(0), values[:, None]
        for length in range(1, min(max_turn_actions, num_actions) + 1):
            sequences = before_action(sequences)
            best = best.at[length:].max(jnp.max(sequences, axis=1)[: num_actions + 1 - length])
        return best, None

    values, _ = jax.lax.scan(before_turn, jnp.zeros((num_actions + 1, len(model.terminal))), None, length=num_turns)
    return jnp.dot(values[num_actions], model.start)
