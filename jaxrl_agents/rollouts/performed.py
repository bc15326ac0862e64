"""Episodes that a script plays: what experts show, and what baselines reach."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from envs_jax.scripted import Script, perform
from jaxrl_agents.arguments import count
from jaxrl_agents.rollouts.collect import demonstrated, starts, turn_words
from jaxrl_agents.rollouts.policy import Policy
from jaxrl_agents.rollouts.types import Trajectory
from jaxrl_agents.search import rng
from jaxrl_agents.search.arguments import unbanked


def performed(policy: Policy, key: jax.Array, tasks: Any, script: Script, *, num_turns: int) -> Trajectory:
    """Trajectories of a script, for `Learner.supervised_step` or to be compared with.

    Args:
      policy: its environment is played; a turn is `max_turn_actions` of the script's actions, fewer where the episode
        ends. The script sees what each of them leads to, the policy will see the first state of the turn.
      key: see `Strategy`; draws the first states, the words of the steps and those that the script may use.
      tasks: leaves [P, …], or a TaskBank of P.
      script: see `envs_jax.scripted`; it plans for episodes of at most `num_turns` turns.
      num_turns: K.

    Returns:
      P rows, each a group, as of `demonstrated`.
    """
    num_turns, tasks = count("num_turns", num_turns), unbanked(tasks)
    keys, states = starts(policy, key, tasks)
    num_actions = num_turns * policy.max_turn_actions
    limit = jnp.minimum(tasks.time_limit.astype(jnp.int32), num_actions).astype(tasks.time_limit.dtype)
    words = rng.action_words(turn_words(keys, num_turns)[..., None], jnp.arange(policy.max_turn_actions))
    words = words.reshape(-1, num_actions)
    play = jax.vmap(partial(perform, policy.env, script))
    actions = play(states, replace(tasks, time_limit=limit), words, rng.mix(words, rng.PROPOSE))
    return demonstrated(policy, key, tasks, actions.reshape(-1, num_turns, policy.max_turn_actions))
