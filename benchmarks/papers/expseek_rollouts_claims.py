"""ExpSeek as rollout augmentation: what the paper says, and what was found under each reading of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from benchmarks.papers.expseek_rollouts_plan import DEFAULT, FREE, LEARNED, Reading
from benchmarks.papers.expseek_rollouts_runs import Measured, Runs, run_of
from benchmarks.papers.expseek_rollouts_tables import epochs_to_target, equal_steps_look, plain, swept, trained_on
from benchmarks.papers.study import Claim, Estimate, Verdict, estimate, verdict_of

BACKTRACKS_USED = 3  # B
SMALL = 0.01  # "comparable" diversity: a difference that the paper's own rows stay within
RARELY = 0.5  # retries a rollout

Judge = Callable[[Runs, Reading], Claim]


def claims(runs: Runs, *, whole: bool) -> Iterator[Claim]:
    """Every claim that the runs can judge, in the order of the paper, under each reading that it is judged by."""
    for judge, readings in (*OF_TABLE_1, *(OF_ABLATIONS if whole else ())):
        for reading in readings:
            found = judge(runs, reading)
            yield dataclasses.replace(found, claim=f"{reading.name}: {found.claim}")


def signed(difference: Estimate) -> str:
    """A difference with its sign and interval."""
    return f"{difference.mean:+.3f} ({difference.low:+.3f} … {difference.high:+.3f})"


def _of(runs: Runs, reading: Reading, name: str, metric: str = "success") -> np.ndarray:
    """[seeds]: a metric of the rollouts that a strategy trained on."""
    return trained_on(run_of(runs, reading.name, name), metric)


def _difference(runs: Runs, reading: Reading, claim: str, metric: str, name: str, base: str) -> Claim:
    values = _of(runs, reading, name, metric) - _of(runs, reading, base, metric)
    found = f"{name} − {base}, {metric}, {signed(estimate(values))}; one seed's varies by ±{values.std(ddof=1):.3f}"
    return Claim(claim, verdict_of([estimate(values)]), found)


def _highest(runs: Runs, reading: Reading) -> Claim:
    others = ("Standard", "ExpSeek", "Best-of-N")
    nearest = max(others, key=lambda name: _of(runs, reading, name).mean())
    value = estimate(_of(runs, reading, "ExpSeek+BoN") - _of(runs, reading, nearest))
    found = f"minus {nearest}, the best of the others, {signed(value)}"
    return Claim("ExpSeek+BoN has the highest success (0.895)", verdict_of([value]), found)


def _gain_over_standard(runs: Runs, reading: Reading) -> Claim:
    both, standard = _of(runs, reading, "ExpSeek+BoN"), _of(runs, reading, "Standard")
    found = (
        f"{signed(estimate(both - standard))}, {100 * (both.mean() / standard.mean() - 1):+.0f} %: of rollouts "
        "selected from four times as many; the policy itself: see below"
    )
    verdict = verdict_of([estimate(both - standard)])
    return Claim("ExpSeek+BoN succeeds more often than Standard (+65 %)", verdict, found)


def _no_gain(runs: Runs, reading: Reading) -> Claim:
    value = estimate(_of(runs, reading, "ExpSeek") - _of(runs, reading, "Standard"))
    verdict: Verdict = "does not hold" if value.low > 0 else "holds"
    claim = "ExpSeek alone does not improve on Standard (0.527, 0.542)"
    return Claim(claim, verdict, f"ExpSeek − Standard, success, {signed(value)}")


def _comparable_diversity(runs: Runs, reading: Reading) -> Claim:
    value = estimate(_of(runs, reading, "ExpSeek+BoN", "diversity") - _of(runs, reading, "Standard", "diversity"))
    verdict: Verdict = "holds" if max(abs(value.low), abs(value.high)) <= SMALL else "does not hold"
    found = f"ExpSeek+BoN − Standard, pairs, {signed(value)}; comparable: within {SMALL}"
    return Claim("The diversity of ExpSeek+BoN is comparable with Standard's", verdict, found)


def _policy(runs: Runs, reading: Reading) -> Claim:
    """Of the conclusion: "improves both convergence speed and final performance"."""
    of = lambda name: plain(run_of(runs, reading.name, name), "success")
    value = estimate(of("ExpSeek+BoN") - of("Standard"))
    found = f"plain policy after equal updates, ExpSeek+BoN − Standard, success, {signed(value)}"
    return Claim("Training on ExpSeek+BoN rollouts improves final performance", verdict_of([value]), found)


def _policy_at_equal_steps(runs: Runs, reading: Reading) -> Claim:
    standard, both = (run_of(runs, reading.name, name) for name in ("Standard", "ExpSeek+BoN"))
    late = plain(both, "success", equal_steps_look(both, standard))
    value = estimate(late - plain(standard, "success"))
    found = f"plain policy after equal environment steps, ExpSeek+BoN − Standard, success, {signed(value)}"
    claim = "(not in the paper) … also for the same number of environment steps"
    return Claim(claim, verdict_of([value]), found)


def _cost(runs: Runs, reading: Reading) -> Claim:
    standard, retrying = (run_of(runs, reading.name, name) for name in ("Standard", "ExpSeek"))
    ratio = float(retrying.steps.sum() / standard.steps.sum())
    whole, kept = (float(np.mean(run.trained_on.length)) for run in (standard, retrying))
    a_retry = (ratio - 1) * whole / float(np.mean(retrying.trained_on.retries))
    found = (
        f"{100 * (ratio - 1):+.0f} % environment steps and policy forwards, {a_retry:.2f} a retry; a rollout keeps "
        f"{kept:.1f} of {whole:.0f} steps"
    )
    claim = "Backtracking costs at most B = 3 more forwards for each trigger"
    return Claim(claim, "holds" if a_retry <= BACKTRACKS_USED else "does not hold", found)


def _faster(runs: Runs, reading: Reading) -> Claim:
    of = lambda name: epochs_to_target(run_of(runs, reading.name, name)).astype(float)
    value = estimate(of("Best-of-N") - of("ExpSeek+BoN"))
    found = f"epochs saved: {value.mean:+.1f} ({value.low:+.1f} … {value.high:+.1f})"
    return Claim("ExpSeek+BoN reaches 85 % in about 15 % fewer epochs than Best-of-N", verdict_of([value]), found)


def _at(runs: Runs, reading: Reading, symbol: str, point: float, name: str) -> Measured:
    """The run of an ablation's point."""
    return runs[swept(reading.name, symbol, point), name]


def _moderate_threshold(runs: Runs, reading: Reading) -> Claim:
    of = lambda point: trained_on(_at(runs, reading, "η", point, "ExpSeek+BoN"), "success")
    low, high = (estimate(of(0.3) - of(other)) for other in (0.1, 0.8))
    found = f"ExpSeek+BoN, success, 0.3 − 0.1 {signed(low)}, 0.3 − 0.8 {signed(high)}"
    return Claim("η ≈ 0.3 is better than 0.1 and 0.8", verdict_of([low, high]), found)


def _low_and_high_thresholds(runs: Runs, reading: Reading) -> Claim:
    low, usual, high = (trained_on(_at(runs, reading, "η", point, "ExpSeek"), "retries") for point in (0.1, 0.3, 0.8))
    falls = verdict_of([estimate(low - usual), estimate(usual - high)]) == "holds"
    verdict: Verdict = "holds" if falls and high.mean() < RARELY else "does not hold"
    found = f"retries a rollout at η = 0.1, 0.3, 0.8, ExpSeek, {low.mean():.2f}, {usual.mean():.2f}, {high.mean():.2f}"
    return Claim("η = 0.1 backtracks excessively, η = 0.8 rarely", verdict, found)


def _diminishing(runs: Runs, reading: Reading, name: str) -> Claim:
    of = lambda b: trained_on(_at(runs, reading, "B", b, name), "success")
    early, late = estimate((of(3) - of(1)) / 2), estimate((of(5) - of(3)) / 2)
    found = f"success: {early.mean:+.3f} a backtrack up to 3, {late.mean:+.3f} beyond"
    claim = f"More backtracks help {name}, with diminishing returns beyond B = 3"
    return Claim(claim, _returns_diminish(early, late), found)


def _returns_diminish(early: Estimate, late: Estimate) -> Verdict:
    if early.low > 0:
        return "holds" if late.mean < early.mean else "does not hold"
    return "does not hold" if early.high < 0 or np.isclose(early.mean, 0) else "not separated"


_ONE_REGIME, _BOTH_REGIMES = (DEFAULT, FREE), (DEFAULT, LEARNED)
OF_TABLE_1: tuple[tuple[Judge, tuple[Reading, ...]], ...] = (
    (_highest, _ONE_REGIME),
    (_gain_over_standard, _ONE_REGIME),
    (partial(
        _difference, claim="ExpSeek+BoN succeeds more often than Best-of-N alone (+2.7 %)",
        metric="success", name="ExpSeek+BoN", base="Best-of-N",
    ), _ONE_REGIME),
    (_no_gain, _ONE_REGIME),
    (partial(
        _difference, claim="Best-of-N costs coverage (0.854 → 0.799)",
        metric="coverage", name="Standard", base="Best-of-N",
    ), (DEFAULT,)),
    (partial(
        _difference, claim="ExpSeek brings some coverage back (0.799 → 0.810)",
        metric="coverage", name="ExpSeek+BoN", base="Best-of-N",
    ), _ONE_REGIME),
    (_comparable_diversity, _ONE_REGIME),
    (_policy, (DEFAULT, FREE, LEARNED)),
    (_policy_at_equal_steps, (DEFAULT, FREE, LEARNED)),
    (_cost, _ONE_REGIME),
)  # fmt: skip
OF_ABLATIONS: tuple[tuple[Judge, tuple[Reading, ...]], ...] = (
    (_faster, (DEFAULT, FREE, LEARNED)),
    (_moderate_threshold, _BOTH_REGIMES),
    (_low_and_high_thresholds, _BOTH_REGIMES),
    (partial(_diminishing, name="ExpSeek"), _BOTH_REGIMES),
    (partial(_diminishing, name="ExpSeek+BoN"), _BOTH_REGIMES),
)
