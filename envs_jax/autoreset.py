"""Batches of environments that start a new episode when one ends."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Generic, Literal, TypeVar, get_args

import jax
import jax.numpy as jnp
import numpy as np

from envs_jax.arguments import check_bool, check_choice, check_integer
from envs_jax.barriers import once
from envs_jax.environment import Environment, Observation, Transition, check_playable
from envs_jax.pytree import pytree_dataclass, static_field
from envs_jax.random_words import check_key, random_words, word_pairs
from envs_jax.tasks import Task, TaskBank

Mode = Literal["same_step", "next_step", "disabled", "optimistic"]

MAX_ENVS = 2**31 - 1  # lanes are counted in int32
MAX_SHARED = 16  # fresh episodes of a step in the mode `optimistic`; their number divides that of the lanes

StateT = TypeVar("StateT")
TaskT = TypeVar("TaskT", bound=Task)


@pytree_dataclass
class AutoResetState(Generic[StateT, TaskT]):
    """The state of a batch of B environments."""

    env_state: StateT  # every leaf [B, …]
    task: TaskT  # the task each lane plays, every leaf [B, …]
    episode_return: jax.Array  # float32[B]: the rewards of the running episode so far
    episode_length: jax.Array  # int32[B]: its steps so far


@pytree_dataclass
class AutoReset(Generic[StateT, TaskT]):
    """B environments stepped at once, with lanes that ended put on a new task drawn from `tasks`.

    Modes (the first three are Gymnasium's):
      * `same_step`: an ended lane is reset within the step; the returned observation is the new episode's first.
      * `next_step`: the step after the end ignores the action, resets the lane and returns reward 0.
      * `disabled`: ended lanes stay as they are until `reset_where` is called.
      * `optimistic`: like `same_step`, but at most 16 fresh episodes are drawn a step, one for each of as many equal
        blocks of neighbouring lanes: lanes of a block that end in the same step start the same task in the same state.
        The number of blocks is the largest divisor of B up to 16, so choose a multiple of 16: with a prime B > 16
        there is one block, and all lanes that end in a step start alike.

    In all modes but `optimistic`, lane i depends on the keys, the actions and i alone, not on the other lanes.
    The object is a pytree: pass it to jitted functions as an argument.
    """

    env: Environment[Any, TaskT]
    tasks: TaskBank[TaskT]
    mode: Mode = static_field(default="same_step")

    def __post_init__(self) -> None:
        check_choice("mode", self.mode, get_args(Mode))
        check_playable(self.env, self.tasks)

    @property
    def num_actions(self) -> int:
        """The number of actions of the environment."""
        return self.env.num_actions

    def reset(
        self, key: jax.Array, num_envs: int, *, stagger: bool = False
    ) -> tuple[Observation, AutoResetState[Any, TaskT]]:
        """Starts `num_envs` episodes.

        Args:
          key: a random key.
          num_envs: the batch size B ≥ 1.
          stagger: start every first episode at a random time of its time limit, so that lanes do not end in step.

        Returns:
          Observations [B, …] and the batch's state.
        """
        check_key(key)
        num_envs = check_integer("num_envs", num_envs, 1, MAX_ENVS)
        stagger = check_bool("stagger", stagger)
        key_fresh, key_clock = jax.random.split(key)
        fresh = self._fresh(key_fresh, jnp.arange(num_envs, dtype=jnp.uint32))
        if stagger:
            clocks = random_words(key_clock, num_envs) % fresh.task.time_limit
            env_state = dataclasses.replace(fresh.env_state, steps=clocks.astype(jnp.uint16))
            fresh = dataclasses.replace(fresh, env_state=env_state)
        return self._observe(fresh), fresh

    def step(
        self, key: jax.Array, state: AutoResetState[Any, TaskT], action: jax.Array
    ) -> tuple[Observation, AutoResetState[Any, TaskT], jax.Array, jax.Array, jax.Array, dict[str, Any]]:
        """Steps all lanes.

        Args:
          key: a random key for the whole batch.
          state: the batch's state.
          action: integers, [B]. Outside 0 … A - 1 a concrete action is refused, a traced one has no effect.

        Returns:
          (observations [B, …], state, reward float32[B], terminated bool[B], truncated bool[B], info). `info` holds
          the environment's own entries for the states reached by the actions, and for every lane `final_observation`
          (what these states look like, before any reset), `episode_return` (float32[B]) and `episode_length`
          (int32[B]) of the episode so far, complete where `terminated | truncated`.
        """
        check_key(key)
        self._check_state(state)
        action = self.env.checked_action(action, state.episode_length.shape)
        key_step, key_reset = jax.random.split(key)
        words = random_words(key_step, action.shape[0])
        if self.mode == "disabled":
            return self._step_disabled(words, state, action)
        operands = (state.env_state, action, words, state.task)
        # Else every consumer would evaluate the transition, and all tasks would be copied, as resets replace some.
        outcome = once(state.episode_length[0], jax.vmap(self.env.live_transition), *operands)
        if self.mode == "next_step":
            return self._step_next(key_reset, outcome, state)
        reached = self._advanced(state, outcome)
        done = outcome.terminated | outcome.truncated
        replace = self._share if self.mode == "optimistic" else self._refill
        after = replace(key_reset, done, reached)
        return self._observe(after), after, *outcome[1:], self._info(reached)

    def reset_where(
        self, key: jax.Array, state: AutoResetState[Any, TaskT], mask: jax.Array
    ) -> tuple[Observation, AutoResetState[Any, TaskT]]:
        """Starts new episodes in the lanes where `mask` (bool[B]) is True, ended or not."""
        check_key(key)
        self._check_state(state)
        shape = state.episode_length.shape
        if not isinstance(mask, jax.Array | np.ndarray):
            raise TypeError(f"mask must be an array bool{list(shape)}; got {mask!r}")
        if mask.dtype != jnp.bool_ or mask.shape != shape:
            raise ValueError(f"mask must be bool{list(shape)}; got {mask.dtype}{list(mask.shape)}")
        state = self._refill(key, mask, state)
        return self._observe(state), state

    # ------------------------------------------------------------------------------------------------------------------

    def _step_disabled(self, words: jax.Array, state: AutoResetState, action: jax.Array) -> Any:
        outcome = jax.vmap(self.env.transition)(state.env_state, action, words, state.task)
        after = self._advanced(state, outcome, steps=1 - self._ended(state).astype(jnp.int32))
        return self._observe(after), after, *outcome[1:], self._info(after)

    def _step_next(self, key_reset: jax.Array, outcome: Transition, state: AutoResetState) -> Any:
        ended = self._ended(state)
        after = self._refill(key_reset, ended, self._advanced(state, outcome))
        reward = jnp.where(ended, 0, outcome.reward)
        flags = (outcome.terminated & ~ended, outcome.truncated & ~ended)
        return self._observe(after), after, reward, *flags, self._info(after)

    def _advanced(self, state: AutoResetState, outcome: Transition, steps: Any = 1) -> AutoResetState:
        """The batch after a transition, before any reset."""
        episode_return = state.episode_return + outcome.reward
        return AutoResetState(outcome.state, state.task, episode_return, state.episode_length + steps)

    def _ended(self, state: AutoResetState) -> jax.Array:
        return jnp.logical_or(*jax.vmap(self.env.status)(state.env_state, state.task))

    def _observe(self, state: AutoResetState) -> Observation:
        return jax.vmap(self.env.observe)(state.env_state, state.task)

    def _info(self, state: AutoResetState) -> dict[str, Any]:
        return {
            **jax.vmap(self.env.info)(state.env_state, state.task),
            "final_observation": self._observe(state),
            "episode_return": state.episode_return,
            "episode_length": state.episode_length,
        }

    def _fresh(self, key: jax.Array, lanes: jax.Array) -> AutoResetState[Any, TaskT]:
        """New episodes for `lanes`; lane i's draw depends on (key, i) alone."""
        task_word, state_word = word_pairs(key, lanes)
        task = jax.vmap(lambda word: self.tasks[self.tasks.sample_index(word)])(task_word)
        env_state = jax.vmap(self.env.initial)(state_word, task)
        zeros = jnp.zeros(lanes.shape, jnp.float32)
        return AutoResetState(env_state, task, zeros, jnp.zeros(lanes.shape, jnp.int32))

    def _refill(self, key: jax.Array, done: jax.Array, state: AutoResetState) -> AutoResetState:
        """Puts a fresh episode of its own into every lane where `done`."""
        counters = (state.env_state.steps, state.episode_return, state.episode_length)
        zeroed = [jnp.where(done, jnp.zeros_like(counter), counter) for counter in counters]

        def draw(lanes: jax.Array) -> tuple[Any, Any]:
            fresh = self._fresh(key, lanes.astype(jnp.uint32))
            return dataclasses.replace(fresh.env_state, steps=None), fresh.task

        untimed = dataclasses.replace(state.env_state, steps=None)
        env_state, task = _replace(done, (untimed, state.task), draw)
        return AutoResetState(dataclasses.replace(env_state, steps=zeroed[0]), task, *zeroed[1:])

    def _share(self, key: jax.Array, done: jax.Array, state: AutoResetState) -> AutoResetState:
        """Puts one of a few fresh episodes into every lane where `done`; neighbouring lanes share."""
        num_envs = done.shape[0]
        num_fresh = max(number for number in range(1, MAX_SHARED + 1) if num_envs % number == 0)
        # Otherwise every lane would draw the few episodes anew.
        fresh = once(state.episode_length[0], self._fresh, key, jnp.arange(num_fresh, dtype=jnp.uint32))

        def select(new: jax.Array, old: jax.Array) -> jax.Array:
            blocks = jnp.broadcast_to(new[:, None], (num_fresh, num_envs // num_fresh, *new.shape[1:]))
            return jnp.where(_expanded(done, old), blocks.reshape(old.shape), old)

        return jax.tree.map(select, fresh, state)

    def _check_state(self, state: Any) -> None:
        """Raises TypeError or ValueError unless `state` is a batch of this environment."""
        if not isinstance(state, AutoResetState):
            raise TypeError(f"state must be the AutoResetState that reset or step returned; got {type(state).__name__}")
        if np.ndim(state.episode_length) != 1:
            raise ValueError(
                f"state must be a batch, its leaves of shape [num_envs, …]; got episode_length of shape "
                f"{np.shape(state.episode_length)}. AutoReset steps a whole batch: call it without jax.vmap"
            )
        self.env.check_task(state.task)


def _expanded(mask: jax.Array, like: jax.Array) -> jax.Array:
    return mask.reshape(mask.shape + (1,) * (like.ndim - mask.ndim))


def _replace(done: jax.Array, state: Any, draw: Callable[[jax.Array], Any]) -> Any:
    """Writes `draw(lanes)` into the lanes of `state` where `done`.

    Works on these lanes only, not on all: their indices are compacted and what is drawn for them scattered.
    """
    num_envs = done.shape[0]
    large, small = max(1, num_envs // 16), max(1, num_envs // 64)
    lanes = jnp.pad(_lanes_where(done), (0, large))  # so that no slice below is shifted to fit
    total = jnp.sum(done, dtype=jnp.int32)

    def fill(capacity: int, start: jax.Array, state: Any) -> Any:
        chosen = jax.lax.dynamic_slice(lanes, (start,), (capacity,))
        beyond = start + jnp.arange(capacity, dtype=jnp.int32) >= total
        target = jnp.where(beyond, num_envs, chosen)  # which the scatter drops
        return jax.tree.map(lambda old, new: old.at[target].set(new, mode="drop"), state, draw(chosen))

    def bite(capacity: int, leave: int, start: jax.Array, state: Any) -> tuple[jax.Array, Any]:
        more = lambda carry: carry[0] < total - leave
        return jax.lax.while_loop(more, lambda carry: (carry[0] + capacity, fill(capacity, *carry)), (start, state))

    # A few lanes end in most steps of long episodes, many in short ones: large bites first, then small ones.
    start, state = bite(large, small, jnp.int32(0), state)
    return bite(small, 0, start, state)[1]


def _lanes_where(mask: jax.Array) -> jax.Array:
    """int32[B]: the lanes where `mask` (bool[B]) is set, in order; what follows the last is arbitrary."""
    compact = lambda mask: jnp.nonzero(mask, size=mask.shape[0], fill_value=0)[0].astype(jnp.int32)
    return jax.lax.platform_dependent(mask, cpu=_lanes_where_by_loop, default=compact)


def _lanes_where_by_loop(mask: jax.Array) -> jax.Array:
    """`_lanes_where` by a loop over the words of the packed mask and their set bits: on a CPU scalars are fast."""
    num_words = -(-mask.shape[0] // 32)
    bits = jnp.pad(mask, (0, num_words * 32 - mask.shape[0])).reshape(num_words, 32)
    words = jnp.sum(jnp.where(bits, jnp.uint32(1) << jnp.arange(32, dtype=jnp.uint32), 0), axis=1, dtype=jnp.uint32)
    words = jnp.pad(words, (0, 1))

    def visit(carry: Any) -> Any:
        lanes, count, index, word = carry
        lowest = jax.lax.population_count((word & -word) - jnp.uint32(1)).astype(jnp.int32)
        # Without a bit left the write is void: the next one goes to the same place.
        lanes = jax.lax.dynamic_update_index_in_dim(lanes, 32 * index + lowest, count, 0)
        rest = word & (word - jnp.uint32(1))
        index = index + (rest == 0)
        return lanes, count + (word != 0), index, jnp.where(rest == 0, words[index], rest)

    lanes = jnp.zeros(mask.shape[0] + 1, jnp.int32)
    start = (lanes, jnp.int32(0), jnp.int32(0), words[0])
    return jax.lax.while_loop(lambda carry: carry[2] < num_words, visit, start)[0][:-1]
