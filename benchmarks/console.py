"""What a run shows on the terminal while it works, and the tables that it prints."""

from __future__ import annotations

import functools
import importlib
import time
from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.results import Row

SI = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
COLOURS = {"pass": "green", "miss": "red", "failed": "red", "unavailable": "yellow"}


def rich(module: str) -> Any:
    """A module of rich, imported when it is needed."""
    try:
        return importlib.import_module(f"rich.{module}")
    except ImportError as error:
        raise ImportError('the benchmarks need rich: pip install "envs-jax[bench]"') from error


def number(value: float, unit: str = "", like: float | None = None) -> str:
    """Three significant digits; many things a second with an SI prefix, that of `like` where it is given."""
    reference = abs(value if like is None else like)
    if unit.endswith("/s"):
        for factor, prefix in SI:
            if reference >= factor:
                return f"{_digits(value / factor)} {prefix}"
    return _digits(value)


def _digits(value: float) -> str:
    if value == round(value) or abs(value) >= 1e3:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def quantity(row: Row) -> str:
    """The value of a row with its unit, or its status."""
    if row.value is None:
        return row.status
    return f"{number(row.value, row.unit)} {row.unit}".strip()


def interval(row: Row) -> str:
    """The range from the 10th to the 90th percentile; empty for a single value."""
    if row.repeats < 2 or row.p10 is None or row.p90 is None:
        return ""
    low, high = (number(value, row.unit, like=row.value) for value in (row.p10, row.p90))
    return f"{low.split(' ')[0]} – {high}"


def label(row: Row) -> str:
    """What tells the row apart from others of its case and metric."""
    return " ".join(str(value) for value in row.parameters.values())


def verdict(row: Row) -> str:
    """The target of a row and whether it is met."""
    if row.target is None:
        return ""
    value = number(row.target.value, row.unit)
    bound = {">=": f"≥ {value}", "<=": f"≤ {value}", "±": f"{value} ± {number(row.target.tolerance, row.unit)}"}
    wanted = f"{bound[row.target.op]} {row.unit}".strip()
    return f"{wanted} {row.verdict}".strip()


def table(title: str, rows: Iterable[Row], *, with_case: bool = False) -> Any:
    """A rich table of rows."""
    view = rich("table").Table(title=title, title_justify="left", title_style="bold", header_style="dim", box=None)
    if with_case:
        view.add_column("case", no_wrap=True)
    view.add_column("metric", min_width=16)
    view.add_column("of", min_width=10)
    for name in ("batch", "median", "p10 – p90", "compile"):
        view.add_column(name, justify="right", no_wrap=True)
    view.add_column("target", no_wrap=True)
    for row in rows:
        view.add_row(*([row.case] if with_case else []), *cells(row), style=COLOURS.get(row.verdict or row.status, ""))
    return view


def cells(row: Row) -> tuple[str, str, str, str, str, str, str]:
    """A row as text: metric, what of, batch size, median, spread, compile time, target."""
    return (
        row.metric,
        label(row),
        f"{row.batch_size:,}" if row.batch_size else "",
        quantity(row),
        interval(row),
        f"{row.compile_seconds:.1f} s" if row.compile_seconds is not None else "",
        verdict(row),
    )


def terminal() -> Any:
    """The console; wide enough for the tables where the output is not a terminal."""
    kind = _console()
    console = kind()
    return console if console.is_terminal else kind(width=140)


def _console() -> type:
    """The console's class, which leaves it to the command line what happens when the output's reader leaves."""

    class Console(rich("console").Console):  # type: ignore[misc]
        def on_broken_pipe(self) -> None:
            raise  # the BrokenPipeError that this is called for

    return Console


WIDTHS = (28, 30, 9, 20, 17, 8)  # of a row's columns while it is one of many that come one by one; the target ends it


def line(row: Row) -> str:
    """A row as one line, in columns that need not know the other rows."""
    *first, target = cells(row)
    left, right = first[:2], first[2:]
    padded = [text.ljust(width) for text, width in zip(left, WIDTHS[:2], strict=True)]
    padded += [text.rjust(width) for text, width in zip(right, WIDTHS[2:], strict=True)]
    return f"  {' '.join(padded)}  {target}".rstrip()


def progress_bar(console: Any) -> Any:
    """A bar for one task, with its count and time; hidden where the console is no terminal."""
    columns = rich("progress")
    return columns.Progress(
        columns.SpinnerColumn(),
        columns.TextColumn("{task.description}"),
        columns.BarColumn(),
        columns.MofNCompleteColumn(),
        columns.TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )


class Progress:
    """Live progress of a run: a bar with the case under way, and each row as soon as it is measured."""

    def __init__(self, total: int) -> None:
        self.console = terminal()
        self.bar = progress_bar(self.console)
        self.task = self.bar.add_task("starting", total=total)
        self.case_started = time.perf_counter()

    def __enter__(self) -> Progress:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def started(self, case: str) -> None:
        """Shows the case that begins."""
        self.bar.update(self.task, description=case)
        self.case_started = time.perf_counter()
        self.console.print(case, style="bold", markup=False, highlight=False)

    def measured(self, row: Row) -> None:
        """Shows a row; with the reason where it has no value."""
        show = functools.partial(self.console.print, markup=False, highlight=False, soft_wrap=True)
        show(line(row), style=COLOURS.get(row.verdict or row.status, ""))
        if row.status != "ok":
            show(f"    {row.note}", style="yellow")

    def ended(self, case: str) -> None:
        """Counts the case, and says how long it took."""
        seconds = time.perf_counter() - self.case_started
        self.console.print(f"  ({seconds:.0f} s)\n", style="dim", highlight=False)
        self.bar.update(self.task, advance=1)


def figures(rows: Sequence[Row]) -> list[Row]:
    """The rows that have a target."""
    return [row for row in rows if row.target is not None]
