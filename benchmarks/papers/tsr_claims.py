"""What the paper on TSR says, claim by claim, against the runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from benchmarks.papers.study import Claim
from benchmarks.papers.tsr_analysis import (
    NEARLY,
    SHARE,
    SPIKE,
    Currency,
    Runs,
    Values,
    alike,
    at,
    budget_claim,
    common_budget,
    compared,
    diminishing,
    early,
    final,
    first_there,
    gained,
    late,
    mean_of,
    ordering,
    percents,
    positive,
    sooner,
    spikes,
    success,
)
from benchmarks.papers.tsr_plan import BASELINE, FIRST_BUDGETS, METHODS

BEAM = METHODS[-1]
ORDER = " > ".join(reversed(METHODS))
PAPER_LAKE = 0.607  # success on FrozenLake of the paper's largest model with beam search


def claims(domains: Mapping[str, Runs], optima: Mapping[str, float]) -> Iterator[Claim]:
    """All that runs decide without a clock; `optima` are the exact ceilings of the domains that have one."""
    for domain, runs in domains.items():
        yield from _of_training(domain, runs)
    for domain, optimum in optima.items():
        yield _attainable(domain, optimum)
    for domain, runs in domains.items():
        yield from _of_behaviour(domain, runs)


def _of_training(domain: str, runs: Runs) -> Iterator[Claim]:
    methods = [method for method in METHODS if method in runs]
    over_baseline = [(method, BASELINE) for method in methods if method != BASELINE]
    for equal, after, value in _comparisons(runs, methods):
        for claim, pairs in ((f"search beats instance {BASELINE}", over_baseline), (ORDER, ordering(methods))):
            found = compared(f"{claim}, at equal {equal}", domain, runs, pairs, value)
            yield (
                found
                if after is None
                else dataclasses.replace(found, found=f"after {after:,.0f}: {found.found} (not in the paper)")
            )
    narrow, wide, many = FIRST_BUDGETS
    yield budget_claim(domain, runs, narrow, wide, many)
    yield diminishing(domain, runs, wide, BEAM, many)
    yield compared("M=4, W=2 is better than M=2, W=1", domain, runs, [(BEAM, narrow)], success)
    above = {method: gained(runs, method) for method in methods}
    yield positive("training ends above the base model (final less base)", domain, runs, above)


def _comparisons(runs: Runs, methods: Sequence[str]) -> Iterator[tuple[str, float | None, Values]]:
    """What is held equal, after how much of it, and the success then."""
    yield "updates", None, success
    currencies: tuple[tuple[Currency, str], ...] = (
        ("env_steps", "environment steps"), ("policy_forwards", "policy forwards"),
    )  # fmt: skip
    for currency, name in currencies:
        budget = common_budget(runs, methods, currency)
        yield name, budget, at(budget, currency)


def _of_behaviour(domain: str, runs: Runs) -> Iterator[Claim]:
    methods = [method for method in METHODS if method in runs]
    yield from _of_speed(domain, runs, methods)
    fewer = [(BASELINE, method) for method in methods if method != BASELINE]
    yield compared(
        f"search makes for fewer turns ({BASELINE}'s less the search's)", domain, runs, fewer, final("turns"),
        favoured=1,
    )  # fmt: skip
    yield compared(
        f"returns of training rollouts: {ORDER}", domain, runs, ordering(methods), lambda run: late(run, "return")
    )
    fall = lambda run: early(run, "entropy") - late(run, "entropy")
    fallen = {method: mean_of(runs, method, fall) for method in methods}
    yield positive("entropy falls with every method (first quarter less last)", domain, runs, fallen)
    yield alike(
        f"entropy ends like {BASELINE}'s (last quarter)",
        domain, runs, [(method, BASELINE) for _, method in fewer], lambda run: late(run, "entropy"),
    )  # fmt: skip
    worst = {method: max(spikes(run) for run in runs[method]) for method in methods}
    text = ", ".join(
        f"{method} {ratio:.1f}" if np.isfinite(ratio) else f"{method} diverged" for method, ratio in worst.items()
    )
    yield Claim(
        f"{domain}: gradient norms have no spikes (none above {SPIKE:.0f} times the median of its run)",
        "holds" if max(worst.values()) <= SPIKE else "does not hold",
        f"largest over median, of all seeds: {text}",
    )


def _of_speed(domain: str, runs: Runs, methods: Sequence[str]) -> Iterator[Claim]:
    yield sooner(
        f"search needs fewer updates to {percents(SHARE)} of its final success ({BASELINE}'s less the search's)",
        domain, runs, [(BASELINE, method) for method in methods if method != BASELINE], SHARE,
    )  # fmt: skip
    others = [method for method in methods if method != BEAM]
    if not others or BEAM not in methods:
        return
    yield sooner(
        f"beam converges in the fewest updates ({percents(NEARLY)} of its own final success)",
        domain, runs, [(other, BEAM) for other in others], NEARLY,
    )  # fmt: skip
    yield first_there(
        f"beam gets to {percents(SHARE)} of {BASELINE}'s final success in the fewest updates",
        domain, runs, others, BEAM,
    )  # fmt: skip


def _attainable(domain: str, optimum: float) -> Claim:
    return Claim(
        f"{domain}: beam search brings the largest model to {percents(PAPER_LAKE, 1)}",
        "holds" if optimum >= PAPER_LAKE else "does not hold",
        f"the best of all policies has {percents(optimum, 1)} on the held-out maps, with the paper's slips and limits",
    )
