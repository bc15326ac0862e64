"""Profiles of several programs: what `profile` found of each as rows, and their report."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import console, profile_report, profiling
from benchmarks.measure import Budget, Program
from benchmarks.profile_report import Table
from benchmarks.report import head, markdown_table, not_measured
from benchmarks.results import Results, Row
from benchmarks.rows import RowMaker
from benchmarks.suites import Case, Suite
from envs_jax.files import replaced

NAME = "profile"  # the suite of the rows; its cases are named after the programs
RATE, WORK, LIMIT, SHARE, TIME = (
    "throughput", "work an item", "machine's limit", "share of the limit", "share of time",
)  # fmt: skip
LEAST = 0.005  # of the time: phases below are left out
METHOD = """A step of a program is a turn of a compiled loop, on new random numbers, without calls from Python. Rates
are measured without tracing, in turn with programs that do nothing but one kind of work: the machine's limits.
Operations and bytes are those of the compiled program, each as often as a trace saw it run. A cell has what an item
takes and, in brackets, what the program reaches of the limit: the median of the shares within the repeats. A limit
that is exceeded does not count: more bytes than memory gives come from caches, and the limit of integers is that of
32-bit words, of which narrower ones take fewer. Shares of time are those of the traced operations by
`jax.named_scope`, where they reach half a per cent."""


def cases(programs: Mapping[str, Callable[[], Program]], budget: Budget, folder: Path) -> list[tuple[Suite, Case]]:
    """A case for each program; beside its rows it writes its profile and its trace to a folder of its own."""
    profiled = lambda name, make: functools.partial(_run, name, make, budget, folder / folder_of(name))
    found = [Case(name, profiled(name, make)) for name, make in programs.items()]
    suite = Suite(NAME, "Profiles", lambda settings: found, lambda rows, folder: iter(()))
    return [(suite, case) for case in found]


def folder_of(name: str) -> str:
    """The name of a program's folder."""
    return re.sub(r"[^\w.+=-]+", "-", name)


def _run(name: str, make: Callable[[], Program], budget: Budget, folder: Path) -> Iterator[Row]:
    folder.mkdir(exist_ok=True)
    found = profiling.profile(name, make(), budget, folder)
    profile_report.write(found, folder)
    yield from rows(found)


def rows(profile: profiling.Profile) -> Iterator[Row]:
    """What was found: the rate, the work beside the machine's limits, and the shares of the phases."""
    make = RowMaker(NAME, profile.name)
    note = f"not counted: {', '.join(profile.uncounted)}" if profile.uncounted else ""
    fields: dict[str, Any] = {"compile_seconds": profile.compile_seconds, "better": "higher", "note": note}
    yield make.sample(RATE, "items/s", profile.rates[profiling.PROGRAM], **fields)
    for phase, share in profile_report.phases(profile).items():
        if share < LEAST:
            continue
        yield make.fact(TIME, "%", 100 * share, parameters={"phase": phase})
    for name, shares in profile.shares_of_repeats().items():
        parameters, measure, work = {"limit": name}, profiling.LIMITS[name].measure, profile.work_of(name)
        if work == 0:
            continue
        yield make.fact(WORK, measure, work, parameters=parameters)
        yield make.sample(LIMIT, f"{measure}/s", profile.rates[name], parameters=parameters)
        yield make.sample(SHARE, "%", 100 * shares, parameters=parameters)


# The report ---------------------------------------------------------------------------------------------------------


def tables(rows: Sequence[Row]) -> list[Table]:
    """For each case its programs beside the machine's limits, and the shares of their phases where they have any."""
    found: list[Table] = []
    for case in dict.fromkeys(_case(row) for row in rows):
        programs: dict[str, list[Row]] = {}
        for row in rows:
            if _case(row) == case and row.status == "ok":
                programs.setdefault(row.case.rpartition("/")[2], []).append(row)
        if programs:
            found += [_limits(case, programs), *_phases(case, programs)]
    return found


def write(results: Results, path: Path) -> None:
    """Writes the report."""
    with replaced(path) as partial:
        partial.write_text(markdown(results), encoding="utf-8")


def markdown(results: Results) -> str:
    """The report as Markdown."""
    lines = ["# Profiles", "", *head(results), ""]
    for title, header, cells in tables(results.rows):
        lines += [f"## {title}", "", *markdown_table(header, cells), ""]
    return "\n".join([*lines, *not_measured(results.rows), "## How it was measured", "", METHOD, ""])


def _case(row: Row) -> str:
    return row.case.rpartition("/")[0]


def _limits(case: str, programs: Mapping[str, Sequence[Row]]) -> Table:
    used = {name for of in programs.values() for name in _by(of, WORK, "limit")}
    names = [name for name in profiling.LIMITS if name in used]
    cells = []
    for program, of in programs.items():
        (rate,) = [row for row in of if row.metric == RATE]
        work, shares = _by(of, WORK, "limit"), _by(of, SHARE, "limit")
        each = [f"{work[name]:,.0f} ({shares[name]:.0f} %)" if name in work else "–" for name in names]
        near = profile_report.nearest({name: share / 100 for name, share in shares.items()})
        per_second = console.number(rate.value or 0.0, rate.unit)
        cells.append([program, per_second, console.interval(rate), *each, near])
    cells.append(["limit", "", "", *(_limit(name, list(programs.values())) for name in names), ""])
    header = ("program", "items/s", "p10 – p90", *names, "nearest limit")
    return (f"{case}: work an item, and the share of the machine's limit", header, cells)


def _limit(name: str, programs: Sequence[Sequence[Row]]) -> str:
    """The least and the most that was measured of a limit beside a program."""
    values = [found[name] for of in programs if name in (found := _by(of, LIMIT, "limit"))]
    low, high = min(values), max(values)
    shown = profile_report.rate(high, profiling.LIMITS[name].unit)
    return shown if low == high else f"{console.number(low, '/s', like=high).split(' ')[0]} – {shown}"


def _phases(case: str, programs: Mapping[str, Sequence[Row]]) -> list[Table]:
    shares = {program: _by(of, TIME, "phase") for program, of in programs.items()}
    largest: dict[str, float] = {}
    for of in shares.values():
        for phase, share in of.items():
            largest[phase] = max(share, largest.get(phase, 0.0))
    unnamed = (profile_report.COPIES, profile_report.NO_SCOPE)
    order = sorted(largest, key=lambda phase: (phase in unnamed, -largest[phase]))
    cells = [
        [program, *(f"{of[phase]:.0f} %" if phase in of else "–" for phase in order)]
        for program, of in shares.items()
        if of
    ]
    return [(f"{case}: share of time by phase", ("program", *order), cells)] if cells else []


def _by(rows: Sequence[Row], metric: str, parameter: str) -> dict[str, float]:
    """The values of a metric by one of its parameters."""
    return {str(row.parameters[parameter]): row.value or 0.0 for row in rows if row.metric == metric}
