"""The benchmark drives the peers on the same levels as ours, and every one of its arms runs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs_jax
from benchmarks import peers
from benchmarks.boards import grids

SIZE = 8
JUMANJI_ACTIONS = np.array([0, 2, 3, 1])  # of our up, down, left, right; theirs are up, right, down, left


@pytest.fixture(scope="module")
def sokoban():
    env, tasks = envs_jax.make("Sokoban-v0", num_levels=16)
    return env, tasks, grids(tasks, env.layout)


def _ran(arm):
    arm.run(3)
    return arm


def test_jumanji_plays_our_levels(sokoban):
    pytest.importorskip("jumanji")
    from jumanji.environments.routing.sokoban import Sokoban

    env, tasks, levels = sokoban
    generator = peers.jumanji_generator(levels)
    state = generator(jax.random.PRNGKey(0))
    walls, boxes = np.asarray(state.fixed_grid) == 1, np.asarray(state.variable_grid) == 4
    (index,) = np.flatnonzero((levels.walls == walls).all((1, 2)) & (levels.boxes == boxes).all((1, 2)))
    task = tasks[index]
    _, ours = env.reset(jax.random.key(0), task)
    step, peer = jax.jit(env.step), jax.jit(Sokoban(generator=generator).step)
    for action in np.random.default_rng(0).integers(0, 4, 60):
        _, ours, reward, *_ = step(jax.random.key(0), ours, jnp.int32(action), task)
        state, outcome = peer(state, jnp.int32(JUMANJI_ACTIONS[action]))
        assert float(reward) == pytest.approx(float(outcome.reward), abs=1e-6)
        row, column = np.argwhere(np.asarray(state.variable_grid) == 3)[0]
        assert (row - 1) * env.layout.columns + column - 1 == int(ours.player)


@pytest.mark.parametrize("observe", [False, True])
def test_jumanji_arm(sokoban, observe):
    pytest.importorskip("jumanji")
    arm = _ran(peers.jumanji_sokoban(sokoban[2], SIZE, observe=observe).arm())
    _, tally, observation = arm.run.carry
    assert int(tally.steps) == 3 and (np.asarray(tally.reward) != 0).all()
    assert (observation is None) != observe


def test_gymnax_arm():
    pytest.importorskip("gymnax")
    arm = _ran(peers.gymnax_frozen_lake(SIZE).arm())
    _, tally, observation = arm.run.carry
    assert int(tally.steps) == 3 and observation.shape == (SIZE,)


@pytest.mark.parametrize("id", ["Jumanji/Sokoban-v0", "FrozenLake-v1"])
def test_envpool_arms(id):
    pytest.importorskip("envpool")
    assert _ran(peers.envpool(id, SIZE)).items == SIZE


def test_gymnasium_arm():
    pytest.importorskip("gymnasium")
    assert _ran(peers.gymnasium_frozen_lake(SIZE)).items == SIZE


def test_gym_sokoban_arms(sokoban):
    pytest.importorskip("gym_sokoban")
    arm = peers.gym_sokoban_step(sokoban[2])
    arm.run(300)  # beyond the end of an episode, so that the next level is entered
    generate = peers.gym_sokoban_generate((7, 7), 2)
    generate.run(1)
    assert arm.items == generate.items == 1
