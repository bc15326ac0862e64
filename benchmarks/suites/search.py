"""Search: nodes a second of every mode, against the bare step and mctx; networks, memory, devices, quality."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import search_arms, search_quality
from benchmarks.measure import Arm, Measurement, Program, measure
from benchmarks.results import Row, Target
from benchmarks.rows import RowMaker
from benchmarks.search_arms import Search, in_nodes
from benchmarks.search_problems import (
    Problem,
    lean,
    problem,
    return_and_value,
    with_network,
    with_rollout_values,
    with_table,
)
from benchmarks.search_workers import call
from benchmarks.suites import Case, Plot, Settings, Suite
from jaxrl_agents import search

NAME = "search"
ID = "Sokoban-v0"  # 10×10, 4 boxes
BATCH = 1_024  # roots of the headline figures
MCTX_BATCH = 256  # where mctx is fastest on CPUs
TURNS = 32
SIMULATIONS = 32
DEVICES = 8

# Least rates, as shares of the bare step with enumerated actions (R) or with one random word a step (Rs).
SHARES = {
    "best_of_n": ("Rs", 0.7),
    "entropy_backtrack": ("Rs", 0.4),
    "lookahead": ("R", 0.7),
    "beam_search": ("R", 0.4),
    "beam_search, dedup": ("R", 0.2),
}
OVER_MCTX = 20.0  # beam nodes for each simulation of mctx
LIKE_MCTX = 0.98  # the rate of `mcts` over that of mctx itself
TRIGGERS = (20.0, 40.0)  # per cent of the steps at which the measured backtracking steps back
NETWORK_COST = 1.10  # time of a search over that of its forwards alone
LIVE_BYTES = 1.2  # the compiler's figure over the documented formula
COMPILE_SECONDS = 5.0
COMPILE_GROWTH = 1.3  # with eight times the turns or simulations
DEVICES_COST = 1.2  # time on eight simulated devices over that on one

ArmFactories = dict[str, Callable[[], Arm]]
ProgramFactories = dict[str, Callable[[], Program]]


def modes(turns: int = TURNS, width: int = 16, depth: int = 3, paths: int = 1) -> dict[str, Search]:
    """The modes as they are measured; `width` is W and N, `depth` that of the lookahead, which commits `paths`."""
    beam = {"num_turns": turns, "beam_width": width, "candidates": "enumerate"}
    full = {"num_turns": max(1, turns // 4), "depth": depth, "candidates": "enumerate", "continuation": "full"}
    full["beam_width"] = paths
    full["bootstrap"] = False  # there is no value to add: without a policy it is 0
    backtrack = {"num_turns": turns, "num_rollouts": width, "entropy_threshold": 0.9, "max_retries": turns}
    return {
        "best_of_n": Search(search.best_of_n, {"num_turns": turns, "num_rollouts": width}),
        "entropy_backtrack": Search(search.entropy_backtrack, backtrack),
        "lookahead": Search(search.lookahead, full),
        "beam_search": Search(search.beam_search, beam),
        "beam_search, dedup": Search(search.beam_search, {**beam, "deduplicate": True}),
    }


def cases(settings: Settings) -> Iterator[Case]:
    """The cases in the order in which they run: the figures that matter most first."""
    programs: ProgramFactories = {name: functools.partial(_program, settings, name) for name in modes()}
    programs.update({name: functools.partial(_mcts_program, settings, name) for name in ("mcts", "mcts, from_env")})
    programs["network"] = functools.partial(_network_program, settings)
    yield Case(f"{ID}/nodes", functools.partial(run_nodes, settings), programs)
    yield Case(f"{ID}/network", functools.partial(run_network, settings))
    yield Case(f"{ID}/devices", functools.partial(run_devices, settings))
    for name, setting in search_quality.SETTINGS.items():
        if setting.sizes(settings.budget.name):
            yield Case(f"{name}/quality", functools.partial(run_quality, settings, name))
    if settings.full:
        if jax.default_backend() == "cpu":
            yield Case(f"{ID}/scheduler", functools.partial(run_scheduler, settings))
        yield Case(f"{ID}/compile", functools.partial(run_growth, settings))
        for axis in SWEEPS:
            yield Case(f"{ID}/{axis}", functools.partial(run_sweep, settings, axis))


def _roots(settings: Settings, name: str, batch_size: int = BATCH) -> Problem:
    """The roots that a mode is measured from: backtracking has a table as its policy, the others have none."""
    base = problem(ID, batch_size, settings)
    return with_table(base) if name == "entropy_backtrack" else base


def _program(settings: Settings, name: str) -> Program:
    return search_arms.search_program(modes()[name], _roots(settings, name))


def _mcts_program(settings: Settings, name: str) -> Program:
    """What the arm `mcts` runs, or the same number of simulations under the environment's own model."""
    base = problem(ID, MCTX_BATCH, settings)
    return search_arms.search_program(search_arms.mcts(SIMULATIONS), lean(base) if name == "mcts" else base)


def _network_program(settings: Settings) -> Program:
    return search_arms.search_program(_network_search(), with_network(problem(ID, 64, settings)))


# Nodes a second -----------------------------------------------------------------------------------------------------


def run_nodes(settings: Settings) -> Iterator[Row]:
    """The headline figures: all modes, the bare step and mctx in one run."""
    measured = measure(_headline_arms(settings), settings.budget)
    rows = RowMaker(NAME, f"{ID}/nodes", BATCH)
    for name, arm in measured.items():
        unit = "steps/s" if name.startswith("R") else "nodes/s"
        yield rows.rate(arm if unit == "steps/s" else in_nodes(arm), unit, **_described(name))
    bare = {kind: _fastest(measured, kind) for kind in ("R", "Rs")}
    for name, (kind, least) in SHARES.items():
        yield rows.ratio(f"over {kind}", in_nodes(measured[name]), bare[kind], least, parameters={"mode": name})
    gumbel = in_nodes(max(measured["mctx"], measured["mctx, with tree"], key=_median))
    yield rows.ratio("beam over the faster mctx", in_nodes(measured["beam_search"]), gumbel, OVER_MCTX)
    both = measured["mcts"], measured["mctx, with tree"]
    yield rows.ratio("mcts over mctx, with tree", *both, LIKE_MCTX, batch_size=MCTX_BATCH)
    for name in modes():
        yield from _costs(rows, settings, name, measured[name])
    yield from _triggers(rows, measured["entropy_backtrack"])


def _headline_arms(settings: Settings) -> ArmFactories:
    base = problem(ID, BATCH, settings)
    small = problem(ID, MCTX_BATCH, settings)
    arms: ArmFactories = {}
    for copies in (8, 64):
        arms[f"R, {copies} rows a root"] = functools.partial(_bare_arm, base, copies, words=False)
        arms[f"Rs, {copies} rows a root"] = functools.partial(_bare_arm, base, copies, words=True)
    for name, searched in modes().items():
        roots = _roots(settings, name)
        arms[name] = functools.partial(search_arms.searching, searched, roots)
    arms["mctx"] = functools.partial(search_arms.mctx_gumbel, small, SIMULATIONS)
    arms["mctx, with tree"] = functools.partial(search_arms.mctx_gumbel, small, SIMULATIONS, keep_tree=True)
    arms["mcts"] = functools.partial(search_arms.our_mcts, small, SIMULATIONS)
    if settings.full:
        arms["mctx, S = 128"] = functools.partial(search_arms.mctx_gumbel, problem(ID, 64, settings), 128)
        arms["mctx, 64 roots"] = functools.partial(search_arms.mctx_gumbel, problem(ID, 64, settings), SIMULATIONS)
    return arms


def _bare_arm(base: Problem, copies: int, *, words: bool) -> Arm:
    return search_arms.bare_steps(base, copies, words=words).arm()


_NOTES = {
    "R": "vmap(env.live_transition), enumerated actions, no random words",
    "Rs": "vmap(env.live_transition), one random word a step",
    "mctx": "gumbel_muzero_policy, S = 32, uniform prior, value 0, tasks outside the nodes; only action and weights",
    "mctx, with tree": "the same with its tree as an output",
    "mctx, S = 128": "the same with 128 simulations",
    "mctx, 64 roots": "the same with fewer roots",
    "mcts": "the same under search.mcts, with all of its output",
    "entropy_backtrack": "N = 16, 32 turns, up to 3 back, a table as policy",
    "best_of_n": "N = 16, 32 turns, uniform policy",
    "lookahead": "full tree, D = 3, M = 4, 8 turns, no bootstrap",
    "beam_search": "W = 16, M = 4, 32 turns",
    "beam_search, dedup": "the same with exact deduplication",
}


def _described(name: str) -> dict[str, Any]:
    small = {"mctx": MCTX_BATCH, "mctx, with tree": MCTX_BATCH, "mcts": MCTX_BATCH}
    few = {"mctx, S = 128": 64, "mctx, 64 roots": 64}
    note = _NOTES.get(name, _NOTES.get(name.split(",")[0], ""))  # R and Rs with any number of rows
    return {"parameters": {"arm": name}, "batch_size": {**small, **few}.get(name, BATCH), "note": note}


def _fastest(measured: Mapping[str, Measurement], kind: str) -> Measurement:
    """The bare step of a kind at the number of rows where it is fastest."""
    return max((arm for name, arm in measured.items() if name.startswith(f"{kind},")), key=_median)


def _median(arm: Measurement) -> float:
    return 0.0 if arm.rates is None else float(np.median(arm.rates))


def _costs(rows: RowMaker, settings: Settings, name: str, arm: Measurement) -> Iterator[Row]:
    """Compile time, memory, and what was stepped for nothing."""
    if arm.rates is None:
        return
    fields: dict[str, Any] = {"parameters": {"mode": name}, "better": "lower"}
    limit = Target("<=", COMPILE_SECONDS)
    yield rows.fact("first compile", "s", arm.compile_seconds or 0.0, target=limit, **fields)
    searched, base = modes()[name], _roots(settings, name)
    estimate = search.estimate_bytes(searched.mode, base.root(), tasks=base.tasks, **searched.options)
    live = arm.summary["bytes"]
    limit = Target("<=", LIVE_BYTES)
    yield rows.fact("live bytes over the formula", "×", live / estimate, target=limit, **fields)
    yield rows.fact("live bytes a root", "bytes", live / BATCH, **fields)
    generated, wasted = arm.summary["generated"], arm.summary["wasted"]
    yield rows.fact("nodes a root", "", generated, parameters={"mode": name})
    note = "ended nodes, empty slots, illegal candidates"
    yield rows.fact("rows stepped for nothing", "%", 100 * wasted / (generated + wasted), note=note, **fields)


def _triggers(rows: RowMaker, arm: Measurement) -> Iterator[Row]:
    if arm.rates is not None:
        share = 100 * arm.summary["triggered"] / arm.summary["generated"]
        low, high = TRIGGERS
        note = f"the figure of backtracking is for {low:.0f} – {high:.0f} %"
        yield rows.fact("steps that step back", "%", share, parameters={"mode": "entropy_backtrack"}, note=note)


# A policy network ---------------------------------------------------------------------------------------------------


def _network_search() -> Search:
    return Search(search.beam_search, {"num_turns": 8, "beam_width": 16, "num_candidates": 4})


def run_network(settings: Settings) -> Iterator[Row]:
    """The time of a beam search with a policy network over that of its forwards alone."""
    batch_size = 64
    base = with_network(problem(ID, batch_size, settings))
    searched = _network_search()
    arms: ArmFactories = {
        "search": functools.partial(search_arms.searching, searched, base),
        "forwards": lambda: search_arms.forwards(base, searched.options["beam_width"]).arm(),
    }
    measured = measure(arms, settings.budget)
    rows = RowMaker(NAME, f"{ID}/network", batch_size)
    notes = {
        "search": "beam, W = 16, M = 4, 8 turns; forwards a second",
        "forwards": "the policy alone on W observations a root; two layers of 512 units",
    }
    arm = in_nodes(measured["search"], "policy_forwards")
    for name, shown in {"search": arm, "forwards": measured["forwards"]}.items():
        yield rows.rate(shown, "forwards/s", parameters={"arm": name}, note=notes[name])
    cost = rows.ratio("time over that of its forwards", measured["forwards"], arm, better="lower")
    yield dataclasses.replace(cost, target=Target("<=", NETWORK_COST))


# Devices ------------------------------------------------------------------------------------------------------------


def run_devices(settings: Settings) -> Iterator[Row]:
    """One search on one and on eight simulated devices, the same roots in all."""
    arguments = {"num_devices": DEVICES, "batch_size": BATCH, "num_turns": TURNS}
    budget = {"repeats": settings.budget.repeats, "seconds": max(0.15, settings.budget.seconds)}
    found = {count: np.array(rates) for count, rates in call("devices", {**arguments, **budget}).items()}
    rows = RowMaker(NAME, f"{ID}/devices", BATCH)
    for count, rates in found.items():
        parameters = {"devices": int(count)}
        yield rows.sample("throughput", "roots/s", rates, parameters=parameters, better="higher")
    cost = found["1"] / found[str(DEVICES)]
    limit = Target("<=", DEVICES_COST)
    note = f"simulated devices on {jax.device_count()} × {jax.default_backend()}"
    yield rows.sample("time of eight over one", "×", cost, target=limit, better="lower", note=note)


# What XLA:CPU's scheduler makes of mctx (full) -----------------------------------------------------------------------

SCHEDULERS = {"concurrent": "", "in order": "--xla_cpu_enable_concurrency_optimized_scheduler=false"}


def run_scheduler(settings: Settings) -> Iterator[Row]:
    """`search.mcts` and mctx under either scheduler of XLA:CPU; by default it runs small operations concurrently."""
    budget = {"repeats": settings.budget.repeats, "seconds": settings.budget.seconds}
    rows = RowMaker(NAME, f"{ID}/scheduler", MCTX_BATCH)
    for scheduler, flags in SCHEDULERS.items():
        found = call("mcts", {"batch_size": MCTX_BATCH, "num_simulations": SIMULATIONS, **budget}, flags)
        rates = {name: np.array(values) * SIMULATIONS for name, values in found.items()}
        for name, values in rates.items():
            parameters = {"arm": name, "scheduler": scheduler}
            yield rows.sample("throughput", "nodes/s", values, parameters=parameters, better="higher", note=flags)
        ratio = rates["mcts"] / rates["mctx, with tree"]
        limit = Target(">=", LIKE_MCTX)
        yield rows.sample(
            "mcts over mctx, with tree", "×", ratio, target=limit, parameters={"scheduler": scheduler}, better="higher"
        )


# Sweeps and compile time (full) -------------------------------------------------------------------------------------

SWEEPS: dict[str, tuple[int, ...]] = {"batch": (16, 128, 1_024, 4_096), "width": (4, 16, 64), "depth": (2, 3, 4)}


def run_sweep(settings: Settings, axis: str) -> Iterator[Row]:
    """Nodes a second of every mode over the roots, the width (W, N; simulations), or the depth (turns; of the tree).

    The width of the lookahead are the paths that it commits, each with a tree of its own below it.
    """
    for size in SWEEPS[axis]:
        batch_size = size if axis == "batch" else 256
        turns = 8 * 2 ** (size - 2) if axis == "depth" else TURNS
        width = size if axis == "width" else 16
        depth = size if axis == "depth" else None
        arms: ArmFactories = {
            name: functools.partial(search_arms.searching, searched, _roots(settings, name, batch_size))
            for name, searched in modes(turns, width, depth or 3, width if axis == "width" else 1).items()
        }
        simulations = SIMULATIONS * width // 16
        arms["mcts"] = functools.partial(search_arms.our_mcts, problem(ID, batch_size, settings), simulations, depth)
        measured = measure(arms, settings.budget)
        rows = RowMaker(NAME, f"{ID}/{axis}", batch_size)
        sizes = {"batch": {}, "width": {"mcts": simulations}, "depth": dict.fromkeys(("lookahead", "mcts"), size)}
        for name, arm in measured.items():
            value = sizes[axis].get(name, turns if axis == "depth" else size)
            yield rows.rate(in_nodes(arm), "nodes/s", parameters={"mode": name, axis: value})


def run_growth(settings: Settings) -> Iterator[Row]:
    """Compile time with eight times the turns, or simulations, over that of the headline's."""
    rows = RowMaker(NAME, f"{ID}/compile", 64)
    short, long = modes(), modes(8 * TURNS)
    for name in short:
        base = _roots(settings, name, 64)
        seconds = [search_arms.searching(mode[name], base).compile_seconds or 0.0 for mode in (short, long)]
        yield _growth(rows, name, seconds)
    base = problem(ID, 64, settings)
    seconds = [search_arms.our_mcts(base, count).compile_seconds or 0.0 for count in (SIMULATIONS, 8 * SIMULATIONS)]
    yield _growth(rows, "mcts", seconds)


def _growth(rows: RowMaker, name: str, seconds: Sequence[float]) -> Row:
    limit = Target("<=", COMPILE_GROWTH)
    note = f"{seconds[0]:.1f} s and {seconds[1]:.1f} s"
    growth = seconds[1] / seconds[0]
    fields: dict[str, Any] = {"parameters": {"mode": name}, "target": limit, "better": "lower", "note": note}
    row = rows.fact("compile, 8 × longer", "×", growth, **fields)
    return dataclasses.replace(row, p10=None, p90=None)  # of two single timings, whose spread is not known


# Quality ------------------------------------------------------------------------------------------------------------

QUALITY_BATCH = {"quick": 128, "full": 256}
DECILE = 1.28  # standard deviations from the mean of a normal distribution to its 10th and 90th percentile


def run_quality(settings: Settings, name: str) -> Iterator[Row]:
    """Returns and successes of episodes that every mode plays, by nodes and by time for a decision."""
    setting = search_quality.SETTINGS[name]
    base = problem(setting.id, QUALITY_BATCH[settings.budget.name], settings, **setting.options)
    rows = RowMaker(NAME, f"{name}/quality", base.batch_size)
    score: Any = "return"
    if setting.id == "FrozenLake-v0":
        yield from _exact_rows(rows, base, setting.decisions)
        base, score = with_rollout_values(base), return_and_value(base.env)
    by_nodes: dict[str, list[tuple[float, float]]] = {}
    by_time: dict[str, list[tuple[float, float]]] = {}
    for mode, sizes in setting.sizes(settings.budget.name).items():
        for size in sizes:
            played = search_quality.play(search_quality.contender(setting, mode, size, score), base, setting.decisions)
            quality = float(played.returns.mean())
            by_nodes.setdefault(mode, []).append((played.nodes, quality))
            by_time.setdefault(mode, []).append((1e6 * float(np.median(played.seconds)), quality))
            yield from _quality_rows(rows, mode, size, played)
    yield from _equal_rows(rows, "nodes", "nodes", by_nodes)
    yield from _equal_rows(rows, "time", "µs", by_time)


def _quality_rows(rows: RowMaker, mode: str, size: int, played: search_quality.Played) -> Iterator[Row]:
    """What the episodes of one mode at one size came to; means with the interval that 8 of 10 such means lie in."""
    fields: dict[str, Any] = {"parameters": {"mode": mode, "size": size}}
    for metric, unit, values in (("return", "", played.returns), ("success", "%", 100.0 * played.success)):
        mean, error = float(values.mean()), float(values.std() / np.sqrt(len(values)))
        row = rows.fact(metric, unit, mean, better="higher", note=f"mean, standard error {error:.2g}", **fields)
        yield dataclasses.replace(row, p10=mean - DECILE * error, p90=mean + DECILE * error, repeats=len(values))
    yield rows.fact("nodes a decision", "nodes", played.nodes, **fields)
    yield rows.sample("time a decision", "µs", 1e6 * played.seconds, better="lower", **fields)


def _exact_rows(rows: RowMaker, base: Problem, decisions: int) -> Iterator[Row]:
    """What the best policy, and equally likely actions, return in expectation: what the modes lie between."""
    from envs_jax.frozen_lake.planning import finite_horizon, start_value

    env = base.env
    uniform = jnp.full((env.layout.num_cells, env.num_actions), 1 / env.num_actions)
    for mode, policy, what in (("optimum", None, "the best policy"), ("uniform policy", uniform, "random actions")):
        value = lambda task, policy=policy: start_value(
            env, task, finite_horizon(env, task, decisions, policy).values[0]
        )
        mean = float(jax.jit(jax.vmap(value))(base.tasks).mean())
        note = f"exactly what {what} will return in {decisions} steps, by dynamic programming"
        yield rows.fact("return", "", mean, parameters={"mode": mode, "size": 0}, note=note)


def _equal_rows(
    rows: RowMaker, label: str, unit: str, points: Mapping[str, Sequence[tuple[float, float]]]
) -> Iterator[Row]:
    note = f"interpolated between the sizes that take fewer and more {unit} a decision"
    for cost, qualities in search_quality.at_equal(points).items():
        for mode, quality in qualities.items():
            parameters = {"mode": mode, "at": f"{cost:g} {unit}"}
            yield rows.fact(f"return at equal {label}", "", quality, parameters=parameters, better="higher", note=note)


def plots(rows: Sequence[Row], folder: Path) -> Iterator[Plot]:
    """Draws what there are rows for."""
    from benchmarks import search_plots

    yield from search_plots.search(rows, folder)


SUITE = Suite(NAME, "Search", cases, plots)
