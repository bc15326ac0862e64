"""What of the adapters can be tested without the packages that they adapt to."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import jax
import numpy as np
import pytest

import envs_jax
from envs_jax import interop
from envs_jax.interop import episodes
from envs_jax.interop.spaces import to_numpy
from tests.envs_jax.interop.corridor import LENGTH, Corridor, corridors

PEERS = ("gymnax", "jumanji", "gymnasium", "dm_env")


def test_nothing_is_imported_before_it_is_asked_for() -> None:
    code = f"import sys, envs_jax.interop; print([name for name in {PEERS} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


@pytest.mark.parametrize(
    "function, peer, command",
    [
        ("to_gymnax", "gymnax", 'pip install "gymnax>=1.0"'),
        ("to_jumanji", "jumanji", 'pip install "jumanji>=1.1.2"'),
        ("to_gymnasium", "gymnasium", 'pip install "envs-jax[gymnasium]"'),
        ("to_gymnasium_vector", "gymnasium", 'pip install "envs-jax[gymnasium]"'),
        ("register_gymnasium", "gymnasium", 'pip install "envs-jax[gymnasium]"'),
        ("to_dm_env", "dm_env", 'pip install "dm-env>=1.6"'),
    ],
)
def test_a_missing_package_is_named(function: str, peer: str, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, peer, None)  # makes `import` fail, as where it is not installed
    monkeypatch.delitem(sys.modules, f"envs_jax.interop.{peer}", raising=False)
    with pytest.raises(ImportError) as caught:
        getattr(interop, function)
    assert command in str(caught.value)


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="to_gym_"):
        _ = interop.to_gym_  # type: ignore[attr-defined]


@pytest.mark.parametrize("observation", ["index", "box", "dict"])
def test_observations_become_writable_numpy_values(observation: Any) -> None:
    env, tasks = Corridor(observation), corridors(3)
    value, _ = env.reset(jax.random.key(0), tasks[0])
    single = to_numpy(env.observation_space, value)
    batch = to_numpy(env.observation_space, jax.tree.map(lambda leaf: np.stack([leaf, leaf]), value))
    if observation != "box":
        index, indices = (single, batch) if observation == "index" else (single["index"], batch["index"])
        assert type(index) is np.int64 and index == 0
        assert indices.dtype == np.int64 and indices.tolist() == [0, 0]
    if observation != "index":
        cells, rows = (single, batch) if observation == "box" else (single["cells"], batch["cells"])
        assert cells.dtype == np.uint8 and cells.shape == (LENGTH,) and rows.shape == (2, LENGTH)
        cells[0] = rows[0, 0] = 0


def test_steps_from_python_are_those_of_the_environment() -> None:
    env, tasks = Corridor("index", True), corridors(5, 6)
    rng = np.random.default_rng(0)
    task = episodes.draw_task(tasks, episodes.random_words(rng))
    state, view = episodes.begin(env, task, episodes.random_words(rng))
    for _ in range(12):
        assert view.observation == env.observe(state, task)
        assert view.action_mask.tolist() == env.action_mask(state, task).tolist()
        word = episodes.random_words(rng)
        expected = env.transition(state, np.int32(1), word, task)
        transition, view = episodes.advance(env, task, state, np.int32(1), word)
        jax.tree.map(np.testing.assert_array_equal, transition, expected)
        assert view.info["success"] == env.success(expected.state, task)
        state = transition.state


def test_all_environments_of_a_kind_share_a_compilation() -> None:
    word = np.uint32(0)
    episodes.begin(Corridor("box"), corridors(4)[0], word)
    size = episodes.begin._cache_size()
    episodes.begin(Corridor("box"), corridors(5, 6)[1], word)
    assert episodes.begin._cache_size() == size


def test_random_words_cover_all_bits() -> None:
    words = episodes.random_words(np.random.default_rng(0), 1000)
    assert words.dtype == np.uint32 and np.bitwise_or.reduce(words) == 2**32 - 1
    assert np.bitwise_and.reduce(words) == 0


@pytest.mark.parametrize("bank", [None, "a bank", envs_jax.Task])
def test_what_is_no_bank_is_refused(bank: Any) -> None:
    with pytest.raises(TypeError, match="tasks must be a TaskBank"):
        Corridor().check_tasks(bank)
