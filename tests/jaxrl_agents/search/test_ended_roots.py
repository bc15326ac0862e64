"""Roots whose episode is over: no mode does anything there."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs_jax
from jaxrl_agents import search
from tests.jaxrl_agents.search.roots import started

pytestmark = pytest.mark.usefixtures("quick_compilation")

MODES = [
    partial(search.best_of_n, num_turns=3, num_rollouts=2),
    partial(search.beam_search, num_turns=3, beam_width=3, candidates="enumerate", deduplicate=True),
    partial(search.lookahead, num_turns=3, depth=1, num_candidates=2),
    partial(search.entropy_backtrack, num_turns=3, entropy_threshold=0.5, num_rollouts=2),
    partial(search.mcts, num_simulations=6),
]
NAMES = [mode.func.__name__ for mode in MODES]
KEYS = jax.random.split(jax.random.key(0), 4)


@pytest.fixture(scope="module")
def lake():
    """Four roots on ice that is not slippery: beside the goal, on the goal, in a hole, and out of time."""
    env, bank = envs_jax.make("FrozenLake-v0", is_slippery=False)
    tasks, model = bank[np.zeros(4, int)], search.from_env(env)
    first = started(env, model, tasks.instances).embedding
    states = dataclasses.replace(
        first,
        row=np.array([3, 3, 1, 0], first.row.dtype),
        column=np.array([2, 3, 1, 0], first.column.dtype),
        steps=np.array([0, 6, 2, int(tasks.instances.time_limit[3])], first.steps.dtype),
    )
    return model, tasks, states, jax.jit(model.root)(None, states, tasks.instances)


def assert_untouched(output, rows):
    """The search has done nothing for the `rows`, which are no dead ends either."""
    found, counts, weights, action, value = jax.device_get(
        (output.trajectories(1), output.counts, output.action_weights, output.action, output.value)
    )
    assert np.all(action[rows] == -1) and not np.any(weights[rows]) and not np.any(value[rows])
    assert not np.any(counts.generated[rows]) and not np.any(counts.evaluated[rows])
    assert not np.any(counts.dead_ends[rows])
    assert not np.any(found.mask[rows]) and np.all(found.actions[rows] == -1) and not np.any(found.returns[rows])
    others = np.setdiff1d(np.arange(len(action)), rows)
    assert np.all(action[others] >= 0) and np.all(counts.generated[others] > 0)


def test_the_root_of_an_ended_episode_has_no_legal_action(lake):
    _, _, _, root = lake
    assert np.isneginf(root.prior_logits).all(axis=1).tolist() == [False, True, True, True]
    assert not np.any(root.value)


@pytest.mark.parametrize("mode", MODES, ids=NAMES)
def test_no_mode_searches_an_ended_root(lake, mode):
    model, tasks, states, root = lake
    output = mode(None, KEYS, root, model, tasks=tasks)
    assert_untouched(output, [1, 2, 3])
    if mode.func is search.beam_search:
        assert (int(output.action[0]), float(output.value[0])) == (2, 1)
    # The environment says that they are over, whatever the logits.
    by_hand = search.RootFnOutput(prior_logits=jnp.zeros((4, 4)), value=jnp.zeros(4), embedding=states)
    assert_untouched(mode(None, KEYS, by_hand, model, tasks=tasks), [1, 2, 3])


def test_the_next_root_of_an_episode_that_ends_is_ended(lake):
    model, tasks, _, root = lake
    to_the_goal = np.array([2, -1, -1, -1], np.int32)
    after, played = search.next_root(None, jax.random.key(1), root, model, to_the_goal, tasks=tasks)
    assert played.returns.tolist() == [1, 0, 0, 0] and played.mask[:, 0].tolist() == [True, False, False, False]
    assert np.isneginf(after.prior_logits).all()
    for action in (-1, 2):  # no action is taken where the episode is over
        again, played = search.next_root(None, jax.random.key(2), after, model, np.full(4, action), tasks=tasks)
        assert np.isneginf(again.prior_logits).all() and not np.any(played.mask)
        assert not np.any(played.discounts) and not np.any(again.value)
    assert_untouched(MODES[0](None, KEYS, again, model, tasks=tasks), np.arange(4))


def test_a_model_of_two_functions_ends_where_its_discount_is_0():
    """A walk that ends at 2, where the model itself would go on; −1 leaves a root as it is."""

    def step(params, key, action, position):
        position = position + 2 * action - 1
        return (position == 2).astype(jnp.float32), (position != 2).astype(jnp.float32), position

    def evaluate(params, key, position):
        return jnp.zeros((len(position), 2)), jnp.ones(len(position)), position

    model = search.Model(step, evaluate)
    start = jnp.array([1, 1, 0, 0])
    root = search.RootFnOutput(prior_logits=jnp.zeros((4, 2)), value=jnp.ones(4), embedding=start)
    moved, _ = search.next_root(None, jax.random.key(0), root, model, np.array([[1, 1], [0, 1], [1, -1], [-1, -1]]))
    for root in (moved, search.next_root(None, jax.random.key(0), moved, model, np.full(4, -1))[0]):
        assert np.isneginf(root.prior_logits).all(axis=1).tolist() == [True, False, False, False]
        assert root.value.tolist() == [0, 1, 1, 1] and root.embedding.tolist() == [2, 1, 1, 0]
        for mode in MODES:
            if "deduplicate" not in mode.keywords:
                output = mode(None, KEYS, root, model)
                assert int(output.action[0]) == -1 and np.all(output.action[1:] >= 0)
                assert int(output.counts.generated[0]) == 0
