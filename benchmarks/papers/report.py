"""The report of a study: `report.md`, and the same tables on the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks import console, machine
from benchmarks.papers.study import Claim, Study, Table, Verdict
from benchmarks.report import machine_line, markdown_table
from envs_jax.files import replaced

COLOURS: dict[Verdict, str] = {
    "holds": "green", "does not hold": "red", "not separated": "yellow", "not tested": "dim",
}  # fmt: skip


def write(study: Study, title: str, command: str, path: Path) -> None:
    """Writes the report; the plots that it shows lie beside it already."""
    with replaced(path) as partial:
        partial.write_text(markdown(study, title, command), encoding="utf-8")


def markdown(study: Study, title: str, command: str) -> str:
    """The report as Markdown. Everything above "Time" is the same whenever the command is run with the same seed."""
    lines = [f"# {title}", "", study.summary, "", f"`{command}`", "", "## Claims", "", *_claims(study), ""]
    for table in study.tables:
        lines += _table("##", table)
    for plot in study.plots:
        lines += [f"![{plot.caption}]({plot.file})", "", f"*{plot.caption}*", ""]
    lines += ["## Time", "", f"Machine: {machine_line(machine.fingerprint())}.", ""]
    lines += [*markdown_table(("part", "seconds"), [(part, f"{s:.1f}") for part, s in study.timings.items()]), ""]
    for table in study.time_tables:
        lines += _table("###", table)
    return "\n".join(lines)


def _table(heading: str, table: Table) -> list[str]:
    return [
        f"{heading} {table.title}", "", *markdown_table(table.header, table.rows), "",
        *([table.note, ""] if table.note else []),
    ]  # fmt: skip


def _claims(study: Study) -> list[str]:
    cells = [(claim.claim, f"**{claim.verdict}**", claim.found) for claim in study.claims]
    return markdown_table(("the paper", "verdict", "found"), cells)


def show(study: Study, out: Any) -> None:
    """Prints the tables, the claims and the time."""
    for table in (*study.tables, *study.time_tables):
        out.print(_view(table))
        if table.note:
            out.print(table.note, style="dim", markup=False, highlight=False)
        out.print()
    out.print("Claims", style="bold")
    for claim in study.claims:
        _show_claim(claim, out)
    spent = ", ".join(f"{part} {seconds:.1f} s" for part, seconds in study.timings.items())
    out.print(f"\nTime: {spent}", style="dim", markup=False, highlight=False)


def _show_claim(claim: Claim, out: Any) -> None:
    text = console.rich("text").Text
    out.print(text(f"  {claim.verdict}: ", style=COLOURS[claim.verdict]) + text(claim.claim, style="default"))
    out.print(text(f"    {claim.found}", style="dim"))


def _view(table: Table) -> Any:
    view = console.rich("table").Table(
        title=table.title, title_justify="left", title_style="bold", header_style="dim", box=None
    )
    for i, name in enumerate(table.header):
        view.add_column(name, justify="left" if i == 0 else "right")
    for row in table.rows:
        view.add_row(*row)
    return view
