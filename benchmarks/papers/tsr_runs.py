"""Runs of the study of TSR: one setting with one seed, kept in a file of its own when it is done."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.machine import fingerprint
from benchmarks.papers.tsr_plan import STRATEGIES, Cell, Plan
from envs_jax.files import replaced
from jaxrl_agents.methods import tsr
from jaxrl_agents.methods.tsr import learning
from jaxrl_agents.training.learner import Learner, TrainState
from jaxrl_agents.training.metrics import divergence

CURVE = ("updates", "env_steps", "policy_forwards", *tsr.Measured._fields)  # of evaluations
STEPS = ("success", "return", "entropy", "gradient_norm")  # of updates; the first two are of what the search collected
CURVE_TIMES, FINAL_TIMES = 2, 8  # how often each held-out task is played
CONSTANTS = {
    **{name: getattr(learning, name) for name in (
        "NUM_GROUPS", "GROUP_SIZE", "KEPT", "CLIP_LOW", "CLIP_HIGH", "ENTROPY", "VALUE", "TEMPERATURE",
    )},
    "NUM_HELD_OUT": tsr.NUM_HELD_OUT, "CURVE_TIMES": CURVE_TIMES, "FINAL_TIMES": FINAL_TIMES,
}  # what a run's numbers depend on beside its settings  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Run:
    """What one run measured; it is a JSON object in its file.

    All but `seconds` and `cpu_seconds` is the same whenever the run is repeated.
    """

    num_updates: int  # after which methods are compared
    curve: dict[str, list[float]]  # by the names of CURVE, one number an evaluation, the first before any update
    steps: dict[str, list[float]]  # by the names of STEPS, one number an update
    final: dict[str, float]  # `tsr.Measured` after `num_updates`, from more episodes
    seconds: float  # wall time of an update, the median; compilation and evaluations apart
    cpu_seconds: float  # processor time of an update, the median


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
    """Trains and measures; calls `advanced` after every update.

    All runs of a domain start from one base model, and those of a seed draw the same tasks.
    """
    given, learner = workshop.problem(cell.domain), workshop.learner(cell.domain, cell.method)
    start_key, evaluation_key = jax.random.split(jax.random.key(workshop.seed))
    base = jax.tree.map(jnp.copy, workshop.base(cell.domain))  # as the step takes its state's buffers
    state = learner.init(jax.random.fold_in(start_key, seed))._replace(params=base)
    made = Run(cell.num_updates, {name: [] for name in CURVE}, {name: [] for name in STEPS}, {}, 0.0, 0.0)
    spent, clocks = {"updates": 0.0, "env_steps": 0.0, "policy_forwards": 0.0}, []
    for update in range(cell.total_updates + 1):
        if update % cell.every == 0 or update == cell.num_updates:
            _append(made.curve, {**spent, **_measured(given, state, evaluation_key, CURVE_TIMES)})
        if update == cell.num_updates:
            made.final.update(_measured(given, state, evaluation_key, FINAL_TIMES))
        if update < cell.total_updates:
            start = time.perf_counter(), time.process_time()
            state, metrics = learner.step(state, given.tasks)
            numbers = {name: float(value) for name, value in jax.device_get(metrics).items()}
            clocks.append((time.perf_counter() - start[0], time.process_time() - start[1]))
            if (cause := divergence(numbers)) is not None:
                raise ValueError(f"{cell.name}, seed {seed}: {cause} in update {update + 1}; give another --seed")
            _append(made.steps, numbers)
            spent = {name: value + numbers.get(name, 1.0) for name, value in spent.items()}
            advanced()
    seconds, cpu_seconds = np.median(clocks[1:] or clocks, axis=0)  # the first one may have compiled the program
    return dataclasses.replace(made, seconds=float(seconds), cpu_seconds=float(cpu_seconds))


def _append(lists: dict[str, list[float]], numbers: Mapping[str, float]) -> None:
    for name, values in lists.items():
        values.append(numbers[name])


def _measured(given: tsr.Problem, state: TrainState, key: jax.Array, times: int) -> dict[str, float]:
    """The means over so many plays of every held-out task; the first ones are the same whatever their number."""
    found = [tsr.measure(given, state.params, jax.random.fold_in(key, number)) for number in range(times)]
    return {name: float(np.mean([getattr(one, name) for one in found])) for name in tsr.Measured._fields}


class Store:
    """The finished runs of a study, in a folder: an interrupted study goes on from there.

    A file is written at once, with the digest of its content and all that its numbers depend on.
    """

    def __init__(self, folder: Path, plan: Plan, seed: int) -> None:
        self.folder, self.presets = folder / "runs", plan.presets
        self.domain = functools.lru_cache(None)(self._domain)
        if self.folder.exists() and not self.folder.is_dir():
            raise NotADirectoryError(f"{self.folder}: a file is where the runs are kept; give --out another folder")
        self.folder.mkdir(exist_ok=True)
        machine = fingerprint()
        self.study = {
            "sizes": dataclasses.asdict(plan.sizes), "seed": seed, "jax": jax.__version__, "constants": CONSTANTS,
            "backend": machine["backend"], "cores": machine["cores"],
        }  # fmt: skip

    def load(self, cell: Cell, seed: int) -> Run | None:
        """The run, or None where it is not done.

        Raises:
          ValueError: the file is damaged, or of a study with other settings; it says what to do.
        """
        path = self._path(cell, seed)
        if not path.exists():
            return None
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            content, digest = document["content"], document["sha256"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is no file of a run ({error}); remove it, and it will be run again") from error
        if _digest(content) != digest:
            raise ValueError(f"{path} is damaged: its digest is wrong; remove it, and it will be run again")
        asked, found, kept = self._settings(cell, seed), content.get("settings", {}), content.get("run", {})
        if set(found) != set(asked) or set(kept) != {field.name for field in dataclasses.fields(Run)}:
            raise ValueError(f"{path} was written by another version of the study; give --out another folder")
        others = [f"{name} {found[name]}, not {value}" for name, value in asked.items() if found[name] != value]
        if others:
            raise ValueError(
                f"{path} is of a study with other settings: {'; '.join(others)}; give --out another folder"
            )
        run = Run(**kept)
        if not _whole(run, cell):
            raise ValueError(f"{path} does not have all that a run measures; remove it, and it will be run again")
        return run

    def save(self, cell: Cell, seed: int, run: Run) -> None:
        """Keeps a finished run."""
        content = {"settings": self._settings(cell, seed), "run": dataclasses.asdict(run)}
        document = {"sha256": _digest(content), "content": content}
        with replaced(self._path(cell, seed)) as partial:
            partial.write_text(json.dumps(document, allow_nan=False) + "\n", encoding="utf-8")

    def _settings(self, cell: Cell, seed: int) -> dict[str, Any]:
        setting = {
            "cell": dataclasses.asdict(cell), "domain": self.domain(cell.domain),
            "strategy": repr(STRATEGIES[cell.method]), "run": seed,
        }  # fmt: skip
        return {**self.study, **setting}

    def _domain(self, name: str) -> str:
        """A domain as text; of levels their content, wherever they lie."""
        domain = self.presets[name]
        arguments = tuple((key, _digest_of(value) if key == "levels" else value) for key, value in domain.arguments)
        return repr(dataclasses.replace(domain, arguments=arguments))

    def _path(self, cell: Cell, seed: int) -> Path:
        name = cell.name.replace("/", "-").replace(" ", "-").replace("=", "")
        return self.folder / f"{name}-{seed}.json"


def _whole(run: Run, cell: Cell) -> bool:
    """Whether a run has every number that its cell asks for."""
    updates = {*range(0, cell.total_updates + 1, cell.every), cell.num_updates}
    return (
        {name: len(values) for name, values in run.curve.items()} == dict.fromkeys(CURVE, len(updates))
        and {name: len(values) for name, values in run.steps.items()} == dict.fromkeys(STEPS, cell.total_updates)
        and set(run.final) == set(tsr.Measured._fields)
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


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
