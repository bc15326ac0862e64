"""Our environments as Gymnasium environments, single and vectorised."""

from __future__ import annotations

import functools
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import envs_jax
from envs_jax.arguments import as_integer, check_integer
from envs_jax.autoreset import MAX_ENVS, AutoReset, AutoResetState, Mode
from envs_jax.environment import Environment, check_playable
from envs_jax.interop import episodes
from envs_jax.interop.spaces import to_gymnasium_space, to_numpy
from envs_jax.tasks import TaskBank

try:
    import gymnasium as gym
    from gymnasium.vector import AutoresetMode
    from gymnasium.vector.utils import batch_space
except ImportError as error:
    raise ImportError(
        'to_gymnasium and to_gymnasium_vector need Gymnasium: pip install "envs-jax[gymnasium]"'
    ) from error

RENDER_MODES = ("rgb_array", "ansi")
_MODES: dict[AutoresetMode, Mode] = {
    AutoresetMode.NEXT_STEP: "next_step",
    AutoresetMode.SAME_STEP: "same_step",
    AutoresetMode.DISABLED: "disabled",
}


class GymnasiumEnvironment(gym.Env):
    """A `gymnasium.Env` whose episodes are tasks drawn from a bank.

    `info` holds the environment's own entries and `action_mask`, int8[num_actions], which `action_space.sample` takes
    as `mask`. `reset(options={"task": i})` plays the bank's task i instead of a random one. The time limit is the
    task's: no TimeLimit wrapper is needed.
    """

    metadata = {"render_modes": list(RENDER_MODES), "render_fps": 4}  # noqa: RUF012 (Gymnasium's own declaration)

    def __init__(self, env: Environment[Any, Any], tasks: TaskBank[Any], render_mode: str | None = None) -> None:
        _check_process()
        check_playable(env, tasks)
        self._env = env
        self._tasks = tasks
        self.render_mode = _checked_render_mode(render_mode)
        self.observation_space = to_gymnasium_space(env.observation_space)
        self.action_space = to_gymnasium_space(env.action_space)
        self._task: Any = None
        self._state: Any = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        word_task, word_reset = episodes.random_words(self.np_random, 2)
        index = _checked_options(options, "task").get("task")
        if index is not None:
            index = as_integer('options["task"]', index)
        self._task = episodes.draw_task(self._tasks, word_task) if index is None else self._tasks[index]
        self._state, view = episodes.begin(self._env, self._task, word_reset)
        return self._seen(view)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if self._state is None:
            raise gym.error.ResetNeeded("step() was called before the first reset()")
        if not self._env.action_space.contains(action):
            raise gym.error.InvalidAction(f"action={action!r} is not one of 0 … {self._env.num_actions - 1}")
        word = episodes.random_words(self.np_random)
        transition, view = episodes.advance(self._env, self._task, self._state, np.int32(action), word)
        self._state = transition.state
        observation, info = self._seen(view)
        return observation, float(transition.reward), bool(transition.terminated), bool(transition.truncated), info

    def render(self) -> Any:
        """A picture uint8[height, width, 3] or a text, as `render_mode` says; None where that is None."""
        if self.render_mode is None:
            return None
        if self._state is None:
            raise gym.error.ResetNeeded("render() was called before the first reset()")
        return _render(self._env, self.render_mode, self._state, self._task)

    def _seen(self, view: episodes.View) -> tuple[Any, dict[str, Any]]:
        # Python booleans: Gymnasium gathers those, but not NumPy's, into arrays of booleans.
        scalar = lambda value: value.item() if value.dtype == np.bool_ else value[()]
        info = {name: value.copy() if value.ndim else scalar(value) for name, value in _info(view).items()}
        return to_numpy(self._env.observation_space, view.observation), info


class GymnasiumVectorEnvironment(gym.vector.VectorEnv):
    """A `gymnasium.vector.VectorEnv` that steps all its episodes in one compiled call.

    It returns what `SyncVectorEnv` returns for the same single environments, in each of Gymnasium's three autoreset
    modes, with the same entries in `infos`: an array and a mask `_name` for each name and, in mode SAME_STEP when an
    episode ends, `final_obs` and `final_info`. In mode DISABLED `reset(options={"reset_mask": mask})`, bool[num_envs],
    restarts the episodes of the mask and keeps the others; it works in the other modes, too.
    """

    def __init__(
        self,
        env: Environment[Any, Any],
        tasks: TaskBank[Any],
        num_envs: int,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
    ) -> None:
        _check_process()
        num_envs = check_integer("num_envs", num_envs, 1, MAX_ENVS)
        self._mode = _checked_mode(autoreset_mode)
        self._batch: AutoReset[Any, Any] = AutoReset(env, tasks, _MODES[self._mode])
        self.num_envs = num_envs
        self.render_mode = _checked_render_mode(render_mode)
        self.metadata = {**GymnasiumEnvironment.metadata, "autoreset_mode": self._mode}
        self.single_observation_space = to_gymnasium_space(env.observation_space)
        self.single_action_space = to_gymnasium_space(env.action_space)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._key: jax.Array | None = None
        self._state: AutoResetState[Any, Any] | None = None
        self._ended = np.zeros(num_envs, np.bool_)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        mask = _checked_options(options, "reset_mask").get("reset_mask")
        key = jax.random.key(episodes.random_words(self.np_random))
        if mask is None:
            mask = np.ones(self.num_envs, np.bool_)
            self._key, self._state, view = _begin(self._batch, key, self.num_envs)
        else:
            self._check_mask(mask)
            self._key, self._state, view = _begin_where(self._batch, key, self._state, mask)
        self._ended = self._ended & ~mask
        return self._observation(view.observation), _with_masks(_info(view), mask)

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        actions = self._checked(actions)
        self._key, self._state, outcome, view, final = _advance(self._batch, self._key, self._state, actions)
        reward, terminated, truncated = (np.array(value) for value in outcome)
        self._ended = terminated | truncated
        infos: dict[str, Any] = {}
        if self._mode == AutoresetMode.SAME_STEP and self._ended.any():
            infos = self._final(final)
        infos.update(_with_masks(_info(view), np.ones(self.num_envs, np.bool_)))
        return self._observation(view.observation), reward.astype(np.float64), terminated, truncated, infos

    def render(self) -> tuple[Any, ...] | None:
        """One picture or text for each environment; None where `render_mode` is None."""
        if self.render_mode is None:
            return None
        if self._state is None:
            raise gym.error.ResetNeeded("render() was called before the first reset()")
        states, tasks = jax.device_get((self._state.env_state, self._state.task))
        lanes = [jax.tree.map(lambda leaf, lane=lane: leaf[lane], (states, tasks)) for lane in range(self.num_envs)]
        return tuple(_render(self._batch.env, self.render_mode, state, task) for state, task in lanes)

    def _final(self, final: episodes.View) -> dict[str, Any]:
        """What the episodes that have just ended looked like, before the reset."""
        ended = self._ended
        observation = self._observation(final.observation)
        final_obs = np.full(self.num_envs, None, object)
        for lane in np.flatnonzero(ended).tolist():
            final_obs[lane] = _lane(observation, lane)
        final_info = _with_masks(_info(final), ended)
        masks = {"_final_obs": ended.copy(), "_final_info": ended.copy()}
        return {"final_obs": final_obs, "final_info": final_info, **masks}

    def _observation(self, observation: Any) -> Any:
        return to_numpy(self._batch.env.observation_space, observation)

    def _checked(self, actions: Any) -> np.ndarray:
        if self._state is None:
            raise gym.error.ResetNeeded("step() was called before the first reset()")
        actions = np.asarray(actions)
        num_actions = self._batch.num_actions
        if actions.shape != (self.num_envs,) or not np.issubdtype(actions.dtype, np.integer):
            raise gym.error.InvalidAction(
                f"actions must be {self.num_envs} integers; got {actions.dtype}{list(actions.shape)}"
            )
        if actions.min() < 0 or actions.max() >= num_actions:
            bad = actions[(actions < 0) | (actions >= num_actions)][0]
            raise gym.error.InvalidAction(f"actions holds {bad}, which is not one of 0 … {num_actions - 1}")
        if self._mode == AutoresetMode.DISABLED and self._ended.any():
            lanes = np.flatnonzero(self._ended)
            raise gym.error.ResetNeeded(
                f"{len(lanes)} environments have ended (the first is {lanes[0]}) and autoreset is disabled: "
                'reset(options={"reset_mask": terminations | truncations})'
            )
        return actions.astype(np.int32)

    def _check_mask(self, mask: Any) -> None:
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.shape != (self.num_envs,):
            raise ValueError(f'options["reset_mask"] must be a NumPy array bool[{self.num_envs}]; got {mask!r}')
        if self._state is None:
            raise gym.error.ResetNeeded('the first reset() starts all environments: call it without "reset_mask"')


def to_gymnasium(
    env: Environment[Any, Any], tasks: TaskBank[Any], *, render_mode: str | None = None
) -> GymnasiumEnvironment:
    """Makes a `gymnasium.Env`; every reset draws a task from `tasks`.

    Args:
      env: the environment.
      tasks: the bank of tasks that it plays.
      render_mode: "rgb_array", "ansi" or None.

    Returns:
      The environment.

    Raises:
      TypeError: `tasks` is not a TaskBank of this environment's tasks.
      ValueError: `tasks` belongs to another catalogue, or `render_mode` is unknown.
    """
    return GymnasiumEnvironment(env, tasks, render_mode)


def to_gymnasium_vector(
    env: Environment[Any, Any],
    tasks: TaskBank[Any],
    num_envs: int,
    *,
    autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    render_mode: str | None = None,
) -> GymnasiumVectorEnvironment:
    """Makes a `gymnasium.vector.VectorEnv`; every reset, the automatic ones included, draws a task from `tasks`.

    Args:
      env: the environment.
      tasks: the bank of tasks that it plays.
      num_envs: the number of environments, ≥ 1.
      autoreset_mode: Gymnasium's AutoresetMode, or its value: "NextStep", "SameStep" or "Disabled".
      render_mode: "rgb_array", "ansi" or None.

    Returns:
      The vector environment.

    Raises:
      TypeError: `tasks` is not a TaskBank of this environment's tasks.
      ValueError: `tasks` belongs to another catalogue, or another argument is out of range.
    """
    return GymnasiumVectorEnvironment(env, tasks, num_envs, autoreset_mode, render_mode)


def register_gymnasium() -> None:
    """Registers every id of `envs_jax.registered_ids()` with Gymnasium, as `envs_jax/<id>`.

    Then `gymnasium.make("envs_jax/Sokoban-v0")` works and `gymnasium.make_vec`, fastest with
    `vectorization_mode="vector_entry_point"`; keyword arguments go to `envs_jax.make`. The processes of "async" must be
    spawned: `vector_kwargs={"context": "spawn"}`. A second call registers what has been added since the first.
    """
    for id in envs_jax.registered_ids():
        if f"envs_jax/{id}" not in gym.registry:
            gym.register(
                f"envs_jax/{id}",
                entry_point=f"{__name__}:make",
                vector_entry_point=f"{__name__}:make_vector",
                kwargs={"env_id": id},  # `id` is an argument of gymnasium.make itself
            )


def make(env_id: str, *, render_mode: str | None = None, **kwargs: Any) -> GymnasiumEnvironment:
    """`to_gymnasium(*envs_jax.make(env_id, **kwargs))`: what `gymnasium.make` calls."""
    _check_process()  # before anything is computed, which would hang
    return to_gymnasium(*envs_jax.make(env_id, **kwargs), render_mode=render_mode)


_first_process: int | None = None  # the one that has made an environment in this copy of the module


def _check_process() -> None:
    """Refuses to go on in a fork of a process with environments: JAX's threads are not there, so it would wait forever.

    Raises:
      RuntimeError: saying how to start processes.
    """
    global _first_process
    if _first_process is None:
        _first_process = os.getpid()
    elif _first_process != os.getpid():
        raise RuntimeError(
            "this process was forked from one that uses JAX, and JAX cannot run in it; start the processes anew: "
            'gymnasium.make_vec(…, vectorization_mode="async", vector_kwargs={"context": "spawn"}) or '
            'AsyncVectorEnv(…, context="spawn"); without processes, "vector_entry_point" is faster'
        )


def make_vector(
    env_id: str,
    *,
    num_envs: int = 1,
    autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    render_mode: str | None = None,
    **kwargs: Any,
) -> GymnasiumVectorEnvironment:
    """`to_gymnasium_vector(*envs_jax.make(env_id, **kwargs), num_envs)`: what `gymnasium.make_vec` calls."""
    _check_process()  # before anything is computed, which would hang
    env, tasks = envs_jax.make(env_id, **kwargs)
    return to_gymnasium_vector(env, tasks, num_envs, autoreset_mode=autoreset_mode, render_mode=render_mode)


@functools.partial(jax.jit, static_argnames="num_envs")
def _begin(batch: AutoReset[Any, Any], key: jax.Array, num_envs: int) -> tuple[jax.Array, Any, episodes.View]:
    key, key_reset = jax.random.split(key)
    _, state = batch.reset(key_reset, num_envs)
    return key, state, _views(batch, state)


@jax.jit
def _begin_where(
    batch: AutoReset[Any, Any], key: jax.Array, state: Any, mask: jax.Array
) -> tuple[jax.Array, Any, episodes.View]:
    key, key_reset = jax.random.split(key)
    _, state = batch.reset_where(key_reset, state, mask)
    return key, state, _views(batch, state)


@jax.jit
def _advance(batch: AutoReset[Any, Any], key: jax.Array, state: Any, actions: jax.Array) -> tuple[Any, ...]:
    """(key, state, outcome, view of the states after any reset, view of the ended states that the actions reached)."""
    key, key_step = jax.random.split(key)
    _, state, reward, terminated, truncated, info = batch.step(key_step, state, actions)
    after = _views(batch, state)
    reached = episodes.View(
        info["final_observation"],
        jnp.ones_like(after.action_mask),  # the mask of every ended state
        {name: info[name] for name in after.info},
    )
    return key, state, (reward, terminated, truncated), after, reached


def _views(batch: AutoReset[Any, Any], state: AutoResetState[Any, Any]) -> episodes.View:
    return jax.vmap(episodes.view, in_axes=(None, 0, 0))(batch.env, state.env_state, state.task)


def _info(view: episodes.View) -> dict[str, np.ndarray]:
    info = {name: np.asarray(value) for name, value in view.info.items()}
    return {**info, "action_mask": np.asarray(view.action_mask).astype(np.int8)}


def _with_masks(info: dict[str, np.ndarray], mask: np.ndarray) -> dict[str, np.ndarray]:
    """Gymnasium's form of batched infos: zeros where an environment has no entry, and a mask of those that have."""
    infos: dict[str, np.ndarray] = {}
    for name, value in info.items():
        infos[name] = np.where(mask.reshape(mask.shape + (1,) * (value.ndim - 1)), value, np.zeros_like(value))
        infos[f"_{name}"] = mask.copy()
    return infos


def _lane(observation: Any, lane: int) -> Any:
    # Not jax.tree.map: it would cost more than the step where many episodes end at once.
    if isinstance(observation, dict):
        return {name: _lane(value, lane) for name, value in observation.items()}
    return observation[lane]


def _render(env: Environment[Any, Any], render_mode: str, state: Any, task: Any) -> Any:
    return env.render_rgb(state, task) if render_mode == "rgb_array" else env.render_text(state, task)


def _checked_render_mode(render_mode: str | None) -> str | None:
    if render_mode is not None and render_mode not in RENDER_MODES:
        raise ValueError(f"render_mode={render_mode!r} is not one of {', '.join(RENDER_MODES)} or None")
    return render_mode


def _checked_mode(mode: AutoresetMode | str) -> AutoresetMode:
    try:
        return AutoresetMode(mode)
    except ValueError:
        known = ", ".join(known.value for known in AutoresetMode)
        raise ValueError(f"autoreset_mode={mode!r} is not one of {known}") from None


def _checked_options(options: dict[str, Any] | None, known: str) -> dict[str, Any]:
    if options is not None and not isinstance(options, dict):
        raise TypeError(f"options={options!r} is not a dict; reset takes {known!r} only")
    unknown = [name for name in options or {} if name != known]
    if unknown:
        raise ValueError(f"options[{unknown[0]!r}] is not known; reset takes {known!r} only")
    return options or {}
