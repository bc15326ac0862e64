"""The dm_env adapter under dm_env's own tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import envs_jax
from tests.conformance.registered import made
from tests.envs_jax.interop.corridor import Corridor, corridors

dm_env = pytest.importorskip("dm_env")

from absl.testing import parameterized  # noqa: E402
from dm_env import test_utils  # noqa: E402

from envs_jax.interop import to_dm_env  # noqa: E402

CORRIDORS = {f"Corridor-{kind}": (Corridor(kind, True), corridors(5, 7)) for kind in ("index", "box", "dict")}


class _Conformance(test_utils.EnvironmentTestMixin):
    """dm_env's tests, with actions that reach the end of an episode and go on."""

    id: str

    def make_object_under_test(self) -> Any:
        self.env, self.tasks = CORRIDORS.get(self.id) or made(self.id)
        return to_dm_env(self.env, self.tasks, seed=0)

    def make_action_sequence(self) -> Iterator[Any]:
        rng = np.random.default_rng(0)
        for _ in range(int(np.max(self.tasks.instances.time_limit)) + 3):
            yield rng.integers(self.env.num_actions)


for _id in (*envs_jax.registered_ids(), *CORRIDORS):
    _name = "Test" + _id.replace("-", "")
    globals()[_name] = type(_name, (_Conformance, parameterized.TestCase), {"id": _id, "__module__": __name__})


def test_truncation_keeps_the_discount_and_termination_does_not() -> None:
    env = to_dm_env(Corridor("index"), corridors(7, time_limit=2), seed=0)
    env.reset()
    assert env.step(1).mid()
    step = env.step(1)
    assert (step.step_type, step.reward, step.discount) == (dm_env.StepType.LAST, -0.125, 1.0)
    for time_limit in (1, 9):
        env = to_dm_env(Corridor("index"), corridors(1, time_limit=time_limit), seed=0)
        env.reset()
        step = env.step(1)
        assert (step.step_type, step.reward, step.discount, step.observation) == (dm_env.StepType.LAST, 1.0, 0.0, 1)


def test_a_step_after_the_last_starts_the_next_episode_and_ignores_the_action() -> None:
    env = to_dm_env(Corridor("index"), corridors(1), seed=0)
    assert env.step(999) == dm_env.restart(np.int64(0))  # fresh: the same
    assert env.step(1).last()
    assert env.step(1) == dm_env.restart(np.int64(0))
    assert env.step(2).mid()


def test_levels_change_and_the_seed_determines_them() -> None:
    def masks(seed: int) -> list[int]:
        env = to_dm_env(Corridor("index"), corridors(1, 2, 3), seed=seed)
        lengths = []
        for _ in range(12):
            env.reset()
            lengths.append(next(i for i in range(1, 9) if env.step(1).last()))
        return lengths

    assert set(masks(0)) == {1, 2, 3} and masks(0) == masks(0) != masks(1)


def test_the_mask_is_of_the_current_state() -> None:
    env = to_dm_env(Corridor("index"), corridors(2), seed=0)
    with pytest.raises(RuntimeError, match="before the first reset"):
        env.action_mask()
    env.reset()
    assert env.action_mask().tolist() == [False, True, False]
    env.step(1)
    assert env.action_mask().tolist() == [True, True, False]
    env.step(1)
    assert env.action_mask().all()


@pytest.mark.parametrize("action", [3, -1, 0.5, np.array([1])])
def test_bad_actions_are_refused(action: Any) -> None:
    env = to_dm_env(Corridor(), corridors(3), seed=0)
    env.reset()
    with pytest.raises(ValueError, match="action="):
        env.step(action)


def test_a_single_task_is_refused() -> None:
    with pytest.raises(TypeError, match="env='Sokoban-v0' is an id, not an environment"):
        to_dm_env("Sokoban-v0", corridors(3))
    with pytest.raises(TypeError, match="seed=2.5 is not an integer"):
        to_dm_env(Corridor(), corridors(3), seed=2.5)
    with pytest.raises(TypeError, match="tasks must be a TaskBank; got CorridorTask"):
        to_dm_env(Corridor(), corridors(3)[0])
