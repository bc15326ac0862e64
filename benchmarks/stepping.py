"""Programs that step batches of our environments with random actions."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.measure import Program
from envs_jax import AutoReset, AutoResetState, Environment, TaskBank
from envs_jax.autoreset import Mode

START_SIZE = 8_192  # lanes of the reset from which batches of every size start


class Tally(NamedTuple):
    """What a loop adds up, so that every step's outcome is used."""

    reward: jax.Array  # float32[B]
    episodes: jax.Array  # int32[B]: how many ended
    steps: jax.Array  # int32[]

    @staticmethod
    def zero(batch_size: int) -> Tally:
        """An empty tally."""
        return Tally(jnp.zeros(batch_size), jnp.zeros(batch_size, jnp.int32), jnp.int32(0))

    def add(self, reward: jax.Array, ended: jax.Array) -> Tally:
        """The tally after one more step."""
        return Tally(self.reward + reward, self.episodes + ended.astype(jnp.int32), self.steps + 1)

    def summary(self) -> dict[str, float]:
        """Means over lanes and steps."""
        steps = max(1, int(self.steps))
        return {
            "reward": float(np.asarray(self.reward, np.float64).mean()) / steps,
            "episodes": float(np.asarray(self.episodes).mean()) / steps,
        }


def draw_actions(key: jax.Array, batch_size: int, num_actions: int) -> jax.Array:
    """Random actions, int32[B], from one threefry word each; our loops and the JAX peers' draw theirs with it."""
    return (jax.random.bits(key, (batch_size,), jnp.uint32) % np.uint32(num_actions)).astype(jnp.int32)


def draw_legal_actions(key: jax.Array, mask: jax.Array) -> jax.Array:
    """Random actions, int32[B], each uniform among those that `mask` (bool[B, A], one at least True) allows.

    One threefry word each, as in `draw_actions`; the n-th action allowed is found by counting bits.
    """
    batch_size, num_actions = mask.shape
    num_words = -(-num_actions // 32)
    bits = jnp.pad(mask, ((0, 0), (0, 32 * num_words - num_actions))).reshape(batch_size, num_words, 32)
    words = jnp.sum(jnp.where(bits, jnp.uint32(1) << jnp.arange(32, dtype=jnp.uint32), 0), axis=2, dtype=jnp.uint32)
    counts = jax.lax.population_count(words)
    left = jax.random.bits(key, (batch_size,), jnp.uint32) % jnp.sum(counts, axis=1)
    position, word, found = jnp.zeros(batch_size, jnp.uint32), words[:, 0], jnp.zeros(batch_size, bool)
    for i in range(num_words):
        here = ~found & (left < counts[:, i])
        position, word = jnp.where(here, 32 * i, position), jnp.where(here, words[:, i], word)
        found |= here
        left = jnp.where(found, left, left - counts[:, i])
    for width in (16, 8, 4, 2, 1):  # bisect: is the bit in the lower `width` bits of what is left?
        low = jax.lax.population_count(word & jnp.uint32((1 << width) - 1))
        above = left >= low
        position, word = jnp.where(above, position + width, position), jnp.where(above, word >> width, word)
        left = jnp.where(above, left - low, left)
    return position.astype(jnp.int32)


def start(env: Environment[Any, Any], tasks: TaskBank[Any], batch_size: int) -> tuple[Any, AutoResetState[Any, Any]]:
    """Observations and states of a batch whose first episodes are at random times of their time limits.

    Beyond 8,192 lanes the start repeats itself; random actions and resets soon tell the copies apart.
    """
    reset = jax.jit(lambda vec, key: vec.reset(key, START_SIZE, stagger=True))
    first = reset(AutoReset(env, tasks), jax.random.key(0))
    lanes = np.arange(batch_size) % START_SIZE
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)[lanes]), first)


def autoreset(
    env: Environment[Any, Any],
    tasks: TaskBank[Any],
    first: Any,
    *,
    mode: Mode,
    observe: bool = False,
    legal: bool = False,
) -> Program:
    """`AutoReset.step` with random actions.

    Args:
      env: the environment.
      tasks: the bank that resets draw from.
      first: what `start` returned.
      mode: of AutoReset.
      observe: produce the observation of every step.
      legal: draw the actions among those with an effect, by `action_mask`, in place of all.
    """
    observation, state = first
    batch_size = state.episode_length.shape[0]

    def body(vec: AutoReset[Any, Any], carry: Any, key: jax.Array) -> Any:
        state, tally, _ = carry
        key_action, key_step = jax.random.split(key)
        if legal:
            mask = jax.vmap(vec.env.action_mask)(state.env_state, state.task)
            action = draw_legal_actions(key_action, mask)
        else:
            action = draw_actions(key_action, batch_size, vec.num_actions)
        observation, state, reward, terminated, truncated, _ = vec.step(key_step, state, action)
        return state, tally.add(reward, terminated | truncated), observation if observe else None

    carry = (state, Tally.zero(batch_size), observation if observe else None)
    return Program(body, AutoReset(env, tasks, mode), carry, batch_size, _summary)


def bare(env: Environment[Any, Any], first: Any) -> Program:
    """The dynamics alone: one word for each action and one for each step, no reset, no bookkeeping of episodes."""
    _, state = first
    batch_size = state.episode_length.shape[0]

    def body(constants: Any, carry: Any, key: jax.Array) -> Any:
        (env, task), (env_state, tally) = constants, carry
        key_action, key_step = jax.random.split(key)
        action = draw_actions(key_action, batch_size, env.num_actions)
        words = jax.random.bits(key_step, (batch_size,), jnp.uint32)
        outcome = jax.vmap(env.live_transition)(env_state, action, words, task)
        return outcome.state, tally.add(outcome.reward, outcome.terminated | outcome.truncated)

    return Program(body, (env, state.task), (state.env_state, Tally.zero(batch_size)), batch_size)


def vmapped(env: Environment[Any, Any], first: Any) -> Program:
    """`jax.vmap(env.step)`, the form of a first attempt: a key for each environment, no reset."""
    _, state = first
    batch_size = state.episode_length.shape[0]

    def body(constants: Any, carry: Any, key: jax.Array) -> Any:
        (env, task), (env_state, tally) = constants, carry
        key_action, key_step = jax.random.split(key)
        action = draw_actions(key_action, batch_size, env.num_actions)
        keys = jax.random.split(key_step, batch_size)
        _, env_state, reward, terminated, truncated, _ = jax.vmap(env.step)(keys, env_state, action, task)
        return env_state, tally.add(reward, terminated | truncated)

    return Program(body, (env, state.task), (state.env_state, Tally.zero(batch_size)), batch_size)


def action_draw(num_actions: int, batch_size: int) -> Program:
    """The random actions alone."""

    def body(constants: None, carry: jax.Array, key: jax.Array) -> jax.Array:
        del constants
        return carry + draw_actions(key, batch_size, num_actions)

    return Program(body, None, jnp.zeros(batch_size, jnp.int32), batch_size)


def _summary(carry: Any) -> dict[str, float]:
    return carry[1].summary()
