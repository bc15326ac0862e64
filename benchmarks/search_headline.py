"""The headline case of the search suite: every mode, the bare step and mctx, on one device and on all of them.

All of them play every action, as the bare step and mctx do; a full run has the modes with masks too, which leave out
actions that have no effect.

XLA splits little of a search between the cores of a CPU, so one device leaves most of them idle. An arm is therefore
measured in two ways: on one device, with the threads that XLA gives it, and on all devices, where each has as many
roots as the one and runs by itself. A CPU is a device for each core only in a process that asks for it before JAX
starts, as `search_workers.nodes` does.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import search_arms
from benchmarks.measure import Arm, Measurement, measure
from benchmarks.search_arms import Search, in_nodes
from benchmarks.search_problems import Problem, lean, problem, with_table
from benchmarks.suites import Settings
from jaxrl_agents import search
from jaxrl_agents.search import rng

ID = "Sokoban-v0"  # 10×10, 4 boxes
BATCH = 1_024  # roots of a device
MCTX_BATCH = 256  # where mctx is fastest on CPUs
TURNS = 32
SIMULATIONS = 32
ROWS = (8, 64)  # of the bare step, for each root
MANY = 4_096  # where the lookahead is fastest on CPUs
MANY_ROOTS = f"lookahead, {MANY:,} roots"
PROPOSED = "best_of_n, proposed"  # the uniform policy as a function that draws, not as logits
ROOTS_OF = {  # roots of a device, where they are not BATCH
    MANY_ROOTS: MANY,
    **dict.fromkeys(("mctx", "mctx, with tree", "mcts"), MCTX_BATCH),
    **dict.fromkeys(("mctx, S = 128", "mctx, 64 roots"), 64),
}


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


OURS = (*modes(), "mcts")
MASKED = {f"{name}, masked": name for name in modes()}
VARIANTS: dict[str, tuple[str, ...]] = {name: (masked,) for masked, name in MASKED.items()}  # a mode's other arms
VARIANTS["best_of_n"] = (PROPOSED, *VARIANTS["best_of_n"])
VARIANTS["lookahead"] = (MANY_ROOTS, *VARIANTS["lookahead"])


def search_of(name: str) -> Search:
    """A mode as it is measured, or `mcts`."""
    return search_arms.mcts(SIMULATIONS) if name == "mcts" else modes()[name]


def roots(settings: Settings, name: str, batch_size: int = BATCH, *, masked: bool = False) -> Problem:
    """The roots that a mode is measured from.

    Backtracking has a table as its policy, `mcts` gets the model that mctx does, the others have no policy. All actions
    are searched, or with `masked` those that have an effect.
    """
    base = problem(ID, batch_size, settings)
    if name == "mcts":
        return lean(base)
    base = base.with_model(search.from_env(base.env, use_action_mask=masked))
    return with_table(base) if name == "entropy_backtrack" else base


def draw_uniformly(params: Any, key: jax.Array, embedding: Any) -> search.Proposal:
    """One of Sokoban's four actions for each row, from two bits of a hash of its word."""
    action = (rng.mix(rng.word_of(key), rng.PROPOSE) >> 30).astype(jnp.int32)
    nats = jnp.full(action.shape, np.log(4), jnp.float32)
    return search.Proposal(action, jnp.ones_like(action), -nats, nats)


def batch_size(arm: str, devices: int) -> int:
    """The roots of an arm in all: as many on each of several devices as on one."""
    return ROOTS_OF.get(arm, BATCH) * devices


def proposed() -> Search:
    """Best-of-N whose actions a function draws."""
    plain = modes()["best_of_n"]
    return Search(plain.mode, {**plain.options, "propose": draw_uniformly})


def is_bare(arm: str) -> bool:
    """Whether an arm is the bare step."""
    return arm.startswith("R")


@dataclasses.dataclass(frozen=True)
class Way:
    """What an arm did on a number of devices: steps a second of the bare step, nodes a second of searches."""

    arm: str
    devices: int
    measurement: Measurement

    @property
    def on(self) -> str:
        """The devices in words."""
        return f"{self.devices} device{'s' if self.devices > 1 else ''}"

    def document(self) -> dict[str, Any]:
        """The way as JSON holds it."""
        document = dataclasses.asdict(self)
        rates = self.measurement.rates
        document["measurement"]["rates"] = None if rates is None else rates.tolist()
        return document

    @staticmethod
    def of(document: dict[str, Any]) -> Way:
        """The way that `document` was made of."""
        measurement = Measurement(**document["measurement"])
        rates = None if measurement.rates is None else np.array(measurement.rates)
        return Way(document["arm"], document["devices"], dataclasses.replace(measurement, rates=rates))


def fastest(ways: Sequence[Way], arms: Collection[str]) -> Way:
    """The way with the highest median among those of the arms."""
    rate = lambda way: 0.0 if way.measurement.rates is None else float(np.median(way.measurement.rates))
    return max((way for way in ways if way.arm in arms), key=rate)


def measured(settings: Settings) -> list[Way]:
    """All arms in turn, on the devices of this process.

    A quick run has our searches on all devices only. What they are compared with is measured in both ways, so that no
    ratio is flattered.
    """
    every = jax.local_device_count()
    ways: dict[str, tuple[str, int]] = {}
    arms: dict[str, Callable[[], Arm]] = {}
    for name, prepare in _arms(settings).items():
        both = settings.full or name not in OURS
        for devices in sorted({1, every} if both else {every}):
            key = f"{name} on {devices}"
            ways[key] = name, devices
            arms[key] = functools.partial(_prepared, prepare, settings, name, devices)
    found = measure(arms, settings.budget)
    count = lambda name, measurement: measurement if is_bare(name) else in_nodes(measurement)
    return [Way(name, devices, count(name, found[key])) for key, (name, devices) in ways.items()]


def _arms(settings: Settings) -> dict[str, Callable[[Problem], Arm]]:
    """The arms by name, each a function of what it searches in."""
    arms: dict[str, Callable[[Problem], Arm]] = {}
    for copies in ROWS:
        for kind, words in (("R", False), ("Rs", True)):
            arms[f"{kind}, {copies} rows a root"] = functools.partial(_bare, copies=copies, words=words)
    for name in OURS:
        arms[name] = functools.partial(search_arms.searching, search_of(name))
    gumbel = functools.partial(search_arms.mctx_gumbel, num_simulations=SIMULATIONS)
    arms["mctx"] = gumbel
    arms["mctx, with tree"] = functools.partial(gumbel, keep_tree=True)
    if settings.full:
        arms["mctx, S = 128"] = functools.partial(gumbel, num_simulations=128)
        arms["mctx, 64 roots"] = gumbel
        arms[MANY_ROOTS] = arms["lookahead"]
        arms[PROPOSED] = functools.partial(search_arms.searching, proposed())
        arms |= {masked: arms[name] for masked, name in MASKED.items()}
    return arms


def _bare(base: Problem, copies: int, words: bool) -> Arm:
    return search_arms.bare_steps(base, copies, words=words).arm()


def _prepared(prepare: Callable[[Problem], Arm], settings: Settings, name: str, devices: int) -> Arm:
    base = roots(settings, MASKED.get(name, name), batch_size(name, devices), masked=name in MASKED)
    return prepare(base if devices == 1 else base.over(devices, apart=True))
