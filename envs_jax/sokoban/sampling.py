"""Picking cells of bitboards, at random from random words or in order.

Works on any batch: boards and words may have leading axes.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from envs_jax import bitboard as bb
from envs_jax.bitboard import Board, Cell


def below(word: jax.Array, bound: jax.Array | int) -> jax.Array:
    """int32: uniform on 0 … bound - 1 (bound ≤ 65,536), from the upper 16 bits of `word` (uint32)."""
    return ((word >> 16) * jnp.asarray(bound, jnp.uint32) >> 16).astype(jnp.int32)


def nth_cell(board: Board, n: jax.Array) -> Cell:
    """int32: the cell of rank `n` (from 0) in `board`; meaningless where the board has fewer cells."""
    word, rank, base = board[0], n, jnp.zeros_like(n)
    before = jnp.zeros_like(n)
    for i in range(1, len(board)):
        before = before + jax.lax.population_count(board[i - 1]).astype(n.dtype)
        later = n >= before
        word, rank, base = (
            jnp.where(later, new, old) for new, old in ((board[i], word), (n - before, rank), (32 * i, base))
        )
    for width in (16, 8, 4, 2, 1):
        low = word & jnp.uint32((1 << width) - 1)
        in_low = jax.lax.population_count(low).astype(n.dtype)
        above = rank >= in_low
        word, rank = jnp.where(above, word >> width, low), jnp.where(above, rank - in_low, rank)
        base = base + jnp.where(above, width, 0)
    return base


def random_cell(board: Board, word: jax.Array) -> Cell:
    """int32: a uniformly random cell of `board`; meaningless where it is empty."""
    return nth_cell(board, below(word, bb.count(board)))


def lowest_cells(board: Board, number: int) -> Cell:
    """int32[number, …]: the `number` lowest cells of `board`, ascending; 32 × words where it has fewer."""

    def pop(rest: Board, _: None) -> tuple[Board, Cell]:
        left, lower_words = [], jnp.uint32(0)
        for word in rest:  # word & (word − 1) clears the lowest bit
            left.append(jnp.where(lower_words == 0, word & (word - jnp.uint32(1)), word))
            lower_words = lower_words | word
        return tuple(left), bb.first_cell(rest)

    # A loop, as XLA would compute each cell of an unrolled chain from the beginning.
    return jax.lax.scan(pop, board, length=number)[1]
