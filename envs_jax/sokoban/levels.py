"""Levels as text: files into task banks, task banks into files.

What a file may hold is said in `xsb`, which parses it. Plans in LURD notation are in `lurd`.
"""

from __future__ import annotations

import os
import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs_jax.arguments import check_integer, check_string
from envs_jax.files import replaced
from envs_jax.sokoban import xsb
from envs_jax.sokoban.board import Layout
from envs_jax.sokoban.checks import check_layout, check_task, check_tasks
from envs_jax.sokoban.grid import Code
from envs_jax.sokoban.lurd import actions_to_lurd, lurd_to_actions
from envs_jax.sokoban.types import SokobanTask
from envs_jax.sokoban.xsb import GLYPHS, LevelError, LevelText
from envs_jax.tasks import TaskBank, make_bank

__all__ = [
    "LevelError",
    "Levels",
    "actions_to_lurd",
    "codes_to_text",
    "files",
    "load",
    "lurd_to_actions",
    "parse",
    "read",
    "to_text",
    "write",
]

PathLike = str | os.PathLike[str]

SUFFIXES = (".txt", ".xsb")  # of the files that are read from a folder


class Levels(NamedTuple):
    """N levels as they stand in their files, each at the top left of a board that holds the largest."""

    codes: np.ndarray  # uint8[N, height, width]: the `Code` of each cell, walls around smaller levels
    sizes: np.ndarray  # int32[N, 2]: height and width of each level
    sources: tuple[str, ...]  # file of each level
    lines: np.ndarray  # int32[N]: line of its first row, from 1

    def __len__(self) -> int:
        return len(self.codes)

    def where(self, index: int) -> str:
        """`file:line` of a level."""
        return f"{self.sources[index]}:{self.lines[index]}"

    @property
    def layout(self) -> Layout:
        """The smallest board that holds every level."""
        return Layout(*self.codes.shape[1:])

    def bank(self, layout: Layout | None = None, *, time_limit: int = 120) -> TaskBank[SokobanTask]:
        """The levels as tasks on boards of size `layout` (default: `self.layout`).

        Raises:
          LevelError: a level is larger than `layout`; nothing is dropped.
          TypeError, ValueError: `layout` is no Layout, or `time_limit` is not an integer in 1 … 65,535.
        """
        layout = self.layout if layout is None else layout
        check_layout("layout", layout)
        time_limit = check_integer("time_limit", time_limit, 1, 65_535)
        too_large = (self.sizes > layout.size).any(axis=1)
        if too_large.any():
            index = int(too_large.argmax())
            height, width = self.sizes[index]
            raise LevelError(
                f"{self.where(index)}: the level is {height}×{width}, larger than size={layout.size}; "
                f"all {len(self)} levels fit in size={self.layout.size}"
            )
        codes = np.zeros((len(self), *layout.size), np.uint8)
        height, width = (min(a, b) for a, b in zip(codes.shape[1:], self.codes.shape[1:], strict=True))
        codes[:, :height, :width] = self.codes[:, :height, :width]
        return _pack(layout, codes, time_limit)


def load(paths: PathLike | Sequence[PathLike], layout: Layout, *, time_limit: int = 120) -> TaskBank[SokobanTask]:
    """Reads every level of the given files and folders as tasks; see `read` and `Levels.bank`."""
    return read(paths).bank(layout, time_limit=time_limit)


def read(paths: PathLike | Sequence[PathLike]) -> Levels:
    """Reads every level of the given files, in order.

    Args:
      paths: a file, or a folder for all `.txt` and `.xsb` files in and below it, sorted by path; or several of them.

    Raises:
      LevelError: a level that cannot be played as it stands, a file or folder without a level, or an empty path or the
        text of a level in place of a path.
      FileNotFoundError: a path that does not exist.
      TypeError: something else than paths.
    """
    given = [paths] if isinstance(paths, (str, os.PathLike)) else paths
    if not isinstance(given, Sequence) or not all(isinstance(path, (str, os.PathLike)) for path in given):
        raise TypeError(f"levels={paths!r} must be the path of a level file or of a folder, or a list of such paths")
    if not given:
        raise LevelError("no path was given; name a level file or a folder of them")
    if not all(map(os.fspath, given)):
        raise LevelError(f"levels={paths!r} has an empty path; name a level file or a folder (`.` is the current one)")
    found = [file for path in given for file in files(path)]
    return _joined([xsb.parse(file.read_bytes(), str(file)) for file in found])


def parse(text: str, source: str = "text") -> Levels:
    """Reads every level of a string; `source` stands for the file in errors.

    Raises:
      LevelError: a level that cannot be played as it stands, or text without a level.
      TypeError: `text` is not a string.
    """
    return _joined([xsb.parse(check_string("text", text).encode(), source)])


def to_text(layout: Layout, task: SokobanTask) -> str:
    """The start of one (concrete) task in XSB glyphs, `layout.height` lines without a final newline.

    Raises:
      TypeError, ValueError: `layout` is no Layout, or `task` is not a level of that size.
    """
    check_task(layout, task)
    walls, targets, boxes = (layout.unpack(board) for board in (task.walls, task.targets, task.boxes))
    player = np.zeros_like(walls)
    player.reshape(-1)[int(task.player)] = True
    codes = np.select(
        [walls, player, boxes, targets],
        [Code.WALL, Code.PLAYER + targets, Code.BOX - targets, np.full_like(walls, Code.TARGET, int)],
        Code.FLOOR,
    )
    return codes_to_text(np.pad(codes, 1))


def codes_to_text(codes: np.ndarray) -> str:
    """Codes [height, width] in XSB glyphs."""
    return "\n".join("".join(GLYPHS[code] for code in row) for row in codes)


def write(path: PathLike, layout: Layout, tasks: TaskBank[SokobanTask]) -> None:
    """Writes the starts of all tasks as one file, each under a line `; number`; `read` gives the same levels.

    A file of 10×10 levels is in Boxoban's format. It is replaced only when the new one is complete.

    Raises:
      TypeError, ValueError: `layout` is no Layout, or `tasks` is not a bank of levels of that size.
      OSError: the file cannot be written.
    """
    check_tasks(layout, tasks)
    arrays = jax.tree.map(np.asarray, tasks.instances)
    blocks = [f"; {i}\n{to_text(layout, jax.tree.map(lambda x, i=i: x[i], arrays))}\n\n" for i in range(len(tasks))]
    with replaced(path) as partial:
        partial.write_text("".join(blocks), encoding="ascii")


def files(path: PathLike) -> list[Path]:
    """The files that `read` takes from one path: the file itself, or those in and below a folder, sorted by path.

    Raises:
      LevelError, FileNotFoundError: as `read`.
    """
    path = Path(path)
    if not os.path.exists(path):  # unlike `path.exists()` this takes a name of any length
        if "\n" in str(path):
            raise LevelError(
                f"levels={reprlib.repr(str(path))} is the text of a level, not a path; "
                "write it to a file, or read it with envs_jax.sokoban.levels.parse"
            )
        raise FileNotFoundError(
            f"levels={str(path)!r}: no such file or folder; give the path of a level file or of a folder of them"
        )
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
    if not found:
        raise LevelError(f"{path}: the folder holds no {' or '.join(SUFFIXES)} file")
    return found


def _joined(parts: Sequence[LevelText]) -> Levels:
    """All levels of the parts, in order."""
    height, width = np.max([part.codes.shape[1:] for part in parts], axis=0)
    codes = np.zeros((sum(len(part.codes) for part in parts), height, width), np.uint8)
    start = 0
    for part in parts:
        codes[start : start + len(part.codes), : part.codes.shape[1], : part.codes.shape[2]] = part.codes
        start += len(part.codes)
    sources = tuple(part.source for part in parts for _ in part.codes)
    sizes, lines = (np.concatenate([getattr(part, name) for part in parts]) for name in ("sizes", "lines"))
    return Levels(codes, sizes, sources, lines)


def _pack(layout: Layout, codes: np.ndarray, time_limit: int) -> TaskBank[SokobanTask]:
    """Codes uint8[N, height, width] of valid levels as bitboards."""
    inside = codes[:, 1:-1, 1:-1]
    is_any = lambda *kinds: np.isin(np.arange(len(Code)), kinds)[inside]
    board = lambda *kinds: tuple(map(jnp.asarray, layout.pack_batch(is_any(*kinds))))
    player = is_any(Code.PLAYER, Code.PLAYER_ON_TARGET).reshape(len(codes), -1).argmax(axis=1)
    return make_bank(
        SokobanTask(
            walls=board(Code.WALL),
            targets=board(Code.TARGET, Code.BOX_ON_TARGET, Code.PLAYER_ON_TARGET),
            boxes=board(Code.BOX, Code.BOX_ON_TARGET),
            player=jnp.asarray(player.astype(layout.cell_dtype)),
            time_limit=jnp.full(len(codes), time_limit, jnp.uint16),
            made_for=layout.name,
        )
    )
