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


def success(run: Run) -> float:
    """At equal updates: of the final evaluation."""
    return run.final["success"]


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


def reached(run: Run, share: float) -> float:
    """Updates until an evaluation has `share` of the final success; the paper's "steps to 80 %" for 0.8."""
    there = np.asarray(run.curve["success"]) >= share * run.final["success"]
    return float(run.curve["updates"][int(np.argmax(there))] if there.any() else run.curve["updates"][-1])


def steps_to(share: float) -> Values:
    """`reached` for that share."""
    return lambda run: reached(run, share)


def spikes(run: Run) -> float:
    """The largest gradient norm over the run's median."""
    norms = np.asarray(run.steps["gradient_norm"])
    return float(norms.max() / max(float(np.median(norms)), 1e-12))


def cost(runs: Runs, method: str, clock: str) -> float:
    """Seconds of an update by one of the CLOCKS, the mean over the seeds."""
    return float(np.mean([getattr(run, clock) for run in runs[method]]))


def per_update(name: str) -> Values:
    """What an update spends of a currency."""
    return lambda run: run.curve[name][-1] / run.curve["updates"][-1]


def forwards_ratio(runs: Runs, method: str) -> float:
    """Policy forwards of an update over those of the baseline."""
    each = per_update("policy_forwards")
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
