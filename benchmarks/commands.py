"""The commands behind `python -m benchmarks`."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import difflib
import functools
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

from benchmarks import console, papers, report, runner, suites
from benchmarks.compare import Comparison, Verdict, warnings
from benchmarks.compare import compare as compare_results
from benchmarks.measure import BUDGETS, Program
from benchmarks.papers import report as paper_report
from benchmarks.papers import study as paper_study
from benchmarks.papers.progress import Progress as PaperProgress
from benchmarks.results import Results, Row
from benchmarks.suites import Case, Settings, Suite
from benchmarks.workloads import check_inputs
from jaxrl_agents.outputs import check_folder

Programs = dict[str, Callable[[], Program]]  # by name: suite/case/program

INTERRUPTED = 130  # what a shell reports after Ctrl-C


def run(options: argparse.Namespace) -> int:
    """Measures, and writes results, report and plots."""
    settings = _settings(options)
    selected = suites.select(options.suites, settings)
    check_inputs(settings, {suite.name for suite, _ in selected})
    folder = options.out or _new_folder(settings.budget.name)
    _make_folder(folder)
    results, out, interrupted = _measured(selected, settings, options.suites, folder)
    chosen = list(dict.fromkeys(suite.name for suite, _ in selected))
    report.write(results, [suites.load(name) for name in chosen], folder / "report.md")
    with_targets = console.figures(results.rows)
    if with_targets:
        out.print(console.table("Figures with a target", with_targets, with_case=True), "")
    return _ended(results, out, interrupted, folder)


def _measured(
    selected: Sequence[tuple[Suite, Case]], settings: Settings, wanted: Sequence[str], folder: Path
) -> tuple[Results, Any, bool]:
    """What was measured and written to the folder's `results.json`, the console, and whether Ctrl-C cut it short."""
    path = folder / "results.json"
    _forget_compilations()
    with console.Progress(len(selected)) as progress:
        try:
            return runner.run(selected, settings, wanted, path, progress), progress.console, False
        except KeyboardInterrupt:
            return Results.load(path), progress.console, True


def _ended(results: Results, out: Any, interrupted: bool, folder: Path) -> int:
    """Says where the report is; the status to exit with."""
    show = functools.partial(out.print, soft_wrap=True, highlight=False)
    show(str(folder / "report.md"), style="bold")
    if interrupted:
        show(f"interrupted; the same command with `--out {folder}` goes on from here")
        return INTERRUPTED
    return 1 if any(row.status == "failed" for row in results.rows) else 0


def compare(options: argparse.Namespace) -> int:
    """Prints the ratios of two results."""
    a, b = Results.load(options.a), Results.load(options.b)
    out = console.terminal()
    for warning in warnings(a, b):
        out.print(f"warning: {warning}", style="yellow", highlight=False)
    pairs = compare_results(a, b)
    out.print(_comparison_table(pairs))
    counts = {verdict: sum(pair.verdict == verdict for pair in pairs) for verdict in STYLES}
    out.print(", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count))
    return 0


def profile(options: argparse.Namespace) -> int:
    """Prints where the time of programs goes, and writes their traces and a report."""
    settings = _settings(options)
    programs = _selected_programs(options.programs, settings)
    check_inputs(settings, {name.partition("/")[0] for name in programs})
    folder = options.out or _new_folder("profile")
    _make_folder(folder)
    if len(programs) == 1 and list(programs) == options.programs:
        return _profile_one(*programs.popitem(), settings, folder)
    return _profile_all(programs, options.programs, settings, folder)


def _profile_one(name: str, make: Callable[[], Program], settings: Settings, folder: Path) -> int:
    from benchmarks import profile_report, profiling

    _forget_compilations()
    found = profiling.profile(name, make(), settings.budget, folder)
    out = console.terminal()
    profile_report.show(found, out)
    out.print(f"\n{profile_report.write(found, folder)}", style="bold", highlight=False)
    return 0


def _profile_all(programs: Programs, wanted: Sequence[str], settings: Settings, folder: Path) -> int:
    """One after the other, each with a folder of its own; then what they have in common as a report."""
    from benchmarks import profile_report, profiles

    selected = profiles.cases(programs, settings.budget, folder)
    results, out, interrupted = _measured(selected, settings, [f"{profiles.NAME}/{name}" for name in wanted], folder)
    profiles.write(results, folder / "report.md")
    profile_report.show_tables(profiles.tables(results.rows), out)
    out.print(f"each program's own profile and trace: {folder}/<program>/", soft_wrap=True, highlight=False)
    return _ended(results, out, interrupted, folder)


def list_cases(options: argparse.Namespace) -> int:
    """Names what there is to run and to profile, each with what it measures."""
    out = console.terminal()
    show = functools.partial(out.print, highlight=False, markup=False)
    selected = suites.select((), _settings(options))
    for suite in dict.fromkeys(suite for suite, _ in selected):
        show(f"{suite.name}: {suite.title}", style="bold")
        view = console.rich("table").Table(show_header=False, box=None, padding=(0, 2, 0, 2))
        view.add_column(no_wrap=True)
        view.add_column()
        for case in (case for of, case in selected if of is suite):
            view.add_row(f"{suite.name}/{case.name}", case.summary)
            if case.programs:
                view.add_row("", f"programs: {', '.join(case.programs)}", style="dim")
        out.print(view)
        out.print()
    show("run SUITE or SUITE/CASE measures; profile SUITE/CASE or SUITE/CASE/PROGRAM shows where a program's time goes")
    return 0


def papers_command(options: argparse.Namespace) -> int:
    """Repeats a paper's experiments: prints its tables beside ours, and writes results, report and plots."""
    paper = papers.load(options.paper)
    settings = papers.settings(paper, options.budget, options.seeds, options.seed, options.levels)
    folder = options.out or _new_folder(paper.name)
    _make_folder(folder)
    command = f"python -m benchmarks papers {paper.name} --budget {settings.budget}"
    command += f" --seeds {settings.num_seeds} --seed {settings.seed}"
    command += "" if settings.levels is None else f" --levels {shlex.quote(settings.levels)}"
    with PaperProgress() as progress:
        progress.say(f"{paper.title}, {settings.budget}: {paper.budgets[settings.budget].summary}")
        progress.say(f"results in {folder}")
        try:
            found = paper.study(settings, folder, progress)
        except KeyboardInterrupt:
            again = f"{command} --out {shlex.quote(str(folder))}"
            progress.say(f"interrupted; finished runs are kept in {folder / 'runs'}, `{again}` goes on from there")
            return INTERRUPTED
    paper_study.save(found, paper.name, dataclasses.asdict(settings), folder / "results.json")
    paper_report.write(found, paper.title, command, folder / "report.md")
    paper_report.show(found, progress.console)
    progress.say(str(folder / "report.md"), style="bold")
    return 0


def _selected_programs(wanted: Sequence[str], settings: Settings) -> Programs:
    """The programs that are named, or whose names begin with what is named as a suite or a case."""
    known = _programs(settings)
    selected: Programs = {}
    for name in wanted:
        matching = _below(name, known)
        if not matching:
            raise ValueError(_no_program(name, known, settings))
        selected.update(matching)
    return selected


def _below(name: str, known: Programs) -> Programs:
    return {program: make for program, make in known.items() if f"{program}/".startswith(f"{name}/")}


def _no_program(name: str, known: Programs, settings: Settings) -> str:
    """Why `name` names none: there is none, or it takes other options."""
    options = suites.options_with(settings, lambda other: _below(name, _programs(other)))
    if options:
        return f"{name!r} is measured only with `{options}`"
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.3)
    hint = f"; close to it: {', '.join(close)}" if close else ""
    return f"{name!r} is no program that `python -m benchmarks list` names, and no case with any{hint}"


def _programs(settings: Settings) -> Programs:
    return {
        f"{suite.name}/{case.name}/{program}": make
        for suite, case in suites.select((), settings)
        for program, make in case.programs.items()
    }


def _settings(options: argparse.Namespace) -> Settings:
    for name in ("levels", "products"):
        path: Path | None = getattr(options, name)
        if path is not None and not path.exists():
            raise FileNotFoundError(f"--{name} {path}: there is no such file or folder")
    return Settings(BUDGETS[options.budget], options.peers, options.levels, options.products)


def _make_folder(folder: Path) -> None:
    check_folder("--out", folder)
    folder.mkdir(parents=True, exist_ok=True)


def _new_folder(kind: str) -> Path:
    return Path("results") / f"{datetime.datetime.now():%Y-%m-%d-%H%M%S}-{kind}"


def _forget_compilations() -> None:
    """Compile times are measured: a cache on disk would hide them."""
    jax.config.update("jax_enable_compilation_cache", False)


STYLES: dict[Verdict, str] = {
    "better": "green", "worse": "red", "changed": "cyan", "lost": "yellow", "new": "yellow", "same": "dim",
    "not separated": "dim",
}  # fmt: skip


def _comparison_table(pairs: list[Comparison]) -> object:
    view = console.rich("table").Table(header_style="dim", box=None)
    for name, justify in (("case", "left"), ("metric", "left"), ("of", "left"), ("batch", "right")):
        view.add_column(name, justify=justify)
    for name in ("A", "B", "B / A"):
        view.add_column(name, justify="right")
    view.add_column("verdict")
    shown = lambda row: "–" if row is None else console.quantity(row)
    for pair in pairs:
        row: Row = pair.row
        ratio = "" if pair.ratio is None else f"{pair.ratio:.3f}"
        batch = f"{row.batch_size:,}" if row.batch_size else ""
        cells = (row.case, row.metric, console.label(row), batch, shown(pair.a), shown(pair.b), ratio, pair.verdict)
        view.add_row(*cells, style=STYLES[pair.verdict])
    return view


COMMANDS = {"run": run, "compare": compare, "profile": profile, "list": list_cases, "papers": papers_command}
