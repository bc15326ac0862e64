"""`python -m jaxrl_agents solve`: solves whole files of Sokoban levels and writes the plans."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import jax
import numpy as np

from envs_jax.sokoban import levels as level_files
from envs_jax.sokoban.board import Layout
from envs_jax.sokoban.generator import Difficulty, generate
from envs_jax.sokoban.types import SokobanTask
from envs_jax.tasks import TaskBank
from jaxrl_agents.search.best_first import Mode, Progress, SolveResult, Status, solve

LEVELS_WORTH_A_DEVICE = 64

_REASONS = {
    Status.UNSOLVABLE: "proven unsolvable",
    Status.NODE_LIMIT: "more than {arguments.max_nodes:,} nodes (--max-nodes)",
    Status.TIME_LIMIT: "more than {arguments.time_limit:g} seconds (--time-limit)",
    Status.MEMORY_LIMIT: "more than {arguments.memory:g} GiB of memory (--memory)",
}


def add_parser(commands: Any) -> None:
    """Adds the command to an argparse subparser collection."""
    command = commands.add_parser(
        "solve",
        help="solve Sokoban levels",
        description="Solves all levels of Boxoban and XSB files, thousands at once, and prints what it found.",
    )
    command.add_argument(
        "levels", nargs="*", type=Path, metavar="LEVELS", help="files, or folders of .txt and .xsb files"
    )
    command.add_argument("--mode", choices=get_args(Mode), default="optimal", help="fewest pushes, or any plan, faster")
    command.add_argument("--out", type=Path, metavar="FILE", help="write the plans there, a line of LURD text a level")
    command.add_argument("--max-nodes", type=int, default=1_000_000, metavar="N", help="a level (default %(default)s)")
    command.add_argument("--time-limit", type=float, metavar="SECONDS", help="for all levels together")
    command.add_argument("--memory", type=float, default=4, metavar="GIB", help="for the search (default %(default)s)")
    command.add_argument("--devices", type=int, metavar="N", help="devices, or CPU cores, to use (default: all)")
    generated = command.add_argument_group("generated levels, instead of LEVELS")
    generated.add_argument("--generate", type=int, metavar="N", help="solve N generated levels")
    generated.add_argument("--size", type=int, nargs=2, default=(10, 10), metavar=("HEIGHT", "WIDTH"))
    generated.add_argument("--boxes", type=int, default=4, metavar="N")
    generated.add_argument("--difficulty", choices=get_args(Difficulty), default="medium")
    generated.add_argument("--seed", type=int, default=0)
    command.set_defaults(run=run)


@dataclasses.dataclass(frozen=True)
class Batch:
    """Levels on boards of one size."""

    layout: Layout
    tasks: TaskBank[SokobanTask]
    index: np.ndarray  # of each level among all


def run(arguments: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    if bool(arguments.levels) == (arguments.generate is not None):
        raise ValueError("name level files or folders, or give --generate N, but not both")
    if arguments.out is not None and not arguments.out.absolute().parent.is_dir():
        raise ValueError(f"--out {arguments.out}: there is no folder {arguments.out.parent}")
    devices = _devices(arguments.devices)
    names, batches = _levels(arguments)
    devices = devices[: max(1, -(-len(names) // LEVELS_WORTH_A_DEVICE))]
    print(f"{len(names):,} levels, {len(devices)} {devices[0].platform} device{'s'[: len(devices) > 1]}", flush=True)
    with _live_progress(len(names)) as show:
        results = _solve_all(batches, arguments, devices, show)
    if arguments.out is not None:
        _write(arguments.out, names, batches, results, arguments)
    _print_summary(names, batches, results, arguments)
    return 0


def _devices(wanted: int | None) -> list[jax.Device]:
    """The devices to use; on a CPU as many as cores, which must be asked for before JAX starts."""
    if wanted is not None and wanted < 1:
        raise ValueError(f"--devices {wanted}: at least 1 is needed")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(RuntimeError):  # JAX runs already: what it has must do
        jax.config.update("jax_num_cpu_devices", wanted or cores)
    devices = jax.devices()
    if wanted is not None and wanted > len(devices):
        raise ValueError(f"--devices {wanted}: there are {len(devices)}")
    return devices[:wanted]


def _levels(arguments: argparse.Namespace) -> tuple[list[str], list[Batch]]:
    """(name of each level, the levels in batches)."""
    if arguments.generate is None:
        return batches_of(level_files.read(arguments.levels))
    layout = Layout(*arguments.size)
    tasks = generate(
        jax.random.key(arguments.seed),
        arguments.generate,
        layout=layout,
        num_boxes=arguments.boxes,
        difficulty=arguments.difficulty,
    )
    names = [f"generated level {i}" for i in range(len(tasks))]
    return names, [Batch(layout, tasks, np.arange(len(tasks)))]


def batches_of(found: level_files.Levels) -> tuple[list[str], list[Batch]]:
    """(name of each level, the levels by size): small boards are not searched on the boards of large ones."""
    words = -(-np.prod(found.sizes - 2, axis=1) // 32)
    scale = np.ceil(np.log2(words)).astype(int)
    batches = []
    for value in np.unique(scale):
        index = np.flatnonzero(scale == value)
        some = level_files.Levels(
            found.codes[index], found.sizes[index], tuple(found.sources[i] for i in index), found.lines[index]
        )
        layout = Layout(*some.sizes.max(axis=0).tolist())
        batches.append(Batch(layout, some.bank(layout), index))
    return [found.where(i) for i in range(len(found))], batches


def _solve_all(
    batches: Sequence[Batch],
    arguments: argparse.Namespace,
    devices: Sequence[jax.Device],
    show: Callable[[Progress], None],
) -> list[SolveResult]:
    """Solves all batches; `show` hears of them as of one."""
    results: list[SolveResult] = []
    for batch in batches:
        seconds = sum(result.seconds for result in results)
        left = None if arguments.time_limit is None else max(arguments.time_limit - seconds, 1e-9)

        def relay(progress: Progress, done: float = seconds) -> None:
            solved = sum(int(result.solved.sum()) for result in results)
            given_up = sum(len(result.status) for result in results) - solved
            nodes = sum(int(result.expanded.sum()) for result in results)
            show(
                Progress(
                    sum(len(batch.index) for batch in batches),
                    progress.solved + solved,
                    progress.given_up + given_up,
                    progress.expanded + nodes,
                    progress.seconds + done,
                )
            )

        results.append(
            solve(
                batch.tasks,
                layout=batch.layout,
                mode=arguments.mode,
                max_nodes=arguments.max_nodes,
                time_limit=left,
                memory_limit=int(arguments.memory * 2**30),
                devices=devices,
                on_progress=relay,
            )
        )
    return results


@contextlib.contextmanager
def _live_progress(total: int) -> Iterator[Callable[[Progress], None]]:
    """A function that shows how far the search is, in a line of the terminal; one that does nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda progress: None
        return
    try:
        from rich import console, progress
    except ImportError:
        print('no live progress without rich: pip install "envs-jax[bench]"', file=sys.stderr)
        yield lambda progress: None
        return
    text = progress.TextColumn("{task.description}")
    with progress.Progress(
        progress.SpinnerColumn(), progress.BarColumn(), text, console=console.Console(stderr=True), transient=True
    ) as bar:
        task = bar.add_task("compiling", total=total)

        def show(state: Progress) -> None:
            decided = state.solved + state.given_up
            rate = decided / max(state.seconds, 1e-9)
            line = f"{state.solved:,} of {total:,} solved, {state.given_up:,} given up, {state.expanded:,} nodes, "
            bar.update(task, completed=decided, description=f"{line}{rate:,.0f} levels/s")

        yield show


def _write(
    path: Path,
    names: Sequence[str],
    batches: Sequence[Batch],
    results: Sequence[SolveResult],
    arguments: argparse.Namespace,
) -> None:
    """Writes one line a level, replacing the file only when the new one is complete."""
    lines = [""] * len(names)
    for batch, result in zip(batches, results, strict=True):
        for row, level in enumerate(batch.index):
            reason = _reason(result.status[row], arguments)
            lines[level] = f"; {names[level]}: {reason}" if reason else result.lurd(row)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    os.replace(partial, path)


def _reason(status: int, arguments: argparse.Namespace) -> str:
    """Why a level has no plan; empty where it has one."""
    return _REASONS.get(Status(int(status)), "").format(arguments=arguments)


def _print_summary(
    names: Sequence[str], batches: Sequence[Batch], results: Sequence[SolveResult], arguments: argparse.Namespace
) -> None:
    for batch, result in zip(batches, results, strict=True):
        for row in np.flatnonzero(~result.solved):
            print(f"gave up on {names[batch.index[row]]}: {_reason(result.status[row], arguments)}")
    together = lambda name: np.concatenate([getattr(result, name) for result in results])
    solved, pushes, moves = together("solved"), together("pushes"), together("moves")
    seconds, compiling = (sum(getattr(result, name) for result in results) for name in ("seconds", "compile_seconds"))
    how = "with the fewest pushes" if arguments.mode == "optimal" else "(plans need not be shortest)"
    print(f"solved     {solved.sum():,} of {len(names):,} levels {how}")
    if solved.any():
        for name, numbers in (("pushes", pushes[solved]), ("moves", moves[solved])):
            print(f"{name:10} {numbers.sum():,}; median {np.median(numbers):g}, most {numbers.max():,} a level")
    print(f"nodes      {together('expanded').sum():,} expanded, {together('generated').sum():,} generated")
    print(f"time       {seconds:.2f} s and {compiling:.1f} s for compilation; {len(names) / seconds:,.0f} levels/s")
    if arguments.out is not None:
        print(f"plans      {arguments.out}")
