"""Bitboards: sets of cells of a grid as a few separate uint32 words.

Cell (row, column) is bit `i % 32` of word `i // 32` with `i = row * columns + column`. Words are separate arrays
(structure of arrays), which lets XLA vectorise over a batch of boards. The functions work elementwise: every word of a
board may be an array of any shape, and so may a cell.
"""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Board = tuple[jax.Array, ...]  # `num_words` times uint32[]
Cell = jax.Array  # an integer scalar: index of a cell

UP, DOWN, LEFT, RIGHT = range(4)
DIRECTIONS = (UP, DOWN, LEFT, RIGHT)
OPPOSITE = (DOWN, UP, RIGHT, LEFT)
MAX_CELLS = 65_536  # so that two bytes hold a cell

_STEPS_A_TRIP = 4  # flood steps between two tests for the end


@dataclasses.dataclass(frozen=True)
class Grid:
    """The size of the boards; hashable, so it can be static configuration."""

    rows: int
    columns: int

    def __post_init__(self) -> None:
        if min(self.rows, self.columns) < 1 or self.num_cells > MAX_CELLS:
            raise ValueError(f"rows={self.rows} × columns={self.columns}; a grid has 1 … {MAX_CELLS:,} cells")

    @property
    def num_cells(self) -> int:
        """Cells of a board."""
        return self.rows * self.columns

    @property
    def num_words(self) -> int:
        """Words of a board."""
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
        return tuple(int(word) for word in self.pack_batch(cells[None])[:, 0])

    def pack_batch(self, cells: np.ndarray) -> np.ndarray:
        """bool[N, rows, columns] → uint32[num_words, N]; `tuple` of it is a board of arrays."""
        bits = np.zeros((len(cells), self.num_words * 32), bool)
        bits[:, : self.num_cells] = cells.reshape(len(cells), -1)
        return np.ascontiguousarray(np.packbits(bits, axis=1, bitorder="little").view("<u4").T)

    def unpack(self, board: Board) -> np.ndarray:
        """Words (concrete, all of one shape) → bool[…, rows, columns]."""
        words = np.stack([np.asarray(word, "<u4") for word in board], axis=-1)
        bits = np.unpackbits(words.view(np.uint8), axis=-1, count=self.num_cells, bitorder="little")
        return bits.view(bool).reshape(*words.shape[:-1], self.rows, self.columns)


def constant(words: tuple[int, ...]) -> Board:
    """A board from Python integers, as NumPy scalars (which fold into the program as immediates)."""
    return tuple(np.uint32(word) for word in words)  # type: ignore[misc]


def empty(grid: Grid) -> Board:
    """The board with no cell set."""
    return constant((0,) * grid.num_words)


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


def complement(grid: Grid, board: Board) -> Board:
    """The cells that are not in `board`."""
    return difference(constant(grid.all_cells), board)


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


def singleton(grid: Grid, cell: Cell) -> Board:
    """The board with one cell set."""
    cell = cell.astype(jnp.uint32)
    bit = jnp.uint32(1) << (cell & 31)
    return tuple(jnp.where(cell >> 5 == i, bit, 0) for i in range(grid.num_words))


def first_cell(board: Board) -> Cell:
    """int32[]: the lowest cell set; 32 × words where there is none."""
    cell = jnp.int32(32 * len(board))
    for i in reversed(range(len(board))):
        lowest = jax.lax.population_count((board[i] & -board[i]) - jnp.uint32(1)).astype(jnp.int32)
        cell = jnp.where(board[i] != 0, 32 * i + lowest, cell)
    return cell


def shift(grid: Grid, board: Board, direction: int) -> Board:
    """Every cell moved one step in a (static) direction; cells that leave the board vanish."""
    movable = intersection(board, constant(grid.open_to[direction]))
    return _shift_bits(movable, grid.deltas[direction])


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


def flood(grid: Grid, start: Board, free: Board) -> Board:
    """All cells of `start`, and the `free` ones that are connected to them through free cells."""

    def grow(carry: tuple[Board, Board]) -> tuple[Board, Board]:
        before, _ = carry
        reached = before
        for _ in range(_STEPS_A_TRIP):
            neighbours = [shift(grid, reached, direction) for direction in DIRECTIONS]
            reached = union(reached, intersection(union(*neighbours), free))
        return reached, before

    none = tuple(word & 0 for word in start)
    reached, _ = jax.lax.while_loop(lambda carry: jnp.any(~equal(*carry)), grow, (start, none))
    return reached
