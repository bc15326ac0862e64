"""The state and the task of Sokoban."""

from __future__ import annotations

from typing import ClassVar

import jax

from envs_jax.bitboard import Board
from envs_jax.pytree import pytree_dataclass, static_field
from envs_jax.tasks import Task


@pytree_dataclass
class SokobanState:
    """What changes within an episode; 11 bytes for a 10×10 board."""

    boxes: Board  # uint32[] × num_words
    player: jax.Array  # uint8[] (uint16[] on boards of more than 256 interior cells): the player's cell
    steps: jax.Array  # uint16[]


@pytree_dataclass
class SokobanTask(Task):
    """One level; 27 bytes for a 10×10 board."""

    walls: Board  # uint32[] × num_words; the wall ring is not stored
    targets: Board  # uint32[] × num_words
    boxes: Board  # uint32[] × num_words: where the boxes start
    player: jax.Array  # uint8[] or uint16[]: where the player starts
    time_limit: jax.Array  # uint16[]
    dead: Board = ()  # uint32[] × num_words: the dead squares; empty where nobody asked for them
    made_for: str = static_field(default="")

    incidental: ClassVar[tuple[str, ...]] = ("player", "time_limit")
