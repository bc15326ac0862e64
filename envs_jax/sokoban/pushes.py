"""What the player can reach and push: the view of Sokoban in which one step is one push.

The functions work elementwise: every word of a board may be an array of any shape, and so may a cell. A batch given
directly, rather than through `jax.vmap`, spares the selects that vmap puts into loops.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from envs_jax.sokoban import board as bb
from envs_jax.sokoban.board import Board, Cell, Layout

UNREACHABLE = np.uint16(0xFFFF)  # the push distance from where a box cannot get to the target
_STEPS_A_TRIP = 4  # flood steps between two tests for the end


def reachable(layout: Layout, blocked: Board, player: Cell) -> Board:
    """The cells that the player can walk to without pushing.

    Args:
      layout: the size of the board.
      blocked: walls and boxes.
      player: the player's cell.
    """
    free = bb.complement(layout, blocked)

    def grow(carry: tuple[Board, Board]) -> tuple[Board, Board]:
        reached, _ = carry
        before = reached
        for _ in range(_STEPS_A_TRIP):
            neighbours = [bb.shift(layout, reached, direction) for direction in bb.DIRECTIONS]
            before, reached = reached, bb.union(reached, bb.intersection(bb.union(*neighbours), free))
        return reached, before

    start = bb.singleton(layout, player)
    none = tuple(word & 0 for word in start)
    reached, _ = jax.lax.while_loop(lambda carry: jnp.any(~bb.equal(*carry)), grow, (start, none))
    return reached


def pushable(layout: Layout, boxes: Board, reached: Board, open_cells: Board) -> tuple[Board, Board, Board, Board]:
    """For each direction the boxes that the player can push there.

    Args:
      layout: the size of the board.
      boxes: the boxes.
      reached: the cells that the player can walk to.
      open_cells: where a box may be put: neither wall nor box; without the dead squares for a search.
    """

    def towards(direction: int) -> Board:
        stand = bb.shift(layout, reached, direction)
        room = bb.shift(layout, open_cells, bb.OPPOSITE[direction])
        return bb.intersection(boxes, stand, room)

    up, down, left, right = (towards(direction) for direction in bb.DIRECTIONS)
    return up, down, left, right


def apply_push(layout: Layout, boxes: Board, box: Cell, direction: jax.Array) -> tuple[Board, Cell]:
    """(boxes, the box's new cell) after a legal push of the box at `box`; the player then stands at `box`."""
    delta = jnp.where(direction < 2, layout.columns, 1) * jnp.where(direction & 1 == 1, 1, -1)
    target = box.astype(jnp.int32) + delta
    change = bb.symmetric_difference(bb.singleton(layout, box), bb.singleton(layout, target))
    return bb.symmetric_difference(boxes, change), target


def push_distances(layout: Layout, walls: Board, targets: Board) -> jax.Array:
    """The fewest pushes that take a lone box from each cell to any of `targets`, the player's way being ignored.

    No push is assumed impossible but those into a wall or from inside one, so this never exceeds the true number.

    Returns:
      uint16[..., num_cells]; `UNREACHABLE` where no pushes do, walls included.
    """
    floor = bb.complement(layout, walls)
    stands = [bb.intersection(floor, bb.shift(layout, floor, direction)) for direction in bb.DIRECTIONS]

    def grow(carry: tuple[Board, Board, jax.Array]) -> tuple[Board, Board, jax.Array]:
        reached, _, distance = carry
        pulled = [
            bb.intersection(bb.shift(layout, reached, bb.OPPOSITE[direction]), stands[direction])
            for direction in bb.DIRECTIONS
        ]
        return bb.union(reached, *pulled), reached, distance + ~unpack_cells(layout, reached)

    none = tuple(word & 0 for word in targets)
    start = bb.intersection(targets, floor)
    distance = jnp.zeros((*targets[0].shape, layout.num_cells), jnp.uint16)
    changing = lambda carry: jnp.any(~bb.equal(carry[0], carry[1]))
    reached, _, distance = jax.lax.while_loop(changing, grow, (start, none, distance))
    return jnp.where(unpack_cells(layout, reached), distance, UNREACHABLE)


def cells_of(layout: Layout, board: Board, count: int) -> list[Cell]:
    """The `count` lowest cells of a board, ascending, int32; `num_cells` where there are fewer."""
    cells = []
    for _ in range(count):
        cell = jnp.minimum(bb.first_cell(board), layout.num_cells)
        cells.append(cell)
        board = bb.difference(board, bb.singleton(layout, cell))
    return cells


def assignment(costs: Sequence[Sequence[jax.Array]]) -> jax.Array:
    """The least total cost of giving each of n boxes a target of its own, exactly, by dynamic programming over sets.

    Args:
      costs: n × n arrays of one shape; `costs[i][j]` for box i on target j.

    Returns:
      an array of that shape and dtype. n · 2^(n−1) additions: meant for n ≤ 6.
    """
    best = {frozenset([j]): cost for j, cost in enumerate(costs[0])}
    for i in range(1, len(costs)):
        chosen = itertools.combinations(range(len(costs)), i + 1)
        best = {
            frozenset(taken): _least([best[frozenset(taken) - {j}] + costs[i][j] for j in taken]) for taken in chosen
        }
    return best[frozenset(range(len(costs)))]


def _least(values: list[jax.Array]) -> jax.Array:
    least = values[0]
    for value in values[1:]:
        least = jnp.minimum(least, value)
    return least


def unpack_cells(layout: Layout, board: Board) -> jax.Array:
    """bool[..., num_cells]: the board, a cell at a time."""
    shifts = np.arange(32, dtype=np.uint32)
    words = [(word[..., None] >> shifts) & 1 for word in board]
    return jnp.concatenate(words, axis=-1)[..., : layout.num_cells].astype(bool)
