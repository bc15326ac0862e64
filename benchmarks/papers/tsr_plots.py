"""The pictures of the study of TSR."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.papers.tsr_analysis import Runs, recorded
from benchmarks.papers.tsr_plan import METHODS
from benchmarks.papers.tsr_runs import Run
from benchmarks.papers.tsr_tables import OPTIMUM
from benchmarks.plots import COLOURS, STYLE, new_figure, save
from benchmarks.suites import Plot

Points = Sequence[float] | np.ndarray
Line = Callable[[Run], tuple[Points, Points]]


def plots(domains: Mapping[str, Runs], optima: Mapping[str, float], folder: Path) -> Iterator[Plot]:
    """Success over updates and over what they cost, and what training looked like."""
    from matplotlib import rc_context

    with rc_context(STYLE):
        yield _success(domains, optima, folder)
        yield _training(domains, optima, folder)


def _success(domains: Mapping[str, Runs], optima: Mapping[str, float], folder: Path) -> Plot:
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    currencies = {
        "updates": "updates", "env_steps": "environment steps (log)", "policy_forwards": "policy forwards (log)",
    }  # fmt: skip
    figure = new_figure(3.6 * len(currencies), 0.5 + 2.6 * len(domains))
    panels = figure.subplots(len(domains), len(currencies), squeeze=False, sharey="row")
    for row, (domain, runs) in zip(panels, domains.items(), strict=True):
        for axes, (currency, label) in zip(row, currencies.items(), strict=True):
            _lines(axes, runs, lambda run, currency=currency: (run.curve[currency], run.curve["success"]))  # type: ignore[misc]
            if domain in optima:
                _optimum(axes, optima[domain])
            axes.set(xlabel=label, ylim=(0, None))
            if currency == "updates":
                axes.set(xlim=(0, _compared_updates(runs)))
            else:  # methods spend very different amounts
                axes.set(xscale="log", xlim=(_first_cost(runs, currency), None))
                axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
                axes.xaxis.set_major_formatter(EngFormatter(sep=""))
                axes.xaxis.set_minor_formatter(NullFormatter())
        row[0].set_ylabel(f"{domain}: success")
    _legend(figure, panels)
    caption = (
        "Success on held-out tasks: mean of the seeds, bands from the lowest to the highest; dotted: the exact optimum"
    )
    return save(figure, folder, "tsr_success.png", caption)


def _training(domains: Mapping[str, Runs], optima: Mapping[str, float], folder: Path) -> Plot:
    shown = {"return": "return of training rollouts", "entropy": "entropy (nats)", "gradient_norm": "gradient norm"}
    figure = new_figure(3.6 * len(shown), 0.5 + 2.4 * len(domains))
    panels = figure.subplots(len(domains), len(shown), squeeze=False)
    for row, (domain, runs) in zip(panels, domains.items(), strict=True):
        for axes, (name, label) in zip(row, shown.items(), strict=True):
            _lines(axes, runs, lambda run, name=name: (range(1, run.num_updates + 1), recorded(run, name)))  # type: ignore[misc]
            axes.set(xlabel="updates", ylabel=label, xlim=(0, _compared_updates(runs)))
        if domain in optima:
            _optimum(row[0], optima[domain])
        row[0].set_title(domain, loc="left")
    _legend(figure, panels)
    caption = "Training: returns of the rollouts that the search kept, entropy, gradient norm; bands as above"
    return save(figure, folder, "tsr_training.png", caption)


def _lines(axes: Any, runs: Runs, line: Line) -> None:
    """One line a method: the mean of the seeds, over the first seed's abscissas."""
    for colour, method in zip(COLOURS, METHODS, strict=False):
        if method not in runs:
            continue
        x, _ = line(runs[method][0])
        values = np.array([np.interp(x, *line(run)) for run in runs[method]])
        axes.plot(x, values.mean(axis=0), color=colour, label=method)
        axes.fill_between(x, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.15, linewidth=0)


def _optimum(axes: Any, value: float) -> None:
    axes.axhline(value, color="black", linestyle=":", linewidth=1.2, label=OPTIMUM)


def _legend(figure: Any, panels: Any) -> None:
    """One entry for each thing that any of the first panels shows."""
    shown = {
        label: handle
        for row in panels
        for handle, label in zip(*row[0].get_legend_handles_labels(), strict=True)
    }  # fmt: skip
    figure.legend(shown.values(), shown.keys(), loc="outside upper center", ncols=5)


def _compared_updates(runs: Runs) -> float:
    """The updates after which methods are compared."""
    return next(iter(runs.values()))[0].num_updates


def _first_cost(runs: Runs, currency: str) -> float:
    """What the cheapest method has spent at its first evaluation after the base model's."""
    return min(runs[method][0].curve[currency][1] for method in METHODS if method in runs)
