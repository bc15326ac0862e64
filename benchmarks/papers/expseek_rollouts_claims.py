"""ExpSeek as rollout augmentation: what the paper says, and what was found under each reading of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from benchmarks.papers.expseek_rollouts_plan import ABLATED, BACKTRACKING, JUDGED, Reading
from benchmarks.papers.expseek_rollouts_runs import Measured, Runs, run_of
from benchmarks.papers.expseek_rollouts_tables import epochs_to_target, equal_steps_look, plain, swept, trained_on
from benchmarks.papers.study import Claim, Estimate, Verdict, estimate, verdict_of

BACKTRACKS_USED = 3  # B
SMALL = 0.01  # "comparable" diversity: a difference that the paper's own rows stay within
RARELY = 0.5  # retries a rollout

Finding = tuple[Verdict, str]  # and what it rests on
Judge = Callable[[Runs, Reading], Finding]


def claims(runs: Runs, *, whole: bool) -> Iterator[Claim]:
    """Every claim that the runs can judge, in the order of the paper, each under every reading of `JUDGED`."""
    for claim, judge in (OF_TABLE_1 | OF_CONVERGENCE | OF_ABLATIONS if whole else OF_TABLE_1).items():
        for reading in JUDGED:
            run = claim not in OF_ABLATIONS or reading in ABLATED
            yield Claim(f"{reading.name}: {claim}", *(judge(runs, reading) if run else NOT_RUN))


def signed(difference: Estimate) -> str:
    """A difference with its sign and interval."""
    return f"{difference.mean:+.3f} ({difference.low:+.3f} … {difference.high:+.3f})"


def _of(runs: Runs, reading: Reading, name: str, metric: str = "success") -> np.ndarray:
    """[seeds]: a metric of the rollouts that a strategy trained on."""
    return trained_on(run_of(runs, reading.name, name), metric)


def _paired(runs: Runs, reading: Reading, name: str, base: str, metric: str = "success") -> np.ndarray:
    """[seeds]: by how much that metric of one strategy exceeds another one's, whose seeds have the same webs."""
    return _of(runs, reading, name, metric) - _of(runs, reading, base, metric)


def _difference(runs: Runs, reading: Reading, metric: str, name: str, base: str) -> Finding:
    values = _paired(runs, reading, name, base, metric)
    found = f"{name} − {base}, {metric}, {signed(estimate(values))}; one seed's varies by ±{values.std(ddof=1):.3f}"
    return verdict_of([estimate(values)]), found


def _highest(runs: Runs, reading: Reading) -> Finding:
    others = ("Standard", "ExpSeek", "Best-of-N")
    nearest = max(others, key=lambda name: _of(runs, reading, name).mean())
    value = estimate(_paired(runs, reading, "ExpSeek+BoN", nearest))
    return verdict_of([value]), f"minus {nearest}, the best of the others, {signed(value)}"


def _gain_over_standard(runs: Runs, reading: Reading) -> Finding:
    value = estimate(_paired(runs, reading, "ExpSeek+BoN", "Standard"))
    ratio = _of(runs, reading, "ExpSeek+BoN").mean() / _of(runs, reading, "Standard").mean()
    found = (
        f"{signed(value)}, {100 * (ratio - 1):+.0f} %: of rollouts selected from four times as many; the policy "
        "itself: see below"
    )
    return verdict_of([value]), found


def _no_gain(runs: Runs, reading: Reading) -> Finding:
    value = estimate(_paired(runs, reading, "ExpSeek", "Standard"))
    return "does not hold" if value.low > 0 else "holds", f"ExpSeek − Standard, success, {signed(value)}"


def _comparable_diversity(runs: Runs, reading: Reading) -> Finding:
    value = estimate(_paired(runs, reading, "ExpSeek+BoN", "Standard", "diversity"))
    found = f"ExpSeek+BoN − Standard, pairs, {signed(value)}; comparable: within {SMALL}"
    return "holds" if max(abs(value.low), abs(value.high)) <= SMALL else "does not hold", found


def _policy(runs: Runs, reading: Reading) -> Finding:
    """Of the conclusion: "improves both convergence speed and final performance"."""
    of = lambda name: plain(run_of(runs, reading.name, name), "success")
    value = estimate(of("ExpSeek+BoN") - of("Standard"))
    return verdict_of([value]), f"plain policy after equal updates, ExpSeek+BoN − Standard, success, {signed(value)}"


def _policy_at_equal_steps(runs: Runs, reading: Reading) -> Finding:
    standard, both = (run_of(runs, reading.name, name) for name in ("Standard", "ExpSeek+BoN"))
    late = plain(both, "success", equal_steps_look(both, standard))
    value = estimate(late - plain(standard, "success"))
    found = f"plain policy after equal environment steps, ExpSeek+BoN − Standard, success, {signed(value)}"
    return verdict_of([value]), f"{found}; looks at different epochs, which draw different words"


def _cost(runs: Runs, reading: Reading) -> Finding:
    standard, retrying = (run_of(runs, reading.name, name) for name in ("Standard", "ExpSeek"))
    ratio = float(retrying.steps.sum() / standard.steps.sum())
    whole, kept = (float(np.mean(run.trained_on.length)) for run in (standard, retrying))
    a_retry = (ratio - 1) * whole / float(np.mean(retrying.trained_on.retries))
    found = (
        f"{100 * (ratio - 1):+.0f} % environment steps and policy forwards, {a_retry:.2f} a retry; a rollout keeps "
        f"{kept:.1f} of {whole:.0f} steps"
    )
    return "holds" if a_retry <= BACKTRACKS_USED else "does not hold", found


def _faster(runs: Runs, reading: Reading) -> Finding:
    both, base = (epochs_to_target(run_of(runs, reading.name, name)) for name in ("ExpSeek+BoN", "Best-of-N"))
    value = estimate(base - both.astype(float))
    return verdict_of([value]), f"epochs saved: {value.mean:+.1f} ({value.low:+.1f} … {value.high:+.1f})"


def _at(runs: Runs, reading: Reading, symbol: str, point: float, name: str) -> Measured:
    """The run of an ablation's point."""
    return runs[swept(reading.name, symbol, point), name]


def _moderate_threshold(runs: Runs, reading: Reading) -> Finding:
    of = lambda point: trained_on(_at(runs, reading, "η", point, "ExpSeek+BoN"), "success")
    low, high = (estimate(of(0.3) - of(other)) for other in (0.1, 0.8))
    return verdict_of([low, high]), f"ExpSeek+BoN, success, 0.3 − 0.1 {signed(low)}, 0.3 − 0.8 {signed(high)}"


def _low_and_high_thresholds(runs: Runs, reading: Reading) -> Finding:
    low, usual, high = (trained_on(_at(runs, reading, "η", point, "ExpSeek"), "retries") for point in (0.1, 0.3, 0.8))
    falls = verdict_of([estimate(low - usual), estimate(usual - high)]) == "holds"
    found = f"retries a rollout at η = 0.1, 0.3, 0.8, ExpSeek, {low.mean():.2f}, {usual.mean():.2f}, {high.mean():.2f}"
    return "holds" if falls and high.mean() < RARELY else "does not hold", found


def _diminishing(runs: Runs, reading: Reading, name: str) -> Finding:
    of = lambda b: trained_on(_at(runs, reading, "B", b, name), "success")
    early, late = estimate((of(3) - of(1)) / 2), estimate((of(5) - of(3)) / 2)
    found = f"success: {early.mean:+.3f} a backtrack up to 3, {late.mean:+.3f} beyond"
    return _returns_diminish(early, late), found


def _returns_diminish(early: Estimate, late: Estimate) -> Verdict:
    if early.low > 0:
        return "holds" if late.mean < early.mean else "does not hold"
    return "does not hold" if early.high < 0 or np.isclose(early.mean, 0) else "not separated"


OF_TABLE_1: dict[str, Judge] = {
    "ExpSeek+BoN has the highest success (0.895)": _highest,
    "ExpSeek+BoN succeeds more often than Standard (+65 %)": _gain_over_standard,
    "ExpSeek+BoN succeeds more often than Best-of-N alone (+2.7 %)": partial(
        _difference, metric="success", name="ExpSeek+BoN", base="Best-of-N"
    ),
    "ExpSeek alone does not improve on Standard (0.527, 0.542)": _no_gain,
    "Best-of-N costs coverage (0.854 → 0.799)": partial(
        _difference, metric="coverage", name="Standard", base="Best-of-N"
    ),
    "ExpSeek brings some coverage back (0.799 → 0.810)": partial(
        _difference, metric="coverage", name="ExpSeek+BoN", base="Best-of-N"
    ),
    "The diversity of ExpSeek+BoN is comparable with Standard's": _comparable_diversity,
    "Training on ExpSeek+BoN rollouts improves final performance": _policy,
    "(not in the paper) … also for the same number of environment steps": _policy_at_equal_steps,
    "Backtracking costs at most B = 3 more forwards for each trigger": _cost,
}
OF_CONVERGENCE: dict[str, Judge] = {"ExpSeek+BoN reaches 85 % in about 15 % fewer epochs than Best-of-N": _faster}
OF_ABLATIONS: dict[str, Judge] = {
    "η ≈ 0.3 is better than 0.1 and 0.8": _moderate_threshold,
    "η = 0.1 backtracks excessively, η = 0.8 rarely": _low_and_high_thresholds,
    **{
        f"More backtracks help {name}, with diminishing returns beyond B = 3": partial(_diminishing, name=name)
        for name in BACKTRACKING
    },
}
NOT_RUN: Finding = ("not tested", "the ablations were not run under this reading")
