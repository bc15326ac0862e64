"""The study of ExpSeek as rollout augmentation: four strategies, two ablations, convergence, and the readings."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

from benchmarks.papers import Budget, Paper, Settings
from benchmarks.papers.expseek_rollouts_claims import claims
from benchmarks.papers.expseek_rollouts_plan import (
    ABLATED,
    JUDGED,
    LEARNED,
    READINGS,
    Arm,
    ablations,
    arms,
    fits,
)
from benchmarks.papers.expseek_rollouts_plots import plots
from benchmarks.papers.expseek_rollouts_runs import Runs, Trainer, train_all
from benchmarks.papers.expseek_rollouts_tables import LAST, METRICS, plain, tables, trained_on
from benchmarks.papers.progress import Progress
from benchmarks.papers.study import Study, estimate
from jaxrl_agents.methods.expseek_rollouts import Config

BUDGETS = {
    "quick": Budget("Table 1 and the plain policies", 16),
    "standard": Budget("every table of the paper, and the readings of what it leaves open", 64),
    "full": Budget("the same, and the search for the learning rates", 256),
}


def wanted(budget: str) -> list[Arm]:
    """The trainings of a budget."""
    if budget == "quick":
        return list(arms(JUDGED))
    found = [*arms((*READINGS, LEARNED)), *(arm for regime in ABLATED for arm in ablations(regime))]
    return [*found, *fits()] if budget == "full" else found


def study(settings: Settings, folder: Path, progress: Progress, *, num_epochs: int = Config.num_epochs) -> Study:
    """Trains what is not done yet, and says what came of it; see `Paper`."""
    whole, fitted = settings.budget != "quick", settings.budget == "full"
    start = time.perf_counter()
    asked = wanted(settings.budget)
    trainer = Trainer(folder, settings.num_seeds, settings.seed, num_epochs)
    runs, num_kept = train_all(asked, trainer, progress)
    trained = time.perf_counter()
    steps = sum(int(run.steps.sum()) for run in runs.values())
    found = Study(
        summary=_summary(len(asked), settings, num_epochs, steps),
        tables=list(tables(runs, whole=whole, fitted=fitted)),
        claims=list(claims(runs, whole=whole)),
        plots=list(plots(runs, folder, whole=whole)),
        records={f"{reading}: {name}": _record(runs, reading, name) for reading, name in sorted(runs)},
        timings={},
    )
    shown = time.perf_counter()
    kept = f", without {num_kept} trainings that were kept from before" if num_kept else ""
    timings = {f"compiling and training{kept}": trained - start, "tables and plots": shown - trained}
    return dataclasses.replace(found, timings=timings)


def _summary(num_arms: int, settings: Settings, num_epochs: int, steps: int) -> str:
    return (
        f"{num_arms} trainings of {settings.num_seeds} seeds, each with a web of its own, {num_epochs} epochs of 32 "
        f"rollouts: {steps:,} environment steps in rollouts to train on. Intervals are 95 % over seeds; differences "
        "are taken seed by seed."
    )


def _record(runs: Runs, reading: str, name: str) -> dict[str, Any]:
    """The numbers of one training, as JSON holds them."""
    run = runs[reading, name]
    return {
        "trained_on": {
            metric: dataclasses.asdict(estimate(trained_on(run, metric)))
            for metric in (*METRICS, "diversity of actions", "length", "retries")
        },
        "plain": {metric: dataclasses.asdict(estimate(plain(run, metric))) for metric in METRICS},
        "success_by_epoch": [round(float(value), 4) for value in run.trained_on.success.mean(axis=0)],
        "plain_success_by_look": [round(float(value), 4) for value in run.plain.success.mean(axis=0)],
        "entropy": dataclasses.asdict(estimate(run.entropy[:, -LAST:].mean(axis=1))),
        "environment_steps": float(run.steps.sum(axis=1).mean()),
    }


PAPER = Paper(
    name="expseek-rollouts",
    title="ExpSeek as rollout augmentation",
    budgets=BUDGETS,
    default_budget="standard",
    study=study,
)
