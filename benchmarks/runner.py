"""Runs cases one after the other, keeping every row that is done."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from benchmarks import machine
from benchmarks.measure import failure
from benchmarks.results import Results, Row
from benchmarks.suites import Case, Settings, Suite


class Listener(Protocol):
    """Who is told how the run goes on."""

    def started(self, case: str) -> None:
        """A case begins."""

    def measured(self, row: Row) -> None:
        """The case has a row, which is in the file already."""

    def ended(self, case: str) -> None:
        """The case is done."""


CRASHED = (
    "the process ended while this case ran (out of memory?); delete the file, or choose another --out, to try again"
)


def run(
    selected: Sequence[tuple[Suite, Case]], settings: Settings, wanted: Sequence[str], path: Path, listen: Listener
) -> Results:
    """Runs the cases and writes `path` after each row.

    A case that raises gets a failed row. Where `path` holds an incomplete run of the same settings on the same machine
    and versions, its finished cases are kept, and one that was interrupted is measured anew; one that ended the process
    is reported as failed, not repeated. Any other file there is renamed to `results.1.json`, `results.2.json`, ….

    Args:
      selected: the cases.
      settings: what the user asked for.
      wanted: the names that `selected` was chosen by, for the record.
      path: the `results.json` to write.
      listen: told of every case and row, also of those that the file held.

    Returns:
      The results. KeyboardInterrupt passes through, after the file is written.
    """
    fresh = _new(settings, wanted)
    results = _resumed(path, fresh)
    if results is fresh:
        _set_aside(path)
    start = time.perf_counter() - results.seconds
    try:
        for suite, case in selected:
            name = f"{suite.name}/{case.name}"
            listen.started(name)
            if name in results.finished:
                for row in (row for row in results.rows if _case(row) == name):
                    listen.measured(row)
                listen.ended(name)
                continue
            results.running = name
            results.save(path)
            for row in _rows(suite, case):
                results.rows.append(row)
                results.save(path)
                listen.measured(row)
            results.finished.append(name)
            results.running = None
            results.save(path)
            listen.ended(name)
        results.complete = True
    finally:
        results.running = None
        results.seconds = time.perf_counter() - start
        results.save(path)
    return results


def _rows(suite: Suite, case: Case) -> Iterator[Row]:
    """The rows of a case, up to where it fails, and why it does."""
    try:
        yield from case.run()
    except Exception as error:
        why = failure(error)
        yield Row(suite=suite.name, case=case.name, metric="case", unit="", status=why.status, note=why.note)


def _case(row: Row) -> str:
    return f"{row.suite}/{row.case}"


def _new(settings: Settings, wanted: Sequence[str]) -> Results:
    asked: dict[str, Any] = {
        "suites": list(wanted),
        "budget": settings.budget.name,
        "peers": settings.peers,
        "levels": _contents(settings.levels),
        "products": _contents(settings.products),
    }
    return Results(machine.fingerprint(), machine.versions(), asked)


def _contents(path: Path | None) -> dict[str, int] | None:
    """What lies at a path, without its name: enough to notice that it is not the same as before."""
    if path is None:
        return None
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    return {"files": len(files), "bytes": sum(file.stat().st_size for file in files)}


def _set_aside(path: Path) -> None:
    """Renames what lies at `path`: nobody's results are lost to a run that only shares its folder."""
    if path.exists():
        names = (path.with_suffix(f".{number}{path.suffix}") for number in itertools.count(1))
        path.rename(next(name for name in names if not name.exists()))


def _resumed(path: Path, fresh: Results) -> Results:
    """The incomplete results in `path` where they are of the same run, else `fresh`."""
    try:
        old = Results.load(path)
    except (FileNotFoundError, ValueError):
        return fresh
    same = old.settings == fresh.settings and old.versions == fresh.versions
    if old.complete or not same or not machine.same_machine(old.machine, fresh.machine):
        return fresh
    crashed = [] if old.running is None else [old.running]
    old.rows = [row for row in old.rows if _case(row) in [*old.finished, *crashed]]
    if old.running is not None:
        suite, _, case = old.running.partition("/")
        old.rows.append(Row(suite=suite, case=case, metric="case", unit="", status="failed", note=CRASHED))
        old.finished.append(old.running)
    return old
