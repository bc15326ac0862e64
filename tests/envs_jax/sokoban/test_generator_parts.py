"""The generator's parts against plain-Python and NumPy versions that read the same random words."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs_jax import bitboard as bb
from envs_jax.sokoban import pull_distance, reverse_dfs, reverse_walk, sampling, topology
from envs_jax.sokoban.board import Layout
from tests.reference import sokoban as reference

pytestmark = pytest.mark.usefixtures("quick_compilation")

LAYOUTS = (Layout(6, 6), Layout(10, 10), Layout(7, 13))
IDS = [f"{layout.height}x{layout.width}" for layout in LAYOUTS]


def random_words(seed, *shape):
    return np.random.default_rng(seed).integers(0, 2**32, shape, np.uint32)


def unpack(layout, boards, index):
    return layout.unpack([word[index] for word in boards])


@pytest.fixture(scope="module")
def boards():
    """Random boards of three words, empty and full ones among them: (words, the cells of each)."""
    words = random_words(0, 3, 200) & random_words(1, 3, 200)
    words[:, 0], words[:, 1], words[0, 2:40], words[1, 20:60] = 0, 2**32 - 1, 0, 0
    bits = np.unpackbits(words.T.copy().view(np.uint8), axis=1, bitorder="little")
    return tuple(words), [np.flatnonzero(row) for row in bits]


def test_nth_cell_and_lowest_cells(boards):
    words, cells = boards
    lowest = np.asarray(jax.jit(partial(sampling.lowest_cells, number=5))(words))
    nth = jax.jit(sampling.nth_cell)
    for n in range(96):
        found = np.asarray(nth(words, np.full(200, n)))
        for i, own in enumerate(cells):
            if n < len(own):
                assert found[i] == own[n]
                assert n >= 5 or lowest[n, i] == own[n]
            else:
                assert n >= 5 or lowest[n, i] == 96


def test_random_cell_is_uniform():
    cells = [3, 31, 32, 64, 95]
    board = tuple(np.uint32(sum(1 << c % 32 for c in cells if c // 32 == i)) for i in range(3))
    found = np.asarray(jax.jit(sampling.random_cell)(board, random_words(2, 20_000)))
    numbers, counts = np.unique(found, return_counts=True)
    assert numbers.tolist() == cells
    assert abs(counts / 20_000 - 0.2).max() < 0.015


MASKS = ["... ### ...", ".#. .#. .#.", "... ##. .#.", "... ##. ##.", "... .## .#."]  # gym-sokoban's five


def carve(layout, words):
    """gym-sokoban's walk on a grid with its walls, its random numbers taken from `words`."""
    height, width = layout.height, layout.width
    masks = [np.array([[glyph == "#" for glyph in row] for row in mask.split()]) for mask in MASKS]
    directions = [(-1, 0), (1, 0), (0, -1), (0, 1)]
    words = [int(word) for word in words]
    row = 1 + (words[0] >> 16) * (height - 1) // 2**16
    column = 1 + (words[0] & 0xFFFF) * (width - 1) // 2**16
    direction = directions[words[1] >> 30]
    floor = np.zeros((height, width), bool)
    for word in words[1:]:
        if word % 2**16 < round(0.35 * 2**16):
            direction = directions[word >> 16 & 3]
        row = min(max(row + direction[0], 1), height - 2)
        column = min(max(column + direction[1], 1), width - 2)
        floor[row - 1 : row + 2, column - 1 : column + 2] |= masks[(word >> 18 & 0xFFF) * 5 // 2**12]
    return floor[1:-1, 1:-1]


@pytest.mark.parametrize("layout", LAYOUTS, ids=IDS)
def test_floor_equals_the_walk_on_a_grid(layout):
    words = random_words(3, 1 + topology.num_steps(layout), 100)
    floor = jax.tree.map(np.asarray, jax.jit(partial(topology.random_floor, layout))(words))
    for i in range(100):
        np.testing.assert_array_equal(unpack(layout, floor, i), carve(layout, words[:, i]))


def rooms(layout, num_boxes, seed, number):
    """(floor, targets, player) of random rooms that have enough floor, and a list of plain versions of the same."""
    words = random_words(seed, 1 + topology.num_steps(layout) + 1 + num_boxes, number)
    floor_words, (player_word,), target_words = np.split(words, [-1 - num_boxes, -num_boxes])

    @jax.jit
    def make():
        floor = topology.random_floor(layout, floor_words)
        player = sampling.random_cell(floor, player_word)
        rest = bb.difference(floor, bb.singleton(layout, player))
        return floor, topology.random_subset(layout, rest, target_words), player

    floor, targets, player = jax.tree.map(np.asarray, make())
    enough = np.asarray(bb.count(targets)) == num_boxes
    floor, targets, player = jax.tree.map(lambda leaf: leaf[enough], (floor, targets, player))
    plain = []
    for i in range(len(player)):
        open_cells, goals = (unpack(layout, board, i) for board in (floor, targets))
        assert not (goals & ~open_cells).any()
        plain.append((open_cells, [tuple(cell) for cell in np.argwhere(goals)], divmod(int(player[i]), layout.columns)))
    return floor, targets, player, plain


@pytest.mark.parametrize("layout", LAYOUTS, ids=IDS)
def test_distances_equal_a_breadth_first_search(layout):
    floor, targets, player, plain = rooms(layout, 3, seed=4, number=100)

    @jax.jit
    def measure(floor, targets):
        planes = pull_distance.distances(layout, floor, targets)
        at = lambda cell: pull_distance.at(planes, jnp.full(len(player), cell))
        cells = jnp.arange(layout.num_cells)
        return pull_distance.rising(layout, planes), jax.vmap(at)(cells), pull_distance.total(planes, floor)

    rising, numbers, total = jax.device_get(measure(floor, targets))
    farthest = 2 ** pull_distance.num_planes(layout) - 1
    for i, (open_cells, goals, _) in enumerate(plain):
        expected = plain_distances(open_cells, goals, farthest)
        np.testing.assert_array_equal(numbers[:, i].reshape(open_cells.shape), expected)
        assert total[i] == expected.sum()
        padded = np.pad(expected, 1)
        for direction, (down, right) in enumerate(((-1, 0), (1, 0), (0, -1), (0, 1))):
            next_to = padded[1 + down : 1 + down + layout.rows, 1 + right : 1 + right + layout.columns]
            np.testing.assert_array_equal(unpack(layout, rising[direction], i), next_to > expected)


def plain_distances(open_cells, goals, farthest):
    glyphs = np.where(open_cells, " ", "#").astype(object)
    for cell in goals:
        glyphs[cell] = "."
    level_text = "\n".join("".join(row) for row in np.pad(glyphs, 1, constant_values="#"))
    free = level_text.index(" ")
    level = reference.parse_level(level_text[:free] + "@" + level_text[free + 1 :])
    expected = np.zeros(open_cells.shape, int)
    for row, column in np.argwhere(open_cells):
        expected[row, column] = min(level.push_distances.get(level.cell(row + 1, column + 1), farthest), farthest)
    return expected


def test_assignment_bound_is_at_most_the_least_cost_and_often_equal():
    costs = np.random.default_rng(5).integers(0, 12, (4, 4, 500))
    bound = np.asarray(jax.jit(pull_distance.assignment_bound)(costs))
    orders = itertools.permutations(range(4))
    least = np.min([sum(costs[i, order[i]] for i in range(4)) for order in orders], axis=0)
    assert (bound <= least).all()
    assert (bound == least).mean() > 0.5
    nearest = np.maximum(costs.min(1).sum(0), costs.min(0).sum(0))
    assert (bound >= nearest).all()


def test_walkers_only_make_legal_pulls():
    """What walkers reach can be played forwards: the reference solver returns from their last position to the first."""
    layout = Layout(8, 8)
    floor, targets, player, plain = rooms(layout, 2, seed=6, number=40)

    @jax.jit
    def walk(key):
        room = reverse_walk.make_room(layout, floor, targets)
        return reverse_walk.walk(layout, room, jnp.tile(player, (3, 1)), key, 9)

    position, score = jax.tree.map(np.asarray, walk(jax.random.key(0)))
    assert (score > 0).any()
    for walker, i in itertools.product(range(3), range(len(plain))):
        open_cells, goals, start = plain[i]
        boxes = layout.unpack([word[walker, i] for word in position.boxes])
        end = divmod(int(position.player[walker, i]), layout.columns)
        assert boxes.sum() == 2
        assert open_cells[end]
        assert not boxes[end]
        level = plain_level(open_cells, goals, [tuple(box) for box in np.argwhere(boxes)], end)
        assert reference.is_solved(level, level.start) or reference.solve_pushes(level) is not None
        assert (score[walker, i] > 0) == (not any(boxes[goal] for goal in goals))
        assert start in set(map(tuple, np.argwhere(open_cells)))


def plain_level(open_cells, goals, boxes, player):
    cell = lambda place: (place[0] + 2) * (open_cells.shape[1] + 4) + place[1] + 2
    floor, targets, stones = (
        frozenset(map(cell, map(tuple, places))) for places in (np.argwhere(open_cells), goals, boxes)
    )
    start = reference.State(cell(player), stones)
    return reference.Level(open_cells.shape[0] + 2, open_cells.shape[1] + 2, floor, targets, start)


def search(open_cells, goals, player, search_depth):
    """RAGEN's recursive search on sets of cells: (score, boxes, player) of the best position."""
    best = [0, tuple(goals), player]
    visited = set()

    def visit(player, boxes, moved, swaps, last, ttl):
        if ttl - 1 <= 0 or (player, key := frozenset(zip(boxes, moved, strict=True))) in visited:
            return
        visited.add((player, key))
        distance = sum(abs(a - c) + abs(b - d) for (a, b), (c, d) in zip(boxes, goals, strict=True))
        score = 0 if {player, *boxes} & set(goals) else swaps * distance
        if score > best[0]:
            best[:] = score, boxes, player
        for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1)):
            ahead, behind = (player[0] + down, player[1] + right), (player[0] - down, player[1] - right)
            if not (0 <= ahead[0] < open_cells.shape[0] and 0 <= ahead[1] < open_cells.shape[1]):
                continue
            if not open_cells[ahead] or ahead in boxes:
                continue
            if behind in boxes:
                box = boxes.index(behind)
                after = (*boxes[:box], player, *boxes[box + 1 :])
                now_moved = (*moved[:box], True, *moved[box + 1 :])
                visit(ahead, after, now_moved, swaps + (box != last), box, ttl - 1)
            else:
                visit(ahead, boxes, moved, swaps, last, ttl - 1)

    visit(player, tuple(goals), (False,) * len(goals), 0, None, search_depth)
    return best


@pytest.mark.parametrize(
    ("layout", "num_boxes", "search_depth"),
    [(Layout(6, 6), 1, 300), (Layout(6, 6), 2, 100), (Layout(8, 8), 2, 10), (Layout(6, 7), 3, 25)],
)
def test_depth_first_search_finds_what_the_recursive_one_finds(layout, num_boxes, search_depth):
    floor, targets, player, plain = rooms(layout, num_boxes, seed=7, number=120)

    @jax.jit
    def deepest():
        room = reverse_dfs.make_room(floor, targets, num_boxes)
        return reverse_dfs.deepest(layout, room, player, search_depth)

    node, score = jax.tree.map(np.asarray, deepest())
    assert (score > 0).mean() > 0.3
    for i, (open_cells, goals, start) in enumerate(plain):
        boxes = [divmod(int(box), layout.columns) for box in node.boxes[:, i]]
        found = [score[i], tuple(boxes), divmod(int(node.player[i]), layout.columns)]
        assert found == search(open_cells, goals, start, search_depth)


def test_player_strolls_like_the_original():
    layout = Layout(5, 8)  # a corridor of three rows, so that no dead end cuts a stroll short
    number = 40_000
    tile = lambda value: np.full(number, value, np.int32)
    floor = tuple(np.full(number, word, np.uint32) for word in layout.all_cells)

    @jax.jit
    def stroll(words, target):
        targets = bb.singleton(layout, target)
        room = reverse_dfs.make_room(floor, targets, 1)
        node = reverse_dfs.Node(tile(8), tile(9)[None], np.ones((1, number), bool))
        return reverse_dfs.stroll(layout, room, node, words)

    columns = layout.columns
    for target, chance in ((10, 0.8), (17, 0.5)):
        end = np.asarray(stroll(random_words(target, 6, number), tile(target)))
        assert not (end == 9).any()
        away = abs(end // columns - 8 // columns) + abs(end % columns - 8 % columns)
        assert away.max() == 3
        assert abs((away > 0).mean() - chance) < 0.02
        # One step with probability 1/2, two or three with 1/4 each; three steps may lead next to where they began.
        assert abs((away == 2).mean() / chance - 0.25) < 0.02
