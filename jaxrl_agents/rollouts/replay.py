"""Episodes played again from their actions and random words: what searches do not keep."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_agents.rollouts.policy import Policy
from jaxrl_agents.search import rng
from jaxrl_agents.search.nodes import where_rows


class Replay(NamedTuple):
    """What happened."""

    observations: Any  # leaves [B, K, …]: before each turn
    actions: jax.Array  # int32[B, K, L]: those that were taken; −1 for what came after the end
    rewards: jax.Array  # float32[B, K]
    action_mask: jax.Array | None  # bool[B, K, A]: before each turn; None where the policy uses none
    state_keys: jax.Array  # uint32[B, K, n]: before each turn
    success: jax.Array  # bool[B]: in the last state
    ended: jax.Array  # bool[B]: the last state is the end of an episode


@jax.named_scope("replay")
def replay(policy: Policy, states: Any, tasks: Any, actions: jax.Array, words: jax.Array) -> Replay:
    """Plays given turns.

    Args:
      policy: its environment is played.
      states: first states, leaves [B, …].
      tasks: leaves [B, …].
      actions: int32[B, K, L]; −1 takes no step.
      words: uint32[B, K], one a turn; its later actions are driven by hashes of it, as in a search.
    """
    env = policy.env

    def turn(state: Any, played: tuple[jax.Array, jax.Array]) -> tuple[Any, tuple[Any, ...]]:
        action, word = played
        mask = jax.vmap(env.action_mask)(state, tasks) if policy.use_action_mask else None
        before = (jax.vmap(env.observe)(state, tasks), mask, jax.vmap(env.state_key)(state))
        reward, taken = jnp.zeros(word.shape), []
        for number in range(action.shape[-1]):
            ended = jnp.logical_or(*jax.vmap(env.status)(state, tasks))
            taken.append(jnp.where(ended, -1, action[:, number]))
            after, step_reward, _, _ = jax.vmap(env.transition)(
                state, jnp.maximum(taken[-1], 0), rng.action_words(word, number), tasks
            )
            state = where_rows(taken[-1] >= 0, after, state)
            reward += jnp.where(taken[-1] >= 0, step_reward, 0)
        return state, (*before, jnp.stack(taken, axis=-1), reward)

    last, turns = jax.lax.scan(turn, states, (jnp.moveaxis(actions, 1, 0), words.T))
    observations, mask, state_keys, actions, rewards = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1), turns)
    ended = jnp.logical_or(*jax.vmap(env.status)(last, tasks))
    return Replay(observations, actions, rewards, mask, state_keys, jax.vmap(env.success)(last, tasks), ended)
