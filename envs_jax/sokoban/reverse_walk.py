"""Sokoban played backwards at random: walkers pull the boxes off their targets and keep the farthest position seen.

Every pull is the reverse of a legal push, so whatever a walker reaches can be solved. Works on any batch: the boards of
a room have axes […], what belongs to a walker has axes [walkers, …].
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs_jax import bitboard as bb
from envs_jax.bitboard import Board, Cell
from envs_jax.sokoban.board import Layout
from envs_jax.sokoban.pull_distance import Planes, distances, rising, total
from envs_jax.sokoban.sampling import below, nth_cell

# How often, in sixteenths, a walker restricts itself, where it can, to …
OTHER_BOX = 14  # … a box other than the one it moved last,
ON_TARGET = 8  # … a box that stands on a target,
FARTHER = 12  # … a pull that takes the box farther from the nearest target.


class Room(NamedTuple):
    """What the walkers of a room share."""

    floor: Board
    targets: Board
    distance: Planes  # pulls from the nearest target
    rising: tuple[Board, Board, Board, Board]  # for each direction the cells from where it leads farther away


class Position(NamedTuple):
    """Boxes and player, a cell (int32)."""

    boxes: Board
    player: Cell


class Walker(NamedTuple):
    """A backward game."""

    now: Position
    score: jax.Array  # int32: of `now`
    pull: jax.Array  # uint32: what to do next, the box's cell | its new cell << 16; the same cell twice is no pull
    best: Position
    best_score: jax.Array  # int32: of `best`; negative while a box is on a target


def make_room(layout: Layout, floor: Board, targets: Board) -> Room:
    """A room and what can be known of it in advance."""
    planes = distances(layout, floor, targets)
    return Room(floor, targets, planes, rising(layout, planes))


def walk(layout: Layout, room: Room, player: Cell, key: jax.Array, num_pulls: int) -> tuple[Position, jax.Array]:
    """Lets walkers start from the solved position at `player` (int32[walkers, …]) and make `num_pulls` pulls each.

    A pull takes one box a random number of cells in one direction.

    Returns:
      (the farthest position of each walker, its score: int32[walkers, …], negative where boxes are on targets).
    """
    shape = player.shape
    start = Position(tuple(jnp.broadcast_to(word, shape) for word in room.targets), player)
    no_pull = jnp.zeros(shape, jnp.uint32)
    score = score_of(layout, room, start.boxes)
    walker = Walker(start, score, no_pull, start, score)

    # XLA computes what several results share once for each of them, unless the end of a loop's body comes in between.
    # Hence a trip chooses a pull and finds a score, one number each, and the next trip makes use of them.
    def step(i: int, walker: Walker) -> Walker:
        word = jax.random.bits(jax.random.fold_in(key, i), shape, jnp.uint32)
        best, best_score = keep_best(walker)
        now, moved = apply_pull(layout, walker.now, walker.pull)
        reached = approach(layout, room.floor, now)
        pull = choose_pull(layout, room, now.boxes, reached, moved, word)
        return Walker(now, score_of(layout, room, now.boxes), pull, best, best_score)

    return keep_best(jax.lax.fori_loop(0, num_pulls + 1, step, walker))


def keep_best(walker: Walker) -> tuple[Position, jax.Array]:
    """(the farthest position, its score): the present one where it is farther than any before."""
    better = walker.score > walker.best_score
    best = jax.tree.map(lambda new, old: jnp.where(better, new, old), walker.now, walker.best)
    return best, jnp.maximum(walker.score, walker.best_score)


def score_of(layout: Layout, room: Room, boxes: Board) -> jax.Array:
    """int32: the boxes' total distance from targets, and less than any such number while boxes are on targets."""
    covered = bb.count(bb.intersection(boxes, room.targets))
    return total(room.distance, boxes) - covered * np.int32(2 ** len(room.distance) * layout.num_cells)


def approach(layout: Layout, floor: Board, position: Position) -> Board:
    """The cells that the player can walk to in at most rows + columns steps.

    The fixed number lets every lane of a batch take the same time. A cell farther away costs a choice of pull, never a
    level's solvability.
    """
    free = bb.difference(floor, position.boxes)

    def spread(_: int, reached: Board) -> Board:
        neighbours = [bb.shift(layout, reached, direction) for direction in bb.DIRECTIONS]
        return bb.union(reached, bb.intersection(bb.union(*neighbours), free))

    return jax.lax.fori_loop(0, layout.rows + layout.columns, spread, bb.singleton(layout, position.player))


def choose_pull(layout: Layout, room: Room, boxes: Board, reached: Board, moved: Cell, word: jax.Array) -> jax.Array:
    """uint32: a random pull in the form of `Walker.pull`.

    Args:
      layout: the size of the board.
      room: the room.
      boxes: where the boxes are.
      reached: cells that the player can walk to.
      moved: the box that was moved last.
      word: uint32, random: preferences, length and choice take 4 bits, 4 bits and the upper 16.
    """
    free = bb.difference(room.floor, boxes)
    candidates = []
    for opposite in bb.OPPOSITE:
        stand = bb.intersection(reached, bb.shift(layout, free, opposite))
        candidates.append(bb.intersection(boxes, bb.shift(layout, stand, opposite)))
    others = bb.complement(layout, bb.singleton(layout, moved))
    preferences = ((OTHER_BOX, [others] * 4), (ON_TARGET, [room.targets] * 4), (FARTHER, room.rising))
    for i, (sixteenths, preferred) in enumerate(preferences):
        subset = [bb.intersection(some, board) for some, board in zip(candidates, preferred, strict=True)]
        use = ((word >> (4 * i) & 15) < sixteenths) & ~bb.is_empty(bb.union(*subset))
        candidates = [bb.where(use, some, all_) for some, all_ in zip(subset, candidates, strict=True)]

    size = sum(bb.count(board) for board in candidates)
    index = nth_cell(tuple(word for board in candidates for word in board), below(word, size)).astype(jnp.uint32)
    bits = np.uint32(32 * layout.num_words)
    box = (index % bits).astype(jnp.int32)
    end = pull_end(layout, free, box, (index // bits).astype(jnp.int32), word)
    return jnp.where(size > 0, (box | end << 16).astype(jnp.uint32), 0)


def pull_end(layout: Layout, free: Board, box: Cell, direction: jax.Array, word: jax.Array) -> Cell:
    """int32: where a box ends that is pulled a random number of cells, fewer if the player runs out of free cells."""
    longest = max(2, max(layout.rows, layout.columns) // 2)
    length = 1 + ((word >> 12 & 15) * longest >> 4).astype(jnp.int32)
    row, column = box // layout.columns, box % layout.columns
    delta, to_edge = _along(layout, direction, row, column)
    end, going = box + delta, length > 0
    for cells in range(2, longest + 1):
        going = going & (length >= cells) & (to_edge > cells) & bb.contains(free, box + (cells + 1) * delta)
        end = jnp.where(going, box + cells * delta, end)
    return end


def _along(layout: Layout, direction: jax.Array, row: jax.Array, column: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(what one step adds to a cell, steps to the edge of the board) in a direction."""
    vertical, forward = direction < 2, direction & 1 == 1
    delta = jnp.where(vertical, layout.columns, 1) * jnp.where(forward, 1, -1)
    down, right = layout.rows - 1 - row, layout.columns - 1 - column
    return delta, jnp.where(vertical, jnp.where(forward, down, row), jnp.where(forward, right, column))


def apply_pull(layout: Layout, position: Position, pull: jax.Array) -> tuple[Position, Cell]:
    """(the position after a pull, the cell of the box that was moved)."""
    box, end = (pull & 0xFFFF).astype(jnp.int32), (pull >> 16).astype(jnp.int32)
    step = jnp.where(jnp.abs(end - box) < layout.columns, 1, layout.columns) * jnp.sign(end - box)
    change = bb.symmetric_difference(bb.singleton(layout, box), bb.singleton(layout, end))
    player = jnp.where(pull == 0, position.player, end + step)
    return Position(bb.symmetric_difference(position.boxes, change), player), end
