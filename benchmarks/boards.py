"""Levels of a Sokoban bank as plain arrays, the form that other packages take."""

from __future__ import annotations

import dataclasses

import numpy as np

from envs_jax.bitboard import Board
from envs_jax.sokoban.board import Layout
from envs_jax.sokoban.env import SokobanTask
from envs_jax.tasks import TaskBank


@dataclasses.dataclass(frozen=True)
class Grids:
    """T levels, the wall ring included; every field bool[T, height, width]."""

    walls: np.ndarray
    targets: np.ndarray
    boxes: np.ndarray
    player: np.ndarray

    def __len__(self) -> int:
        return self.walls.shape[0]


def grids(tasks: TaskBank[SokobanTask], layout: Layout) -> Grids:
    """The levels of a bank whose boards have this layout."""
    levels = tasks.instances
    player = np.asarray(levels.player)[:, None] == np.arange(layout.num_cells)
    return Grids(
        _enclosed(_cells(levels.walls, layout), layout, ring=True),
        _enclosed(_cells(levels.targets, layout), layout, ring=False),
        _enclosed(_cells(levels.boxes, layout), layout, ring=False),
        _enclosed(player, layout, ring=False),
    )


def canonical(levels: Grids) -> set[bytes]:
    """The levels up to the eight symmetries of the square (four of a rectangle), as bytes that can be compared."""
    codes = levels.walls + 2 * levels.targets + 4 * levels.boxes + 8 * levels.player
    codes = codes.astype(np.uint8)
    square = codes.shape[1] == codes.shape[2]
    turned = [codes, codes.transpose(0, 2, 1)] if square else [codes]
    images = [image[:, ::rows, ::columns] for image in turned for rows in (1, -1) for columns in (1, -1)]
    flat = np.stack([image.reshape(len(codes), -1) for image in images], axis=1)
    return {min(image.tobytes() for image in level) for level in flat}


def _cells(board: Board, layout: Layout) -> np.ndarray:
    """Words [T] each → bool[T, cells]."""
    words = np.stack([np.asarray(word, "<u4") for word in board], axis=1)
    bits = np.unpackbits(words.view(np.uint8), axis=1, bitorder="little")
    return bits[:, : layout.num_cells].astype(bool)


def _enclosed(cells: np.ndarray, layout: Layout, *, ring: bool) -> np.ndarray:
    inner = cells.reshape(-1, layout.rows, layout.columns)
    return np.pad(inner, ((0, 0), (1, 1), (1, 1)), constant_values=ring)
