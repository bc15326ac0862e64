"""Turns that come from `propose`, with entropies of their own, under entropy-triggered backtracking."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_agents import search
from tests.jaxrl_agents.search import tables
from tests.reference import search as reference

pytestmark = pytest.mark.usefixtures("quick_compilation")

NUM_ROOTS, NUM_TURNS, NUM_ROLLOUTS, LENGTH, CHOICES = 16, 6, 2, 3, 4
RULE = {"steps_back": 2, "max_retries": 2}
PROCESSES = tables.processes(NUM_ROOTS, illegal=0.0)
TASKS = tables.table(PROCESSES)
ROOT, KEYS = tables.root(TASKS), tables.keys(NUM_ROOTS)
GENERATOR = np.random.default_rng(0)
TURNS = GENERATOR.integers(0, 3, (30, CHOICES, LENGTH)).astype(np.int32)  # those that each state offers
LENGTHS = GENERATOR.integers(1, LENGTH + 1, (30, CHOICES))
ENTROPIES = GENERATOR.random((30, CHOICES)).astype(np.float32)


def proposer(shift):
    """Draws one of a state's turns by two bits of the word; the log-probability tells which function has drawn."""

    def propose(params, key, state):
        choice = (jax.random.key_data(key)[:, 1] >> shift) % CHOICES
        pick = lambda table: jnp.asarray(table)[state, choice]
        return search.Proposal(pick(TURNS), pick(LENGTHS), jnp.full(len(state), -shift, jnp.float32), pick(ENTROPIES))

    def plain(state, word):
        choice = (word >> shift) % CHOICES
        actions = TURNS[state, choice][: LENGTHS[state, choice]]
        return reference.ProposedTurn(tuple(actions.tolist()), -shift, float(ENTROPIES[state, choice]))

    return propose, plain


(PROPOSE, PLAIN), (RETRY, PLAIN_RETRY) = proposer(7), proposer(12)


def run(mode, **options):
    return mode(
        None, KEYS, ROOT, tables.MODEL, tasks=TASKS, num_turns=NUM_TURNS, num_rollouts=NUM_ROLLOUTS,
        propose=PROPOSE, max_turn_actions=LENGTH, **options,
    )  # fmt: skip


@pytest.mark.parametrize("retry_propose", [RETRY, None], ids=["hotter", "same"])
def test_backtracking_goes_by_the_entropy_of_the_proposed_turn(retry_propose):
    output = run(search.entropy_backtrack, entropy_threshold=0.6, retry_propose=retry_propose, **RULE)
    tree, found = jax.device_get((output.search_tree, output.trajectories(NUM_ROLLOUTS)))
    retried = 0
    for b, process in enumerate(PROCESSES):
        ends = []
        for n in range(NUM_ROLLOUTS):
            end, trace = reference.backtrack_turns(
                process, KEYS[b], NUM_TURNS, index=n, threshold=0.6, propose=PLAIN,
                retry_propose=PLAIN_RETRY if retry_propose else PLAIN, **RULE,
            )  # fmt: skip
            assert tree.node_visits[:, b, n].sum() == len(trace)
            for iteration, (back, entropy, turn, actions) in enumerate(trace):
                at = iteration, b, n
                assert tree.steps_back[at] == back and tree.entropies[at] == np.float32(entropy)
                assert tree.lengths[at] == len(actions) and tree.log_probs[at] == turn.log_prob
                assert tuple(tree.action_from_parent[at][: len(actions)]) == actions
                retried += back > 0
            assert tree.final_returns[b, n] == end.total
            ends.append(end)
        best = max(ends, key=lambda node: node.total)
        assert found.returns[b, 0] == best.total
        played = found.actions[b, 0][found.actions[b, 0] >= 0]
        assert tuple(played.tolist()) == best.path
    assert retried > NUM_ROOTS


def test_without_a_trigger_proposed_turns_are_best_of_n():
    ours, plain = run(search.entropy_backtrack, entropy_threshold=math.inf, **RULE), run(search.best_of_n)
    for name in ("actions", "lengths", "rewards", "log_probs", "mask", "returns", "scores"):
        np.testing.assert_array_equal(
            getattr(ours.trajectories(NUM_ROLLOUTS), name), getattr(plain.trajectories(NUM_ROLLOUTS), name)
        )
    np.testing.assert_array_equal(ours.action, plain.action)
