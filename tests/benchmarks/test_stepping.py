"""The loops that are timed do what stepping by hand does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs_jax
from benchmarks import stepping

pytestmark = pytest.mark.usefixtures("quick_compilation")

SIZE = 96


@pytest.fixture(scope="module")
def lake():
    env, tasks = envs_jax.make("FrozenLake-v0")
    return env, tasks, stepping.start(env, tasks, SIZE)


@pytest.fixture(scope="module")
def keys():
    """The key of each of three steps of a program's first call."""
    call = jax.random.fold_in(jax.random.key(1), 1)
    return [jax.random.split(jax.random.fold_in(call, i)) for i in range(3)]


def test_actions_are_uniform_and_cost_one_word_each():
    actions = np.asarray(stepping.draw_actions(jax.random.key(0), 60_000, 6))
    assert actions.dtype == np.int32 and (actions.min(), actions.max()) == (0, 5)
    counts = np.bincount(actions)
    assert np.abs(counts - 10_000).max() < 5 * np.sqrt(10_000)
    words = np.asarray(jax.random.bits(jax.random.key(0), (60_000,), jnp.uint32))
    np.testing.assert_array_equal(actions, words % 6)


@pytest.mark.parametrize("num_actions", [1, 4, 32, 133])
def test_legal_actions_are_uniform_among_those_allowed(num_actions):
    rng = np.random.default_rng(num_actions)
    mask = rng.random((3_000, num_actions)) < rng.random((3_000, 1))
    mask[np.arange(3_000), rng.integers(0, num_actions, 3_000)] = True
    key = jax.random.key(7)
    actions = np.asarray(jax.jit(stepping.draw_legal_actions)(key, mask))
    words = np.asarray(jax.random.bits(key, (3_000,), jnp.uint32))
    expected = [np.flatnonzero(row)[word % row.sum()] for row, word in zip(mask, words, strict=True)]
    np.testing.assert_array_equal(actions, expected)


def test_a_start_is_decorrelated_and_repeats_beyond_its_size(lake):
    env, tasks, _ = lake
    _, state = stepping.start(env, tasks, stepping.START_SIZE + 5)
    clocks = np.asarray(state.env_state.steps)
    assert len(np.unique(clocks)) > 90 and clocks.max() < 100
    np.testing.assert_array_equal(clocks[-5:], clocks[:5])


@pytest.mark.parametrize(("mode", "observe"), [("same_step", True), ("disabled", False)])
def test_the_autoreset_loop(lake, keys, mode, observe):
    env, tasks, first = lake
    arm = stepping.autoreset(env, tasks, first, mode=mode, observe=observe, legal=not observe).arm()
    arm.run(3)
    state, tally, observation = arm.run.carry
    vec, draw = envs_jax.AutoReset(env, tasks, mode), stepping.draw_actions
    step, expected, by_hand = jax.jit(vec.step), first[1], stepping.Tally.zero(SIZE)
    for key_action, key_step in keys:
        mask = jax.vmap(env.action_mask)(expected.env_state, expected.task)
        action = draw(key_action, SIZE, 4) if observe else stepping.draw_legal_actions(key_action, mask)
        seen, expected, reward, terminated, truncated, _ = step(key_step, expected, action)
        by_hand = by_hand.add(reward, terminated | truncated)
    jax.tree.map(np.testing.assert_array_equal, (state, tally), (expected, by_hand))
    assert int(tally.steps) == 3 and int(np.sum(tally.episodes)) > 0
    if observe:
        jax.tree.map(np.testing.assert_array_equal, observation, seen)
    else:
        assert observation is None
    assert arm.finish()["episodes"] == pytest.approx(float(np.mean(tally.episodes)) / 3)


def test_the_loops_without_reset(lake, keys):
    env, _, first = lake
    bare, vmapped = stepping.bare(env, first).arm(), stepping.vmapped(env, first).arm()
    bare.run(1)
    vmapped.run(1)
    key_action, key_step = keys[0]
    action = stepping.draw_actions(key_action, SIZE, 4)
    states, tasks = first[1].env_state, first[1].task
    words = jax.random.bits(key_step, (SIZE,), jnp.uint32)
    outcome = jax.vmap(env.live_transition)(states, action, words, tasks)
    jax.tree.map(np.testing.assert_array_equal, bare.run.carry[0], outcome.state)
    _, expected, *_ = jax.vmap(env.step)(jax.random.split(key_step, SIZE), states, action, tasks)
    jax.tree.map(np.testing.assert_array_equal, vmapped.run.carry[0], expected)


def test_the_draw_alone(keys):
    arm = stepping.action_draw(5, SIZE).arm()
    arm.run(2)
    call = jax.random.fold_in(jax.random.key(1), 1)
    draws = [stepping.draw_actions(jax.random.fold_in(call, i), SIZE, 5) for i in range(2)]
    np.testing.assert_array_equal(arm.run.carry, draws[0] + draws[1])
