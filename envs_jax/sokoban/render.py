"""Pictures of Sokoban positions: text for terminals, RGB arrays from sprites drawn here."""

from __future__ import annotations

from functools import cache
from typing import Literal, NamedTuple, get_args

import numpy as np

from envs_jax.sokoban.grid import Code
from envs_jax.sokoban.levels import codes_to_text

TextStyle = Literal["xsb", "unicode", "ansi"]
TILE_SIZE = 32

_UNICODE = ("██", "  ", "· ", "▣ ", "□ ", "☻ ", "☺ ")  # by Code, two columns a cell
_ANSI = (  # by Code: background and foreground (256-colour palette) and two columns
    (238, 238, "  "),
    (230, 230, "  "),
    (230, 167, "◎ "),
    (107, 231, "▣ "),
    (173, 94, "▣ "),
    (230, 25, "☻ "),
    (217, 25, "☻ "),
)


def text(codes: np.ndarray, style: TextStyle = "xsb") -> str:
    """A position as text, one line a row.

    Args:
      codes: uint8[height, width], the `Code` of each cell.
      style: "xsb" for the glyphs of level files, "unicode" for symbols, "ansi" for symbols in colour; the last two take
        two columns a cell, which makes it square.
    """
    codes = _checked(codes)
    if style == "xsb":
        return codes_to_text(codes)
    if style == "unicode":
        return "\n".join("".join(_UNICODE[code] for code in row) for row in codes)
    if style == "ansi":
        paint = lambda back, front, symbol: f"\x1b[48;5;{back}m\x1b[38;5;{front}m{symbol}"
        return "\n".join("".join(paint(*_ANSI[code]) for code in row) + "\x1b[0m" for row in codes)
    raise ValueError(f"style={style!r} is not one of {', '.join(get_args(TextStyle))}")


def rgb(codes: np.ndarray, tile_size: int = TILE_SIZE) -> np.ndarray:
    """A position as a picture, uint8[height · tile_size, width · tile_size, 3].

    Args:
      codes: uint8[height, width], the `Code` of each cell.
      tile_size: pixels a side of a cell, at least 4.
    """
    codes = _checked(codes)
    if tile_size < 4:
        raise ValueError(f"tile_size={tile_size}; a tile needs at least 4 pixels a side")
    tiles = _tiles(tile_size)
    ground = tiles.ground[_ground_of(codes)] * _light(codes == Code.WALL, tile_size)[..., None]
    piece = tiles.pieces[codes]
    picture = ground * (1 - piece[..., 3:]) + piece[..., :3] * piece[..., 3:]
    height, width = codes.shape
    picture = picture.transpose(0, 2, 1, 3, 4).reshape(height * tile_size, width * tile_size, 3)
    return np.round(picture * 255).astype(np.uint8)


def _checked(codes: np.ndarray) -> np.ndarray:
    codes = np.asarray(codes)
    if codes.ndim != 2 or not np.issubdtype(codes.dtype, np.integer) or codes.min() < 0 or codes.max() > max(Code):
        raise ValueError(
            f"codes must be integers 0 … {max(Code)} of shape [height, width]; got {codes.dtype}{list(codes.shape)}"
        )
    return codes


# Sprites --------------------------------------------------------------------------------------------------------------
# A sprite is painted on a canvas of the unit square, several samples a pixel, and averaged: smooth at every size.

_FLOOR, _TARGET, _WALL, _ROCK = range(4)  # kinds of ground; rock is wall that touches nothing but wall


class _Tiles(NamedTuple):
    """All sprites of one size, values in [0, 1]."""

    ground: np.ndarray  # [4, size, size, 3] by kind of ground
    pieces: np.ndarray  # [len(Code), size, size, 4]: colour and opacity of what stands on the ground


@cache
def _tiles(size: int) -> _Tiles:
    grounds = [_floor(size), _target(size), _wall(size), _rock(size)]
    nothing, player = _Canvas(size).pixels(), _player(size)
    crate, home = _crate(size, _WOOD), _crate(size, _HOME)
    pieces = [nothing, nothing, nothing, home, crate, player, player]
    return _Tiles(np.stack(grounds)[..., :3], np.stack(pieces))


def _ground_of(codes: np.ndarray) -> np.ndarray:
    """The kind of ground of each cell."""
    open_cells = np.pad(codes != Code.WALL, 1)
    height, width = codes.shape
    near = [open_cells[r : r + height, c : c + width] for r in range(3) for c in range(3)]
    is_target = np.isin(codes, (Code.TARGET, Code.BOX_ON_TARGET, Code.PLAYER_ON_TARGET))
    wall = np.where(np.any(near, axis=0), _WALL, _ROCK)
    return np.where(codes == Code.WALL, wall, np.where(is_target, _TARGET, _FLOOR))


def _light(is_wall: np.ndarray, size: int) -> np.ndarray:
    """The brightness [height, width, size, size] that walls above and to the left leave on the floor."""
    y, x = _coordinates(size, 1)
    above = np.pad(is_wall, ((1, 0), (0, 0)))[:-1]
    left = np.pad(is_wall, ((0, 0), (1, 0)))[:, :-1]
    spread = lambda cells: (cells & ~is_wall)[:, :, None, None]
    fade = lambda depth, reach: np.clip(1 - depth / reach, 0, 1) ** 1.5
    return 1 - np.maximum(spread(above) * 0.38 * fade(y, 0.38), spread(left) * 0.20 * fade(x, 0.24))


def _coordinates(size: int, samples: int) -> tuple[np.ndarray, np.ndarray]:
    """(y, x) of the centres of `size · samples` points a side of the unit square."""
    line = (np.arange(size * samples) + 0.5) / (size * samples)
    y, x = np.meshgrid(line, line, indexing="ij")
    return y, x


class _Canvas:
    """A transparent unit square to paint shapes on; shapes are signed distances, negative inside."""

    def __init__(self, size: int) -> None:
        self.samples = max(4, 64 // size)
        self.size = size
        self.y, self.x = _coordinates(size, self.samples)
        self.colour = np.zeros((*self.y.shape, 3))
        self.opacity = np.zeros(self.y.shape)

    def paint(self, shape: np.ndarray, colour: str | np.ndarray, opacity: float = 1.0, blur: float = 0.0) -> None:
        """Covers a shape with a colour (`rrggbb`, or an array [..., 3]); `blur` is the width of its edge."""
        cover = opacity * (np.clip(0.5 - shape / blur, 0, 1) if blur else shape < 0)
        rgb = _rgb(colour) if isinstance(colour, str) else colour
        total = cover + self.opacity * (1 - cover)
        weight = np.divide(cover, total, out=np.zeros_like(total), where=total > 0)[..., None]
        self.colour = rgb * weight + self.colour * (1 - weight)
        self.opacity = total

    def disc(self, y: float, x: float, radius: float, stretch: float = 1.0) -> np.ndarray:
        """A disc, `stretch` times as high as wide."""
        return np.hypot((self.y - y) / stretch, self.x - x) - radius

    def box(self, top: float, left: float, bottom: float, right: float, radius: float = 0.0) -> np.ndarray:
        """A rectangle with rounded corners."""
        dy = np.abs(self.y - (top + bottom) / 2) - (bottom - top) / 2 + radius
        dx = np.abs(self.x - (left + right) / 2) - (right - left) / 2 + radius
        return np.hypot(np.maximum(dy, 0), np.maximum(dx, 0)) + np.minimum(np.maximum(dy, dx), 0) - radius

    def gradient(self, top: str, bottom: str) -> np.ndarray:
        """A colour that changes from top to bottom."""
        return _rgb(top) * (1 - self.y[..., None]) + _rgb(bottom) * self.y[..., None]

    def pixels(self) -> np.ndarray:
        """[size, size, 4]: colour and opacity."""
        fold = lambda a: a.reshape(self.size, self.samples, self.size, self.samples, -1).mean(axis=(1, 3))
        opacity = fold(self.opacity)
        colour = fold(self.colour * self.opacity[..., None])
        return np.concatenate([colour / np.maximum(opacity, 1e-9), opacity], axis=-1)


def _rgb(colour: str) -> np.ndarray:
    return np.array([int(colour[i : i + 2], 16) for i in (0, 2, 4)]) / 255


def _slab(size: int) -> _Canvas:
    canvas = _Canvas(size)
    canvas.paint(canvas.box(0, 0, 1, 1), "d9cfbd")
    canvas.paint(canvas.box(0.015, 0.015, 0.985, 0.985, 0.05), canvas.gradient("ece4d4", "e6ddcb"))
    return canvas


def _floor(size: int) -> np.ndarray:
    return _slab(size).pixels()


def _target(size: int) -> np.ndarray:
    canvas = _slab(size)
    pad = canvas.box(0.09, 0.09, 0.91, 0.91, 0.16)  # wide enough to show around the player
    canvas.paint(pad, "e0604a", 0.22)
    canvas.paint(np.abs(pad + 0.03) - 0.03, "d9523c")
    canvas.paint(np.abs(canvas.disc(0.5, 0.5, 0.19)) - 0.035, "d9523c")
    canvas.paint(canvas.disc(0.5, 0.5, 0.075), "d9523c")
    return canvas.pixels()


def _rock(size: int) -> np.ndarray:
    canvas = _Canvas(size)
    canvas.paint(canvas.box(0, 0, 1, 1), "343b4a")
    return canvas.pixels()


def _wall(size: int) -> np.ndarray:
    canvas = _Canvas(size)
    canvas.paint(canvas.box(0, 0, 1, 1), "3d4658")
    for row in range(3):  # courses of bricks, every other one shifted by half a brick
        top, bottom = row / 3 + 0.02, (row + 1) / 3 - 0.02
        for left in (-0.25, 0.25, 0.75) if row % 2 else (0.0, 0.5):
            tone = ("77849b", "6d7a91", "727f96")[(row + int(4 * (left % 1))) % 3]
            brick = canvas.box(top, left + 0.02, bottom, left + 0.48, 0.03)
            canvas.paint(brick, tone)
            canvas.paint(np.maximum(brick, canvas.y - top - 0.05), "909cb1")
            canvas.paint(np.maximum(brick, bottom - 0.045 - canvas.y), "5d697f")
    return canvas.pixels()


class _Paint(NamedTuple):
    """The colours of a crate."""

    edge: str
    frame: str
    light: str
    panel: str
    groove: str


_WOOD = _Paint("6b4423", "b67a3d", "d79f5f", "c98d4c", "9c6730")
_HOME = _Paint("2f5d33", "4f9a54", "7cc47f", "62b067", "3f8245")


def _crate(size: int, paint: _Paint) -> np.ndarray:
    canvas = _Canvas(size)
    canvas.paint(canvas.box(0.16, 0.10, 0.985, 0.96, 0.1), "000000", 0.30, blur=0.10)
    canvas.paint(canvas.box(0.07, 0.07, 0.93, 0.93, 0.08), paint.edge)
    canvas.paint(canvas.box(0.10, 0.10, 0.90, 0.90, 0.06), paint.frame)
    canvas.paint(canvas.box(0.10, 0.10, 0.155, 0.90, 0.025), paint.light)
    inner = canvas.box(0.225, 0.225, 0.775, 0.775, 0.02)
    canvas.paint(canvas.box(0.20, 0.20, 0.80, 0.80, 0.03), paint.edge)
    canvas.paint(inner, paint.panel)
    for y in (0.41, 0.59):
        canvas.paint(np.maximum(inner, np.abs(canvas.y - y) - 0.014), paint.groove)
    diagonal = np.abs(canvas.x + canvas.y - 1) / np.sqrt(2)
    canvas.paint(np.maximum(inner, diagonal - 0.10), paint.edge)
    canvas.paint(np.maximum(inner, diagonal - 0.07), paint.frame)
    for y in (0.15, 0.85):
        for x in (0.15, 0.85):
            canvas.paint(canvas.disc(y, x, 0.026), paint.edge)
    return canvas.pixels()


def _player(size: int) -> np.ndarray:
    canvas = _Canvas(size)
    canvas.paint(canvas.disc(0.90, 0.5, 0.30, 0.28), "000000", 0.32, blur=0.10)
    for x in (0.385, 0.615):
        canvas.paint(canvas.disc(0.885, x, 0.10, 0.62), "28324a")
    canvas.paint(canvas.box(0.50, 0.235, 0.89, 0.765, 0.18), "1d4f91")
    canvas.paint(canvas.box(0.52, 0.265, 0.87, 0.735, 0.16), canvas.gradient("5aa2ee", "2a6fc4"))
    for x in (0.215, 0.785):
        canvas.paint(canvas.disc(0.67, x, 0.085), "b9825a")
        canvas.paint(canvas.disc(0.665, x, 0.065), "f4c9a0")
    canvas.paint(canvas.disc(0.36, 0.5, 0.285), "a9704a")
    canvas.paint(canvas.disc(0.36, 0.5, 0.258), canvas.gradient("ffdcb6", "eebd90"))
    cap = np.maximum(canvas.disc(0.36, 0.5, 0.285), canvas.y - 0.285)
    canvas.paint(cap, "a8322b")
    canvas.paint(np.maximum(canvas.disc(0.36, 0.5, 0.258), canvas.y - 0.265), "e0524a")
    canvas.paint(canvas.box(0.245, 0.20, 0.315, 0.80, 0.035), "c23f37")
    for x in (0.405, 0.595):
        canvas.paint(canvas.disc(0.405, x, 0.036, 1.35), "2b2b33")
        canvas.paint(canvas.disc(0.388, x + 0.012, 0.012), "ffffff")
    smile = np.maximum(np.abs(canvas.disc(0.47, 0.5, 0.075)) - 0.016, 0.495 - canvas.y)
    canvas.paint(smile, "8c4a35")
    return canvas.pixels()
