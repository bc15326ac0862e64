"""ExpSeek as rollout augmentation: what the paper says, and what was found."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from benchmarks.papers.expseek_rollouts_plan import BACKTRACKING, DEFAULT, FREE, LEARNED, Reading, Runs, run_of
from benchmarks.papers.expseek_rollouts_tables import epochs_to_target, equal_steps_look, plain, swept, trained_on
from benchmarks.papers.study import Claim, Estimate, Verdict, estimate

BACKTRACKS_USED = 3  # B
SMALL = 0.01  # "comparable" diversity: a difference that the paper's own rows stay within


def claims(runs: Runs, *, whole: bool) -> Iterator[Claim]:
    """Every claim that the runs can judge, in the order of the paper."""
    yield _highest(runs)
    yield _gain_over_standard(runs)
    yield _difference(
        runs, "ExpSeek+BoN succeeds more often than Best-of-N alone (+2.7 %)", "success", "ExpSeek+BoN", "Best-of-N"
    )
    yield _no_gain(runs)
    yield _difference(runs, "Best-of-N costs coverage (0.854 → 0.799)", "coverage", "Standard", "Best-of-N")
    yield _difference(runs, "ExpSeek brings some coverage back (0.799 → 0.810)", "coverage", "ExpSeek+BoN", "Best-of-N")
    yield _comparable_diversity(runs)
    yield _policy(runs)
    yield _policy_at_equal_steps(runs)
    yield _cost(runs)
    if whole:
        yield _faster(runs)
        yield _moderate_threshold(runs)
        yield _low_and_high_thresholds(runs)
        yield _diminishing(runs)


def more(difference: Estimate) -> Verdict:
    """Whether a difference is above zero."""
    return "holds" if difference.low > 0 else "does not hold" if difference.high < 0 else "not separated"


def signed(difference: Estimate) -> str:
    """A difference with its sign and interval."""
    return f"{difference.mean:+.3f} ({difference.low:+.3f} … {difference.high:+.3f})"


def _paired(runs: Runs, reading: Reading, metric: str, name: str, base: str) -> Estimate:
    """`name` minus `base`, seed by seed, of the rollouts trained on."""
    of = lambda strategy: trained_on(run_of(runs, reading.name, strategy), metric)
    return estimate(of(name) - of(base))


def _both(values: dict[str, Estimate]) -> str:
    return "; ".join(f"{reading}: {signed(value)}" for reading, value in values.items())


def _joined(verdicts: list[Verdict]) -> Verdict:
    """The verdict over several readings: what none supports and one contradicts does not hold."""
    if len(set(verdicts)) == 1:
        return verdicts[0]
    return "depends on the reading" if "holds" in verdicts else "does not hold"


def _difference(runs: Runs, claim: str, metric: str, name: str, base: str) -> Claim:
    values = {reading.name: _paired(runs, reading, metric, name, base) for reading in (DEFAULT, FREE)}
    free = trained_on(run_of(runs, FREE.name, name), metric) - trained_on(run_of(runs, FREE.name, base), metric)
    deviation = free.std(ddof=1)
    found = f"{name} − {base}, {metric}, {_both(values)}; one seed's difference varies by ±{deviation:.3f} (free)"
    return Claim(claim, _joined([more(value) for value in values.values()]), found)


def _highest(runs: Runs) -> Claim:
    others = ("Standard", "ExpSeek", "Best-of-N")
    found: list[str] = []
    verdicts: list[Verdict] = []
    for reading in (DEFAULT, FREE):
        nearest = max(others, key=lambda name: trained_on(run_of(runs, reading.name, name), "success").mean())
        value = _paired(runs, reading, "success", "ExpSeek+BoN", nearest)
        verdicts.append(more(value))
        found.append(f"{reading.name}: minus {nearest}, the best of the others, {signed(value)}")
    return Claim("ExpSeek+BoN has the highest success (0.895)", _joined(verdicts), "; ".join(found))


def _gain_over_standard(runs: Runs) -> Claim:
    values = {reading.name: _paired(runs, reading, "success", "ExpSeek+BoN", "Standard") for reading in (DEFAULT, FREE)}
    ratios = []
    for reading in (DEFAULT, FREE):
        of = lambda name, reading=reading: trained_on(run_of(runs, reading.name, name), "success").mean()
        ratios.append(f"{reading.name} {100 * (of('ExpSeek+BoN') / of('Standard') - 1):+.0f} %")
    found = f"{', '.join(ratios)}: of rollouts selected from four times as many; the policy itself: see below"
    return Claim(
        "ExpSeek+BoN succeeds more often than Standard (+65 %)", _joined([more(v) for v in values.values()]), found
    )


def _no_gain(runs: Runs) -> Claim:
    values = {reading.name: _paired(runs, reading, "success", "ExpSeek", "Standard") for reading in (DEFAULT, FREE)}
    verdicts: list[Verdict] = ["does not hold" if value.low > 0 else "holds" for value in values.values()]
    claim = "ExpSeek alone does not improve on Standard (0.527, 0.542)"
    return Claim(claim, _joined(verdicts), f"ExpSeek − Standard, success, {_both(values)}")


def _comparable_diversity(runs: Runs) -> Claim:
    values = {r.name: _paired(runs, r, "diversity", "ExpSeek+BoN", "Standard") for r in (DEFAULT, FREE)}
    within = [max(abs(value.low), abs(value.high)) <= SMALL for value in values.values()]
    verdicts: list[Verdict] = ["holds" if small else "does not hold" for small in within]
    claim = "The diversity of ExpSeek+BoN is comparable with Standard's"
    return Claim(
        claim, _joined(verdicts), f"ExpSeek+BoN − Standard, pairs, {_both(values)}; comparable: within {SMALL}"
    )


def _policy(runs: Runs) -> Claim:
    """Of the conclusion: "improves both convergence speed and final performance"."""
    values = {}
    for reading in (DEFAULT, FREE, LEARNED):
        of = lambda name, reading=reading: plain(run_of(runs, reading.name, name), "success")
        values[reading.name] = estimate(of("ExpSeek+BoN") - of("Standard"))
    found = f"plain policy after equal updates, ExpSeek+BoN − Standard, success, {_both(values)}"
    claim = "Training on ExpSeek+BoN rollouts improves final performance"
    return Claim(claim, _joined([more(value) for value in values.values()]), found)


def _policy_at_equal_steps(runs: Runs) -> Claim:
    values = {}
    for reading in (DEFAULT, FREE, LEARNED):
        standard = run_of(runs, reading.name, "Standard")
        both = run_of(runs, reading.name, "ExpSeek+BoN")
        late = plain(both, "success", equal_steps_look(both, standard))
        values[reading.name] = estimate(late - plain(standard, "success"))
    found = f"plain policy after equal environment steps, ExpSeek+BoN − Standard, success, {_both(values)}"
    claim = "(not in the paper) … also for the same number of environment steps"
    return Claim(claim, _joined([more(value) for value in values.values()]), found)


def _cost(runs: Runs) -> Claim:
    standard, free = (run_of(runs, FREE.name, name) for name in ("Standard", "ExpSeek"))
    ratio = float(free.steps.sum() / standard.steps.sum())
    kept = float(free.trained_on.length.mean())
    a_retry = (ratio - 1) * kept / float(free.trained_on.retries.mean())
    shortened = trained_on(run_of(runs, DEFAULT.name, "ExpSeek"), "length").mean()
    found = (
        f"free: {100 * (ratio - 1):+.0f} % environment steps and policy forwards, {a_retry:.2f} a retry; default: as "
        f"many as Standard, of which a rollout keeps {shortened:.1f} of {kept:.0f}"
    )
    claim = "Backtracking costs at most B = 3 more forwards for each trigger"
    return Claim(claim, "holds" if a_retry <= BACKTRACKS_USED else "does not hold", found)


def _faster(runs: Runs) -> Claim:
    values = {}
    for reading in (DEFAULT, FREE, LEARNED):
        of = lambda name, reading=reading: epochs_to_target(run_of(runs, reading.name, name))
        values[reading.name] = estimate(of("Best-of-N").astype(float) - of("ExpSeek+BoN"))
    parts = [f"{name}: {v.mean:+.1f} ({v.low:+.1f} … {v.high:+.1f})" for name, v in values.items()]
    claim = "ExpSeek+BoN reaches 85 % in about 15 % fewer epochs than Best-of-N"
    return Claim(claim, _joined([more(value) for value in values.values()]), f"epochs saved: {'; '.join(parts)}")


def _moderate_threshold(runs: Runs) -> Claim:
    found: list[str] = []
    verdicts: list[Verdict] = []
    for regime in (DEFAULT, LEARNED):
        of = lambda point, regime=regime: trained_on(runs[swept(regime.name, "η", point), "ExpSeek+BoN"], "success")
        values = [estimate(of(0.3) - of(other)) for other in (0.1, 0.8)]
        low, high = values
        verdicts.append("holds" if min(low.low, high.low) > 0 else "does not hold" if low.high < 0 or high.high < 0
                        else "not separated")  # fmt: skip
        found.append(f"{regime.name}: 0.3 − 0.1 {signed(low)}, 0.3 − 0.8 {signed(high)}")
    found_text = f"ExpSeek+BoN, success, {'; '.join(found)}"
    return Claim("η ≈ 0.3 is better than 0.1 and 0.8", _joined(verdicts), found_text)


def _low_and_high_thresholds(runs: Runs) -> Claim:
    found: list[str] = []
    verdicts: list[Verdict] = []
    for regime in (DEFAULT, LEARNED):
        of = lambda point, regime=regime: trained_on(runs[swept(regime.name, "η", point), "ExpSeek"], "retries")
        low, usual, high = of(0.1), of(0.3), of(0.8)
        falls = min(estimate(low - usual).low, estimate(usual - high).low) > 0
        rarely = high.mean() < 0.5
        verdicts.append("holds" if falls and rarely else "does not hold")
        found.append(f"{regime.name}: {low.mean():.2f}, {usual.mean():.2f}, {high.mean():.2f}")
    claim = "η = 0.1 backtracks excessively, η = 0.8 rarely"
    return Claim(claim, _joined(verdicts), f"retries a rollout at η = 0.1, 0.3, 0.8, ExpSeek, {'; '.join(found)}")


def _diminishing(runs: Runs) -> Claim:
    found: list[str] = []
    verdicts: list[Verdict] = []
    for regime in (DEFAULT, LEARNED):
        for name in BACKTRACKING:
            of = lambda b, regime=regime, name=name: trained_on(runs[swept(regime.name, "B", b), name], "success")
            early, late = estimate((of(3) - of(1)) / 2), estimate((of(5) - of(3)) / 2)
            verdicts.append(_returns_diminish(early, late))
            found.append(f"{regime.name}, {name}: {early.mean:+.3f} a backtrack up to 3, {late.mean:+.3f} beyond")
    return Claim("More backtracks help, with diminishing returns beyond B = 3", _joined(verdicts), "; ".join(found))


def _returns_diminish(early: Estimate, late: Estimate) -> Verdict:
    if early.low > 0:
        return "holds" if late.mean < early.mean else "does not hold"
    return "does not hold" if early.high < 0 or np.isclose(early.mean, 0) else "not separated"
