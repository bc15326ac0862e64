"""Solves sets of levels in every mode, and with the C++ peer, in turn, in a process with a device for each core."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks import native_peer
from benchmarks.measure import Unavailable
from envs_jax.host_cores import available_cores
from envs_jax.sokoban import levels as level_files
from envs_jax.sokoban.board import Layout
from envs_jax.sokoban.generator import generate
from envs_jax.sokoban.grid import Code
from jaxrl_agents.search.best_first import Status
from jaxrl_agents.search.best_first import solve as solve_levels
from jaxrl_agents.solve_command import Batch, batches_of

ENOUGH_LEVELS = 4_000  # of a folder: whole files up to so many (a file of Boxoban holds 1,000)
MAX_NODES = 1_000_000  # expanded for one level before it is given up, by the peer too
PEER_SECONDS = 10.0  # the peer needs no warming up, and is not run again once it has had so many

Contestants = dict[str, Callable[[], "Answers"]]


class Answers(NamedTuple):
    """One run over T levels, in the order of their batches."""

    status: np.ndarray  # [T]
    pushes: np.ndarray  # int[T]; −1 where there is no plan
    moves: np.ndarray | None  # int[T]; the peer makes no plans
    expanded: np.ndarray  # int[T]
    seconds: float
    compile_seconds: float = 0.0


def solve(files: list[str] | None, num_levels: int, modes: list[str], repeats: int, peer: bool) -> dict[str, Any]:
    """Solves levels in each mode on all cores, `repeats` times after a first time.

    Args:
      files: level files, of which the first that hold enough levels are read; None: `num_levels` generated ones.
      num_levels: of the generated ones.
      modes: of the solver; the fewest pushes of the first are compared with those of the peer.
      repeats: after the first time.
      peer: whether the C++ program runs too.
    """
    jax.config.update("jax_num_cpu_devices", available_cores())
    names, batches, num_files = _batches(files, num_levels)
    found: dict[str, Any] = {"levels": len(names), "devices": len(jax.devices()), "files": num_files}
    with tempfile.TemporaryDirectory() as folder:
        runs: Contestants = {mode: functools.partial(_ours, batches, mode) for mode in modes}
        if peer:
            try:
                runs[native_peer.NAME] = _native(batches, Path(folder))
            except Unavailable as error:
                found["unavailable"] = str(error)
        answers, seconds = _in_turn(runs, repeats)
    found["contestants"] = {name: summary(answer) | {"seconds": seconds[name]} for name, answer in answers.items()}
    fewest = answers[modes[0]]
    longer = [over_fewest(answers[mode].pushes, fewest.pushes) for mode in modes]
    found["over_fewest"] = dict(zip(modes, longer, strict=True))
    if native_peer.NAME in answers:
        order = [name for batch in batches for name in np.array(names, object)[batch.index]]
        found["agreement"] = agreement(fewest, answers[native_peer.NAME], order)
    return found


def _in_turn(runs: Contestants, repeats: int) -> tuple[dict[str, Answers], dict[str, list[float]]]:
    """(the first answers of each, the seconds of its repeats): one after the other in every repeat."""
    answers = {name: run() for name, run in runs.items()}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    if native_peer.NAME in runs:
        seconds[native_peer.NAME].append(answers[native_peer.NAME].seconds)
    for _ in range(repeats):
        for name, run in runs.items():
            if name != native_peer.NAME or sum(seconds[name]) < PEER_SECONDS:
                again = run()
                seconds[name].append(again.seconds + again.compile_seconds)
    return answers, seconds


def _ours(batches: Sequence[Batch], mode: Any) -> Answers:
    parts = [solve_levels(batch.tasks, layout=batch.layout, mode=mode, max_nodes=MAX_NODES) for batch in batches]
    joined = lambda name: np.concatenate([getattr(part, name) for part in parts])
    seconds, compiling = (sum(getattr(part, name) for part in parts) for name in ("seconds", "compile_seconds"))
    return Answers(joined("status"), joined("pushes"), joined("moves"), joined("expanded"), seconds, compiling)


def _native(batches: Sequence[Batch], folder: Path) -> Callable[[], Answers]:
    """The peer on the same levels, one file for each batch; raises Unavailable where it cannot be compiled."""
    program = native_peer.build(folder)
    paths = [folder / f"{number}.txt" for number in range(len(batches))]
    for path, batch in zip(paths, batches, strict=True):
        level_files.write(path, batch.layout, batch.tasks)

    def run() -> Answers:
        parts = [native_peer.solve(program, path, MAX_NODES) for path in paths]
        pushes, expanded = (np.concatenate([getattr(part, name) for part in parts]) for name in ("pushes", "expanded"))
        status = np.select([pushes >= 0, pushes == native_peer.UNSOLVABLE], [Status.SOLVED, Status.UNSOLVABLE],
                           Status.NODE_LIMIT)  # fmt: skip
        return Answers(status, np.maximum(pushes, -1), None, expanded, sum(part.seconds for part in parts))

    return run


def _batches(files: list[str] | None, num_levels: int) -> tuple[list[str], list[Batch], int]:
    """(name of each level, the levels by size of the board, how many of the files were read)."""
    if files is None:
        layout = Layout(10, 10)
        tasks = generate(jax.random.key(2**31), num_levels, layout=layout, num_boxes=4)
        return [f"generated level {i}" for i in range(num_levels)], [Batch(layout, tasks, np.arange(num_levels))], 0
    found, num_files = _read(files)
    return *batches_of(found), num_files


def _read(files: Sequence[str]) -> tuple[level_files.Levels, int]:
    """(the levels of the first files that together hold enough, how many files these are)."""
    parts: list[level_files.Levels] = []
    while len(parts) < len(files) and sum(map(len, parts)) < ENOUGH_LEVELS:
        parts.append(level_files.read(files[len(parts)]))
    height, width = np.max([part.codes.shape[1:] for part in parts], axis=0).tolist()

    def walled(codes: np.ndarray) -> np.ndarray:
        missing = [(0, 0), (0, height - codes.shape[1]), (0, width - codes.shape[2])]
        return np.pad(codes, missing, constant_values=Code.WALL)

    codes = np.concatenate([walled(part.codes) for part in parts])
    sizes, lines = (np.concatenate([getattr(part, name) for part in parts]) for name in ("sizes", "lines"))
    sources = tuple(source for part in parts for source in part.sources)
    return level_files.Levels(codes, sizes, sources, lines), len(parts)


def summary(answers: Answers) -> dict[str, Any]:
    """What the rows say about one contestant, as JSON."""
    solved = answers.status == Status.SOLVED
    pushes, counts = np.unique(answers.pushes[solved], return_counts=True)
    reasons = {Status(int(value)).name: int((answers.status == value).sum()) for value in np.unique(answers.status)}
    median = lambda values: float(np.median(values)) if len(values) else None
    return {
        "solved": int(solved.sum()),
        "reasons": {name: count for name, count in reasons.items() if name != Status.SOLVED.name},
        "compile_seconds": answers.compile_seconds,
        "expanded": float(answers.expanded.mean()),
        "moves": None if answers.moves is None else median(answers.moves[solved]),
        "median_pushes": median(answers.pushes[solved]),
        "pushes": pushes.tolist(),
        "counts": counts.tolist(),
    }


def over_fewest(pushes: np.ndarray, fewest: np.ndarray) -> float | None:
    """By how many per cent plans are longer than the shortest, all levels that have both together."""
    both = (pushes >= 0) & (fewest > 0)
    return 100 * (float(pushes[both].sum()) / float(fewest[both].sum()) - 1) if both.any() else None


def agreement(ours: Answers, theirs: Answers, names: Sequence[str]) -> dict[str, Any]:
    """How many levels both decided, and in which of them the fewest pushes differ."""
    decided = np.isin(ours.status, (Status.SOLVED, Status.UNSOLVABLE))
    decided &= np.isin(theirs.status, (Status.SOLVED, Status.UNSOLVABLE))
    differ = np.flatnonzero(decided & (ours.pushes != theirs.pushes))
    which = [f"{names[i]} ({ours.pushes[i]} and {theirs.pushes[i]})" for i in differ[:3]]
    return {"compared": int(decided.sum()), "different": len(differ), "which": which}
