"""Random Sokoban levels that can be solved by construction, generated on the device.

A random room is carved, targets are placed, and the game is played backwards from the solved position; see
docs/sokoban-generator.md.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from envs_jax import bitboard as bb
from envs_jax import host_memory
from envs_jax.arguments import as_integer, check_choice, check_integer
from envs_jax.bitboard import Board
from envs_jax.sokoban import pull_distance, pushes, reverse_dfs, reverse_walk, topology
from envs_jax.sokoban.board import Layout
from envs_jax.sokoban.checks import check_layout
from envs_jax.sokoban.sampling import lowest_cells, random_cell
from envs_jax.sokoban.types import SokobanTask
from envs_jax.tasks import TaskBank, make_bank

Difficulty = Literal["easy", "medium", "hard", "expert"]
ROOMS = {"easy": 1, "medium": 4, "hard": 16, "expert": 64}  # rooms tried for a level, of which the best is kept
WALKERS = 8  # backward games in a room
FIRST_PULLS, PULLS_PER_BOX = 8, 2  # more pulls than this hardly make levels longer
STEPS_PER_BOX = 8  # the least number of carving steps for each box: the more boxes, the more floor they need
MIN_PUSHES = 4
BATCH = 256  # candidates a jitted call
IN_FLIGHT = 2  # calls dispatched ahead
PATIENCE = 32  # batches without a level after which a request is called impossible

Candidates = tuple[SokobanTask, jax.Array]


def generate(
    key: jax.Array,
    num_levels: int,
    *,
    layout: Layout,
    num_boxes: int,
    difficulty: Difficulty = "medium",
    min_pushes: int | None = None,
    time_limit: int = 120,
    on_progress: Callable[[int], None] | None = None,
) -> TaskBank[SokobanTask]:
    """A bank of random solvable levels.

    In every level all boxes are off the targets, at least `min_pushes` pushes are needed, and the player stands on a
    uniformly random cell of those it can walk to that are no targets.

    Args:
      key: a typed PRNG key. The same key gives the same levels; level i does not depend on `num_levels`.
      num_levels: number of levels, ≥ 1.
      layout: the size of the board, e.g. `Layout(10, 10)`, its wall ring included.
      num_boxes: boxes and targets; the interior must have a cell for each and one for the player.
      difficulty: how many rooms are tried for each level, of which the one with the greatest lower bound on its pushes
        is kept: "easy" 1, "medium" 4, "hard" 16, "expert" 64. The rate falls about in proportion.
      min_pushes: the fewest pushes of any level, ≥ 1, guaranteed by a lower bound; by default 4, and fewer where the
        rows and columns inside the walls add up to less than 8: that sum − 4, but at least 1.
      time_limit: steps until truncation, 1 … 65,535.
      on_progress: called with the number of levels that there are, a few times a second.

    Raises:
      ValueError: an argument is out of range, the host's memory cannot hold the levels, or no level with these settings
        turned up in thousands of candidates.
      TypeError: `key` is not a typed key.
    """
    _check(key, layout, num_boxes, num_levels=num_levels, time_limit=time_limit)
    _check_memory(num_levels, layout)
    check_choice("difficulty", difficulty, ROOMS)
    min_pushes = default_min_pushes(layout) if min_pushes is None else min_pushes
    check_integer("min_pushes", min_pushes, 1, 2**31 - 1)
    batch = partial(
        _jitted_batch, num_candidates=BATCH, layout=layout, num_boxes=num_boxes, difficulty=difficulty,
        min_pushes=np.int32(min_pushes), time_limit=np.uint16(time_limit),
    )  # fmt: skip
    request = f"{num_boxes} boxes on a board of {layout.height}×{layout.width} that need {min_pushes} pushes"
    return collect(key, num_levels, batch, request, on_progress)


def generate_batch(
    key: jax.Array,
    num_candidates: int,
    *,
    layout: Layout,
    num_boxes: int,
    difficulty: Difficulty = "medium",
    min_pushes: jax.Array | int | None = None,
    time_limit: jax.Array | int = 120,
) -> Candidates:
    """Candidates for levels, as a pure function for use inside a jitted program.

    Arguments as in `generate`; `min_pushes` and `time_limit` may be traced.

    Returns:
      (tasks, valid): every leaf has a leading axis `num_candidates`; only tasks where bool[num_candidates] `valid` is
      True are levels. The share of them depends on the layout, the boxes and the difficulty.
    """
    _check(key, layout, num_boxes, num_candidates=num_candidates)
    check_choice("difficulty", difficulty, ROOMS)
    min_pushes = default_min_pushes(layout) if min_pushes is None else min_pushes
    rooms = num_candidates * ROOMS[difficulty]
    room_key, walk_key = jax.random.split(key)
    steps = max(topology.num_steps(layout), STEPS_PER_BOX * num_boxes)
    floor_words, target_words, start_words, (player_word,) = _words(room_key, rooms, 1 + steps, num_boxes, WALKERS, 1)

    floor = topology.random_floor(layout, floor_words)
    targets = topology.random_subset(layout, _movable(layout, floor), target_words)
    room = reverse_walk.make_room(layout, floor, targets)
    start = random_cell(bb.difference(floor, targets), start_words)
    ends = reverse_walk.walk(layout, room, start, walk_key, FIRST_PULLS + PULLS_PER_BOX * num_boxes)
    found, score = _take_best(ends, ends[1])
    usable = (score > 0) & (bb.count(targets) == num_boxes)
    bound = jnp.where(usable, push_bound(layout, floor, targets, found.boxes, num_boxes), 0)

    chosen = (floor, targets, found.boxes, found.player, bound, player_word)
    chosen = jax.tree.map(lambda leaf: leaf.reshape(-1, num_candidates), chosen)
    floor, targets, boxes, player, bound, word = _take_best(chosen, chosen[4])
    walls = bb.complement(layout, floor)
    around = bb.difference(pushes.reachable(layout, bb.union(walls, boxes), player), targets)
    player = random_cell(around, word).astype(layout.cell_dtype)
    valid = (bound >= min_pushes) & ~bb.is_empty(around)
    limit = jnp.full(num_candidates, time_limit, jnp.uint16)
    return SokobanTask(walls, targets, boxes, player, limit, made_for=layout.name), valid


_jitted_batch = jax.jit(generate_batch, static_argnames=("num_candidates", "layout", "num_boxes", "difficulty"))


def generate_ragen(
    key: jax.Array,
    num_levels: int,
    *,
    layout: Layout,
    num_boxes: int,
    search_depth: int = 300,
    time_limit: int = 100,
) -> TaskBank[SokobanTask]:
    """A bank of rooms with the distribution of RAGEN's generator, its version of gym-sokoban's.

    The backward game is a depth-first search for the greatest box swaps × Manhattan distance, after which the player
    may walk up to three random steps and may come to stand on a target. Most 6×6 rooms with one box take a few moves.

    Args:
      key: a typed PRNG key. The same key gives the same levels; level i does not depend on `num_levels`.
      num_levels: number of levels, ≥ 1.
      layout: the size of the board, e.g. `Layout(6, 6)`, its wall ring included.
      num_boxes: boxes and targets; the interior must have a cell for each and one for the player.
      search_depth: RAGEN's `search_depth`, ≥ 3: the search goes `search_depth − 2` backward steps deep.
      time_limit: steps until truncation, 1 … 65,535.

    Raises:
      ValueError: an argument is out of range, the host's memory cannot hold the levels, or no level with these settings
        turned up in thousands of candidates.
      TypeError: `key` is not a typed key.

    Source: `ragen/env/sokoban/utils.py` of RAGEN, after `room_utils.py` of gym-sokoban.
    """
    _check(key, layout, num_boxes, num_levels=num_levels, time_limit=time_limit)
    _check_memory(num_levels, layout)
    _check_search_depth(search_depth)
    batch = partial(
        _jitted_ragen_batch, num_candidates=BATCH, layout=layout, num_boxes=num_boxes, search_depth=search_depth,
        time_limit=np.uint16(time_limit),
    )  # fmt: skip
    return collect(key, num_levels, batch, f"{num_boxes} boxes on a board of {layout.height}×{layout.width}")


def generate_ragen_batch(
    key: jax.Array,
    num_candidates: int,
    *,
    layout: Layout,
    num_boxes: int,
    search_depth: int = 300,
    time_limit: jax.Array | int = 100,
) -> Candidates:
    """Candidates for RAGEN's rooms, as a pure function: arguments of `generate_ragen`, results of `generate_batch`."""
    _check(key, layout, num_boxes, num_candidates=num_candidates)
    _check_search_depth(search_depth)
    parts = (1 + topology.num_steps(layout), 1, num_boxes, 6)
    floor_words, (player_word,), target_words, walk_words = _words(key, num_candidates, *parts)
    floor = topology.random_floor(layout, floor_words)
    player = random_cell(floor, player_word)
    targets = topology.random_subset(layout, bb.difference(floor, bb.singleton(layout, player)), target_words)
    room = reverse_dfs.make_room(floor, targets, num_boxes)
    node, score = reverse_dfs.deepest(layout, room, player, search_depth)
    boxes = bb.union(*(bb.singleton(layout, box) for box in node.boxes))
    player = reverse_dfs.stroll(layout, room, node, walk_words)
    valid = (score > 0) & (bb.count(targets) == num_boxes) & (bb.count(floor) > num_boxes + 1)
    limit = jnp.full(num_candidates, time_limit, jnp.uint16)
    walls, player = bb.complement(layout, floor), player.astype(layout.cell_dtype)
    return SokobanTask(walls, targets, boxes, player, limit, made_for=layout.name), valid


_jitted_ragen_batch = jax.jit(
    generate_ragen_batch, static_argnames=("num_candidates", "layout", "num_boxes", "search_depth")
)


def default_min_pushes(layout: Layout) -> int:
    """The fewest pushes of a level where the caller does not say."""
    return max(1, min(MIN_PUSHES, layout.rows + layout.columns - 4))


def push_bound(layout: Layout, floor: Board, targets: Board, boxes: Board, num_boxes: int) -> jax.Array:
    """int32: a lower bound on the pushes that solve a level with `num_boxes` boxes; works on any batch."""
    target_cells = lowest_cells(targets, num_boxes)
    box_cells = lowest_cells(boxes, num_boxes)
    planes = pull_distance.distances(layout, floor, bb.singleton(layout, target_cells))
    planes = jax.tree.map(lambda word: word[None], planes)
    return pull_distance.assignment_bound(pull_distance.at(planes, box_cells[:, None]))


def collect(
    key: jax.Array,
    num_levels: int,
    batch: Callable[[jax.Array], Candidates],
    request: str,
    on_progress: Callable[[int], None] | None = None,
) -> TaskBank[SokobanTask]:
    """The first `num_levels` valid candidates of the batches made with `fold_in(key, 0)`, `fold_in(key, 1)`, …"""
    pending: collections.deque[Candidates] = collections.deque()
    levels, found, index = [], 0, 0
    while found < num_levels:
        while len(pending) < IN_FLIGHT:
            pending.append(batch(jax.random.fold_in(key, index)))
            index += 1
        tasks, valid = jax.tree.map(np.asarray, pending.popleft())
        levels.append(jax.tree.map(lambda leaf, keep=valid: leaf[keep], tasks))
        found += int(valid.sum())
        if on_progress is not None:
            on_progress(min(found, num_levels))
        tried = index - len(pending)
        if found == 0 and tried >= PATIENCE:
            raise ValueError(
                f"no level with {request} among {tried * len(valid):,} candidates; ask for a larger board, fewer "
                "boxes or fewer pushes"
            )
    return make_bank(jax.tree.map(lambda *leaves: np.concatenate(leaves)[:num_levels], *levels))


def _words(key: jax.Array, batch: int, *numbers: int) -> list[jax.Array]:
    """Random words, uint32[number, batch] for each of `numbers`."""
    words = jax.random.bits(key, (sum(numbers), batch), jnp.uint32)
    return jnp.split(words, np.cumsum(numbers[:-1]))


def _movable(layout: Layout, floor: Board) -> Board:
    """The floor cells from where a box can be pulled in some direction, were it alone."""
    movable = bb.empty(layout)
    for opposite in bb.OPPOSITE:
        next_two = bb.intersection(floor, bb.shift(layout, floor, opposite))
        movable = bb.union(movable, bb.shift(layout, next_two, opposite))
    return bb.intersection(movable, floor)


def _take_best(tree: tuple, score: jax.Array) -> tuple:
    """For each column of `score` ([M, N]) the element of the leaves of `tree` ([M, N]) where it is greatest."""
    best = jnp.argmax(score, axis=0, keepdims=True)
    return jax.tree.map(lambda leaf: jnp.take_along_axis(leaf, best, axis=0)[0], tree)


def _check(key: jax.Array, layout: Layout, num_boxes: int, **numbers: int) -> None:
    """Refuses impossible requests; `numbers` are counts and limits of at least 1."""
    if not (isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.ndim == 0):
        raise TypeError(f"key={key!r} is not one typed key, as jax.random.key(0) makes it")
    for name, value in numbers.items():
        check_integer(name, value, 1, 65_535 if name == "time_limit" else 2**31 - 1)
    check_layout("layout", layout)
    size = f"layout={layout.height}×{layout.width}"
    if max(layout.rows, layout.columns) < 3:
        raise ValueError(f"{size} leaves no room to push a box: the inside of the walls must be 3 cells long or wide")
    most = (layout.num_cells - 1) // 2
    if not 1 <= as_integer("num_boxes", num_boxes) <= most:
        raise ValueError(f"num_boxes={num_boxes}: {size} has room for 1 … {most} boxes, their targets and the player")


def _check_memory(num_levels: int, layout: Layout) -> None:
    """Refuses more levels than the host can hold: walls, targets and boxes in parts, and then together."""
    level_bytes = 2 * 3 * 4 * layout.num_words
    way_out = "make fewer at a time, with another seed each time"
    host_memory.check_fits(f"num_levels={num_levels}", "the levels", num_levels * level_bytes, way_out)


def _check_search_depth(search_depth: int) -> None:
    check_integer("search_depth", search_depth, 3, 2**31 - 1)  # at 3 the search takes its first step
