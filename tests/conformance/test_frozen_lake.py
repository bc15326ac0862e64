"""FrozenLake against Gymnasium's: the transition tensor, trajectories under the same draws, slips, random maps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs_jax
from envs_jax.frozen_lake import maps, planning
from envs_jax.frozen_lake.env import Dynamics, FrozenLake

gymnasium = pytest.importorskip("gymnasium")
frozen_lake = pytest.importorskip("gymnasium.envs.toy_text.frozen_lake")

SLIPS = ({"success_rate": 1 / 3}, {"success_rate": 0.8}, {"is_slippery": False})
NUM_MAPS = 100
SIDE = 6


class Draws:
    """Stands for Gymnasium's generator: `random()` returns the given uniform numbers in turn."""

    def __init__(self, words):
        self.uniforms = iter(np.asarray(words, np.uint64) / 2**32)

    def random(self):
        return next(self.uniforms)


@pytest.fixture(scope="module")
def random_maps():
    """Gymnasium's random maps of 3 to 6 rows; some have a second start, some are cut to a rectangle."""
    chosen = []
    for i in range(NUM_MAPS):
        rows = frozen_lake.generate_random_map(size=3 + i % 4, p=0.8, seed=i)
        if i % 3 == 0:
            rows[1] = "S" + rows[1][1:]
        if i % 5 == 0:
            rows = ["S" + rows[0][2:], *(row[1:] for row in rows[1:])]
        chosen.append(tuple(rows))
    return chosen


def gym_lake(rows, slip, rewards):
    return frozen_lake.FrozenLakeEnv(desc=list(rows), reward_schedule=rewards, **slip)


def gym_tensor(lake):
    """(P, R, terminal) as arrays; outcomes that lead to the same state are added up."""
    num_states = lake.observation_space.n
    probability, reward = np.zeros((2, num_states, 4, num_states))
    for s, actions in lake.P.items():
        for a, outcomes in actions.items():
            for p, target, r, _ in outcomes:
                probability[s, a, target] += p
                if p > 0:
                    reward[s, a, target] = r
    terminal = [all(outcomes == [(1.0, s, 0, True)] for outcomes in a.values()) for s, a in lake.P.items()]
    return probability, reward, np.array(terminal)


@pytest.mark.parametrize("slip", SLIPS, ids=str)
def test_transition_tensor_equals_gymnasium_s(random_maps, slip):
    rewards = (1.0, -0.5, -0.125)
    env = FrozenLake(maps.layout_of(SIDE), "index")
    tasks = env.map_tasks(random_maps, Dynamics(**slip, reward_schedule=rewards))
    models = jax.jit(jax.vmap(lambda task: planning.transition_tensor(env, task)))(tasks.instances)
    models = jax.tree.map(np.asarray, models)
    for i, rows in enumerate(random_maps):
        lake = gym_lake(rows, slip, rewards)
        cells = np.array([r * SIDE + c for r in range(len(rows)) for c in range(len(rows[0]))])
        probability, reward, terminal = gym_tensor(lake)
        np.testing.assert_allclose(models.probability[i][cells][:, :, cells], probability, atol=2e-7)
        np.testing.assert_array_equal(models.reward[i][cells][:, :, cells], reward)
        np.testing.assert_array_equal(models.terminal[i][cells], terminal)
        np.testing.assert_allclose(models.start[i][cells], lake.initial_state_distrib, atol=1e-7)


@pytest.mark.parametrize("slip", SLIPS, ids=str)
def test_trajectories_equal_gymnasium_s_under_the_same_draws(random_maps, slip):
    """One word for the reset, one for each step; Gymnasium is given u = word / 2³²."""
    num_steps = 60
    rewards = (1.0, -0.5, -0.125)
    env = FrozenLake(maps.layout_of(SIDE), "index")
    tasks = env.map_tasks(random_maps, Dynamics(**slip, reward_schedule=rewards, time_limit=10_000))
    rng = np.random.default_rng(0)
    words = rng.integers(0, 2**32, (NUM_MAPS, num_steps + 1), dtype=np.uint32)
    actions = rng.integers(0, 4, (NUM_MAPS, num_steps))

    def play(task, words, actions):
        def step(state, inputs):
            outcome = env.transition(state, *inputs, task)
            return outcome.state, (env.observe(outcome.state, task), outcome.reward, outcome.terminated)

        first = env.initial(words[0], task)
        return env.observe(first, task), jax.lax.scan(step, first, (actions, words[1:]))[1]

    first, (observation, reward, terminated) = jax.tree.map(
        np.asarray, jax.jit(jax.vmap(play))(tasks.instances, jnp.asarray(words), jnp.asarray(actions))
    )
    steps = 0
    for i, rows in enumerate(random_maps):
        lake = gym_lake(rows, slip, rewards)
        lake.np_random = Draws(words[i])
        assert lake.reset()[0] == first[i]
        for t in range(num_steps):
            after, paid, ended, _, _ = lake.step(int(actions[i, t]))
            assert (observation[i, t], reward[i, t], terminated[i, t]) == (after, paid, ended)
            steps += 1
            if ended:
                break
    assert steps > 5 * NUM_MAPS


@pytest.mark.parametrize("slip", SLIPS, ids=str)
def test_slips_have_gymnasium_s_frequencies(slip):
    """Chi-square of 100,000 slips of each action against the probabilities of Gymnasium's table."""
    env, tasks = envs_jax.make("FrozenLake-v0", map=["FFF", "FSF", "FFG"], **slip)
    lake = gym_lake(("FFF", "FSF", "FFG"), slip, (1, 0, 0))
    num_draws = 100_000
    step = jax.jit(jax.vmap(env.transition, in_axes=(None, None, 0, None)))
    start = env.initial(jnp.uint32(0), tasks[0])
    for action in range(4):
        words = jax.random.bits(jax.random.key(action), (num_draws,), jnp.uint32)
        outcome = step(start, jnp.int32(action), words, tasks[0])
        counts = np.bincount(jax.vmap(env.observe, in_axes=(0, None))(outcome.state, tasks[0]), minlength=9)
        mean = np.zeros(9)
        for p, target, _, _ in lake.P[4][action]:
            mean[target] += num_draws * p
        possible = mean > 0
        assert counts[~possible].sum() == 0
        statistic = ((counts - mean)[possible] ** 2 / mean[possible]).sum()
        assert statistic < 13.8  # p = 0.001 at two degrees of freedom


def test_maps_and_limits_are_gymnasium_s():
    assert {name: list(rows) for name, rows in maps.MAPS.items()} == frozen_lake.MAPS
    for ours, theirs in (("FrozenLake-v0", "FrozenLake-v1"), ("FrozenLake-8x8-v0", "FrozenLake8x8-v1")):
        env, tasks = envs_jax.make(ours)
        spec = gymnasium.spec(theirs)
        assert int(tasks[0].time_limit) == spec.max_episode_steps
        assert env.rows_of(tasks[0]) == maps.MAPS[spec.kwargs["map_name"]]


def test_random_maps_have_gymnasium_s_statistics():
    """Holes per cell over 2,000 maps of each generator, within sampling error."""
    num_maps = 2_000
    env = FrozenLake(maps.layout_of(4), "grid")
    tasks = env.random_tasks(jax.random.key(0), num_maps, frozen_probability=0.7)
    ours = np.asarray(jax.vmap(env.cells)(tasks.instances.holes)).mean(axis=0)
    theirs = np.mean(
        [
            [[tile == "H" for tile in row] for row in frozen_lake.generate_random_map(4, 0.7, seed)]
            for seed in range(num_maps)
        ],
        axis=0,
    )
    error = np.sqrt(2 * 0.25 / num_maps)
    np.testing.assert_allclose(ours, theirs, atol=4 * error)
