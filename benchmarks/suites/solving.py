"""Solving: levels a second of the best-first solver, with the fewest pushes and with any plan, and of a plain A*."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import Measurement
from benchmarks.native_peer import NAME as PEER
from benchmarks.results import Row, Target
from benchmarks.rows import RowMaker
from benchmarks.search_workers import call
from benchmarks.suites import Case, Plot, Settings, Suite
from envs_jax.sokoban import levels as level_files

NAME = "solving"
OWN = "generated"  # the case of our own levels
RATES = {"optimal": 1_000.0, "satisficing": 1_500.0}  # levels a second, at least, all levels of a file together
GENERATED = {"quick": 1_000, "full": 4_000}
REPEATS = {"quick": 2, "full": 5}


def cases(settings: Settings) -> Iterator[Case]:
    """Generated levels, and each folder of the user's."""
    yield Case(f"{OWN}/solve", functools.partial(run_solve, settings, OWN, None))
    for name, files in folders(settings.levels).items():
        yield Case(f"{name}/solve", functools.partial(run_solve, settings, name, files))


def folders(path: Path | None) -> dict[str, list[Path]]:
    """All level files in and below `path`, as `level_files.read` finds them, by the folder that they lie in."""
    found: dict[str, list[Path]] = {}
    for file in [] if path is None else level_files.files(path):
        name = "-".join(file.relative_to(path).parts[:-1]) or path.stem  # type: ignore[arg-type, union-attr]
        found.setdefault(f"given-{name}" if name == OWN else name, []).append(file)
    return found


def run_solve(settings: Settings, name: str, files: Sequence[Path] | None) -> Iterator[Row]:
    """Both modes, and with `--peers` a plain A* in C++, on one set of levels, in a process with a device a core."""
    arguments: dict[str, Any] = {
        "files": None if files is None else [str(file) for file in files],
        "num_levels": GENERATED[settings.budget.name],
        "modes": list(RATES),
        "repeats": REPEATS[settings.budget.name],
        "peer": settings.peers,
    }
    found = call("solve", arguments)
    rows = RowMaker(NAME, f"{name}/solve", found["levels"])
    left_out = "" if files is None or found["files"] == len(files) else f"; {_left_out(found['files'], len(files))}"
    cores = dict.fromkeys(RATES, found["devices"]) | {PEER: 1}
    rates = {mode: found["levels"] / np.array(one["seconds"]) for mode, one in found["contestants"].items()}
    for mode, result in found["contestants"].items():
        where = "one core, no plans" if mode == PEER else f"{cores[mode]} devices; the slowest level included"
        note = f"{where}{left_out}"
        yield from _rate_rows(rows, mode, rates[mode], cores[mode], result["compile_seconds"], note)
        yield from _result_rows(rows, mode, result, found["levels"])
    for mode, longer in found["over_fewest"].items():
        if mode != "optimal" and longer is not None:
            yield rows.fact("pushes over the fewest", "%", longer, parameters={"mode": mode}, better="lower")
    if PEER in rates:
        yield from _peer_rows(rows, rates, cores, found["agreement"])
    elif settings.peers:
        lacking = Measurement(status="unavailable", note=found["unavailable"])
        yield rows.missing("throughput", "levels/s", lacking, parameters={"mode": PEER})


def _left_out(read: int, total: int) -> str:
    return f"the first {read} of {total} files, which hold enough levels; the others are left out"


def _rate_rows(
    rows: RowMaker, mode: str, rates: np.ndarray, cores: int, compile_seconds: float, note: str
) -> Iterator[Row]:
    fields: dict[str, Any] = {"parameters": {"mode": mode}, "better": "higher", "note": note}
    target = Target(">=", RATES[mode]) if mode in RATES else None
    compiled = compile_seconds if mode in RATES else None
    yield rows.sample("throughput", "levels/s", rates, target=target, compile_seconds=compiled, **fields)
    yield rows.sample("throughput a core", "levels/s", rates / cores, **fields)


def _result_rows(rows: RowMaker, mode: str, result: dict[str, Any], total: int) -> Iterator[Row]:
    """What was solved, how long the plans are, and what was expanded for them."""
    fields: dict[str, Any] = {"parameters": {"mode": mode}}
    reasons = {name.lower().replace("_", " "): count for name, count in result["reasons"].items()}
    note = ", ".join(f"{count:,} {reason}" for reason, count in reasons.items())
    target = Target(">=", 100.0) if mode in RATES else None
    solved = 100 * result["solved"] / total
    yield rows.fact("solved", "%", solved, target=target, better="higher", note=note, **fields)
    if result["solved"]:
        histogram = {name: [float(value) for value in result[key]] for name, key in _HISTOGRAM.items()}
        yield rows.fact("median pushes", "pushes", result["median_pushes"], histogram=histogram, **fields)
    if result["moves"] is not None:
        yield rows.fact("median moves", "moves", result["moves"], **fields)
    yield rows.fact("expanded a level, mean", "nodes", result["expanded"], better="lower", **fields)


_HISTOGRAM = {"values": "pushes", "counts": "counts"}


def _peer_rows(
    rows: RowMaker, rates: dict[str, np.ndarray], cores: dict[str, int], agreement: dict[str, Any]
) -> Iterator[Row]:
    """Our rates over those of the peer, repeat by repeat, and whether the fewest pushes agree; raises where not."""
    for mode in RATES:
        shared = min(len(rates[mode]), len(rates[PEER]))
        over = rates[mode][:shared] / rates[PEER][:shared]
        fields: dict[str, Any] = {"parameters": {"mode": mode}, "better": "higher"}
        yield rows.sample(f"over {PEER}", "×", over, note=f"{cores[mode]} cores against one", **fields)
        yield rows.sample(f"over {PEER}, a core", "×", over / cores[mode], **fields)
    compared, different = agreement["compared"], agreement["different"]
    note = f"{compared:,} levels that both decided"
    share = 100 * (compared - different) / max(1, compared)
    yield rows.fact(f"fewest pushes as {PEER}", "%", share, target=Target(">=", 100.0), better="higher", note=note)
    if different:
        raise RuntimeError(f"the fewest pushes differ in {different} levels: {', '.join(agreement['which'])}")


def plots(rows: Sequence[Row], folder: Path) -> Iterator[Plot]:
    """Draws what there are rows for."""
    from benchmarks import search_plots

    yield from search_plots.solving(rows, folder)


SUITE = Suite(NAME, "Solving Sokoban levels", cases, plots)
