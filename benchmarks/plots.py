"""The pictures of the reports."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.results import Row
from benchmarks.suites import Plot

# Okabe and Ito's colours, told apart by readers with any colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
MARKERS = "osD^vP*X"
STYLE: Any = {
    "figure.dpi": 100,
    "savefig.dpi": 200,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
}


def environments(rows: Sequence[Row], folder: Path) -> Iterator[Plot]:
    """Throughput over batch size, the parts of a step, and the peers."""
    yield from _throughput(rows, folder)
    yield from _parts(rows, folder)
    yield from _peers(rows, folder)


def levels(rows: Sequence[Row], folder: Path) -> Iterator[Plot]:
    """The distribution of optimal solution lengths."""
    lengths = [row for row in rows if row.histogram is not None and row.unit == "pushes"]
    if not lengths:
        return
    figure, axes = _figure(6.4, 3.6)
    for row, colour in zip(lengths, COLOURS, strict=False):
        assert row.histogram is not None
        values, counts = row.histogram["values"], row.histogram["counts"]
        shares = [100 * count / sum(counts) for count in counts]
        name = f"{' '.join(map(str, row.parameters.values()))} (median {row.value:.0f}, n = {sum(counts):,.0f})"
        axes.step(values, shares, where="mid", color=colour, label=name, linewidth=1.6)
        axes.fill_between(values, shares, step="mid", color=colour, alpha=0.12)
        axes.axvline(row.value, color=colour, linestyle=":", linewidth=1.2)
    axes.set(xlabel="push-optimal solution length (pushes)", ylabel="levels (%)", xlim=(0, None), ylim=(0, None))
    axes.legend()
    yield _save(figure, folder, "lengths.png", "Push-optimal solution lengths; dotted: medians")


def _throughput(rows: Sequence[Row], folder: Path) -> Iterator[Plot]:
    """Steps a second over batch size, one line for each environment, without and with observations."""
    sweeps = [row for row in rows if row.case.endswith("/sweep") and row.metric == "throughput" and row.value]
    measured = {row.parameters["arm"] for row in sweeps}
    arms = [arm for arm in ("same_step", "same_step+observation") if arm in measured]
    ids = [id for id in dict.fromkeys(row.case for row in sweeps) if sum(row.case == id for row in sweeps) > len(arms)]
    if not ids:
        return
    figure, panels = _figure(4.2 * len(arms), 3.8, len(arms), sharey=True)
    for axes, arm in zip(panels, arms, strict=True):
        for i, id in enumerate(ids):
            points = [row for row in sweeps if row.case == id and row.parameters["arm"] == arm]
            sizes = [row.batch_size for row in points]  # a sweep goes from small to large
            line = {"color": COLOURS[i % 8], "marker": MARKERS[i % 8], "markersize": 4, "linewidth": 1.5}
            axes.plot(sizes, [row.value for row in points], label=id.split("/")[0], **line)
            low, high = [row.p10 for row in points], [row.p90 for row in points]
            axes.fill_between(sizes, low, high, color=COLOURS[i % 8], alpha=0.15)
        title = "without observation" if arm == "same_step" else "with the observation of every step"
        axes.set(xscale="log", yscale="log", xlabel="environments in the batch", title=title)
    panels[0].set_ylabel("steps / s")
    panels[-1].legend(loc="lower right", fontsize=9)
    caption = "Throughput with same-step auto-reset over batch size; bands: p10 – p90"
    yield _save(figure, folder, "throughput.png", caption)


PARTS = ("time of the action draw", "time of the dynamics", "time of resets, same_step", "time of the observation")


def _parts(rows: Sequence[Row], folder: Path) -> Iterator[Plot]:
    """Where the nanoseconds of a step go, as stacked bars."""
    parts = {(row.case, row.metric): max(0.0, row.value or 0.0) for row in rows if row.metric in PARTS}
    ids = list(dict.fromkeys(case for case, _ in parts))
    if not ids:
        return
    figure, axes = _figure(6.4, 0.9 + 0.45 * len(ids))
    left = [0.0] * len(ids)
    for part, colour in zip(PARTS, ("#999999", *COLOURS), strict=False):
        widths = [parts.get((id, part), 0.0) for id in ids]
        name = part.removeprefix("time of ").removeprefix("the ")
        axes.barh([id.split("/")[0] for id in ids], widths, left=left, color=colour, label=name)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    for y, total in enumerate(left):
        axes.text(total, y, f" {total:.0f} ns", va="center", fontsize=9)
    axes.set(xlabel="nanoseconds a step and environment", xlim=(0, 1.12 * max(left)))
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.28), ncols=4, fontsize=9)
    yield _save(figure, folder, "parts.png", "What a step costs at the headline batch size (same-step auto-reset)")


def _peers(rows: Sequence[Row], folder: Path) -> Iterator[Plot]:
    """Steps a second of ours and of other packages, on a logarithmic scale."""
    cases = {
        case: [row for row in rows if row.case == case and row.metric == "throughput" and row.value]
        for case in dict.fromkeys(row.case for row in rows if row.case.startswith("peers/"))
    }
    cases = {case: points for case, points in cases.items() if points}
    if not cases:
        return
    height = 1.1 + 0.34 * max(len(points) for points in cases.values())
    figure, panels = _figure(5.6 * len(cases), height, len(cases))
    for axes, (case, points) in zip(panels, cases.items(), strict=True):
        points = sorted(points, key=lambda row: -row.value)  # type: ignore[operator]
        names = [str(row.parameters["arm"]) for row in points]
        ours = [name.split("+")[0] in ("same_step", "FrozenLake", "TabularWeb") for name in names]
        shown = [f"ours, {name}" if own else name for name, own in zip(names, ours, strict=True)]
        values = [float(row.value or 0) for row in points]
        axes.barh(shown, values, color=[COLOURS[0] if own else "#aaaaaa" for own in ours])
        for y, value in enumerate(values):
            axes.text(value, y, f" {_si(value)}", va="center", fontsize=9)
        axes.set(xscale="log", xlabel="steps / s", title=case.removeprefix("peers/").replace("_", " ").title())
        axes.set_xlim(min(values) / 3, max(values) * 8)
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
    yield _save(figure, folder, "peers.png", "Other packages in the same run, 8,192 environments (gym-sokoban: one)")


def _si(value: float) -> str:
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g} {prefix}"
    return f"{value:.3g}"


def _figure(width: float, height: float, columns: int = 0, **options: Any) -> tuple[Any, Any]:
    """A figure with one panel, or with a list of `columns` panels."""
    try:
        matplotlib = importlib.import_module("matplotlib")
        figure_type = importlib.import_module("matplotlib.figure").Figure
    except ImportError as error:
        raise ImportError('plots need matplotlib: pip install "envs-jax[bench]"') from error
    with matplotlib.rc_context(STYLE):
        figure = figure_type(figsize=(width, height), layout="constrained")
        panels = figure.subplots(1, max(1, columns), squeeze=False, **options)[0]
    return figure, panels if columns else panels[0]


def _save(figure: Any, folder: Path, name: str, caption: str) -> Plot:
    import matplotlib

    with matplotlib.rc_context(STYLE):
        figure.savefig(folder / name)
    return Plot(name, caption)
