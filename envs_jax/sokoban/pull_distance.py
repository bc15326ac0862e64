"""How far boxes are from targets, as numbers spread over bitboards: bit j of every cell's distance is one board.

Summing the distances of all boxes then takes a few population counts and no gather. Works on any batch.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from envs_jax import bitboard as bb
from envs_jax.bitboard import Board, Cell
from envs_jax.sokoban.board import Layout

Planes = tuple[Board, ...]  # the bits of a number for every cell, lowest first


def num_planes(layout: Layout) -> int:
    """Bits of a distance: enough for twice the sum of rows and columns or so; longer distances saturate."""
    return (layout.rows + layout.columns).bit_length()


def distances(layout: Layout, floor: Board, sources: Board) -> Planes:
    """The fewest pulls that bring a lone box from the nearest of `sources` to each floor cell, up to 2^planes − 1.

    That is also the fewest pushes in the other direction. Where the player must walk, and the other boxes, are ignored,
    so this never exceeds the true number.
    """
    # A box pulled in a direction needs its new cell and the next one, where the player ends.
    ends = [bb.intersection(floor, bb.shift(layout, floor, bb.OPPOSITE[d])) for d in bb.DIRECTIONS]

    def extend(_: int, carry: tuple[Board, Planes]) -> tuple[Board, Planes]:
        reached, planes = carry
        planes = _increment(planes, bb.difference(floor, reached))
        pulled = [bb.intersection(bb.shift(layout, reached, d), end) for d, end in enumerate(ends)]
        return bb.union(reached, *pulled), planes

    shape = jnp.broadcast_shapes(floor[0].shape, sources[0].shape)
    start = tuple(jnp.broadcast_to(word, shape) for word in sources)
    zeros = tuple(tuple(jnp.zeros(shape, jnp.uint32) for _ in floor) for _ in range(num_planes(layout)))
    return jax.lax.fori_loop(0, 2 ** num_planes(layout) - 1, extend, (start, zeros))[1]


def _increment(planes: Planes, cells: Board) -> Planes:
    """Adds 1 at `cells`."""
    result = []
    for plane in planes:
        result.append(bb.symmetric_difference(plane, cells))
        cells = bb.intersection(plane, cells)
    return tuple(result)


def total(planes: Planes, cells: Board) -> jax.Array:
    """int32: the sum of the numbers at `cells`."""
    return sum((bb.count(bb.intersection(plane, cells)) << j for j, plane in enumerate(planes)), start=jnp.int32(0))


def at(planes: Planes, cell: Cell) -> jax.Array:
    """int32: the number at `cell`."""
    return sum((bb.contains(plane, cell).astype(jnp.int32) << j for j, plane in enumerate(planes)), start=jnp.int32(0))


def rising(layout: Layout, planes: Planes) -> tuple[Board, Board, Board, Board]:
    """For each direction the cells whose neighbour there has a greater number."""

    def towards(direction: int) -> Board:
        smaller = bb.empty(layout)
        for plane in planes:  # from the lowest bit: a higher bit that differs overrules
            neighbour = bb.shift(layout, plane, bb.OPPOSITE[direction])
            same = bb.complement(layout, bb.symmetric_difference(plane, neighbour))
            smaller = bb.union(bb.difference(neighbour, plane), bb.intersection(smaller, same))
        return smaller

    up, down, left, right = (towards(direction) for direction in bb.DIRECTIONS)
    return up, down, left, right


def assignment_bound(distances: jax.Array) -> jax.Array:
    """A lower bound on the cost of giving each box a target of its own, for any number of boxes.

    Row and column minima are subtracted in either order and summed, as in the first step of the Hungarian method (Kuhn,
    1955): what is subtracted is a feasible solution of the dual problem, so its sum is at most the least cost.

    Args:
      distances: int32[boxes, targets, …].

    Returns:
      int32[…].
    """

    def reduced(costs: jax.Array) -> jax.Array:
        rows = costs.min(1, keepdims=True)
        return rows.sum((0, 1)) + (costs - rows).min(0).sum(0)

    return jnp.maximum(reduced(distances), reduced(distances.swapaxes(0, 1)))
