"""Runs of the study of TSR: one setting with one seed, kept when it is done."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.papers.store import Store
from benchmarks.papers.tsr_plan import STRATEGIES, Cell, Plan
from jaxrl_agents.methods import tsr
from jaxrl_agents.methods.tsr import base, learning
from jaxrl_agents.training.learner import Learner, TrainState
from jaxrl_agents.training.metrics import divergence

CURVE = ("updates", "env_steps", "policy_forwards", *tsr.Measured._fields)  # of evaluations
STEPS = ("success", "return", "entropy", "gradient_norm")  # of updates; the first two are of what the search collected
CURVE_TIMES, FINAL_TIMES = 2, 8  # how often each held-out task is played
CONSTANTS = {
    **{name: getattr(learning, name) for name in (
        "NUM_GROUPS", "GROUP_SIZE", "KEPT", "CLIP_LOW", "CLIP_HIGH", "ENTROPY", "VALUE", "TEMPERATURE",
    )},
    **{name: getattr(base, name) for name in ("BATCH_SIZE", "NUM_TASKS", "BEAM_WIDTH")},
    "NUM_HELD_OUT": tsr.NUM_HELD_OUT, "CURVE_TIMES": CURVE_TIMES, "FINAL_TIMES": FINAL_TIMES,
}  # what a run's numbers depend on beside its settings  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Divergence:
    """Where a run ended because its loss, its gradient or another metric was no longer finite."""

    update: int  # in which, from 1
    cause: str  # as "loss is nan"
    env_steps: float  # spent by then, those of this update included
    policy_forwards: float


@dataclasses.dataclass(frozen=True)
class Run:
    """What one run measured; it is a JSON object in its file.

    All but `seconds` and `cpu_seconds` is the same whenever the run is repeated. A run that diverged has the numbers
    from before the update in which it did: how it counts is said by `tsr_analysis.counted`.
    """

    num_updates: int  # after which methods are compared
    curve: dict[str, list[float]]  # by the names of CURVE, one number an evaluation, the first before any update
    steps: dict[str, list[float]]  # by the names of STEPS, one number an update
    final: dict[str, float]  # `tsr.Measured` after `num_updates`, from more episodes; empty where it did not get there
    seconds: float  # wall time of an update, the median; compilation and evaluations apart
    cpu_seconds: float  # processor time of an update, the median
    diverged: Divergence | None = None

    @property
    def updates_made(self) -> int:
        """Those that were run, the one in which it diverged among them."""
        return len(self.steps["success"]) if self.diverged is None else self.diverged.update


class Workshop:
    """Makes problems and learners, each once, so that the seeds of a cell share its compiled program.

    A learner is forgotten when that of another cell is asked for.
    """

    def __init__(self, plan: Plan, seed: int) -> None:
        self.sizes, self.presets, self.seed = plan.sizes, plan.presets, seed
        self.problem = functools.lru_cache(None)(self._problem)
        self.base = functools.lru_cache(None)(self._base)
        self.learner = functools.lru_cache(1)(self._learner)

    def _problem(self, domain: str) -> tsr.Problem:
        return tsr.problem(self.presets[domain], self.sizes, self.seed)

    def _base(self, domain: str) -> Any:
        return tsr.base_params(self.problem(domain), self.sizes, jax.random.key(self.seed))

    def _learner(self, domain: str, method: str) -> Learner:
        return tsr.learner(self.problem(domain), STRATEGIES[method], self.sizes)


def run(workshop: Workshop, cell: Cell, seed: int, advanced: Callable[[], None]) -> Run:
    """Trains and measures, to the end or until the run diverges; calls `advanced` after every update.

    All runs of a domain start from one base model, and those of a seed draw the same tasks.
    """
    given, learner = workshop.problem(cell.domain), workshop.learner(cell.domain, cell.method)
    start_key, evaluation_key = jax.random.split(jax.random.key(workshop.seed))
    params = jax.tree.map(jnp.copy, workshop.base(cell.domain))  # as the step takes its state's buffers
    state = learner.init(jax.random.fold_in(start_key, seed))._replace(params=params)
    made = Run(cell.num_updates, {name: [] for name in CURVE}, {name: [] for name in STEPS}, {}, 0.0, 0.0)
    spent, clocks = {"updates": 0.0, "env_steps": 0.0, "policy_forwards": 0.0}, []
    diverged: Divergence | None = None
    for update in range(cell.total_updates + 1):
        if update in cell.evaluations:
            _append(made.curve, {**spent, **_measured(given, state, evaluation_key, CURVE_TIMES)})
        if update == cell.num_updates:
            made.final.update(_measured(given, state, evaluation_key, FINAL_TIMES))
        if update == cell.total_updates:
            break
        start = time.perf_counter(), time.process_time()
        state, metrics = learner.step(state, given.tasks)
        numbers = {name: float(value) for name, value in jax.device_get(metrics).items()}
        clocks.append((time.perf_counter() - start[0], time.process_time() - start[1]))
        spent = {name: value + numbers.get(name, 1.0) for name, value in spent.items()}
        advanced()
        if (cause := divergence(numbers)) is not None:
            diverged = Divergence(update + 1, cause, spent["env_steps"], spent["policy_forwards"])
            break
        _append(made.steps, numbers)
    seconds, cpu_seconds = np.median(clocks[1:] or clocks, axis=0)  # the first one may have compiled the program
    return dataclasses.replace(made, seconds=float(seconds), cpu_seconds=float(cpu_seconds), diverged=diverged)


def _append(lists: dict[str, list[float]], numbers: Mapping[str, float]) -> None:
    for name, values in lists.items():
        values.append(numbers[name])


def _measured(given: tsr.Problem, state: TrainState, key: jax.Array, times: int) -> dict[str, float]:
    """The means over so many plays of every held-out task; the first ones are the same whatever their number."""
    found = [tsr.measure(given, state.params, jax.random.fold_in(key, number)) for number in range(times)]
    return {name: float(np.mean([getattr(one, name) for one in found])) for name in tsr.Measured._fields}


class RunStore:
    """The finished runs of a study, in a folder; see `Store`."""

    def __init__(self, folder: Path, plan: Plan, seed: int) -> None:
        self.store = Store(folder, "tsr", sizes=dataclasses.asdict(plan.sizes), seed=seed, constants=CONSTANTS)
        self.presets = plan.presets
        self.domain = functools.lru_cache(None)(self._domain)

    def load(self, cell: Cell, seed: int) -> Run | None:
        """The run, or None where it is not done; raises ValueError as `Store.load` does."""
        return self.store.load(f"{cell.name}-{seed}", self._settings(cell, seed), functools.partial(_unpacked, cell))

    def save(self, cell: Cell, seed: int, run: Run) -> None:
        """Keeps a finished run."""
        self.store.save(f"{cell.name}-{seed}", self._settings(cell, seed), dataclasses.asdict(run))

    def _settings(self, cell: Cell, seed: int) -> dict[str, Any]:
        return {
            "cell": dataclasses.asdict(cell), "domain": self.domain(cell.domain),
            "strategy": repr(STRATEGIES[cell.method]), "run": seed,
        }  # fmt: skip

    def _domain(self, name: str) -> str:
        """A domain as text; of levels their content, wherever they lie."""
        domain = self.presets[name]
        arguments = tuple((key, _digest_of(value) if key == "levels" else value) for key, value in domain.arguments)
        return repr(dataclasses.replace(domain, arguments=arguments))


def _unpacked(cell: Cell, kept: dict[str, Any]) -> Run:
    diverged = kept.get("diverged")
    run = Run(**{**kept, "diverged": None if diverged is None else Divergence(**diverged)})
    if not _whole(run, cell):
        raise ValueError("it does not have all that a run measures")
    return run


def _whole(run: Run, cell: Cell) -> bool:
    """Whether a run has every number that its cell asks for; one that diverged, those of the updates before."""
    recorded = cell.total_updates if run.diverged is None else run.diverged.update - 1
    evaluations = [update for update in cell.evaluations if update <= recorded]
    return (
        {name: len(values) for name, values in run.curve.items()} == dict.fromkeys(CURVE, len(evaluations))
        and {name: len(values) for name, values in run.steps.items()} == dict.fromkeys(STEPS, recorded)
        and set(run.final) == (set(tsr.Measured._fields) if cell.num_updates <= recorded else set())
        and run.num_updates == cell.num_updates
    )


def _digest_of(path: str) -> str:
    """Of a file, or of all files of a folder with their names in it."""
    root, digest = Path(path), hashlib.sha256()
    for file in sorted(root.rglob("*")) if root.is_dir() else [root]:
        if file.is_file():
            content = hashlib.sha256(file.read_bytes()).hexdigest()
            digest.update(f"{file.relative_to(root).as_posix()} {content}\n".encode())
    return digest.hexdigest()
