"""The host's side of the solver: shapes the program, spreads levels over devices, watches limits, collects plans."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from envs_jax.sokoban import board as bb
from envs_jax.sokoban.board import Layout
from envs_jax.sokoban.types import SokobanTask
from envs_jax.tasks import TaskBank
from jaxrl_agents.search.best_first import bounds, core, frontier, plans
from jaxrl_agents.search.best_first.types import MAX_LEVELS, Config, Mode, Search, Status, Tables

ROUNDS_A_CALL = 100  # a tenth of a second or so: how often limits are looked at
_GROWTH = 4  # of all capacities, after something was full
_AXIS = "levels"


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far `solve` is."""

    total: int  # levels
    solved: int
    given_up: int  # levels that are proven unsolvable or ran into a limit
    expanded: int  # nodes so far
    seconds: float


@dataclasses.dataclass(frozen=True)
class SolveResult:
    """What became of T levels; arrays on the host."""

    status: np.ndarray  # uint8[T]: `Status`
    pushes: np.ndarray  # int32[T]: pushes of the plan; −1 where there is none
    moves: np.ndarray  # int32[T]: moves of the plan, walking and pushes; −1 where there is none
    expanded: np.ndarray  # int64[T]: states whose pushes were tried
    generated: np.ndarray  # int64[T]: pushes tried
    plans: tuple[np.ndarray, ...]  # T × int32[moves]: actions 0–3; empty where there is none
    push_plans: tuple[np.ndarray, ...]  # T × int32[pushes, 2]: the box's cell and the direction 0–3 of each push
    seconds: float  # of the whole call

    @property
    def solved(self) -> np.ndarray:
        """bool[T]."""
        return self.status == Status.SOLVED


def solve(
    tasks: TaskBank[SokobanTask],
    *,
    layout: Layout,
    mode: Mode = "optimal",
    max_nodes: int = 1_000_000,
    time_limit: float | None = None,
    memory_limit: int = 4 << 30,
    devices: Sequence[jax.Device] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> SolveResult:
    """Solves all levels of a bank, searching thousands of them at once.

    A* (`mode="optimal"`) or weighted A* (`"satisficing"`) over pushes with duplicate detection, dead squares, frozen
    boxes and an admissible bound; see docs/solving.md. In the optimal mode the plan of every solved level has the fewest
    pushes possible; walks between pushes are shortest in both modes. Status and number of pushes of the optimal mode do
    not depend on what else is in the bank, unless a limit is hit. Every plan is replayed with the environment's rules
    before it is returned.

    Args:
      tasks: the levels; as many boxes as targets in each.
      layout: the size of their boards.
      mode: "optimal" or "satisficing".
      max_nodes: states that are expanded for one level before it is given up (some more, up to a batch).
      time_limit: seconds after which all open levels are given up; None for no limit.
      memory_limit: bytes that all data structures together may take. What is full grows up to this and the open levels
        are searched anew; then fewer levels are searched together; a level that fills it alone is given up.
      devices: what to run on, all of one kind; by default all devices of the default backend.
      on_progress: called about ten times a second.

    Raises:
      ValueError, TypeError: an argument is wrong.
    """
    began = time.perf_counter()
    _check(tasks, layout, mode, max_nodes, time_limit)
    levels = jax.tree.map(np.asarray, dataclasses.replace(tasks.instances, dead=()))
    mesh = Mesh(np.array(devices if devices is not None else jax.devices()), (_AXIS,))
    run = _Run(layout, mode, mesh, max_nodes, time_limit, memory_limit, on_progress, levels, began)
    for num_slots, group in _groups(layout, levels):
        run.search(num_slots, group)
    return run.result()


class _Run:
    """One call of `solve`: limits and what is known so far."""

    def __init__(
        self,
        layout: Layout,
        mode: Mode,
        mesh: Mesh,
        max_nodes: int,
        time_limit: float | None,
        memory_limit: int,
        on_progress: Callable[[Progress], None] | None,
        levels: SokobanTask,
        began: float,
    ) -> None:
        self.layout, self.mode, self.mesh, self.levels = layout, mode, mesh, levels
        self.max_nodes, self.memory_limit, self.on_progress, self.began = max_nodes, memory_limit, on_progress, began
        self.deadline = float("inf") if time_limit is None else began + time_limit
        count = levels.time_limit.shape[0]
        self.status = np.full(count, Status.OPEN, np.uint8)
        self.expanded, self.generated = np.zeros(count, np.int64), np.zeros(count, np.int64)
        self.pushes: list[np.ndarray] = [np.zeros((0, 2), np.int32)] * count

    def search(self, num_slots: int, group: np.ndarray) -> None:
        """Decides the levels `group`, growing what is too small and then searching fewer levels together."""
        growth, together = 0, MAX_LEVELS * self.mesh.size
        while group.size:
            some = group[:together]
            config = self._config(num_slots, some.size, growth)
            if memory(config) * self.mesh.size <= self.memory_limit:
                self._attempt(config, some)
                growth += 1
            elif some.size > self.mesh.size:
                growth, together = 0, max(some.size // _GROWTH, self.mesh.size)
            else:
                self.status[some] = Status.MEMORY_LIMIT
            group = group[self.status[group] == Status.OPEN]

    def _config(self, num_slots: int, num_levels: int, growth: int) -> Config:
        per_device = max(-(-num_levels // self.mesh.size), 16)
        return make_config(self.layout, self.mode, num_slots, 1 << (per_device - 1).bit_length(), growth)

    def _attempt(self, config: Config, group: np.ndarray) -> None:
        """Searches some levels until each is decided or something is full."""
        begin, advance = _programs(config, self.mesh)
        index = _spread(group, self.mesh.size, config.num_levels)
        place = partial(jax.device_put, device=NamedSharding(self.mesh, PartitionSpec(_AXIS)))
        tables, search = begin(
            jax.tree.map(lambda leaf: place(leaf[np.maximum(index, 0)]), self.levels), place(index >= 0)
        )
        while True:
            search = advance(tables, search, jnp.int32(min(self.max_nodes, 2**31 - 1)), jnp.int32(ROUNDS_A_CALL))
            status = np.where(index >= 0, np.asarray(search.levels.status), Status.UNSOLVABLE)
            finished = np.asarray(search.overflow) | (status != Status.OPEN).all(axis=1)
            late = time.perf_counter() > self.deadline
            self._report(index, status, int(np.asarray(search.log.size).sum()))
            if late or finished.all():
                break
        if late:
            status[status == Status.OPEN] = Status.TIME_LIMIT
        self._collect(search, index, status)

    def _report(self, index: np.ndarray, status: np.ndarray, expanded: int) -> None:
        if self.on_progress is None:
            return
        known = np.concatenate([self.status, status[index >= 0]])
        solved = int((known == Status.SOLVED).sum())
        given_up = int((known > Status.SOLVED).sum())
        seconds = time.perf_counter() - self.began
        self.on_progress(Progress(len(self.status), solved, given_up, int(self.expanded.sum()) + expanded, seconds))

    def _collect(self, search: Search, index: np.ndarray, status: np.ndarray) -> None:
        levels = jax.tree.map(np.asarray, search.levels)
        real = index >= 0
        self.status[index[real]] = status[real]
        self.expanded[index[real]] += levels.expanded[real]
        self.generated[index[real]] += levels.generated[real]
        for device, (parents, places) in enumerate(
            zip(_shards(search.log.parent), _shards(search.log.place), strict=True)
        ):
            solved = np.flatnonzero(real[device] & (status[device] == Status.SOLVED))
            goals = levels.goal_parent[device, solved], levels.goal_place[device, solved]
            found = plans.trace(parents, places, *goals)
            steps = np.stack([found.boxes, found.directions], axis=2)
            for row, level in enumerate(index[device, solved]):
                self.pushes[level] = steps[row, : found.numbers[row]]

    def result(self) -> SolveResult:
        """The plans with their walks, replayed."""
        solved = np.flatnonzero(self.status == Status.SOLVED)
        count = len(self.status)
        moves: list[np.ndarray] = [np.zeros(0, np.int32)] * count
        if solved.size:
            tasks = jax.tree.map(lambda leaf: jnp.asarray(leaf[solved]), self.levels)
            pushes = plans.stack([self.pushes[level] for level in solved])
            walks = plans.walk(self.layout, tasks, pushes)
            plans.check(self.layout, tasks, walks, pushes.numbers)
            for level, walk in zip(solved, walks, strict=True):
                moves[level] = walk
        length = lambda steps: np.where(self.status == Status.SOLVED, [len(plan) for plan in steps], -1).astype(
            np.int32
        )
        return SolveResult(
            self.status, length(self.pushes), length(moves), self.expanded, self.generated, tuple(moves),
            tuple(self.pushes), time.perf_counter() - self.began,
        )  # fmt: skip


def make_config(layout: Layout, mode: Mode, num_slots: int, num_levels: int, growth: int = 0) -> Config:
    """The program for `num_levels` levels (a power of two) on one device; capacities grow by 4 with each `growth`."""
    lanes = min(max(2 * num_levels, 256), 2048)
    log_size = max(512 * num_levels, 1 << 16) * _GROWTH**growth
    return Config(
        layout=layout,
        mode=mode,
        num_slots=num_slots,
        num_levels=num_levels,
        num_lanes=lanes,
        num_children=lanes,
        num_classes=32 << growth,
        num_pages=3 * log_size // frontier.PAGE,
        log_size=log_size,
        num_sets=log_size // 4,
    )


def memory(config: Config) -> int:
    """Bytes of the large arrays on one device."""
    words = config.layout.num_words
    pool = (words + 3) * config.num_pages * frontier.PAGE
    return 4 * (pool + (words + 1) * config.num_sets * 4 + 2 * (config.log_size + config.num_lanes))


@lru_cache(maxsize=16)
def _programs(config: Config, mesh: Mesh) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """(begin, advance) as programs over all devices, each of which searches its own levels at its own pace."""

    def begin(tasks: SokobanTask, wanted: jax.Array) -> tuple[Tables, Search]:
        tasks, wanted = jax.tree.map(lambda leaf: leaf[0], (tasks, wanted))
        tables = core.prepare(config, tasks)
        return jax.tree.map(lambda leaf: leaf[None], (tables, core.start(config, tables, tasks, wanted)))

    def advance(tables: Tables, search: Search, max_nodes: jax.Array, rounds: jax.Array) -> Search:
        tables, search = jax.tree.map(lambda leaf: leaf[0], (tables, search))
        return jax.tree.map(lambda leaf: leaf[None], core.advance(config, tables, search, max_nodes, rounds))

    split, same = PartitionSpec(_AXIS), PartitionSpec()
    shard = partial(jax.shard_map, mesh=mesh, out_specs=split, check_vma=False)
    return (
        jax.jit(shard(begin, in_specs=(split, split))),
        jax.jit(shard(advance, in_specs=(split, split, same, same)), donate_argnums=1),
    )


def _spread(group: np.ndarray, num_devices: int, per_device: int) -> np.ndarray:
    """int[num_devices, per_device]: the levels of each device, dealt in turn; −1 where there is none."""
    index = np.full(num_devices * per_device, -1)
    index[: group.size] = group
    return index.reshape(per_device, num_devices).T


def _shards(array: jax.Array) -> list[np.ndarray]:
    """The parts [1, …] of an array split over devices, in order, without that axis; not copied on a CPU."""
    parts = sorted(array.addressable_shards, key=lambda shard: shard.index[0].start or 0)
    return [np.asarray(part.data)[0] for part in parts]


def _groups(layout: Layout, levels: SokobanTask) -> Iterator[tuple[int, np.ndarray]]:
    """(number of boxes that the bound matches, levels): few groups, so that few programs are compiled."""
    boxes = np.asarray(bb.count(tuple(jnp.asarray(word) for word in levels.boxes)))
    lowest = 0
    for slots in (2, 4, bounds.MAX_MATCHED):
        yield slots, np.flatnonzero((boxes > lowest) & (boxes <= slots))
        lowest = slots
    yield 0, np.flatnonzero(boxes > lowest)


def _check(tasks: TaskBank[SokobanTask], layout: Layout, mode: Mode, max_nodes: int, time_limit: float | None) -> None:
    if not isinstance(tasks, TaskBank) or not isinstance(tasks.instances, SokobanTask):
        raise TypeError(f"tasks must be a TaskBank of SokobanTask; got {type(tasks).__name__}")
    words = len(tasks.instances.walls)
    if words != layout.num_words:
        raise ValueError(
            f"layout={layout.height}×{layout.width} takes {layout.num_words} words a board; tasks have {words}: give the "
            "layout that they were made with"
        )
    if mode not in get_args(Mode):
        raise ValueError(f"mode={mode!r}; choose one of {', '.join(map(repr, get_args(Mode)))}")
    if max_nodes < 1:
        raise ValueError(f"max_nodes={max_nodes}; it must be at least 1")
    if time_limit is not None and not time_limit > 0:
        raise ValueError(f"time_limit={time_limit}; it must be a positive number of seconds, or None")
    boxes, targets = (np.asarray(bb.count(board)) for board in (tasks.instances.boxes, tasks.instances.targets))
    wrong = (boxes != targets) | (boxes == 0)
    if wrong.any():
        level = int(wrong.argmax())
        raise ValueError(
            f"tasks[{level}] has {boxes[level]} boxes and {targets[level]} targets; a level needs as many boxes as "
            "targets, and at least one"
        )
