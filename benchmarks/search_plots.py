"""The pictures of the search and solving suites."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.console import number
from benchmarks.plots import COLOURS, MARKERS, OTHER, drawn, in_units, new_figure, save, styled
from benchmarks.results import Row
from benchmarks.search_headline import BATCH, ROOTS_OF, VARIANTS
from benchmarks.suites import Plot

AXES = {"batch": "roots", "width": "width (W, N; mcts: S)", "depth": "turns (lookahead, mcts: depth)"}
SOLVING = {"optimal": COLOURS[0], "satisficing": COLOURS[2]}
EXACT = {"optimum": ":", "uniform policy": "--"}  # lines of what was computed, not played
MODES = ("best_of_n", "beam_search", "beam_search, dedup", "lookahead", "entropy_backtrack", "mcts")
SEARCHES = {*MODES, *(arm for arms in VARIANTS.values() for arm in arms)}


def search(rows: Sequence[Row], folder: Path) -> Iterator[Plot]:
    """Nodes a second of the modes; the same over sizes; quality by nodes and by time."""
    yield from drawn((_rates, _sweeps, _quality), rows, folder)


def solving(rows: Sequence[Row], folder: Path) -> Iterator[Plot]:
    """Levels a second of both modes."""
    yield from drawn((_solved,), rows, folder)


def _look(mode: str) -> dict[str, Any]:
    """The same colour and marker for a mode in every picture."""
    index = MODES.index(mode) if mode in MODES else 7
    return {"color": COLOURS[index], "marker": MARKERS[index], "label": mode.replace("_", "-").replace("-search", "")}


@styled
def _rates(rows: Sequence[Row], folder: Path) -> Plot | None:
    """Nodes a second of every mode, beside the bare step and mctx, in each way, on a logarithmic scale."""
    found = [row for row in rows if row.case.endswith("/nodes") and row.metric == "throughput" and row.value]
    if not found:
        return None
    rates = {(str(row.parameters["arm"]), str(row.parameters["on"])): row.value or 0.0 for row in found}
    ways = sorted({on for _, on in rates}, key=lambda on: int(on.split()[0]), reverse=True)
    fastest = {arm: max(rates.get((arm, on), 0.0) for on in ways) for arm, _ in rates}
    arms = sorted(fastest, key=lambda arm: -fastest[arm])
    figure = new_figure(7.2, 1.1 + (0.1 + 0.18 * len(ways)) * len(arms))
    axes = figure.subplots()
    height = 0.84 / len(ways)
    for index, on in enumerate(ways):
        measured = [(y, arm) for y, arm in enumerate(arms) if (arm, on) in rates]
        values = [rates[arm, on] for _, arm in measured]
        positions = [y + (index - (len(ways) - 1) / 2) * height for y, _ in measured]
        colours = [COLOURS[0] if arm in SEARCHES else OTHER for _, arm in measured]
        axes.barh(positions, values, 0.9 * height, color=colours, alpha=0.5 if index else 1.0, label=on)
        for y, rate in zip(positions, values, strict=True):
            axes.text(rate, y, f" {number(rate, '/s')}", va="center", fontsize=8)
    axes.set_yticks(range(len(arms)), [_shown(arm) for arm in arms])
    axes.set(xscale="log", xlabel="nodes / s", xlim=(min(rates.values()) / 3, max(rates.values()) * 4))
    axes.set_ylim(len(arms) - 0.4, -0.6)
    in_units(axes.xaxis)
    axes.grid(visible=False, axis="y")
    caption = f"Nodes a second on Sokoban 10×10, all in one run; {BATCH:,} roots on each device, unless said otherwise"
    if len(ways) > 1:
        caption += f"; pale: on {ways[-1]}, else on {ways[0]}"
    return save(figure, folder, "search_rates.png", caption)


def _shown(arm: str) -> str:
    """The name of an arm, with the roots on each device where they are not those of most others."""
    name = arm.replace("R,", "bare step,").replace("Rs,", "bare step with a word,")
    return f"{name}, {ROOTS_OF[arm]} roots" if arm in ROOTS_OF and not name.endswith("roots") else name


@styled
def _sweeps(rows: Sequence[Row], folder: Path) -> Plot | None:
    """Nodes a second over the number of roots, width and depth."""
    sweeps = {axis: [row for row in rows if row.case.endswith(f"/{axis}") and row.value] for axis in AXES}
    sweeps = {axis: points for axis, points in sweeps.items() if points}
    if not sweeps:
        return None
    figure = new_figure(3.6 * len(sweeps) + 1.6, 3.6)
    panels = figure.subplots(1, len(sweeps), squeeze=False, sharey=True)[0]
    handles: dict[str, Any] = {}
    for axes, (axis, points) in zip(panels, sweeps.items(), strict=True):
        for mode in MODES:
            line = [row for row in points if row.parameters["mode"] == mode]
            if line:
                look = _look(mode)
                sizes = [row.parameters[axis] for row in line]
                handles[look["label"]] = axes.plot(sizes, [row.value for row in line], **look)[0]
        axes.set(xscale="log", yscale="log", xlabel=AXES[axis])
        in_units(axes.xaxis)
    in_units(panels[0].yaxis)
    panels[0].set_ylabel("nodes / s")
    figure.legend(list(handles.values()), list(handles), loc="outside right center")
    return save(figure, folder, "search_sweeps.png", "Nodes a second over roots, width and depth, Sokoban 10×10")


@styled
def _quality(rows: Sequence[Row], folder: Path) -> Plot | None:
    """Returns of the decisions over the nodes, and over the time, that each takes."""
    found = [row for row in rows if row.case.endswith("/quality") and row.value is not None]
    cases = list(dict.fromkeys(row.case for row in found))
    if not cases:
        return None
    figure = new_figure(8.6, 2.9 * len(cases))
    panels = figure.subplots(len(cases), 2, squeeze=False, sharey="row")
    handles: dict[str, Any] = {}
    for line, case in zip(panels, cases, strict=True):
        points = [row for row in found if row.case == case]
        for axes, cost in zip(line, ("nodes a decision", "time a decision"), strict=True):
            handles |= _curves(axes, points, cost)
            axes.set(xscale="log", xlabel="nodes a decision" if cost.startswith("n") else "µs a decision")
            axes.set_title(case.split("/")[0])
            in_units(axes.xaxis)
        line[0].set_ylabel("mean return of an episode")
    figure.legend(list(handles.values()), list(handles), loc="outside right center")
    caption = "Episodes in which each mode decides every step; dotted: the optimum, dashed: random actions, both exact"
    return save(figure, folder, "search_quality.png", caption)


def _curves(axes: Any, points: Sequence[Row], cost: str) -> dict[str, Any]:
    handles = {}
    costs = {(row.parameters["mode"], row.parameters["size"]): row.value for row in points if row.metric == cost}
    returns = [row for row in points if row.metric == "return"]
    for mode in MODES:
        curve = [(costs[mode, row.parameters["size"]], row.value) for row in returns if row.parameters["mode"] == mode]
        if curve:
            look = _look(mode)
            handles[look["label"]] = axes.plot(*zip(*sorted(curve), strict=True), **look)[0]
    for row in returns:
        if row.parameters["mode"] in EXACT:
            axes.axhline(row.value, color="black", linestyle=EXACT[row.parameters["mode"]], linewidth=1.2)
    return handles


@styled
def _solved(rows: Sequence[Row], folder: Path) -> Plot | None:
    """Levels a second in both modes, with the rates to reach, and of the peer on one core."""
    found = [row for row in rows if row.metric == "throughput" and row.unit == "levels/s" and row.value]
    if not found:
        return None
    figure = new_figure(6.4, 1.1 + 0.4 * len(found))
    axes = figure.subplots()
    names = [f"{row.case.split('/')[0]}, {row.parameters['mode']}" for row in found]
    colours = [SOLVING.get(str(row.parameters["mode"]), OTHER) for row in found]
    axes.barh(names, [row.value for row in found], color=colours)
    for y, row in enumerate(found):
        axes.text(row.value or 0.0, y, f" {number(row.value or 0.0, '/s')}", va="center", fontsize=9)
        if row.target is not None:
            axes.plot([row.target.value] * 2, [y - 0.4, y + 0.4], color="black", linestyle=":")
    axes.set(xlabel="levels / s", xlim=(0, 1.15 * max(row.value or 0.0 for row in found)))
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    return save(
        figure, folder, "solving.png", "Levels solved a second, warm, the slowest level included; dotted: targets"
    )
