"""Bitboards: sets of cells of a Sokoban board as a few separate uint32 words.

A board of height × width is enclosed by walls, so its outermost ring is not stored: cell (row, column) of the
interior is bit `i % 32` of word `i // 32` with `i = row * columns + column`. A 10×10 board takes two words. Words are
separate arrays (structure of arrays), which lets XLA vectorise over a batch of boards.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Board = tuple[jax.Array, ...]  # `num_words` times uint32[]
Cell = jax.Array  # an integer scalar: index of an interior cell

UP, DOWN, LEFT, RIGHT = range(4)
DIRECTIONS = (UP, DOWN, LEFT, RIGHT)
OPPOSITE = (DOWN, UP, RIGHT, LEFT)


@dataclasses.dataclass(frozen=True)
class Layout:
    """The size of a board, its wall ring included; hashable, so it can be static configuration."""

    height: int
    width: int

    def __post_init__(self) -> None:
        if self.height < 3 or self.width < 3:
            raise ValueError(f"size={self.size}; a board is at least 3×3, its wall ring included")
        if self.num_cells > 65_536:
            raise ValueError(f"size={self.size} has {self.num_cells} interior cells; at most 65,536")

    @property
    def size(self) -> tuple[int, int]:
        """(height, width), what `make` takes."""
        return self.height, self.width

    @property
    def name(self) -> str:
        """The size as a phrase; tasks carry it, so that those of another size are not misread."""
        return f"boards of {self.height}×{self.width} cells"

    @property
    def rows(self) -> int:
        """Rows of the interior."""
        return self.height - 2

    @property
    def columns(self) -> int:
        """Columns of the interior."""
        return self.width - 2

    @property
    def num_cells(self) -> int:
        """Cells of the interior."""
        return self.rows * self.columns

    @property
    def num_words(self) -> int:
        """Words of a bitboard."""
        return -(-self.num_cells // 32)

    @property
    def cell_dtype(self) -> np.dtype:
        """The smallest unsigned dtype that holds a cell's index."""
        return np.dtype(np.uint8 if self.num_cells <= 256 else np.uint16)

    @property
    def deltas(self) -> tuple[int, int, int, int]:
        """What a step up, down, left, right adds to a cell's index."""
        return (-self.columns, self.columns, -1, 1)

    @cached_property
    def all_cells(self) -> tuple[int, ...]:
        """The board with every cell set, as Python integers."""
        return self.pack(np.ones((self.rows, self.columns), bool))

    @cached_property
    def open_to(self) -> tuple[tuple[int, ...], ...]:
        """For each direction the cells that have a neighbour there, as Python integers."""
        grids = np.ones((4, self.rows, self.columns), bool)
        grids[UP, 0], grids[DOWN, -1], grids[LEFT, :, 0], grids[RIGHT, :, -1] = False, False, False, False
        return tuple(self.pack(grid) for grid in grids)

    def pack(self, cells: np.ndarray) -> tuple[int, ...]:
        """bool[rows, columns] → words, as Python integers."""
        bits = np.zeros(self.num_words * 32, bool)
        bits[: self.num_cells] = cells.reshape(-1)
        return tuple(int(word) for word in np.packbits(bits, bitorder="little").view("<u4"))

    def unpack(self, board: Board) -> np.ndarray:
        """Words (concrete) → bool[rows, columns]."""
        words = np.array([int(word) for word in board], "<u4")
        return (
            np.unpackbits(words.view(np.uint8), bitorder="little")[: self.num_cells]
            .astype(bool)
            .reshape(self.rows, self.columns)
        )


def constant(words: tuple[int, ...]) -> Board:
    """A board from Python integers, as NumPy scalars (which fold into the program as immediates)."""
    return tuple(np.uint32(word) for word in words)  # type: ignore[misc]


def empty(layout: Layout) -> Board:
    """The board with no cell set."""
    return constant((0,) * layout.num_words)


def union(*boards: Board) -> Board:
    """The cells of any of the boards."""
    first, *rest = boards
    for board in rest:
        first = tuple(a | b for a, b in zip(first, board, strict=True))
    return first


def intersection(*boards: Board) -> Board:
    """The cells that all boards share."""
    first, *rest = boards
    for board in rest:
        first = tuple(a & b for a, b in zip(first, board, strict=True))
    return first


def difference(a: Board, b: Board) -> Board:
    """The cells of `a` that are not in `b`."""
    return tuple(x & ~y for x, y in zip(a, b, strict=True))


def symmetric_difference(a: Board, b: Board) -> Board:
    """The cells of one of the boards only."""
    return tuple(x ^ y for x, y in zip(a, b, strict=True))


def complement(layout: Layout, board: Board) -> Board:
    """The cells that are not in `board`."""
    return difference(constant(layout.all_cells), board)


def where(condition: jax.Array, a: Board, b: Board) -> Board:
    """`a` where the condition holds, else `b`."""
    return tuple(jnp.where(condition, x, y) for x, y in zip(a, b, strict=True))


def is_empty(board: Board) -> jax.Array:
    """bool[]: no cell is set."""
    any_word = board[0]
    for word in board[1:]:
        any_word = any_word | word
    return any_word == 0


def equal(a: Board, b: Board) -> jax.Array:
    """bool[]: the same cells are set."""
    return is_empty(symmetric_difference(a, b))


def count(board: Board) -> jax.Array:
    """int32[]: the number of cells set."""
    total = jax.lax.population_count(board[0])
    for word in board[1:]:
        total = total + jax.lax.population_count(word)
    return total.astype(jnp.int32)


def contains(board: Board, cell: Cell) -> jax.Array:
    """bool[]: whether `cell` is set; cells beyond the last word read the last word."""
    cell = cell.astype(jnp.uint32)
    word = board[0]
    for i in range(1, len(board)):
        word = jnp.where(cell >= 32 * i, board[i], word)
    return ((word >> (cell & 31)) & 1).astype(bool)


def singleton(layout: Layout, cell: Cell) -> Board:
    """The board with one cell set."""
    cell = cell.astype(jnp.uint32)
    bit = jnp.uint32(1) << (cell & 31)
    return tuple(jnp.where(cell >> 5 == i, bit, 0) for i in range(layout.num_words))


def first_cell(board: Board) -> Cell:
    """int32[]: the lowest cell set; 32 × words where there is none."""
    cell = jnp.int32(32 * len(board))
    for i in reversed(range(len(board))):
        lowest = jax.lax.population_count((board[i] & -board[i]) - jnp.uint32(1)).astype(jnp.int32)
        cell = jnp.where(board[i] != 0, 32 * i + lowest, cell)
    return cell


def shift(layout: Layout, board: Board, direction: int) -> Board:
    """Every cell moved one step in a (static) direction; cells that leave the board vanish."""
    movable = intersection(board, constant(layout.open_to[direction]))
    return _shift_bits(movable, layout.deltas[direction])


def _shift_bits(board: Board, amount: int) -> Board:
    """The bits of the words, taken as one long number, moved up by `amount` (down where it is negative)."""
    words, bits = divmod(abs(amount), 32)
    sign = 1 if amount >= 0 else -1
    word_at = lambda i: board[i] if 0 <= i < len(board) else np.uint32(0)
    shifted: list[Any] = []
    for i in range(len(board)):
        near, far = word_at(i - sign * words), word_at(i - sign * (words + 1))
        if bits == 0:
            shifted.append(near | np.uint32(0))
        elif amount >= 0:
            shifted.append((near << bits) | (far >> (32 - bits)))
        else:
            shifted.append((near >> bits) | (far << (32 - bits)))
    return tuple(shifted)


def map_cells(layout: Layout, boards: tuple[Board, ...], function: Callable[..., jax.Array]) -> jax.Array:
    """An array over the whole board, wall ring included.

    Args:
      layout: the size of the board.
      boards: N boards; no board is set on the ring.
      function: called with N arrays uint32[n] of zeros and ones, one a board, for n cells in row-major order;
        returns an array [n, …]. It is called for up to 32 cells at a time.

    Returns:
      [height, width, …].
    """
    # Shifting a scalar word by a vector of amounts and concatenating the words is what XLA:CPU turns into plain vector
    # code; stacking the words first, or padding the interior, costs six to twelve times as much.
    num_cells = layout.height * layout.width
    words = [_with_ring(layout, board) for board in boards]
    parts = []
    for i, chunk in enumerate(zip(*words, strict=True)):
        amounts = np.arange(min(32, num_cells - 32 * i), dtype=np.uint32)
        parts.append(function(*((word >> amounts) & np.uint32(1) for word in chunk)))
    cells = jnp.concatenate(parts)
    return cells.reshape(*layout.size, *cells.shape[1:])


def _with_ring(layout: Layout, board: Board) -> Board:
    """The words of a board whose ring is stored too (and not set)."""
    words = list(constant((0,) * -(-layout.height * layout.width // 32)))
    for row in range(layout.rows):
        start = row * layout.columns
        move = (row + 1) * layout.width + 1 - start
        for i in range(start // 32, (start + layout.columns - 1) // 32 + 1):  # the words that hold the row
            in_row = (((1 << layout.columns) - 1) << start >> (32 * i)) & 0xFFFFFFFF
            bits = board[i] & np.uint32(in_row)
            to, amount = divmod(32 * i + move, 32)
            if (in_row << amount) & 0xFFFFFFFF:
                words[to] = words[to] | (bits << np.uint32(amount))
            if in_row << amount >> 32:
                words[to + 1] = words[to + 1] | (bits >> np.uint32(32 - amount))
    return tuple(words)
