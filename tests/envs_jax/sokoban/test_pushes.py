"""Reachability, pushes and push distances against plain Python."""

import itertools
from functools import partial

import jax
import numpy as np
import pytest

from envs_jax import bitboard as bb
from envs_jax.sokoban import levels, pushes
from envs_jax.sokoban.board import Layout
from tests.envs_jax.sokoban.positions import LAYOUTS, bank_of, random_text
from tests.reference import sokoban as reference

pytestmark = pytest.mark.usefixtures("quick_compilation")

SMALL = Layout(6, 7)


def random_levels(layout, seed, count, num_boxes=3, walls=0.25):
    rng = np.random.default_rng(seed)
    texts = [random_text(layout, rng, num_boxes, walls) for _ in range(count)]
    return [reference.parse_level(text) for text in texts], jax.device_get(bank_of(layout, texts).instances)


def cells_of(layout, level, board):
    """Concrete words as cells of the reference."""
    return {level.cell(row + 1, column + 1) for row, column in np.argwhere(layout.unpack(board))}


def to_reference(layout, level, cell):
    return level.cell(cell // layout.columns + 1, cell % layout.columns + 1)


def lane(board, *index):
    return [np.asarray(word)[index] for word in board]


@partial(jax.jit, static_argnums=0)
def explore(layout, tasks):
    blocked = bb.union(tasks.walls, tasks.boxes)
    reached = pushes.reachable(layout, blocked, tasks.player)
    return reached, pushes.pushable(layout, tasks.boxes, reached, bb.complement(layout, blocked))


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_reach_and_pushes_equal_the_reference(layout):
    references, tasks = random_levels(layout, seed=1, count=40)
    reached, masks = explore(layout, tasks)
    for i, level in enumerate(references):
        assert cells_of(layout, level, lane(reached, i)) == reference.walks(level, level.start).keys()
        expected = {label for label, _ in reference._push_successors(level, level.start)}
        found = {(box, d) for d, mask in enumerate(masks) for box in cells_of(layout, level, lane(mask, i))}
        assert found == expected


def test_a_batch_equals_single_calls():
    layout = Layout(10, 10)
    _, tasks = random_levels(layout, seed=2, count=5)
    batch, _ = explore(layout, tasks)
    blocked = bb.union(tasks.walls, tasks.boxes)
    reachable = partial(pushes.reachable, layout)
    mapped = jax.jit(jax.vmap(reachable))(blocked, tasks.player)
    for i in range(5):
        single = jax.jit(reachable)(tuple(word[i] for word in blocked), tasks.player[i])
        assert [int(w) for w in single] == [int(w) for w in lane(batch, i)] == [int(w) for w in lane(mapped, i)]


def test_apply_push_equals_the_reference():
    layout = LAYOUTS[1]
    references, tasks = random_levels(layout, seed=3, count=20)
    push = jax.jit(partial(pushes.apply_push, layout))
    tried = 0
    for i, level in enumerate(references):
        boxes = tuple(word[i] for word in tasks.boxes)
        for (box, direction), _ in reference._push_successors(level, level.start):
            row, column = level.row_column(box)
            cell = np.int32((row - 1) * layout.columns + column - 1)
            after, target = push(boxes, cell, np.int32(direction))
            moved = box + level.steps[direction]
            assert cells_of(layout, level, after) == level.start.boxes - {box} | {moved}
            assert to_reference(layout, level, int(target)) == moved
            tried += 1
    assert tried > 20


def lone_box_distances(level, target):
    """{(box, player): pushes} of a single box to one target, None where it cannot get there."""
    distances = {}
    for box, player in itertools.permutations(level.floor, 2):
        start = reference.State(player, frozenset([box]))
        lone = reference.Level(level.height, level.width, level.floor, frozenset([target]), start)
        plan = reference.solve_pushes(lone)
        distances[box, player] = None if plan is None else reference.count_pushes(lone, plan)
    return distances


@partial(jax.jit, static_argnums=0)
def distance_tables(layout, walls, targets):
    cells = jax.numpy.arange(layout.num_cells)
    regions = pushes.side_regions(layout, walls, cells)
    return pushes.push_distances(layout, walls, targets, pushes.joined_sides(layout, regions, cells)), regions


def test_push_distances_are_exact_for_a_lone_box():
    layout = SMALL
    references, tasks = random_levels(layout, seed=4, count=4, num_boxes=1)
    distances, regions = jax.device_get(distance_tables(layout, tasks.walls, tasks.targets))
    for i, level in enumerate(references):
        (target,) = level.targets
        for (box, player), expected in lone_box_distances(level, target).items():
            row, column = level.row_column(box)
            cell = (row - 1) * layout.columns + column - 1
            sides = [d for d in range(4) if player in cells_of(layout, level, lane(regions[d], i, cell))]
            assert len(sides) <= 1
            if not sides:  # the player is walled off from the box
                assert expected == (0 if box == target else None)
                continue
            found = int(distances[i, cell, sides[0]])
            assert (None if found == pushes.UNREACHABLE else found) == expected


def test_connected_sides_have_one_distance():
    layout = LAYOUTS[1]
    references, tasks = random_levels(layout, seed=5, count=10, walls=0.35)
    distances, _ = jax.device_get(distance_tables(layout, tasks.walls, tasks.targets))
    compared = 0
    for i, level in enumerate(references):
        for box in level.floor:
            row, column = level.row_column(box)
            cell = (row - 1) * layout.columns + column - 1
            for a, b in itertools.combinations(range(4), 2):
                ends = box + level.steps[a], box + level.steps[b]
                state = reference.State(ends[0], frozenset([box]))
                if set(ends) <= level.floor and ends[1] in reference.walks(level, state):
                    assert distances[i, cell, a] == distances[i, cell, b]
                    compared += 1
    assert compared > 100


def test_several_targets_give_the_nearest():
    layout = LAYOUTS[1]
    _, tasks = random_levels(layout, seed=6, count=10, num_boxes=4)
    nearest, _ = distance_tables(layout, tasks.walls, tasks.targets)
    singles = jax.jit(lambda board: [bb.singleton(layout, cell) for cell in pushes.cells_of(layout, board, 4)])
    each = [distance_tables(layout, tasks.walls, single)[0] for single in singles(tasks.targets)]
    assert (np.asarray(nearest) == np.min(each, axis=0)).all()


def test_a_corridor_by_hand():
    # The player cannot get round the box, so it can only be pushed away from where the player stands.
    task = levels.parse("########\n#@ $  .#\n########").bank()[0]
    layout = Layout(3, 8)
    distance, _ = distance_tables(layout, task.walls, task.targets)
    left, right = np.asarray(distance)[:, 2], np.asarray(distance)[:, 3]
    assert left.tolist()[1:] == [4, 3, 2, 1, 0]
    assert right.tolist()[:-1] == [pushes.UNREACHABLE] * 5
    assert right[-1] == left[-1] == 0


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_cells_are_listed_and_packed(layout):
    rng = np.random.default_rng(7)
    grids = rng.random((20, layout.rows, layout.columns)) < 0.1
    words = np.array([layout.pack(grid) for grid in grids], np.uint32)
    board = tuple(words[:, i] for i in range(layout.num_words))
    most = int(grids.sum(axis=(1, 2)).max()) + 1
    found = np.stack([np.asarray(cell) for cell in pushes.cells_of(layout, board, most)], axis=1)
    for row, grid in zip(found, grids, strict=True):
        cells = np.flatnonzero(grid)
        assert row.tolist() == [*cells, *[layout.num_cells] * (most - len(cells))]
    unpacked = np.asarray(pushes.unpack_cells(layout, board))
    assert (unpacked == grids.reshape(20, -1)).all()
    assert all((a == b).all() for a, b in zip(pushes.pack_cells(layout, unpacked), board, strict=True))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_assignment_is_the_least_over_all_permutations(size):
    costs = np.random.default_rng(size).integers(0, 50, (size, size, 200))
    expected = [sum(costs[i, j] for i, j in enumerate(order)) for order in itertools.permutations(range(size))]
    assert (np.asarray(pushes.assignment(costs)) == np.min(expected, axis=0)).all()
