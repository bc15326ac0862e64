"""What people see of a run: a bar with the key figures on a terminal, and a line for every evaluation."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from jaxrl_agents.training.evaluation import Evaluation, Interval

_FIGURES = (  # name in the log, label, format
    ("warm_start/expert_return", "expert's return", ".3f"),
    ("warm_start/entropy", "entropy", ".3f"),
    ("warm_start/loss", "loss", ".4f"),
    ("train/success", "success", ".3f"),
    ("train/return", "return", ".3f"),
    ("train/entropy", "entropy", ".3f"),
    ("train/loss", "loss", ".4f"),
    ("time/env_steps_per_second", "env steps/s", ",.0f"),
)


class Display:
    """Hears of the run and shows nothing."""

    def __enter__(self) -> Display:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def start(self, summary: str, first_step: int, num_steps: int) -> None:
        """The run begins after `first_step`."""

    def step(self, step: int, row: Mapping[str, float]) -> None:
        """A step's row of the log."""

    def evaluation(self, step: int, result: Evaluation) -> None:
        """An evaluation is done."""


class Console(Display):
    """Prints a line for every evaluation; on a terminal there is a bar below, if rich is installed."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._task: Any = None
        self._began = time.perf_counter()

    def __enter__(self) -> Console:
        self._began = time.perf_counter()
        if sys.stderr.isatty():
            self._bar = _rich_bar()
            if self._bar is not None:
                self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def start(self, summary: str, first_step: int, num_steps: int) -> None:
        print(summary, flush=True)
        if self._bar is not None:
            self._task = self._bar.add_task("compiling", total=num_steps, completed=first_step)

    def step(self, step: int, row: Mapping[str, float]) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=step, description=figures(row))

    def evaluation(self, step: int, result: Evaluation) -> None:
        print(f"step {step:6,}  {evaluation_text(result)}  {time.perf_counter() - self._began:6.1f} s", flush=True)


def figures(row: Mapping[str, float]) -> str:
    """The key figures of a row of the log."""
    return "  ".join(f"{label} {row[name]:{style}}" for name, label, style in _FIGURES if name in row)


def evaluation_text(result: Evaluation) -> str:
    """An evaluation as one line."""
    success, total = (
        f"{value.mean:.3f}{_around(value, ' [{:.3f}, {:.3f}]')}" for value in (result.success, result.episode_return)
    )
    optimum = "" if result.optimum is None else f" (optimum {result.optimum:.3f})"
    return f"success {success}  return {total}{optimum}  length {result.length.mean:.1f}"


def evaluation_lines(result: Evaluation) -> list[str]:
    """An evaluation as a few lines."""
    rows = (("success", result.success), ("return", result.episode_return), ("length", result.length))
    interval = ", 95 % interval {:.4f} … {:.4f}"
    lines = [f"{name:10} {value.mean:.4f}{_around(value, interval)}" for name, value in rows]
    if result.optimum is not None:
        lines.append(f"{'optimum':10} {result.optimum:.4f}, the best policy's expected return")
    return [*lines, f"{'episodes':10} {result.num_episodes:,}"]


def _around(value: Interval, text: str) -> str:
    """Both ends of the interval as `text`; nothing for the mean of a single episode, which has none."""
    return "" if math.isnan(value.low) else text.format(value.low, value.high)


def _rich_bar() -> Any:
    try:
        from rich import console, progress
    except ImportError:
        print('no progress bar without rich: pip install "envs-jax[train]"', file=sys.stderr)
        return None
    return progress.Progress(
        progress.BarColumn(20),
        progress.MofNCompleteColumn(),
        progress.TimeRemainingColumn(),
        progress.TextColumn("{task.description}"),
        console=console.Console(stderr=True),
        redirect_stdout=sys.stdout.isatty(),  # what is printed to a file stays in the file
        transient=True,
    )
