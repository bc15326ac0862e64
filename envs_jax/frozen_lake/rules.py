"""The rules of FrozenLake: slips, moves, and where episodes start, as elementwise functions.

Actions and directions are Gymnasium's: 0 left, 1 down, 2 right, 3 up. On a slippery lake the player goes in direction
`a - 1`, `a` or `a + 1` (mod 4), in this order, with probabilities (1 - s) / 2, s, (1 - s) / 2 for success rate s.

A random word stands for the uniform number u = word / 2³² in [0, 1), and every choice is made as Gymnasium makes it
with that u: the first outcome whose cumulative probability exceeds u.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs_jax import bitboard as bb
from envs_jax.bitboard import Board, Cell

LEFT, DOWN, RIGHT, UP = range(4)


class Thresholds(NamedTuple):
    """What a step's random word is compared with; integers, so that no probability is rounded at run time."""

    slip_below: jax.Array  # uint32: words below it go in direction a - 1
    slip_above: jax.Array  # uint32: words above it go in direction a + 1


def thresholds(success_rate: float) -> Thresholds:
    """The thresholds of a success rate in [0, 1]; 1 never slips."""
    fail = (1.0 - success_rate) / 2.0
    count = lambda cumulative: math.ceil(cumulative * 2**32)  # of the words whose u is less than `cumulative`
    return Thresholds(jnp.uint32(count(fail)), jnp.uint32(count(fail + success_rate) - 1))


def probabilities(slip: Thresholds) -> jax.Array:
    """float32[3]: how likely the directions a - 1, a and a + 1 are (multiples of 2⁻³²)."""
    counts = jnp.stack([slip.slip_below, ~slip.slip_above]).astype(jnp.float32)
    before, behind = counts * np.float32(2**-32)
    return jnp.stack([before, 1 - before - behind, behind])


def possible(slip: Thresholds) -> tuple[jax.Array, jax.Array, jax.Array]:
    """bool: whether the directions a - 1, a and a + 1 have a positive probability."""
    return slip.slip_below > 0, slip.slip_above >= slip.slip_below, ~slip.slip_above > 0


def slipped(action: jax.Array, word: jax.Array, slip: Thresholds) -> jax.Array:
    """int32: the direction in which the player goes; not in 0 … 3 where `action` is not."""
    action = action.astype(jnp.int32)
    turn = (word > slip.slip_above).astype(jnp.int32) - (word < slip.slip_below).astype(jnp.int32)
    return jnp.where(action == action & 3, (action + turn) & 3, -1)


def moved(
    row: jax.Array, column: jax.Array, direction: jax.Array, rows: jax.Array, columns: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """(row, column), in their dtype, one step in `direction`; the same at the edge of the rows × columns map."""
    down = (direction == DOWN).astype(jnp.int32) - (direction == UP).astype(jnp.int32)
    right = (direction == RIGHT).astype(jnp.int32) - (direction == LEFT).astype(jnp.int32)
    new_row = jnp.clip(row.astype(jnp.int32) + down, 0, rows.astype(jnp.int32) - 1)
    new_column = jnp.clip(column.astype(jnp.int32) + right, 0, columns.astype(jnp.int32) - 1)
    return new_row.astype(row.dtype), new_column.astype(column.dtype)


def chosen_start(starts: Board, word: jax.Array) -> Cell:
    """int32: the start that `word` selects: the k-th of n in reading order for u in [k / n, (k + 1) / n)."""
    count = bb.count(starts).astype(jnp.uint32)  # at most 2¹², so that the products below fit
    # ⌊word × count / 2³²⌋ without 64-bit integers.
    index = ((word >> 16) * count + ((word & 0xFFFF) * count >> 16)) >> 16
    return _nth_cell(starts, index.astype(jnp.int32))


def _nth_cell(board: Board, n: jax.Array) -> Cell:
    """int32: the n-th cell (from 0) that is set; any where n is too large."""
    word, base, rank = board[0], jnp.zeros_like(n), n
    before = jnp.zeros_like(n)
    for i in range(1, len(board)):
        before = before + jax.lax.population_count(board[i - 1]).astype(jnp.int32)
        later = n >= before
        word = jnp.where(later, board[i], word)
        base, rank = jnp.where(later, 32 * i, base), jnp.where(later, n - before, rank)
    position = jnp.zeros_like(n)
    for width in (16, 8, 4, 2, 1):  # bisect: is the cell in the lower `width` bits of what is left?
        low = jax.lax.population_count(word & np.uint32((1 << width) - 1)).astype(jnp.int32)
        above = rank >= low
        position += jnp.where(above, width, 0)
        rank -= jnp.where(above, low, 0)
        word = jnp.where(above, word >> width, word)
    return base + position
