"""Gymnasium's own vector environment with a process for each of ours."""

from __future__ import annotations

import importlib
import os

import numpy as np
import pytest

import envs_jax

gym = pytest.importorskip("gymnasium")

from envs_jax.interop import register_gymnasium  # noqa: E402

ID = "envs_jax/FrozenLake-v0"


@pytest.fixture(scope="module", autouse=True)
def registered() -> None:
    register_gymnasium()


@pytest.mark.filterwarnings("ignore:.*os.fork:RuntimeWarning")
def test_forked_processes_say_what_to_do_instead_of_waiting_forever(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises((EOFError, ConnectionError)):
        gym.make_vec(ID, num_envs=1, vectorization_mode="async", vector_kwargs={"context": "fork"})
    assert 'vector_kwargs={"context": "spawn"}' in capfd.readouterr().err


def test_no_vector_environment_is_made_in_a_forked_process(monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = importlib.import_module("envs_jax.interop.gymnasium")
    monkeypatch.setattr(adapter, "_first_process", os.getpid() + 1)  # as in a fork of that process
    env, tasks = envs_jax.make("FrozenLake-v0")
    for make in (lambda: adapter.to_gymnasium_vector(env, tasks, 2), lambda: adapter.make_vector("never made")):
        with pytest.raises(RuntimeError, match="this process was forked from one that uses JAX"):
            make()


def test_spawned_processes_step_as_one_process_does() -> None:
    make = lambda mode, **kwargs: gym.make_vec(ID, num_envs=2, vectorization_mode=mode, time_limit=4, **kwargs)
    ours = make("async", vector_kwargs={"context": "spawn"})
    try:
        expected = make("sync")
        pairs = [(ours.reset(seed=3), expected.reset(seed=3))]
        for step in range(8):  # beyond the time limit, so some episodes begin anew
            actions = np.array([step % 4, (step + 1) % 4])
            pairs.append((ours.step(actions), expected.step(actions)))
    finally:
        ours.close()
    for got, wanted in pairs:
        for one, other in zip(got[:-1], wanted[:-1], strict=True):
            np.testing.assert_array_equal(one, other)
        assert got[-1].keys() == wanted[-1].keys()
        for name in wanted[-1]:
            np.testing.assert_array_equal(got[-1][name], wanted[-1][name])
    assert any(truncated.any() for _, _, _, truncated, _ in (got for got, _ in pairs[1:]))
