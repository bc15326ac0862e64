"""The gymnax adapter under gymnax's conventions, wrappers and utilities."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs_jax
from tests.conformance.registered import made
from tests.envs_jax.interop.corridor import Corridor, corridors

pytest.importorskip("gymnax")

import gymnax
from gymnax.environments import environment
from gymnax.experimental.rollout import RolloutWrapper
from gymnax.wrappers import (
    FlattenObservationWrapper,
    GymnaxToDmEnvWrapper,
    GymnaxToGymWrapper,
    GymnaxToVectorGymWrapper,
    LegacyStepAPIWrapper,
    LogWrapper,
    StickyActionWrapper,
)

from envs_jax.interop import to_gymnax

KEY = jax.random.key(0)


@pytest.mark.parametrize("id", [*envs_jax.registered_ids(), "index", "box", "dict"])
def test_values_lie_in_the_spaces(id: Any) -> None:
    made_here = (Corridor(id, True), corridors(5, 7)) if id in ("index", "box", "dict") else made(id)
    env, params = to_gymnax(*made_here)
    assert isinstance(env, environment.Environment) and isinstance(params, environment.EnvParams)
    space = env.observation_space(params)
    observation, state = env.reset(KEY, params)
    for key in jax.random.split(KEY, 30):
        assert space.contains(observation)
        assert env.state_space(params).contains(state)
        action = env.action_space(params).sample(key)
        observation, state, reward, terminated, truncated, info = env.step(key, state, action, params)
        assert reward.dtype == jnp.float32 and terminated.dtype == truncated.dtype == jnp.bool_
        assert {"terminated", "truncated", "final_observation", "success"} <= info.keys()
        assert env.action_mask(state, params).shape == (env.num_actions,)


def _play(env: Any, params: Any, num_steps: int, action: int = 1) -> list[Any]:
    observation, state = env.reset(KEY, params)
    outputs = []
    for key in jax.random.split(KEY, num_steps):
        observation, state, *rest = env.step(key, state, action, params)
        outputs.append((observation, state, *rest))
    return outputs


def test_an_end_resets_within_the_step_and_keeps_the_final_observation() -> None:
    env, params = to_gymnax(Corridor("index"), corridors(3))
    *_, (observation, state, reward, terminated, truncated, info) = _play(env, params, 3)
    assert (int(observation), int(state.time), float(reward)) == (0, 0, 1.0)
    assert terminated and not truncated and info["final_observation"] == 3 and info["success"]


def test_the_time_limit_truncates() -> None:
    env, params = to_gymnax(Corridor("index"), corridors(7, time_limit=4))
    assert params.max_steps_in_episode == 4
    *_, (observation, state, _, terminated, truncated, info) = _play(env, params, 4)
    assert truncated and not terminated and info["final_observation"] == 4 and state.time == 0
    *_, (_, _, _, terminated, truncated, _) = _play(env, params.replace(max_steps_in_episode=2), 2)
    assert truncated and not terminated


def test_both_flags_may_be_set() -> None:
    env, params = to_gymnax(Corridor("index"), corridors(3, time_limit=3))
    *_, (_, _, _, terminated, truncated, _) = _play(env, params, 3)
    assert terminated and truncated


def test_step_env_does_not_reset_and_an_ended_state_stays() -> None:
    env, params = to_gymnax(Corridor("index"), corridors(1))
    _, state = env.reset(KEY, params)
    observation, state, reward, terminated, _ = env.step_env(KEY, state, jnp.int32(1), params)
    assert terminated and observation == 1 and reward == 1 and env.discount(state, params) == 0
    assert env.observe(KEY, state, None, params) == 1
    observation, after, reward, terminated, _ = env.step_env(KEY, state, jnp.int32(0), params)
    assert terminated and observation == 1 and reward == 0 and after.time == state.time == 1


def test_levels_change_between_episodes_and_with_the_parameters() -> None:
    env, params = to_gymnax(Corridor("index"), corridors(2, 3, 4))
    goals = {int(state.task.goal) for _, state, *_ in _play(env, params, 40)}
    assert goals == {2, 3, 4}
    other = params.replace(tasks=corridors(5, 6, 6))
    assert {int(state.task.goal) for _, state, *_ in _play(env, other, 40)} == {5, 6}


def test_parameters_are_arguments_of_the_program() -> None:
    env, params = to_gymnax(Corridor("box"), corridors(*[5] * 50_000))
    step = jax.jit(env.step)
    _, state = env.reset(KEY, params)
    assert len(step.lower(KEY, state, jnp.int32(0), params).as_text()) < 64_000


def test_a_batch_equals_single_steps() -> None:
    env, params = to_gymnax(Corridor("dict", True), corridors(2, 3, 4))
    keys = jax.random.split(KEY, 8)
    _, states = jax.vmap(env.reset, (0, None))(keys, params)
    actions = jnp.arange(8) % 3
    batch = jax.vmap(env.step, (0, 0, 0, None))(keys, states, actions, params)
    for i in range(8):
        single = env.step(keys[i], jax.tree.map(lambda leaf, i=i: leaf[i], states), actions[i], params)
        jax.tree.map(lambda a, b, i=i: np.testing.assert_array_equal(a[i], b), batch, single)


def test_parameters_default_to_the_bank() -> None:
    env, params = to_gymnax(Corridor("index", True), corridors(2, 3, 4))
    observation, state = env.reset(KEY)
    assert observation == env.reset(KEY, params)[0]
    assert env.step(KEY, state, 1)[0] == env.step(KEY, state, 1, params)[0]


def test_the_wrappers_of_gymnax_work() -> None:
    env, params = to_gymnax(Corridor("box"), corridors(3, time_limit=9))
    legacy = LegacyStepAPIWrapper(LogWrapper(FlattenObservationWrapper(StickyActionWrapper(env))))
    assert legacy.num_actions == 3
    _, state = legacy.reset(KEY, params)
    for key in jax.random.split(KEY, 3):
        observation, state, reward, done, info = legacy.step(key, state, 1, params)
    assert done and info["returned_episode"] and info["returned_episode_lengths"] == 3
    assert info["returned_episode_returns"] == 0.75 and observation.shape == (8,)
    timestep = GymnaxToDmEnvWrapper(env).reset(KEY, params)
    assert GymnaxToDmEnvWrapper(env).step(KEY, timestep, 1, params).discount == 1


def test_the_gymnasium_wrappers_of_gymnax_work() -> None:
    env, params = to_gymnax(Corridor("box"), corridors(3, time_limit=9))
    single = GymnaxToGymWrapper(env, params)
    single.reset(seed=0)
    assert [single.step(1)[2] for _ in range(3)] == [False, False, True]
    envs = GymnaxToVectorGymWrapper(env, num_envs=2, params=params)
    observation, _ = envs.reset(seed=0)
    observation, *_ = envs.step(np.array([1, 2]))
    assert np.argmax(observation, axis=1).tolist() == [1, 0]


def test_the_rollout_utility_of_gymnax_works() -> None:
    env, params = to_gymnax(Corridor("box"), corridors(3, time_limit=9))
    always_right = lambda policy, observation, key: jnp.int32(1)
    roller = RolloutWrapper(always_right, env=env, env_params=params)
    assert roller.num_env_steps == 9 and roller.input_shape == (8,)
    observation, _, reward, _, done, total = roller.batch_rollout(jax.random.split(KEY, 4), None)
    assert observation.shape == (4, 9, 8) and done[:, 2].all() and (total == 0.75).all()


def test_it_can_be_registered_with_gymnax() -> None:
    gymnax.register("Corridor-test", lambda: to_gymnax(Corridor("index"), corridors(3))[0])
    env, params = gymnax.make("Corridor-test")
    assert env.name == "Corridor" and env.step(KEY, env.reset(KEY, params)[1], 1, params)[0] == 1


def test_a_single_task_is_refused() -> None:
    with pytest.raises(TypeError, match="tasks must be a TaskBank; got CorridorTask"):
        to_gymnax(Corridor(), corridors(3)[0])
    with pytest.raises(TypeError, match="env='Sokoban-v0' is an id, not an environment"):
        to_gymnax("Sokoban-v0", corridors(3))


def test_raw_and_typed_keys_play_the_same_episodes():
    env, params = to_gymnax(Corridor(slippery=True), corridors(3, 5, 7))
    runs = []
    for make_key in (jax.random.PRNGKey, jax.random.key):
        observation, state = env.reset(make_key(3), params)
        outcome = env.step(make_key(4), state, 1, params)
        runs.append((observation, state, outcome))
    jax.tree.map(np.testing.assert_array_equal, *runs)


def test_wrong_arguments_are_named() -> None:
    environment, params = to_gymnax(Corridor("box"), corridors(3))
    key = jax.random.key(0)
    _, state = environment.reset(key, params)
    with pytest.raises(TypeError, match=r"params must be the EnvParams .* got TaskBank.*params.replace"):
        environment.reset(key, corridors(3))
    with pytest.raises(TypeError, match="params must be the EnvParams"):
        environment.step(key, state, 1, corridors(3))
    with pytest.raises(ValueError, match="action=9 is not one of 0"):
        environment.step(key, state, 9, params)
