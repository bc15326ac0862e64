"""The pictures of the training suite."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import training_curves, training_webshop
from benchmarks.plots import COLOURS, MARKERS, OTHER, drawn, in_units, new_figure, save, styled
from benchmarks.results import Row
from benchmarks.suites import Plot


def training(rows: Sequence[Row], folder: Path) -> Iterator[Plot]:
    """What a step takes under each strategy, decoding over the context, and learning curves."""
    yield from drawn((_strategies, _decoding, _learning_lake, _learning_rooms, _learning_webshop), rows, folder)


@styled
def _strategies(rows: Sequence[Row], folder: Path) -> Plot | None:
    """The time of a step by rollout strategy, the rollout's part apart."""
    times = {
        (row.parameters["rollout"], row.parameters["program"]): row.value
        for row in rows
        if row.case.endswith("/search") and row.metric == "time" and row.value
    }
    names = [name for name in dict.fromkeys(name for name, _ in times) if (name, "rollout") in times]
    names = [name for name in names if (name, "step") in times]
    if not names:
        return None
    figure = new_figure(6.8, 1.2 + 0.4 * len(names))
    axes = figure.subplots()
    shown = [str(name).replace("_", "-") for name in names]
    rollout = np.array([times[name, "rollout"] for name in names], float)
    rest = np.maximum(0, np.array([times[name, "step"] for name in names], float) - rollout)
    axes.barh(shown, rollout, color=COLOURS[0], label="rollout and search, compiled alone")
    axes.barh(shown, rest, left=rollout, color=COLOURS[1], label="the rest of the step")
    axes.set(xlabel="time of a step (ms)")
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    figure.legend(loc="outside upper center", ncols=2)
    return save(figure, folder, "training_step.png", "The time of a training step by rollout strategy, Sokoban 6×6")


@styled
def _decoding(rows: Sequence[Row], folder: Path) -> Plot | None:
    """Tokens a second over the length of the context, with the cache and without."""
    found = [row for row in rows if row.case.endswith("/decoding") and row.metric == "throughput" and row.value]
    if len({row.parameters["context"] for row in found}) < 2:
        return None
    figure = new_figure(5.2, 3.4)
    axes = figure.subplots()
    for i, arm in enumerate(dict.fromkeys(row.parameters["arm"] for row in found)):
        line = [row for row in found if row.parameters["arm"] == arm]
        look = {"color": COLOURS[i], "marker": MARKERS[i], "label": str(arm)}
        axes.plot([row.parameters["context"] for row in line], [row.value for row in line], **look)
    axes.set(xscale="log", yscale="log", xlabel="tokens of context", ylabel="tokens decoded / s")
    in_units(axes.yaxis)
    in_units(axes.xaxis)
    axes.legend()
    return save(figure, folder, "decoding.png", "Decoding with the cache and without, 4 layers of 256")


@styled
def _learning_lake(rows: Sequence[Row], folder: Path) -> Plot | None:
    caption = "FrozenLake 4×4: greedy success by seed, the mean of the seeds, and the exact optimum"
    return _learning(rows, folder, training_curves.LAKE, "learning.png", caption)


@styled
def _learning_rooms(rows: Sequence[Row], folder: Path) -> Plot | None:
    caption = "Sokoban 6×6, 1 box: greedy success in rooms that are held out, by seed, and the mean of the seeds"
    return _learning(rows, folder, training_curves.ROOMS, "learning_rooms.png", caption)


@styled
def _learning_webshop(rows: Sequence[Row], folder: Path) -> Plot | None:
    """The return of the runs over steps, beside those of the scripts."""
    found = [row for row in rows if row.case == f"{training_webshop.ID}/learning" and row.value is not None]
    runs = dict.fromkeys(str(row.parameters["policy"]) for row in found if row.metric == "return")
    if not runs:
        return None
    figure = new_figure(5.2, 3.6)
    axes = figure.subplots()
    for i, name in enumerate(runs):
        line = [row for row in found if row.metric == "return" and row.parameters["policy"] == name]
        look = {"color": COLOURS[i], "marker": MARKERS[i], "label": name}
        axes.plot([row.parameters["steps"] for row in line], [row.value for row in line], **look)
    for row in found:
        if row.metric == "final return" and row.parameters["policy"] not in runs:
            axes.axhline(row.value, color=OTHER, linestyle=":", linewidth=1.2)
            beside = {"transform": axes.get_yaxis_transform(), "va": "center", "fontsize": "small"}
            axes.text(1.01, row.value, str(row.parameters["policy"]).replace("_", " "), **beside)
    axes.set(xlabel="steps, those of the warm start included", ylabel="return on held-out goals", ylim=(0, 1.05))
    axes.legend(loc="upper left", bbox_to_anchor=(0.35, 0.4))
    caption = "WebShop: return on goals of products that are held out, over training, and of the scripts (dotted)"
    return save(figure, folder, "learning_webshop.png", caption)


def _learning(rows: Sequence[Row], folder: Path, env: str, file: str, caption: str) -> Plot | None:
    """Success of every seed over steps and over processor time, with the exact optimum where it is known."""
    curves = [row for row in rows if row.case == f"{env}/learning"]
    points = [row for row in curves if row.metric == "success" and row.value is not None]
    single = {row.metric: row.value for row in curves if not row.parameters}
    step_seconds = single.get("processor time of a step")
    if not points or step_seconds is None:
        return None
    figure = new_figure(8.6, 3.2)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, scale, label in zip(panels, (1.0, step_seconds), ("steps", "processor seconds"), strict=True):
        _seeds(axes, points, scale)
        axes.set(xlabel=f"{label} of training", ylim=(0, 1))
        if single.get("optimum") is not None:
            axes.axhline(single["optimum"], color="black", linestyle=":", linewidth=1.2, label="exact optimum")
    panels[0].set_ylabel("greedy success")
    panels[0].legend(loc="lower right")
    return save(figure, folder, file, caption)


def _seeds(axes: Any, points: Sequence[Row], scale: float) -> None:
    values: dict[Any, list[float]] = {}
    for seed in dict.fromkeys(row.parameters["seed"] for row in points):
        line = [row for row in points if row.parameters["seed"] == seed]
        steps = [scale * float(row.parameters["steps"]) for row in line]
        axes.plot(steps, [row.value for row in line], color=OTHER, linewidth=1)
        for step, row in zip(steps, line, strict=True):
            values.setdefault(step, []).append(row.value or 0.0)
    axes.plot(list(values), [np.mean(found) for found in values.values()], color=COLOURS[0], marker="o", label="mean")
