"""Environments: steps a second over batch sizes, what resets, observations and random numbers cost, memory, peers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

import envs_jax
from benchmarks import peers, stepping
from benchmarks.boards import Grids, grids
from benchmarks.measure import Arm, Measurement, Program, measure, nbytes
from benchmarks.results import Row, Target
from benchmarks.rows import RowMaker
from benchmarks.suites import Case, Plot, Settings, Suite
from benchmarks.workloads import MAIN_IDS, environment
from envs_jax.autoreset import Mode

NAME = "environments"
HEADLINE_BATCH = 8_192
MODES: tuple[Mode, ...] = ("same_step", "optimistic", "next_step", "disabled")
SWEEP = {"quick": (512, 32_768), "full": (1, 64, 1_024, 8_192, 65_536, 524_288)}
FULL_ONLY = ("next_step",)  # programs that a quick run leaves out: each takes seconds to compile
SWEEP_OF_VARIANTS = (1_024, 8_192, 65_536)  # of ids that share their rules with a main one, in full

RESET_COST = {"same_step": 50.0, "optimistic": 15.0}  # per cent over the same batch without resets, at most
WEBSHOP_RATE = 0.5e6  # steps/s on real products, at least
NODE_BYTES = 24  # of a 10×10 Sokoban state, at most
MILLION_BYTES = 200.0  # MB for 1,000,000 Sokoban environments with their levels, at most

ArmFactories = dict[str, Callable[[], Arm]]
ProgramFactories = dict[str, Callable[[], Program]]


def cases(settings: Settings) -> Iterator[Case]:
    """The cases in the order in which they run: the figures that matter most first."""
    for id in MAIN_IDS:
        programs = cost_programs(id, settings)
        yield Case(f"{id}/step", functools.partial(run_costs, id, settings, programs), programs)
    if settings.peers:
        yield Case("peers/sokoban", functools.partial(run_sokoban_peers, settings))
        yield Case("peers/frozen_lake", functools.partial(run_frozen_lake_peers, settings))
    yield Case("Sokoban-v0/memory", functools.partial(run_million, settings))
    yield Case("all/memory", functools.partial(run_bytes, settings))
    yield Case("all/compilations", functools.partial(run_compilations, settings))
    for id in (*MAIN_IDS, *(id for id in envs_jax.registered_ids() if id not in MAIN_IDS)):
        yield Case(f"{id}/sweep", functools.partial(run_sweep, id, settings))


# One batch size, taken apart ---------------------------------------------------------------------------------------


def cost_programs(id: str, settings: Settings, batch_size: int = HEADLINE_BATCH) -> ProgramFactories:
    """The programs whose differences are the costs of the parts of a step."""

    def with_start(make: Callable[[Any, Any, Any], Program]) -> Callable[[], Program]:
        def program() -> Program:
            env, tasks = environment(id, settings)
            return make(env, tasks, _start(id, settings, batch_size))

        return program

    programs = {
        "draw": with_start(lambda env, tasks, first: stepping.action_draw(env.num_actions, batch_size)),
        "bare": with_start(lambda env, tasks, first: stepping.bare(env, first)),
        "vmap": with_start(lambda env, tasks, first: stepping.vmapped(env, first)),
    }
    for mode in MODES:
        programs[mode] = with_start(functools.partial(stepping.autoreset, mode=mode))
    for mode in MODES if settings.full else MODES[:1]:
        programs[f"{mode}+observation"] = with_start(functools.partial(stepping.autoreset, mode=mode, observe=True))
    programs["legal"] = with_start(functools.partial(stepping.autoreset, mode="same_step", legal=True))
    return programs


def run_costs(id: str, settings: Settings, programs: ProgramFactories) -> Iterator[Row]:
    """Steps a second of each program, and from their differences what the parts of a step cost."""
    arms = measure(
        _arms({name: programs[name] for name in programs if settings.full or name not in FULL_ONLY}), settings.budget
    )
    rows = RowMaker(NAME, f"{id}/step", HEADLINE_BATCH)
    real = id == "WebShop-v0" and settings.products is not None
    for name, arm in arms.items():
        unit = "draws/s" if name == "draw" else "steps/s"
        target = Target(">=", WEBSHOP_RATE) if real and name in ("same_step", "legal") else None
        yield rows.rate(arm, unit, parameters={"arm": name}, target=target, note=_NOTES.get(name, ""))
    for mode, limit in RESET_COST.items():
        yield rows.extra_cost(f"cost of resets, {mode}", arms[mode], arms["disabled"], limit)
        yield rows.extra_cost(f"cost of {mode} over bare", arms[mode], arms["bare"], None)
    yield rows.nanoseconds("time of the action draw", arms["draw"], better="")
    yield rows.nanoseconds("time of the dynamics", arms["bare"], arms["draw"])
    for mode in RESET_COST:
        yield rows.nanoseconds(f"time of resets, {mode}", arms[mode], arms["disabled"])
    yield rows.nanoseconds("time of the observation", arms["same_step+observation"], arms["same_step"])
    for name in ("same_step", "legal"):
        if "episodes" in arms[name].summary:
            ended = 100 * arms[name].summary["episodes"]
            yield rows.fact("episodes that end in a step", "%", ended, parameters={"arm": name})


_NOTES = {
    "draw": "random actions alone: one threefry word each",
    "bare": "dynamics with action draw and one word a step; no resets",
    "vmap": "jax.vmap(env.step) with a key for each environment; no resets",
    "legal": "same_step; actions drawn among those with an effect, which takes the action mask",
}


# Batch sizes --------------------------------------------------------------------------------------------------------


def run_sweep(id: str, settings: Settings) -> Iterator[Row]:
    """Steps a second over batch sizes, until a larger batch gains nothing twice in a row."""
    env, tasks = environment(id, settings)
    variants = sweep_variants(id, settings)
    best: dict[str, tuple[float, int, Measurement]] = {}
    fading = 0
    of_variants = SWEEP_OF_VARIANTS if settings.full else (HEADLINE_BATCH,)
    sizes = SWEEP[settings.budget.name] if id in MAIN_IDS else of_variants
    for batch_size in sizes:
        first = _start(id, settings, batch_size)
        programs = {
            name: functools.partial(stepping.autoreset, env, tasks, first, mode=mode, observe=observe)
            for name, (mode, observe) in variants.items()
        }
        arms = measure(_arms(programs), settings.budget)
        rows = RowMaker(NAME, f"{id}/sweep", batch_size)
        for name, arm in arms.items():
            yield rows.rate(arm, parameters={"arm": name})
            if arm.rates is not None and np.median(arm.rates) > best.get(name, (0.0,))[0]:
                best[name] = (float(np.median(arm.rates)), batch_size, arm)
        main = arms["same_step"]
        fading = fading + 1 if main.rates is None or np.median(main.rates) < best["same_step"][0] else 0
        if fading == 2:
            break
    for name, (_, batch_size, arm) in best.items():
        rows = RowMaker(NAME, f"{id}/sweep", batch_size)
        yield rows.sample("best throughput", "steps/s", arm.rates, parameters={"arm": name}, better="higher")


def sweep_variants(id: str, settings: Settings) -> Mapping[str, tuple[Mode, bool]]:
    """The arms of a sweep: (mode, whether observations are produced)."""
    variants: dict[str, tuple[Mode, bool]] = {"same_step": ("same_step", False)}
    if settings.full or id in MAIN_IDS:
        variants["same_step+observation"] = ("same_step", True)
    return variants


# Memory and compilation ---------------------------------------------------------------------------------------------


def run_million(settings: Settings) -> Iterator[Row]:
    """What 1,000,000 running Sokoban environments hold on the device, their bank and their levels included."""
    size = 1_000_000
    env, tasks = environment("Sokoban-v0", settings)

    @jax.jit
    def begin(vec: Any, key: jax.Array) -> Any:
        _, state = vec.reset(key, size, stagger=True)
        return vec.step(key, state, stepping.draw_actions(key, size, vec.num_actions))[1]

    before = sum(array.nbytes for array in jax.live_arrays())
    state = jax.block_until_ready(begin(envs_jax.AutoReset(env, tasks), jax.random.key(0)))
    held = sum(array.nbytes for array in jax.live_arrays()) - before + nbytes(tasks)
    rows = RowMaker(NAME, "Sokoban-v0/memory", size)
    limit = Target("<=", MILLION_BYTES)
    note = "sum of the live arrays: states, each environment's level, episode statistics, and the bank"
    yield rows.fact("environments with their levels", "MB", held / 1e6, target=limit, better="lower", note=note)
    yield rows.fact("the same, each", "bytes", nbytes(state) / size, better="lower")


def run_bytes(settings: Settings) -> Iterator[Row]:
    """Bytes of a state (a search node) and of a task, for every environment."""
    for id in envs_jax.registered_ids():
        env, tasks = environment(id, settings)
        rows = RowMaker(NAME, "all/memory")
        shape = jax.eval_shape(env.reset, jax.random.key(0), jax.eval_shape(lambda bank: bank[0], tasks))[1]
        state = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shape))
        limit = Target("<=", NODE_BYTES) if id == "Sokoban-v0" else None
        parameters = {"environment": id}
        yield rows.fact("state", "bytes", state, parameters=parameters, target=limit, better="lower")
        yield rows.fact("task", "bytes", nbytes(tasks.instances) / len(tasks), parameters=parameters, better="lower")


def run_compilations(settings: Settings) -> Iterator[Row]:
    """How often the step is compiled while states, keys, actions and the bank's content change."""
    for id in envs_jax.registered_ids() if settings.full else MAIN_IDS:
        env, tasks = environment(id, settings)
        _, state = _start(id, settings, HEADLINE_BATCH)
        traces = 0

        @jax.jit
        def step(vec: Any, key: jax.Array, state: Any) -> Any:
            nonlocal traces
            traces += 1
            return vec.step(key, state, stepping.draw_actions(key, HEADLINE_BATCH, vec.num_actions))[1:]

        for call, bank in enumerate((tasks, tasks, tasks.shuffle(jax.random.key(1)))):
            state = step(envs_jax.AutoReset(env, bank), jax.random.key(call), state)[0]
        rows = RowMaker(NAME, "all/compilations", HEADLINE_BATCH)
        parameters = {"environment": id}
        yield rows.fact("compilations", "", traces, parameters=parameters, target=Target("<=", 1), better="lower")


# Peers --------------------------------------------------------------------------------------------------------------


def run_sokoban_peers(settings: Settings) -> Iterator[Row]:
    """Sokoban 10×10 against Jumanji, EnvPool and gym-sokoban."""
    ours = cost_programs("Sokoban-v0", settings)
    levels = _sokoban_grids(settings)
    arms: ArmFactories = {
        **_arms({name: ours[name] for name in ("same_step", "same_step+observation")}),
        "jumanji": lambda: peers.jumanji_sokoban(levels(), HEADLINE_BATCH).arm(),
        "jumanji+observation": lambda: peers.jumanji_sokoban(levels(), HEADLINE_BATCH, observe=True).arm(),
        "envpool": lambda: peers.envpool("Jumanji/Sokoban-v0", HEADLINE_BATCH),
        "gym-sokoban": lambda: peers.gym_sokoban_step(levels()),
    }
    notes = {
        "jumanji": "Sokoban-v0, VmapAutoResetWrapper, the same levels and time limit; observations not used",
        "jumanji+observation": "Sokoban-v0, VmapAutoResetWrapper, the same levels and time limit; uint8[10, 10, 2]",
        "envpool": "Jumanji/Sokoban-v0 in C++, its own 1,000 levels, time limit 120; always with observation",
        "gym-sokoban": "one environment in Python, tiny_rgb_array, the same levels",
    }
    measured = measure(arms, settings.budget)
    rows = RowMaker(NAME, "peers/sokoban", HEADLINE_BATCH)
    yield from _peer_rows(rows, measured, notes)
    yield rows.ratio("over jumanji", measured["same_step"], measured["jumanji"], 25)
    with_observation = measured["same_step+observation"], measured["jumanji+observation"]
    yield rows.ratio("over jumanji, both with observation", *with_observation, 10)
    yield rows.ratio("over envpool", measured["same_step"], measured["envpool"], 400)
    yield rows.ratio("over envpool, both with observation", measured["same_step+observation"], measured["envpool"])
    yield rows.ratio("over gym-sokoban", measured["same_step"], measured["gym-sokoban"])


def run_frozen_lake_peers(settings: Settings) -> Iterator[Row]:
    """FrozenLake 4×4 and TabularWeb against gymnax's, EnvPool's and Gymnasium's FrozenLake."""
    lake, web = cost_programs("FrozenLake-v0", settings), cost_programs("TabularWeb-v0", settings)
    arms: ArmFactories = {
        **_arms({"FrozenLake": lake["same_step+observation"], "TabularWeb": web["same_step+observation"]}),
        "gymnax": lambda: peers.gymnax_frozen_lake(HEADLINE_BATCH).arm(),
        "envpool": lambda: peers.envpool("FrozenLake-v1", HEADLINE_BATCH),
        "gymnasium": lambda: peers.gymnasium_frozen_lake(HEADLINE_BATCH),
    }
    notes = {
        "FrozenLake": "4×4 map, slippery, same_step, with observation, bank of 1,024 tasks",
        "TabularWeb": "same_step, with observation",
        "gymnax": "FrozenLake-misc, 4×4 map, slippery; with observation",
        "envpool": "FrozenLake-v1 in C++",
        "gymnasium": "FrozenLake-v1, SyncVectorEnv",
    }
    measured = measure(arms, settings.budget)
    rows = RowMaker(NAME, "peers/frozen_lake", HEADLINE_BATCH)
    yield from _peer_rows(rows, measured, notes)
    yield rows.ratio("FrozenLake over gymnax", measured["FrozenLake"], measured["gymnax"], 4)
    yield rows.ratio("TabularWeb over gymnax's FrozenLake", measured["TabularWeb"], measured["gymnax"], 2)
    yield rows.ratio("FrozenLake over envpool", measured["FrozenLake"], measured["envpool"])
    yield rows.ratio("FrozenLake over gymnasium", measured["FrozenLake"], measured["gymnasium"])


def _peer_rows(rows: RowMaker, measured: Mapping[str, Measurement], notes: Mapping[str, str]) -> Iterator[Row]:
    for name, arm in measured.items():
        yield rows.rate(arm, parameters={"arm": name}, note=notes.get(name, ""))


# --------------------------------------------------------------------------------------------------------------------


def _arms(programs: Mapping[str, Callable[[], Program]]) -> ArmFactories:
    def compiled(make: Callable[[], Program]) -> Arm:
        return make().arm()

    return {name: functools.partial(compiled, make) for name, make in programs.items()}


@functools.lru_cache(maxsize=2)
def _start(id: str, settings: Settings, batch_size: int) -> Any:
    return stepping.start(*environment(id, settings), batch_size)


def _sokoban_grids(settings: Settings) -> Callable[[], Grids]:
    @functools.cache
    def levels() -> Grids:
        env, tasks = environment("Sokoban-v0", settings)
        return grids(tasks, env.layout)  # type: ignore[attr-defined]

    return levels


def plots(rows: Sequence[Row], folder: Path) -> Iterator[Plot]:
    """Draws what there are rows for."""
    from benchmarks import plots as draw

    yield from draw.environments(rows, folder)


SUITE = Suite(NAME, "Environments", cases, plots)
