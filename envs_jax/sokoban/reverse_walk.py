"""Sokoban played backwards at random: walkers pull the boxes off their targets and keep the farthest position seen.

Every pull is the reverse of a legal push, so whatever a walker reaches can be solved. Works on any batch: boards and
cells have leading axes, of which the last counts the walkers of a room.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs_jax.sokoban import board as bb
from envs_jax.sokoban.board import Board, Cell, Layout
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
    rising: tuple[
        Board, Board, Board, Board
    ]  # for each direction the cells from where a pull there takes a box farther


class Position(NamedTuple):
    boxes: Board
    player: Cell  # int32


class Walker(NamedTuple):
    now: Position
    moved: Cell  # int32: the box that was moved last
    best: Position  # the farthest so far
    score: jax.Array  # int32: of `best`; negative while any target is still covered


def make_room(layout: Layout, floor: Board, targets: Board) -> Room:
    """A room and what can be known of it in advance; leading axes are added for the walkers."""
    floor, targets = (tuple(word[..., None] for word in board) for board in (floor, targets))
    planes = distances(layout, floor, targets)
    return Room(floor, targets, planes, rising(layout, planes))


def walk(layout: Layout, room: Room, player: Cell, key: jax.Array, num_pulls: int) -> Walker:
    """Lets a walker start from the solved position at each `player` (int32[…, walkers]) and make `num_pulls` pulls.

    A pull takes one box a random number of cells in one direction.
    """
    shape = player.shape
    start = Position(tuple(jnp.broadcast_to(word, shape) for word in room.targets), player)
    walker = Walker(start, jnp.full(shape, layout.num_cells), start, score(layout, room, start.boxes))

    def step(i: int, walker: Walker) -> Walker:
        word = jax.random.bits(jax.random.fold_in(key, i), shape, jnp.uint32)
        candidates = preferred_pulls(layout, room, walker, word)
        now, moved = pull_run(layout, room.floor, walker.now, candidates, word)
        moved = jnp.where(moved < 0, walker.moved, moved)
        value = score(layout, room, now.boxes)
        better = value > walker.score
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), now, walker.best)
        return Walker(now, moved, best, jnp.maximum(value, walker.score))

    return jax.lax.fori_loop(0, num_pulls, step, walker)


def score(layout: Layout, room: Room, boxes: Board) -> jax.Array:
    """int32: the boxes' total distance from targets, and below any such number while boxes are on targets."""
    covered = bb.count(bb.intersection(boxes, room.targets))
    return total(room.distance, boxes) - covered * np.int32(2 ** len(room.distance) * layout.num_cells)


def pullable(layout: Layout, floor: Board, position: Position) -> list[Board]:
    """For each direction the boxes that the player can walk up to and pull there.

    The player's walk is followed for a number of steps that covers all but very winding paths, so that all lanes of a
    batch take the same time; a pull that is missed is a level less, never an unsolvable one.
    """
    free = bb.difference(floor, position.boxes)

    def spread(_: int, reached: Board) -> Board:
        for direction in bb.DIRECTIONS:
            reached = bb.union(reached, bb.intersection(bb.shift(layout, reached, direction), free))
        return reached

    trips = (layout.rows + layout.columns) // 2
    reached = jax.lax.fori_loop(0, trips, spread, bb.singleton(layout, position.player))
    boxes = []
    for opposite in bb.OPPOSITE:
        stand = bb.intersection(reached, bb.shift(layout, free, opposite))
        boxes.append(bb.intersection(position.boxes, bb.shift(layout, stand, opposite)))
    return boxes


def preferred_pulls(layout: Layout, room: Room, walker: Walker, word: jax.Array) -> list[Board]:
    """The pulls to choose from: all, or in turn those of each preference that the low bits of `word` call for."""
    candidates = pullable(layout, room.floor, walker.now)
    others = bb.complement(layout, bb.singleton(layout, walker.moved))
    preferences = ((OTHER_BOX, [others] * 4), (ON_TARGET, [room.targets] * 4), (FARTHER, room.rising))
    for i, (sixteenths, boards) in enumerate(preferences):
        subset = [bb.intersection(boxes, board) for boxes, board in zip(candidates, boards, strict=True)]
        wanted = (word >> (4 * i) & 15) < sixteenths
        use = wanted & ~bb.is_empty(bb.union(*subset))
        candidates = [bb.where(use, new, old) for new, old in zip(subset, candidates, strict=True)]
    return candidates


def pull_run(
    layout: Layout, floor: Board, position: Position, candidates: list[Board], word: jax.Array
) -> tuple[Position, Cell]:
    """Pulls a random one of `candidates` (boxes for each direction) over a random number of cells, while there is room.

    Returns:
      (position, the cell of the moved box or −1 where there is no candidate and nothing changes).
    """
    every = tuple(word for board in candidates for word in board)
    size = sum(bb.count(board) for board in candidates)
    bits = 32 * layout.num_words
    index = nth_cell(every, below(word, size))
    direction, box = index // bits, index % bits
    delta = jnp.where(direction < 2, layout.columns, 1) * (2 * (direction & 1) - 1)
    row, column = box // layout.columns, box % layout.columns
    to_edge = [row, layout.rows - 1 - row, column, layout.columns - 1 - column]
    room_ahead = jnp.select([direction == d for d in bb.DIRECTIONS], to_edge)

    free = bb.difference(floor, position.boxes)
    longest = max(2, max(layout.rows, layout.columns) // 2)
    wanted = 1 + ((word >> 12 & 15) * longest >> 4).astype(jnp.int32)
    length, going = jnp.ones_like(box), wanted > 1
    for cells in range(2, longest + 1):
        going = going & (wanted >= cells) & (room_ahead > cells) & bb.contains(free, box + (cells + 1) * delta)
        length = length + going
    end = box + length * delta
    change = bb.symmetric_difference(bb.singleton(layout, box), bb.singleton(layout, end))
    possible = size > 0
    boxes = bb.where(possible, bb.symmetric_difference(position.boxes, change), position.boxes)
    return Position(boxes, jnp.where(possible, end + delta, position.player)), jnp.where(possible, end, -1)
