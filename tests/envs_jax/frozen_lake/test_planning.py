"""Planning against the plain-Python version, and the known optima."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import envs_jax
from envs_jax.frozen_lake import maps, planning
from envs_jax.frozen_lake.env import Dynamics, FrozenLake
from tests.envs_jax.frozen_lake.lake import PythonLake, as_grid, lake_maps

pytestmark = pytest.mark.usefixtures("quick_compilation")

ENV = FrozenLake(maps.layout_of((5, 5)), "index")
REWARDS = (1.0, -0.5, -0.01)

tensor = jax.jit(planning.transition_tensor)


def inside(values, lake):
    """A row of values as a grid, without the padding."""
    return np.asarray(values).reshape(5, 5)[: len(lake.rows), : len(lake.rows[0])]


@settings(max_examples=15, deadline=None)
@given(rows=lake_maps(max_side=5), rate=st.sampled_from([1 / 3, 0.8, 1.0]))
def test_transition_tensor(rows, rate):
    lake = PythonLake(rows, rate, REWARDS)
    task = ENV.map_tasks([rows], Dynamics(rate, True, REWARDS))[0]
    model = jax.tree.map(np.asarray, tensor(ENV, task))
    index = lambda cell: cell[0] * 5 + cell[1]
    probability, reward = np.zeros((2, 25, 4, 25))
    for s in range(25):
        probability[s, :, s] = 1
    for cell in lake.cells:
        if lake.tile(cell) not in "GH":
            probability[index(cell)] = 0
            for action in range(4):
                possible = [outcome for outcome in lake.outcomes(cell, action) if outcome[0] > 0]
                for p, target, r in possible:
                    probability[index(cell), action, index(target)] += p
                    reward[index(cell), action, index(target)] = r
    np.testing.assert_allclose(model.probability, probability, atol=1e-6)
    np.testing.assert_allclose(model.reward, reward, atol=1e-6)
    live = {index(cell) for cell in lake.cells if lake.tile(cell) in "SF"}
    assert set(np.flatnonzero(~model.terminal)) == live
    start = np.zeros(25)
    start[[index(cell) for cell in lake.starts]] = 1 / len(lake.starts)
    np.testing.assert_allclose(model.start, start, atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(rows=lake_maps(max_side=5), rate=st.sampled_from([1 / 3, 0.8, 1.0]))
def test_finite_horizon_optimum(rows, rate):
    lake = PythonLake(rows, rate, REWARDS)
    task = ENV.map_tasks([rows], Dynamics(rate, True, REWARDS))[0]
    found = planning.finite_horizon(ENV, task, 12)
    expected = lake.values(12)
    assert found.values.shape == (13, 25) and found.policy.shape == (12, 25)
    for t in range(13):
        np.testing.assert_allclose(inside(found.values[t], lake), as_grid(lake, expected[t]), atol=2e-6)
    for t in range(12):
        chosen = inside(found.policy[t], lake)
        for cell, values in lake.action_values(expected[t + 1]).items():
            assert values[chosen[cell]] == pytest.approx(max(values), abs=2e-6)
    start = np.mean([expected[0][cell] for cell in lake.starts])
    assert float(planning.optimal_return(ENV, task, 12)) == pytest.approx(start, abs=2e-6)


@settings(max_examples=10, deadline=None)
@given(rows=lake_maps(max_side=5), seed=st.integers(0, 100))
def test_values_of_a_policy(rows, seed):
    lake = PythonLake(rows, 0.8, REWARDS)
    task = ENV.map_tasks([rows], Dynamics(0.8, True, REWARDS))[0]
    weights = np.random.default_rng(seed).dirichlet(np.ones(4), 25)
    policy = {(r, c): weights[r * 5 + c] for r, c in lake.cells}
    expected = lake.values(12, policy=policy)
    found = planning.finite_horizon(ENV, task, 12, jnp.asarray(weights, jnp.float32))
    for t in (0, 5, 12):
        np.testing.assert_allclose(inside(found.values[t], lake), as_grid(lake, expected[t]), atol=2e-6)
    discounted = planning.infinite_horizon(ENV, task, 0.9, jnp.asarray(weights, jnp.float32))
    np.testing.assert_allclose(
        inside(discounted.values, lake), as_grid(lake, lake.values(200, 0.9, policy)[0]), atol=2e-5
    )


@settings(max_examples=8, deadline=None)
@given(rows=lake_maps(max_side=5))
def test_infinite_horizon_optimum(rows):
    lake = PythonLake(rows, 1 / 3, REWARDS)
    task = ENV.map_tasks([rows], Dynamics(1 / 3, True, REWARDS))[0]
    found = planning.infinite_horizon(ENV, task, 0.9)
    assert float(found.residual) <= 1e-6
    np.testing.assert_allclose(inside(found.values, lake), as_grid(lake, lake.values(200, 0.9)[0]), atol=2e-5)
    achieved = planning.infinite_horizon(ENV, task, 0.9, found.policy)
    np.testing.assert_allclose(achieved.values, found.values, atol=2e-5)


def test_policy_iteration_ends_at_the_optimum():
    env, tasks = envs_jax.make("FrozenLake-8x8-v0")
    policy = jnp.zeros(64, jnp.int32)
    for _ in range(20):
        policy = planning.infinite_horizon(env, tasks[0], 0.95, policy).policy
    optimum = planning.infinite_horizon(env, tasks[0], 0.95)
    achieved = planning.infinite_horizon(env, tasks[0], 0.95, policy)
    np.testing.assert_allclose(achieved.values, optimum.values, atol=3e-5)


def test_policies_of_time_and_of_actions():
    env, tasks = envs_jax.make("FrozenLake-v0")
    best = planning.finite_horizon(env, tasks[0], 20)
    replayed = planning.finite_horizon(env, tasks[0], 20, best.policy)
    np.testing.assert_array_equal(replayed.values, best.values)
    weights = jax.nn.one_hot(best.policy[0], 4)
    by_action = planning.finite_horizon(env, tasks[0], 20, best.policy[0])
    np.testing.assert_array_equal(by_action.values, planning.finite_horizon(env, tasks[0], 20, weights).values)


def test_undiscounted_policy_collects_what_it_promises():
    """Without slips every action of a connected lake has value 1; the policy must still go to the goal."""
    env, tasks = envs_jax.make("FrozenLake-8x8-v0", is_slippery=False)
    found = planning.infinite_horizon(env, tasks[0])
    achieved = planning.finite_horizon(env, tasks[0], 14, found.policy)
    assert float(planning.start_value(env, tasks[0], found.values)) == 1.0
    assert float(planning.start_value(env, tasks[0], achieved.values[0])) == 1.0


def test_optimum_of_the_4x4_map():
    env, tasks = envs_jax.make("FrozenLake-v0")
    task = tasks[0]
    assert float(planning.optimal_return(env, task, 100)) == pytest.approx(0.744, abs=5e-4)
    forever = planning.infinite_horizon(env, task)
    assert float(forever.values[0]) == pytest.approx(0.8235, abs=1e-4)
    stationary = planning.finite_horizon(env, task, 100, forever.policy)
    assert float(planning.start_value(env, task, stationary.values[0])) == pytest.approx(0.740, abs=5e-4)


def mean_over_maps(policy=None, **options):
    env, tasks = envs_jax.make("FrozenLake-RAGEN-v0", num_maps=16_000, **options)
    value = lambda task: planning.start_value(env, task, planning.finite_horizon(env, task, 10, policy).values[0])
    return float(jnp.mean(jax.vmap(value)(tasks.instances)))


@pytest.mark.parametrize(
    "options, expected",
    [({}, 0.502), ({"frozen_probability": 0.9}, 0.565), ({"success_rate": 0.8}, 0.90)],
)
def test_optima_of_ragen_s_maps(options, expected):
    """Figures of an independent program over 2,500 maps, known to about 0.005."""
    assert mean_over_maps(**options) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("frozen_probability, expected", [(0.8, 0.21), (0.9, 0.25)])
def test_uniform_play_on_ragen_s_maps(frozen_probability, expected):
    uniform = jnp.full((16, 4), 0.25)
    assert mean_over_maps(uniform, frozen_probability=frozen_probability) == pytest.approx(expected, abs=0.01)


def test_played_episodes_return_the_planned_value():
    env, tasks = envs_jax.make("FrozenLake-v0", time_limit=30)
    task = tasks[0]
    plan = planning.finite_horizon(env, task, 30)

    @jax.jit
    def play(key):
        def step(state, inputs):
            t, word = inputs
            action = plan.policy[t, env.cell(state)]
            state, reward, *_ = env.transition(state, action, word, task)
            return state, reward

        words = jax.random.bits(key, (30,), jnp.uint32)
        return jnp.sum(jax.lax.scan(step, env.initial(words[0], task), (jnp.arange(30), words))[1])

    returns = np.asarray(jax.vmap(play)(jax.random.split(jax.random.key(0), 20_000)))
    value = float(planning.start_value(env, task, plan.values[0]))
    assert returns.mean() == pytest.approx(value, abs=4 * returns.std() / np.sqrt(len(returns)))


def test_wrong_arguments_are_named():
    env, tasks = envs_jax.make("FrozenLake-v0")
    task = tasks[0]
    with pytest.raises(ValueError, match="horizon=0 is not in 1"):
        planning.finite_horizon(env, task, 0)
    with pytest.raises(ValueError, match=r"discount=0 is not in \(0, 1\]"):
        planning.infinite_horizon(env, task, 0)
    for discount in (1.5, float("nan")):
        with pytest.raises(ValueError, match=rf"discount={discount} is not in \[0, 1\]"):
            planning.infinite_horizon(env, task, discount)
    with pytest.raises(ValueError, match="tolerance=0; it must be > 0"):
        planning.infinite_horizon(env, task, tolerance=0)
    with pytest.raises(ValueError, match="tolerance=nan is not in"):
        planning.infinite_horizon(env, task, tolerance=float("nan"))
    with pytest.raises(TypeError, match="horizon=2.5 is not an integer"):
        planning.finite_horizon(env, task, 2.5)
    with pytest.raises(TypeError, match="max_iterations=2.5 is not an integer"):
        planning.infinite_horizon(env, task, max_iterations=2.5)
    for policy in (jnp.full(16, 4), jnp.full((16, 4), 0.3), jnp.full((16, 4), jnp.nan)):
        with pytest.raises(ValueError, match="policy must give an action in 0 … 3 for each cell, or probabilities"):
            planning.finite_horizon(env, task, 5, policy)
    with pytest.raises(ValueError, match=r"values has shape \(4,\); expected \(16,\)"):
        planning.start_value(env, task, jnp.zeros(4))
    for call in (planning.transition_tensor, planning.infinite_horizon):
        with pytest.raises(TypeError, match="task is a whole TaskBank"):
            call(env, tasks)
    with pytest.raises(ValueError, match="task holds a batch"):
        planning.optimal_return(env, tasks.instances, 5)
    with pytest.raises(ValueError, match=r"shape \[4, 4\]; expected \[16, 4\] or \[5, 16, 4\]"):
        planning.finite_horizon(env, task, 5, jnp.zeros(4, jnp.int32))
    with pytest.raises(ValueError, match=r"expected \[16, 4\] \(integer"):
        planning.infinite_horizon(env, task, 0.9, jnp.zeros((5, 16), jnp.int32))


def test_a_search_that_does_not_converge_says_so():
    env, tasks = envs_jax.make("FrozenLake-v0", reward_schedule=(1, 0, 0.1))
    found = planning.infinite_horizon(env, tasks[0], max_iterations=50)
    assert int(found.iterations) == 50 and float(found.residual) > 1e-6
