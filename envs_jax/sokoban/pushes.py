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

from envs_jax import bitboard as bb
from envs_jax.bitboard import Board, Cell
from envs_jax.sokoban.board import Layout

UNREACHABLE = np.uint16(0xFFFF)  # the push distance from where a box cannot get to the target


def reachable(layout: Layout, blocked: Board, player: Cell) -> Board:
    """The cells that the player can walk to without pushing.

    Args:
      layout: the size of the board.
      blocked: walls and boxes.
      player: the player's cell.
    """
    return bb.flood(layout, bb.singleton(layout, player), bb.complement(layout, blocked))


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
    target = box.astype(jnp.int32) + step_of(layout, direction)
    change = bb.symmetric_difference(bb.singleton(layout, box), bb.singleton(layout, target))
    return bb.symmetric_difference(boxes, change), target


def step_of(layout: Layout, direction: jax.Array) -> jax.Array:
    """int32: what one step in a (traced) direction adds to a cell."""
    return jnp.where(direction < 2, layout.columns, 1) * jnp.where(direction & 1 == 1, 1, -1)


def side_regions(layout: Layout, walls: Board, cells: jax.Array) -> tuple[Board, Board, Board, Board]:
    """The parts into which a lone box divides the floor.

    Args:
      layout: the size of the board.
      walls: the walls.
      cells: int32[n]: where the box is.

    Returns:
      For each direction the cells that the player can walk to from that side of the box: words uint32[..., n], by the
      box's cell. Sides that are connected share one region, which the first of them holds; the others are empty.
    """
    box = bb.singleton(layout, cells)
    free = bb.difference(bb.expand(bb.complement(layout, walls)), box)
    regions: list[Board] = []
    for direction in bb.DIRECTIONS:
        start = bb.intersection(bb.shift(layout, box, direction), free)
        regions.append(bb.flood(layout, bb.difference(start, bb.union(*regions)) if regions else start, free))
    up, down, left, right = regions
    return up, down, left, right


def joined_sides(layout: Layout, regions: tuple[Board, Board, Board, Board], cells: jax.Array) -> jax.Array:
    """uint8[..., n]: which sides of a lone box at `cells` are connected, a bit for each two, by `side_regions`."""
    box = bb.singleton(layout, cells)
    beside = [bb.shift(layout, box, direction) for direction in bb.DIRECTIONS]
    within = [[~bb.is_empty(bb.intersection(region, cell)) for cell in beside] for region in regions]
    joined = jnp.zeros_like(within[0][0], jnp.uint8)
    for bit, (s, t) in enumerate(_PAIRS):
        together = within[0][s] & within[0][t]
        for inside in within[1:]:
            together |= inside[s] & inside[t]
        joined |= together.astype(jnp.uint8) << bit
    return joined


def push_distances(layout: Layout, walls: Board, targets: Board, joined: jax.Array) -> jax.Array:
    """The fewest pushes that take a lone box to any of `targets`, by the box's cell and the player's side of it.

    The player has to walk, but no other box is in the way, so this never exceeds the true number.

    Args:
      layout: the size of the board.
      walls: the walls; broadcast against `targets`.
      targets: where the box may be taken.
      joined: uint8[..., num_cells]: `joined_sides` at all cells.

    Returns:
      uint16[..., num_cells, 4]: the player stands up, down, left, right of the box. `UNREACHABLE` where no pushes do;
      values of sides that are walls mean nothing.
    """
    floor = bb.complement(layout, walls)
    together = _together(layout, joined)
    shape = jnp.broadcast_shapes(walls[0].shape, targets[0].shape)
    start = jax.tree.map(lambda word: jnp.broadcast_to(word, shape), bb.intersection(targets, floor))
    none = jax.tree.map(lambda word: word & 0, start)

    def grow(carry: _Growth) -> _Growth:
        # A push away from side s leaves the player on side s of the box's new cell.
        sides, _, digits = carry
        pulled = [
            bb.union(sides[s], bb.intersection(bb.shift(layout, sides[s], s), floor, bb.shift(layout, floor, s ^ 1)))
            for s in bb.DIRECTIONS
        ]
        after = [
            bb.union(pulled[s], *(bb.intersection(pulled[t], together[s, t]) for t in bb.DIRECTIONS if t != s))
            for s in bb.DIRECTIONS
        ]
        missing = [bb.complement(layout, side) for side in sides]
        return after, sides, [_increment(number, cells) for number, cells in zip(digits, missing, strict=True)]

    changing = lambda carry: ~_all_equal(carry[0], carry[1])
    zero = [[none] * (2 * layout.num_cells).bit_length()] * 4
    reached, _, digits = jax.lax.while_loop(changing, grow, ([start] * 4, [none] * 4, zero))
    distances = [
        jnp.where(unpack_cells(layout, side), _number(layout, number), UNREACHABLE)
        for side, number in zip(reached, digits, strict=True)
    ]
    return jnp.stack(distances, axis=-1)


# Per side: where the player has been found able to bring the box home from; the same a step earlier; and how many steps
# that took, a binary digit a board.
_Growth = tuple[list[Board], list[Board], list[list[Board]]]

_PAIRS = tuple((s, t) for s in bb.DIRECTIONS for t in range(s))  # of sides, in the order of the bits of `joined_sides`


def _together(layout: Layout, joined: jax.Array) -> dict[tuple[int, int], Board]:
    """For each two sides the cells at which a lone box leaves them connected."""
    cells = {pair: pack_cells(layout, (joined >> bit & 1).astype(bool)) for bit, pair in enumerate(_PAIRS)}
    return cells | {(t, s): board for (s, t), board in cells.items()}


def _increment(number: list[Board], cells: Board) -> list[Board]:
    """Adds 1 at `cells` to a number that is spread over boards, a binary digit each, the lowest first."""
    result = []
    for digit in number:
        result.append(bb.symmetric_difference(digit, cells))
        cells = bb.intersection(digit, cells)
    return result


def _number(layout: Layout, number: list[Board]) -> jax.Array:
    """uint16[..., num_cells]: the number at each cell."""
    digits = [unpack_cells(layout, digit).astype(jnp.uint16) << i for i, digit in enumerate(number)]
    return sum(digits[1:], start=digits[0])


def _all_equal(a: list[Board], b: list[Board]) -> jax.Array:
    same = bb.equal(a[0], b[0])
    for x, y in zip(a[1:], b[1:], strict=True):
        same &= bb.equal(x, y)
    return jnp.all(same)


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
    if isinstance(board, bb.Stacked):
        words = [words[0].reshape(*words[0].shape[:-2], -1)]
    return jnp.concatenate(words, axis=-1)[..., : layout.num_cells].astype(bool)


def pack_cells(layout: Layout, cells: jax.Array) -> Board:
    """bool[..., num_cells] → words; the inverse of `unpack_cells`."""
    spare = layout.num_words * 32 - layout.num_cells
    bits = jnp.concatenate([cells, jnp.zeros((*cells.shape[:-1], spare), bool)], axis=-1)
    weights = np.uint32(1) << np.arange(32, dtype=np.uint32)
    words = bits.reshape(*cells.shape[:-1], layout.num_words, 32) * weights
    total = jnp.sum(words, axis=-1, dtype=jnp.uint32)
    return bb.Stacked(total) if layout.is_stacked else tuple(total[..., i] for i in range(layout.num_words))
