"""Search: nodes a second of every mode, against the bare step and mctx; networks, memory, devices, quality."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
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
from benchmarks.search_headline import (
    BATCH,
    ID,
    MASKED,
    MCTX_BATCH,
    OURS,
    PROPOSED,
    SIMULATIONS,
    TURNS,
    VARIANTS,
    Way,
    batch_size,
    fastest,
    is_bare,
    measured,
    modes,
    roots,
    search_of,
)
from benchmarks.search_problems import (
    Problem,
    problem,
    return_and_value,
    with_network,
    with_rollout_values,
)
from benchmarks.search_workers import call
from benchmarks.suites import Case, Plot, Settings, Suite
from jaxrl_agents import search

NAME = "search"
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


def cases(settings: Settings) -> Iterator[Case]:
    """The cases in the order in which they run: the figures that matter most first."""
    programs: ProgramFactories = {name: functools.partial(_program, settings, name) for name in OURS}
    programs["mcts, from_env"] = functools.partial(_mcts_program, settings)
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


def _program(settings: Settings, name: str) -> Program:
    """What an arm of the headline runs."""
    return search_arms.search_program(search_of(name), roots(settings, name, batch_size(name, 1)))


def _mcts_program(settings: Settings) -> Program:
    """As many simulations as the arm `mcts` has, under the environment's own model, which masks actions."""
    return search_arms.search_program(search_of("mcts"), problem(ID, MCTX_BATCH, settings))


def _network_program(settings: Settings) -> Program:
    return search_arms.search_program(_network_search(), with_network(problem(ID, 64, settings)))


# Nodes a second -----------------------------------------------------------------------------------------------------


def run_nodes(settings: Settings) -> Iterator[Row]:
    """The headline figures: all modes, the bare step and mctx in one run, on one device and on one for each core."""
    ways = _headline(settings)
    rows = RowMaker(NAME, f"{ID}/nodes")
    for way in ways:
        parameters = {"arm": way.arm, "on": way.on}
        unit = "steps/s" if is_bare(way.arm) else "nodes/s"
        size = batch_size(way.arm, way.devices)
        yield rows.rate(way.measurement, unit, parameters=parameters, batch_size=size, note=_note(way.arm))
    arms = dict.fromkeys(way.arm for way in ways)
    bare = {kind: fastest(ways, [arm for arm in arms if arm.startswith(f"{kind},")]) for kind in ("R", "Rs")}
    for name, (kind, least) in SHARES.items():
        for arm in _among(arms, name, *VARIANTS[name]):
            yield _over(rows, f"over {kind}", fastest(ways, [arm]), bare[kind], least, parameters={"mode": arm})
    gumbel = fastest(ways, ["mctx", "mctx, with tree"])
    for arm in _among(arms, "beam_search", *VARIANTS["beam_search"]):
        ours = fastest(ways, [arm])
        yield _over(rows, "over the faster mctx", ours, gumbel, OVER_MCTX, parameters={"mode": arm})
    both = fastest(ways, ["mcts"]), fastest(ways, ["mctx, with tree"])
    yield _over(rows, "mcts over mctx, with tree", *both, LIKE_MCTX)
    yield from _unique(rows, fastest(ways, ["beam_search, dedup"]))
    for name in OURS:
        yield from _costs(rows, settings, next(way for way in ways if way.arm == name))
    yield from _triggers(rows, fastest(ways, ["entropy_backtrack"]).measurement)


def _among(arms: Collection[str], *names: str) -> list[str]:
    """Those of the `names` that are among the arms: some are in full runs only."""
    return [name for name in names if name in arms]


def _headline(settings: Settings) -> list[Way]:
    """What the arms did: on CPUs in a process with a device for each core, else on the devices that there are."""
    if jax.default_backend() != "cpu":
        return measured(settings)
    found = call("nodes", {"budget": dataclasses.asdict(settings.budget), "levels": _levels(settings)})
    return [Way.of(document) for document in found]


def _levels(settings: Settings) -> str | None:
    """The level file or folder, for a process of its own."""
    return None if settings.levels is None else str(settings.levels)


def _over(rows: RowMaker, metric: str, a: Way, b: Way, least: float, **fields: Any) -> Row:
    """The ratio of two arms, each in its faster way."""
    note = f"{a.arm}: {a.on}; {b.arm}: {b.on}"
    return rows.ratio(metric, a.measurement, b.measurement, least, note=note, **fields)


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
    PROPOSED: "the same, drawn by a function in place of logits",
    "lookahead": "full tree, D = 3, M = 4, 8 turns, no bootstrap",
    "beam_search": "W = 16, M = 4, 32 turns",
    "beam_search, dedup": "the same with exact deduplication",
}


def _note(arm: str) -> str:
    if arm in MASKED:
        return f"{_NOTES[MASKED[arm]]}; without actions that have no effect"
    return _NOTES.get(arm, _NOTES.get(arm.split(",")[0], ""))  # R and Rs with any number of rows


def _costs(rows: RowMaker, settings: Settings, way: Way) -> Iterator[Row]:
    """Compile time, memory, and what was stepped for nothing."""
    arm = way.measurement
    if arm.rates is None:
        return
    size = batch_size(way.arm, way.devices)
    fields: dict[str, Any] = {"parameters": {"mode": way.arm}, "batch_size": size}
    cost: dict[str, Any] = {**fields, "better": "lower"}
    limit = Target("<=", COMPILE_SECONDS)
    yield rows.fact("first compile", "s", arm.compile_seconds or 0.0, target=limit, **cost)
    searched, base = search_of(way.arm), roots(settings, way.arm, batch_size(way.arm, 1))
    estimate = way.devices * search.estimate_bytes(searched.mode, base.root(), tasks=base.tasks, **searched.options)
    live = arm.summary["bytes"]
    limit = Target("<=", LIVE_BYTES)
    yield rows.fact("live bytes over the formula", "×", live / estimate, target=limit, **cost)
    yield rows.fact("live bytes a root", "bytes", live / size, **cost)
    generated, wasted = arm.summary["generated"], arm.summary["wasted"]
    yield rows.fact("nodes a root", "", generated, **fields)
    note = "ended nodes, empty slots, kept candidates played again"
    yield rows.fact("rows stepped for nothing", "%", 100 * wasted / (generated + wasted), note=note, **cost)


def _unique(rows: RowMaker, way: Way) -> Iterator[Row]:
    """The rate of a deduplicating search in the nodes that it did not merge."""
    if way.measurement.rates is not None:
        share = way.measurement.summary["unique"] / way.measurement.summary["generated"]
        fields: dict[str, Any] = {"parameters": {"mode": way.arm}, "better": "higher"}
        note = f"{way.on}; not merged with another of their turn"
        yield rows.sample("unique nodes", "nodes/s", share * way.measurement.rates, note=note, **fields)


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
    arguments = {"num_devices": DEVICES, "batch_size": BATCH, "num_turns": TURNS, "levels": _levels(settings)}
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
    arguments = {"batch_size": MCTX_BATCH, "num_simulations": SIMULATIONS, "levels": _levels(settings)}
    budget = {"repeats": settings.budget.repeats, "seconds": settings.budget.seconds}
    rows = RowMaker(NAME, f"{ID}/scheduler", MCTX_BATCH)
    for scheduler, flags in SCHEDULERS.items():
        found = call("mcts", {**arguments, **budget}, flags)
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
            name: functools.partial(search_arms.searching, searched, roots(settings, name, batch_size))
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


COMPILATIONS = 3  # of each program: what else the machine does reaches one more than the others


def run_growth(settings: Settings) -> Iterator[Row]:
    """Compile time with eight times the turns, or simulations, over that of the headline's."""
    rows = RowMaker(NAME, f"{ID}/compile", 64)
    short, long = modes(), modes(8 * TURNS)
    short["mcts"], long["mcts"] = search_of("mcts"), search_arms.mcts(8 * SIMULATIONS)
    for name in short:
        base = roots(settings, name, 64)
        seconds = [
            [search_arms.searching(mode[name], base).compile_seconds or 0.0 for mode in (short, long)]
            for _ in range(COMPILATIONS)
        ]
        yield _growth(rows, name, np.array(seconds))


def _growth(rows: RowMaker, name: str, seconds: np.ndarray) -> Row:
    """The ratio within each pair of `seconds` [compilations, 2]."""
    fields: dict[str, Any] = {"parameters": {"mode": name}, "target": Target("<=", COMPILE_GROWTH), "better": "lower"}
    note = "{:.1f} s and {:.1f} s".format(*np.median(seconds, axis=0))
    return rows.sample("compile, 8 × longer", "×", seconds[:, 1] / seconds[:, 0], note=note, **fields)


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
