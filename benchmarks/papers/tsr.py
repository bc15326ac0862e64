"""TSR, trajectory-search rollouts (Djuhera et al., arXiv 2602.11767): its tables and claims with a small policy."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from benchmarks.papers import Paper, Settings
from benchmarks.papers.progress import Progress
from benchmarks.papers.study import Study
from benchmarks.papers.tsr_analysis import Runs, counted
from benchmarks.papers.tsr_claims import claims
from benchmarks.papers.tsr_costs import cost_tables
from benchmarks.papers.tsr_plan import BUDGETS, PLANS, Cell, Plan
from benchmarks.papers.tsr_plots import plots
from benchmarks.papers.tsr_runs import Run, RunStore, Workshop, run
from benchmarks.papers.tsr_tables import tables
from envs_jax.frozen_lake.env import FrozenLake
from jaxrl_agents.methods import tsr
from jaxrl_agents.models import adapter_for


def study(settings: Settings, folder: Path, progress: Progress) -> Study:
    """Runs what is not done yet, and makes the tables."""
    plan = PLANS[settings.budget]
    if settings.levels is not None:
        plan = plan.with_levels(settings.levels)
    return study_of(plan, settings, folder, progress)


def study_of(plan: Plan, settings: Settings, folder: Path, progress: Progress) -> Study:
    """The study of a plan."""
    store, workshop = RunStore(folder, plan, settings.seed), Workshop(plan, settings.seed)
    progress.started("tasks", total=len(plan.domains))
    for domain in plan.domains:  # what is wrong with them is told before anything is trained
        workshop.problem(domain)
        progress.advanced()
    finished = _runs(plan, settings, workshop, store, progress)
    domains = {domain: _of_domain(domain, finished) for domain in plan.domains}
    optima = {domain: value for domain in domains if (value := _optimum(workshop.problem(domain))) is not None}
    return Study(
        summary=_summary(plan, settings, workshop, finished),
        tables=list(tables(domains, optima)),
        claims=list(claims(domains, optima)),
        plots=list(plots(domains, optima, folder)),
        records=_records(finished, optima),
        timings=_timings(finished),
        time_tables=list(cost_tables(domains, {domain: _tokens(workshop.problem(domain)) for domain in domains})),
    )


def _runs(
    plan: Plan, settings: Settings, workshop: Workshop, store: RunStore, progress: Progress
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
                progress.advanced(cell.total_updates - made.updates_made)
            else:
                made = found
                progress.advanced(cell.total_updates)
            finished[cell].append(made)
            progress.say(_line(cell, seed, made, kept=found is not None))
    return finished


def _line(cell: Cell, seed: int, made: Run, kept: bool) -> str:
    start, end = made.curve["success"][0], counted(made, cell).final["success"]
    diverged = "" if made.diverged is None else f" (diverged in update {made.diverged.update}: {made.diverged.cause})"
    spent = f"{made.seconds:.2f} s an update, {made.cpu_seconds:.2f} s of processors"
    return f"{cell.name}, seed {seed}: success {start:.3f} → {end:.3f}{diverged}, {spent}{' (kept)' if kept else ''}"


def _of_domain(domain: str, finished: Mapping[Cell, list[Run]]) -> Runs:
    """The runs of a domain, as they count."""
    return {
        cell.method: [counted(run, cell) for run in runs] for cell, runs in finished.items() if cell.domain == domain
    }


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


def _tokens(given: tsr.Problem) -> int:
    """Those of an observation."""
    return adapter_for(given.policy.env).num_tokens


def _summary(plan: Plan, settings: Settings, workshop: Workshop, finished: Mapping[Cell, list[Run]]) -> str:
    parameters = workshop.problem(plan.domains[0]).policy.model.config.num_parameters
    runs = [run for runs in finished.values() for run in runs]
    diverged = sum(run.diverged is not None for run in runs)
    return (
        f"{', '.join(plan.domains)}: {settings.num_seeds} seeds, {plan.num_updates} updates (filtering goes on to "
        f"{plan.longer * plan.num_updates}) of {tsr.NUM_GROUPS} groups × {tsr.GROUP_SIZE} rollouts; the quarter of the "
        f"groups with the most different returns is learned from. The policy is a transformer of {parameters:,} "
        f"parameters on {plan.domains[0]}; its base model has seen plans in a few supervised updates. PPO on Sokoban, "
        "GRPO elsewhere. Intervals are 95 %, of Student's t over the seeds; differences are taken seed by seed, each "
        "for itself, without a correction for their number."
        + (f" {diverged} of the {len(runs)} runs diverged and count as failed, see the last table." if diverged else "")
    )


def _records(finished: Mapping[Cell, list[Run]], optima: Mapping[str, float]) -> dict[str, object]:
    """What every run measured, without clocks; of one that diverged what it did until then, and where that was."""
    runs = {cell.name: [_record(run) for run in runs] for cell, runs in finished.items()}
    return {"runs": runs, "optima": dict(optima)}


def _record(run: Run) -> dict[str, object]:
    measured = {"curve": run.curve, "steps": run.steps, "final": run.final}
    return measured if run.diverged is None else {**measured, "diverged": dataclasses.asdict(run.diverged)}


def _timings(finished: Mapping[Cell, list[Run]]) -> dict[str, float]:
    """Seconds of all updates of a method's run, and of all runs; medians stand for the updates that compiled."""
    spent = {cell.name: [run.seconds * run.updates_made for run in runs] for cell, runs in finished.items()}
    each = {f"{name}: training of one seed": float(np.mean(seconds)) for name, seconds in spent.items()}
    everything = [seconds for runs in spent.values() for seconds in runs]
    return {**each, f"training of all {len(everything)} runs, compilation and evaluations apart": sum(everything)}


PAPER = Paper(
    name="tsr",
    title="TSR: trajectory-search rollouts",
    budgets=BUDGETS,
    default_budget="quick",
    study=study,
    takes_levels=True,
)
