"""Bitboards against arrays of booleans."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs_jax import bitboard as bb
from envs_jax.bitboard import Grid

pytestmark = pytest.mark.usefixtures("quick_compilation")


class StackedGrid(Grid):
    """Its words are one array."""

    is_stacked = True


GRIDS = (Grid(1, 1), Grid(3, 4), Grid(8, 8), Grid(2, 68), Grid(16, 18))
STACKED = (StackedGrid(1, 70), StackedGrid(16, 18))


def random_cells(grid, seed, density=0.4):
    return np.random.default_rng(seed).random((grid.rows, grid.columns)) < density


def to_board(grid, cells):
    words = jnp.array(grid.pack(cells), jnp.uint32)
    return bb.Stacked(words) if grid.is_stacked else tuple(words)


def unpacked(grid, board):
    return grid.unpack(tuple(bb.stacked_words(board)))


@pytest.fixture(params=GRIDS + STACKED, ids=lambda grid: f"{type(grid).__name__}-{grid.rows}x{grid.columns}")
def grid(request):
    return request.param


def test_grids_refuse_impossible_sizes():
    for rows, columns in ((0, 5), (5, 0), (-1, -1), (257, 256)):
        with pytest.raises(ValueError, match=f"rows={rows} × columns={columns}; a grid has 1 … 65,536 cells"):
            Grid(rows, columns)


def test_grid_sizes():
    assert (Grid(8, 8).num_cells, Grid(8, 8).num_words, Grid(2, 68).num_words) == (64, 2, 5)
    assert Grid(16, 16).cell_dtype == np.uint8  # 256 cells: 0 … 255
    assert Grid(16, 17).cell_dtype == np.uint16


def test_pack_and_unpack_are_inverse(grid):
    for seed in range(5):
        cells = random_cells(grid, seed)
        assert (grid.unpack(grid.pack(cells)) == cells).all()


def test_set_operations(grid):
    a, b = random_cells(grid, 0), random_cells(grid, 1)
    x, y = to_board(grid, a), to_board(grid, b)
    unpack = partial(unpacked, grid)
    assert (unpack(bb.union(x, y, x)) == (a | b)).all()
    assert (unpack(bb.intersection(x, y)) == (a & b)).all()
    assert (unpack(bb.difference(x, y)) == (a & ~b)).all()
    assert (unpack(bb.symmetric_difference(x, y)) == (a ^ b)).all()
    assert (unpack(bb.complement(grid, x)) == ~a).all()
    assert (unpack(bb.where(jnp.bool_(False), x, y)) == b).all()
    assert (unpack(bb.keep(jnp.bool_(True), x)) == a).all() and bb.is_empty(bb.keep(jnp.bool_(False), x))
    assert bb.count(x) == a.sum() and bb.count(bb.empty(grid)) == 0
    assert bb.equal(x, x) and bool(bb.equal(x, y)) == bool((a == b).all())
    assert bb.is_empty(bb.difference(x, x)) and not bb.is_empty(bb.complement(grid, bb.empty(grid)))


def test_shift_moves_cells_and_drops_those_that_leave(grid):
    cells = random_cells(grid, 2)
    padded = np.pad(cells, 1)
    expected = {
        bb.UP: padded[2:, 1:-1],
        bb.DOWN: padded[:-2, 1:-1],
        bb.LEFT: padded[1:-1, 2:],
        bb.RIGHT: padded[1:-1, :-2],
    }
    for direction, moved in expected.items():
        shifted = bb.shift(grid, to_board(grid, cells), direction)
        assert (unpacked(grid, shifted) == moved).all()
        assert bb.count(shifted) == moved.sum()  # no bit beyond the last cell


def test_single_cells(grid):
    cells = random_cells(grid, 3)
    board, every = to_board(grid, cells), np.arange(grid.num_cells)

    @jax.jit
    def of_every_cell(board):
        def of_cell(cell):
            single = bb.singleton(grid, cell)
            return bb.contains(board, cell), bb.count(single), bb.first_cell(single), bb.below(grid, cell)

        return jax.vmap(of_cell)(every), bb.first_cell(board), bb.first_cell(bb.difference(board, board))

    (contained, counts, cell, below), first, none = jax.device_get(of_every_cell(board))
    assert (contained == cells.reshape(-1)).all() and (counts == 1).all() and (cell == every).all()
    below = grid.unpack(tuple(np.moveaxis(bb.stacked_words(below), -1, 0)))
    assert (below.reshape(grid.num_cells, -1) == (every < every[:, None])).all()
    assert first == (cells.reshape(-1).argmax() if cells.any() else 32 * grid.num_words)
    assert none == 32 * grid.num_words


def test_flood_fills_what_is_connected(grid):
    free = random_cells(grid, 4, 0.6)
    start = random_cells(grid, 5, 0.05) | (np.arange(grid.num_cells).reshape(free.shape) == 0)
    reached = start.copy()
    while True:
        padded = np.pad(reached, 1)
        beside = padded[2:, 1:-1] | padded[:-2, 1:-1] | padded[1:-1, 2:] | padded[1:-1, :-2]
        grown = reached | (beside & free)
        if (grown == reached).all():
            break
        reached = grown
    assert (unpacked(grid, bb.flood(grid, to_board(grid, start), to_board(grid, free))) == reached).all()


def test_words_are_joined_and_folded_in_order(grid):
    board = to_board(grid, random_cells(grid, 6))
    words = [int(word) for word in bb.stacked_words(board)]
    joined = bb.join(board, bb.complement(grid, board))
    assert [int(word) for word in bb.stacked_words(joined)][: len(words)] == words
    mixed = bb.fold(lambda code, word: code * 5 + word, jnp.uint32(7), joined)
    expected = 7
    for word in bb.stacked_words(joined):
        expected = (expected * 5 + int(word)) % 2**32
    assert int(mixed) == expected
