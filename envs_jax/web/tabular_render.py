"""Pictures of TabularWeb: the links of the page as text, and the whole web as a ring of pages (NumPy alone)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

SIDE = 480  # pixels of the picture's width; the strip with the progress comes below
STRIP = 40

_PAPER, _INK, _WHITE = (252, 252, 254), (84, 96, 124), (255, 255, 255)
_LINK, _REWARDED, _FOUND, _LEAVING = (221, 225, 233), (240, 176, 48), (44, 160, 92), (88, 120, 190)
_PAGE, _CURRENT, _EMPTY = (232, 237, 246), (42, 92, 214), (226, 230, 238)

_FONT = {
    "0": (7, 5, 5, 5, 7),
    "1": (2, 6, 2, 2, 7),
    "2": (7, 1, 7, 4, 7),
    "3": (7, 1, 3, 1, 7),
    "4": (5, 5, 7, 1, 1),
    "5": (7, 4, 7, 1, 7),
    "6": (7, 4, 7, 5, 7),
    "7": (7, 1, 1, 2, 2),
    "8": (7, 5, 7, 5, 7),
    "9": (7, 5, 7, 1, 7),
}  # rows of three bits


class View(NamedTuple):
    """What is shown; all concrete."""

    links: np.ndarray  # [S, A]: target pages
    rewarded: np.ndarray  # bool[S, A]
    found: np.ndarray  # bool[S, A]
    page: int
    required_pairs: int
    steps: int
    time_limit: int


def text(view: View) -> str:
    """Two lines about the episode, then one for each link of the page."""
    lines = [
        f"step {view.steps} of {view.time_limit}, page {view.page}",
        f"rewarded links found: {view.found.sum()}, required: {view.required_pairs}",
    ]
    for action, target in enumerate(view.links[view.page]):
        pair = view.page, action
        note = " (rewarded, found)" if view.found[pair] else " (rewarded)" if view.rewarded[pair] else ""
        lines.append(f"  link {action} to page {target}{note}")
    return "\n".join(lines)


def rgb(view: View) -> np.ndarray:
    """uint8[SIDE + STRIP, SIDE, 3]: pages on a ring and their links, a dot at the end where each leads.

    Grey: plain links; blue: those of the page the agent is on; gold: rewarded; green: rewarded and found. Below: the
    rewarded links found of those required, and the steps taken.
    """
    canvas = np.full((SIDE + STRIP, SIDE, 3), _PAPER, float)
    places = _places(len(view.links))
    kinds = np.select([view.found, view.rewarded, (np.arange(len(view.links)) == view.page)[:, None]], [3, 2, 1], 0)
    styles = ((_LINK, 0.8), (_LEAVING, 2.0), (_REWARDED, 2.0), (_FOUND, 2.6))
    for kind, (colour, width) in enumerate(styles):
        for page, action in np.argwhere(kinds == kind):
            leaving = 0.8 if page == view.page and kind > 1 else 0.0
            _link(canvas, places[page], places[view.links[page, action]], colour, width + leaving)
    for page, place in enumerate(places):
        _page(canvas, place, page, _radius(len(places)), page == view.page)
    _progress(canvas, view)
    return canvas.round().astype(np.uint8)


def _places(num_pages: int) -> np.ndarray:
    """float[S, 2]: (x, y) of the pages, clockwise from the top."""
    angle = 2 * np.pi * np.arange(num_pages) / num_pages
    return SIDE / 2 + 0.42 * SIDE * np.stack([np.sin(angle), -np.cos(angle)], axis=1)


def _radius(num_pages: int) -> float:
    """Of a page's disc; smaller where many share the ring."""
    return min(13.0, 0.9 * 0.42 * SIDE * np.pi / num_pages)


def _paint(canvas: np.ndarray, x: slice, y: slice, coverage: np.ndarray, colour: tuple[int, int, int]) -> None:
    canvas[y, x] += coverage[..., None] * (np.array(colour, float) - canvas[y, x])


def _around(start: np.ndarray, end: np.ndarray, margin: float) -> tuple[slice, slice, np.ndarray, np.ndarray]:
    """The pixels of the box between two points, and of a margin: slices, and the coordinates of the centres."""
    size = (SIDE, SIDE + STRIP)
    low = np.clip(np.minimum(start, end) - margin, 0, size).astype(int)
    high = np.clip(np.maximum(start, end) + margin + 1, 0, size).astype(int)
    x, y = slice(int(low[0]), int(high[0])), slice(int(low[1]), int(high[1]))
    yy, xx = np.meshgrid(np.arange(y.start, y.stop) + 0.5, np.arange(x.start, x.stop) + 0.5, indexing="ij")
    return x, y, xx, yy


def _disc(canvas: np.ndarray, place: np.ndarray, radius: float, colour: tuple[int, int, int]) -> None:
    x, y, xx, yy = _around(place, place, radius + 1)
    _paint(canvas, x, y, np.clip(radius + 0.5 - np.hypot(xx - place[0], yy - place[1]), 0, 1), colour)


def _link(canvas: np.ndarray, start: np.ndarray, end: np.ndarray, colour: tuple[int, int, int], width: float) -> None:
    """A line with a dot at its end; a ring outside the page where it leads back to it."""
    if (start == end).all():
        outwards = start - SIDE / 2
        centre = start + outwards / max(np.hypot(*outwards), 1) * 14
        x, y, xx, yy = _around(centre, centre, 12 + width)
        distance = np.abs(np.hypot(xx - centre[0], yy - centre[1]) - 9)
    else:
        x, y, xx, yy = _around(start, end, width + 1)
        along = end - start
        share = np.clip(((xx - start[0]) * along[0] + (yy - start[1]) * along[1]) / (along @ along), 0, 1)
        distance = np.hypot(xx - start[0] - share * along[0], yy - start[1] - share * along[1])
        _disc(canvas, end - along / np.hypot(*along) * 18, 1.6 + width, colour)
    _paint(canvas, x, y, np.clip(width / 2 + 0.5 - distance, 0, min(1, width)), colour)


def _page(canvas: np.ndarray, place: np.ndarray, page: int, radius: float, current: bool) -> None:
    """A page's disc, with its number where that fits."""
    _disc(canvas, place, radius + 1.5, _INK)
    _disc(canvas, place, radius, _CURRENT if current else _PAGE)
    if radius < 12:
        return
    digits = np.concatenate([_digit(d) for d in str(page)], axis=1)[:, :-2]
    height, width = digits.shape
    left, top = round(float(place[0]) - width / 2), round(float(place[1]) - height / 2)
    _paint(canvas, slice(left, left + width), slice(top, top + height), digits, _WHITE if current else _INK)


def _digit(digit: str) -> np.ndarray:
    """float[10, 8]: a digit of 6 × 10 pixels and a gap."""
    rows = np.array([[row >> 2 & 1, row >> 1 & 1, row & 1, 0] for row in _FONT[digit]], float)
    return rows.repeat(2, axis=0).repeat(2, axis=1)


def _progress(canvas: np.ndarray, view: View) -> None:
    found = int(view.found.sum())
    for i in range(max(view.required_pairs, found)):
        place = np.array([24.0 + 20 * i, SIDE + 10])
        if i < view.required_pairs:
            _disc(canvas, place, 8.5, _INK)
        _disc(canvas, place, 7, _FOUND if i < found else _EMPTY)
    done = round((SIDE - 32) * min(1, view.steps / view.time_limit))
    canvas[SIDE + 26 : SIDE + 31, 16 : SIDE - 16] = _EMPTY
    canvas[SIDE + 26 : SIDE + 31, 16 : 16 + done] = _CURRENT
