"""What the paper on TSR says, claim by claim, against the runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

from benchmarks.papers.study import Claim
from benchmarks.papers.tsr_analysis import (
    SHARE,
    SPIKE,
    Runs,
    at,
    budget_claim,
    common_budget,
    compared,
    ladder,
    spikes,
    steps_to,
    success,
)
from benchmarks.papers.tsr_plan import BASELINE, FIRST_BUDGETS, METHODS

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
    yield compared("search beats instance filtering, at equal updates", domain, runs, over_baseline, success)
    yield compared("beam > lookahead > best-of-N > filtering, at equal updates", domain, runs, ladder(methods), success)
    for currency, name in (("env_steps", "environment steps"), ("policy_forwards", "policy forwards")):
        budget = common_budget(runs, methods, currency)  # type: ignore[arg-type]
        claim = compared(
            f"search beats instance filtering, at equal {name}", domain, runs, over_baseline,
            at(budget, currency),  # type: ignore[arg-type]
        )  # fmt: skip
        yield dataclasses.replace(claim, found=f"after {budget:,.0f}: {claim.found} (not in the paper)")
    yield budget_claim(domain, runs, *FIRST_BUDGETS)


def _of_behaviour(domain: str, runs: Runs) -> Iterator[Claim]:
    methods = [method for method in METHODS if method in runs]
    fewer = [(BASELINE, method) for method in methods if method != BASELINE]
    yield compared(
        f"search needs fewer updates to {SHARE:.0%} of its final success (filtering's updates less the search's)",
        domain, runs, fewer, steps_to(SHARE),
    )  # fmt: skip
    yield compared(
        "search makes for fewer turns (filtering's turns less the search's)", domain, runs, fewer,
        lambda run: run.final["turns"],
    )  # fmt: skip
    worst = {method: max(spikes(run) for run in runs[method]) for method in methods}
    text = ", ".join(f"{method} {ratio:.1f}" for method, ratio in worst.items())
    yield Claim(
        f"{domain}: gradient norms have no spikes (none above {SPIKE:.0f} times the median of its run)",
        "holds" if max(worst.values()) <= SPIKE else "does not hold",
        f"largest over median, of all seeds: {text}",
    )


def _attainable(domain: str, optimum: float) -> Claim:
    return Claim(
        f"{domain}: beam search brings the largest model to {PAPER_LAKE:.1%}",
        "holds" if optimum >= PAPER_LAKE else "does not hold",
        f"the best of all policies has {optimum:.1%} on the held-out maps, with the paper's slips and limits",
    )
