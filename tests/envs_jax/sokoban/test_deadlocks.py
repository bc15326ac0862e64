"""Deadlock tests: exact against plain Python, sound on everything that can be solved, and not blind."""

import itertools
from functools import partial

import jax
import numpy as np
import pytest

from envs_jax.sokoban import deadlocks, levels
from envs_jax.sokoban.board import Layout
from tests.envs_jax.sokoban.positions import LAYOUTS, bank_of, boards_of, random_text, stack
from tests.reference import sokoban as reference

pytestmark = pytest.mark.usefixtures("quick_compilation")


@partial(jax.jit, static_argnums=0)
def dead_squares(layout, tasks):
    return jax.vmap(partial(deadlocks.dead_squares, layout))(tasks.walls, tasks.targets)


@partial(jax.jit, static_argnums=0)
def verdicts(layout, tasks, boxes):
    """(frozen boxes, frozen deadlock, deadlock) for boxes [T, N]."""
    dead = dead_squares(layout, tasks)

    def judge(task, dead, boxes):
        return (
            deadlocks.frozen_boxes(layout, task.walls, boxes, dead),
            deadlocks.is_frozen_deadlock(layout, task.walls, task.targets, boxes),
            deadlocks.is_deadlock(layout, task.walls, task.targets, boxes, dead),
        )

    return jax.vmap(jax.vmap(judge, in_axes=(None, None, 0)))(tasks, dead, boxes)


def random_levels(layout, seed, count, num_boxes=None, walls=0.25):
    rng = np.random.default_rng(seed)
    texts = [random_text(layout, rng, num_boxes or int(rng.integers(2, 7)), walls) for _ in range(count)]
    return [reference.parse_level(text) for text in texts], bank_of(layout, texts).instances


def cells_of(layout, level, board):
    return {level.cell(row + 1, column + 1) for row, column in np.argwhere(layout.unpack(board))}


def frozen_by_release(level, boxes):
    """Frozen boxes found by setting free, one by one, every box that may be pushed along some axis."""
    is_wall = lambda cell: cell not in level.floor
    frozen = set(boxes)

    def blocked(box, delta):
        sides = (box - delta, box + delta)
        return (
            any(is_wall(side) or side in frozen for side in sides) or all(side in level.dead_squares for side in sides)
        )  # fmt: skip

    while True:
        free = {box for box in frozen if not (blocked(box, 1) and blocked(box, level.stride))}
        if not free:
            return frozen
        frozen -= {min(free)}


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: f"{layout.height}x{layout.width}")
def test_dead_squares_and_frozen_boxes_equal_the_reference(layout):
    most = 6 if layout.num_cells > 15 else 4
    expected, tasks = random_levels(layout, 0, 40, num_boxes=most)
    dead = jax.tree.map(np.asarray, dead_squares(layout, tasks))
    frozen, _, deadlock = jax.tree.map(
        np.asarray, verdicts(layout, tasks, jax.tree.map(lambda x: x[:, None], tasks.boxes))
    )
    for i, level in enumerate(expected):
        assert cells_of(layout, level, [word[i] for word in dead]) == level.dead_squares
        frozen_cells = frozen_by_release(level, level.start.boxes)
        assert cells_of(layout, level, [word[i, 0] for word in frozen]) == frozen_cells
        on_dead = bool(level.start.boxes & level.dead_squares)
        assert deadlock[i, 0] == (on_dead or not frozen_cells <= level.targets)


def solvable_boxes(level, num_boxes):
    """Sets of boxes from which some player cell leads to the solution: the reverse game, played exhaustively."""
    goals = frozenset(level.targets)
    queue = [reference.State(cell, goals) for cell in level.floor - goals]
    seen = set(queue)
    while queue:
        state = queue.pop()
        for before in reference.predecessors(level, state) - seen:
            seen.add(before)
            queue.append(before)
    return {state.boxes for state in seen}


@pytest.mark.parametrize(("num_boxes", "seed"), [(2, 0), (3, 1)])
def test_no_solvable_position_is_flagged_and_many_lost_ones_are(num_boxes, seed):
    layout = Layout(6, 6)
    expected, tasks = random_levels(layout, seed, 6, num_boxes=num_boxes, walls=0.12)
    lost = flagged = 0
    for i, level in enumerate(expected):
        placements = [frozenset(c) for c in itertools.combinations(sorted(level.floor), num_boxes)]
        boxes = stack([boards_of(layout, level, reference.State(min(level.floor), p))[0] for p in placements])
        padded = jax.tree.map(lambda x: np.resize(x, 560)[None], boxes)  # one shape, one compilation
        one = jax.tree.map(lambda x, i=i: x[i : i + 1], tasks)
        assert len(placements) <= 560
        _, by_freeze, by_any = (np.asarray(x)[0, : len(placements)] for x in verdicts(layout, one, padded))
        solvable = solvable_boxes(level, num_boxes)
        is_lost = np.array([placement not in solvable for placement in placements])
        assert not (by_freeze & ~is_lost).any()
        assert not (by_any & ~is_lost).any()
        assert not (by_freeze & ~by_any).any()
        lost += is_lost.sum()
        flagged += by_any.sum()
    assert 0.5 * lost < flagged < lost


CLASSICS = {
    "corner": "#####\n#$ ##\n#@ .#\n#####",
    "two by two block": "#######\n# $$  #\n# $$  #\n#@....#\n#######",
    "pair along a wall": "#######\n# $$  #\n#     #\n#@ .. #\n#######",
    "chain of three": "########\n#  $   #\n# #$$  #\n#  ##  #\n#@ ... #\n########",
    "box beside a frozen box on its target": "#######\n# *$  #\n#     #\n#@  . #\n#######",
}
LIVELY = {
    "frozen boxes on targets": "#######\n#**   #\n# $ . #\n#@    #\n#######",
    "pair in the open": "#######\n#     #\n# $$. #\n#@  . #\n#######",
    "two boxes at a wall with targets on it": "#######\n#.$ $.#\n#  @  #\n#######",
    "diagonal": "#######\n#     #\n# $   #\n#  $  #\n#@..  #\n#######",
}


@pytest.mark.parametrize("name", CLASSICS)
def test_classic_deadlocks_are_found(name):
    assert reference.solve_pushes(reference.parse_level(CLASSICS[name])) is None
    assert verdict(CLASSICS[name])[1]


@pytest.mark.parametrize("name", LIVELY)
def test_lively_positions_are_not_flagged(name):
    assert reference.solve_pushes(reference.parse_level(LIVELY[name])) is not None
    assert verdict(LIVELY[name]) == (False, False)


def verdict(text):
    layout = Layout(8, 8)
    tasks = levels.parse(text).bank(layout).instances
    _, by_freeze, by_any = verdicts(layout, tasks, jax.tree.map(lambda x: x[:, None], tasks.boxes))
    return bool(by_freeze[0, 0]), bool(by_any[0, 0])


def test_the_freeze_test_alone_finds_what_needs_no_dead_square():
    assert verdict(CLASSICS["two by two block"])[0]
    assert verdict(CLASSICS["pair along a wall"])[0]
    assert not verdict("#######\n# $   #\n#@   .#\n#######")[0]  # at a wall, but it can still move


def count_clean_paths(layout, text_levels, max_nodes):
    """How many levels were solved; no state on the way is flagged, and the mask of safe actions keeps every move."""
    solved = 0
    for text in text_levels:
        level = reference.parse_level(text)
        try:
            plan = reference.solve_pushes(level, max_nodes)
        except reference.NodeLimit:
            continue
        if plan is None:
            continue
        solved += 1
        states = reference.play(level, plan)
        tasks = levels.parse(text).bank(layout).instances
        boards = [boards_of(layout, level, state) for state in states]
        boards += [boards[-1]] * (-len(boards) % 64)
        boxes, players = stack(boards)
        _, _, flagged = verdicts(layout, tasks, jax.tree.map(lambda x: x[None], boxes))
        assert not np.asarray(flagged).any()
        safe = np.asarray(safe_actions(layout, jax.tree.map(lambda x: x[0], tasks), boxes, players))
        assert all(safe[t, action] for t, action in enumerate(plan))
    return solved


@partial(jax.jit, static_argnums=0)
def safe_actions(layout, task, boxes, players):
    dead = deadlocks.dead_squares(layout, task.walls, task.targets)
    judge = lambda boxes, player: deadlocks.safe_actions(layout, task.walls, task.targets, boxes, player, dead)
    return jax.vmap(judge)(boxes, players)


def test_paths_of_random_levels_are_clean():
    layout = Layout(8, 8)
    rng = np.random.default_rng(5)
    texts = [random_text(layout, rng, 3, 0.1) for _ in range(80)]
    assert count_clean_paths(layout, texts, 20_000) >= 12


def test_paths_of_boxoban_levels_are_clean(data_dir):
    text = (data_dir / "boxoban" / "unfiltered" / "test" / "000.txt").read_text()
    texts = [block.split("\n", 1)[1] for block in text.split(";")[1:31]]
    assert count_clean_paths(Layout(10, 10), texts, 20_000) >= 25


def test_safe_actions_leave_out_the_fatal_push():
    layout = Layout(5, 6)
    tasks = levels.parse("######\n#    #\n#@$ .#\n#    #\n######").bank(layout).instances
    level = reference.parse_level("######\n#    #\n#@$ .#\n#    #\n######")
    states = [level.start, reference.play(level, [0, 3])[-1]]  # left of the box, above it
    boxes, players = stack([boards_of(layout, level, state) for state in states])
    safe = np.asarray(safe_actions(layout, jax.tree.map(lambda x: x[0], tasks), boxes, players))
    assert safe[0].tolist() == [True, True, False, True]  # pushing right is fine
    assert safe[1].tolist() == [False, False, True, True]  # pushing down takes the box to the wall


def test_with_dead_squares_fills_the_bank():
    layout = Layout(6, 6)
    _, tasks = random_levels(layout, 3, 4, num_boxes=2)
    bank = bank_of(layout, [random_text(layout, np.random.default_rng(3), 2)])
    assert bank.instances.dead == ()
    filled = deadlocks.with_dead_squares(layout, bank)
    expected = deadlocks.dead_squares(layout, filled[0].walls, filled[0].targets)
    assert layout.unpack(filled[0].dead).tolist() == layout.unpack(expected).tolist()
    assert filled[0].dead[0].dtype == np.uint32 and len(filled) == 1
