"""`report.md`: the figures and their targets, every table and plot, and what could not be measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.console import cells, figures, label
from benchmarks.results import Results, Row
from benchmarks.suites import Suite
from envs_jax.files import replaced

METHOD = """Each value is the median over the repeats, with the range from the 10th to the 90th percentile. Arms of one
case run in turn, repeat by repeat, and a ratio is the median of the ratios within a repeat. Compile time is apart;
inputs are arguments of the compiled loop, every outcome is added up, and the clock stops when the device is done.
Random actions are drawn in the loop, from one threefry word each, for ours and for the JAX peers alike. First episodes
start at random times of their limits."""


def write(results: Results, suites: Sequence[Suite], path: Path) -> None:
    """Writes the report, and beside it the plots that it shows."""
    text = render(results, [(suite, _plots(suite, results, path.parent)) for suite in suites])
    with replaced(path) as partial:
        partial.write_text(text, encoding="utf-8")


def render(results: Results, suites: Sequence[tuple[Suite, list[str]]]) -> str:
    """The report as Markdown; with each suite the lines that show its plots."""
    lines = ["# Benchmark results", "", *head(results), ""]
    with_targets = figures(results.rows)
    if with_targets:
        lines += ["## Figures with a target", "", *_table(with_targets, with_case=True), ""]
    for suite, plots in suites:
        rows = [row for row in results.rows if row.suite == suite.name]
        lines += [f"## {suite.title}", "", *plots]
        for case in dict.fromkeys(row.case for row in rows):
            lines += [f"### {case}", "", *_table([row for row in rows if row.case == case]), ""]
    return "\n".join([*lines, *not_measured(results.rows), "## How it was measured", "", METHOD, ""])


def not_measured(rows: Iterable[Row]) -> list[str]:
    """The lines on rows without a value; none where every row has one."""
    missing = [row for row in rows if row.status != "ok"]
    where = lambda row: " ".join(f"**{row.suite}/{row.case}** {row.metric} {label(row)}".split())
    lines = [f"- {where(row)}: {row.status}. {row.note}" for row in missing]
    return ["## Not measured", "", *lines, ""] if missing else []


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table; bars in cells are escaped."""
    line = lambda texts: "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |"
    return [line(header), "|" + "|".join("---" for _ in header) + "|", *map(line, rows)]


def machine_line(machine: dict[str, Any]) -> str:
    """The machine in one line."""
    accelerators = ", ".join(machine["accelerators"]) or "no accelerator"
    cores = "1 core" if machine["cores"] == 1 else f"{machine['cores']} cores"
    return f"{machine['cpu']}, {cores}, {machine['memory_gib']} GiB, {accelerators}, {machine['system']}"


def head(results: Results) -> list[str]:
    """The lines on the machine, the versions and what was asked for."""
    asked = results.settings
    given = [f"`--{name}`" for name in ("peers", "levels", "products") if asked.get(name)]
    state = "" if results.complete else " **The run was interrupted: these are the cases that were done.**"
    return [
        f"Machine: {machine_line(results.machine)}; load average at the start {results.machine['load_average']}.",
        "",
        "Versions: " + ", ".join(f"{name} {version}" for name, version in results.versions.items()) + ".",
        "",
        f"Run: {', '.join(asked['suites']) or 'every suite'}, budget {asked['budget']}"
        + (f", with {', '.join(given)}" if given else "")
        + f"; {results.seconds:.0f} s.{state}",
    ]


def _table(rows: Sequence[Row], *, with_case: bool = False) -> list[str]:
    header = ["metric", "of", "batch", "median", "p10 – p90", "compile", "target", "note"]
    header = ["case", *header] if with_case else header
    return markdown_table(header, [_cells(row, with_case) for row in rows])


def _cells(row: Row, with_case: bool) -> list[str]:
    *start, target = cells(row)
    note = row.note if row.status == "ok" else ""
    return [*([row.case] if with_case else []), *start, target.replace("miss", "**miss**"), note]


def _plots(suite: Suite, results: Results, folder: Path) -> list[str]:
    rows = [row for row in results.rows if row.suite == suite.name]
    plots = suite.plots(rows, folder)
    return [line for plot in plots for line in (f"![{plot.caption}]({plot.file})", "", f"*{plot.caption}*", "")]
