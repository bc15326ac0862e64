"""Counts are what a model was asked: every row of `step` and `evaluate` is counted apart, where it is called."""

from collections import Counter

import jax
import numpy as np
import pytest

import envs_jax
from envs_jax.pytree import pytree_dataclass
from jaxrl_agents import search
from tests.envs_jax.frozen_lake.lake import PythonLake
from tests.jaxrl_agents.search import tables
from tests.jaxrl_agents.search.roots import as_text, random_lake, started
from tests.reference import search as reference

pytestmark = pytest.mark.usefixtures("quick_compilation")

NUM_ROOTS, NUM_TURNS, SIDE = 16, 6, 4


LAKES = [PythonLake(random_lake(seed, SIDE)) for seed in range(NUM_ROOTS)]
CALLS: dict[str, Counter] = {name: Counter() for name in ("step", "live", "evaluate")}


def as_process(lake):
    """The lake as a table: cells are states, actions that do not move are illegal."""
    after = [[lake.go(cell, action) for action in range(4)] for cell in lake.cells]
    moves = np.array([[there != cell for there in row] for cell, row in zip(lake.cells, after, strict=True)])
    tiles = np.array([[lake.tile(cell) for cell in row] for row in after])
    return reference.Process(
        next=np.array([[lake.cells.index(cell) for cell in row] for row in after]),
        reward=(tiles == "G").astype(np.float32),
        discount=np.isin(tiles, ["S", "F"]).astype(np.float32),
        logits=np.where(moves, 0, -np.inf).astype(np.float32),
        value=np.zeros(SIDE * SIDE),
    )


PROCESSES = [as_process(lake) for lake in LAKES]


def count_step(actions, cells):
    for b, (action, cell) in enumerate(zip(actions.tolist(), cells.tolist(), strict=True)):
        lake = LAKES[b]
        at = lake.cells[cell]
        CALLS["step"][b] += 1
        CALLS["live"][b] += lake.tile(at) in "SF" and lake.go(at, action) != at


def count_evaluate(cells):
    CALLS["evaluate"].update(range(len(cells)))


@pytree_dataclass
class Counted(search.EnvModel):
    """A model of an environment that tells of every row."""

    def step(self, params, key, action, embedding):
        jax.debug.callback(count_step, action, jax.vmap(self.env.cell)(embedding))
        return super().step(params, key, action, embedding)

    def evaluate(self, params, key, embedding):
        jax.debug.callback(count_evaluate, jax.vmap(self.env.cell)(embedding))
        return super().evaluate(params, key, embedding)


@pytest.fixture(scope="module")
def lake_search():
    env, tasks = envs_jax.make("FrozenLake-v0", is_slippery=False, map=as_text(lake.rows for lake in LAKES))
    root = started(env, search.from_env(env), tasks.instances)

    def run(mode, **options):
        for calls in CALLS.values():
            calls.clear()
        output = mode(None, tables.keys(NUM_ROOTS), root, Counted(env), tasks=tasks, **options)
        jax.block_until_ready(output)
        jax.effects_barrier()
        counts = jax.device_get(output.counts)
        rows = {name: np.array([calls[b] for b in range(NUM_ROOTS)]) for name, calls in CALLS.items()}
        np.testing.assert_array_equal(counts.generated + counts.wasted, rows["step"])
        np.testing.assert_array_equal(counts.policy_forwards, rows["evaluate"])
        assert np.all(counts.evaluated <= counts.policy_forwards)
        return counts, rows["live"]

    return run


@pytest.mark.parametrize(
    "mode, options",
    [
        (search.best_of_n, {"num_turns": NUM_TURNS, "num_rollouts": 3}),
        (search.lookahead, {"num_turns": NUM_TURNS, "depth": 2, "num_candidates": 2}),
        (search.entropy_backtrack, {"num_turns": NUM_TURNS, "entropy_threshold": 0.9, "num_rollouts": 2}),
        (search.mcts, {"num_simulations": 12}),
    ],
)
def test_nodes_are_the_rows_of_running_episodes(lake_search, mode, options):
    counts, live = lake_search(mode, **options)
    np.testing.assert_array_equal(counts.generated, live)
    np.testing.assert_array_equal(counts.unique, live)
    assert np.all(live > 0) and np.any(counts.wasted > 0)


def test_nodes_of_a_beam_that_merges(lake_search):
    """What the plain beam generates and merges; the rows of kept candidates are stepped a second time."""
    counts, live = lake_search(
        search.beam_search, num_turns=NUM_TURNS, beam_width=4, candidates="enumerate", deduplicate=True
    )
    keys = tables.keys(NUM_ROOTS)
    for b, process in enumerate(PROCESSES):
        _, plain = reference.beam(process, keys[b], 0, NUM_TURNS, 4, deduplicate=True)
        assert (counts.generated[b], counts.unique[b]) == (plain["generated"], plain["generated"] - plain["merged"])
    assert np.any(counts.unique < counts.generated) and np.all(counts.generated <= live)


def test_nodes_of_a_beam_over_turns_of_two_actions(lake_search):
    counts, live = lake_search(
        search.beam_search, num_turns=NUM_TURNS, beam_width=2, num_candidates=2, max_turn_actions=2
    )
    keys = tables.keys(NUM_ROOTS)
    for b, process in enumerate(PROCESSES):
        _, plain = reference.beam(process, keys[b], 0, NUM_TURNS, 2, num_candidates=2, turn_actions=2)
        assert counts.generated[b] == plain["generated"]
    assert np.all(counts.generated <= live)  # what is kept is stepped a second time


def test_nodes_of_a_full_lookahead(lake_search):
    """Every candidate and every action that is legal below it, and the action that is played."""
    counts, live = lake_search(
        search.lookahead, num_turns=NUM_TURNS, depth=2, candidates="enumerate", continuation="full", bootstrap=False
    )
    assert np.all(counts.generated <= live)  # below what is illegal, which stays where it is, actions have effects
    for b, process in enumerate(PROCESSES):
        node, plain = reference.Node(0), 0
        while len(node.path) < NUM_TURNS and not node.ended(process):
            children = [node.child(process, action) for action in process.legal(node.state)]
            below = [0 if child.ended(process) else len(process.legal(child.state)) for child in children]
            plain += len(children) + sum(below) + 1
            after = reference.lookahead(process, node.state, 1, 2, False)
            node = node.child(process, after.path[0])
        assert counts.generated[b] == plain


def test_turns_that_a_lookahead_plays_are_evaluated_step_by_step(lake_search):
    """`lake_search` compares: their forwards are counted, those of the turn that is played among them."""
    counts, _ = lake_search(search.lookahead, num_turns=3, depth=1, num_candidates=2, max_turn_actions=2)
    assert np.all(counts.policy_forwards > 0)
