"""Lookahead that samples, slot by slot against plain Python."""

import jax
import numpy as np
import pytest

from jaxrl_agents import search
from tests.jaxrl_agents.search import tables
from tests.reference import search as reference

pytestmark = pytest.mark.usefixtures("quick_compilation")

NUM_ROOTS, NUM_TURNS = 24, 5
PROCESSES = tables.processes(NUM_ROOTS)  # ties, terminals, dead ends, discounts of 0, 1/2 and 1, negative rewards
TASKS = tables.table(PROCESSES)
KEYS = tables.keys(NUM_ROOTS, seed=3)


@pytest.mark.parametrize(
    "options",
    [
        {"depth": 2, "num_candidates": 3},  # the defaults: one path, continued by the policy, with the model's value
        {"depth": 1, "num_candidates": 3, "width": 3, "bootstrap": False},
        {"depth": 3, "num_candidates": 2, "width": 2, "continuation": "full"},
    ],
    ids=str,
)
def test_every_committed_turn_is_the_plain_one(options):
    width = options.get("width", 1)
    chosen = {("beam_width" if name == "width" else name): value for name, value in options.items()}
    output = search.lookahead(None, KEYS, tables.root(TASKS), tables.MODEL, tasks=TASKS, num_turns=NUM_TURNS, **chosen)
    expected = {
        "parents": np.full((NUM_TURNS, NUM_ROOTS, width), -1),
        "action_from_parent": np.full((NUM_TURNS, NUM_ROOTS, width), -1),
        "lengths": np.zeros((NUM_TURNS, NUM_ROOTS, width)),
        "node_values": np.full((NUM_TURNS, NUM_ROOTS, width), -np.inf),
    }
    generated, best = np.zeros(NUM_ROOTS), []
    for b, (process, key) in enumerate(zip(PROCESSES, KEYS, strict=True)):
        turns, counts = reference.committed(process, key, NUM_TURNS, **options)
        for t, slots in enumerate(turns):
            for w, (parent, action, node) in enumerate(slots):
                values = (parent, action, action >= 0, node.total)
                for leaf, value in zip(expected.values(), values, strict=True):
                    leaf[t, b, w] = value
        generated[b] = counts["generated"]
        best.append(max((node for _, _, node in turns[-1]), key=lambda node: node.total))
    output = jax.device_get(output)
    for name, leaf in expected.items():
        np.testing.assert_array_equal(getattr(output.search_tree, name), leaf, err_msg=name)
    np.testing.assert_array_equal(output.counts.generated, generated)
    np.testing.assert_array_equal(output.value, [node.total for node in best])
    np.testing.assert_array_equal(output.action, [node.path[0] for node in best])
    assert [path for (path,) in tables.paths(output)] == [node.path for node in best]
