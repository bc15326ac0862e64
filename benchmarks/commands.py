"""The commands behind `python -m benchmarks`."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import difflib
import functools
import shlex
from collections.abc import Callable
from pathlib import Path

import jax

from benchmarks import console, papers, report, runner, suites
from benchmarks.compare import Comparison, Verdict, warnings
from benchmarks.compare import compare as compare_results
from benchmarks.measure import BUDGETS, Program
from benchmarks.papers import report as paper_report
from benchmarks.papers import study as paper_study
from benchmarks.papers.progress import Progress as PaperProgress
from benchmarks.results import Results, Row
from benchmarks.suites import Settings
from benchmarks.workloads import check_inputs

INTERRUPTED = 130  # what a shell reports after Ctrl-C


def run(options: argparse.Namespace) -> int:
    """Measures, and writes results, report and plots."""
    settings = _settings(options)
    selected = suites.select(options.suites, settings)
    check_inputs(settings, {suite.name for suite, _ in selected})
    folder = options.out or _new_folder(settings.budget.name)
    _make_folder(folder)
    path = folder / "results.json"
    _forget_compilations()
    interrupted = False
    with console.Progress(len(selected)) as progress:
        try:
            results = runner.run(selected, settings, options.suites, path, progress)
        except KeyboardInterrupt:
            interrupted, results = True, Results.load(path)
    chosen = list(dict.fromkeys(suite.name for suite, _ in selected))
    report.write(results, [suites.load(name) for name in chosen], folder / "report.md")
    show = functools.partial(progress.console.print, soft_wrap=True, highlight=False)
    with_targets = console.figures(results.rows)
    if with_targets:
        progress.console.print(console.table("Figures with a target", with_targets, with_case=True), "")
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
    """Prints where the time of one program goes, and writes its trace and a report."""
    from benchmarks import profile_report, profiling

    settings = _settings(options)
    make = _program(options.case, settings)
    check_inputs(settings, {options.case.partition("/")[0]})
    folder = options.out or _new_folder("profile")
    _make_folder(folder)
    _forget_compilations()
    found = profiling.profile(options.case, make(), settings.budget, folder)
    out = console.terminal()
    profile_report.show(found, out)
    (folder / "profile.md").write_text(profile_report.markdown(found), encoding="utf-8")
    out.print(f"\n{folder / 'profile.md'}", style="bold", highlight=False)
    return 0


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
    show("run SUITE or SUITE/CASE measures; profile SUITE/CASE/PROGRAM shows where a program's time goes")
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
        try:
            found = paper.study(settings, folder, progress)
        except KeyboardInterrupt:
            goes_on = f"; `{command} --out {shlex.quote(str(folder))}` goes on from here" if paper.resumable else ""
            progress.say(f"interrupted{goes_on}")
            return INTERRUPTED
    paper_study.save(found, paper.name, dataclasses.asdict(settings), folder / "results.json")
    paper_report.write(found, paper.title, command, folder / "report.md")
    paper_report.show(found, progress.console)
    progress.say(str(folder / "report.md"), style="bold")
    return 0


def _program(name: str, settings: Settings) -> Callable[[], Program]:
    known = _programs(settings)
    if name not in known:
        options = suites.options_with(settings, lambda other: name in _programs(other))
        if options:
            raise ValueError(f"{name!r} is measured only with `{options}`")
        close = difflib.get_close_matches(name, known, n=3, cutoff=0.3)
        hint = f"; close to it: {', '.join(close)}" if close else ""
        raise ValueError(f"{name!r} is no program that `python -m benchmarks list` names{hint}")
    return known[name]


def _programs(settings: Settings) -> dict[str, Callable[[], Program]]:
    return {
        f"{suite.name}/{case.name}/{arm}": make
        for suite, case in suites.select((), settings)
        for arm, make in case.programs.items()
    }


def _settings(options: argparse.Namespace) -> Settings:
    for name in ("levels", "products"):
        path: Path | None = getattr(options, name)
        if path is not None and not path.exists():
            raise FileNotFoundError(f"--{name} {path}: there is no such file or folder")
    return Settings(BUDGETS[options.budget], options.peers, options.levels, options.products)


def _make_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"--out {folder}: there is a file of this name, and no folder can be made")
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
