"""The record of a run: one JSON object a line, and the same numbers for TensorBoard."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from envs_jax.files import replaced

Row = dict[str, Any]


class MetricLog:
    """Appends rows to a JSONL file, each written out at once; a row is {"step": …, name: number, …}.

    A resumed run drops the rows after the step that it continues from, so the file is what an uninterrupted run would
    have written, apart from times. Numbers that are not finite become null, which JSON can hold.
    """

    def __init__(self, path: str | os.PathLike[str], *, last_step: int = 0, tensorboard: Path | None = None) -> None:
        """Opens the log.

        Args:
          path: the file; it is made, or its rows up to `last_step` are kept.
          last_step: the last step whose rows stay.
          tensorboard: a folder for event files; None for none.

        Raises:
          ImportError: `tensorboard` is given and tensorboardX is not installed.
          OSError: the file cannot be written.
          ValueError: it is there, and not a log, see `read_rows`.
        """
        purged = {"purge_step": last_step + 1} if last_step else {}
        self._events = None if tensorboard is None else event_writer()(str(tensorboard), **purged)
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = [row for row in read_rows(path) if row["step"] <= last_step] if path.exists() else []
        with replaced(path) as partial:
            partial.write_text("".join(f"{json.dumps(row)}\n" for row in kept), encoding="utf-8")
        self._file = path.open("a", encoding="utf-8", buffering=1)

    def __enter__(self) -> MetricLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if self._events is not None:
            self._events.close()

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Appends a row."""
        row = {name: value if math.isfinite(value) else None for name, value in numbers.items()}
        self._file.write(json.dumps({"step": step, **row}) + "\n")
        if self._events is not None:
            for name, value in numbers.items():
                self._events.add_scalar(name, value, step)


def read_rows(path: str | os.PathLike[str]) -> list[Row]:
    """The rows of a log, in order; a last line that was cut off is left out.

    Raises:
      ValueError: another line is no row; the message has the file and the line.
      OSError: the file cannot be read.
    """
    rows: list[Row] = []
    lines = Path(path).read_text(encoding="utf-8").splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            rows.append({**row, "step": int(row["step"])})
        except (ValueError, TypeError, KeyError) as error:
            if number == len(lines) and not line.endswith("\n"):
                break
            raise ValueError(f"{os.fspath(path)}:{number}: no row of metrics ({error})") from error
    return rows


def series(rows: list[Row], name: str) -> tuple[list[int], list[float]]:
    """(steps, values) of the rows that hold a number called `name`."""
    found = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
    return [step for step, _ in found], [value for _, value in found]


def event_writer() -> Any:
    """The class that writes TensorBoard's files.

    Raises:
      ImportError: tensorboardX is not installed.
    """
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise ImportError('TensorBoard files need tensorboardX: pip install "envs-jax[train]"') from error
    return SummaryWriter
