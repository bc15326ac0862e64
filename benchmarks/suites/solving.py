"""Solving: levels a second of the best-first solver, with the fewest pushes and with any plan."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.results import Row, Target
from benchmarks.rows import RowMaker
from benchmarks.search_workers import call
from benchmarks.suites import Case, Plot, Settings, Suite

NAME = "solving"
RATES = {"optimal": 1_000.0, "satisficing": 1_500.0}  # levels a second, at least, all levels of a file together
GENERATED = {"quick": 1_000, "full": 4_000}
REPEATS = {"quick": 2, "full": 5}
MOST_LEVELS = 4_000  # of a folder: whole files up to so many (a file of Boxoban holds 1,000)


def cases(settings: Settings) -> Iterator[Case]:
    """Generated levels, and each folder of the user's."""
    yield Case("generated/solve", functools.partial(run_solve, settings, "generated", None))
    for name, files in folders(settings.levels).items():
        yield Case(f"{name}/solve", functools.partial(run_solve, settings, name, files))


def folders(path: Path | None) -> dict[str, list[Path]]:
    """The level files below `path` by the folder that they lie in, the first of each folder: 4,000 levels or so."""
    if path is None:
        return {}
    files = [path] if path.is_file() else sorted(file for end in ("txt", "xsb") for file in path.rglob(f"*.{end}"))
    files = [file for file in files if file.stem.isdigit() or file == path or file.suffix == ".xsb"]
    found: dict[str, list[Path]] = {}
    for file in files:
        found.setdefault("-".join(file.relative_to(path).parts[:-1]) or path.stem, []).append(file)
    return {name: some[: MOST_LEVELS // 1_000] for name, some in found.items()}


def run_solve(settings: Settings, name: str, files: Sequence[Path] | None) -> Iterator[Row]:
    """Both modes on one set of levels, in a process with one device for each core."""
    arguments: dict[str, Any] = {
        "levels": None if files is None else [str(file) for file in files],
        "num_levels": GENERATED[settings.budget.name],
        "modes": list(RATES),
        "repeats": REPEATS[settings.budget.name],
    }
    found = call("solve", arguments)
    total = found["levels"]
    rows = RowMaker(NAME, f"{name}/solve", total)
    note = f"{found['devices']} devices; the slowest level included"
    for mode, least in RATES.items():
        result = found[mode]
        common: dict[str, Any] = {"parameters": {"mode": mode}}
        rates = [total / seconds for seconds in result["seconds"]]
        yield rows.sample(
            "throughput", "levels/s", rates, better="higher", target=Target(">=", least), note=note,
            compile_seconds=result["compile_seconds"], **common,
        )  # fmt: skip
        solved = 100 * result["solved"] / total
        yield rows.fact("solved", "%", solved, target=Target(">=", 100.0), better="higher", **common)
        yield _pushes(rows, result, common)
        yield rows.fact("median moves", "moves", result["moves"], **common)
        yield rows.fact("expanded a level, mean", "nodes", result["expanded"], better="lower", **common)


def _pushes(rows: RowMaker, result: dict[str, Any], common: dict[str, Any]) -> Row:
    values, counts = result["pushes"], result["counts"]
    middle, reached = sum(counts) / 2, 0
    median = 0
    for value, count in zip(values, counts, strict=True):
        reached += count
        if reached >= middle:
            median = value
            break
    histogram = {"values": [float(value) for value in values], "counts": [float(count) for count in counts]}
    return rows.fact("median pushes", "pushes", median, histogram=histogram, **common)


def plots(rows: Sequence[Row], folder: Path) -> Iterator[Plot]:
    """Draws what there are rows for."""
    from benchmarks import search_plots

    yield from search_plots.solving(rows, folder)


SUITE = Suite(NAME, "Solving Sokoban levels", cases, plots)
