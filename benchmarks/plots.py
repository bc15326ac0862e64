"""The pictures of the reports."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.console import number
from benchmarks.results import Row
from benchmarks.suites import Plot
from benchmarks.suites.levels import GIVEN, MAIN

# Okabe and Ito's colours, told apart by readers with any colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
MARKERS = "osD^vP*X"
OTHER = "#aaaaaa"  # what is not ours
STYLE: Any = {
    "savefig.dpi": 200,
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.5,
    "lines.markersize": 4,
}

Draw = Callable[[Sequence[Row], Path], Plot | None]


def environments(rows: Sequence[Row], folder: Path) -> Iterator[Plot]:
    """Throughput over batch size, the parts of a step, and the peers."""
    yield from drawn((_throughput, _parts, _peers), rows, folder)


def levels(rows: Sequence[Row], folder: Path) -> Iterator[Plot]:
    """The distribution of optimal solution lengths, and what longer ones cost."""
    yield from drawn((_lengths, _difficulties), rows, folder)


def drawn(draws: Sequence[Draw], rows: Sequence[Row], folder: Path) -> Iterator[Plot]:
    """What there are rows for."""
    for draw in draws:
        plot = draw(rows, folder)
        if plot is not None:
            yield plot


def styled(draw: Draw) -> Draw:
    """Draws in the style of all our pictures, and leaves the user's settings as they are."""

    @functools.wraps(draw)
    def with_style(rows: Sequence[Row], folder: Path) -> Plot | None:
        with _matplotlib("matplotlib").rc_context(STYLE):
            return draw(rows, folder)

    return with_style


@styled
def _throughput(rows: Sequence[Row], folder: Path) -> Plot | None:
    """Steps a second over batch size, one line for each environment, without and with observations."""
    sweeps = [row for row in rows if row.case.endswith("/sweep") and row.metric == "throughput" and row.value]
    measured = {row.parameters["arm"] for row in sweeps}
    arms = [arm for arm in ("same_step", "same_step+observation") if arm in measured]
    ids = [id for id in dict.fromkeys(row.case for row in sweeps) if sum(row.case == id for row in sweeps) > len(arms)]
    if not ids:
        return None
    figure = new_figure(4.0 * len(arms) + 1.3, 3.8)
    panels = figure.subplots(1, len(arms), squeeze=False, sharey=True)[0]
    for axes, arm in zip(panels, arms, strict=True):
        for i, id in enumerate(ids):
            points = [row for row in sweeps if row.case == id and row.parameters["arm"] == arm]
            sizes = [row.batch_size for row in points]  # a sweep goes from small to large
            line = {"color": COLOURS[i % 8], "marker": MARKERS[i % 8], "linestyle": "--" if i >= 8 else "-"}
            axes.plot(sizes, [row.value for row in points], label=id.split("/")[0], **line)
            low, high = [row.p10 for row in points], [row.p90 for row in points]
            axes.fill_between(sizes, low, high, color=COLOURS[i % 8], alpha=0.15, linewidth=0)
        title = "without observation" if arm == "same_step" else "with the observation of every step"
        axes.set(xscale="log", yscale="log", xlabel="environments in the batch", title=title)
        axes.xaxis.set_major_formatter(_matplotlib("matplotlib.ticker").EngFormatter(sep=""))
    in_units(panels[0].yaxis)
    panels[0].set_ylabel("steps / s")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center")
    caption = "Throughput with same-step auto-reset over batch size; bands: p10 – p90"
    return save(figure, folder, "throughput.png", caption)


PARTS = ("time of the action draw", "time of the dynamics", "time of resets, same_step", "time of the observation")


@styled
def _parts(rows: Sequence[Row], folder: Path) -> Plot | None:
    """Where the time of a step goes, as stacked shares: the totals differ by orders of magnitude."""
    parts = {(row.case, row.metric): max(0.0, row.value or 0.0) for row in rows if row.metric in PARTS}
    ids = list(dict.fromkeys(case for case, _ in parts))
    if not ids:
        return None
    figure = new_figure(6.8, 1.2 + 0.45 * len(ids))
    axes = figure.subplots()
    totals = {id: sum(parts.get((id, part), 0.0) for part in PARTS) for id in ids}
    left = [0.0] * len(ids)
    for part, colour in zip(PARTS, (OTHER, *COLOURS), strict=False):
        widths = [100 * parts.get((id, part), 0.0) / (totals[id] or 1.0) for id in ids]
        name = part.removeprefix("time of ").removeprefix("the ").removesuffix(", same_step")
        axes.barh([id.split("/")[0] for id in ids], widths, left=left, color=colour, label=name)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    for y, total in enumerate(totals.values()):
        axes.text(100, y, f" {total:,.0f} ns", va="center", fontsize=9)
    axes.set(xlabel="share of a step (%); at the right the time of a step and environment", xlim=(0, 113))
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    figure.legend(loc="outside upper center", ncols=len(PARTS))
    return save(figure, folder, "parts.png", "What a step costs at the headline batch size (same-step auto-reset)")


PEER_TITLES = {"peers/sokoban": "Sokoban", "peers/frozen_lake": "FrozenLake"}
OURS = ("same_step", "FrozenLake", "TabularWeb")


@styled
def _peers(rows: Sequence[Row], folder: Path) -> Plot | None:
    """Steps a second of ours and of other packages, on a logarithmic scale."""
    found = [row for row in rows if row.case in PEER_TITLES and row.metric == "throughput" and row.value]
    cases = {case: [row for row in found if row.case == case] for case in dict.fromkeys(row.case for row in found)}
    if not cases:
        return None
    figure = new_figure(5.6 * len(cases), 1.1 + 0.34 * max(len(points) for points in cases.values()))
    panels = figure.subplots(1, len(cases), squeeze=False)[0]
    for axes, (case, points) in zip(panels, cases.items(), strict=True):
        _peer_bars(axes, points)
        axes.set(xscale="log", xlabel="steps / s", title=PEER_TITLES[case])
        in_units(axes.xaxis)
    return save(figure, folder, "peers.png", "Other packages in the same run, 8,192 environments (gym-sokoban: one)")


def _peer_bars(axes: Any, points: Sequence[Row]) -> None:
    rates = {str(row.parameters["arm"]): row.value or 0.0 for row in points}
    rates = dict(sorted(rates.items(), key=lambda item: -item[1]))
    ours = [name.split("+")[0] in OURS for name in rates]
    shown = [f"envs_jax, {name}" if own else name for name, own in zip(rates, ours, strict=True)]
    shown = [name.replace("+", " + ").replace(", same_step", "") for name in shown]
    axes.barh(shown, list(rates.values()), color=[COLOURS[0] if own else OTHER for own in ours])
    for y, rate in enumerate(rates.values()):
        axes.text(rate, y, f" {number(rate, '/s')}", va="center", fontsize=9)
    axes.set_xlim(min(rates.values()) / 3, max(rates.values()) * 6)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")


@styled
def _lengths(rows: Sequence[Row], folder: Path) -> Plot | None:
    """How many levels need how many pushes: the default difficulty, and levels that the user gave."""
    lengths = [row for row in rows if row.histogram is not None and row.parameters["levels"] in (MAIN, GIVEN)]
    if not lengths:
        return None
    figure = new_figure(6.4, 3.6)
    axes = figure.subplots()
    for row, colour in zip(lengths, COLOURS, strict=False):
        assert row.histogram is not None and row.value is not None
        share = dict(zip(row.histogram["values"], row.histogram["counts"], strict=True))
        values = range(int(min(share)) - 1, int(max(share)) + 2)  # lengths that do not occur are shown as zero
        shares = [100 * share.get(value, 0) / sum(share.values()) for value in values]
        name = GIVEN if row.parameters["levels"] == GIVEN else f"generated: {MAIN}"
        name = f"{name}\n(n = {sum(share.values()):,.0f}, median {row.value:.0f})"
        axes.step(values, shares, where="mid", color=colour, label=name)
        axes.fill_between(values, shares, step="mid", color=colour, alpha=0.12, linewidth=0)
        axes.axvline(row.value, color=colour, linestyle=":", linewidth=1.2)
    axes.set(xlabel="push-optimal solution length (pushes)", ylabel="levels (%)", xlim=(0, None), ylim=(0, None))
    axes.legend()
    return save(figure, folder, "lengths.png", "Push-optimal solution lengths; dotted: medians")


@styled
def _difficulties(rows: Sequence[Row], folder: Path) -> Plot | None:
    """Levels a second over their push-optimal length, one point for each difficulty."""
    rates = {
        row.parameters["arm"]: row.value
        for row in rows
        if row.metric == "throughput" and "arm" in row.parameters and row.value
    }
    lengths = {row.parameters["levels"]: row for row in rows if row.histogram is not None}
    points = sorted((row.value or 0.0, name, row) for name, row in lengths.items() if name in rates)
    if len(points) < 2:
        return None
    figure = new_figure(6.4, 3.2)
    axes = figure.subplots()
    for value, name, row in points:
        rate = rates[name]
        axes.plot([row.p10, row.p90], [rate, rate], color=COLOURS[0], alpha=0.35, linewidth=4, solid_capstyle="round")
        axes.plot(value, rate, "o", color=COLOURS[0], markersize=7)
        label = f"{str(name).rsplit(', ', 1)[-1]}: {number(rate, '/s')} levels/s"
        axes.annotate(label, (row.p90, rate), (10, 0), textcoords="offset points", va="center")
    if GIVEN in lengths:
        axes.axvline(lengths[GIVEN].value, color=COLOURS[1], linestyle=":", label="given files, median")
        axes.legend(loc="lower left")
    highest, lowest = max(rates[name] for _, name, _ in points), min(rates[name] for _, name, _ in points)
    axes.set(xlabel="push-optimal solution length (pushes)", ylabel="levels / s", yscale="log")
    axes.set_xlim(0, 1.5 * max(row.p90 or 0.0 for *_, row in points))
    axes.xaxis.set_major_locator(_matplotlib("matplotlib.ticker").MaxNLocator(integer=True))
    axes.set_ylim(lowest / 1.6, highest * 1.9)
    in_units(axes.yaxis)
    caption = "Generation by difficulty, 10×10 with 4 boxes: rate and median length; bars: p10 – p90"
    return save(figure, folder, "difficulty.png", caption)


def in_units(axis: Any) -> None:
    """Ticks such as 20 k and 5 M on a logarithmic axis."""
    ticker = _matplotlib("matplotlib.ticker")
    low, high = axis.get_view_interval()
    axis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0) if high / low < 300 else (1.0,)))
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: number(value, "/s").strip()))
    axis.set_minor_formatter(ticker.NullFormatter())


def new_figure(width: float, height: float) -> Any:
    """A figure of that size in inches, whose parts make room for each other."""
    return _matplotlib("matplotlib.figure").Figure(figsize=(width, height), layout="constrained")


def save(figure: Any, folder: Path, name: str, caption: str) -> Plot:
    """Writes the figure to the folder of the report."""
    figure.savefig(folder / name)
    return Plot(name, caption)


def _matplotlib(module: str) -> Any:
    """A module of matplotlib, imported when it is needed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError('plots need matplotlib: pip install "envs-jax[bench]"') from error
