"""Random Sokoban levels that can be solved by construction, generated on the device.

A random room is carved, targets are placed, and the game is played backwards from the solved position; see
docs/sokoban-generator.md.
"""

from __future__ import annotations

import collections
import operator
from collections.abc import Callable
from functools import partial
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from envs_jax.sokoban import board as bb
from envs_jax.sokoban import pull_distance, pushes, reverse_walk, topology
from envs_jax.sokoban.board import Board, Layout
from envs_jax.sokoban.env import SokobanTask
from envs_jax.sokoban.sampling import random_cell
from envs_jax.tasks import TaskBank, make_bank

Difficulty = Literal["easy", "medium", "hard", "expert"]
ROOMS = {"easy": 1, "medium": 4, "hard": 16, "expert": 64}  # rooms tried for a level, of which the best is kept
WALKERS = 8  # backward games in a room
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
    min_pushes: int = 4,
    time_limit: int = 120,
) -> TaskBank[SokobanTask]:
    """A bank of random solvable levels.

    In every level all boxes are off the targets, at least `min_pushes` pushes are needed, and the player stands on a
    random cell of those it can walk to, never on a target.

    Args:
      key: a typed PRNG key. The same key gives the same levels; level i does not depend on `num_levels`.
      num_levels: number of levels, ≥ 1.
      layout: the size of the board, e.g. `Layout(10, 10)`, its wall ring included.
      num_boxes: boxes and targets, 1 … half the interior cells.
      difficulty: how many rooms are tried for each level, of which the one with the greatest lower bound on its pushes
        is kept: "easy" 1, "medium" 4, "hard" 16, "expert" 64. The rate falls about in proportion.
      min_pushes: the fewest pushes of any level, ≥ 1, guaranteed by a lower bound.
      time_limit: steps until truncation, 1 … 65,535.

    Raises:
      ValueError: an argument is out of range, or no level with these settings turned up in thousands of candidates.
      TypeError: `key` is not a typed key.
    """
    _check(key, num_levels, layout, num_boxes, time_limit)
    _check_search(difficulty, min_pushes)
    batch = partial(
        _jitted_batch, num_candidates=BATCH, layout=layout, num_boxes=num_boxes, difficulty=difficulty,
        min_pushes=np.int32(min_pushes), time_limit=np.uint16(time_limit),
    )  # fmt: skip
    request = f"{num_boxes} boxes on a board of {layout.height}×{layout.width} that need {min_pushes} pushes"
    return collect(key, num_levels, batch, request)


def generate_batch(
    key: jax.Array,
    num_candidates: int,
    *,
    layout: Layout,
    num_boxes: int,
    difficulty: Difficulty = "medium",
    min_pushes: jax.Array | int = 4,
    time_limit: jax.Array | int = 120,
) -> Candidates:
    """Candidates for levels, as a pure function for use inside a jitted program.

    Arguments as in `generate`; `min_pushes` and `time_limit` may be traced.

    Returns:
      (tasks, valid): every leaf has a leading axis `num_candidates`; only tasks where bool[num_candidates] `valid` is
      True are levels. The share of them depends on the layout, the boxes and the difficulty.
    """
    _check(key, num_candidates, layout, num_boxes, None)
    _check_search(difficulty, None)
    floor_key, target_key, start_key, walk_key, player_key = jax.random.split(key, 5)
    rooms = (num_candidates * ROOMS[difficulty],)
    floor = topology.random_floor(layout, _bits(floor_key, topology.num_floor_words(layout), *rooms))
    targets = topology.random_subset(layout, _movable(layout, floor), _bits(target_key, num_boxes, *rooms))
    complete = bb.count(targets) == num_boxes

    room = reverse_walk.make_room(layout, floor, targets)
    empty_floor = bb.difference(room.floor, room.targets)
    start = random_cell(
        tuple(jnp.broadcast_to(w, (*rooms, WALKERS)) for w in empty_floor), _bits(start_key, *rooms, WALKERS)
    )
    walkers = reverse_walk.walk(layout, room, start, walk_key, num_pulls=8 + 2 * num_boxes)
    found, score = _take_best((walkers.best, walkers.score), walkers.score)
    bound = jnp.where(complete & (score > 0), push_bound(layout, floor, targets, found.boxes, num_boxes), 0)

    per_level = jax.tree.map(
        lambda leaf: leaf.reshape(num_candidates, -1), (floor, targets, found.boxes, found.player, bound)
    )
    floor, targets, boxes, player, bound = _take_best(per_level, per_level[-1])
    walls = bb.complement(layout, floor)
    around = bb.difference(pushes.reachable(layout, bb.union(walls, boxes), player), targets)
    player = random_cell(around, _bits(player_key, num_candidates)).astype(layout.cell_dtype)
    limit = jnp.full(num_candidates, time_limit, jnp.uint16)
    valid = (bound >= min_pushes) & ~bb.is_empty(around)
    return SokobanTask(walls, targets, boxes, player, limit), valid


_jitted_batch = jax.jit(generate_batch, static_argnames=("num_candidates", "layout", "num_boxes", "difficulty"))


def push_bound(layout: Layout, floor: Board, targets: Board, boxes: Board, num_boxes: int) -> jax.Array:
    """int32: a lower bound on the pushes that solve a level with `num_boxes` boxes; works on any batch."""
    target_cells = jnp.stack(pushes.cells_of(layout, targets, num_boxes))
    box_cells = jnp.stack(pushes.cells_of(layout, boxes, num_boxes))
    planes = pull_distance.distances(layout, floor, bb.singleton(layout, target_cells))
    planes = jax.tree.map(lambda word: word[None], planes)
    return pull_distance.assignment_bound(pull_distance.at(planes, box_cells[:, None]))


def collect(
    key: jax.Array, num_levels: int, batch: Callable[[jax.Array], Candidates], request: str
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
        if found == 0 and index >= PATIENCE:
            raise ValueError(f"no level with {request} in {PATIENCE} batches; ask for a larger board or fewer boxes")
    return make_bank(jax.tree.map(lambda *leaves: np.concatenate(leaves)[:num_levels], *levels))


def _bits(key: jax.Array, *shape: int) -> jax.Array:
    return jax.random.bits(key, shape, jnp.uint32)


def _movable(layout: Layout, floor: Board) -> Board:
    """The floor cells from where a box can be pulled in some direction, were it alone."""
    movable = bb.empty(layout)
    for opposite in bb.OPPOSITE:
        next_two = bb.intersection(floor, bb.shift(layout, floor, opposite))
        movable = bb.union(movable, bb.shift(layout, next_two, opposite))
    return bb.intersection(movable, floor)


def _take_best(tree: tuple, score: jax.Array) -> tuple:
    """For each row of `score` ([N, M]) the element of the leaves of `tree` ([N, M]) where it is greatest."""
    best = jnp.argmax(score, axis=1, keepdims=True)
    return jax.tree.map(lambda leaf: jnp.take_along_axis(leaf, best, axis=1)[:, 0], tree)


def _check(key: jax.Array, num_levels: int, layout: Layout, num_boxes: int, time_limit: int | None) -> None:
    if not (isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.ndim == 0):
        raise TypeError(f"key must be one typed key, as jax.random.key(0) makes it; got {key!r}")
    if operator.index(num_levels) < 1:
        raise ValueError(f"num_levels={num_levels}; ask for at least 1")
    if max(layout.rows, layout.columns) < 3:
        raise ValueError(
            f"layout={layout.height}×{layout.width} has no room to push a box; the interior must be 3 cells long or wide"
        )
    if not 1 <= operator.index(num_boxes) <= layout.num_cells // 2:
        raise ValueError(
            f"num_boxes={num_boxes}; a board of {layout.height}×{layout.width} holds 1 … {layout.num_cells // 2} boxes "
            "and as many targets"
        )
    if time_limit is not None and not 1 <= operator.index(time_limit) <= 65_535:
        raise ValueError(f"time_limit={time_limit}; it must lie in 1 … 65,535")


def _check_search(difficulty: str, min_pushes: int | None) -> None:
    if difficulty not in ROOMS:
        raise ValueError(f"difficulty={difficulty!r}; choose one of {', '.join(map(repr, get_args(Difficulty)))}")
    if min_pushes is not None and operator.index(min_pushes) < 1:
        raise ValueError(f"min_pushes={min_pushes}; every level needs at least 1")
