"""The interface of every environment: pure functions of (state, action, random word, task)."""

from __future__ import annotations

import abc
import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from envs_jax import held_out
from envs_jax.pytree import pytree_dataclass
from envs_jax.random_words import check_key
from envs_jax.spaces import Discrete, Space
from envs_jax.tasks import Task, TaskBank


class State(Protocol):
    """What changes within an episode: a frozen pytree with at least `steps`, uint16[], the steps taken so far."""

    @property
    def steps(self) -> jax.Array:
        """uint16[]."""


StateT = TypeVar("StateT", bound=State)
TaskT = TypeVar("TaskT", bound=Task)
Observation = Any  # an array, or a dict of arrays


class Transition(NamedTuple):
    """The outcome of one step."""

    state: Any
    reward: jax.Array  # float32[]
    terminated: jax.Array  # bool[]: the task is over (solved, failed, bought)
    truncated: jax.Array  # bool[]: the time limit is reached; may be True together with `terminated`


def _of_one_task(method: Callable[..., Any]) -> Callable[..., Any]:
    """Makes a method refuse, before it traces anything, what is not one task and one state.

    The checks read types and shapes only, so compiled programs do not change.
    """
    names = list(inspect.signature(method).parameters)[1:]

    @functools.wraps(method)
    def checked(self: Environment[Any, Any], *args: Any, **kwargs: Any) -> Any:
        given = {**dict(zip(names, args, strict=False)), **kwargs}  # what is missing or too much, the call refuses
        if "task" in given:
            self.check_single(given["task"])
        if "state" in given:
            self.check_state(given["state"])
        return method(self, *args, **kwargs)

    return checked


@pytree_dataclass
class Environment(abc.ABC, Generic[StateT, TaskT]):
    """An environment: a frozen pytree whose leaves are arrays that all task instances share.

    Users call `reset`, `step`, `action_mask` and the rendering methods; `jax.vmap` over any of them maps axis 0 of
    keys, states, actions and tasks. A subclass defines `initial`, `advance`, `terminated`, `observe` and
    `action_mask` as functions of single (unbatched) values. The base class adds the time limit, the absorbing end of
    an episode, keys, and the checks of arguments.
    """

    task_type: ClassVar[type[Task]]
    state_type: ClassVar[type[Any]] = object  # where a subclass names its own, states of others are refused
    way_out: ClassVar[str] = ""  # ends the error about tasks made for something else, as "; do this"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, method in list(vars(cls).items()):
            public = inspect.isfunction(method) and not name.startswith(("_", "check_"))
            if public and {"task", "state"} & inspect.signature(method).parameters.keys():
                setattr(cls, name, _of_one_task(method))

    # What a subclass defines -----------------------------------------------------------------------------------------

    @property
    @abc.abstractmethod
    def num_actions(self) -> int:
        """The number of actions A; actions are 0 … A - 1."""

    @property
    @abc.abstractmethod
    def observation_space(self) -> Space:
        """The form of the observations."""

    @abc.abstractmethod
    def initial(self, word: jax.Array, task: TaskT) -> StateT:
        """The first state of an episode, drawn with the random `word` (uint32[])."""

    @abc.abstractmethod
    def advance(self, state: StateT, action: jax.Array, word: jax.Array, task: TaskT) -> tuple[StateT, jax.Array]:
        """The rules: (next state, reward float32[]) of an action in a state that has not ended.

        `steps` is counted by the base class. An action outside 0 … A - 1 has no effect.
        """

    @abc.abstractmethod
    def terminated(self, state: StateT, task: TaskT) -> jax.Array:
        """bool[]: whether the task is over in `state`, whatever the time."""

    @abc.abstractmethod
    def observe(self, state: StateT, task: TaskT) -> Observation:
        """The observation of `state`."""

    @abc.abstractmethod
    def action_mask(self, state: StateT, task: TaskT) -> jax.Array:
        """bool[A]: the actions that have an effect; all True in an ended state."""

    @abc.abstractmethod
    def state_key(self, state: StateT) -> jax.Array:
        """uint32[K]: the state without its clock, packed; equal keys mean equal futures (up to the time limit)."""

    @abc.abstractmethod
    def success(self, state: StateT, task: TaskT) -> jax.Array:
        """bool[]: whether the episode has reached its goal."""

    @abc.abstractmethod
    def render_text(self, state: StateT, task: TaskT) -> str:
        """The state (concrete) as text for a terminal."""

    @abc.abstractmethod
    def render_rgb(self, state: StateT, task: TaskT) -> np.ndarray:
        """The state (concrete) as a picture, uint8[height, width, 3]."""

    @property
    @abc.abstractmethod
    def action_names(self) -> tuple[str, ...]:
        """A short name for each action."""

    # What every environment has --------------------------------------------------------------------------------------

    @property
    def action_space(self) -> Space:
        """The actions: Discrete(num_actions)."""
        return Discrete(self.num_actions)

    @property
    def catalogue_checksum(self) -> str | None:
        """The checksum of the catalogue that the environment's tasks refer to; None where there is none."""
        return None

    @property
    def made_for(self) -> str:
        """What its tasks must have been made for, see `Task.made_for`; empty where any will do."""
        return ""

    @_of_one_task
    def info(self, state: StateT, task: TaskT) -> dict[str, jax.Array]:
        """What `step` reports about the state it returns; always holds `success`, bool[]."""
        return {"success": self.success(state, task)}

    @_of_one_task
    def render_ansi(self, state: StateT, task: TaskT) -> str:
        """`render_text` in colour (ANSI escape sequences) where the environment has a coloured form of it."""
        return self.render_text(state, task)

    @_of_one_task
    def action_text(self, action: int, state: StateT, task: TaskT) -> str:
        """What `action` means in `state` (concrete), for people; its name where that says it all."""
        del state, task
        return self.action_names[action]

    @_of_one_task
    def status(self, state: StateT, task: TaskT) -> tuple[jax.Array, jax.Array]:
        """(terminated, truncated) of `state`, both bool[]."""
        return self.terminated(state, task), state.steps >= task.time_limit

    @_of_one_task
    def live_transition(self, state: StateT, action: jax.Array, word: jax.Array, task: TaskT) -> Transition:
        """`transition` for a state that is known not to have ended (saves the comparison)."""
        advanced, reward = self.advance(state, action, word, task)
        advanced = dataclasses.replace(advanced, steps=state.steps + np.uint16(1))  # type: ignore[type-var]
        return Transition(advanced, reward, *self.status(advanced, task))

    @_of_one_task
    def transition(self, state: StateT, action: jax.Array, word: jax.Array, task: TaskT) -> Transition:
        """One step, with the random `word` (uint32[]); in an ended state: the same state, reward 0, the same flags."""
        ended = jnp.logical_or(*self.status(state, task))
        live = self.live_transition(state, action, word, task)
        kept = jax.tree.map(lambda old, new: jnp.where(ended, old, new), state, live.state)
        return Transition(kept, jnp.where(ended, 0, live.reward), *self.status(kept, task))

    @_of_one_task
    def reset(self, key: jax.Array, task: TaskT) -> tuple[Observation, StateT]:
        """Starts an episode of `task`.

        Args:
          key: a random key, typed (`jax.random.key`).
          task: one task instance, `bank[i]` or `bank.sample(key)`.

        Returns:
          The observation and the state.
        """
        check_key(key)
        state = self.initial(jax.random.bits(key, dtype=jnp.uint32), task)
        return self.observe(state, task), state

    @_of_one_task
    def step(
        self, key: jax.Array, state: StateT, action: jax.Array, task: TaskT
    ) -> tuple[Observation, StateT, jax.Array, jax.Array, jax.Array, dict[str, jax.Array]]:
        """Takes one step: the bare transition, without auto-reset.

        Args:
          key: a random key; draws the one random word of the step.
          state: the state; an ended one stays as it is, with reward 0 and the same flags.
          action: an integer scalar. Outside 0 … A - 1 a concrete action is refused, a traced one has no effect.
          task: the task instance of the episode.

        Returns:
          (observation, state, reward float32[], terminated bool[], truncated bool[], info).
        """
        check_key(key)
        action = self.checked_action(action)
        word = jax.random.bits(key, dtype=jnp.uint32)
        state, reward, terminated, truncated = self.transition(state, action, word, task)
        return self.observe(state, task), state, reward, terminated, truncated, self.info(state, task)

    def hold_out(
        self, tasks: TaskBank[TaskT], num_held_out: int, seed: int = 0
    ) -> tuple[TaskBank[TaskT], TaskBank[TaskT]]:
        """Splits a bank into tasks to train on and tasks to measure on, both in random order.

        Here no board (all fields of a task but those that its type calls `incidental`) is on both sides: where a held
        out board occurs again, that task is left out of training. A subclass whose tasks have other things in common
        overrides this, as WebShop does for products.

        Args:
          tasks: the bank.
          num_held_out: tasks that are held out, at least 1.
          seed: determines which.

        Raises:
          TypeError, ValueError: the tasks are not for this environment, or none would be left to train on.
        """
        self.check_tasks(tasks)
        return held_out.boards_apart(tasks, num_held_out, seed, self.task_type.incidental)

    def has_chance(self, tasks: TaskBank[TaskT]) -> bool:
        """Whether the same actions may lead to different episodes of one of the tasks.

        True here, as long as nobody says otherwise: then several episodes of a task are different measurements of it.
        """
        del tasks
        return True

    def check_tasks(self, tasks: Any) -> None:
        """Raises TypeError or ValueError unless `tasks` is a TaskBank that this environment can play."""
        if not isinstance(tasks, TaskBank):
            raise TypeError(f"tasks must be a TaskBank; got {type(tasks).__name__}")
        if not isinstance(tasks.instances, self.task_type):
            raise TypeError(
                f"tasks holds {type(tasks.instances).__name__}; {type(self).__name__} plays {self.task_type.__name__}"
            )
        if tasks.checksum != self.catalogue_checksum:
            raise ValueError(
                f"tasks belong to catalogue {tasks.checksum}, the environment holds {self.catalogue_checksum}"
            )
        self.check_task(tasks.instances)

    def check_task(self, task: Any) -> None:
        """Raises TypeError or ValueError unless `task` (one, or a batch of them) is for this environment."""
        if isinstance(task, TaskBank):
            raise TypeError(
                f"task is a whole TaskBank of {len(task)} tasks; environments take one instance: "
                "`tasks[i]` or `tasks.sample(key)` (for a batch: jax.vmap, or envs_jax.AutoReset)"
            )
        if not isinstance(task, self.task_type):
            name = self.task_type.__name__
            raise TypeError(f"task must be a {name}, one of this environment's tasks; got {type(task).__name__}")
        if task.made_for and task.made_for != self.made_for:
            raise ValueError(
                f"task was made for {task.made_for}; this environment is for {self.made_for}{self.way_out}"
            )

    def check_single(self, task: Any) -> None:
        """Raises TypeError or ValueError unless `task` is one task for this environment."""
        self.check_task(task)
        if np.ndim(task.time_limit) != 0:
            raise ValueError(
                f"task holds a batch (time_limit has shape {np.shape(task.time_limit)}); environments take one "
                "instance: use jax.vmap, or envs_jax.AutoReset"
            )

    def check_state(self, state: Any) -> None:
        """Raises TypeError or ValueError unless `state` is one state, of the shapes that this environment has."""
        if not hasattr(state, "steps"):
            raise TypeError(f"state must be one that reset or step returned; got {type(state).__name__}")
        if not isinstance(state, self.state_type):
            name = self.state_type.__name__
            raise TypeError(f"state must be a {name}, one of this environment's; got {type(state).__name__}")
        if np.ndim(state.steps) != 0:
            raise ValueError(
                f"state holds a batch (steps has shape {np.shape(state.steps)}); environments take one: use jax.vmap"
            )

    def checked_action(self, action: Any, shape: tuple[int, ...] = ()) -> jax.Array:
        """The action as an array; TypeError or ValueError unless integers of `shape`, and 0 … A - 1 where concrete."""
        try:
            dtype = None if action is None else np.dtype(jnp.result_type(action))
        except (TypeError, ValueError):
            dtype = None
        if dtype is None or isinstance(action, str | bytes):
            raise TypeError(f"action={action!r} is not an integer or an array of integers")
        if not np.issubdtype(dtype, np.integer):
            raise TypeError(f"action must have an integer dtype; got {dtype}")
        if np.shape(action) != shape:
            form = f"have shape {shape}, one for each lane" if shape else "be a scalar"
            hint = "" if shape else " (for a batch: jax.vmap(env.step))"
            raise ValueError(f"action must {form}; got shape {np.shape(action)}{hint}")
        if not isinstance(action, jax.core.Tracer):
            values = np.asarray(action)
            wrong = values[(values < 0) | (values >= self.num_actions)]
            if wrong.size:
                raise ValueError(f"action={wrong[0]} is not one of 0 … {self.num_actions - 1}")
        return jnp.asarray(action)


def check_playable(env: Any, tasks: Any) -> None:
    """Raises TypeError or ValueError unless `env` is an environment and `tasks` a TaskBank that it can play."""
    if isinstance(env, str):
        raise TypeError(f"env={env!r} is an id, not an environment: env, tasks = envs_jax.make({env!r})")
    if not isinstance(env, Environment):
        got = f"the class {env.__name__}" if isinstance(env, type) else type(env).__name__
        raise TypeError(f"env must be an Environment, as in env, tasks = envs_jax.make(id); got {got}")
    env.check_tasks(tasks)
