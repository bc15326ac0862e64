"""The strict parser of level text: Boxoban and XSB files, whole files at once.

A level is a run of consecutive board rows, made of these glyphs: `#` wall; space, `-` or `_` floor; `.` target; `$`
box; `*` box on a target; `@` player; `+` player on a target. Rows may be ragged. Lines that start with `;`, titles and
other text between levels are comments. Lines end in a line feed, with or without a carriage return before it.

A file whose only comments are lines `; number`, with levels right under them, is a Boxoban file: its levels are
rectangles of one size (10×10 in the published files), each under such a line, and the numbers go up by one.

Cells outside the walls become walls. Nothing else is repaired: a level that cannot be played as it stands is refused
with its file, line and reason.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from envs_jax.sokoban.grid import Code

GLYPHS = "# .*$@+"  # by Code

_UNKNOWN = 255
_HEADER = re.compile(rb"; *(\d{1,18})\s*")  # a number that an int64 holds
_BOXOBAN_SIZE = (10, 10)


class LevelError(ValueError):
    """A level file that cannot be read; the message names file, line and reason."""


class LevelText(NamedTuple):
    """The N levels of one text, each at the top left of a board that holds the largest."""

    codes: np.ndarray  # uint8[N, height, width]: the `Code` of each cell, walls around smaller levels
    sizes: np.ndarray  # int32[N, 2]: height and width of each level
    lines: np.ndarray  # int32[N]: line of its first row, from 1
    source: str  # what errors call the text: its file

    def where(self, index: int) -> str:
        """`file:line` of a level."""
        return f"{self.source}:{self.lines[index]}"


class _Lines(NamedTuple):
    """The lines of a file: what they are and where they lie in its bytes."""

    data: np.ndarray  # uint8[size]
    starts: np.ndarray  # int[L]
    ends: np.ndarray  # int[L], trailing blanks left out
    is_row: np.ndarray  # bool[L]: a row of a board
    is_blank: np.ndarray  # bool[L]


def parse(data: bytes, source: str) -> LevelText:
    """Reads a whole file at once: every step works on the arrays of all its levels."""
    data = data.removeprefix(b"\xef\xbb\xbf")
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n")
    _check_encoding(data, source)
    _check_line_ends(data, source)
    lines = _split(data)
    rows = np.flatnonzero(lines.is_row)
    if rows.size == 0:
        raise LevelError(f"{source}: the file holds no level")
    _check_text_between(data, lines, source)
    first = np.flatnonzero(np.diff(rows, prepend=-2) > 1)  # in `rows`: where each level begins
    level = np.repeat(np.arange(len(first)), np.diff(first, append=len(rows)))
    codes, sizes = _gather(lines, rows, level, np.arange(len(rows)) - first[level])
    found = LevelText(codes, sizes.astype(np.int32), (rows[first] + 1).astype(np.int32), source)
    _check_headers(data, lines, rows, found)
    _check_glyphs(found)
    _check_pieces(found)
    _wall_in(found)
    return found


_CONTROL = bytes({*range(32), 127} - {*b"\t\n\r"})


def _check_encoding(data: bytes, source: str) -> None:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise LevelError(f"{source}:{line}: byte {data[error.start]:#04x} is not UTF-8 text") from None
    if len(data.translate(None, _CONTROL)) < len(data):  # far faster than a regular expression
        position = min(position for position in map(data.find, _CONTROL) if position >= 0)
        line = data.count(b"\n", 0, position) + 1
        raise LevelError(f"{source}:{line}: byte {data[position]:#04x} is a control character; a level is text")


def _check_line_ends(data: bytes, source: str) -> None:
    position = data.find(b"\r")
    if position >= 0:
        line = data.count(b"\n", 0, position) + 1
        raise LevelError(
            f"{source}:{line}: a carriage return without a line feed; end the lines of the file in \\n or \\r\\n"
        )


_IS_FLOOR = np.isin(np.arange(256), np.frombuffer(b" -_\t", np.uint8))
_IS_BLANK = np.isin(np.arange(256), np.frombuffer(b" \t", np.uint8))
_CODES = np.full(256, _UNKNOWN, np.uint8)
_CODES[np.frombuffer(GLYPHS.encode(), np.uint8)] = list(Code)
_CODES[np.frombuffer(b" -_", np.uint8)] = Code.FLOOR


def _split(data: bytes) -> _Lines:
    """The lines. A row of a board starts, after floor, with a wall, or consists of glyphs alone."""
    array = np.frombuffer(data + b"\n", np.uint8)
    newlines = np.flatnonzero(array == ord("\n"))
    starts = np.concatenate([[0], newlines[:-1] + 1])
    is_newline = array == ord("\n")
    inked = np.flatnonzero(~_IS_BLANK[array] & ~is_newline)
    last = np.searchsorted(inked, newlines) - 1
    last_ink = np.where(last >= 0, inked[last], -1) if inked.size else np.full(len(starts), -1)
    is_blank = last_ink < starts
    ends = np.where(is_blank, starts, last_ink + 1)
    # The newline that ends every line is such a piece too, so the search always finds one.
    pieces = np.flatnonzero(~_IS_FLOOR[array])
    first_piece = array[pieces[np.searchsorted(pieces, starts)]]
    foreign = np.concatenate([[0], np.cumsum(_CODES[array] == _UNKNOWN)])
    only_glyphs = (foreign[ends] == foreign[starts]) & (first_piece != ord("\n"))
    return _Lines(array, starts, ends, (first_piece == ord("#")) | only_glyphs, is_blank)


def _gather(
    lines: _Lines, rows: np.ndarray, level: np.ndarray, row_in_level: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(codes [N, height, width], sizes [N, 2]) of the levels; cells beyond the end of a row are floor for now."""
    lengths = lines.ends[rows] - lines.starts[rows]
    num_levels = level[-1] + 1
    heights = np.bincount(level)
    widths = np.zeros(num_levels, int)
    np.maximum.at(widths, level, lengths)
    column = np.arange(widths.max())
    index = np.minimum(lines.starts[rows][:, None] + column, len(lines.data) - 1)
    glyphs = np.where(column < lengths[:, None], _CODES[lines.data[index]], np.uint8(Code.FLOOR))
    codes = np.full((num_levels, heights.max(), widths.max()), Code.FLOOR, np.uint8)
    codes[level, row_in_level] = glyphs
    return codes, np.stack([heights, widths], axis=1)


def _check_text_between(data: bytes, lines: _Lines, source: str) -> None:
    """Refuses text squeezed between two board rows: more likely a damaged row than a title."""
    is_comment = lines.data[lines.starts] == ord(";")
    inside = ~lines.is_row & ~lines.is_blank & ~is_comment
    inside[0] = inside[-1] = False
    inside[1:-1] &= lines.is_row[:-2] & lines.is_row[2:]
    if inside.any():
        line = int(inside.argmax())
        text = data[lines.starts[line] : lines.ends[line]].decode()
        raise LevelError(
            f"{source}:{line + 1}: {text!r} between two board rows is no board row; "
            "write `;` before a comment, or a blank line between levels"
        )


class _Headers(NamedTuple):
    """The lines `; number` of a file."""

    lines: np.ndarray  # int64[H], from 0
    numbers: np.ndarray  # int64[H]


def _find_headers(data: bytes, lines: _Lines) -> _Headers:
    comments = np.flatnonzero(lines.data[lines.starts] == ord(";"))
    matches = ((line, _HEADER.fullmatch(data, lines.starts[line], lines.ends[line])) for line in comments)
    found = [(line, int(match[1])) for line, match in matches if match]
    return _Headers(*np.array(found, np.int64).reshape(-1, 2).T)


def _check_headers(data: bytes, lines: _Lines, rows: np.ndarray, found: LevelText) -> None:
    """Refuses a header without a level, and a Boxoban file that is not complete and regular."""
    headers = _find_headers(data, lines)
    if headers.lines.size == 0:
        return
    _check_levels_follow(data, lines, headers, found)
    is_headed = np.isin(found.lines - 2, headers.lines)
    if _is_boxoban(lines, headers, found, is_headed):
        _check_rectangles(lines, rows, found, is_headed)
        _check_numbers(headers, found.source)


def _check_levels_follow(data: bytes, lines: _Lines, headers: _Headers, found: LevelText) -> None:
    is_header = np.zeros(len(lines.starts), bool)
    is_header[headers.lines] = True
    solid = np.append(np.flatnonzero(~lines.is_blank), headers.lines[0])  # as if a header followed the last line
    barren = is_header[solid[np.searchsorted(solid[:-1], headers.lines, side="right")]]
    if barren.any() and headers.lines[0] < found.lines[0] - 1:  # headers may also stand below their levels
        header = int(headers.lines[barren.argmax()])
        text = data[lines.starts[header] : lines.ends[header]].decode()
        raise LevelError(f"{found.source}:{header + 1}: no level follows the header {text!r}; is the file cut off?")


def _is_boxoban(lines: _Lines, headers: _Headers, found: LevelText, is_headed: np.ndarray) -> bool:
    """Whether a file is meant to be Boxoban's, damaged or not: no text but headers, or mostly headed 10×10 levels."""
    first = found.lines - 1
    if headers.lines[0] > first[0] and headers.lines[-1] > first[-1]:
        return False  # the headers stand below their levels
    is_other = ~lines.is_row & ~lines.is_blank
    is_other[headers.lines] = False
    is_regular = is_headed & (found.sizes == _BOXOBAN_SIZE).all(axis=1)
    return bool((is_headed.any() and not is_other.any()) or 2 * is_regular.sum() > len(found.codes))


def _check_rectangles(lines: _Lines, rows: np.ndarray, found: LevelText, is_headed: np.ndarray) -> None:
    lengths = lines.ends[rows] - lines.starts[rows]
    height, width = _most_common(found.sizes[:, 0]), _most_common(lengths)
    if (lengths != width).any():
        row = int((lengths != width).argmax())
        raise LevelError(
            f"{found.source}:{rows[row] + 1}: the row has length {lengths[row]} (trailing blanks left out), not "
            f"{width} as the others; the levels of a Boxoban file are rectangles of one size (for other levels, leave "
            "a blank line under each `; number` or add a title)"
        )
    is_wrong = ~is_headed | (found.sizes[:, 0] != height)
    if is_wrong.any():
        index = int(is_wrong.argmax())
        raise LevelError(
            f"{found.where(index)}: a level of this Boxoban file must be {height}×{width} glyphs right under its "
            f"`; number` line; this one is {found.sizes[index, 0]}×{width}"
            + ("" if is_headed[index] else " without that line")
        )


def _most_common(values: np.ndarray) -> int:
    """The most common value; the largest of several, as damage takes away more often than it adds."""
    counts = np.bincount(values)
    return len(counts) - 1 - int(counts[::-1].argmax())


def _check_numbers(headers: _Headers, source: str) -> None:
    is_step = np.diff(headers.numbers) == 1
    if not is_step.all():
        index = int(is_step.argmin()) + 1
        raise LevelError(
            f"{source}:{headers.lines[index] + 1}: the level has number {headers.numbers[index]}, but "
            f"{headers.numbers[index - 1] + 1} comes next; are levels missing or repeated?"
        )


def _check_glyphs(found: LevelText) -> None:
    wrong = found.codes == _UNKNOWN
    if wrong.any():
        index, row, column = np.argwhere(wrong)[0]
        raise LevelError(
            f"{found.source}:{found.lines[index] + row}: the glyph in column {column + 1} is not one of "
            f"{GLYPHS!r}, '-' or '_'"
        )


def _check_pieces(found: LevelText) -> None:
    tally = lambda *codes: sum((found.codes == code).sum(axis=(1, 2)) for code in codes)
    players = tally(Code.PLAYER, Code.PLAYER_ON_TARGET)
    boxes = tally(Code.BOX, Code.BOX_ON_TARGET)
    targets = tally(Code.TARGET, Code.BOX_ON_TARGET, Code.PLAYER_ON_TARGET)
    solved = tally(Code.BOX) == 0
    wrong = (players != 1) | (boxes != targets) | (boxes == 0) | solved
    if not wrong.any():
        return
    index = int(wrong.argmax())
    if players[index] != 1:
        reason = f"the level has {players[index]} players (@ or +); it must have one"
    elif boxes[index] != targets[index]:
        reason = f"the level has {boxes[index]} boxes ($ or *) and {targets[index]} targets (. * or +); equal numbers"
        reason += " are needed"
    elif boxes[index] == 0:
        reason = "the level has no box ($ or *)"
    else:
        reason = "the level is solved already: every box is on a target"
    raise LevelError(f"{found.where(index)}: {reason}")


def _wall_in(found: LevelText) -> None:
    """Turns the cells outside the walls into walls, in place; refuses a level whose walls do not enclose its pieces."""
    codes = found.codes
    ring = np.concatenate([codes[:, (0, -1)].reshape(len(codes), -1), codes[:, :, (0, -1)].reshape(len(codes), -1)], 1)
    some = np.flatnonzero((ring != Code.WALL).any(axis=1))
    if some.size == 0:
        return
    passable = np.pad(codes[some] != Code.WALL, ((0, 0), (1, 1), (1, 1)), constant_values=True)
    outside = np.zeros_like(passable)
    outside[:, 0] = True
    while True:
        grown = outside.copy()
        grown[:, 1:] |= outside[:, :-1]
        grown[:, :-1] |= outside[:, 1:]
        grown[:, :, 1:] |= outside[:, :, :-1]
        grown[:, :, :-1] |= outside[:, :, 1:]
        grown &= passable
        if (grown == outside).all():
            break
        outside = grown
    outside = outside[:, 1:-1, 1:-1]
    pieces = outside & (codes[some] != Code.FLOOR)
    if pieces.any():
        level, row, column = np.argwhere(pieces)[0]
        glyph = GLYPHS[codes[some][level, row, column]]
        line = found.lines[some[level]] + row
        raise LevelError(
            f"{found.source}:{line}: the level is not enclosed by walls: {glyph!r} in column "
            f"{column + 1} is connected to the outside"
        )
    codes[some] = np.where(outside, np.uint8(Code.WALL), codes[some])
