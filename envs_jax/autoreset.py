"""Batches of environments that start a new episode when one ends."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, Generic, Literal, TypeVar, get_args

import jax
import jax.numpy as jnp
import numpy as np

from envs_jax.environment import Environment, Observation, Transition
from envs_jax.pytree import pytree_dataclass, static_field
from envs_jax.random_words import random_words, word_pairs
from envs_jax.tasks import Task, TaskBank

Mode = Literal["same_step", "next_step", "disabled", "optimistic"]

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

    In all modes but `optimistic`, lane i depends on the keys, the actions and i alone, not on the other lanes.
    The object is a pytree: pass it to jitted functions as an argument.
    """

    env: Environment[Any, TaskT]
    tasks: TaskBank[TaskT]
    mode: Mode = static_field(default="same_step")

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
        self._check()
        if num_envs < 1:
            raise ValueError(f"num_envs={num_envs}; a batch holds at least one environment")
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
          action: integers, [B].

        Returns:
          (observations [B, …], state, reward float32[B], terminated bool[B], truncated bool[B], info). `info` holds
          the environment's own entries for the states reached by the actions, and for every lane `final_observation`
          (what these states look like, before any reset), `episode_return` (float32[B]) and `episode_length`
          (int32[B]) of the episode so far, complete where `terminated | truncated`.
        """
        self._check_action(state, action)
        key_step, key_reset = jax.random.split(key)
        words = random_words(key_step, action.shape[0])
        if self.mode == "disabled":
            return self._step_disabled(words, state, action)
        operands = (state.env_state, action, words, state.task)
        outcome = _evaluated_once(jax.vmap(self.env.live_transition), state, *operands)
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
        self._check()
        if mask.dtype != jnp.bool_ or mask.shape != state.episode_length.shape:
            raise ValueError(f"mask must be bool{list(state.episode_length.shape)}; got {mask.dtype}{list(mask.shape)}")
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
        draw = lambda lanes: self._fresh(key, lanes.astype(jnp.uint32))
        same = self._same_in_all_fresh(state)
        first = jax.tree.map(lambda leaf: leaf[0], draw(jnp.zeros(1, jnp.int32)))
        select = lambda same, new, old: jnp.where(_expanded(done, old), new, old) if same else old
        return _replace(done, jax.tree.map(select, same, first, state), draw, same)

    def _share(self, key: jax.Array, done: jax.Array, state: AutoResetState) -> AutoResetState:
        """Puts one of a few fresh episodes into every lane where `done`; neighbouring lanes share."""
        num_envs = done.shape[0]
        num_fresh = max(number for number in range(1, MAX_SHARED + 1) if num_envs % number == 0)
        fresh = _evaluated_once(partial(self._fresh, key), state, jnp.arange(num_fresh, dtype=jnp.uint32))

        def select(new: jax.Array, old: jax.Array) -> jax.Array:
            blocks = old.reshape(num_fresh, -1, *old.shape[1:])
            mask = _expanded(done.reshape(num_fresh, -1), blocks)
            return jnp.where(mask, new[:, None], blocks).reshape(old.shape)

        return jax.tree.map(select, fresh, state)

    def _same_in_all_fresh(self, state: AutoResetState) -> AutoResetState:
        """For each leaf whether it is known to be the same in every fresh episode: no lane has to be written alone."""
        constant = jax.tree.unflatten(jax.tree.structure(state.task), self.tasks.constant_leaves)
        env_state = dataclasses.replace(jax.tree.map(lambda _: False, state.env_state), steps=True)
        return AutoResetState(env_state, constant, True, True)  # type: ignore[arg-type]

    def _check(self) -> None:
        if self.mode not in get_args(Mode):
            raise ValueError(f"mode={self.mode!r} is not one of {', '.join(get_args(Mode))}")
        self.env.check_tasks(self.tasks)

    def _check_action(self, state: AutoResetState, action: Any) -> None:
        self._check()
        shape = state.episode_length.shape
        dtype = jnp.result_type(action)
        if not jnp.issubdtype(dtype, jnp.integer):
            raise TypeError(f"action must have an integer dtype; got {dtype}")
        if np.shape(action) != shape:
            raise ValueError(f"action must have shape {shape}, one for each lane; got {np.shape(action)}")


def _evaluated_once(function: Callable[..., Any], state: AutoResetState, *operands: Any) -> Any:
    """`function(*operands)`, on CPUs behind a conditional that always holds.

    XLA's CPU compiler would fuse a transition anew into every consumer of an output; and as these then read the tasks
    while the reset writes them, it would copy all tasks at every step. What leaves a conditional exists once.
    """

    def behind_conditional(*operands: Any) -> Any:
        always = state.episode_length[0] >= 0  # which the compiler cannot know
        nothing = lambda *xs: jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(function, *xs))
        return jax.lax.cond(always, function, nothing, *operands)

    return jax.lax.platform_dependent(*operands, cpu=behind_conditional, default=function)


def _expanded(mask: jax.Array, like: jax.Array) -> jax.Array:
    return mask.reshape(mask.shape + (1,) * (like.ndim - mask.ndim))


def _replace(done: jax.Array, state: Any, draw: Callable[[jax.Array], Any], skip: Any) -> Any:
    """Writes `draw(lanes)` into the lanes of `state` where `done`, except into the leaves to `skip`.

    Works on these lanes only, not on all: their indices are compacted and what is drawn for them scattered.
    """
    num_envs = done.shape[0]
    words, ends = _pack(done)
    total = ends[-1]
    leaves, structure = jax.tree.flatten(state)
    written = [i for i, skipped in enumerate(jax.tree.leaves(skip)) if not skipped]

    def fill(capacity: int, start: jax.Array, old: list[jax.Array]) -> list[jax.Array]:
        slots = start + jnp.arange(capacity, dtype=jnp.int32)
        lanes = _nth_set_bit(words, ends, slots)
        target = jnp.where(slots < total, lanes, num_envs)  # beyond the last: dropped by the scatter
        fresh = jax.tree.leaves(draw(lanes))
        return [leaf.at[target].set(fresh[i], mode="drop") for i, leaf in zip(written, old, strict=True)]

    def bite(capacity: int, leave: int, start: jax.Array, old: list[jax.Array]) -> tuple[jax.Array, list[jax.Array]]:
        more = lambda carry: carry[0] < total - leave
        return jax.lax.while_loop(more, lambda carry: (carry[0] + capacity, fill(capacity, *carry)), (start, old))

    # A few lanes end in most steps of long episodes, many in short ones: large bites first, then small ones.
    large, small = max(1, num_envs // 16), max(1, num_envs // 64)
    start, new = bite(large, small, jnp.int32(0), [leaves[i] for i in written])
    _, new = bite(small, 0, start, new)
    for i, leaf in zip(written, new, strict=True):
        leaves[i] = leaf
    return jax.tree.unflatten(structure, leaves)


def _pack(mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A mask [B] as words uint32[⌈B / 32⌉], and the number of set bits up to the end of each word, int32."""
    num_words = -(-mask.shape[0] // 32)
    bits = jnp.pad(mask, (0, num_words * 32 - mask.shape[0])).reshape(num_words, 32)
    words = jnp.sum(jnp.where(bits, jnp.uint32(1) << jnp.arange(32, dtype=jnp.uint32), 0), axis=1, dtype=jnp.uint32)
    return words, jnp.cumsum(jax.lax.population_count(words).astype(jnp.int32))


def _nth_set_bit(words: jax.Array, ends: jax.Array, n: jax.Array) -> jax.Array:
    """int32[S]: the positions of the n-th (from 0) set bits of a mask that `_pack` packed; n beyond the last: any."""
    index = jnp.minimum(jnp.searchsorted(ends, n, side="right", method="scan_unrolled"), words.shape[0] - 1)
    word = words[index]
    left = n - (ends[index] - jax.lax.population_count(word).astype(jnp.int32))
    position = jnp.zeros_like(n)
    for width in (16, 8, 4, 2, 1):  # bisect: is the bit in the lower `width` bits of what is left?
        low = jax.lax.population_count(word & jnp.uint32((1 << width) - 1)).astype(jnp.int32)
        above = left >= low
        position += jnp.where(above, width, 0)
        left -= jnp.where(above, low, 0)
        word = jnp.where(above, word >> width, word)
    return index.astype(jnp.int32) * 32 + position
