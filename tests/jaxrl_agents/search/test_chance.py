"""What a search saw in simulation says nothing about what then happens, unless it is asked to be clairvoyant.

On open, slippery ice every step's reward is its slip: 0, 1 or 2 for the directions a − 1, a and a + 1. So outputs tell
which slips a search has seen, and which came.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs_jax
from jaxrl_agents import search
from tests.envs_jax.frozen_lake.lake import PythonLake
from tests.jaxrl_agents.search.roots import started

pytestmark = pytest.mark.usefixtures("quick_compilation")

NUM_ROOTS = 4096
YARDSTICK = 3  # an action whose reward is always −1, with which `action_weights` can be read
OPEN_ICE = ["G" + 8 * "F", *3 * [9 * "F"], "FFFFSFFFF", *4 * [9 * "F"]]  # no edge within three steps
ENV, MAPS = envs_jax.make("FrozenLake-v0", map=OPEN_ICE)
TASKS = MAPS[np.zeros(NUM_ROOTS, int)]
PLAIN = search.from_env(ENV, discount=1 / 16)  # later slips do not hide the first one in a return
KEYS = jax.random.split(jax.random.key(7), NUM_ROOTS)


def step(params, key, action, state):
    _, discount, after = PLAIN.step(params, key, action, state)
    down, right = (getattr(after, name).astype(jnp.int32) - getattr(state, name) for name in ("row", "column"))
    direction = jnp.select([right < 0, down > 0, right > 0], [0, 1, 2], 3)
    return jnp.where(action == YARDSTICK, -1.0, (direction - action + 1) % 4), discount, after


MODEL = search.Model(step, PLAIN.evaluate)


@pytest.fixture(scope="module")
def root():
    return started(ENV, PLAIN, TASKS.instances)


def run(mode, root, **options):
    return jax.device_get(mode(None, KEYS, root, MODEL, tasks=TASKS, **options))


def follow(root, action, seed):
    """The slips of playing actions [B] as an environment would."""
    _, played = search.next_root(
        None, jax.random.split(jax.random.key(seed), NUM_ROOTS), root, MODEL, action, tasks=TASKS
    )
    return np.asarray(played.rewards[:, 0])


def dependence(seen, came):
    """Pearson's chi-square of two slips' independence, where the second has equal chances."""
    counts = np.array([[np.sum((seen == i) & (came == j)) for j in range(3)] for i in range(3)])
    expected = counts.sum(1, keepdims=True) / 3
    assert counts.sum() == len(seen) and expected.min() > 20
    return float(((counts - expected) ** 2 / expected).sum())


INDEPENDENT = 22.5  # what chi-square with six degrees of freedom exceeds once in a thousand times


def test_dependence_is_seen():
    slips = np.random.default_rng(0).integers(0, 3, (2, NUM_ROOTS))
    leaking = np.where(np.arange(NUM_ROOTS) % 10 == 0, slips[0], slips[1])  # one time in ten
    assert dependence(*slips) < INDEPENDENT < dependence(slips[0], leaking)


def seen_by(output):
    """[B, 3]: the slip that each action but the yardstick had in simulation."""
    logs = np.log(output.action_weights)
    return np.rint(logs[:, :YARDSTICK] - logs[:, YARDSTICK:] - 1)


LOOKAHEAD = {"num_turns": 1, "depth": 2, "candidates": "enumerate", "bootstrap": False}


def test_lookahead_does_not_know_the_slip(root):
    output = run(search.lookahead, root, **LOOKAHEAD)
    seen, came = seen_by(output), output.trajectories(1).rewards[:, 0, 0]
    chosen = np.take_along_axis(seen, output.action[:, None], axis=1)[:, 0]
    assert np.array_equal(chosen, seen.max(axis=1)) and chosen.mean() > 1.6  # it does act on what it saw
    for slips in (chosen, *seen.T):
        assert dependence(slips, came) < INDEPENDENT
    assert dependence(chosen, follow(root, output.action, seed=8)) < INDEPENDENT
    assert not output.simulated


def test_clairvoyant_lookahead_knows_the_slip(root):
    output = run(search.lookahead, root, clairvoyant=True, **LOOKAHEAD)
    chosen = np.take_along_axis(seen_by(output), output.action[:, None], axis=1)
    np.testing.assert_array_equal(output.trajectories(1).rewards[:, 0, 0], chosen[:, 0])
    assert output.simulated


@pytest.mark.parametrize("clairvoyant", [False, True])
def test_retried_turns_slip_anew(root, clairvoyant):
    """The first turn is discarded and taken again."""
    tree = run(
        search.entropy_backtrack, root, num_turns=2, entropy_threshold=-1.0, max_retries=1, steps_back=1,
        clairvoyant=clairvoyant, invalid_actions=np.tile(np.arange(4) == YARDSTICK, (NUM_ROOTS, 1)),
    ).search_tree  # fmt: skip
    assert np.all(tree.steps_back[1] == 1)
    before, after = tree.rewards[:, :, 0]
    if clairvoyant:
        np.testing.assert_array_equal(before, after)
    else:
        assert dependence(before, after) < INDEPENDENT
    first, second = tree.action_from_parent[:, :, 0]
    assert 0.2 < np.mean(first == second) < 0.5  # of three actions at a higher temperature; the action is drawn anew


def test_mcts_does_not_know_the_slip(root):
    output = run(search.mcts, root, num_simulations=8)
    seen = np.take_along_axis(output.search_tree.children_rewards[:, 0], output.action[:, None], axis=1)[:, 0]
    came = follow(root, output.action, seed=8)
    sensible = output.action != YARDSTICK
    assert sensible.mean() > 0.9 and seen[sensible].mean() > 1.3
    assert dependence(seen[sensible], came[sensible]) < INDEPENDENT
    assert not output.simulated


def test_plans_are_executed_with_slips_of_their_own(root):
    output = run(search.best_of_n, root, num_turns=2, num_rollouts=4)
    best = output.trajectories(1)
    seen, plan = best.rewards[:, 0, 0], best.plan()
    came = np.asarray(search.execute(None, jax.random.key(8), root, MODEL, plan, tasks=TASKS).rewards[:, 0])
    sensible = seen >= 0
    assert output.simulated and sensible.mean() > 0.9 and seen[sensible].mean() > 1.3
    assert dependence(seen[sensible], came[sensible]) < INDEPENDENT


def test_rollouts_are_unbiased():
    """Their mean return is the value of the uniform policy, by dynamic programming in plain Python."""
    env, maps = envs_jax.make("FrozenLake-v0", success_rate=0.8, reward_schedule=(1.0, -0.5, -0.125))
    tasks, model = maps[np.zeros(NUM_ROOTS, int)], search.from_env(env, discount=0.875)
    root = started(env, model, tasks.instances)
    output = search.best_of_n(None, KEYS, root, model, tasks=tasks, num_turns=12, num_rollouts=1)
    lake = PythonLake(env.rows_of(maps[0]), success_rate=0.8, rewards=(1.0, -0.5, -0.125))
    moves = {cell: [any(o[1] != cell for o in lake.outcomes(cell, a)) for a in range(4)] for cell in lake.cells}
    uniform = {cell: np.array(legal) / max(sum(legal), 1) for cell, legal in moves.items()}
    value = lake.values(12, 0.875, uniform)[0][lake.starts[0]]
    returns = np.asarray(output.value)
    assert abs(returns.mean() - value) < 4 * returns.std() / np.sqrt(NUM_ROOTS) < 0.1 * abs(value)
    plan = output.trajectories(1).plan()
    again = search.execute(None, KEYS, root, model, plan, tasks=tasks)  # the search's own words
    np.testing.assert_array_equal(again.returns, returns)
