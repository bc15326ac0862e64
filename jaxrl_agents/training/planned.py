"""An expert that plans: it searches once, from the first state, and plays what it found."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from envs_jax.environment import Environment
from jaxrl_agents import search


def best_plans(env: Environment[Any, Any], tasks: Any, num_turns: int, beam_width: int) -> jax.Array:
    """int32[T, num_turns]: for each task the path of the highest return that a beam finds, −1 after its end.

    Args:
      env: an environment without chance.
      tasks: a pytree of leaves `[T, …]`.
      num_turns: the longest path.
      beam_width: nodes that are kept each turn; equal states are kept once.
    """
    model = search.from_env(env)
    states = jax.vmap(lambda task: env.initial(jnp.uint32(0), task))(tasks)
    found = search.beam_search(
        None, jax.random.key(0), model.root(None, states, tasks), model, tasks=tasks,
        num_turns=num_turns, beam_width=beam_width, candidates="enumerate", deduplicate=True,
    )  # fmt: skip
    return found.trajectories(1).plan()


@dataclasses.dataclass(frozen=True)
class Planned:
    """The path of the highest return that a beam finds, as a script for an environment without chance.

    Attributes:
      beam_width: nodes that are kept each turn; equal states are kept once.
      num_turns: the longest path; an episode that is longer ends with action 0.
    """

    beam_width: int = 64
    num_turns: int = 32

    def plan(self, env: Environment[Any, Any], task: Any) -> jax.Array:
        """int32[num_turns]: the actions, −1 after the end."""
        tasks = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], task)
        return best_plans(env, tasks, self.num_turns, self.beam_width)[0]

    def act(self, env: Environment[Any, Any], plan: jax.Array, state: Any, task: Any, word: jax.Array) -> jax.Array:
        """int32[]: the next action of the plan."""
        del env, task, word
        number = state.steps.astype(jnp.int32)
        return jnp.where(number < len(plan), jnp.maximum(plan[jnp.minimum(number, len(plan) - 1)], 0), 0)
