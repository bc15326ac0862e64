"""Fewest moves and random play of small levels, against plain Python."""

import functools

import jax
import numpy as np
import pytest

from benchmarks.positions import solvability
from envs_jax.sokoban import levels
from envs_jax.sokoban.board import Layout
from envs_jax.sokoban.generator import generate_ragen
from tests.reference import sokoban as reference

pytestmark = pytest.mark.usefixtures("quick_compilation")

LAYOUT = Layout(6, 6)
HORIZON = 5
STUCK = "######\n#@  ##\n#  $##\n#.  ##\n######\n######"  # the box stands in a corner of no target


def chance(level, state, left):
    """The probability that `left` uniformly random actions solve the level from a state."""

    @functools.cache
    def of(state, left):
        if reference.is_solved(level, state):
            return 1.0
        return sum(of(reference.step(level, state, action), left - 1) for action in range(4)) / 4 if left else 0.0

    return of(state, left)


@pytest.mark.parametrize(("num_boxes", "search_depth"), [(1, 300), (2, 100)])
def test_equal_to_the_reference(num_boxes, search_depth):
    bank = generate_ragen(
        jax.random.key(3), 130, layout=LAYOUT, num_boxes=num_boxes, search_depth=search_depth
    )  # more than are looked at together
    found = solvability(bank, LAYOUT, num_boxes, HORIZON)
    assert found.moves.shape == found.by_chance.shape == (130,)
    for i in (*range(0, 130, 13), 99, 100, 129):
        level = reference.parse_level(levels.to_text(LAYOUT, bank[i]))
        assert found.moves[i] == len(reference.solve_moves(level))
        np.testing.assert_allclose(found.by_chance[i], chance(level, level.start, HORIZON), rtol=1e-5)


def test_a_level_without_solution():
    bank = levels.parse(STUCK).bank(LAYOUT)
    assert solvability(bank, LAYOUT, 1, HORIZON) == (np.array([-1]), np.array([0.0]))


def test_large_boards_are_refused():
    bank = levels.parse(STUCK).bank(Layout(10, 10))
    with pytest.raises(ValueError, match="only on boards of at most 16 interior cells"):
        solvability(bank, Layout(10, 10), 1, HORIZON)
