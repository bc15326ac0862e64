"""Learning curves of a run as one picture."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from envs_jax.files import replaced
from jaxrl_agents.training.records import Row, series


class Panel(NamedTuple):
    """One pair of axes."""

    title: str
    lines: tuple[tuple[str, str], ...]  # (name in the log, label)
    log_scale: bool = False


PANELS = (
    Panel("success", (("train/success", "training"), ("evaluation/success", "evaluation"))),
    Panel("return", (("train/return", "training"), ("evaluation/return", "evaluation"))),
    Panel("entropy (nats)", (("train/entropy", "training"), ("warm_start/entropy", "warm start"))),
    Panel("loss", (("train/loss", "training"), ("warm_start/loss", "warm start"))),
    Panel("gradient norm", (("train/gradient_norm", "training"), ("warm_start/gradient_norm", "warm start")), True),
    Panel("off-policy", (("train/old_kl", "KL to the behaviour"), ("train/clip_fraction", "clipped share"))),
)
_SMOOTHING = 50  # points that a long training curve is averaged down to


def plot_curves(rows: Sequence[Row], path: str | os.PathLike[str], *, title: str = "") -> None:
    """Draws the learning curves of a run.

    Training curves are means over equal stretches of steps. The evaluation has its 95 % interval and, where it is
    known, the optimum.

    Args:
      rows: of `records.read_rows`.
      path: the PNG file to write; it is replaced only when the new one is complete.
      title: above the picture.

    Raises:
      ImportError: matplotlib is not installed.
      ValueError: `rows` holds none of the curves.
    """
    rows = list(rows)
    panels = [panel for panel in PANELS if any(series(rows, name)[0] for name, _ in panel.lines)]
    if not panels:
        raise ValueError("rows holds no metrics to draw; train a step first")
    figure = _figure(len(panels))
    for axes, panel in zip(figure.axes, panels, strict=True):
        _draw(axes, panel, rows)
    figure.suptitle(title)
    with replaced(path) as partial:
        figure.savefig(partial, format="png", dpi=100)


def _figure(num_panels: int) -> Any:
    """A figure of its own, outside pyplot: no window, no global state."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('learning curves need matplotlib: pip install "envs-jax[render]"') from error
    columns = min(3, num_panels)
    figure = Figure(figsize=(4.2 * columns, 3.0 * -(-num_panels // columns)), layout="constrained")
    FigureCanvasAgg(figure)
    for i in range(num_panels):
        figure.add_subplot(-(-num_panels // columns), columns, i + 1)
    return figure


def _draw(axes: Any, panel: Panel, rows: list[Row]) -> None:
    for color, (name, label) in enumerate(panel.lines):
        points = series(rows, name)
        if not points[0]:
            continue
        measured = name.startswith("evaluation/")
        drawn = points if measured else _thinned(*points)
        axes.plot(*drawn, color=f"C{color}", marker="o" if measured else None, markersize=3, label=label)
        if measured:
            _draw_interval(axes, rows, name, color)
    if panel.log_scale:
        axes.set_yscale("log")
    axes.set(title=panel.title, xlabel="step")
    axes.locator_params(axis="x", nbins=5)  # more numbers of steps would run into one another
    if len(axes.lines) > 1:
        axes.legend(fontsize="small")
    axes.grid(alpha=0.3)


def _draw_interval(axes: Any, rows: list[Row], name: str, color: int) -> None:
    low_steps, low = series(rows, f"{name}_low")
    high_steps, high = series(rows, f"{name}_high")
    if low_steps and low_steps == high_steps:
        axes.fill_between(low_steps, low, high, color=f"C{color}", alpha=0.2, linewidth=0)
    _, optimum = series(rows, f"{name}_optimum")
    if optimum:
        axes.axhline(optimum[-1], color="black", linestyle=":", linewidth=1, label="optimum")


def _thinned(steps: list[int], values: list[float]) -> tuple[list[float], list[float]]:
    """Means over stretches of equally many points."""
    size = max(1, len(steps) // _SMOOTHING)
    mean = lambda numbers, start: sum(numbers[start : start + size]) / len(numbers[start : start + size])
    starts = range(0, len(steps), size)
    return [mean(steps, start) for start in starts], [mean(values, start) for start in starts]
