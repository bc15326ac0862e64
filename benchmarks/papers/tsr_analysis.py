"""From the runs of the study of TSR to numbers and verdicts."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from benchmarks.papers.study import Claim, Estimate, Verdict, estimate, verdict_of
from benchmarks.papers.tsr_plan import BASELINE, Cell
from benchmarks.papers.tsr_runs import CURVE_TIMES, Run
from jaxrl_agents.methods.tsr import NUM_HELD_OUT
from jaxrl_agents.training.evaluation import Interval, wilson

Runs = Mapping[str, Sequence[Run]]  # of one domain: by method, a run a seed
Currency = Literal["updates", "env_steps", "policy_forwards"]

SHARE, NEARLY = 0.8, 0.95  # of the final success: the paper's measure of speed, and our reading of "convergence"
CLOCKS = ("seconds", "cpu_seconds")
SPIKE = 10.0  # a gradient norm that is so many times the run's median

Values = Callable[[Run], float]


def counted(run: Run, cell: Cell) -> Run:
    """The run as tables, claims and plots count it: one that diverged has failed from that update on.

    There its evaluations have no success, the least return that it had, at most 0, and the most turns and actions; the
    rollouts to train on have no success and the least return too. Entropy and gradient norm stay where they were last
    (at 0 where there was none), and an update costs the mean of those before. What was measured earlier stays, the
    final evaluation too where the run diverged after the compared updates.
    """
    end = run.diverged
    if end is None:
        return run
    curve, steps = run.curve, run.steps
    updates = sorted({end.update, *(update for update in cell.evaluations if update > end.update)})
    costs = {name: getattr(end, name) / end.update for name in ("env_steps", "policy_forwards")} | {"updates": 1.0}
    lost = {
        "success": 0.0, "turns": max(curve["turns"]), "actions": max(curve["actions"]),
        "episode_return": min(0.0, *curve["episode_return"]),
    }  # fmt: skip
    still = {
        "success": 0.0, "return": min([0.0, *steps["return"]]),
        **{name: steps[name][-1] if steps[name] else 0.0 for name in ("entropy", "gradient_norm")},
    }  # fmt: skip
    rest = {name: [costs[name] * update if name in costs else lost[name] for update in updates] for name in curve}
    missing = cell.total_updates - len(steps["success"])
    return dataclasses.replace(
        run,
        curve={name: values + rest[name] for name, values in curve.items()},
        steps={name: values + [still[name]] * missing for name, values in steps.items()},
        final=run.final or lost,
    )


def failed(run: Run) -> bool:
    """Whether it diverged in the updates after which methods are compared."""
    return run.diverged is not None and run.diverged.update <= run.num_updates


def final(name: str) -> Values:
    """What the final evaluation measured: after equal updates."""
    return lambda run: run.final[name]


success = final("success")


def gain(run: Run) -> float:
    """The final success less that of the base model, which has fewer episodes."""
    return run.final["success"] - run.curve["success"][0]


def at(budget: float, currency: Currency) -> Values:
    """The success when so much was spent, linear between evaluations."""
    return lambda run: float(np.interp(budget, run.curve[currency], run.curve["success"]))


def common_budget(runs: Runs, methods: Sequence[str], currency: Currency) -> float:
    """The most that all runs of all the methods have spent."""
    return min(run.curve[currency][-1] for method in methods for run in runs[method])


def mean_of(runs: Runs, method: str, value: Values) -> Estimate:
    """Over the seeds."""
    return estimate([value(run) for run in runs[method]])


def base_model(runs: Runs) -> Interval:
    """The success that all runs of a domain start from, which is measured once; the interval is binomial (Wilson's)."""
    episodes = CURVE_TIMES * NUM_HELD_OUT
    return wilson(round(episodes * next(iter(runs.values()))[0].curve["success"][0]), episodes)


def gained(runs: Runs, method: str) -> Estimate:
    """By how much a method ends above the base model, whose one error all its seeds share: in the interval are both."""
    seeds, base = mean_of(runs, method, gain), base_model(runs)
    half = float(np.hypot(seeds.high - seeds.low, base.high - base.low)) / 2
    return dataclasses.replace(seeds, low=seeds.mean - half, high=seeds.mean + half)


def difference(runs: Runs, a: str, b: str, value: Values) -> Estimate:
    """By how much `a` exceeds `b`; their seeds share parameters and tasks, so they are compared in pairs."""
    return estimate([value(x) - value(y) for x, y in zip(runs[a], runs[b], strict=True)])


def reached(run: Run, share: float, of: Run | None = None) -> float:
    """Updates until an evaluation has `share` of the final success; the paper's "steps to 80 %" for 0.8.

    Of the run's own success, or of that of another run. Updates beyond those that are compared do not count; where
    no evaluation got there, the last one stands for it, and a run that failed did not get there.
    """
    there = _there(run, share, of)
    return float(run.curve["updates"][int(np.argmax(there))]) if there.any() else float(run.num_updates)


def _there(run: Run, share: float, of: Run | None) -> np.ndarray:
    """Which evaluations of the compared updates have the share of the final success."""
    enough = np.asarray(run.curve["success"]) >= share * (run if of is None else of).final["success"]
    return enough & (np.asarray(run.curve["updates"]) <= run.num_updates) & (not failed(run))


def steps_to(share: float) -> Values:
    """`reached` for that share."""
    return lambda run: reached(run, share)


def common_steps(runs: Runs, method: str) -> tuple[np.ndarray, int]:
    """Updates to SHARE of what the baseline ends with, seed by seed, and how many runs did not get there."""
    pairs = list(zip(runs[method], runs[BASELINE], strict=True))
    missing = sum(not _there(run, SHARE, base).any() for run, base in pairs)
    return np.array([reached(run, SHARE, base) for run, base in pairs]), missing


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
    """The largest gradient norm over the run's median, of the compared updates; infinite where the run failed."""
    if failed(run):
        return float("inf")
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


def judged(runs: Runs, favoured: Iterable[str], found: Iterable[Estimate]) -> Verdict:
    """Whether all of `found` are above 0; a claim in favour of a method does not hold where a run of it failed.

    Such a run makes the interval wide, which would be to the advantage of the method.
    """
    if any(failed(run) for method in favoured for run in runs[method]):
        return "does not hold"
    return verdict_of(list(found))


Pair = tuple[str, str]
NOT_RUN = "none of these methods was run"


def compared(
    claim: str, domain: str, runs: Runs, pairs: Sequence[Pair], value: Values, *, favoured: Literal[0, 1] = 0
) -> Claim:
    """A claim that in each pair the first method is above the second; not tested where a method was not run.

    `favoured` says whether that speaks for the first one or for the second one.
    """
    found = _differences(runs, pairs, value)
    if not found:
        return Claim(f"{domain}: {claim}", "not tested", NOT_RUN)
    verdict = judged(runs, {pair[favoured] for pair in found}, found.values())
    return Claim(f"{domain}: {claim}", verdict, _shown(found))


def _differences(runs: Runs, pairs: Sequence[Pair], value: Values) -> dict[Pair, Estimate]:
    """Of the pairs that were run."""
    return {(a, b): difference(runs, a, b, value) for a, b in pairs if a in runs and b in runs}


def _shown(found: Mapping[Pair, Estimate]) -> str:
    return "; ".join(f"{a} − {b} {interval(one)}" for (a, b), one in found.items())


def positive(claim: str, domain: str, runs: Runs, found: Mapping[str, Estimate]) -> Claim:
    """A claim that what was found is above 0 under each method."""
    text = "; ".join(f"{method} {interval(one)}" for method, one in found.items())
    return Claim(f"{domain}: {claim}", judged(runs, found, found.values()), text)


def alike(claim: str, domain: str, runs: Runs, pairs: Sequence[Pair], value: Values) -> Claim:
    """A claim that a value is the same in each pair, which a difference refutes and its absence does not prove."""
    found = _differences(runs, pairs, value)
    if not found:
        return Claim(f"{domain}: {claim}", "not tested", NOT_RUN)
    differ = any(one.low > 0 or one.high < 0 for one in found.values())
    return Claim(f"{domain}: {claim}", "does not hold" if differ else "not separated", _shown(found))


def sooner(claim: str, domain: str, runs: Runs, pairs: Sequence[Pair], share: float) -> Claim:
    """A claim that in each pair the second method needs fewer updates to a share of its own final success.

    Where a method does not end above its base model, or both have the share from the start, there is nothing to time.
    """
    idle = {method for pair in pairs for method in pair if gained(runs, method).low <= 0}
    updates = steps_to(share)
    started = lambda pair: any(updates(run) for method in pair for run in runs[method])
    timed = [pair for pair in pairs if not idle & set(pair) and started(pair)]
    if not timed:
        why = [f"{', '.join(sorted(idle))}: not above the base model at the end"] if idle else []
        if any(not idle & set(pair) for pair in pairs):
            why.append(f"the base model has {percents(share)} already")
        return Claim(f"{domain}: {claim}", "not tested", "; ".join(why))
    found = compared(claim, domain, runs, timed, updates, favoured=1)
    left_out = "".join(f"; {a} − {b} is not tested" for a, b in pairs if (a, b) not in timed)
    return dataclasses.replace(found, found=found.found + left_out)


def first_there(claim: str, domain: str, runs: Runs, others: Sequence[str], method: str) -> Claim:
    """A claim that a method gets to SHARE of what the baseline ends with before the others do.

    Seeds under which the base model has that much already are left out.
    """
    timed = np.array([SHARE * success(run) > run.curve["success"][0] for run in runs[BASELINE]])
    if timed.sum() < 2:
        return Claim(f"{domain}: {claim}", "not tested", "the base model has that much already")
    updates = {name: common_steps(runs, name)[0][timed] for name in (*others, method)}
    found = {(other, method): estimate(updates[other] - updates[method]) for other in others}
    left_out = f"; of {timed.sum()} seeds, under the others the base model has that much already"
    text = _shown(found) + ("" if timed.all() else left_out)
    return Claim(f"{domain}: {claim}", judged(runs, [method], found.values()), text)


def percents(share: float, digits: int = 0) -> str:
    """A share as text."""
    return f"{100 * share:.{digits}f} %"


def interval(one: Estimate, digits: int = 3) -> str:
    """As "+0.012 [−0.004, 0.028]"."""
    return f"{one.mean:+.{digits}f} [{one.low:+.{digits}f}, {one.high:+.{digits}f}]"


def ordering(methods: Sequence[str]) -> list[Pair]:
    """(better, worse) of all pairs, from methods in rising order."""
    return [(better, worse) for worse, better in itertools.combinations(methods, 2)]


def _two_gains(runs: Runs, low: str, middle: str, high: str) -> tuple[Estimate, Estimate, Estimate]:
    """What the second of three methods gains, what the third gains on it, and the first gain less the second one."""
    values: list[Any] = [[success(run) for run in runs[method]] for method in (low, middle, high)]
    less = estimate(2 * np.asarray(values[1]) - values[0] - values[2])
    return difference(runs, middle, low, success), difference(runs, high, middle, success), less


def budget_claim(domain: str, runs: Runs, narrow: str, wide: str, many: str) -> Claim:
    """Table 4: a beam of two instead of one gains more than six candidates instead of two."""
    claim = f"{domain}: W 1 → 2 gains more than M 2 → 6"
    if not {narrow, wide, many} <= set(runs):
        return Claim(claim, "not tested", "these budgets were not run")
    wider, more, gap = _two_gains(runs, narrow, wide, many)
    found = f"W {interval(wider)}, M {interval(more)}, between them {interval(gap)}"
    return Claim(claim, judged(runs, [wide], [gap]), found)


def diminishing(domain: str, runs: Runs, few: str, some: str, many: str) -> Claim:
    """Tables 4 to 7: twice the candidates gain, and the next two gain less."""
    claim = f"{domain}: more candidates bring diminishing returns (M 2 → 4 gains, M 4 → 6 less)"
    if not {few, some, many} <= set(runs):
        return Claim(claim, "not tested", "these budgets were not run")
    first, second, less = _two_gains(runs, few, some, many)
    found = f"M 2 → 4 {interval(first)}, 4 → 6 {interval(second)}, between them {interval(less)}"
    return Claim(claim, judged(runs, [some], [first, less]), found)
