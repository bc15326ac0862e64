"""The paper's tables on TSR beside ours; those of its clocks are in `tsr_costs`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from benchmarks.papers.study import Estimate, Table, estimate
from benchmarks.papers.tsr_analysis import (
    NEARLY,
    SHARE,
    Currency,
    Runs,
    Values,
    at,
    base_model,
    common_budget,
    common_steps,
    early,
    final,
    gained,
    late,
    mean_of,
    per_update,
    percents,
    recorded,
    steps_to,
    success,
)
from benchmarks.papers.tsr_plan import BASELINE, METHODS
from benchmarks.papers.tsr_runs import CURVE_TIMES, FINAL_TIMES
from jaxrl_agents.methods.tsr import NUM_HELD_OUT
from jaxrl_agents.training.evaluation import Interval

BASE, OPTIMUM = "base model", "best of all policies, exact"


class Published(NamedTuple):
    """A method in the paper: with the smaller and the larger model, per cent and turns; NaN where it has no number."""

    small: float
    large: float
    small_turns: float
    large_turns: float


class Clocked(NamedTuple):
    """A method in the paper's Tables 8 to 10, with one model: hours and updates ("steps")."""

    hours: float
    updates_80: float  # to 80 % of the final success
    hours_80: float
    updates_end: float  # to what the paper calls convergence
    hours_end: float


# Tables 1 and 2. WebShop has the larger model only.
PUBLISHED: dict[str, dict[str, Published]] = {
    "sokoban": {
        BASE: Published(8.9, 16.0, 4.7, 4.6),
        "filtering": Published(29.0, 43.7, 4.4, 4.1),
        "best-of-N": Published(33.3, 47.7, 4.3, 4.0),
        "lookahead": Published(36.1, 49.5, 4.0, 3.8),
        "beam": Published(38.3, 52.3, 3.8, 3.6),
    },
    "frozen-lake": {
        BASE: Published(6.4, 12.7, 4.6, 3.9),
        "filtering": Published(19.7, 48.7, 4.1, 3.6),
        "best-of-N": Published(25.0, 55.0, 4.2, 3.5),
        "lookahead": Published(27.8, 57.0, 3.8, 3.3),
        "beam": Published(30.0, 60.7, 3.5, 3.1),
    },
    "webshop": {
        BASE: Published(np.nan, 3.0, np.nan, 7.7),
        "filtering": Published(np.nan, 70.3, np.nan, 6.8),
        "best-of-N": Published(np.nan, 77.3, np.nan, 6.5),
        "lookahead": Published(np.nan, 82.3, np.nan, 6.1),
        "beam": Published(np.nan, 85.3, np.nan, 5.8),
    },
}
_UNKNOWN = Clocked(*[np.nan] * 5)
# Tables 8 to 10: with the smaller and the larger model.
CLOCKED: dict[str, dict[str, tuple[Clocked, Clocked]]] = {
    "sokoban": {
        "filtering": (Clocked(1.72, 90, 0.77, 180, 1.54), Clocked(2.22, 100, 1.11, 180, 1.99)),
        "best-of-N": (Clocked(2.51, 60, 0.75, 120, 1.51), Clocked(3.37, 70, 1.18, 150, 2.53)),
        "lookahead": (Clocked(3.11, 55, 0.86, 105, 1.63), Clocked(3.96, 45, 0.89, 150, 2.96)),
        "beam": (Clocked(3.69, 50, 0.92, 90, 1.66), Clocked(4.56, 55, 1.25, 90, 2.05)),
    },
    "frozen-lake": {
        "filtering": (Clocked(1.34, 80, 0.54, 120, 0.80), Clocked(1.85, 150, 1.39, 170, 1.57)),
        "best-of-N": (Clocked(2.64, 70, 0.93, 100, 1.32), Clocked(3.47, 110, 1.91, 140, 2.43)),
        "lookahead": (Clocked(2.53, 60, 0.76, 90, 1.14), Clocked(3.19, 90, 1.44, 130, 2.08)),
        "beam": (Clocked(2.38, 60, 0.71, 80, 0.95), Clocked(2.90, 80, 1.16, 100, 1.45)),
    },
    "webshop": {
        "filtering": (_UNKNOWN, Clocked(6.24, 78, 4.87, 85, 5.31)),
        "best-of-N": (_UNKNOWN, Clocked(9.75, 60, 5.85, 70, 6.83)),
        "lookahead": (_UNKNOWN, Clocked(12.78, 45, 5.75, 65, 8.31)),
        "beam": (_UNKNOWN, Clocked(14.94, 45, 6.73, 50, 7.47)),
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
    yield _diagnostics(domains, optima)
    if any(run.diverged for methods in domains.values() for runs in methods.values() for run in runs):
        yield _diverged(domains)


_HEADER = ("", "success %", "less base", "turns", "actions", "paper 0.5B %", "turns", "paper 3B %", "turns")


def _outcome(runs: Runs, method: str) -> tuple[str, ...]:
    """Final success, what it is above the base model's, turns and actions of a method, as `_row` takes them."""
    turns, actions = (mean_of(runs, method, final(name)) for name in ("turns", "actions"))
    above = percent(gained(runs, method), signed=True)
    return percent(mean_of(runs, method, success)), above, _count(turns, 2), _count(actions, 2)


def _start(runs: Runs) -> tuple[str, ...]:
    """The same of the base model, which all runs of a domain share."""
    curve = runs[BASELINE][0].curve
    return percent(base_model(runs)), "", f"{curve['turns'][0]:.2f}", f"{curve['actions'][0]:.2f}"


def _main(domains: Mapping[str, Runs], optima: Mapping[str, float]) -> Table:
    rows = []
    for domain, runs in domains.items():
        paper = PUBLISHED.get(domain, {})
        rows.append(_row(f"{domain}: {BASE}", _start(runs), paper.get(BASE, _NOTHING)))
        for method in ordered(runs):
            rows.append(_row(row_name(domain, runs, method), _outcome(runs, method), paper.get(method, _NOTHING)))
        rows += _optimum_rows(domain, optima, len(_HEADER))
    note = (
        f"Success on the {NUM_HELD_OUT} held-out tasks at temperature 0.5, after equally many updates; mean over the "
        f"seeds, with 95 % intervals. The base model is measured in {CURVE_TIMES * NUM_HELD_OUT:,} episodes, a final "
        f"policy in {FINAL_TIMES * NUM_HELD_OUT:,}. Seeds differ in what training draws; the base model, the held-out "
        "tasks and the draws of an evaluation are the same for all runs of a domain. So the base model has no interval "
        "over seeds but the binomial one of its episodes (half of Wilson's), and the difference, in points, has both "
        "errors in its interval. The base model has seen some plans, the paper's is a language model. Turns and "
        "actions are means over episodes: fewer turns may be longer ones. Response lengths have no counterpart: this "
        "policy writes actions only. Nor has Table 3, which compares language models."
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
        methods = ordered(runs)
        steps, forwards = (common_budget(runs, methods, name) for name in _CURRENCIES)
        for method in methods:
            values = success, at(steps, "env_steps"), at(forwards, "policy_forwards")
            cells = [percent(mean_of(runs, method, value)) for value in values]
            each = [mean_of(runs, method, per_update(name)).mean for name in _CURRENCIES]
            rows.append((row_name(domain, runs, method), *cells, *(f"{number:,.0f}" for number in each)))
        rows.append((f"{domain}: compared after", "", f"{steps:,.0f}", f"{forwards:,.0f}", "", ""))
        rows += _optimum_rows(domain, optima, len(header))
    note = (
        "The paper compares at equal updates only. All steps and forwards of a search count, used or not. A forward "
        "is of one observation, so the later actions of a turn, which are decoded one token each, are in the steps "
        "alone. Forwards are those that the machine computes: one for each row of the batch in every turn until its "
        "last episode ends, rows of ended episodes among them; steps are of living episodes only. At equal cost the "
        "success is read off the learning curve, linearly between evaluations, which have a quarter of the episodes "
        "of the final one; all methods of a domain are compared where the run that has spent the least in all its "
        "updates ends. Filtering goes on for longer, and an expensive search has made few updates by then."
    )
    return Table("Success in per cent, at equal cost", header, rows, note)


def _budgets(domains: Mapping[str, Runs], optima: Mapping[str, float]) -> Table:
    rows = []
    for domain, runs in domains.items():
        for m, w in ((2, 1), (4, 1), (6, 1), (2, 2), (4, 2), (6, 2)):
            method = "beam" if (m, w) == (4, 2) else f"beam M={m} W={w}"
            if method in runs:
                paper = PUBLISHED_BUDGETS.get(domain, {}).get((m, w), _NOTHING)
                name = row_name(domain, runs, method, f"M={m} W={w}")
                rows.append(_row(name, _outcome(runs, method), paper, digits=2))
        others = [method for method in runs if method not in METHODS and " M=" not in method]
        for method in others:
            name = row_name(domain, runs, method, f"{method} of a whole group, M=4 W=16")
            rows.append(_row(name, _outcome(runs, method), _NOTHING))
        rows += _optimum_rows(domain, optima, len(_HEADER))
    note = (
        "W is the paper's B. It says that its main results have M=4 and B=2, but their numbers are those of M=2 and "
        "B=2 here; ours have M=4 and W=2."
    )
    return Table("Search budgets of the beam (the paper's Tables 4 to 7)", _HEADER, rows, note)


def _speed(domains: Mapping[str, Runs]) -> Table:
    header = (
        "", f"updates to {percents(SHARE)}", f"to {percents(SHARE)} of {BASELINE}'s", f"to {percents(NEARLY)}",
        "paper 0.5B: to 80 %", "to convergence", "paper 3B: to 80 %", "to convergence",
    )  # fmt: skip
    rows = []
    for domain, runs in domains.items():
        for method in ordered(runs):
            common, missing = common_steps(runs, method)
            there = _count(estimate(common)) + (f" ({missing} of {len(common)} did not)" if missing else "")
            own, nearly = (_count(mean_of(runs, method, steps_to(share))) for share in (SHARE, NEARLY))
            numbers = ((model.updates_80, model.updates_end) for model in clocked(domain, method))
            paper = (plain(number, 0) for pair in numbers for number in pair)
            rows.append((row_name(domain, runs, method), own, there, nearly, *paper))
    note = (
        "Updates until an evaluation has that share of the run's own final success, as in the paper; 0 is the base "
        f"model's, and a method that ends lower gets there sooner. So the next column has {percents(SHARE)} of what "
        f"{BASELINE} ends with under the same seed: 0 for all where that is no more than the base model has; runs that "
        "do not get there count with all their updates. The paper does not say what its convergence is; "
        f"{percents(NEARLY)} stands beside it here."
    )
    return Table("Speed of learning (the paper's Tables 8 to 10)", header, rows, note)


def _diagnostics(domains: Mapping[str, Runs], optima: Mapping[str, float]) -> Table:
    header = ("", "training return", "entropy, first quarter", "last quarter", "gradient norm, median", "largest")
    values: list[Values] = [
        lambda run: late(run, "return"),
        lambda run: early(run, "entropy"),
        lambda run: late(run, "entropy"),
        lambda run: float(np.median(recorded(run, "gradient_norm"))),
        lambda run: float(np.max(recorded(run, "gradient_norm"))),
    ]
    rows: list[tuple[str, ...]] = []
    for domain, runs in domains.items():
        for method in ordered(runs):
            rows.append((row_name(domain, runs, method), *(str(mean_of(runs, method, value)) for value in values)))
        if domain in optima:
            rows.append((f"{domain}: {OPTIMUM}", f"{optima[domain]:.3f}", *[""] * (len(header) - 2)))
    note = (
        "Over the updates that are compared. Returns are those of the rollouts that the search kept, before groups are "
        "filtered, in the last quarter of the updates; entropies, in nats, those of the policy's decisions in the "
        "rollouts that are learned from. A search may keep lucky rollouts, and so return more than any policy can."
    )
    return Table("Exploitation, exploration and stability (the paper's Figure 4)", header, rows, note)


def _diverged(domains: Mapping[str, Runs]) -> Table:
    rows = [
        (f"{domain}: {method}, seed {seed}", str(run.diverged.update), run.diverged.cause)
        for domain, methods in domains.items()
        for method, runs in methods.items()
        for seed, run in enumerate(runs)
        if run.diverged is not None
    ]
    note = (
        "A run diverges where its loss, its gradient or another metric of an update is not finite. It ends there, and "
        "from that update on it counts as failed: no success in its evaluations and rollouts, the least return that it "
        "had, at most 0, and the most turns and actions. Its entropy and gradient norm stay where they were last, its "
        "updates cost the mean of those before, and where it diverged in the compared updates it gets to no share of "
        "any success. What it measured earlier counts as measured. So it is in every mean and interval of this report; "
        "rows that have such runs say so."
    )
    return Table("Runs that diverged", ("", "in update", "cause"), rows, note)


def row_name(domain: str, runs: Runs, method: str, shown: str | None = None) -> str:
    """What the row of a method is called; how many of its seeds diverged is told where any did."""
    diverged = sum(run.diverged is not None for run in runs[method])
    return f"{domain}: {shown or method}" + (f" ({diverged} of {len(runs[method])} diverged)" if diverged else "")


def _row(name: str, ours: tuple[str, ...], paper: Published, digits: int = 1) -> tuple[str, ...]:
    """A method beside the paper's, whose turns have so many `digits`."""
    small = plain(paper.small, 1), plain(paper.small_turns, digits)
    large = plain(paper.large, 1), plain(paper.large_turns, digits)
    return (name, *ours, *small, *large)


def _optimum_rows(domain: str, optima: Mapping[str, float], width: int) -> list[tuple[str, ...]]:
    """The exact ceiling, where there is one."""
    if domain not in optima:
        return []
    return [(f"{domain}: {OPTIMUM}", f"{100 * optima[domain]:.1f}", *[""] * (width - 2))]


def clocked(domain: str, method: str) -> tuple[Clocked, Clocked]:
    """What the paper's clocks say of the smaller and the larger model; NaN where they say nothing."""
    return CLOCKED.get(domain, {}).get(method, (_UNKNOWN, _UNKNOWN))


def ordered(runs: Runs) -> list[str]:
    """The methods of the main comparison that were run, as the paper ranks them."""
    return [method for method in METHODS if method in runs]


def percent(one: Estimate | Interval, *, signed: bool = False) -> str:
    """A share in per cent, or a difference of two with its sign, with half its interval."""
    return f"{100 * one.mean:{'+' if signed else ''}.1f} ± {50 * (one.high - one.low):.1f}"


def _count(one: Estimate, digits: int = 0) -> str:
    return f"{one.mean:.{digits}f} ± {(one.high - one.low) / 2:.{digits}f}"


def plain(number: float, digits: int) -> str:
    """A number of the paper as it prints it; empty where it has none."""
    return "" if np.isnan(number) else f"{number:.{digits}f}"
