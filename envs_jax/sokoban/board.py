"""The boards of Sokoban: bitboards of what the ring of walls encloses.

A board of height × width is enclosed by walls, so its outermost ring is not stored: the cells are those of the
interior, row by row. A 10×10 board takes two words.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from envs_jax.bitboard import MAX_CELLS, Board, Grid, constant


class Layout(Grid):
    """The size of a board, its wall ring included; `rows`, `columns` and cells are those of the interior."""

    def __init__(self, height: int, width: int) -> None:
        if height < 3 or width < 3:
            raise ValueError(f"size={(height, width)}; a board is at least 3×3, its wall ring included")
        if (height - 2) * (width - 2) > MAX_CELLS:
            cells = (height - 2) * (width - 2)
            raise ValueError(f"size={(height, width)} has {cells} interior cells; at most {MAX_CELLS:,}")
        super().__init__(height - 2, width - 2)

    def __repr__(self) -> str:
        return f"Layout({self.height}, {self.width})"

    @property
    def height(self) -> int:
        """Rows of the board."""
        return self.rows + 2

    @property
    def width(self) -> int:
        """Columns of the board."""
        return self.columns + 2

    @property
    def size(self) -> tuple[int, int]:
        """(height, width), what `make` takes."""
        return self.height, self.width

    @property
    def name(self) -> str:
        """The size as a phrase; tasks carry it, so that those of another size are not misread."""
        return f"boards of {self.height}×{self.width} cells"


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
