"""The types that the parts of the solver share."""

from __future__ import annotations

import dataclasses
import enum
from typing import Literal

import jax
import numpy as np

from envs_jax.bitboard import Board
from envs_jax.pytree import pytree_dataclass
from envs_jax.sokoban.board import Layout

Mode = Literal["optimal", "satisficing"]

# A node's `place` is one word: level (14 bits), direction of the last push (2), the player's cell (16).
LEVEL_SHIFT, DIRECTION_SHIFT = 18, 16
NO_NODE = np.uint32(0xFFFFFFFF)  # the parent of a start


class Status(enum.IntEnum):
    """What became of a level."""

    OPEN = 0  # still searched; never in a result
    SOLVED = 1
    UNSOLVABLE = 2  # proven: every state that could lead to a solution was searched
    NODE_LIMIT = 3
    TIME_LIMIT = 4
    MEMORY_LIMIT = 5
    INTERRUPTED = 6  # by `stop`
    LENGTH_LIMIT = 7  # only plans of 65,534 pushes or more are not ruled out


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that shapes the compiled program."""

    layout: Layout
    mode: Mode
    num_slots: int  # boxes that the matching bound handles; 0: the nearest-target bound, for any number
    num_levels: int  # searched together
    num_lanes: int  # nodes taken from the frontier at once
    num_children: int  # children made at once
    num_classes: int  # priorities that are told apart
    num_pages: int  # of the frontier
    log_size: int  # nodes that can be expanded
    num_sets: int  # of the closed table, four states each


@pytree_dataclass
class Starts:
    """L levels as they start: what the solver takes of their tasks."""

    walls: Board  # uint32[L] × num_words
    targets: Board  # uint32[L] × num_words
    boxes: Board  # uint32[L] × num_words
    player: jax.Array  # uint8[L] or uint16[L]


@pytree_dataclass
class Tables:
    """What a search needs to know of its L levels."""

    walls: Board  # uint32[L] × num_words
    live: Board  # where a box may be put: no wall, no dead square
    targets: Board
    distances: tuple[jax.Array, ...]  # uint32[L × (cells + 1) × 4] each: packed push distances, see `bounds.py`
    sides: tuple[jax.Array, jax.Array]  # uint32[L × (cells + 1) × num_words]: on which side of a box the player is
    joined: jax.Array  # uint8[L, cells]: which sides of a box are connected; what the distances are made from
    bound: jax.Array  # int32[L]: the start's bound; INFINITE or more where the level has no solution


@pytree_dataclass
class Nodes:
    """States of many levels; n of them, one a lane."""

    boxes: Board  # uint32[n] × num_words
    place: jax.Array  # uint32[n]: level, last push's direction, player
    parent: jax.Array  # uint32[n]: the log's index of the state that the last push came from
    cost: jax.Array  # uint32[n]: pushes so far (upper half) and bound (lower half)

    @property
    def level(self) -> jax.Array:
        """int32[n]."""
        return (self.place >> LEVEL_SHIFT).astype(np.int32)

    @property
    def player(self) -> jax.Array:
        """uint32[n]."""
        return self.place & 0xFFFF


@pytree_dataclass
class Pages:
    """Which page of the frontier holds what. Stack (level, class) has the index level × num_classes + class."""

    head: jax.Array  # int32[stacks]: the page that grows; means nothing where the stack is empty
    size: jax.Array  # int32[stacks]: nodes
    best: jax.Array  # int32[L]: no lower class of the level holds nodes
    below: jax.Array  # int32[pages]: the next page down
    free: jax.Array  # int32[pages]: unused pages are the first `num_free`
    num_free: jax.Array  # int32[]
    overflow: jax.Array  # bool[]: nodes were lost for want of a page
    classless: jax.Array  # bool[]: nodes were lost for want of a class
    scratch: jax.Array  # int32[stacks]: means nothing between two calls


@pytree_dataclass
class Levels:
    """How far each of the L levels is."""

    status: jax.Array  # uint8[L]: Status
    goal_parent: jax.Array  # uint32[L]: the log's index of the state before the last push; NO_NODE where solved at once
    goal_place: jax.Array  # uint32[L]: the solved state's place
    expanded: jax.Array  # int32[L]: states expanded
    generated: jax.Array  # int32[L]: pushes tried
    too_long: jax.Array  # bool[L]: states were left out that need more pushes than a node has room for


@pytree_dataclass
class Log:
    """The expanded states, from which plans are read."""

    parent: jax.Array  # uint32[log_size + num_lanes]
    place: jax.Array  # uint32[log_size + num_lanes]
    size: jax.Array  # int32[]


@pytree_dataclass
class Search:
    """All that a search holds between two rounds."""

    pool: Nodes
    pages: Pages
    table: tuple[jax.Array, ...]  # see `closed.py`
    log: Log
    levels: Levels
    batch: Nodes  # [num_lanes]: what the next round expands
    count: jax.Array  # int32[]: how many of the batch are nodes
    overflow: jax.Array  # bool[]: classes, pages or the log were full: what is open stays undecided
