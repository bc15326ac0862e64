"""Our environments as Jumanji environments."""

from __future__ import annotations

import collections
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs_jax import spaces
from envs_jax.environment import Environment, check_playable
from envs_jax.interop import episodes
from envs_jax.interop.spaces import to_jumanji_spec
from envs_jax.tasks import TaskBank

try:
    import jumanji.env
    from jumanji import specs, types
except ImportError as error:
    raise ImportError('to_jumanji needs Jumanji: pip install "jumanji>=1.1.2"') from error


class State(NamedTuple):
    """An episode's state, its task, and the key that Jumanji's protocol asks for.

    The key draws every later random word and the next episode of `AutoResetWrapper`: a planner that is handed this
    state can see the future of a stochastic environment. Give it a copy with another key.
    """

    key: jax.Array
    env_state: Any
    task: Any


class JumanjiEnvironment(jumanji.env.Environment):
    """A Jumanji environment whose episodes are tasks drawn from a bank.

    An observation is a NamedTuple: the entries of a Dict observation under their names, or any other one as
    `observation`; then `action_mask`, bool[num_actions], and `step_count`, int32[]. Termination has discount 0;
    truncation at the task's time limit has discount 1 and step type LAST.
    """

    def __init__(self, env: Environment[Any, Any], tasks: TaskBank[Any]) -> None:
        check_playable(env, tasks)
        self._env = env
        self._tasks = tasks
        space = env.observation_space
        self._spaces: dict[str, Any] = dict(space.spaces) if isinstance(space, spaces.Dict) else {"observation": space}
        self._spaces["action_mask"] = spaces.Box(False, True, (env.num_actions,), np.bool_)
        self._spaces["step_count"] = spaces.Box(0, int(np.max(tasks.instances.time_limit)), (), np.int32)
        self._observation_type = _observation_type(tuple(self._spaces))
        super().__init__()

    def __repr__(self) -> str:
        return f"JumanjiEnvironment({type(self._env).__name__}, {len(self._tasks)} tasks)"

    def reset(self, key: jax.Array) -> tuple[State, types.TimeStep]:
        """Draws a task and starts its episode."""
        key, key_task, key_reset = jax.random.split(key, 3)
        task = self._tasks.sample(episodes.as_typed(key_task))
        observation, env_state = self._env.reset(episodes.as_typed(key_reset), task)
        state = State(key, env_state, task)
        info = self._env.info(env_state, task)
        return state, types.restart(self._named(observation, state), extras=info, dtype=jnp.float32)

    def step(self, state: State, action: jax.Array) -> tuple[State, types.TimeStep]:
        """Takes one step; after LAST the state stays and LAST comes again, with reward 0."""
        key, key_step = jax.random.split(state.key)
        observation, env_state, reward, terminated, truncated, info = self._env.step(
            episodes.as_typed(key_step), state.env_state, action, state.task
        )
        state = State(key, env_state, state.task)
        timestep = types.TimeStep(
            step_type=jnp.where(terminated | truncated, types.StepType.LAST, types.StepType.MID),
            reward=reward,
            discount=1.0 - terminated.astype(jnp.float32),
            observation=self._named(observation, state),
            extras=info,
        )
        return state, timestep

    def _named(self, observation: Any, state: State) -> Any:
        fields = observation if isinstance(observation, dict) else {"observation": observation}
        return self._observation_type(
            **fields,
            action_mask=self._env.action_mask(state.env_state, state.task),
            step_count=state.env_state.steps.astype(jnp.int32),
        )

    @functools.cached_property
    def observation_spec(self) -> specs.Spec:
        """The nested spec of the observation NamedTuple."""
        fields = {name: to_jumanji_spec(space, name) for name, space in self._spaces.items()}
        return specs.Spec(self._observation_type, "ObservationSpec", **fields)

    @functools.cached_property
    def action_spec(self) -> specs.DiscreteArray:
        """The actions 0 … num_actions - 1, int32."""
        return specs.DiscreteArray(self._env.num_actions, name="action")

    def render(self, state: State) -> np.ndarray:
        """A picture of the state, uint8[height, width, 3]."""
        return self._env.render_rgb(state.env_state, state.task)


def to_jumanji(env: Environment[Any, Any], tasks: TaskBank[Any]) -> JumanjiEnvironment:
    """Makes a Jumanji environment; every reset, that of `AutoResetWrapper` included, draws a task from `tasks`.

    Jumanji's `reset(key)` has no argument for shared data, so programs compiled from it hold the bank.

    Args:
      env: the environment; the entries of a Dict observation must not be named `action_mask` or `step_count`.
      tasks: the bank of tasks that it plays.

    Returns:
      The environment.

    Raises:
      TypeError: `tasks` is not a TaskBank of this environment's tasks.
      ValueError: `tasks` belongs to another catalogue.
    """
    return JumanjiEnvironment(env, tasks)


@functools.cache
def _observation_type(names: tuple[str, ...]) -> type:
    """One type for each set of names: JAX compares NamedTuples by their class."""
    return collections.namedtuple("Observation", names)  # type: ignore[misc]
