"""The Jumanji adapter under Jumanji's own checkers and wrappers."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs_jax
from tests.conformance.registered import made
from tests.envs_jax.interop.corridor import Corridor, corridors

pytest.importorskip("jumanji")

import jumanji.specs
from jumanji.testing.env_not_smoke import check_env_does_not_smoke, check_env_specs_does_not_smoke
from jumanji.types import StepType
from jumanji.wrappers import (
    AutoResetWrapper,
    JumanjiToDMEnvWrapper,
    JumanjiToGymWrapper,
    VmapAutoResetWrapper,
)

from envs_jax.interop import to_jumanji


@pytest.mark.parametrize("id", envs_jax.registered_ids())
def test_jumanjis_checkers_pass(id: str) -> None:
    env = to_jumanji(*made(id))
    check_env_does_not_smoke(env)
    check_env_specs_does_not_smoke(env)


@pytest.mark.parametrize("observation", ["index", "box", "dict"])
def test_jumanjis_checkers_pass_for_every_kind_of_observation(observation: Any) -> None:
    env = to_jumanji(Corridor(observation, True), corridors(5, 7))
    check_env_does_not_smoke(env)
    check_env_specs_does_not_smoke(env)
    names = ("index", "cells") if observation == "dict" else ("observation",)
    assert env.reset(jax.random.PRNGKey(0))[1].observation._fields == (*names, "action_mask", "step_count")


def _end(goal: int, time_limit: int, num_steps: int) -> Any:
    env = to_jumanji(Corridor("index"), corridors(goal, time_limit=time_limit))
    step = jax.jit(env.step)
    state, timestep = env.reset(jax.random.PRNGKey(0))
    assert timestep.first() and timestep.reward == 0 and timestep.discount == 1
    for i in range(num_steps):
        state, timestep = step(state, 1)
        assert timestep.last() == (i == num_steps - 1)
        env.reward_spec.validate(timestep.reward)
        env.discount_spec.validate(timestep.discount)
    return env, state, timestep


def test_the_time_limit_truncates() -> None:
    _, _, timestep = _end(goal=7, time_limit=4, num_steps=4)
    assert timestep.discount == 1 and timestep.reward == -0.125 and timestep.observation.step_count == 4
    assert not timestep.extras["success"]


def test_the_goal_terminates_even_at_the_time_limit() -> None:
    for time_limit in (3, 9):
        _, _, timestep = _end(goal=3, time_limit=time_limit, num_steps=3)
        assert timestep.discount == 0 and timestep.reward == 1 and timestep.extras["success"]


def test_an_ended_episode_stays() -> None:
    env, state, timestep = _end(goal=3, time_limit=9, num_steps=3)
    state, again = env.step(state, 0)
    assert again.step_type == StepType.LAST and again.reward == 0 and again.discount == 0
    assert jax.tree.all(jax.tree.map(jnp.array_equal, again.observation, timestep.observation))


def test_the_mask_is_the_environments() -> None:
    env = to_jumanji(Corridor("index"), corridors(3))
    state, timestep = env.reset(jax.random.PRNGKey(0))
    assert timestep.observation.action_mask.tolist() == [False, True, False]
    _, timestep = env.step(state, 1)
    assert timestep.observation.action_mask.tolist() == [True, True, False]


@pytest.mark.parametrize("make_key", [jax.random.PRNGKey, jax.random.key])
def test_the_key_determines_everything(make_key: Any) -> None:
    env = to_jumanji(Corridor("index", True), corridors(5, 6, 7))

    reset, step = jax.jit(env.reset), jax.jit(env.step)

    def play(seed: int) -> list[int]:
        state, timestep = reset(make_key(seed))
        positions = [int(timestep.observation.observation)]
        for _ in range(10):
            state, timestep = step(state, 1)
            positions.append(int(timestep.observation.observation))
        return [*positions, int(timestep.extras["goal"])]

    runs = [play(seed) for seed in range(6)]
    assert runs[0] == play(0) and len({tuple(run) for run in runs}) > 2


def test_levels_change_between_the_episodes_of_an_automatic_reset() -> None:
    env = VmapAutoResetWrapper(to_jumanji(Corridor("index"), corridors(2, 3, 4)), next_obs_in_extras=True)
    state, timestep = env.reset(jax.random.split(jax.random.PRNGKey(0), 16))
    step = jax.jit(env.step)
    goals = [np.asarray(state.task.goal)]
    for _ in range(12):
        before = np.asarray(state.task.goal)
        state, timestep = step(state, jnp.ones(16, jnp.int32))
        last = np.asarray(timestep.last())
        # The observation is the next episode's first, and the last one of the episode is kept.
        assert (np.asarray(timestep.observation.observation)[last] == 0).all()
        assert (np.asarray(timestep.extras["next_obs"].observation)[last] == before[last]).all()
        goals.append(np.asarray(state.task.goal))
    assert (np.array([len(set(lane)) for lane in np.array(goals).T]) > 1).mean() > 0.8
    assert set(np.concatenate(goals).tolist()) == {2, 3, 4}


def test_steps_compile_once() -> None:
    env = AutoResetWrapper(to_jumanji(Corridor("dict", True), corridors(2, 3, 4)))
    step = jax.jit(env.step)
    state, timestep = jax.jit(env.reset)(jax.random.PRNGKey(0))
    for _ in range(20):
        state, timestep = step(state, jnp.int32(1))
    assert step._cache_size() == 1


def test_jumanjis_converters_to_gymnasium_and_dm_env_work() -> None:
    env = to_jumanji(Corridor("box"), corridors(3))
    single = JumanjiToGymWrapper(env)
    observation, _ = single.reset(seed=0)
    assert observation in single.observation_space
    observation, reward, terminated, _, _ = single.step(single.action_space.sample())
    assert observation in single.observation_space and not terminated
    converted = JumanjiToDMEnvWrapper(env)
    assert converted.reset().first() and converted.step(np.int32(1)).mid()


def test_the_picture_and_the_name() -> None:
    env = to_jumanji(Corridor("box"), corridors(3, 4))
    state, _ = env.reset(jax.random.PRNGKey(0))
    assert env.render(state).shape == (8, 64, 3)
    assert repr(env) == "JumanjiEnvironment(Corridor, 2 tasks)"
    assert isinstance(env.action_spec, jumanji.specs.DiscreteArray) and env.action_spec.num_values == 3


def test_a_single_task_is_refused() -> None:
    with pytest.raises(TypeError, match="env='Sokoban-v0' is an id, not an environment"):
        to_jumanji("Sokoban-v0", corridors(3))
    with pytest.raises(TypeError, match="tasks must be a TaskBank; got CorridorTask"):
        to_jumanji(Corridor(), corridors(3)[0])
