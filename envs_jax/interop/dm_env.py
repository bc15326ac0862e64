"""Our environments as dm_env environments."""

from __future__ import annotations

from typing import Any

import numpy as np

from envs_jax.arguments import MAX_SEED, check_integer
from envs_jax.environment import Environment, check_playable
from envs_jax.interop import episodes
from envs_jax.interop.spaces import to_dm_env_spec, to_numpy
from envs_jax.tasks import TaskBank

try:
    import dm_env
except ImportError as error:
    raise ImportError('to_dm_env needs dm_env: pip install "dm-env>=1.6"') from error


class DmEnvEnvironment(dm_env.Environment):
    """A dm_env environment whose episodes are tasks drawn from a bank.

    `step` after LAST, or before the first `reset`, starts the next episode and ignores its action. Termination has
    discount 0, truncation at the task's time limit discount 1.
    """

    def __init__(self, env: Environment[Any, Any], tasks: TaskBank[Any], seed: int | None = None) -> None:
        check_playable(env, tasks)
        self._env = env
        self._tasks = tasks
        self._rng = np.random.default_rng(None if seed is None else check_integer("seed", seed, 0, MAX_SEED))
        self._task: Any = None
        self._state: Any = None
        self._view: episodes.View | None = None
        self._live = False

    def reset(self) -> dm_env.TimeStep:
        word_task, word_reset = episodes.random_words(self._rng, 2)
        self._task = episodes.draw_task(self._tasks, word_task)
        self._state, self._view = episodes.begin(self._env, self._task, word_reset)
        self._live = True
        return dm_env.restart(self._observation())

    def step(self, action: Any) -> dm_env.TimeStep:
        if not self._live:
            return self.reset()
        if not self._env.action_space.contains(action):
            raise ValueError(f"action={action!r} is not one of 0 … {self._env.num_actions - 1}")
        word = episodes.random_words(self._rng)
        transition, self._view = episodes.advance(self._env, self._task, self._state, np.int32(action), word)
        self._state = transition.state
        reward = float(transition.reward)
        self._live = not (transition.terminated or transition.truncated)
        if self._live:
            return dm_env.transition(reward, self._observation())
        if transition.terminated:
            return dm_env.termination(reward, self._observation())
        return dm_env.truncation(reward, self._observation())

    def action_mask(self) -> np.ndarray:
        """bool[num_actions]: the actions that have an effect now; all True after LAST."""
        if self._view is None:
            raise RuntimeError("action_mask() was called before the first reset()")
        return np.array(self._view.action_mask)

    def observation_spec(self) -> Any:
        return to_dm_env_spec(self._env.observation_space, "observation")

    def action_spec(self) -> Any:
        return to_dm_env_spec(self._env.action_space, "action")

    def _observation(self) -> Any:
        assert self._view is not None
        return to_numpy(self._env.observation_space, self._view.observation)


def to_dm_env(env: Environment[Any, Any], tasks: TaskBank[Any], *, seed: int | None = None) -> DmEnvEnvironment:
    """Makes a dm_env environment; every reset, the automatic one after LAST included, draws a task from `tasks`.

    Args:
      env: the environment.
      tasks: the bank of tasks that it plays.
      seed: determines the tasks drawn and all other randomness; None takes entropy from the system.

    Returns:
      The environment.

    Raises:
      TypeError: `tasks` is not a TaskBank of this environment's tasks.
      ValueError: `tasks` belongs to another catalogue.
    """
    return DmEnvEnvironment(env, tasks, seed)
