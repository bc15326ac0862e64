"""Levels and catalogues: how fast they are generated and loaded, and how good the generated levels are."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks import peers
from benchmarks.boards import Grids, canonical, grids
from benchmarks.measure import Arm, measure
from benchmarks.results import Row, Target
from benchmarks.rows import RowMaker
from benchmarks.suites import Case, Plot, Settings, Suite

NAME = "levels"
LEVELS_A_CALL = 256

MAIN = "10×10, 4 boxes, medium"  # whose figures have targets
GIVEN = "given files"
GENERATE_RATE = 2_000.0  # solvable levels a second, at least
MEDIAN_PUSHES = 10.0  # push-optimal, at least
MIN_PUSHES = 4.0
DISTINCT = 99.0  # per cent up to symmetry, at least

RAGEN_ROOMS = 2_000
RAGEN_ACTIONS = 10  # of an episode
RAGEN_TARGETS = {  # of 6×6 rooms with one box: those of the original
    "fewest moves, mean": Target("±", 4.2, 0.3),
    "solvable in 10 moves": Target(">=", 98.0),
    "random actions solve in 10": Target("±", 19.0, 2.0),
}
CATALOGUE_REPEATS = 3  # each takes seconds


def cases(settings: Settings) -> Iterator[Case]:
    """The cases in the order in which they run."""
    yield Case("Sokoban/generation", functools.partial(run_generation, settings))
    yield Case("Sokoban/loading", functools.partial(run_loading, settings))
    yield Case("Sokoban/quality", functools.partial(run_quality, settings))
    yield Case("Sokoban/lengths", functools.partial(run_lengths, settings))
    yield Case("Sokoban-RAGEN/quality", functools.partial(run_ragen, settings))
    yield Case("WebShop/loading", functools.partial(run_catalogue, settings))


# Generation ---------------------------------------------------------------------------------------------------------


def run_generation(settings: Settings) -> Iterator[Row]:
    """Levels a second by size, boxes and difficulty; with the peers, gym-sokoban's generator."""
    jax.clear_caches()  # an environment made before has compiled the generator; its compile time is measured here
    kinds: dict[str, dict[str, Any]] = {
        f"10×10, 4 boxes, {difficulty}": {"difficulty": difficulty} for difficulty in _difficulties(settings)
    }
    if settings.full:
        kinds["8×8, 2 boxes, medium"] = {"size": (8, 8), "num_boxes": 2}
        kinds["20×20, 6 boxes, medium"] = {"size": (20, 20), "num_boxes": 6}
    arms: dict[str, Callable[[], Arm]] = {name: functools.partial(_generator, **kind) for name, kind in kinds.items()}
    if settings.peers:
        arms["gym-sokoban, 10×10, 4 boxes"] = peers.gym_sokoban_generate
    measured = measure(arms, settings.budget)
    rows = RowMaker(NAME, "Sokoban/generation")
    for name, arm in measured.items():
        target = Target(">=", GENERATE_RATE) if name == MAIN else None
        yield rows.rate(arm, "levels/s", parameters={"arm": name}, target=target)
    if settings.peers:
        peer = measured["gym-sokoban, 10×10, 4 boxes"]
        yield rows.ratio("medium over gym-sokoban", measured[MAIN], peer)


def _difficulties(settings: Settings) -> tuple[str, ...]:
    return ("medium", "easy", "hard", "expert") if settings.full else ("medium", "easy", "hard")


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
        source = GIVEN if settings.levels else "generated levels, written as Boxoban text"
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

    budget = dataclasses.replace(settings.budget, repeats=CATALOGUE_REPEATS)
    arm = measure({"make": lambda: Arm(run, 1)}, budget)["make"]
    rows = RowMaker(NAME, "WebShop/loading")
    parameters = {"catalogue": "given products" if settings.products else "synthetic"}
    if arm.rates is None:
        yield rows.missing("load and rank", "s", arm, parameters=parameters)
        return
    yield rows.sample("load and rank", "s", 1 / arm.rates, parameters=parameters, better="lower")
    yield rows.fact("tasks", "", sizes["tasks"], parameters=parameters)


# Quality -------------------------------------------------------------------------------------------------------------


def run_quality(settings: Settings) -> Iterator[Row]:
    """Whether generated levels differ from each other after turning and mirroring, and how they start."""
    layout, tasks = _generated(settings, "medium")
    levels = grids(tasks, layout)
    rows = RowMaker(NAME, "Sokoban/quality", len(tasks))
    of: dict[str, Any] = {"parameters": {"levels": MAIN}}
    yield rows.fact(
        "distinct up to symmetry", "%", _distinct(levels), target=Target(">=", DISTINCT), better="higher", **of
    )
    on_target = int((levels.boxes & levels.targets).sum())
    yield rows.fact("boxes on targets at the start", "", on_target, target=Target("<=", 0), better="lower", **of)
    yield rows.fact("floor cells, mean", "cells", (~levels.walls).sum(axis=(1, 2)).mean(), **of)
    yield from _small_levels()


def _small_levels() -> Iterator[Row]:
    """Where levels begin to repeat: there are not many of this size."""
    from envs_jax.sokoban.board import Layout
    from envs_jax.sokoban.generator import generate

    layout = Layout(6, 6)
    tasks = generate(jax.random.key(0), 1_000, layout=layout, num_boxes=1)
    of: dict[str, Any] = {"parameters": {"levels": "6×6, 1 box"}, "better": "higher"}
    rows = RowMaker(NAME, "Sokoban/quality", len(tasks))
    yield rows.fact("distinct up to symmetry", "%", _distinct(grids(tasks, layout)), **of)


def _distinct(levels: Grids) -> float:
    return 100 * len(canonical(levels)) / len(levels)


def run_lengths(settings: Settings) -> Iterator[Row]:
    """Push-optimal lengths of generated levels by difficulty, and of the user's levels."""
    for difficulty in _difficulties(settings):
        layout, tasks = _generated(settings, difficulty)
        yield from _length_rows(f"10×10, 4 boxes, {difficulty}", layout, tasks)
    if settings.levels is not None:
        from envs_jax.sokoban import levels

        given = levels.read(settings.levels)
        sample, count = given.bank(), _num_levels(settings)
        if len(sample) > count:
            sample = sample.shuffle(jax.random.key(0))[:count]
        yield from _length_rows(GIVEN, given.layout, sample)


def _length_rows(source: str, layout: Any, tasks: Any) -> Iterator[Row]:
    from jaxrl_agents.search.best_first import solve

    found = solve(tasks, layout=layout)
    pushes = found.pushes[found.solved]
    rows = RowMaker(NAME, "Sokoban/lengths", len(tasks))
    target = lambda value: Target(">=", value) if source == MAIN else None
    common: dict[str, Any] = {"parameters": {"levels": source}, "better": "higher"}
    unsolved = int(len(tasks) - pushes.size)
    yield rows.fact("solved", "%", 100 * pushes.size / len(tasks), target=target(100.0), **common)
    if not pushes.size:
        return
    values, counts = np.unique(pushes, return_counts=True)
    histogram = {"values": values.astype(float).tolist(), "counts": counts.astype(float).tolist()}
    note = f"{unsolved} of {len(tasks)} not solved within the limits" if unsolved else ""
    median = rows.sample("median optimal length", "pushes", pushes, target=target(MEDIAN_PUSHES), note=note, **common)
    yield dataclasses.replace(median, histogram=histogram)
    yield rows.fact("shortest optimal length", "pushes", pushes.min(), target=target(MIN_PUSHES), **common)
    yield rows.fact("longest optimal length", "pushes", pushes.max(), **common)
    yield rows.fact("mean optimal length", "pushes", pushes.mean(), **common)


def run_ragen(settings: Settings) -> Iterator[Row]:
    """Rooms of RAGEN's presets: fewest moves, and what uniformly random actions solve; computed from every position."""
    yield from _ragen_rows("6×6, 1 box", num_boxes=1, search_depth=300, targets=RAGEN_TARGETS)
    yield from _ragen_rows("6×6, 2 boxes, search_depth=100", num_boxes=2, search_depth=100, targets={})


def _ragen_rows(name: str, num_boxes: int, search_depth: int, targets: Mapping[str, Target]) -> Iterator[Row]:
    from benchmarks.positions import solvability
    from envs_jax.sokoban.board import Layout
    from envs_jax.sokoban.generator import generate_ragen

    layout, key = Layout(6, 6), jax.random.key(2**31)
    tasks = generate_ragen(key, RAGEN_ROOMS, layout=layout, num_boxes=num_boxes, search_depth=search_depth)
    moves, by_chance = solvability(tasks, layout, num_boxes, RAGEN_ACTIONS)
    solved = moves >= 0
    rows = RowMaker(NAME, "Sokoban-RAGEN/quality", len(tasks))
    facts = {
        "solvable": ("%", 100 * solved.mean()),
        "fewest moves, mean": ("moves", moves[solved].mean()),
        "solvable in 10 moves": ("%", 100 * (solved & (moves <= RAGEN_ACTIONS)).mean()),
        "random actions solve in 10": ("%", 100 * by_chance.mean()),
    }
    for metric, (unit, value) in facts.items():
        yield rows.fact(metric, unit, value, parameters={"rooms": name}, target=targets.get(metric))


@functools.cache
def _generated(settings: Settings, difficulty: Any) -> tuple[Any, Any]:
    """(layout, levels): 10×10 with 4 boxes."""
    from envs_jax.sokoban.board import Layout
    from envs_jax.sokoban.generator import generate

    layout, key = Layout(10, 10), jax.random.key(2**31)
    return layout, generate(key, _num_levels(settings), layout=layout, num_boxes=4, difficulty=difficulty)


def _num_levels(settings: Settings) -> int:
    return 10_000 if settings.full else 1_000


def plots(rows: Sequence[Row], folder: Path) -> Iterator[Plot]:
    """Draws what there are rows for."""
    from benchmarks import plots as draw

    yield from draw.levels(rows, folder)


SUITE = Suite(NAME, "Levels and catalogues", cases, plots)
