"""Sums that float32 rounds, in optimised programs: the same in every mode and for every batch."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxrl_agents import search
from tests.jaxrl_agents.search import tables

pytestmark = pytest.mark.usefixtures("optimized_programs")

NUM_ROOTS, NUM_TURNS = 20, 7
GENERATOR = np.random.default_rng(2)
DISCOUNT = np.float32(0.97)


def inexact(process):
    """The process with rewards and values of many digits, and a discount that is no power of two."""
    return dataclasses.replace(
        process,
        reward=GENERATOR.normal(size=process.reward.shape).astype(np.float32),
        value=GENERATOR.normal(size=process.value.shape).astype(np.float32),
        discount=np.where(process.discount > 0, DISCOUNT, np.float32(0)),
    )


PROCESSES = [inexact(process) for process in tables.processes(NUM_ROOTS, ends=0.05, illegal=0.1)]
TASKS, KEYS = tables.table(PROCESSES), tables.keys(NUM_ROOTS)
ROOT = tables.root(TASKS)


def run(mode, rows=slice(None), **options):
    root, tasks = jax.tree.map(lambda leaf: leaf[rows], (ROOT, TASKS))
    output = mode(None, KEYS[rows], root, tables.MODEL, tasks=tasks, num_turns=NUM_TURNS, **options)
    return jax.device_get(output), jax.device_get(output.trajectories(1))


def rounded_returns(found):
    """The returns of the best paths, each product and each sum rounded to float32."""
    returns = []
    for b, process in enumerate(PROCESSES):
        state, total, scale = 0, np.float32(0), np.float32(1)
        for action in found.actions[b, 0][found.mask[b, 0]]:
            total = np.float32(total + np.float32(scale * process.reward[state, action]))
            scale = np.float32(scale * process.discount[state, action])
            state = process.next[state, action]
        returns.append(total)
    return returns


def test_modes_of_one_path_are_the_plain_rollout_to_the_last_bit():
    _, plain = run(search.best_of_n, num_rollouts=1)
    np.testing.assert_array_equal(plain.returns[:, 0], rounded_returns(plain))
    _, beam = run(search.beam_search, beam_width=1, num_candidates=1)
    for name in ("actions", "rewards", "returns", "scores"):
        np.testing.assert_array_equal(getattr(beam, name), getattr(plain, name))


def test_neither_order_nor_size_of_the_batch_changes_a_bit():
    """Of values with their bootstrap, by which candidates are chosen, too."""
    options = {"depth": 2, "candidates": "enumerate", "continuation": "full", "beam_width": 2}
    output, found = run(search.lookahead, **options)
    np.testing.assert_array_equal(found.returns[:, 0], rounded_returns(found))
    rows = np.array([11, 3, 17])
    few, few_found = run(search.lookahead, rows, **options)
    np.testing.assert_array_equal(few.action_weights, output.action_weights[rows])
    for name in ("actions", "rewards", "returns", "scores"):
        np.testing.assert_array_equal(getattr(few_found, name), getattr(found, name)[rows])
