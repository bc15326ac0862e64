"""Our environments as gymnax 1.x environments."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from envs_jax.environment import Environment, check_playable
from envs_jax.interop import episodes
from envs_jax.interop.spaces import to_gymnax_space
from envs_jax.spaces import Dict, Discrete, Space
from envs_jax.tasks import TaskBank

try:
    from flax import struct
    from gymnax.environments import environment
except ImportError as error:
    raise ImportError('to_gymnax needs gymnax 1.x: pip install "gymnax>=1.0"') from error


@struct.dataclass
class EnvState(environment.EnvState):
    """The state of an episode and the task it is played on; `time`, int32[], counts its steps."""

    env_state: Any = None
    task: Any = None


@struct.dataclass
class EnvParams(environment.EnvParams):
    """What all episodes share. Pass it to jitted functions as an argument, or it becomes a constant of the program.

    `max_steps_in_episode` truncates episodes in addition to each task's own time limit.
    """

    env: Any = None  # our environment, whose leaves are the arrays that all tasks share
    tasks: Any = None  # the TaskBank that every reset, the automatic one included, draws from


class GymnaxEnvironment(environment.Environment[EnvState, EnvParams]):
    """A gymnax environment whose episodes are tasks drawn from `params.tasks`."""

    def __init__(self, env: Environment[Any, Any], tasks: TaskBank[Any]) -> None:
        check_playable(env, tasks)
        self._env = env
        self._tasks = tasks

    @property
    def name(self) -> str:
        return type(self._env).__name__

    @property
    def num_actions(self) -> int:
        return self._env.num_actions

    @property
    def default_params(self) -> EnvParams:
        """The bank that the environment was made with; its longest time limit is `max_steps_in_episode`."""
        limit = int(np.max(self._tasks.instances.time_limit))
        return EnvParams(max_steps_in_episode=limit, env=self._env, tasks=self._tasks)

    def reset(self, key: jax.Array, params: EnvParams | None = None) -> tuple[Any, EnvState]:
        # Outside of gymnax's jit, so that the default bank, too, is an argument of the program.
        return super().reset(key, self.default_params if params is None else _checked(params))

    def step(
        self, key: jax.Array, state: EnvState, action: int | float | jax.Array, params: EnvParams | None = None
    ) -> tuple[Any, EnvState, jax.Array, jax.Array, jax.Array, dict[Any, Any]]:
        self._env.checked_action(action)
        return super().step(key, state, action, self.default_params if params is None else _checked(params))

    def reset_env(self, key: jax.Array, params: EnvParams) -> tuple[Any, EnvState]:
        """Draws a task and starts its episode."""
        key_task, key_reset = jax.random.split(episodes.as_typed(key))
        task = params.tasks.sample(key_task)
        observation, env_state = params.env.reset(key_reset, task)
        return _cast(self._env.observation_space, observation), _state(env_state, task)

    def step_env(
        self, key: jax.Array, state: EnvState, action: int | float | jax.Array, params: EnvParams
    ) -> tuple[Any, EnvState, jax.Array, jax.Array, dict[Any, Any]]:
        """The bare transition: an ended episode stays as it is."""
        observation, env_state, reward, terminated, _, info = params.env.step(
            episodes.as_typed(key), state.env_state, action, state.task
        )
        observation = _cast(self._env.observation_space, observation)
        return observation, _state(env_state, state.task), reward, terminated, info

    def observe(
        self, key: jax.Array, state: EnvState, action: int | float | jax.Array | None, params: EnvParams
    ) -> Any:
        del key, action
        return _cast(self._env.observation_space, params.env.observe(state.env_state, state.task))

    def is_terminated(self, state: EnvState, params: EnvParams) -> jax.Array:
        return params.env.terminated(state.env_state, state.task)

    def is_truncated(self, state: EnvState, params: EnvParams) -> jax.Array:
        limit = jnp.minimum(state.task.time_limit.astype(jnp.int32), params.max_steps_in_episode)
        return state.time >= limit

    def action_mask(self, state: EnvState, params: EnvParams) -> jax.Array:
        """bool[num_actions]: the actions that have an effect; all True in an ended state."""
        return params.env.action_mask(state.env_state, state.task)

    def action_space(self, params: EnvParams | None = None) -> Any:
        del params
        return to_gymnax_space(self._env.action_space)

    def observation_space(self, params: EnvParams | None = None) -> Any:
        del params
        return to_gymnax_space(self._env.observation_space)

    def state_space(self, params: EnvParams) -> Any:
        """The part of the state that gymnax itself defines: `time`."""
        from gymnax.environments import spaces

        return spaces.Dict({"time": spaces.Discrete(params.max_steps_in_episode + 1)})


def to_gymnax(env: Environment[Any, Any], tasks: TaskBank[Any]) -> tuple[GymnaxEnvironment, EnvParams]:
    """Makes what `gymnax.make` would return: an environment and its default parameters.

    The parameters hold the bank: every reset, the automatic one included, draws a task from `params.tasks`.
    `params.replace(tasks=other_bank)` plays other levels with the same compiled program where the banks' sizes agree.

    Args:
      env: the environment.
      tasks: the bank of tasks that it plays.

    Returns:
      (environment, parameters).

    Raises:
      TypeError: `tasks` is not a TaskBank of this environment's tasks.
      ValueError: `tasks` belongs to another catalogue.
    """
    environment = GymnaxEnvironment(env, tasks)
    return environment, environment.default_params


def _checked(params: EnvParams) -> EnvParams:
    if not isinstance(params, EnvParams):
        raise TypeError(
            f"params must be the EnvParams that to_gymnax returned; got {type(params).__name__}. "
            "To play another bank pass params.replace(tasks=bank)"
        )
    return params


def _state(env_state: Any, task: Any) -> EnvState:
    return EnvState(time=env_state.steps.astype(jnp.int32), env_state=env_state, task=task)


def _cast(space: Space, observation: Any) -> Any:
    """Makes what a Discrete space describes int32, as it is in gymnax."""
    if isinstance(space, Dict):
        return {name: _cast(inner, observation[name]) for name, inner in space.spaces.items()}
    return observation.astype(jnp.int32) if isinstance(space, Discrete) else observation
