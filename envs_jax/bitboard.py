"""Bitboards: sets of cells of a grid as a few separate uint32 words.

Cell (row, column) is bit `i % 32` of word `i // 32` with `i = row * columns + column`. Words are separate arrays
(structure of arrays), which lets XLA vectorise over a batch of boards. The functions work elementwise: every word of a
board may be an array of any shape, and so may a cell.

Programs grow with the words. Where these are many, a board may be `Stacked`, and all functions take and return that.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable
from functools import cached_property, partial, reduce
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

Board = tuple[jax.Array, ...]  # `num_words` times uint32[]
Cell = jax.Array  # an integer scalar: index of a cell

T = TypeVar("T")

UP, DOWN, LEFT, RIGHT = range(4)
DIRECTIONS = (UP, DOWN, LEFT, RIGHT)
OPPOSITE = (DOWN, UP, RIGHT, LEFT)
MAX_CELLS = 65_536  # so that two bytes hold a cell

_STEPS_A_TRIP = 4  # flood steps between two tests for the end


class Stacked(NamedTuple):
    """A board whose words are the last axis of one array: a longer way to run through, but a program of one size."""

    words: jax.Array  # uint32[..., num_words]


@dataclasses.dataclass(frozen=True)
class Grid:
    """The size of the boards; hashable, so it can be static configuration."""

    rows: int
    columns: int

    @property
    def is_stacked(self) -> bool:
        """Whether new boards are `Stacked`."""
        return False

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


def constant_like(board: Board, words: tuple[int, ...]) -> Board:
    """A constant that `board` can be combined with."""
    return Stacked(np.array(words, np.uint32)) if isinstance(board, Stacked) else constant(words)  # type: ignore[arg-type]


def from_words(grid: Grid, make: Callable[..., Any]) -> Board:
    """A board of the grid's form: `make()` for each word, or `make(num_words)` for all at once, as the last axis."""
    return Stacked(make(grid.num_words)) if grid.is_stacked else tuple(make() for _ in range(grid.num_words))


def stacked_words(board: Board) -> jax.Array:
    """uint32[..., num_words]."""
    return board.words if isinstance(board, Stacked) else jnp.stack(board, axis=-1)


def expand(board: Board) -> Board:
    """A batch of boards with one more axis, of length 1, after its own."""
    if isinstance(board, Stacked):
        return Stacked(board.words[..., None, :])
    return tuple(word[..., None] for word in board)


def join(*boards: Board) -> Board:
    """The words of several boards, one after the other."""
    if isinstance(boards[0], Stacked):
        return Stacked(jnp.concatenate([stacked_words(board) for board in boards], axis=-1))
    return sum(boards, start=())


def fold(function: Callable[[T, jax.Array], T], carry: T, board: Board) -> T:
    """`function(carry, word)` for every word in turn, from the lowest; the carry keeps shapes and dtypes."""
    if isinstance(board, Stacked):
        words = jnp.moveaxis(board.words, -1, 0)
        return jax.lax.scan(lambda carry, word: (function(carry, word), None), carry, words)[0]
    return reduce(function, board, carry)


def empty(grid: Grid) -> Board:
    """The board with no cell set."""
    return from_words(grid, lambda *shape: np.zeros(shape, np.uint32)[()])


def _wordwise(function: Callable[..., jax.Array], *boards: Board) -> Board:
    words = [function(*same) for same in zip(*boards, strict=True)]
    return Stacked(*words) if isinstance(boards[0], Stacked) else tuple(words)


def union(*boards: Board) -> Board:
    """The cells of any of the boards."""
    return reduce(partial(_wordwise, operator.or_), boards)


def intersection(*boards: Board) -> Board:
    """The cells that all boards share."""
    return reduce(partial(_wordwise, operator.and_), boards)


def difference(a: Board, b: Board) -> Board:
    """The cells of `a` that are not in `b`."""
    return _wordwise(lambda x, y: x & ~y, a, b)


def symmetric_difference(a: Board, b: Board) -> Board:
    """The cells of one of the boards only."""
    return _wordwise(operator.xor, a, b)


def complement(grid: Grid, board: Board) -> Board:
    """The cells that are not in `board`."""
    return difference(constant_like(board, grid.all_cells), board)


def where(condition: jax.Array, a: Board, b: Board) -> Board:
    """`a` where the condition holds, else `b`."""
    condition = condition[..., None] if isinstance(a, Stacked) else condition
    return _wordwise(lambda x, y: jnp.where(condition, x, y), a, b)


def keep(condition: jax.Array, board: Board) -> Board:
    """The board where the condition holds, else the empty one."""
    condition = condition[..., None] if isinstance(board, Stacked) else condition
    return _wordwise(lambda word: jnp.where(condition, word, 0), board)


def is_empty(board: Board) -> jax.Array:
    """bool[]: no cell is set."""
    if isinstance(board, Stacked):
        return jnp.all(board.words == 0, axis=-1)
    any_word = board[0]
    for word in board[1:]:
        any_word = any_word | word
    return any_word == 0


def equal(a: Board, b: Board) -> jax.Array:
    """bool[]: the same cells are set."""
    return is_empty(symmetric_difference(a, b))


def count(board: Board) -> jax.Array:
    """int32[]: the number of cells set."""
    if isinstance(board, Stacked):
        return jnp.sum(jax.lax.population_count(board.words), axis=-1, dtype=jnp.int32)
    total = jax.lax.population_count(board[0])
    for word in board[1:]:
        total = total + jax.lax.population_count(word)
    return total.astype(jnp.int32)


def contains(board: Board, cell: Cell) -> jax.Array:
    """bool[]: whether `cell` is set; means nothing beyond the last cell."""
    cell = cell.astype(jnp.uint32)
    if isinstance(board, Stacked):
        return ~is_empty(intersection(board, _bit_of(board.words.shape[-1], cell)))
    word = board[0]
    for i in range(1, len(board)):
        word = jnp.where(cell >= 32 * i, board[i], word)
    return ((word >> (cell & 31)) & 1).astype(bool)


def singleton(grid: Grid, cell: Cell) -> Board:
    """The board with one cell set."""
    cell = cell.astype(jnp.uint32)
    if grid.is_stacked:
        return _bit_of(grid.num_words, cell)
    bit = jnp.uint32(1) << (cell & 31)
    return tuple(jnp.where(cell >> 5 == i, bit, 0) for i in range(grid.num_words))


def _bit_of(num_words: int, cell: jax.Array) -> Stacked:
    cell = cell[..., None]
    return Stacked(jnp.where(cell >> 5 == np.arange(num_words, dtype=np.uint32), jnp.uint32(1) << (cell & 31), 0))


def below(grid: Grid, cell: Cell) -> Board:
    """The cells before one."""
    bit = singleton(grid, cell)
    word = (cell >> 5).astype(jnp.int32)
    ones = np.uint32(0xFFFFFFFF)
    if isinstance(bit, Stacked):
        word, i = word[..., None], np.arange(grid.num_words)
        return Stacked(jnp.where(word > i, ones, jnp.where(word == i, bit.words - 1, 0)))
    return tuple(jnp.where(word > i, ones, jnp.where(word == i, bit[i] - 1, 0)) for i in range(grid.num_words))


def first_cell(board: Board) -> Cell:
    """int32[]: the lowest cell set; 32 × words where there is none."""
    if isinstance(board, Stacked):
        words, beyond = board.words, 32 * board.words.shape[-1]
        lowest = jax.lax.population_count((words & -words) - jnp.uint32(1)).astype(jnp.int32)
        return jnp.min(jnp.where(words != 0, np.arange(0, beyond, 32) + lowest, beyond), axis=-1)
    cell = jnp.int32(32 * len(board))
    for i in reversed(range(len(board))):
        lowest = jax.lax.population_count((board[i] & -board[i]) - jnp.uint32(1)).astype(jnp.int32)
        cell = jnp.where(board[i] != 0, 32 * i + lowest, cell)
    return cell


def shift(grid: Grid, board: Board, direction: int) -> Board:
    """Every cell moved one step in a (static) direction; cells that leave the board vanish."""
    movable = intersection(board, constant_like(board, grid.open_to[direction]))
    return _shift_bits(movable, grid.deltas[direction])


def _shift_bits(board: Board, amount: int) -> Board:
    """The bits of the words, taken as one long number, moved up by `amount` (down where it is negative)."""
    near, far = _sources(amount)
    if isinstance(board, Stacked):
        return Stacked(_merge(amount, _moved(board.words, near), _moved(board.words, far)))
    word_at = lambda i: board[i] if 0 <= i < len(board) else np.uint32(0)
    return tuple(_merge(amount, word_at(i - near), word_at(i - far)) for i in range(len(board)))


def _sources(amount: int) -> tuple[int, int]:
    """By how many words the two lie below a word from which it gets its bits when these move up by `amount`."""
    words, sign = abs(amount) // 32, 1 if amount >= 0 else -1
    return sign * words, sign * (words + 1)


def _merge(amount: int, near: Any, far: Any) -> Any:
    bits = abs(amount) % 32
    if bits == 0:
        return near | np.uint32(0)
    if amount >= 0:
        return (near << bits) | (far >> (32 - bits))
    return (near >> bits) | (far << (32 - bits))


def _moved(words: jax.Array, amount: int) -> jax.Array:
    """The words moved up by `amount` places of the last axis (down where it is negative), zeros behind them."""
    amount = max(-words.shape[-1], min(amount, words.shape[-1]))
    return jax.lax.pad(words, np.uint32(0), [(0, 0, 0)] * (words.ndim - 1) + [(amount, -amount, 0)])


def flood(grid: Grid, start: Board, free: Board) -> Board:
    """All cells of `start`, and the `free` ones that are connected to them through free cells."""
    if isinstance(start, Stacked):
        return _flood_stacked(grid, start.words, stacked_words(free))

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


def _flood_stacked(grid: Grid, start: jax.Array, free: jax.Array) -> Board:
    """`flood` on words with zeros around them: two arrays in turn, so that all reads and writes are plain slices."""
    margin = max(abs(source) for delta in grid.deltas for source in _sources(delta))
    own = slice(margin, margin + grid.num_words)

    def step(source: jax.Array, to: jax.Array) -> jax.Array:
        reached = source[..., own]
        for direction, delta in enumerate(grid.deltas):
            near, far = (source[..., own.start - at : own.stop - at] for at in _sources(delta))
            arrived = np.array(grid.open_to[OPPOSITE[direction]], np.uint32)
            reached |= _merge(delta, near, far) & arrived & free
        return jax.lax.dynamic_update_slice_in_dim(to, reached, margin, axis=reached.ndim - 1)

    def grow(carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        after = step(*carry)
        return step(after, carry[0]), after

    padded = jax.lax.pad(start, np.uint32(0), [(0, 0, 0)] * (start.ndim - 1) + [(margin, margin, 0)])
    reached, _ = jax.lax.while_loop(lambda carry: jnp.any(carry[0] != carry[1]), grow, (padded, padded & 0))
    return Stacked(reached[..., own])
