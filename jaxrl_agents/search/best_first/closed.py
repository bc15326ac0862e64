"""The states that were expanded: a four-way set-associative hash table over all levels.

States are compared in full. A full set forgets one of its states, and of several new states that meet in one place at
once only one is recorded. Both only mean that a state may be expanded again.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from envs_jax import bitboard as bb
from envs_jax.bitboard import Board
from jaxrl_agents.search.best_first.types import NO_NODE, Config

WAYS = 4
_MEETING_POINTS = 1 << 15  # where lanes of one batch find each other

Table = tuple[jax.Array, ...]  # uint32[num_sets × WAYS (× num_words)]: the boxes' words and, last, level and player


def empty_table(config: Config) -> Table:
    """No states: NO_NODE is no level and player."""
    empty = lambda *words: jnp.full((config.num_sets * WAYS, *words), NO_NODE)
    return *bb.from_words(config.layout, empty), empty()


@jax.named_scope("closed")
def insert(config: Config, table: Table, boxes: Board, place: jax.Array, valid: jax.Array) -> tuple[Table, jax.Array]:
    """Records states and tells the new ones.

    Args:
      config: the program's shape.
      table: the table.
      boxes: uint32[n] words.
      place: uint32[n]; level and normalised player.
      valid: bool[n]: which lanes hold a state.

    Returns:
      (table, new bool[n]): valid, not in the table, and unlike the lane that it met; equal lanes meet the same one.
    """
    state = (*boxes, place)
    code = _hash(boxes, place)
    base = (code & (config.num_sets - 1)).astype(jnp.int32) * WAYS
    known, way = jnp.bool_(False), (code >> 30).astype(jnp.int32)
    for i in reversed(range(WAYS)):
        entry = tuple(words[base + i] for words in table)
        known |= _same(entry, state)
        way = jnp.where(entry[-1] == NO_NODE, i, way)
    valid &= ~known
    meets, first = _meet(code, valid, min(config.num_sets, _MEETING_POINTS))
    new = valid & (first | ~_same(tuple(words[meets] for words in state), state))
    slot = jnp.where(first, base + way, config.num_sets * WAYS)
    return tuple(words.at[slot].set(word, mode="drop") for words, word in zip(table, state, strict=True)), new


def _meet(code: jax.Array, valid: jax.Array, num_points: int) -> tuple[jax.Array, jax.Array]:
    """For each lane one valid lane at its meeting point, and whether that is the lane itself.

    With at most as many points as sets, lanes of one set meet, so no two of them write to it.
    """
    lanes = jnp.arange(code.shape[0], dtype=jnp.int32)
    point = (code & (num_points - 1)).astype(jnp.int32)
    board = jnp.zeros(num_points, jnp.int32)
    board = board.at[jnp.where(valid, point, num_points)].max(lanes, mode="drop")
    meets = board[point]
    return meets, valid & (meets == lanes)


def _same(a: Board, b: Board) -> jax.Array:
    same = _equal(a[0], b[0])
    for x, y in zip(a[1:], b[1:], strict=True):
        same &= _equal(x, y)
    return same


def _equal(x: jax.Array, y: jax.Array) -> jax.Array:
    return x == y if x.ndim == 1 else jnp.all(x == y, axis=-1)


def _hash(boxes: Board, place: jax.Array) -> jax.Array:
    """uint32: the words mixed (multiply and xor-shift rounds with the constants of MurmurHash3's finaliser)."""

    def mix(code: jax.Array, word: jax.Array) -> jax.Array:
        code = (code ^ word) * np.uint32(0x85EBCA6B)
        code = (code ^ (code >> 13)) * np.uint32(0xC2B2AE35)
        return code ^ code >> 16

    return mix(bb.fold(mix, jnp.full_like(place, 0x9E3779B9), boxes), place)
