"""The paper's tables on TSR beside ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from benchmarks.papers.study import Estimate, Table
from benchmarks.papers.tsr_analysis import (
    NEARLY,
    SHARE,
    Currency,
    Runs,
    Values,
    at,
    common_budget,
    mean_of,
    per_update,
    steps_to,
    success,
)
from benchmarks.papers.tsr_plan import BASELINE, METHODS
from benchmarks.papers.tsr_runs import Run

BASE = "base model"


class Published(NamedTuple):
    """A method in the paper: with the smaller and the larger model, per cent and turns; NaN where it has no number."""

    small: float
    large: float
    small_turns: float
    large_turns: float
    small_steps: float = np.nan  # to 80 % of the final success
    large_steps: float = np.nan
    small_hours: float = np.nan  # of training
    large_hours: float = np.nan


# Tables 1, 2 and 8 to 10. WebShop has the larger model only.
PUBLISHED: dict[str, dict[str, Published]] = {
    "sokoban": {
        BASE: Published(8.9, 16.0, 4.7, 4.6),
        "filtering": Published(29.0, 43.7, 4.4, 4.1, 90, 100, 1.72, 2.22),
        "best-of-N": Published(33.3, 47.7, 4.3, 4.0, 60, 70, 2.51, 3.37),
        "lookahead": Published(36.1, 49.5, 4.0, 3.8, 55, 45, 3.11, 3.96),
        "beam": Published(38.3, 52.3, 3.8, 3.6, 50, 55, 3.69, 4.56),
    },
    "frozen-lake": {
        BASE: Published(6.4, 12.7, 4.6, 3.9),
        "filtering": Published(19.7, 48.7, 4.1, 3.6, 80, 150, 1.34, 1.85),
        "best-of-N": Published(25.0, 55.0, 4.2, 3.5, 70, 110, 2.64, 3.47),
        "lookahead": Published(27.8, 57.0, 3.8, 3.3, 60, 90, 2.53, 3.19),
        "beam": Published(30.0, 60.7, 3.5, 3.1, 60, 80, 2.38, 2.90),
    },
    "webshop": {
        BASE: Published(np.nan, 3.0, np.nan, 7.7),
        "filtering": Published(np.nan, 70.3, np.nan, 6.8, np.nan, 78, np.nan, 6.24),
        "best-of-N": Published(np.nan, 77.3, np.nan, 6.5, np.nan, 60, np.nan, 9.75),
        "lookahead": Published(np.nan, 82.3, np.nan, 6.1, np.nan, 45, np.nan, 12.78),
        "beam": Published(np.nan, 85.3, np.nan, 5.8, np.nan, 45, np.nan, 14.94),
    },
}
# Tables 5 to 7 by (M, W); Table 4 has three of these rows.
PUBLISHED_BUDGETS: dict[str, dict[tuple[int, int], Published]] = {
    "sokoban": {
        (2, 1): Published(36.8, 50.6, 3.95, 3.70),
        (4, 1): Published(37.6, 51.4, 3.88, 3.65),
        (6, 1): Published(37.9, 51.8, 3.85, 3.62),
        (2, 2): Published(38.3, 52.3, 3.80, 3.60),
        (4, 2): Published(39.1, 53.1, 3.75, 3.55),
        (6, 2): Published(39.4, 53.4, 3.72, 3.52),
    },
    "frozen-lake": {
        (2, 1): Published(28.7, 58.9, 3.65, 3.20),
        (4, 1): Published(29.3, 59.6, 3.58, 3.16),
        (6, 1): Published(29.5, 59.9, 3.56, 3.14),
        (2, 2): Published(30.0, 60.7, 3.50, 3.10),
        (4, 2): Published(30.6, 61.3, 3.47, 3.08),
        (6, 2): Published(30.8, 61.5, 3.46, 3.07),
    },
    "webshop": {
        (2, 1): Published(np.nan, 83.6, np.nan, 6.05),
        (4, 1): Published(np.nan, 84.5, np.nan, 5.90),
        (6, 1): Published(np.nan, 84.8, np.nan, 5.86),
        (2, 2): Published(np.nan, 85.3, np.nan, 5.80),
        (4, 2): Published(np.nan, 86.0, np.nan, 5.75),
        (6, 2): Published(np.nan, 86.3, np.nan, 5.72),
    },
}
_NOTHING = Published(*[np.nan] * 4)
_CURRENCIES: tuple[Currency, Currency] = ("env_steps", "policy_forwards")


def tables(domains: Mapping[str, Runs], optima: Mapping[str, float]) -> Iterator[Table]:
    """All that no clock decides."""
    yield _main(domains, optima)
    yield _equal_budgets(domains, optima)
    yield _budgets(domains, optima)
    yield _speed(domains)
    yield _diagnostics(domains)


_HEADER = ("", "success %", "turns", "paper 0.5B %", "turns", "paper 3B %", "turns")


def _outcome(runs: Runs, method: str) -> tuple[Estimate, Estimate]:
    """Final success and turns of a method, as `_row` takes them."""
    return mean_of(runs, method, success), mean_of(runs, method, lambda run: run.final["turns"])


def _main(domains: Mapping[str, Runs], optima: Mapping[str, float]) -> Table:
    rows = []
    for domain, runs in domains.items():
        first = lambda name: lambda run: run.curve[name][0]
        paper = PUBLISHED.get(domain, {})
        base = mean_of(runs, BASELINE, first("success")), mean_of(runs, BASELINE, first("turns"))
        rows.append(_row(f"{domain}: {BASE}", *base, paper.get(BASE, _NOTHING)))
        for method in _ordered(runs):
            rows.append(_row(f"{domain}: {method}", *_outcome(runs, method), paper.get(method, _NOTHING)))
        rows += _optimum_rows(domain, optima, len(_HEADER))
    note = (
        "Success on the 256 held-out tasks at temperature 0.5, after equally many updates; mean over the seeds, with "
        "95 % intervals. Our base model has seen some plans, the paper's is a language model. Response lengths have no "
        "counterpart: this policy writes actions only. Nor has Table 3, which compares language models."
    )
    return Table("Success and turns (the paper's Tables 1 and 2)", _HEADER, rows, note)


def _equal_budgets(domains: Mapping[str, Runs], optima: Mapping[str, float]) -> Table:
    header = (
        "",
        "at equal updates",
        "at equal env steps",
        "at equal forwards",
        "env steps / update",
        "forwards / update",
    )
    rows = []
    for domain, runs in domains.items():
        methods = _ordered(runs)
        steps, forwards = (common_budget(runs, methods, name) for name in _CURRENCIES)
        for method in methods:
            values = success, at(steps, "env_steps"), at(forwards, "policy_forwards")
            cells = [percent(mean_of(runs, method, value)) for value in values]
            each = [mean_of(runs, method, per_update(name)).mean for name in _CURRENCIES]
            rows.append((f"{domain}: {method}", *cells, *(f"{number:,.0f}" for number in each)))
        rows.append((f"{domain}: compared after", "", f"{steps:,.0f}", f"{forwards:,.0f}", "", ""))
        rows += _optimum_rows(domain, optima, len(header))
    note = (
        "The paper compares at equal updates only. All steps and forwards of a search count, used or not; a forward is "
        "of one observation, so the later actions of a turn, which are decoded one token each, are in the steps alone. "
        "At equal cost the success is read off the learning curve; filtering goes on for longer to get there."
    )
    return Table("Success in per cent, at equal cost", header, rows, note)


def _budgets(domains: Mapping[str, Runs], optima: Mapping[str, float]) -> Table:
    rows = []
    for domain, runs in domains.items():
        for m, w in ((2, 1), (4, 1), (6, 1), (2, 2), (4, 2), (6, 2)):
            method = "beam" if (m, w) == (4, 2) else f"beam M={m} W={w}"
            if method in runs:
                paper = PUBLISHED_BUDGETS.get(domain, {}).get((m, w), _NOTHING)
                rows.append(_row(f"{domain}: M={m} W={w}", *_outcome(runs, method), paper))
        others = [method for method in runs if method not in METHODS and " M=" not in method]
        for method in others:
            label = f"{domain}: {method} of a whole group, M=4 W=16"
            rows.append(_row(label, *_outcome(runs, method), _NOTHING))
        rows += _optimum_rows(domain, optima, len(_HEADER))
    note = (
        "W is the paper's B. It says that its main results have M=4 and B=2, but their numbers are those of M=2 and "
        "B=2 here; ours have M=4 and W=2."
    )
    return Table("Search budgets of the beam (the paper's Tables 4 to 7)", _HEADER, rows, note)


def _speed(domains: Mapping[str, Runs]) -> Table:
    header = ("", f"updates to {SHARE:.0%}", f"updates to {NEARLY:.0%}", "paper 0.5B, 80 %", "paper 3B, 80 %")
    rows = []
    for domain, runs in domains.items():
        for method in _ordered(runs):
            ours = [_count(mean_of(runs, method, steps_to(share))) for share in (SHARE, NEARLY)]
            paper = PUBLISHED.get(domain, {}).get(method, _NOTHING)
            rows.append((f"{domain}: {method}", *ours, _plain(paper.small_steps), _plain(paper.large_steps)))
    note = (
        "Updates until an evaluation has that share of the run's own final success, as in the paper; 0 is the base "
        "model's, and a method that ends lower gets there sooner. The paper does not say what its convergence is; here "
        f"it is {NEARLY:.0%}."
    )
    return Table("Speed of learning (the paper's Tables 8 to 10)", header, rows, note)


def _diagnostics(domains: Mapping[str, Runs]) -> Table:
    header = ("", "training return", "entropy, first quarter", "last quarter", "gradient norm, median", "largest")
    values: list[Values] = [
        lambda run: _last(run, "return"),
        lambda run: _first(run, "entropy"),
        lambda run: _last(run, "entropy"),
        lambda run: float(np.median(_compared(run, "gradient_norm"))),
        lambda run: float(np.max(_compared(run, "gradient_norm"))),
    ]
    rows = [
        (f"{domain}: {method}", *(str(mean_of(runs, method, value)) for value in values))
        for domain, runs in domains.items()
        for method in _ordered(runs)
    ]
    note = (
        "Over the updates that are compared. Returns are those of the rollouts that the search kept, in the last "
        "quarter of the updates; entropies, in nats, those of the policy's decisions in them."
    )
    return Table("Exploitation, exploration and stability (the paper's Figure 4)", header, rows, note)


def _compared(run: Run, name: str) -> np.ndarray:
    """What was recorded of the updates after which methods are compared."""
    return np.asarray(run.steps[name])[: run.num_updates]


def _first(run: Run, name: str) -> float:
    """The mean over the first quarter of the updates."""
    values = _compared(run, name)
    return float(np.mean(values[: max(1, len(values) // 4)]))


def _last(run: Run, name: str) -> float:
    """The mean over the last quarter of the updates."""
    values = _compared(run, name)
    return float(np.mean(values[-max(1, len(values) // 4) :]))


def _row(name: str, success: Estimate, turns: Estimate, paper: Published) -> tuple[str, ...]:
    theirs = paper.small, paper.small_turns, paper.large, paper.large_turns
    return (name, percent(success), _count(turns, 2), *(_plain(number) for number in theirs))


def _optimum_rows(domain: str, optima: Mapping[str, float], width: int) -> list[tuple[str, ...]]:
    """The exact ceiling, where there is one."""
    if domain not in optima:
        return []
    return [(f"{domain}: best of all policies, exact", f"{100 * optima[domain]:.1f}", *[""] * (width - 2))]


def _ordered(runs: Runs) -> list[str]:
    return [method for method in METHODS if method in runs]


def percent(one: Estimate) -> str:
    """A share in per cent with half its interval."""
    return f"{100 * one.mean:.1f} ± {50 * (one.high - one.low):.1f}"


def _count(one: Estimate, digits: int = 0) -> str:
    return f"{one.mean:.{digits}f} ± {(one.high - one.low) / 2:.{digits}f}"


def _plain(number: float) -> str:
    return "" if np.isnan(number) else f"{number:g}"
