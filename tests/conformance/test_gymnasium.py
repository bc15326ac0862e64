"""The Gymnasium adapters under Gymnasium's own checkers, and the vector one against SyncVectorEnv."""

from __future__ import annotations

import warnings
from typing import Any

import jax
import numpy as np
import pytest

import envs_jax
from tests.conformance.registered import made, settings
from tests.envs_jax.interop.corridor import LENGTH, Corridor, corridors

gym = pytest.importorskip("gymnasium")

from gymnasium.utils.env_checker import check_env, data_equivalence  # noqa: E402
from gymnasium.vector import AutoresetMode, SyncVectorEnv  # noqa: E402
from gymnasium.wrappers import vector as vector_wrappers  # noqa: E402

from envs_jax.interop import gymnasium as adapter  # noqa: E402
from envs_jax.interop import register_gymnasium, to_gymnasium, to_gymnasium_vector  # noqa: E402

RIGHT = np.ones(4, np.int64)


@pytest.fixture(scope="module", autouse=True)
def registered() -> None:
    register_gymnasium()


@pytest.mark.parametrize("id", envs_jax.registered_ids())
def test_check_env_passes(id: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*out of date.*")  # v0 and v1 of RAGEN's maps are different tasks
        check_env(gym.make(f"envs_jax/{id}", disable_env_checker=True, **settings(id)).unwrapped)


@pytest.mark.parametrize("observation", ["index", "box", "dict"])
def test_check_env_passes_for_every_kind_of_observation(observation: Any) -> None:
    env = to_gymnasium(Corridor(observation, True), corridors(5, 7), render_mode="rgb_array")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*not having a spec.*")  # it is not registered
        check_env(env)


@pytest.mark.parametrize("id", envs_jax.registered_ids())
def test_vector_steps_stay_in_the_spaces(id: str) -> None:
    env, tasks = made(id)
    envs = to_gymnasium_vector(env, tasks, 3, autoreset_mode=AutoresetMode.SAME_STEP, render_mode="ansi")
    observation, _ = envs.reset(seed=0)
    envs.action_space.seed(0)
    for _ in range(10):
        assert observation in envs.observation_space
        observation, reward, terminated, truncated, infos = envs.step(envs.action_space.sample())
        assert reward.dtype == np.float64 and terminated.dtype == truncated.dtype == np.bool_
        assert infos["action_mask"].shape == (3, env.num_actions)
    assert len(envs.render()) == 3


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("observation", ["index", "box", "dict"])
def test_vector_equals_sync_vector_of_single_environments(observation: Any, mode: AutoresetMode) -> None:
    env, tasks = Corridor(observation), corridors(3, time_limit=6)
    ours = to_gymnasium_vector(env, tasks, 4, autoreset_mode=mode)
    theirs = SyncVectorEnv([lambda: to_gymnasium(env, tasks)] * 4, autoreset_mode=mode)
    assert ours.observation_space == theirs.observation_space and ours.action_space == theirs.action_space
    assert ours.metadata["autoreset_mode"] == theirs.metadata["autoreset_mode"]
    rng = np.random.default_rng(0)
    assert data_equivalence(ours.reset(seed=1), theirs.reset(seed=1), exact=True)
    ends = np.zeros(2, int)
    for _ in range(60):
        actions = rng.choice(3, 4, p=[0.2, 0.5, 0.3])
        got, expected = ours.step(actions), theirs.step(actions)
        assert data_equivalence(got[:4], expected[:4], exact=True)
        assert _same_infos(got[4], expected[4])
        ends += got[2].sum(), got[3].sum()
        if mode == AutoresetMode.DISABLED and (got[2] | got[3]).any():
            mask = got[2] | got[3]
            got = ours.reset(options={"reset_mask": mask})
            assert data_equivalence(got, theirs.reset(options={"reset_mask": mask.copy()}), exact=True)
    assert (ends > 3).all()  # both kinds of end were seen


def _same_infos(got: Any, expected: Any) -> bool:
    """`data_equivalence` for infos, whose arrays of objects hold observations and None."""
    if isinstance(expected, dict):
        return got.keys() == expected.keys() and all(_same_infos(got[name], expected[name]) for name in expected)
    if isinstance(expected, np.ndarray) and expected.dtype == object:
        return len(got) == len(expected) and all(map(_same_infos, got, expected))
    return data_equivalence(got, expected, exact=True)


def test_vector_lanes_play_the_levels_that_they_draw() -> None:
    env, tasks = Corridor("dict"), corridors(2, 4, 6, time_limit=9)
    envs = to_gymnasium_vector(env, tasks, 5, autoreset_mode=AutoresetMode.SAME_STEP)
    singles = [to_gymnasium(env, tasks) for _ in range(5)]
    restart = lambda lane, infos: singles[lane].reset(options={"task": [2, 4, 6].index(infos["goal"][lane])})
    _, infos = envs.reset(seed=3)
    for lane in range(5):
        restart(lane, infos)
    rng, seen = np.random.default_rng(1), set()
    for _ in range(80):
        actions = rng.choice(3, 5, p=[0.2, 0.6, 0.2])
        observation, reward, terminated, truncated, infos = envs.step(actions)
        for lane, single in enumerate(singles):
            expected = single.step(actions[lane])
            assert (reward[lane], terminated[lane], truncated[lane]) == expected[1:4]
            seen.add(int(infos["goal"][lane]))
            if terminated[lane] or truncated[lane]:
                assert data_equivalence(infos["final_obs"][lane], expected[0], exact=True)
                assert infos["final_info"]["success"][lane] == expected[4]["success"]
                restart(lane, infos)
            else:
                assert observation["index"][lane] == expected[0]["index"]
    assert seen == {2, 4, 6}


def test_a_reset_of_one_lane_leaves_the_step_of_the_others() -> None:
    envs = to_gymnasium_vector(Corridor("index"), corridors(3), 2, autoreset_mode=AutoresetMode.SAME_STEP)
    envs.reset(seed=0)
    for actions in ([1, 1], [1, 0], [1, 1]):
        observation, _, terminated, _, infos = envs.step(np.array(actions))
    assert terminated.tolist() == [True, False] and infos["final_obs"][0] == 3
    assert observation.tolist() == [0, 1]


def test_next_step_ignores_the_action_of_a_reset() -> None:
    envs = to_gymnasium_vector(Corridor("index"), corridors(1), 1)
    assert envs.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP  # Gymnasium's default
    envs.reset(seed=0)
    observation, reward, terminated, _, infos = envs.step(np.array([1]))
    assert (observation[0], reward[0], terminated[0], infos["success"][0]) == (1, 1.0, True, True)
    observation, reward, terminated, truncated, infos = envs.step(np.array([1]))
    assert (observation[0], reward[0], terminated[0], truncated[0], infos["success"][0]) == (0, 0, False, False, False)


def test_disabled_mode_asks_for_a_reset() -> None:
    envs = to_gymnasium_vector(Corridor("index"), corridors(1), 2, autoreset_mode="Disabled")
    envs.reset(seed=0)
    envs.step(np.array([1, 2]))
    with pytest.raises(gym.error.ResetNeeded, match=r"1 environments have ended \(the first is 0\)"):
        envs.step(np.array([1, 2]))
    options = {"reset_mask": np.array([True, False])}
    observation, infos = envs.reset(options=options)
    assert options.keys() == {"reset_mask"}  # wrappers read it afterwards
    assert observation.tolist() == [0, 0] and infos["_success"].tolist() == [True, False]
    envs.step(np.array([2, 2]))


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"reset_mask": [True, False]}, ValueError, "NumPy array"),
        ({"reset_mask": np.ones(3, bool)}, ValueError, r"bool\[2\]"),
        ({"reset_mask": np.ones(2, int)}, ValueError, r"bool\[2\]"),
        ({"task": 0}, ValueError, r"options\['task'\] is not known"),
    ],
)
def test_bad_vector_options_are_refused(options: Any, error: Any, message: str) -> None:
    envs = to_gymnasium_vector(Corridor(), corridors(3), 2)
    envs.reset(seed=0)
    with pytest.raises(error, match=message):
        envs.reset(options=options)


@pytest.mark.parametrize("actions", [np.array([0, 3]), np.array([-1, 0]), np.zeros(3, int), np.zeros(2), np.int32(1)])
def test_bad_vector_actions_are_refused(actions: Any) -> None:
    envs = to_gymnasium_vector(Corridor(), corridors(3), 2)
    with pytest.raises(gym.error.ResetNeeded):
        envs.step(np.zeros(2, int))
    envs.reset(seed=0)
    with pytest.raises(gym.error.InvalidAction, match="actions"):
        envs.step(actions)


@pytest.mark.parametrize("action", [3, -1, 0.5, np.array([1])])
def test_bad_actions_are_refused(action: Any) -> None:
    env = to_gymnasium(Corridor(), corridors(3))
    with pytest.raises(gym.error.ResetNeeded):
        env.step(0)
    env.reset(seed=0)
    with pytest.raises(gym.error.InvalidAction, match="action="):
        env.step(action)


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match="TaskBank"):
        to_gymnasium(Corridor(), corridors(3)[0])
    with pytest.raises(ValueError, match="render_mode='human'"):
        to_gymnasium(Corridor(), corridors(3), render_mode="human")
    with pytest.raises(ValueError, match="num_envs=0"):
        to_gymnasium_vector(Corridor(), corridors(3), 0)
    with pytest.raises(ValueError, match="Sometimes"):
        to_gymnasium_vector(Corridor(), corridors(3), 2, autoreset_mode="Sometimes")
    env = to_gymnasium(Corridor(), corridors(3))
    with pytest.raises(ValueError, match="level"):
        env.reset(options={"level": 1})
    for make in (to_gymnasium, lambda env, tasks: to_gymnasium_vector(env, tasks, 2)):
        with pytest.raises(TypeError, match="env='Sokoban-v0' is an id, not an environment"):
            make("Sokoban-v0", corridors(3))
    for num_envs in (2.5, "2"):
        with pytest.raises(TypeError, match=f"num_envs={num_envs!r} is not an integer"):
            to_gymnasium_vector(Corridor(), corridors(3), num_envs)
    with pytest.raises(TypeError, match=r'options\["task"\]=1.5 is not an integer'):
        env.reset(options={"task": 1.5})
    with pytest.raises(TypeError, match="options=5 is not a dict"):
        env.reset(options=5)
    with pytest.raises(IndexError, match="index 5"):
        env.reset(options={"task": 5})


def test_the_seed_determines_everything() -> None:
    envs = to_gymnasium_vector(Corridor("box", True), corridors(5, 6, 7), 8)

    def play(seed: int) -> Any:
        outputs = [envs.reset(seed=seed)[0]]
        outputs += [envs.step(np.ones(8, int))[0] for _ in range(12)]
        return np.array(outputs)

    first, again, other = play(5), play(5), play(6)
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_slips_have_their_probability() -> None:
    envs = to_gymnasium_vector(Corridor("index", True), corridors(LENGTH - 1, time_limit=2), 4096)
    start, _ = envs.reset(seed=0)
    after = envs.step(np.full(4096, 2))[0]
    assert abs((after - start).mean() - 0.25) < 0.03


def test_long_runs_compile_once() -> None:
    envs = to_gymnasium_vector(Corridor("box", True), corridors(5, 6), 7, autoreset_mode=AutoresetMode.SAME_STEP)
    envs.reset(seed=0)
    envs.step(np.ones(7, np.int64))
    size = adapter._advance._cache_size()
    for _ in range(30):
        envs.step(np.ones(7, np.int32))
    envs.reset(seed=1)
    to_gymnasium_vector(Corridor("box", True), corridors(2, 3), 7, autoreset_mode=AutoresetMode.SAME_STEP).reset(seed=0)
    envs.step(np.ones(7, np.int64))
    assert adapter._advance._cache_size() == size


def test_returned_arrays_belong_to_the_caller() -> None:
    envs = to_gymnasium_vector(Corridor("box"), corridors(5), 2)
    observation, _ = envs.reset(seed=0)
    kept = observation.copy()
    envs.step(np.ones(2, int))
    assert np.array_equal(observation, kept)
    for array in envs.step(np.ones(2, int))[:4]:
        array[...] = 0  # writable
    env = to_gymnasium(Corridor("box"), corridors(5))
    env.reset(seed=0)[0][:] = 1
    assert env.step(1)[0].tolist() == [0, 1, 0, 0, 0, 0, 0, 0]


def test_vector_wrappers_of_gymnasium_work() -> None:
    envs = to_gymnasium_vector(Corridor("box"), corridors(3, time_limit=9), 4)
    envs = vector_wrappers.RecordEpisodeStatistics(envs)
    envs = vector_wrappers.FlattenObservation(envs)
    envs = vector_wrappers.DictInfoToList(envs)
    envs.reset(seed=0)
    for _ in range(3):
        *_, infos = envs.step(RIGHT)
    assert [info["episode"]["l"] for info in infos] == [3] * 4
    assert [info["episode"]["r"] for info in infos] == [0.75] * 4
    assert all(info["success"] for info in infos)


def test_final_info_becomes_a_list_of_dictionaries() -> None:
    envs = to_gymnasium_vector(Corridor("box"), corridors(1), 4, autoreset_mode="SameStep")
    envs = vector_wrappers.DictInfoToList(envs)
    envs.reset(seed=0)
    *_, infos = envs.step(np.array([1, 2, 1, 2]))
    assert [info.get("final_info", {}).get("success") for info in infos] == [True, None, True, None]
    assert [info["success"] for info in infos] == [False] * 4


def test_make_and_make_vec_pass_arguments_on() -> None:
    id = envs_jax.registered_ids()[0]
    env = gym.make(f"envs_jax/{id}", render_mode="ansi", seed=3)
    env.reset(seed=0)
    assert isinstance(env.render(), str)
    envs = gym.make_vec(
        f"envs_jax/{id}",
        num_envs=2,
        vectorization_mode="vector_entry_point",
        autoreset_mode=AutoresetMode.DISABLED,
    )
    assert isinstance(envs.unwrapped, adapter.GymnasiumVectorEnvironment)
    assert envs.num_envs == 2 and envs.metadata["autoreset_mode"] == AutoresetMode.DISABLED
    envs = gym.make_vec(f"envs_jax/{id}", num_envs=2, vectorization_mode="sync", seed=3)
    observations, _ = envs.reset(seed=0)
    assert len(observations) == 2
    register_gymnasium()  # a second time: nothing to do, no warning


def test_no_large_constant_in_the_programs() -> None:
    env, tasks = Corridor("box"), corridors(*[5] * 50_000)
    batch = envs_jax.AutoReset(env, tasks)
    key = jax.random.key(0)
    assert len(adapter._begin.lower(batch, key, 4).as_text()) < 64_000
