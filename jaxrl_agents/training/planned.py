"""An expert that plans: it searches once, from the first state, and plays what it found."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from envs_jax.environment import Environment
from jaxrl_agents import search


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
        model = search.from_env(env)
        states = jax.vmap(lambda one: env.initial(jnp.uint32(0), one))(tasks)
        found = search.beam_search(
            None, jax.random.key(0), model.root(None, states, tasks), model, tasks=tasks,
            num_turns=self.num_turns, beam_width=self.beam_width, candidates="enumerate", deduplicate=True,
        )  # fmt: skip
        return found.trajectories(1).plan()[0]

    def act(self, env: Environment[Any, Any], plan: jax.Array, state: Any, task: Any, word: jax.Array) -> jax.Array:
        """int32[]: the next action of the plan."""
        del env, task, word
        number = state.steps.astype(jnp.int32)
        return jnp.where(number < len(plan), jnp.maximum(plan[jnp.minimum(number, len(plan) - 1)], 0), 0)
