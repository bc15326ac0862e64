"""Levels and catalogues: how fast they are generated and loaded, and how good the generated levels are."""

from __future__ import annotations

import functools
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax

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
    yield Case("Sokoban/distinctness", functools.partial(run_distinctness, settings))
    yield Case("WebShop/loading", functools.partial(run_catalogue, settings))


# Generation ---------------------------------------------------------------------------------------------------------


def run_generation(settings: Settings) -> Iterator[Row]:
    """Levels a second by size, boxes and difficulty; with the peers, gym-sokoban's generator."""
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
        yield rows.rate(arm, "levels/s", note=arm.note or source)


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


# Quality ------------------------------------------------------------------------------------------------------------


def run_distinctness(settings: Settings) -> Iterator[Row]:
    """How many generated levels differ from all others after turning and mirroring, and how they start."""
    from envs_jax.sokoban.board import Layout
    from envs_jax.sokoban.generator import generate

    layout, count = Layout(10, 10), 10_000 if settings.full else 1_000
    levels = grids(generate(jax.random.key(2**31), count, layout=layout, num_boxes=4), layout)
    rows = RowMaker(NAME, "Sokoban/distinctness", count)
    distinct = 100 * len(canonical(levels)) / count
    yield rows.fact("distinct up to symmetry", "%", distinct, target=Target(">=", DISTINCT), better="higher")
    on_target = int((levels.boxes & levels.targets).sum())
    yield rows.fact("boxes on targets at the start", "", on_target, target=Target("<=", 0), better="lower")
    yield rows.fact("floor cells, mean", "cells", (~levels.walls).sum(axis=(1, 2)).mean())


def plots(rows: Sequence[Row], folder: Path) -> Iterator[Plot]:
    """Draws what there are rows for."""
    from benchmarks import plots as draw

    yield from draw.levels(rows, folder)


SUITE = Suite(NAME, "Levels and catalogues", cases, plots)
