"""TSR, trajectory-search rollouts (Djuhera et al., arXiv 2602.11767): its tables and claims with a small policy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from benchmarks.papers import Paper, Settings
from benchmarks.papers.progress import Progress
from benchmarks.papers.study import Study, Table
from benchmarks.papers.tsr_analysis import CLOCKS, SHARE, Runs, cost, forwards_ratio, steps_to
from benchmarks.papers.tsr_claims import claims
from benchmarks.papers.tsr_plan import BASELINE, BUDGETS, PLANS, Cell, Plan
from benchmarks.papers.tsr_plots import plots
from benchmarks.papers.tsr_runs import Run, Store, Workshop, run
from benchmarks.papers.tsr_tables import PUBLISHED, tables
from envs_jax.frozen_lake.env import FrozenLake
from jaxrl_agents.methods import tsr

COST = 1.15  # time of an update over filtering's, beyond what policy forwards explain


def study(settings: Settings, folder: Path, progress: Progress) -> Study:
    """Runs what is not done yet, and makes the tables."""
    return study_of(PLANS[settings.budget], settings, folder, progress)


def study_of(plan: Plan, settings: Settings, folder: Path, progress: Progress) -> Study:
    """The study of a plan."""
    workshop = Workshop(plan.sizes, settings.seed)
    finished = _runs(plan, settings, workshop, Store(folder, plan.sizes, settings.seed), progress)
    domains = {domain: _of_domain(domain, finished) for domain in plan.domains}
    optima = {domain: value for domain in domains if (value := _optimum(workshop.problem(domain))) is not None}
    return Study(
        summary=_summary(plan, settings, workshop),
        tables=list(tables(domains, optima)),
        claims=list(claims(domains, optima)),
        plots=list(plots(domains, optima, folder)),
        records=_records(finished, optima),
        timings=_timings(domains),
        time_tables=[_cost_table(domains)],
    )


def _runs(
    plan: Plan, settings: Settings, workshop: Workshop, store: Store, progress: Progress
) -> dict[Cell, list[Run]]:
    """All runs, cell by cell; those that the store has are not run again."""
    cells = list(plan.cells())
    progress.started("updates", total=sum(cell.total_updates for cell in cells) * settings.num_seeds)
    finished: dict[Cell, list[Run]] = {cell: [] for cell in cells}
    for cell in cells:
        for seed in range(settings.num_seeds):
            progress.advanced(0, f"{cell.name}, seed {seed}")
            found = store.load(cell, seed)
            if found is None:
                made = run(workshop, cell, seed, progress.advanced)
                store.save(cell, seed, made)
            else:
                made = found
                progress.advanced(cell.total_updates)
            finished[cell].append(made)
            progress.say(_line(cell, seed, made, kept=found is not None))
    return finished


def _line(cell: Cell, seed: int, made: Run, kept: bool) -> str:
    start, end = made.curve["success"][0], made.final["success"]
    spent = f"{made.seconds:.2f} s an update, {made.cpu_seconds:.2f} s of processors"
    return f"{cell.name}, seed {seed}: success {start:.3f} → {end:.3f}, {spent}{' (kept)' if kept else ''}"


def _of_domain(domain: str, finished: Mapping[Cell, list[Run]]) -> Runs:
    return {cell.method: runs for cell, runs in finished.items() if cell.domain == domain}


def _optimum(given: tsr.Problem) -> float | None:
    """The success of the best policy on the held-out tasks, where it can be computed."""
    env, domain = given.policy.env, given.domain
    if not isinstance(env, FrozenLake):
        return None
    limit = int(np.max(np.asarray(given.held_out.instances.time_limit)))
    values = tsr.turn_optimum(
        env, given.held_out,
        num_turns=domain.num_turns, max_turn_actions=domain.max_turn_actions, num_actions=limit,
    )  # fmt: skip
    return float(np.mean(np.asarray(values, np.float64)))


def _summary(plan: Plan, settings: Settings, workshop: Workshop) -> str:
    parameters = workshop.problem(plan.domains[0]).policy.model.config.num_parameters
    return (
        f"{', '.join(plan.domains)}: {settings.num_seeds} seeds, {plan.num_updates} updates (filtering goes on to "
        f"{plan.longer * plan.num_updates}) of {tsr.NUM_GROUPS} groups × {tsr.GROUP_SIZE} rollouts; the quarter of the "
        f"groups with the most different returns is learned from. The policy is a transformer of {parameters:,} "
        "parameters; its base model has seen plans in a few supervised updates. PPO on Sokoban, GRPO elsewhere."
    )


def _records(finished: Mapping[Cell, list[Run]], optima: Mapping[str, float]) -> dict[str, object]:
    """Curves and final figures of every run, without clocks."""
    runs = {
        cell.name: [{"curve": r.curve, "steps": r.steps, "final": r.final} for r in runs]
        for cell, runs in finished.items()
    }
    return {"runs": runs, "optima": dict(optima)}


def _timings(domains: Mapping[str, Runs]) -> dict[str, float]:
    """Seconds of all updates of a domain's methods, a seed; medians stand for the updates that compiled."""
    return {
        f"{domain}/{method}, training": float(np.mean([run.seconds * run.curve["updates"][-1] for run in runs]))
        for domain, methods in domains.items()
        for method, runs in methods.items()
    }


def _cost_table(domains: Mapping[str, Runs]) -> Table:
    """Time of an update beside what forwards explain (the paper's Tables 8 to 10)."""
    header = (
        "", "forwards ×", "s / update", "×", "over forwards", "processor s / update", "×", "over forwards",
        f"s to {SHARE:.0%} of the success", "paper's hours ×",
    )  # fmt: skip
    rows = [
        (f"{domain}: {method}", *_costs(runs, method), _paper_hours(domain, method))
        for domain, runs in domains.items()
        for method in runs
    ]
    note = (
        f"× is to filtering; over what the policy forwards explain, at most {COST} is wanted. Medians over updates, "
        "means over the seeds; compilation and evaluations apart. Where the machine does other work too, processor "
        "time tells more than wall time."
    )
    return Table("Cost of an update (the paper's Tables 8 to 10)", header, rows, note)


def _costs(runs: Runs, method: str) -> tuple[str, ...]:
    forwards = forwards_ratio(runs, method)
    cells = [f"{forwards:.2f}"]
    for clock in CLOCKS:
        spent = cost(runs, method, clock)
        times = spent / cost(runs, BASELINE, clock)
        verdict = "" if method == BASELINE else ", holds" if times / forwards <= COST else ", does not hold"
        cells += [f"{spent:.3f}", f"{times:.2f}", f"{times / forwards:.2f}{verdict}"]
    waited = float(np.mean([steps_to(SHARE)(run) * run.seconds for run in runs[method]]))
    return (*cells, f"{waited:.1f}")


def _paper_hours(domain: str, method: str) -> str:
    paper = PUBLISHED.get(domain, {})
    if method not in paper:
        return ""
    return f"{paper[method].large_hours / paper[BASELINE].large_hours:.2f}"


PAPER = Paper(
    name="tsr",
    title="TSR: trajectory-search rollouts",
    budgets=BUDGETS,
    default_budget="quick",
    study=study,
    resumable=True,
)
