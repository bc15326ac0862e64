"""From the runs of the study of TSR to numbers and verdicts."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from benchmarks.papers.study import Claim, Estimate, Verdict, estimate
from benchmarks.papers.tsr_plan import BASELINE
from benchmarks.papers.tsr_runs import Run

Runs = Mapping[str, Sequence[Run]]  # of one domain: by method, a run a seed
Currency = Literal["updates", "env_steps", "policy_forwards"]

SHARE, NEARLY = 0.8, 0.95  # of the final success: the paper's measure of speed, and our reading of "convergence"
CLOCKS = ("seconds", "cpu_seconds")
SPIKE = 10.0  # a gradient norm that is so many times the run's median

Values = Callable[[Run], float]


def final(name: str) -> Values:
    """What the final evaluation measured: after equal updates."""
    return lambda run: run.final[name]


success = final("success")


def at(budget: float, currency: Currency) -> Values:
    """The success when so much was spent, linear between evaluations."""
    return lambda run: float(np.interp(budget, run.curve[currency], run.curve["success"]))


def common_budget(runs: Runs, methods: Sequence[str], currency: Currency) -> float:
    """The most that all runs of all the methods have spent."""
    return min(run.curve[currency][-1] for method in methods for run in runs[method])


def mean_of(runs: Runs, method: str, value: Values) -> Estimate:
    """Over the seeds."""
    return estimate([value(run) for run in runs[method]])


def difference(runs: Runs, a: str, b: str, value: Values) -> Estimate:
    """By how much `a` exceeds `b`; their seeds share parameters and tasks, so they are compared in pairs."""
    return estimate([value(x) - value(y) for x, y in zip(runs[a], runs[b], strict=True)])


def reached(run: Run, share: float, of: Run | None = None) -> float:
    """Updates until an evaluation has `share` of the final success; the paper's "steps to 80 %" for 0.8.

    Of the run's own success, or of that of another run. Updates beyond those that are compared do not count; where
    no evaluation got there, the last one stands for it.
    """
    updates = np.asarray(run.curve["updates"])
    there = np.asarray(run.curve["success"]) >= share * (run if of is None else of).final["success"]
    there &= updates <= run.num_updates
    return float(updates[np.argmax(there)]) if there.any() else float(run.num_updates)


def steps_to(share: float) -> Values:
    """`reached` for that share."""
    return lambda run: reached(run, share)


def recorded(run: Run, name: str) -> np.ndarray:
    """What was recorded of the updates after which methods are compared."""
    return np.asarray(run.steps[name])[: run.num_updates]


def early(run: Run, name: str) -> float:
    """The mean of what was recorded over the first quarter of the compared updates."""
    values = recorded(run, name)
    return float(np.mean(values[: max(1, len(values) // 4)]))


def late(run: Run, name: str) -> float:
    """The mean of what was recorded over the last quarter of the compared updates."""
    values = recorded(run, name)
    return float(np.mean(values[-max(1, len(values) // 4) :]))


def spikes(run: Run) -> float:
    """The largest gradient norm over the run's median, of the compared updates."""
    norms = recorded(run, "gradient_norm")
    return float(norms.max() / max(float(np.median(norms)), 1e-12))


def cost(runs: Runs, method: str, clock: str) -> float:
    """Seconds of an update by one of the CLOCKS, the mean over the seeds."""
    return float(np.mean([getattr(run, clock) for run in runs[method]]))


def per_update(name: str) -> Values:
    """What an update spends of a currency, over the updates that are compared."""
    return lambda run: float(np.interp(run.num_updates, run.curve["updates"], run.curve[name])) / run.num_updates


def times_the_baseline(runs: Runs, method: str, currency: Currency) -> float:
    """What an update spends of a currency over what one of the baseline does."""
    each = per_update(currency)
    return mean_of(runs, method, each).mean / mean_of(runs, BASELINE, each).mean


def verdict_of(differences: Sequence[Estimate]) -> Verdict:
    """Whether all the differences are above 0: the intervals of all of them, or that of one of them the other way."""
    if any(difference.high < 0 for difference in differences):
        return "does not hold"
    return "holds" if all(difference.low > 0 for difference in differences) else "not separated"


def compared(claim: str, domain: str, runs: Runs, pairs: Sequence[tuple[str, str]], value: Values) -> Claim:
    """A claim that in each pair the first method is above the second; not tested where a method was not run."""
    pairs = [(a, b) for a, b in pairs if a in runs and b in runs]
    if not pairs:
        return Claim(f"{domain}: {claim}", "not tested", "none of these methods was run")
    found = [difference(runs, a, b, value) for a, b in pairs]
    text = "; ".join(f"{a} − {b} {interval(one)}" for (a, b), one in zip(pairs, found, strict=True))
    return Claim(f"{domain}: {claim}", verdict_of(found), text)


def falling(claim: str, domain: str, runs: Runs, methods: Sequence[str], name: str) -> Claim:
    """A claim that under each method what was recorded under a name is lower late in training than early."""
    found = [mean_of(runs, method, lambda run: early(run, name) - late(run, name)) for method in methods]
    text = "; ".join(f"{method} {interval(one)}" for method, one in zip(methods, found, strict=True))
    return Claim(f"{domain}: {claim}", verdict_of(found), text)


def percents(share: float, digits: int = 0) -> str:
    """A share as text."""
    return f"{100 * share:.{digits}f} %"


def interval(one: Estimate, digits: int = 3) -> str:
    """As "+0.012 [−0.004, 0.028]"."""
    return f"{one.mean:+.{digits}f} [{one.low:+.{digits}f}, {one.high:+.{digits}f}]"


def ladder(methods: Sequence[str]) -> list[tuple[str, str]]:
    """(better, worse) of neighbours, from methods in rising order."""
    return [(better, worse) for worse, better in itertools.pairwise(methods)]


def budget_claim(domain: str, runs: Runs, narrow: str, wide: str, many: str) -> Claim:
    """Table 4: a beam of two instead of one gains more than six candidates instead of two."""
    claim = f"{domain}: W 1 → 2 gains more than M 2 → 6"
    if not {narrow, wide, many} <= set(runs):
        return Claim(claim, "not tested", "these budgets were not run")
    wider, more = difference(runs, wide, narrow, success), difference(runs, many, wide, success)
    values: list[Any] = [[success(run) for run in runs[method]] for method in (narrow, wide, many)]
    gap = estimate(2 * np.asarray(values[1]) - values[0] - values[2])
    return Claim(claim, verdict_of([gap]), f"W {interval(wider)}, M {interval(more)}, between them {interval(gap)}")
