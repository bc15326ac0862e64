"""What clocks say of TSR: the time of an update, and of training, beside the paper's Tables 8 to 10."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from benchmarks.papers.study import Table, estimate
from benchmarks.papers.tsr_analysis import (
    CLOCKS,
    NEARLY,
    SHARE,
    Runs,
    cost,
    gained,
    interval,
    judged,
    mean_of,
    per_update,
    percents,
    steps_to,
    times_the_baseline,
)
from benchmarks.papers.tsr_plan import BASELINE
from benchmarks.papers.tsr_tables import CLOCKED, clocked, ordered, plain, row_name

COST = 1.15  # time of an update over the baseline's, beyond what goes through the policy


def cost_tables(domains: Mapping[str, Runs], tokens: Mapping[str, int]) -> Iterator[Table]:
    """All that clocks decide; `tokens` are those of an observation, by domain."""
    yield _updates(domains, tokens)
    yield _training(domains)
    yield _convergence(domains)


def _updates(domains: Mapping[str, Runs], tokens: Mapping[str, int]) -> Table:
    """Time of an update beside what goes through the policy."""
    header = (
        "", "forwards ×", "tokens ×", "env steps ×",
        "s / update", "×", "over forwards", "over tokens", "processor s / update", "×", "over forwards", "over tokens",
    )  # fmt: skip
    rows = [
        (row_name(domain, runs, method), *_costs(runs, method, tokens[domain]))
        for domain, runs in domains.items()
        for method in runs
    ]
    note = (
        f"× is to {BASELINE}; over what goes through the policy, at most {COST} is wanted. A forward reads one "
        "observation, and those of ended episodes count too, as the machine computes them; the later actions of a "
        "turn are decoded from it, one token each. Tokens are those of all observations and one for every environment "
        "step. The part of an update that learns costs the same under every method, so that much reading allows more "
        "time than it takes. Medians over updates, means over the seeds; compilation and evaluations apart. Where the "
        "machine does other work too, processor time tells more than wall time."
    )
    return Table("Cost of an update", header, rows, note)


def _costs(runs: Runs, method: str, tokens: int) -> tuple[str, ...]:
    forwards = times_the_baseline(runs, method, "policy_forwards")
    read = _tokens(runs, method, tokens) / _tokens(runs, BASELINE, tokens)
    cells = [f"{number:.2f}" for number in (forwards, read, times_the_baseline(runs, method, "env_steps"))]
    for clock in CLOCKS:
        spent = cost(runs, method, clock)
        times = spent / cost(runs, BASELINE, clock)
        cells += [f"{spent:.3f}", f"{times:.2f}"]
        for explained in (forwards, read):
            verdict = "" if method == BASELINE else ", holds" if times / explained <= COST else ", does not hold"
            cells.append(f"{times / explained:.2f}{verdict}")
    return tuple(cells)


def _tokens(runs: Runs, method: str, each: int) -> float:
    """Tokens of an update that go through the policy, the mean over the seeds."""
    spent = lambda currency: mean_of(runs, method, per_update(currency)).mean
    return each * spent("policy_forwards") + spent("env_steps")


def _training(domains: Mapping[str, Runs]) -> Table:
    """Time of all compared updates, and until the success is near its end."""
    parts = ("h", "to 80 %", "to convergence")
    header = (
        "", "s", f"to {percents(SHARE)}", f"to {percents(NEARLY)}",
        *(f"paper {model}: {part}" if part == "h" else part for model in ("0.5B", "3B") for part in parts),
    )  # fmt: skip
    rows = []
    for domain, runs in domains.items():
        for method in ordered(runs):
            theirs = (
                hour for model in clocked(domain, method) for hour in (model.hours, model.hours_80, model.hours_end)
            )
            rows.append((row_name(domain, runs, method), *_waited(runs, method), *(plain(hour, 2) for hour in theirs)))
    note = (
        "Wall time of our compared updates, and until a run has that share of its own final success, see the speed of "
        "learning; means over the seeds. The paper's hours are those of eight A100."
    )
    return Table("Time of training (the paper's Tables 8 to 10)", header, rows, note)


def _waited(runs: Runs, method: str) -> Iterator[str]:
    for updates in (lambda run: run.num_updates, steps_to(SHARE), steps_to(NEARLY)):
        yield f"{float(np.mean([updates(run) * run.seconds for run in runs[method]])):.1f}"


def comparable() -> float:
    """The largest time to convergence over the baseline's that the paper's tables have, and it calls comparable."""
    return max(
        theirs.hours_end / base.hours_end
        for methods in CLOCKED.values()
        for method in methods.values()
        for theirs, base in zip(method, methods[BASELINE], strict=True)
        if not np.isnan(base.hours_end)
    )


def _convergence(domains: Mapping[str, Runs]) -> Table:
    """The claim that searches take as long as the baseline to converge."""
    most = comparable()
    rows = [
        (row_name(domain, runs, method), *_converged(runs, method, most))
        for domain, runs in domains.items()
        for method in ordered(runs)
        if method != BASELINE
    ]
    note = (
        f"Wall time to {percents(NEARLY)} of a run's own final success. The paper calls these times comparable, and "
        f"its longest is {most:.2f} times {BASELINE}'s. So the last column is the difference from {most:.2f} times as "
        "long, seed by seed, with its 95 % interval; the claim holds where all of that is below 0. It is not tested "
        "where a method does not end above its base model."
    )
    header = ("", f"× {BASELINE}'s", "comparable", f"s, less {most:.2f} × {BASELINE}'s")
    return Table("Wall time to convergence, comparable with the baseline's?", header, rows, note)


def _converged(runs: Runs, method: str, most: float) -> tuple[str, str, str]:
    if min(gained(runs, name).low for name in (method, BASELINE)) <= 0:
        return "", "not tested", ""
    waits = lambda name: np.array([steps_to(NEARLY)(run) * run.seconds for run in runs[name]])
    ours, base = waits(method), waits(BASELINE)
    verdict = judged(runs, [method], [estimate(most * base - ours)])
    return f"{ours.mean() / base.mean():.2f}", verdict, interval(estimate(ours - most * base), 1)
