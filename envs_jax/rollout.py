"""Whole trajectories of one environment under a policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from envs_jax.arguments import check_integer
from envs_jax.environment import Environment, Observation
from envs_jax.pytree import pytree_dataclass
from envs_jax.random_words import check_key

Policy = Callable[[jax.Array, Observation, jax.Array], jax.Array]


@pytree_dataclass
class Rollout:
    """`num_steps` K steps of one episode; after its end the state stays and `mask` is False."""

    observation: Observation  # [K + 1, …]: what each action saw, and the last one reached
    action: jax.Array  # int32[K]
    reward: jax.Array  # float32[K]
    terminated: jax.Array  # bool[K]
    truncated: jax.Array  # bool[K]
    mask: jax.Array  # bool[K]: the step was taken before the episode ended
    state: Any  # every leaf [K + 1, …]: the states, from the initial one
    success: jax.Array  # bool[]: in the last state

    @property
    def episode_return(self) -> jax.Array:
        """float32[]: the sum of the rewards."""
        return jnp.sum(self.reward, axis=-1)


def rollout(env: Environment[Any, Any], policy: Policy, task: Any, key: jax.Array, num_steps: int) -> Rollout:
    """Plays one episode for at most `num_steps` steps.

    Args:
      env: the environment.
      policy: `(key, observation, action_mask) -> action`, an integer scalar.
      task: one task instance.
      key: a random key, typed.
      num_steps: K ≥ 1.

    Returns:
      A Rollout. `jax.vmap` over `task` and `key` (and `jax.jit` around it) gives a batch.
    """
    if not isinstance(env, Environment):
        raise TypeError(f"env must be an Environment; got {type(env).__name__}")
    if not callable(policy):
        raise TypeError(f"policy={policy!r} is not a function (key, observation, action_mask) -> action")
    env.check_single(task)
    check_key(key)
    num_steps = check_integer("num_steps", num_steps, 1, 2**31 - 1)
    key_reset, key_steps = jax.random.split(key)
    first, initial = env.reset(key_reset, task)

    def step(carry: tuple[Any, Any], key: jax.Array) -> tuple[tuple[Any, Any], tuple[Any, ...]]:
        observation, state = carry
        key_policy, key_step = jax.random.split(key)
        live = ~jnp.logical_or(*env.status(state, task))
        action = policy(key_policy, observation, env.action_mask(state, task))
        observation, state, reward, terminated, truncated, _ = env.step(key_step, state, action, task)
        taken = jnp.asarray(action, jnp.int32)
        return (observation, state), (observation, taken, reward, terminated, truncated, live, state)

    (_, last), steps = jax.lax.scan(step, (first, initial), jax.random.split(key_steps, num_steps))
    observation, action, reward, terminated, truncated, mask, state = steps
    prepend = lambda start, rest: jnp.concatenate([start[None], rest])
    return Rollout(
        jax.tree.map(prepend, first, observation),
        action,
        reward,
        terminated,
        truncated,
        mask,
        jax.tree.map(prepend, initial, state),
        env.success(last, task),
    )


def random_policy(key: jax.Array, observation: Observation, action_mask: jax.Array) -> jax.Array:
    """A uniformly random action among those with an effect."""
    del observation
    return jax.random.categorical(key, jnp.where(action_mask, 0.0, -jnp.inf))
