"""`python -m jaxrl_agents solve`: solves whole files of Sokoban levels and writes the plans."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import math
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import jax
import numpy as np

from envs_jax import host_memory
from envs_jax.files import replaced
from envs_jax.host_cores import available_cores
from envs_jax.sokoban import levels as level_files
from envs_jax.sokoban.board import Layout
from envs_jax.sokoban.generator import Difficulty, generate
from envs_jax.sokoban.types import SokobanTask
from envs_jax.tasks import TaskBank
from jaxrl_agents.argument_types import count, seed
from jaxrl_agents.outputs import check_file, counts_on_terminal, lines_of_progress
from jaxrl_agents.search.best_first import Mode, Progress, SolveResult, Status, is_compiling, solve
from jaxrl_agents.search.best_first.bounds import MAX_CELLS, TOO_LONG

LEVELS_WORTH_A_DEVICE = 64
_SHOW_CURSOR = "\x1b[?25h"  # rich hides it
_LEVEL_BYTES = 2 << 10  # on the host, measured: a small level, its short plan and the arrays that hold them

_REASONS = {
    Status.UNSOLVABLE: "proven unsolvable",
    Status.NODE_LIMIT: "{nodes} expanded (--max-nodes)",
    Status.TIME_LIMIT: "more than {arguments.time_limit:g} seconds (--time-limit)",
    Status.MEMORY_LIMIT: "more than {arguments.memory:g} GiB of memory (--memory)",
    Status.INTERRUPTED: "interrupted",
    Status.LENGTH_LIMIT: f"no plan of less than {TOO_LONG:,} pushes, the most that a search can count",
}
_GENERATOR_DEFAULTS = {"size": (10, 10), "boxes": 4, "difficulty": "medium", "seed": 0}


def add_parser(commands: Any) -> None:
    """Adds the command to an argparse subparser collection."""
    command = commands.add_parser(
        "solve",
        help="solve Sokoban levels",
        description="Solves all levels of Boxoban and XSB files, thousands at once, and prints what it found.",
    )
    command.add_argument("levels", nargs="*", metavar="LEVELS", help="files, or folders of .txt and .xsb files")
    command.add_argument("--mode", choices=get_args(Mode), default="optimal", help="fewest pushes, or any plan")
    command.add_argument("--out", type=Path, metavar="FILE", help="write the plans there, a line of LURD text a level")
    command.add_argument(
        "--max-nodes", type=count, default=1_000_000, metavar="N", help="a level (default %(default)s)"
    )
    command.add_argument("--time-limit", type=_amount, metavar="SECONDS", help="for all levels together")
    command.add_argument(
        "--memory", type=_gibibytes, default=4, metavar="GIB", help="for the search (default %(default)s)"
    )
    command.add_argument("--devices", type=count, metavar="N", help="devices, or CPU cores, to use (default: all)")
    generated = command.add_argument_group("generated levels, instead of LEVELS")
    generated.add_argument("--generate", type=count, metavar="N", help="solve N generated levels")
    generated.add_argument("--size", type=count, nargs=2, metavar=("HEIGHT", "WIDTH"), help="(default 10 10)")
    generated.add_argument("--boxes", type=count, metavar="N", help="a level (default 4)")
    generated.add_argument("--difficulty", choices=get_args(Difficulty), help="(default medium)")
    generated.add_argument("--seed", type=seed, metavar="N", help="(default 0)")
    command.set_defaults(run=run)


def _amount(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < float(text) < math.inf:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")


def _gibibytes(text: str) -> float:
    amount = _amount(text)
    if not 1e-9 <= amount <= 1e9:  # the least is a byte
        raise argparse.ArgumentTypeError(f"{text!r} is not from 1e-9 to 1e9; give GiB, such as 4")
    return amount


@dataclasses.dataclass(frozen=True)
class Batch:
    """Levels on boards of one size."""

    layout: Layout
    tasks: TaskBank[SokobanTask]
    index: np.ndarray  # of each level among all


def run(arguments: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    _check(arguments)
    devices = _devices(arguments.devices)
    with _quit_on_interrupt():  # nothing is solved yet
        names, batches = _levels(arguments)
    devices = devices[: max(1, -(-len(names) // LEVELS_WORTH_A_DEVICE))]
    try:
        print(f"{_number(len(names), 'level')}, {_number(len(devices), f'{devices[0].platform} device')}", flush=True)
    except BrokenPipeError:  # nobody reads that, but the plans are wanted all the same
        if arguments.out is None:
            raise
    with _live_progress(len(names)) as show, _stop_on_interrupt() as stop:
        results = _solve_all(batches, arguments, devices, show, stop)
    # Before anything is printed: who reads that may leave, and the plans are what was asked for.
    saved = arguments.out is not None and _save(arguments.out, names, batches, results, arguments)
    _print_summary(names, batches, results, arguments)
    if saved:
        print(f"plans      {_printable(arguments.out)}")
    if not any((result.status == Status.INTERRUPTED).any() for result in results):
        return int(arguments.out is not None and not saved)
    if is_compiling():  # XLA cannot be called off, and Python would wait for it
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(130)
    return 130


def _check(arguments: argparse.Namespace) -> None:
    """Refuses contradictions, and a file for the plans that could not be written; fills in the generator's defaults."""
    if bool(arguments.levels) == (arguments.generate is not None):
        raise argparse.ArgumentError(None, "name level files or folders, or give --generate N, but not both")
    for name, default in _GENERATOR_DEFAULTS.items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, default)
        elif arguments.generate is None:
            raise argparse.ArgumentError(None, f"--{name} is for generated levels: give --generate N too")
    if "-" in arguments.levels and not Path("-").exists():
        raise argparse.ArgumentError(None, "LEVELS: there is no file named -; to read from a pipe, name /dev/stdin")
    if arguments.generate is not None:
        _check_host_memory(arguments.generate)
    if arguments.out is not None:
        check_file("--out", arguments.out)


def _check_host_memory(num_levels: int) -> None:
    """Refuses more levels than the machine can hold with their plans."""
    try:
        host_memory.check_fits(
            f"--generate {num_levels}",
            "the levels and their plans",
            num_levels * _LEVEL_BYTES,
            "generate fewer at a time, with another --seed each time",
        )
    except ValueError as error:
        raise argparse.ArgumentError(None, str(error)) from None


def _number(count: int, name: str) -> str:
    return f"{count:,} {name}{'s' if count != 1 else ''}"


def _devices(wanted: int | None) -> list[jax.Device]:
    """The devices to use; on a CPU as many as cores, which must be asked for before JAX starts."""
    cores = available_cores()
    with contextlib.suppress(RuntimeError):  # JAX runs already: what it has must do
        jax.config.update("jax_num_cpu_devices", min(wanted or cores, cores))
    devices = jax.devices()
    if wanted is not None and wanted > len(devices):
        raise argparse.ArgumentError(
            None, f"--devices {wanted}: there {'is' if len(devices) == 1 else 'are'} {len(devices)}"
        )
    return devices[:wanted]


def _levels(arguments: argparse.Namespace) -> tuple[list[str], list[Batch]]:
    """(name of each level, the levels in batches)."""
    if arguments.generate is None:
        found = level_files.read(arguments.levels)
        if arguments.out is not None and arguments.out.resolve() in {Path(file).resolve() for file in found.sources}:
            raise argparse.ArgumentError(None, f"--out {arguments.out} is one of the level files; name another file")
        return batches_of(found)
    layout = Layout(*arguments.size)
    tasks = generate(
        jax.random.key(arguments.seed),
        arguments.generate,
        layout=layout,
        num_boxes=arguments.boxes,
        difficulty=arguments.difficulty,
        on_progress=counts_on_terminal(arguments.generate, "levels generated"),
    )
    names = [f"generated level {i}" for i in range(len(tasks))]
    return names, [Batch(layout, tasks, np.arange(len(tasks)))]


def batches_of(found: level_files.Levels) -> tuple[list[str], list[Batch]]:
    """(name of each level, the levels by size and shape): small boards are not searched on the boards of large ones.

    Raises:
      LevelError: a level is too large to be searched.
    """
    cells = np.prod(found.sizes - 2, axis=1)
    too_large = cells > MAX_CELLS
    if too_large.any():
        first = int(too_large.argmax())
        height, width = found.sizes[first]
        raise level_files.LevelError(
            f"{found.where(first)}: the level is {height}×{width}, too large to be searched: more than {MAX_CELLS:,} "
            "cells inside its outer walls"
        )
    batches = []
    for index in _groups(found.sizes):
        some = level_files.Levels(
            found.codes[index], found.sizes[index], tuple(found.sources[i] for i in index), found.lines[index]
        )
        layout = Layout(*some.sizes.max(axis=0).tolist())
        batches.append(Batch(layout, some.bank(layout), index))
    return [_printable(found.where(i)) for i in range(len(found))], batches


def _printable(name: object) -> str:
    """The name of a file, in which bytes that are no UTF-8 are spelled out."""
    return str(name).encode("utf-8", "backslashreplace").decode()


def _groups(sizes: np.ndarray) -> list[np.ndarray]:
    """Levels (rows of heights and widths) that share a board, of at most twice the words that each of them needs."""
    shapes, shape_of = np.unique(sizes, axis=0, return_inverse=True)
    cells = lambda board: int(np.prod(board - 2))
    words = lambda board: -(-cells(board) // 32)

    def can_join(shape: int, group: list[int]) -> bool:
        board = shapes[[*group, shape]].max(axis=0)
        return words(board) <= 2 * words(shapes[shape]) and cells(board) <= MAX_CELLS

    groups: list[list[int]] = []
    for shape in sorted(range(len(shapes)), key=lambda i: -words(shapes[i])):
        group = next((group for group in groups if can_join(shape, group)), None)
        if group is None:
            groups.append([shape])
        else:
            group.append(shape)
    return [np.flatnonzero(np.isin(shape_of.reshape(-1), group)) for group in reversed(groups)]


def _solve_all(
    batches: Sequence[Batch],
    arguments: argparse.Namespace,
    devices: Sequence[jax.Device],
    show: Callable[[Progress], None],
    stop: Callable[[], bool],
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
                stop=stop,
            )
        )
    return results


@contextlib.contextmanager
def _quit_on_interrupt() -> Iterator[None]:
    """Ctrl-C ends the process at once: an exception that ends Python while XLA compiles might crash it."""
    before: Any = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _stop_on_interrupt() -> Iterator[Callable[[], bool]]:
    """A function that tells whether Ctrl-C was pressed, for a search that ends with what it has.

    A second one ends the process, whatever it does: a handler in Python would wait for the compiler.
    """
    pressed = False
    before: Any = signal.getsignal(signal.SIGINT)

    def note(*_: object) -> None:
        nonlocal pressed
        pressed = True
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        print(_SHOW_CURSOR if sys.stderr.isatty() else "", file=sys.stderr)
        print("stopping with what is solved; press Ctrl-C again to quit at once", file=sys.stderr, flush=True)

    if before is signal.default_int_handler:  # and not, for example, ignored, as in a shell's background
        signal.signal(signal.SIGINT, note)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _live_progress(total: int) -> Iterator[Callable[[Progress], None]]:
    """A function that shows how far the search is: in a line of the terminal, in many of them without rich."""
    if not sys.stderr.isatty():
        yield lambda progress: None
        return
    try:
        from rich import console, progress
    except ImportError:
        line = lines_of_progress()
        yield lambda state: line(_described(state, total))
        return
    text = progress.TextColumn("{task.description}")
    with progress.Progress(
        progress.SpinnerColumn(), progress.BarColumn(), text, console=console.Console(stderr=True), transient=True
    ) as bar:
        task = bar.add_task("compiling", total=total)

        def show(state: Progress) -> None:
            bar.update(task, completed=state.solved + state.given_up, description=_described(state, total))

        yield show


def _described(state: Progress, total: int) -> str:
    rate = (state.solved + state.given_up) / max(state.seconds, 1e-9)
    line = f"{state.solved:,} of {total:,} solved, {state.given_up:,} given up, {state.expanded:,} nodes"
    return f"{line}, {rate:,.0f} levels/s"


def _save(
    path: Path,
    names: Sequence[str],
    batches: Sequence[Batch],
    results: Sequence[SolveResult],
    arguments: argparse.Namespace,
) -> bool:
    """Writes one line a level; a file that exists is replaced only when the new one is complete. Whether it worked."""
    lines = [""] * len(names)
    for batch, result in zip(batches, results, strict=True):
        for row, level in enumerate(batch.index):
            reason = _reason(result.status[row], arguments)
            lines[level] = f"; {names[level]}: {reason}" if reason else result.lurd(row)
    text = "".join(f"{line}\n" for line in lines)
    try:
        with replaced(path) as partial:
            partial.write_text(text, encoding="utf-8")
    except BrokenPipeError:
        raise  # the reader of a pipe has what it wanted
    except OSError as error:
        print(f"error: --out {path}: {error.strerror or error}; the plans are not saved", file=sys.stderr)
        return False
    return True


def _reason(status: int, arguments: argparse.Namespace) -> str:
    """Why a level has no plan; empty where it has one."""
    nodes = _number(arguments.max_nodes, "node")
    return _REASONS.get(Status(int(status)), "").format(arguments=arguments, nodes=nodes)


def _print_summary(
    names: Sequence[str], batches: Sequence[Batch], results: Sequence[SolveResult], arguments: argparse.Namespace
) -> None:
    for batch, result in zip(batches, results, strict=True):
        for row in np.flatnonzero(~result.solved & (result.status != Status.INTERRUPTED)):
            print(f"gave up on {names[batch.index[row]]}: {_reason(result.status[row], arguments)}")
    together = lambda name: np.concatenate([getattr(result, name) for result in results])
    solved, pushes, moves = together("solved"), together("pushes"), together("moves")
    seconds, compiling = (sum(getattr(result, name) for result in results) for name in ("seconds", "compile_seconds"))
    how = "with the fewest pushes" if arguments.mode == "optimal" else "(plans need not be shortest)"
    print(f"solved     {solved.sum():,} of {_number(len(names), 'level')} {how}")
    if solved.any():
        for name, numbers in (("pushes", pushes[solved]), ("moves", moves[solved])):
            print(f"{name:10} {numbers.sum():,}; median {np.median(numbers):g}, most {numbers.max():,} a level")
    interrupted = (together("status") == Status.INTERRUPTED).sum()
    if interrupted:
        print(f"open       {_number(interrupted, 'level')}: interrupted")
    print(f"nodes      {together('expanded').sum():,} expanded, {together('generated').sum():,} generated")
    rate = f"{solved.sum() / seconds:,.0f} levels/s"
    print(f"time       {seconds:.2f} s and {compiling:.1f} s for compilation; {rate}")
