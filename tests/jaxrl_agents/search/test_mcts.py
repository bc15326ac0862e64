"""What `mcts` reads off mctx's tree, against a walk through the same tree in plain Python."""

import jax
import numpy as np
import pytest

from jaxrl_agents import search
from tests.jaxrl_agents.search import tables

pytestmark = pytest.mark.usefixtures("quick_compilation")

SIMULATIONS = 24
PROCESSES = tables.processes(32, illegal=0.55)


def searched(**options):
    tasks = tables.table(PROCESSES)
    root = tables.root(tasks)
    key = jax.random.key(1)
    return search.mcts(None, key, root, tables.MODEL, tasks=tasks, num_simulations=SIMULATIONS, **options)


@pytest.fixture(scope="module")
def results():
    output = searched()
    return jax.device_get(output), jax.device_get(output.trajectories(3))


def walked(process, parents, actions, visits, children_visits):
    """(generated, dead ends) of a tree, whose nodes it visits in the order in which they were made."""
    state, over, below = {0: 0}, {0: False}, {0: False}
    for node in np.flatnonzero(parents >= 0).tolist():  # with `max_depth` some simulations make none
        parent, action = int(parents[node]), int(actions[node])
        before = state[parent]
        state[node] = int(process.next[before, action])
        over[node] = process.discount[before, action] == 0
        below[node] = below[parent] or over[parent] or not process.legal(before)
    fresh = [node for node in state if node and not below[node]]
    ended_there = {node: int(visits[node]) - int(children_visits[node].sum()) for node in state}  # simulations
    assert sum(ended_there.values()) - ended_there[0] == SIMULATIONS
    dead_ends = sum(not over[node] and not process.legal(state[node]) for node in fresh)
    return sum(ended_there[node] for node in fresh), dead_ends


@pytest.mark.parametrize("max_depth", [None, 2])
def test_what_starts_below_ends_and_dead_ends_is_wasted(results, max_depth):
    output = results[0] if max_depth is None else jax.device_get(searched(max_depth=max_depth))
    tree, counts = output.search_tree, output.counts
    fields = (tree.parents, tree.action_from_parent, tree.node_visits, tree.children_visits)
    expected = [walked(*row) for row in zip(PROCESSES, *fields, strict=True)]
    generated, dead_ends = np.transpose(expected)
    assert (generated < SIMULATIONS).any() and (generated == SIMULATIONS).any() and (dead_ends > 0).any()
    np.testing.assert_array_equal(counts.generated, generated)
    np.testing.assert_array_equal(counts.dead_ends, dead_ends)
    np.testing.assert_array_equal(counts.generated + counts.wasted, SIMULATIONS)
    np.testing.assert_array_equal(counts.policy_forwards, SIMULATIONS)


def test_the_best_path_starts_with_the_action_chosen(results):
    """The other paths start with the other actions, most visited first."""
    output, found = results
    np.testing.assert_array_equal(found.actions[:, 0, 0], output.action)
    visits = output.search_tree.children_visits[:, 0]
    assert (visits.argmax(1) != output.action).any()  # the rule matters
    for b, counted in enumerate(visits):
        others = [a for a in np.argsort(-counted, kind="stable") if a != output.action[b]]
        expected = [counted[a] if counted[a] else -np.inf for a in (output.action[b], *others)]
        np.testing.assert_array_equal(found.scores[b], expected)
        firsts = [a if counted[a] else -1 for a in others]
        np.testing.assert_array_equal(found.actions[b, 1:, 0], firsts)


def test_paths_stop_at_ends_and_dead_ends(results):
    _, found = results
    for b, process in enumerate(PROCESSES):
        for actions, mask, rewards in zip(found.actions[b], found.mask[b], found.rewards[b], strict=True):
            state, over = 0, False
            for action, taken, reward in zip(actions, mask, rewards, strict=True):
                if not taken:
                    break
                assert not over and action in process.legal(state)
                assert reward == process.reward[state, action]
                over = process.discount[state, action] == 0
                state = process.next[state, action]


def test_a_root_without_an_action_has_no_path():
    masked = np.zeros((len(PROCESSES), 3), np.int32)
    masked[::2] = 1
    output = jax.device_get(searched(invalid_actions=masked))
    found = jax.device_get(output.trajectories(3))
    assert (output.action[::2] == -1).all() and (output.action[1::2] >= 0).all()
    assert not found.mask[::2].any() and (found.actions[::2] == -1).all() and np.isneginf(found.scores[::2]).all()
    assert (output.counts.generated[::2] == 0).all() and (output.counts.dead_ends[::2] == 1).all()
    assert found.mask[1::2, 0, 0].all()
