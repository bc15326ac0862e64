"""Pictures of FrozenLake: letters for a terminal, and a drawing made of antialiased shapes (NumPy alone)."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

TILE = 48  # pixels of a tile's side

_PLAYER_ON = {"H": "X", "G": "√"}
_ANSI = {"F": "97;104", "S": "97;104", "H": "97;44", "G": "97;42", "P": "97;45", "X": "97;41", "√": "97;42"}

_ICE_LIGHT, _ICE_DARK, _GAP = (232, 244, 252), (203, 229, 245), (176, 209, 231)
_RIM, _WATER, _DEEP = (150, 190, 218), (38, 84, 128), (17, 44, 78)
_START = (120, 168, 205)
_POLE, _FLAG = (92, 84, 96), (216, 60, 72)
_BODY, _BELLY, _EYE, _ORANGE = (38, 42, 62), (250, 250, 250), (20, 20, 28), (244, 157, 44)


def text(rows: Sequence[str], row: int, column: int) -> str:
    """The map's letters, the player shown as P, in a hole as X, on the goal as √."""
    lines = [list(line) for line in rows]
    lines[row][column] = _PLAYER_ON.get(lines[row][column], "P")
    return "\n".join("".join(line) for line in lines)


def ansi(rows: Sequence[str], row: int, column: int) -> str:
    """`text` on coloured ground, two columns a tile, frozen tiles without their letter."""
    shown = lambda letter: " " if letter == "F" else letter
    lines = text(rows, row, column).split("\n")
    return "\n".join("".join(f"\x1b[{_ANSI[c]}m{shown(c)} \x1b[0m" for c in line) for line in lines)


def rgb(rows: Sequence[str], row: int, column: int) -> np.ndarray:
    """uint8[TILE · rows, TILE · columns, 3]: ice, holes, a ring at the start, a flag at the goal, a penguin."""
    tiles = [[_tile(letter, (i, j) == (row, column)) for j, letter in enumerate(line)] for i, line in enumerate(rows)]
    return np.concatenate([np.concatenate(line, axis=1) for line in tiles], axis=0)


@functools.lru_cache(maxsize=16)
def _tile(letter: str, player: bool) -> np.ndarray:
    canvas = _ice()
    if letter == "H":
        _hole(canvas)
    elif letter == "S":
        _start(canvas)
    elif letter == "G":
        _flag(canvas, 0.70 if player else 0.48)
    if player:
        under_water = 0.55 if letter == "H" else 1.0
        _penguin(canvas, 0.36 if letter == "G" else 0.5, 0.12 if letter == "H" else 0.0, under_water)
    return canvas.round().astype(np.uint8)


# Shapes: coverage in [0, 1] of every pixel, in units of a tile, x to the right and y down.

_Y, _X = np.meshgrid((np.arange(TILE) + 0.5) / TILE, (np.arange(TILE) + 0.5) / TILE, indexing="ij")


def _coverage(distance: np.ndarray) -> np.ndarray:
    """From the signed distance to a shape's edge (negative inside)."""
    return np.clip(0.5 - distance * TILE, 0, 1)


def _ellipse(x: float, y: float, radius_x: float, radius_y: float) -> np.ndarray:
    scaled = np.hypot((_X - x) / radius_x, (_Y - y) / radius_y)
    return _coverage((scaled - 1) * min(radius_x, radius_y))


def _polygon(*corners: tuple[float, float]) -> np.ndarray:
    """A convex polygon, its corners in clockwise order."""
    edges = zip(corners, (*corners[1:], corners[0]), strict=True)
    distances = [
        ((_X - x0) * (y1 - y0) - (_Y - y0) * (x1 - x0)) / np.hypot(x1 - x0, y1 - y0) for (x0, y0), (x1, y1) in edges
    ]
    return _coverage(np.max(distances, axis=0))


def _paint(canvas: np.ndarray, coverage: np.ndarray, colour: tuple[int, int, int]) -> None:
    canvas += coverage[..., None] * (np.array(colour, float) - canvas)


def _ice() -> np.ndarray:
    canvas = np.full((TILE, TILE, 3), _GAP, float)
    inset = 0.012
    _paint(canvas, _polygon((inset, inset), (1 - inset, inset), (1 - inset, 1 - inset), (inset, 1 - inset)), _ICE_DARK)
    shine = np.clip(1.1 - (_X + _Y) / 1.6, 0, 1) * (np.minimum.reduce([_X, _Y, 1 - _X, 1 - _Y]) > inset)
    _paint(canvas, shine, _ICE_LIGHT)
    for start, length in ((0.16, 0.20), (0.30, 0.10)):  # two glints
        x, y = start, start + 0.02
        glint = _polygon((x, y + length), (x + length, y), (x + length + 0.03, y), (x, y + length + 0.03))
        _paint(canvas, 0.8 * glint, (255, 255, 255))
    return canvas


def _hole(canvas: np.ndarray) -> None:
    _paint(canvas, _ellipse(0.5, 0.54, 0.42, 0.36), _RIM)
    _paint(canvas, _ellipse(0.5, 0.56, 0.38, 0.31), _WATER)
    _paint(canvas, 0.8 * _ellipse(0.5, 0.60, 0.31, 0.23), _DEEP)


def _start(canvas: np.ndarray) -> None:
    ring = _ellipse(0.5, 0.54, 0.36, 0.30) - _ellipse(0.5, 0.54, 0.30, 0.24)
    _paint(canvas, 0.8 * np.clip(ring, 0, 1), _START)


def _flag(canvas: np.ndarray, x: float) -> None:
    _paint(canvas, 0.5 * _ellipse(x, 0.86, 0.16, 0.05), _RIM)
    _paint(canvas, _polygon((x - 0.02, 0.12), (x + 0.02, 0.12), (x + 0.02, 0.87), (x - 0.02, 0.87)), _POLE)
    tip = min(x + 0.40, 0.97)
    _paint(canvas, _polygon((x + 0.02, 0.14), (tip, 0.29), (x + 0.02, 0.44)), _FLAG)
    _paint(canvas, _ellipse(x, 0.11, 0.035, 0.035), _ORANGE)


def _penguin(canvas: np.ndarray, x: float, sunk: float, under_water: float) -> None:
    """A penguin around `x`, moved down by `sunk`; nothing of it below the height `under_water` is seen."""
    seen = _coverage(_Y - under_water)
    shapes = (
        (_ellipse(x, 0.90, 0.22, 0.05) * 0.5, _RIM),
        (_ellipse(x - 0.10, 0.87, 0.09, 0.045), _ORANGE),
        (_ellipse(x + 0.10, 0.87, 0.09, 0.045), _ORANGE),
        (_ellipse(x - 0.21, 0.58 + sunk, 0.07, 0.18), _BODY),
        (_ellipse(x + 0.21, 0.58 + sunk, 0.07, 0.18), _BODY),
        (_ellipse(x, 0.57 + sunk, 0.22, 0.30), _BODY),
        (_ellipse(x, 0.30 + sunk, 0.17, 0.17), _BODY),
        (_ellipse(x, 0.64 + sunk, 0.15, 0.20), _BELLY),
        (_ellipse(x - 0.06, 0.31 + sunk, 0.07, 0.08), _BELLY),
        (_ellipse(x + 0.06, 0.31 + sunk, 0.07, 0.08), _BELLY),
        (_ellipse(x - 0.05, 0.30 + sunk, 0.025, 0.03), _EYE),
        (_ellipse(x + 0.05, 0.30 + sunk, 0.025, 0.03), _EYE),
        (_polygon((x - 0.05, 0.36 + sunk), (x + 0.05, 0.36 + sunk), (x, 0.43 + sunk)), _ORANGE),
    )
    for coverage, colour in shapes:
        _paint(canvas, coverage * seen, colour)
