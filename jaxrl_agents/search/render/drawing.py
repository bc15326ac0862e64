"""Draws boxes with frames, and edges between them, with Pillow."""

from __future__ import annotations

import textwrap
from typing import Any, Literal, NamedTuple

import numpy as np

Ending = Literal["success", "ended", "time limit", "dead end"]
Point = tuple[float, float]

_COLOURS = {
    "text": "#1f2933", "muted": "#9aa5b1", "edge": "#9aa5b1", "pale": "#d3dae1", "best": "#e8590c", "back": "#7048e8",
    "success": "#2b8a3e", "ended": "#c92a2a", "time limit": "#495057", "dead end": "#862e9c",
}  # fmt: skip
_LARGEST, _SMALLEST, _WIDEST = 96, 40, 1600  # height of frames, and width of pictures, where the caller leaves it open
_FONT, _LINE, _MARGIN, _BORDER = 12, 16, 16, 3  # pixels
_LABEL_LETTERS, _LABEL_LINES = 18, 4
_TRUNK, _ROUND = 20, 8  # from a frame to the line that its children share, and radius of corners
_FINER = 2  # lines are drawn on a finer grid, which makes them smooth


class Box(NamedTuple):
    """A node of the picture."""

    place: tuple[int, int]  # column and row
    frame: np.ndarray  # uint8[height, width, 3]
    caption: str
    ending: Ending | None = None
    parent: int | None = None
    label: str = ""  # of the edge from the parent
    best: bool = False
    pale: bool = False
    left: int | None = None  # the box from which an arrow goes back to the parent


class Grid(NamedTuple):
    """Where boxes go, in pixels."""

    frame: tuple[int, int]  # width and height
    gap: int  # between columns
    row_height: int
    size: tuple[int, int]  # width and height of the picture

    def corner(self, place: tuple[int, int]) -> tuple[int, int]:
        """The upper left corner of a frame."""
        column, row = place
        return _MARGIN + column * (self.frame[0] + self.gap), _MARGIN + 2 * _LINE + row * self.row_height

    def middle(self, place: tuple[int, int], side: Literal["left", "right"]) -> Point:
        """Where edges meet a frame."""
        x, y = self.corner(place)
        return (x - _BORDER if side == "left" else x + self.frame[0] + _BORDER), y + self.frame[1] / 2


def require_pillow() -> None:
    """Raises ImportError, with the way out, where Pillow is missing."""
    try:
        import PIL.ImageFont  # noqa: F401
    except ImportError as error:
        raise ImportError('pictures of trees need Pillow: pip install "envs-jax[render]"') from error


def picture(boxes: dict[int, Box], title: str, frame_height: int | None) -> np.ndarray:
    """The picture, uint8[height, width, 3]."""
    from PIL import Image, ImageDraw

    grid = _grid(boxes, title, frame_height)
    finer = Image.new("RGB", (grid.size[0] * _FINER, grid.size[1] * _FINER), "white")
    lines = ImageDraw.Draw(finer)
    for box in sorted(boxes.values(), key=lambda box: box.best):  # the best path last, over the others
        if box.parent is not None:
            _edge(lines, grid, boxes[box.parent], box)
    for box in boxes.values():
        if box.ending:
            _badge(lines, grid, box.place, box.ending)
        if box.left is not None and box.parent is not None:
            _step_back(lines, grid, boxes[box.left], boxes[box.parent])
    canvas = finer.resize(grid.size, Image.Resampling.BOX)
    draw = ImageDraw.Draw(canvas)
    _heading(draw, boxes, title)
    for box in boxes.values():
        _frame(canvas, draw, grid, box)
    for box in boxes.values():
        _label(draw, grid, box)
    return np.asarray(canvas)


def _font(size: int = _FONT) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _text_width(text: str) -> int:
    return int(max(_font().getlength(line) for line in text.split("\n"))) + 1


def _wrapped(label: str) -> str:
    """The label on a few short lines, with … where it goes on."""
    return "\n".join(textwrap.wrap(label, _LABEL_LETTERS, max_lines=_LABEL_LINES, placeholder=" …"))


def _grid(boxes: dict[int, Box], title: str, frame_height: int | None) -> Grid:
    height, width, _ = boxes[min(boxes)].frame.shape
    columns, rows = (1 + max(box.place[axis] for box in boxes.values()) for axis in (0, 1))
    captions = max(_text_width(box.caption) for box in boxes.values())
    gap = max((_text_width(_wrapped(box.label)) for box in boxes.values() if box.label), default=0) + _TRUNK + 34
    if frame_height is None:
        room = (_WIDEST - 2 * _MARGIN - (columns - 1) * gap) / columns
        frame_height = int(min(max(height * room / width, _SMALLEST), _LARGEST))
    scale = min(1.0, frame_height / height)
    frame = max(1, round(width * scale)), max(1, round(height * scale))
    gap = max(gap, captions + 8 - frame[0])
    lines = 1 + any(box.ending for box in boxes.values())
    channel = 14 if any(box.left is not None for box in boxes.values()) else 0
    row_height = frame[1] + lines * _LINE + channel + 14
    overhang = max(0, (captions - frame[0]) // 2 + 1)
    across = max(columns * (frame[0] + gap) - gap + 2 * overhang, _heading_width(boxes, title))
    return Grid(frame, gap, row_height, (across + 2 * _MARGIN, rows * row_height + 2 * _MARGIN + 2 * _LINE))


def _legend(boxes: dict[int, Box]) -> list[tuple[str, str]]:
    """The kinds of lines in the picture, each with its colour."""
    entries = [("best path", _COLOURS["best"])]
    if any(box.left is not None for box in boxes.values()):
        entries.append(("stepped back", _COLOURS["back"]))
    if any(box.pale for box in boxes.values()):
        entries.append(("discarded", _COLOURS["pale"]))
    return entries


def _heading_width(boxes: dict[int, Box], title: str) -> int:
    return _text_width(title) + 24 + sum(_text_width(text) + 44 for text, _ in _legend(boxes))


def _heading(draw: Any, boxes: dict[int, Box], title: str) -> None:
    y = _MARGIN + _LINE / 2
    draw.text((_MARGIN, y), title, fill=_COLOURS["text"], font=_font(), anchor="lm")
    x = _MARGIN + _text_width(title) + 24
    for text, colour in _legend(boxes):
        draw.line([(x, y), (x + 20, y)], fill=colour, width=3)
        draw.text((x + 26, y), text, fill=_COLOURS["text"], font=_font(), anchor="lm")
        x += _text_width(text) + 44


def _frame(canvas: Any, draw: Any, grid: Grid, box: Box) -> None:
    from PIL import Image

    x, y = grid.corner(box.place)
    width, height = grid.frame
    frame = Image.fromarray(box.frame)
    if frame.size != grid.frame:
        frame = frame.resize(grid.frame, Image.Resampling.LANCZOS)
    if box.pale:
        frame = Image.blend(frame, Image.new("RGB", grid.frame, "white"), 0.55)
    border = _BORDER if box.best or box.ending else 1
    colour = _COLOURS[box.ending or ("best" if box.best else "pale" if box.pale else "edge")]
    draw.rectangle((x - border, y - border, x + width + border - 1, y + height + border - 1), fill=colour)
    canvas.paste(frame, (x, y))
    middle, below = x + width / 2, y + height + _BORDER + _LINE / 2
    fill = _COLOURS["muted" if box.pale else "text"]
    draw.text((middle, below), box.caption, fill=fill, font=_font(), anchor="mm")
    if box.ending:
        draw.text((middle, below + _LINE), box.ending, fill="white", font=_font(11), anchor="mm")


def _badge(draw: Any, grid: Grid, place: tuple[int, int], ending: Ending) -> None:
    """What the name of an ending stands on."""
    x, y = grid.corner(place)
    middle, top = x + grid.frame[0] / 2, y + grid.frame[1] + _BORDER + _LINE
    half = _text_width(ending) / 2 + 6
    around = (middle - half, top, middle + half, top + _LINE - 1)
    draw.rounded_rectangle([_FINER * at for at in around], radius=7 * _FINER, fill=_COLOURS[ending])


def _label(draw: Any, grid: Grid, box: Box) -> None:
    """The action's name on the edge, before the frame that it leads to."""
    if not box.label:
        return
    text = _wrapped(box.label)
    right, y = grid.middle(box.place, "left")
    at = right - 14 - _text_width(text) / 2, y
    left, top, right, bottom = draw.textbbox(at, text, font=_font(), anchor="mm", align="center", spacing=2)
    draw.rectangle((left - 3, top - 2, right + 3, bottom + 2), fill="white")
    fill = _COLOURS["muted" if box.pale else "best" if box.best else "text"]
    draw.text(at, text, fill=fill, font=_font(), anchor="mm", align="center", spacing=2)


def _edge(draw: Any, grid: Grid, parent: Box, child: Box) -> None:
    """A line that all children of a node share, and a branch of it to this one."""
    (x, y), end = grid.middle(parent.place, "right"), grid.middle(child.place, "left")
    colour = _COLOURS["best" if child.best else "pale" if child.pale else "edge"]
    points = [(x, y)]
    if parent.place[1] != child.place[1]:
        trunk = x + _TRUNK
        points += _bend((trunk - _ROUND, y), (trunk, y), (trunk, y + _ROUND))
        points += _bend((trunk, end[1] - _ROUND), (trunk, end[1]), (trunk + _ROUND, end[1]))
    _line(draw, [*points, (end[0] - 4, end[1])], colour, 3.0 if child.best else 1.5)
    _arrow_head(draw, end, 1, colour)


def _step_back(draw: Any, grid: Grid, tip: Box, target: Box) -> None:
    """A dashed arrow below the row of `tip`, back to the right side of `target`; where some meet, dashes coincide."""
    left, top = grid.corner(tip.place)
    width, height = grid.frame
    start = left + width / 2, float(top + height + _BORDER + _LINE)
    end = grid.middle(target.place, "right")[0], grid.corner(target.place)[1] + 0.85 * height
    x, y = end[0] + _TRUNK / 2, float(top + grid.row_height - 14)
    points = [
        start,
        *_bend((start[0], y - _ROUND), (start[0], y), (start[0] - _ROUND, y)),
        *_bend((x + _ROUND, y), (x, y), (x, y - _ROUND)),
        *_bend((x, end[1] + _ROUND), (x, end[1]), (end[0] + 4, end[1])),
    ]
    _line(draw, points[::-1], _COLOURS["back"], 1.5, dash=5)
    _arrow_head(draw, end, -1, _COLOURS["back"])


def _bend(start: Point, corner: Point, end: Point) -> list[Point]:
    """Points of a rounded corner, a quadratic Bézier curve."""
    t = np.linspace(0, 1, 9)[:, None]
    points = (1 - t) ** 2 * np.array(start) + 2 * t * (1 - t) * np.array(corner) + t**2 * np.array(end)
    return [(float(x), float(y)) for x, y in points]


def _line(draw: Any, points: list[Point], colour: str, width: float, dash: int = 0) -> None:
    scaled = np.asarray(points) * _FINER
    pieces = [scaled]
    if dash:
        along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(scaled, axis=0), axis=1))])
        starts = np.arange(0, along[-1], 2 * dash * _FINER)
        ends = np.minimum(starts + dash * _FINER, along[-1])
        at = np.linspace(starts, ends, 4, axis=1)
        pieces = list(np.stack([np.interp(at, along, scaled[:, axis]) for axis in (0, 1)], axis=-1))
    for piece in pieces:
        draw.line([tuple(point) for point in piece.tolist()], fill=colour, width=round(width * _FINER), joint="curve")


def _arrow_head(draw: Any, tip: Point, direction: int, colour: str) -> None:
    """A triangle that points to the right (1) or to the left (−1)."""
    x, y = tip
    corners = [tip, (x - 7 * direction, y - 4), (x - 7 * direction, y + 4)]
    draw.polygon([(px * _FINER, py * _FINER) for px, py in corners], fill=colour)
