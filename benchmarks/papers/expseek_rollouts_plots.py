"""ExpSeek as rollout augmentation: the pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.papers.expseek_rollouts_plan import ABLATED, BACKTRACKING, BACKTRACKS, DEFAULT, FREE, JUDGED, THRESHOLDS
from benchmarks.papers.expseek_rollouts_runs import Runs
from benchmarks.papers.expseek_rollouts_runs import run_of as _run_of
from benchmarks.papers.expseek_rollouts_tables import PAPER, plain, swept, trained_on
from benchmarks.papers.study import estimate
from benchmarks.plots import COLOURS, MARKERS, OTHER, new_figure, save, styled
from benchmarks.suites import Plot
from jaxrl_agents.methods.expseek_rollouts import STRATEGIES

_ALONE: dict[str, Any] = {"linestyle": "--", "marker": "."}  # how the plain policy is drawn


def plots(runs: Runs, folder: Path, *, whole: bool) -> Iterator[Plot]:
    """Every picture that the runs allow."""
    draws: tuple[Any, ...] = (_success, _curves, _ablations) if whole else (_success, _curves)
    yield from (draw(runs, folder) for draw in draws)


@styled
def _success(runs: Any, folder: Path) -> Plot:
    """Success of the four strategies: the paper, two readings, and the plain policy."""
    figure = new_figure(7.6, 3.4)
    axes = figure.subplots()
    ours = {
        "default reading": lambda name: trained_on(_run_of(runs, DEFAULT.name, name), "success"),
        "free reading": lambda name: trained_on(_run_of(runs, FREE.name, name), "success"),
        "plain policy, default reading": lambda name: plain(_run_of(runs, DEFAULT.name, name), "success"),
    }
    places = np.arange(len(STRATEGIES))
    axes.bar(places - 0.3, [PAPER[name][0] for name in STRATEGIES], 0.2, color=OTHER, label="paper")
    for i, (label, of) in enumerate(ours.items()):
        values = [estimate(of(name)) for name in STRATEGIES]
        errors = [(value.high - value.low) / 2 for value in values]
        look = {"color": COLOURS[i], "label": label, "error_kw": {"elinewidth": 1, "capsize": 2}}
        axes.bar(places - 0.1 + 0.2 * i, [value.mean for value in values], 0.2, yerr=errors, **look)
    axes.set_xticks(places, list(STRATEGIES))
    axes.set(ylabel="success", ylim=(0, 1))
    axes.grid(visible=False, axis="x")
    figure.legend(loc="outside upper center", ncols=4)
    caption = "Success in the last ten epochs of the rollouts trained on, and of the final plain policy; bars: 95 %"
    return save(figure, folder, "success.png", caption)


@styled
def _curves(runs: Any, folder: Path) -> Plot:
    """Success over epochs, of the rollouts trained on and of the plain policy."""
    figure = new_figure(9.0, 3.4)
    panels = figure.subplots(1, 3, sharey=True)
    for axes, reading in zip(panels, JUDGED, strict=True):
        for name, colour in zip(STRATEGIES, COLOURS, strict=False):
            run = _run_of(runs, reading.name, name)
            selected, alone = run.trained_on.success, run.plain.success
            epochs = np.arange(1, selected.shape[1] + 1)
            axes.plot(epochs, selected.mean(axis=0), color=colour, linewidth=1, label=name)
            every = selected.shape[1] // alone.shape[1]
            axes.plot(epochs[every - 1 :: every], alone.mean(axis=0), color=colour, **_ALONE)
        axes.set(xlabel="epochs", title=reading.name, ylim=(0, 1))
    panels[0].set_ylabel("success")
    panels[0].plot([], [], color=OTHER, **_ALONE, label="dashed: plain policy")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=5)
    return save(figure, folder, "curves.png", "Success over epochs: rollouts trained on (lines), plain policy (dashed)")


@styled
def _ablations(runs: Any, folder: Path) -> Plot:
    """Success over η and over B in both regimes, with and without best-of-N."""
    figure = new_figure(7.6, 3.4)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, symbol, points in zip(panels, "ηB", (THRESHOLDS, BACKTRACKS), strict=True):
        lines = [(regime.name, name) for regime in ABLATED for name in BACKTRACKING]
        for (regime, name), colour, marker in zip(lines, COLOURS, MARKERS, strict=False):
            values = [estimate(trained_on(runs[swept(regime, symbol, point), name], "success")) for point in points]
            errors = [(value.high - value.low) / 2 for value in values]
            look = {"color": colour, "marker": marker, "capsize": 2, "label": f"{name}, {regime}"}
            axes.errorbar(points, [value.mean for value in values], errors, **look)
        axes.set(xlabel={"η": "threshold η (nats)", "B": "backtracks B"}[symbol], ylim=(0, 1))
    panels[0].set_ylabel("success of the rollouts trained on")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return save(figure, folder, "ablations.png", "The two ablations, last ten epochs; bars: 95 %")
