"""FrozenLake's scripted policy."""

import jax
import numpy as np
import pytest

import envs_jax
from envs_jax.frozen_lake import planning
from envs_jax.frozen_lake.scripted import Optimal

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_it_takes_the_optimal_action_in_every_cell():
    env, tasks = envs_jax.make("FrozenLake-v0", map=["SFF", "HFF", "FFG", "FFF"])
    task, script = tasks[0], Optimal()
    best = np.asarray(planning.infinite_horizon(env, task).policy)
    act = jax.jit(lambda state: script.act(env, script.plan(env, task), state, task, np.uint32(0)))
    state = env.initial(np.uint32(0), task)
    for row in range(4):
        for column in range(3):
            there = type(state)(np.uint8(row), np.uint8(column), state.steps)
            assert act(there) == best[3 * row + column]
