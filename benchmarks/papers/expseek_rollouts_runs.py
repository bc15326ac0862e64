"""ExpSeek as rollout augmentation: the trainings, a few at a time, kept when they are done."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks import machine
from benchmarks.papers.expseek_rollouts_plan import DEFAULT, Arm
from benchmarks.papers.progress import Progress
from benchmarks.papers.store import Store
from jaxrl_agents.methods.expseek_rollouts import Config, Metrics, Web, make_web, train_many
from jaxrl_agents.methods.expseek_rollouts.settings import INITIAL_TEMPERATURE

CHUNK = 2  # settings trained by one call: enough to fill the loops, few enough for a bar that moves

Chunk = Sequence[Arm]  # what one call trains, and one file keeps


class Measured(NamedTuple):
    """What one training measured: `expseek_rollouts.Run` without the policies, leaves [seeds, …] in NumPy."""

    trained_on: Metrics
    plain: Metrics
    entropy: np.ndarray
    steps: np.ndarray


Runs = dict[tuple[str, str], Measured]  # by the names of arms


def run_of(runs: Runs, reading: str, name: str) -> Measured:
    """The run of a strategy; under a reading that is silent about it, that of the default."""
    return runs[reading, name] if (reading, name) in runs else runs[DEFAULT.name, name]


class Trainer:
    """Trains chunks on a study's webs and keys, and keeps what they measured in its folder."""

    def __init__(self, folder: Path, num_seeds: int, seed: int, num_epochs: int) -> None:
        seeds = np.random.SeedSequence(seed).generate_state(num_seeds)
        self.webs: Web = jax.tree.map(lambda *leaves: np.stack(leaves), *(make_web(int(number)) for number in seeds))
        self.keys = jax.vmap(jax.random.key)(seeds)
        self.num_epochs = num_epochs
        content = b"".join(np.ascontiguousarray(leaf).tobytes() for leaf in jax.tree.leaves(self.webs))
        self.store = Store(
            folder, "expseek-rollouts", seed=seed, num_seeds=num_seeds, num_epochs=num_epochs,
            webs=hashlib.sha256(content).hexdigest(), temperature=INITIAL_TEMPERATURE,
        )  # fmt: skip

    def load(self, chunk: Chunk) -> Runs | None:
        """What the folder has of a chunk, None where it has nothing; raises ValueError as `Store.load` does."""
        return self.store.load(*_file(chunk), lambda kept: _unpacked(chunk, kept))

    def train(self, chunk: Chunk) -> Runs:
        """Trains a chunk and keeps it; it is filled up with its last arm, so that all are of one program."""
        filled = [*chunk, *[chunk[-1]] * (CHUNK - len(chunk))]
        settings = jax.tree.map(lambda *fields: np.stack(fields), *(arm.setting for arm in filled))
        config = dataclasses.replace(chunk[0].config, num_epochs=self.num_epochs)
        webs = self.webs
        if chunk[0].one_web:
            webs = jax.tree.map(lambda leaf: np.broadcast_to(leaf[:1], leaf.shape), webs)
        run = train_many(settings, webs, self.keys, config)
        measured = jax.tree.map(np.asarray, Measured(run.trained_on, run.plain, run.entropy, run.steps))
        kept = [_packed(jax.tree.map(lambda leaf, i=i: leaf[i], measured)) for i in range(len(chunk))]
        self.store.save(*_file(chunk), kept)
        return _unpacked(chunk, kept)


def train_all(wanted: Sequence[Arm], trainer: Trainer, progress: Progress) -> tuple[Runs, int]:
    """Trains the arms that are not kept from before, on as many threads as there are cores.

    An interrupt ends it when the chunks under way are done and kept.

    Returns:
      The runs, and how many of them were kept from before.
    """
    progress.started(f"training {len(trainer.keys)} seeds", total=len(wanted))
    chunks = list(chunks_of(wanted))
    found = [trainer.load(chunk) for chunk in chunks]
    runs: Runs = {name: run for kept in found if kept is not None for name, run in kept.items()}
    num_kept = len(runs)
    if num_kept:
        progress.say(f"{num_kept} of {len(wanted)} trainings are kept from before")
        progress.advanced(num_kept)
    missing = [chunk for chunk, kept in zip(chunks, found, strict=True) if kept is None]
    pool = ThreadPoolExecutor(max_workers=machine.fingerprint()["cores"])
    try:
        futures: list[Future[Runs]] = [pool.submit(trainer.train, chunk) for chunk in missing]
        for future in as_completed(futures):
            runs |= future.result()
            progress.advanced(len(future.result()))
    except KeyboardInterrupt:
        progress.say("finishing the trainings under way")
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return runs, num_kept


def chunks_of(wanted: Sequence[Arm]) -> Iterator[Chunk]:
    """Arms that one call can train; the longest first, so that no core waits for them at the end."""
    kinds: dict[tuple[Config, bool], list[Arm]] = {}
    for arm in wanted:
        kinds.setdefault((arm.config, arm.one_web), []).append(arm)
    chunks = [alike[i : i + CHUNK] for alike in kinds.values() for i in range(0, len(alike), CHUNK)]
    yield from sorted(chunks, key=lambda chunk: -chunk[0].config.num_candidates)


def _file(chunk: Chunk) -> tuple[str, dict[str, Any]]:
    """The name under which a chunk is kept, and what its numbers depend on beside the study."""
    return "__".join(" ".join(arm.name) for arm in chunk), {"arms": [repr(arm) for arm in chunk]}


def _packed(measured: Measured) -> dict[str, Any]:
    """For JSON, bit by bit."""
    of = lambda metrics: {name: _text(array) for name, array in vars(metrics).items()}
    return {
        "trained_on": of(measured.trained_on), "plain": of(measured.plain),
        "entropy": _text(measured.entropy), "steps": _text(measured.steps),
    }  # fmt: skip


def _unpacked(chunk: Chunk, kept: Sequence[dict[str, Any]]) -> Runs:
    of = lambda one: Measured(
        _metrics(one["trained_on"]), _metrics(one["plain"]), _array(one["entropy"]), _array(one["steps"])
    )
    return {arm.name: of(one) for arm, one in zip(chunk, kept, strict=True)}


def _metrics(texts: dict[str, dict[str, Any]]) -> Metrics:
    arrays: dict[str, Any] = {name: _array(text) for name, text in texts.items()}  # NumPy's, where JAX's are declared
    return Metrics(**arrays)


def _text(array: np.ndarray) -> dict[str, Any]:
    content = base64.b64encode(zlib.compress(array.tobytes())).decode()
    return {"dtype": array.dtype.str, "shape": array.shape, "zlib": content}


def _array(text: dict[str, Any]) -> np.ndarray:
    return np.frombuffer(zlib.decompress(base64.b64decode(text["zlib"])), text["dtype"]).reshape(text["shape"])
