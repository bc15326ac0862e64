"""Generated levels: solvable by the reference solver, as long as promised, distinct, reproducible."""

import functools
import os
from functools import partial

import jax
import numpy as np
import pytest

from envs_jax import bitboard as bb
from envs_jax.sokoban import generator, levels, pushes
from envs_jax.sokoban.board import Layout
from envs_jax.sokoban.generator import generate, generate_batch, generate_ragen
from tests.reference import sokoban as reference

pytestmark = pytest.mark.usefixtures("quick_compilation")

BOXOBAN = Layout(10, 10)
# (layout, boxes, difficulty, levels to solve): one word and several, square and not, one box and many.
SETTINGS = (
    (BOXOBAN, 4, "medium", 40),
    (BOXOBAN, 4, "easy", 10),
    (BOXOBAN, 4, "hard", 4),
    (Layout(6, 6), 1, "medium", 50),
    (Layout(5, 9), 2, "medium", 50),
    (Layout(11, 14), 3, "medium", 4),
)
NAMES = [f"{layout.height}x{layout.width}-{boxes}-{difficulty}" for layout, boxes, difficulty, _ in SETTINGS]


@functools.cache
def bank(layout, num_boxes, difficulty, num_levels=400):
    return generate(jax.random.key(7), num_levels, layout=layout, num_boxes=num_boxes, difficulty=difficulty)


@functools.cache
def ragen_bank(layout, num_boxes, search_depth, num_levels):
    key = jax.random.key(1)
    return generate_ragen(key, num_levels, layout=layout, num_boxes=num_boxes, search_depth=search_depth)


@functools.cache
def grids(layout, tasks):
    """(walls, targets, boxes, player), bool[T, rows, columns] each."""
    instances = jax.tree.map(np.asarray, tasks.instances)

    def unpack(board):
        bits = np.unpackbits(np.stack(board, -1).view(np.uint8), axis=-1, bitorder="little")
        return bits[:, : layout.num_cells].astype(bool).reshape(-1, layout.rows, layout.columns)

    player = np.arange(layout.num_cells) == instances.player[:, None]
    boards = (unpack(board) for board in (instances.walls, instances.targets, instances.boxes))
    return (*boards, player.reshape(-1, layout.rows, layout.columns))


def reference_levels(layout, tasks, number):
    return [reference.parse_level(levels.to_text(layout, tasks[i])) for i in range(number)]


@functools.cache
def optima(layout, tasks, number):
    """The fewest pushes of the first levels, by the reference solver."""
    plans = [(level, reference.solve_pushes(level)) for level in reference_levels(layout, tasks, number)]
    assert all(plan is not None for _, plan in plans)
    return np.array([reference.count_pushes(level, plan) for level, plan in plans])


def canonical(layout, tasks):
    """One byte string a level, the same for all its rotations and reflections."""
    walls, targets, boxes, player = grids(layout, tasks)
    codes = np.pad(walls + 2 * targets + 4 * boxes + 8 * player, ((0, 0), (1, 1), (1, 1)), constant_values=1)
    turns = [np.rot90(side, k, (1, 2)) for side in (codes, codes.swapaxes(1, 2)) for k in range(4)]
    return [min(turn[i].astype(np.uint8).tobytes() + bytes(turn[i].shape) for turn in turns) for i in range(len(codes))]


@pytest.mark.parametrize(("layout", "num_boxes", "difficulty", "number"), SETTINGS, ids=NAMES)
class TestLevels:
    @pytest.mark.slow
    def test_can_be_solved_and_need_the_promised_pushes(self, layout, num_boxes, difficulty, number):
        tasks = bank(layout, num_boxes, difficulty)
        optimum, bound = optima(layout, tasks, number), bounds(layout, num_boxes, tasks)
        assert optimum.min() >= 4
        assert (bound[:number] <= optimum).all()
        assert bound.min() >= 4

    def test_have_the_boxes_asked_for_none_on_a_target(self, layout, num_boxes, difficulty, number):
        walls, targets, boxes, player = grids(layout, bank(layout, num_boxes, difficulty))
        assert (boxes.sum((1, 2)) == num_boxes).all()
        assert (targets.sum((1, 2)) == num_boxes).all()
        assert not (boxes & targets).any()
        assert not ((boxes | targets | player) & walls).any()
        assert (player.sum((1, 2)) == 1).all()
        assert not (player & (boxes | targets)).any()


@functools.cache
def bounds(layout, num_boxes, tasks):
    """The package's lower bound on the pushes of all levels of a bank."""
    level = tasks.instances
    bound = jax.jit(lambda walls, *boards: push_bound(bb.complement(layout, walls), *boards))
    push_bound = partial(generator.push_bound, layout, num_boxes=num_boxes)
    return np.asarray(bound(level.walls, level.targets, level.boxes))


def test_default_levels_are_as_long_as_boxobans():
    # Boxoban's unfiltered test set has a median of 12.
    assert 11 <= np.median(optima(BOXOBAN, bank(BOXOBAN, 4, "medium"), 40)) <= 15


def test_difficulty_makes_levels_longer():
    easy, medium, hard = (bounds(BOXOBAN, 4, bank(BOXOBAN, 4, name)).mean() for name in ("easy", "medium", "hard"))
    assert easy + 1 < medium < hard - 2


def test_levels_are_distinct_up_to_symmetry():
    tasks = bank(BOXOBAN, 4, "medium", 2000)
    assert len(set(canonical(BOXOBAN, tasks))) >= 0.99 * len(tasks)


def test_canonical_form_sees_symmetry():
    text = "#####\n#@$.#\n#   #\n#####"
    mirrored = "\n".join(row[::-1] for row in text.splitlines())
    turned = "\n".join("".join(column) for column in zip(*text.splitlines(), strict=True))
    (one,) = canonical(Layout(4, 5), levels.parse(text).bank())
    assert canonical(Layout(4, 5), levels.parse(mirrored).bank()) == [one]
    assert canonical(Layout(5, 4), levels.parse(turned).bank()) == [one]
    assert canonical(Layout(4, 5), levels.parse("#####\n#@$.#\n#  ##\n#####").bank()) != [one]


def test_more_boxes_than_text_formats_usually_have():
    layout = Layout(13, 13)
    tasks = generate(jax.random.key(0), 20, layout=layout, num_boxes=20, difficulty="easy")
    _, targets, boxes, _ = grids(layout, tasks)
    assert (boxes.sum((1, 2)) == 20).all()
    assert not (boxes & targets).any()


def test_small_boards_need_fewer_pushes():
    layout = Layout(5, 5)
    pushes_needed = optima(layout, generate(jax.random.key(0), 50, layout=layout, num_boxes=1), 50)
    assert pushes_needed.min() == 2 == generator.default_min_pushes(layout)


def test_min_pushes_is_kept():
    tasks = generate(jax.random.key(0), 5, layout=BOXOBAN, num_boxes=4, min_pushes=15)
    assert optima(BOXOBAN, tasks, 5).min() >= 15


def test_the_player_stands_anywhere_it_can_walk_to():
    # Its rank among the free cells of its region is uniform, so the mean of rank / (size - 1) is one half.
    @jax.jit
    def free_region(tasks):
        reachable = pushes.reachable(BOXOBAN, bb.union(tasks.walls, tasks.boxes), tasks.player)
        region = bb.difference(reachable, tasks.targets)
        return region, bb.count(region)

    tasks = jax.device_get(bank(BOXOBAN, 4, "medium").instances)
    region, size = jax.device_get(free_region(tasks))
    rank = np.array([rank_of(region, tasks.player, t) for t in range(len(size))])
    several = size > 1
    assert abs((rank[several] / (size[several] - 1)).mean() - 0.5) < 0.06


def rank_of(board, cell, index):
    bits = int(board[0][index]) | int(board[1][index]) << 32
    return (bits & ((1 << int(cell[index])) - 1)).bit_count()


def test_same_key_same_levels_whatever_their_number():
    few, many = (generate(jax.random.key(3), number, layout=BOXOBAN, num_boxes=4) for number in (10, 600))
    again = generate(jax.random.key(3), 600, layout=BOXOBAN, num_boxes=4)
    other = generate(jax.random.key(4), 10, layout=BOXOBAN, num_boxes=4)
    for a, b, c in zip(*(jax.tree.leaves(tasks.instances) for tasks in (few, many, again)), strict=True):
        np.testing.assert_array_equal(a, b[:10])
        np.testing.assert_array_equal(b, c)
    assert not np.array_equal(few.instances.walls[0], other.instances.walls[0])
    assert len(many) == 600
    assert few.instances.time_limit.tolist() == [120] * 10


def test_batch_inside_a_jitted_program_holds_the_same_levels():
    @jax.jit
    def batch(key):
        return generate_batch(key, generator.BATCH, layout=BOXOBAN, num_boxes=4)

    tasks, valid = jax.tree.map(np.asarray, batch(jax.random.fold_in(jax.random.key(7), 0)))
    kept = jax.tree.leaves(jax.tree.map(lambda leaf: leaf[valid], tasks))
    assert valid.mean() > 0.9
    for a, b in zip(kept, jax.tree.leaves(bank(BOXOBAN, 4, "medium").instances), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b[: valid.sum()])


def test_one_compilation_serves_all_numbers_and_limits():
    settings = {"layout": BOXOBAN, "num_boxes": 4}
    generate(jax.random.key(0), 5, **settings)
    size = generator._jitted_batch._cache_size()
    tasks = generate(jax.random.key(1), 900, time_limit=77, min_pushes=6, **settings)
    assert generator._jitted_batch._cache_size() == size
    assert set(tasks.instances.time_limit.tolist()) == {77}


# RAGEN's rooms ------------------------------------------------------------------------------------------------------


def transitions(layout, tasks):
    """For rooms of one box: int[T, states, 4], the state after each move; a state is player × cells + box."""
    walls, *_ = grids(layout, tasks)
    cells = layout.num_cells
    padded = np.pad(walls, ((0, 0), (2, 2), (2, 2)), constant_values=True)
    player, box = (index.reshape(-1) for index in np.indices((cells, cells)))
    after = np.empty((len(walls), cells * cells, 4), np.int32)
    for action, (down, right) in enumerate(((-1, 0), (1, 0), (0, -1), (0, 1))):
        row, column = player // layout.columns + down, player % layout.columns + right
        is_wall = lambda r, c: padded[:, r + 2, c + 2]
        pushes_box = row * layout.columns + column == box
        pushes_box &= (column >= 0) & (column < layout.columns)
        blocked = is_wall(row, column) | (pushes_box & is_wall(row + down, column + right))
        ahead = row * layout.columns + column
        box_after = np.where(pushes_box, box + down * layout.columns + right, box)
        after[:, :, action] = np.where(blocked, player * cells + box, ahead * cells + box_after)
    return after


def start_and_goal(layout, tasks):
    """(int[T], bool[T, states]): the first state and the solved ones."""
    _, targets, boxes, player = (board.reshape(len(tasks), -1) for board in grids(layout, tasks))
    cells = layout.num_cells
    return player.argmax(1) * cells + boxes.argmax(1), np.tile(targets, (1, cells))


def test_ragen_rooms_have_the_statistics_of_the_original():
    layout, number = Layout(6, 6), 2000
    tasks = ragen_bank(layout, 1, 300, number)
    after = transitions(layout, tasks)
    start, goal = start_and_goal(layout, tasks)
    rooms = np.arange(number)

    distance = np.where(goal, 0, 99)
    chance = goal.astype(float)  # that uniformly random moves solve it in as many steps as there were trips
    for _ in range(30):
        distance = np.minimum(distance, 1 + distance[rooms[:, None, None], after].min(-1))
    for _ in range(10):
        chance = np.where(goal, 1.0, chance[rooms[:, None, None], after].mean(-1))
    moves = distance[rooms, start]
    assert moves.max() < 30  # all can be solved
    assert moves.min() >= 1
    assert abs(moves.mean() - 4.2) <= 0.3
    assert (moves <= 10).mean() >= 0.98
    assert abs(chance[rooms, start].mean() - 0.19) <= 0.02


def test_ragen_rooms_with_two_boxes():
    layout = Layout(6, 6)
    tasks = ragen_bank(layout, 2, 100, 300)
    plans = [reference.solve_moves(level) for level in reference_levels(layout, tasks, 300)]
    moves = np.array([len(plan) for plan in plans])
    # The original has a mean of 7.8 ± 0.1 and 76 % of at most 10 moves over 2,000 rooms.
    assert abs(moves.mean() - 7.8) <= 0.9
    assert abs((moves <= 10).mean() - 0.77) <= 0.08
    _, targets, boxes, player = grids(layout, tasks)
    assert not (boxes & (targets | player)).any()


def test_ragen_same_key_same_rooms_whatever_their_number():
    few = generate_ragen(jax.random.key(1), 5, layout=Layout(6, 6), num_boxes=1)
    many = ragen_bank(Layout(6, 6), 1, 300, 2000)
    for a, b in zip(jax.tree.leaves(few.instances), jax.tree.leaves(many.instances), strict=True):
        np.testing.assert_array_equal(a, b[:5])
    assert few.instances.time_limit.tolist() == [100] * 5


# Requests that cannot be met ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [generate, generate_ragen])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_levels": 0}, r"num_levels=0 is not in 1 …"),
        ({"num_levels": 2.5}, r"num_levels=2.5 is not an integer"),
        ({"num_boxes": 0}, r"num_boxes=0: layout=10×10 has room for 1 … 31 boxes"),
        ({"num_boxes": 32}, r"num_boxes=32: layout=10×10 has room for 1 … 31 boxes"),
        ({"layout": Layout(4, 4), "num_boxes": 1}, r"layout=4×4 leaves no room to push"),
        ({"time_limit": 0}, r"time_limit=0 is not in 1 … 65,535"),
        ({"time_limit": 65_536}, r"time_limit=65536 is not in 1 … 65,535"),
        ({"key": 0}, r"key=0 is not one typed key"),
        ({"key": np.zeros(2, np.uint32)}, r"is not one typed key"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_impossible_requests_are_refused(function, changes, message):
    request = {"key": jax.random.key(0), "num_levels": 3, "layout": BOXOBAN, "num_boxes": 4} | changes
    with pytest.raises((ValueError, TypeError), match=message):
        function(request.pop("key"), request.pop("num_levels"), **request)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"difficulty": "impossible"}, r"difficulty='impossible' is not one of easy, medium, hard, expert"),
        ({"min_pushes": 0}, r"min_pushes=0 is not in 1 …"),
        (
            {"layout": Layout(5, 5), "num_boxes": 1, "min_pushes": 9},
            r"no level with 1 boxes on a board of 5×5 .* 9 pushes",
        ),
    ],
)
def test_impossible_searches_are_refused(changes, message):
    request = {"layout": BOXOBAN, "num_boxes": 4} | changes
    with pytest.raises(ValueError, match=message):
        generate(jax.random.key(0), 3, **request)


def test_a_search_without_a_step_is_refused():
    with pytest.raises(ValueError, match=r"search_depth=2 is not in 3 …"):
        generate_ragen(jax.random.key(0), 3, layout=BOXOBAN, num_boxes=4, search_depth=2)


@pytest.mark.parametrize("function", [generate, generate_ragen])
def test_levels_beyond_the_memory_are_refused(function, monkeypatch):
    monkeypatch.setattr(os, "sysconf", lambda name: 2, raising=False)  # four bytes in all
    with pytest.raises(ValueError, match=r"num_levels=3: the levels would take .* of memory; make fewer at a time"):
        function(jax.random.key(0), 3, layout=BOXOBAN, num_boxes=4)
