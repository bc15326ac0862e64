"""Levels and catalogues: how fast they are generated and loaded, and how good the generated levels are."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks import peers
from benchmarks.boards import canonical, grids
from benchmarks.measure import Arm, measure
from benchmarks.results import Row, Target
from benchmarks.rows import RowMaker
from benchmarks.suites import Case, Plot, Settings, Suite

NAME = "levels"
LEVELS_A_CALL = 256

GENERATE_RATE = 2_000.0  # solvable 10×10 4-box levels a second, at least
MEDIAN_PUSHES = 10.0  # push-optimal, at least
MIN_PUSHES = 4.0
DISTINCT = 99.0  # per cent up to symmetry, at least


def cases(settings: Settings) -> Iterator[Case]:
    """The cases in the order in which they run."""
    yield Case("Sokoban/generation", functools.partial(run_generation, settings))
    yield Case("Sokoban/loading", functools.partial(run_loading, settings))
    yield Case("Sokoban/quality", functools.partial(run_quality, settings))
    yield Case("Sokoban/lengths", functools.partial(run_lengths, settings))
    yield Case("WebShop/loading", functools.partial(run_catalogue, settings))


# Generation ---------------------------------------------------------------------------------------------------------


def run_generation(settings: Settings) -> Iterator[Row]:
    """Levels a second by size, boxes and difficulty; with the peers, gym-sokoban's generator."""
    jax.clear_caches()  # an environment made before has compiled the generator; its compile time is measured here
    kinds: dict[str, dict[str, Any]] = {
        "10×10, 4 boxes, medium": {},
        "10×10, 4 boxes, easy": {"difficulty": "easy"},
        "10×10, 4 boxes, hard": {"difficulty": "hard"},
    }
    if settings.full:
        kinds["10×10, 4 boxes, expert"] = {"difficulty": "expert"}
        kinds["8×8, 2 boxes, medium"] = {"size": (8, 8), "num_boxes": 2}
        kinds["20×20, 6 boxes, medium"] = {"size": (20, 20), "num_boxes": 6}
    arms: dict[str, Callable[[], Arm]] = {name: functools.partial(_generator, **kind) for name, kind in kinds.items()}
    if settings.peers:
        arms["gym-sokoban, 10×10, 4 boxes"] = peers.gym_sokoban_generate
    measured = measure(arms, settings.budget)
    rows = RowMaker(NAME, "Sokoban/generation")
    for name, arm in measured.items():
        target = Target(">=", GENERATE_RATE) if name == next(iter(kinds)) else None
        yield rows.rate(arm, "levels/s", parameters={"arm": name}, target=target)
    if settings.peers:
        peer = measured["gym-sokoban, 10×10, 4 boxes"]
        yield rows.ratio("medium over gym-sokoban", measured["10×10, 4 boxes, medium"], peer)


def _generator(size: tuple[int, int] = (10, 10), num_boxes: int = 4, difficulty: Any = "medium") -> Arm:
    from envs_jax.sokoban.board import Layout
    from envs_jax.sokoban.generator import generate

    layout = Layout(*size)
    seeds = itertools.count()

    def run(num_steps: int) -> None:
        count = LEVELS_A_CALL * num_steps
        key = jax.random.key(next(seeds))
        jax.block_until_ready(generate(key, count, layout=layout, num_boxes=num_boxes, difficulty=difficulty))

    return _warm(run, LEVELS_A_CALL)


def _warm(run: Callable[[int], None], items: float) -> Arm:
    """An arm whose compilation hides in its first call: the time that this takes longer than the second."""
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        run(1)
        seconds.append(time.perf_counter() - start)
    return Arm(run, items, max(0.0, seconds[0] - seconds[1]))


# Loading ------------------------------------------------------------------------------------------------------------


def run_loading(settings: Settings) -> Iterator[Row]:
    """Levels a second read from Boxoban text: the user's files, or generated levels written to a file."""
    rows = RowMaker(NAME, "Sokoban/loading")
    with tempfile.TemporaryDirectory() as folder:
        path = settings.levels or _written_levels(Path(folder))
        arm = measure({"load": lambda: _loader(path)}, settings.budget)["load"]
        source = "given files" if settings.levels else "generated levels, written as Boxoban text"
        yield rows.rate(arm, "levels/s", note=source)


def _written_levels(folder: Path) -> Path:
    import envs_jax
    from envs_jax.sokoban import levels

    env, tasks = envs_jax.make("Sokoban-v0")
    path = folder / "levels.txt"
    levels.write(path, env.layout, tasks)  # type: ignore[attr-defined]
    return path


def _loader(path: Path) -> Arm:
    from envs_jax.sokoban import levels

    def run(num_steps: int) -> None:
        for _ in range(num_steps):
            jax.block_until_ready(levels.read(path).bank())

    return Arm(run, len(levels.read(path)))


def run_catalogue(settings: Settings) -> Iterator[Row]:
    """Seconds to make WebShop: products, goals and ranked queries, from the user's files or the synthetic catalogue."""
    import envs_jax

    arguments: dict[str, Any] = {} if settings.products is None else {"products": settings.products}
    sizes: dict[str, int] = {}

    def run(num_steps: int) -> None:
        for _ in range(num_steps):
            env, tasks = envs_jax.make("WebShop-v0", **arguments)
            jax.block_until_ready((env, tasks))
            sizes["tasks"] = len(tasks)

    arm = measure({"make": lambda: Arm(run, 1)}, settings.budget)["make"]
    rows = RowMaker(NAME, "WebShop/loading")
    parameters = {"catalogue": "given products" if settings.products else "synthetic"}
    if arm.rates is None:
        yield rows.missing("load and rank", "s", arm, parameters=parameters)
        return
    yield rows.sample("load and rank", "s", 1 / arm.rates, parameters=parameters, better="lower")
    yield rows.fact("tasks", "", sizes["tasks"], parameters=parameters)


# Quality -------------------------------------------------------------------------------------------------------------


def run_quality(settings: Settings) -> Iterator[Row]:
    """Whether generated 10×10 levels differ from each other after turning and mirroring, and how they start."""
    layout, tasks = _generated(settings)
    levels = grids(tasks, layout)
    rows = RowMaker(NAME, "Sokoban/quality", len(tasks))
    distinct = 100 * len(canonical(levels)) / len(tasks)
    yield rows.fact("distinct up to symmetry", "%", distinct, target=Target(">=", DISTINCT), better="higher")
    on_target = int((levels.boxes & levels.targets).sum())
    yield rows.fact("boxes on targets at the start", "", on_target, target=Target("<=", 0), better="lower")
    yield rows.fact("floor cells, mean", "cells", (~levels.walls).sum(axis=(1, 2)).mean())


def run_lengths(settings: Settings) -> Iterator[Row]:
    """Push-optimal lengths of generated 10×10 levels, and of the user's."""
    layout, tasks = _generated(settings)
    yield from _length_rows("generated", layout, tasks, targets=True)
    if settings.levels is not None:
        from envs_jax.sokoban import levels

        given = levels.read(settings.levels)
        sample = given.bank(time_limit=120)
        count = 10_000 if settings.full else 1_000
        if len(sample) > count:
            sample = sample.shuffle(jax.random.key(0))[:count]
        yield from _length_rows("given files", given.layout, sample, targets=False)


def _length_rows(source: str, layout: Any, tasks: Any, *, targets: bool) -> Iterator[Row]:
    from jaxrl_agents.search.best_first import solve

    found = solve(tasks, layout=layout)
    pushes = found.pushes[found.solved]
    rows = RowMaker(NAME, "Sokoban/lengths", len(tasks))
    target = lambda value: Target(">=", value) if targets else None
    common: dict[str, Any] = {"parameters": {"levels": source}, "better": "higher"}
    unsolved = int(len(tasks) - pushes.size)
    yield rows.fact("solved", "%", 100 * pushes.size / len(tasks), target=target(100.0), **common)
    values, counts = np.unique(pushes, return_counts=True)
    histogram = {"values": values.astype(float).tolist(), "counts": counts.astype(float).tolist()}
    note = f"{unsolved} of {len(tasks)} not solved within the limits" if unsolved else ""
    median = rows.sample("median optimal length", "pushes", pushes, target=target(MEDIAN_PUSHES), note=note, **common)
    yield dataclasses.replace(median, histogram=histogram)
    yield rows.fact("shortest optimal length", "pushes", pushes.min(), target=target(MIN_PUSHES), **common)
    yield rows.fact("mean optimal length", "pushes", pushes.mean(), **common)


@functools.cache
def _generated(settings: Settings) -> tuple[Any, Any]:
    """(layout, levels): 10×10 with 4 boxes at the default difficulty."""
    from envs_jax.sokoban.board import Layout
    from envs_jax.sokoban.generator import generate

    layout = Layout(10, 10)
    count = 10_000 if settings.full else 1_000
    return layout, generate(jax.random.key(2**31), count, layout=layout, num_boxes=4)


def plots(rows: Sequence[Row], folder: Path) -> Iterator[Plot]:
    """Draws what there are rows for."""
    from benchmarks import plots as draw

    yield from draw.levels(rows, folder)


SUITE = Suite(NAME, "Levels and catalogues", cases, plots)
