"""Bitboards against arrays of booleans."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs_jax.sokoban import board as bb
from envs_jax.sokoban.board import Layout

LAYOUTS = (Layout(3, 3), Layout(5, 6), Layout(10, 10), Layout(4, 70), Layout(18, 20))


def random_cells(layout, seed, density=0.4):
    return np.random.default_rng(seed).random((layout.rows, layout.columns)) < density


def to_board(layout, cells):
    return tuple(jnp.uint32(word) for word in layout.pack(cells))


@pytest.fixture(params=LAYOUTS, ids=lambda layout: f"{layout.height}x{layout.width}")
def layout(request):
    return request.param


def test_layout_refuses_impossible_sizes():
    for size in ((2, 5), (5, 2), (0, 0), (300, 300)):
        with pytest.raises(ValueError, match=rf"size=\({size[0]}, {size[1]}\)"):
            Layout(*size)


def test_layout_sizes():
    layout = Layout(10, 10)
    assert (layout.rows, layout.columns, layout.num_cells, layout.num_words) == (8, 8, 64, 2)
    assert layout.cell_dtype == np.uint8
    assert Layout(18, 18).cell_dtype == np.uint8  # 256 cells: 0 … 255
    assert Layout(18, 19).cell_dtype == np.uint16
    assert Layout(4, 70).num_words == 5


def test_pack_and_unpack_are_inverse(layout):
    for seed in range(5):
        cells = random_cells(layout, seed)
        assert (layout.unpack(layout.pack(cells)) == cells).all()


def test_set_operations(layout):
    a, b = random_cells(layout, 0), random_cells(layout, 1)
    x, y = to_board(layout, a), to_board(layout, b)
    unpack = layout.unpack
    assert (unpack(bb.union(x, y, x)) == (a | b)).all()
    assert (unpack(bb.intersection(x, y)) == (a & b)).all()
    assert (unpack(bb.difference(x, y)) == (a & ~b)).all()
    assert (unpack(bb.symmetric_difference(x, y)) == (a ^ b)).all()
    assert (unpack(bb.complement(layout, x)) == ~a).all()
    assert (unpack(bb.where(jnp.bool_(False), x, y)) == b).all()
    assert bb.count(x) == a.sum() and bb.count(bb.empty(layout)) == 0
    assert bb.equal(x, x) and bool(bb.equal(x, y)) == bool((a == b).all())
    assert bb.is_empty(bb.difference(x, x)) and not bb.is_empty(bb.complement(layout, bb.empty(layout)))


def test_shift_moves_cells_and_drops_those_that_leave(layout):
    cells = random_cells(layout, 2)
    padded = np.pad(cells, 1)
    expected = {
        bb.UP: padded[2:, 1:-1],
        bb.DOWN: padded[:-2, 1:-1],
        bb.LEFT: padded[1:-1, 2:],
        bb.RIGHT: padded[1:-1, :-2],
    }
    for direction, moved in expected.items():
        shifted = bb.shift(layout, to_board(layout, cells), direction)
        assert (layout.unpack(shifted) == moved).all()
        assert bb.count(shifted) == moved.sum()  # no bit beyond the last cell


def test_single_cells(layout):
    cells = random_cells(layout, 3)
    board = to_board(layout, cells)
    every = jnp.arange(layout.num_cells)
    assert (jax.vmap(partial(bb.contains, board))(every) == cells.reshape(-1)).all()
    singles = jax.vmap(partial(bb.singleton, layout))(every)
    assert (jax.vmap(bb.count)(singles) == 1).all()
    assert (jax.vmap(bb.first_cell)(singles) == every).all()
    assert bb.first_cell(board) == (cells.reshape(-1).argmax() if cells.any() else 32 * layout.num_words)
    assert bb.first_cell(tuple(jnp.uint32(0) for _ in board)) == 32 * layout.num_words


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(LAYOUTS), st.integers(0, 2**32 - 1))
def test_map_cells_sees_every_cell_and_an_empty_ring(layout, seed):
    grids = [random_cells(layout, [seed, i]) for i in range(3)]
    boards = tuple(to_board(layout, cells) for cells in grids)
    join = lambda *bits: jnp.stack([sum(bit << i for i, bit in enumerate(bits)), 1 - bits[0]], axis=-1)
    cells = bb.map_cells(layout, boards, join)
    expected = np.pad(sum(grid.astype(int) << i for i, grid in enumerate(grids)), 1)
    assert cells.shape == (layout.height, layout.width, 2)
    assert (cells[..., 0] == expected).all()
    assert (cells[..., 1] == 1 - (expected & 1)).all()
