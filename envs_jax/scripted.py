"""Policies written by hand: baselines to compare with, and experts to learn from.

Unlike a learned policy a script may look at the state and the task, also at what observations do not show. Those of an
environment stand beside it: `envs_jax.web.scripted`, `envs_jax.frozen_lake.scripted`.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from envs_jax.environment import Environment


class Script(Protocol):
    """A policy as two pure functions of one episode, which `jax.vmap` makes those of a batch.

    Scripts are hashable and hold no arrays: to `jax.jit` they are static arguments.
    """

    def plan(self, env: Any, task: Any) -> Any:
        """What is worked out once, from the task alone; None where there is nothing."""

    def act(self, env: Any, plan: Any, state: Any, task: Any, word: jax.Array) -> jax.Array:
        """int32[]: the action in a running episode; `word` uint32[] is random."""


@dataclasses.dataclass(frozen=True)
class Uniform:
    """A uniformly random action among those that `action_mask` marks: `envs_jax.random_policy` as a script."""

    def plan(self, env: Environment[Any, Any], task: Any) -> None:
        del env, task

    def act(self, env: Environment[Any, Any], plan: None, state: Any, task: Any, word: jax.Array) -> jax.Array:
        del plan
        rank = jnp.cumsum(env.action_mask(state, task), dtype=jnp.int32)
        picked = (word % jnp.maximum(rank[-1], 1).astype(jnp.uint32)).astype(jnp.int32)
        return jnp.argmax(rank > picked).astype(jnp.int32)


def perform(
    env: Environment[Any, Any], script: Script, state: Any, task: Any, words: jax.Array, choices: jax.Array
) -> jax.Array:
    """The actions of one episode that a script plays.

    Args:
      env: the environment.
      script: what is played.
      state: where the episode starts.
      task: one task instance.
      words: uint32[K], which drive the K transitions.
      choices: uint32[K], which the script may draw its actions from.

    Returns:
      int32[K], −1 after the end.
    """
    plan = script.plan(env, task)

    def step(state: Any, drawn: tuple[jax.Array, jax.Array]) -> tuple[Any, jax.Array]:
        word, choice = drawn
        ended = jnp.logical_or(*env.status(state, task))
        action = script.act(env, plan, state, task, choice)
        return env.transition(state, action, word, task)[0], jnp.where(ended, -1, action)

    return jax.lax.scan(step, state, (words, choices))[1]
