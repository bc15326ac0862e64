"""Moves, rewards and their inverse against the plain-Python reference."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs_jax import bitboard as bb
from envs_jax.sokoban import rules
from tests.envs_jax.sokoban.positions import LAYOUTS, bank_of, boards_of, random_text, state_of
from tests.reference import sokoban as reference

pytestmark = pytest.mark.usefixtures("quick_compilation")

NUM_POSITIONS = 60


@pytest.fixture(scope="module", params=LAYOUTS, ids=lambda layout: f"{layout.height}x{layout.width}")
def positions(request):
    """A layout, random positions on it as reference levels, and the same as a batch of tasks."""
    layout = request.param
    rng = np.random.default_rng(0)
    most = min(6, (layout.num_cells - 1) // 2)
    texts = [
        random_text(layout, rng, int(rng.integers(1, most + 1)), rng.choice([0, 0.3])) for _ in range(NUM_POSITIONS)
    ]
    # The corners of the board, where indices could wrap.
    texts += [corner_text(layout, row, column) for row in (0, layout.rows - 1) for column in (0, layout.columns - 1)]
    return layout, [reference.parse_level(text) for text in texts], bank_of(layout, texts).instances


def corner_text(layout, row, column):
    inside = np.full((layout.rows, layout.columns), " ", object)
    inside[row, column] = "@"
    inside[row, abs(column - 1)] = "$"
    inside[abs(row - 1), column] = "*"
    inside[layout.rows // 2, layout.columns // 2] = "."
    ring = "#" * layout.width
    return "\n".join([ring, *("#" + "".join(line) + "#" for line in inside), ring])


@partial(jax.jit, static_argnums=0)
def all_moves(layout, tasks):
    def move(task, action):
        plan = rules.plan_move(layout, task.walls, task.boxes, task.player, action)
        boxes, player = rules.apply_move(layout, task.boxes, task.player, plan)
        solved = rules.is_solved(task.targets, boxes)
        return plan.legal, plan.pushes, boxes, player, solved, rules.dense_reward(task.targets, plan, solved)

    return jax.vmap(lambda task: jax.vmap(partial(move, task))(jnp.arange(-1, 5)))(tasks)


def test_moves_and_rewards_equal_the_reference(positions):
    layout, reference_levels, tasks = positions
    legal, pushes, boxes, player, solved, reward = jax.tree.map(np.asarray, all_moves(layout, tasks))
    for i, level in enumerate(reference_levels):
        for action in range(4):
            at = (i, action + 1)
            after = reference.step(level, level.start, action)
            assert state_of(layout, level, [word[at] for word in boxes], player[at]) == after
            assert legal[at] == (after != level.start)
            assert pushes[at] == (after.boxes != level.start.boxes)
            assert solved[at] == reference.is_solved(level, after)
            assert reward[at] == pytest.approx(reference.reward(level, level.start, after), abs=1e-6)


def test_actions_out_of_range_have_no_effect(positions):
    _, _, tasks = positions
    legal, pushes, boxes, player, *_ = all_moves(*positions[::2])
    for column in (0, 5):  # actions −1 and 4
        assert not legal[:, column].any() and not pushes[:, column].any()
        assert all((word[:, column] == before).all() for word, before in zip(boxes, tasks.boxes, strict=True))
        assert (player[:, column] == tasks.player).all()


@partial(jax.jit, static_argnums=0)
def all_retreats(layout, tasks):
    def retreat(task, action, drag):
        return rules.retreat(layout, task.walls, task.boxes, task.player, action, drag=drag)

    each = lambda drag: jax.vmap(lambda task: jax.vmap(lambda a: retreat(task, a, drag))(jnp.arange(4)))(tasks)
    return each(False), each(True)


def test_retreats_are_all_the_predecessors(positions):
    layout, reference_levels, tasks = positions
    outcomes = jax.tree.map(np.asarray, all_retreats(layout, tasks))
    for i, level in enumerate(reference_levels):
        found = set()
        for drag, (legal, boxes, player) in zip((False, True), outcomes, strict=True):
            for action in range(4):
                before = state_of(layout, level, [word[i, action] for word in boxes], player[i, action])
                if not legal[i, action]:
                    assert before == level.start
                    continue
                assert reference.step(level, before, bb.OPPOSITE[action]) == level.start
                assert (before.boxes != level.start.boxes) == drag
                found.add(before)
        assert found == reference.predecessors(level, level.start)


def test_replay_follows_the_moves_and_skips_padding(positions):
    layout, reference_levels, tasks = positions
    actions = np.random.default_rng(1).integers(0, 4, (len(reference_levels), 12)).astype(np.int32)
    actions[:, 10:] = -1
    replay = jax.jit(jax.vmap(partial(rules.replay, layout)))
    outcome = jax.tree.map(np.asarray, replay(tasks.walls, tasks.boxes, tasks.player, actions))
    for i, level in enumerate(reference_levels):
        states = reference.play(level, actions[i, :10].tolist())
        states += [states[-1]] * 2
        for t, (before, after) in enumerate(itertools.pairwise(states)):
            boxes, player = boards_of(layout, level, after)
            assert all(word[i, t] == expected for word, expected in zip(outcome.boxes, boxes, strict=True))
            assert outcome.player[i, t] == player
            assert outcome.legal[i, t] == (before != after)
            assert outcome.pushes[i, t] == (before.boxes != after.boxes)
