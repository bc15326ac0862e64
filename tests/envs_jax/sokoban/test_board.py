"""Sokoban's boards: the ring of walls around the cells stored."""

import copy
import pickle

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs_jax.bitboard import Grid
from envs_jax.sokoban.board import Layout, map_cells

LAYOUTS = (Layout(3, 3), Layout(5, 6), Layout(10, 10), Layout(4, 70), Layout(18, 20))


def test_layout_refuses_impossible_sizes():
    for size in ((2, 5), (5, 2), (0, 0), (300, 300)):
        with pytest.raises(ValueError, match=rf"size=\({size[0]}, {size[1]}\)"):
            Layout(*size)


def test_layout_sizes():
    layout = Layout(10, 10)
    assert (layout.rows, layout.columns, layout.num_cells, layout.num_words) == (8, 8, 64, 2)
    assert (layout.height, layout.width, layout.size) == (10, 10, (10, 10))
    assert repr(Layout(4, 70)) == "Layout(4, 70)"


def test_layouts_are_values():
    layout = Layout(10, 12)
    for same in (Layout(10, 12), copy.deepcopy(layout), pickle.loads(pickle.dumps(layout))):
        assert same == layout and hash(same) == hash(layout) and same.size == (10, 12)
    assert layout != Layout(12, 10) and layout != Grid(8, 10)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(LAYOUTS), st.integers(0, 2**32 - 1))
def test_map_cells_sees_every_cell_and_an_empty_ring(layout, seed):
    rng = np.random.default_rng(seed)
    grids = [rng.random((layout.rows, layout.columns)) < 0.4 for _ in range(3)]
    boards = tuple(tuple(jnp.uint32(word) for word in layout.pack(cells)) for cells in grids)
    join = lambda *bits: jnp.stack([sum(bit << i for i, bit in enumerate(bits)), 1 - bits[0]], axis=-1)
    cells = map_cells(layout, boards, join)
    expected = np.pad(sum(grid.astype(int) << i for i, grid in enumerate(grids)), 1)
    assert cells.shape == (layout.height, layout.width, 2)
    assert (cells[..., 0] == expected).all()
    assert (cells[..., 1] == 1 - (expected & 1)).all()
