"""ExpSeek as rollout augmentation: the paper's numbers, and the tables that show ours beside them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from benchmarks.papers.expseek_rollouts_plan import (
    ABLATED,
    BACKTRACKING,
    BACKTRACKS,
    DEFAULT,
    FIT_GRID,
    FITTED,
    FREE,
    JUDGED,
    LEARNED,
    READINGS,
    THRESHOLDS,
)
from benchmarks.papers.expseek_rollouts_runs import Measured, Runs, run_of
from benchmarks.papers.study import Estimate, Table, estimate
from jaxrl_agents.methods.expseek_rollouts import STRATEGIES

METRICS = ("success", "return", "coverage", "diversity")
PAPER = {  # Table 1
    "Standard": (0.542, 0.578, 0.854, 0.954),
    "ExpSeek": (0.527, 0.563, 0.849, 0.954),
    "Best-of-N": (0.872, 0.897, 0.799, 0.956),
    "ExpSeek+BoN": (0.895, 0.917, 0.810, 0.956),
}
FIELDS = {
    "success": "success",
    "return": "mean_return",
    "coverage": "coverage",
    "diversity": "pair_diversity",
    "diversity of actions": "action_diversity",
}
LAST = 10  # epochs that the paper's Table 1 is a mean of
TARGET = 0.85  # success, of the paper's convergence analysis


def trained_on(run: Measured, metric: str) -> np.ndarray:
    """[seeds]: of the rollouts trained on, mean of the last epochs."""
    return getattr(run.trained_on, FIELDS.get(metric, metric))[:, -LAST:].mean(axis=1)


def plain(run: Measured, metric: str, look: int = -1) -> np.ndarray:
    """[seeds]: of plain rollouts of the policy at a look, the final one by default."""
    return getattr(run.plain, FIELDS.get(metric, metric))[:, look]


def epochs_to_target(run: Measured) -> np.ndarray:
    """[seeds]: the first epoch at which the last ten had the target's mean success; all epochs where none had."""
    success = run.trained_on.success
    sums = np.cumsum(np.pad(success, ((0, 0), (1, 0))), axis=1, dtype=np.float64)
    width = min(LAST, success.shape[1])
    reached = (sums[:, width:] - sums[:, :-width]) / width >= TARGET
    return np.where(reached.any(axis=1), reached.argmax(axis=1) + width, success.shape[1])


def equal_steps_look(run: Measured, reference: Measured) -> int:
    """The look at which `run` has taken about as many steps of the environment as `reference` in all."""
    looks = run.plain.success.shape[1]
    share = reference.steps.sum() / run.steps.sum()
    return max(round(looks * float(share)), 1) - 1


def tables(runs: Runs, *, whole: bool, fitted: bool) -> Iterator[Table]:
    """Every table; those of readings and ablations where the study is `whole`, the search for rates where `fitted`."""
    yield _table_1(runs)
    yield _policies(runs)
    if whole:
        yield _readings(runs)
        yield _swept(runs, "Ablation: the confidence threshold", "η", THRESHOLDS)
        yield _swept(runs, "Ablation: backtracks", "B", BACKTRACKS)
        yield _convergence(runs)
    if fitted:
        yield _fits(runs)


def _table_1(runs: Runs) -> Table:
    rows = []
    for metric in (*METRICS, "diversity of actions"):
        for name in STRATEGIES:
            paper = f"{PAPER[name][METRICS.index(metric)]:.3f}" if metric in METRICS else ""
            ours = [estimate(trained_on(run_of(runs, reading.name, name), metric)) for reading in JUDGED]
            alone = estimate(plain(run_of(runs, DEFAULT.name, name), metric))
            rows.append((f"{metric}, {name}", paper, *map(str, ours), str(alone)))
    readings = ", ".join(f"{reading.name} ({reading.summary})" for reading in JUDGED)
    note = (
        "Ours: means over seeds with their 95 % intervals, of the rollouts trained on in the last 10 epochs, under the "
        f"readings {readings}. Two numbers were fitted to the paper's row of Standard: the learning rate to its "
        f"success, k to its return. {FREE.name} is the one of {len(READINGS)} readings that comes nearest to the "
        f"paper's success, and was singled out for that after all had been run. {LEARNED.name} is fitted to nothing. "
        "Plain policy: rollouts of the final policy without retries or selection, default reading. Diversity is of "
        "(page, action) pairs; that of actions is at most 0.826 for 32 rollouts and 5 actions."
    )
    return Table("Table 1", ("", "paper", *(reading.name for reading in JUDGED), "plain policy"), rows, note)


def _policies(runs: Runs) -> Table:
    rows = []
    for reading in JUDGED:
        standard = run_of(runs, reading.name, "Standard")
        for name in STRATEGIES:
            run = run_of(runs, reading.name, name)
            look = equal_steps_look(run, standard)
            at_look = plain(run, "success", look), plain(standard, "success", look)
            values = (trained_on(run, "success"), plain(run, "success"), *at_look)
            steps = f"{run.steps.sum(axis=1).mean():,.0f}"
            rows.append((f"{reading.name}, {name}", *(str(estimate(value)) for value in values), steps))
    header = (
        "", "rollouts trained on", "plain policy", "plain, equal steps", "Standard, plain, at that look",
        "environment steps",
    )  # fmt: skip
    note = (
        "Success. Equal steps: the policy at the look after about as many environment steps as Standard takes in all. "
        "All policies of one look are measured with the same random words, those of another look with other ones. So "
        "a difference between two looks, as at equal steps, has the luck of both draws in it; what Standard had at the "
        f"earlier look stands beside it. {LEARNED.name}: {LEARNED.summary}."
    )
    return Table("Selection or learning: the rollouts and the policy", header, rows, note)


def _readings(runs: Runs) -> Table:
    rows = [("paper", *(f"{PAPER[name][0]:.3f}" for name in STRATEGIES), "", "")]
    for reading in READINGS:
        values = [estimate(trained_on(run_of(runs, reading.name, name), "success")) for name in STRATEGIES]
        rows.append((reading.name, *map(str, values), f"{distance(values):.3f}", reading.summary))
    note = "Success of the rollouts trained on; distance: the mean absolute difference from the paper's four."
    return Table("Readings of what the paper leaves open", ("", *STRATEGIES, "distance", "what it says"), rows, note)


def distance(values: Sequence[Estimate]) -> float:
    """The mean absolute difference from the paper's success of the four strategies."""
    return float(np.mean([abs(value.mean - PAPER[name][0]) for name, value in zip(STRATEGIES, values, strict=True)]))


def swept(regime: str, symbol: str, point: float) -> str:
    """The reading that an ablation's point is trained under."""
    usual = {"η": 0.3, "B": 3}[symbol]
    return regime if point == usual else f"{regime}, {symbol} = {point}"


def _swept(runs: Runs, title: str, symbol: str, points: Sequence[float]) -> Table:
    rows = []
    for regime in ABLATED:
        for point in points:
            cells = []
            for name in BACKTRACKING:
                run = runs[swept(regime.name, symbol, point), name]
                values = trained_on(run, "success"), plain(run, "success"), trained_on(run, "retries")
                cells += [str(estimate(value)) for value in values]
            rows.append((f"{regime.name}, {symbol} = {point}", *cells))
    parts = ("success", "plain policy", "retries")
    header = ("", *(f"{name}: {part}" for name in BACKTRACKING for part in parts))
    missing = ", ".join(reading.name for reading in JUDGED if reading not in ABLATED)
    note = (
        "Success of the rollouts trained on and of the final plain policy; retries a rollout that was kept. Not run "
        f"under {missing}."
    )
    return Table(title, header, rows, note)


def _convergence(runs: Runs) -> Table:
    rows = []
    for regime in JUDGED:
        base = epochs_to_target(run_of(runs, regime.name, "Best-of-N"))
        both = epochs_to_target(run_of(runs, regime.name, "ExpSeek+BoN"))
        cells = [f"{value.mean:.1f} ± {(value.high - value.low) / 2:.1f}" for value in map(estimate, (base, both))]
        rows.append((regime.name, *cells, f"{100 * (both.mean() / base.mean() - 1):+.0f} %"))
    header = ("", "Best-of-N", "ExpSeek+BoN", "difference")
    note = (
        "The first epoch whose last ten had 85 % success, rollouts trained on, mean over seeds; seeds that never had "
        "it count as all epochs, so that such a mean is a lower bound. The paper: about 15 % fewer with ExpSeek."
    )
    return Table("Convergence: epochs to 85 % success", header, rows, note)


def _fits(runs: Runs) -> Table:
    rows = []
    for k, rates in FIT_GRID.items():
        for rate in rates:
            run = runs[f"k = {k}, rate {rate:g}", "Standard"]
            values = [str(estimate(trained_on(run, metric))) for metric in METRICS]
            rows.append((f"k = {k}, rate {rate:g}" + (", used" if rate == FITTED[k] else ""), *values))
    rows.append(("paper", *(f"{value:.3f}" for value in PAPER["Standard"])))
    return Table("The fit of k and of the learning rate to Standard", ("", *METRICS), rows)
