"""The host's side of the solver: shapes the program, spreads levels over devices, watches limits, collects plans."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import wait
from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from envs_jax import bitboard as bb
from envs_jax.sokoban.board import Layout
from envs_jax.sokoban.lurd import LURD
from envs_jax.sokoban.types import SokobanTask
from envs_jax.tasks import TaskBank
from jaxrl_agents.search.best_first import bounds, plans, request
from jaxrl_agents.search.best_first.programs import AXIS, Compilation, compile_programs, split_over
from jaxrl_agents.search.best_first.sizes import addressed, make_config, memory, search_layout, searched_together
from jaxrl_agents.search.best_first.types import Config, Mode, Search, Starts, Status, Tables

ROUNDS_A_CALL = 64  # at most; between two calls limits are looked at
CALL_SECONDS = 0.25  # that a call should take, give or take a factor of two
_POLL_SECONDS = 0.1  # between two looks at whether to wait on for the compiler


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far `solve` is."""

    total: int  # levels
    solved: int
    given_up: int  # levels that are proven unsolvable or ran into a limit
    expanded: int  # nodes so far
    seconds: float  # compilation not included


@dataclasses.dataclass(frozen=True)
class SolveResult:
    """What became of T levels; arrays on the host."""

    status: np.ndarray  # uint8[T]: `Status`
    pushes: np.ndarray  # int32[T]: pushes of the plan; −1 where there is none
    moves: np.ndarray  # int32[T]: moves of the plan, walking and pushes; −1 where there is none
    expanded: np.ndarray  # int64[T]: states whose pushes were looked at
    generated: np.ndarray  # int64[T]: pushes tried
    plans: tuple[np.ndarray, ...]  # T × int32[moves]: actions 0–3; empty where there is none
    is_push: tuple[np.ndarray, ...]  # T × bool[moves]: which of them push a box
    push_plans: tuple[np.ndarray, ...]  # T × int32[pushes, 2]: each push's box cell and direction 0–3
    seconds: float  # of the whole call but compilation
    compile_seconds: float  # 0 or nearly so where the same shapes were solved before

    @property
    def solved(self) -> np.ndarray:
        """bool[T]."""
        return self.status == Status.SOLVED

    def lurd(self, index: int) -> str:
        """The plan of a level in LURD notation: one letter a move, upper case for pushes; empty where there is none."""
        letters = LURD + LURD.upper()
        return "".join(letters[code] for code in self.plans[index] + 4 * self.is_push[index])


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
    stop: Callable[[], bool] | None = None,
) -> SolveResult:
    """Solves all levels of a bank, searching thousands of them at once.

    A* (`mode="optimal"`; Hart, Nilsson & Raphael, 1968) or weighted A* (`"satisficing"`; Pohl, 1970) over pushes with
    duplicate detection, dead squares, frozen boxes and an admissible, consistent bound; see docs/solving.md. In the
    optimal mode every plan has the fewest pushes possible; walks between pushes are shortest in both modes. Unless a
    limit is hit, the status, and in the optimal mode the number of pushes, do not depend on what else is in the bank,
    its order, or the devices. Every plan is replayed with the environment's rules before it is returned.

    Args:
      tasks: the levels; as many boxes as targets in each.
      layout: the size of their boards.
      mode: "optimal" or "satisficing".
      max_nodes: states that are expanded for one level before it is given up (a batch more at most).
      time_limit: seconds, compilation not included, after which all open levels are given up; None for no limit. It
        is looked at between two pieces of work, of well below a second on boards of up to 100×100 cells that are no
        mazes. What is solved by then stays solved: its plans are still walked and replayed.
      memory_limit: bytes that all data structures together may take. When something is full, it grows and the open
        levels are searched anew; at this limit fewer levels are searched together, at last one alone on one device; a
        level that fills it then is given up.
      devices: what to run on, all of one kind; by default all devices of the default backend.
      on_progress: called after each piece of work of the search.
      stop: asked as often, and while programs of the search are compiled; once it answers True all open levels are
        given up, as at the time limit.

    Raises:
      ValueError, TypeError: an argument is wrong.
    """
    began = time.perf_counter()
    request.check(
        tasks,
        layout,
        mode,
        max_nodes=max_nodes,
        time_limit=time_limit,
        memory_limit=memory_limit,
        on_progress=on_progress,
        stop=stop,
    )
    request.check_boxes(_count(tasks.instances.boxes), _count(tasks.instances.targets))
    mesh = Mesh(np.array(request.checked_devices(devices)), (AXIS,))
    layout = search_layout(layout)
    run = _Run(layout, mode, max_nodes, memory_limit, began, _on_host(layout, tasks))
    run.mesh = mesh
    run.time_limit, run.on_progress, run.stop = time_limit, on_progress, stop
    for num_slots, group in _groups(run.levels):
        run.search(num_slots, group)
    return run.result()


def _on_host(layout: Layout, tasks: TaskBank[SokobanTask]) -> Starts:
    """The levels as NumPy arrays."""
    levels = tasks.instances
    walls, targets, boxes = (_board_on_host(layout, board) for board in (levels.walls, levels.targets, levels.boxes))
    player: Any = np.asarray(levels.player).astype(layout.cell_dtype)
    return Starts(walls, targets, boxes, player)


def _board_on_host(layout: Layout, board: bb.Board) -> bb.Board:
    words: Any = tuple(map(np.asarray, board))
    return bb.Stacked(np.stack(words, axis=-1)) if layout.is_stacked else words  # type: ignore[arg-type]


class _Full(NamedTuple):
    """What was too small for the levels that a search left open."""

    storage: bool  # the frontier's pages or the log
    classes: bool


class _Prepared(NamedTuple):
    """Levels and their tables, on the devices."""

    shape: tuple[int, int, Mesh]  # of the programs that read the tables
    levels: np.ndarray  # int[num_devices, num_levels]: which they are; −1 where there is none
    starts: Starts
    tables: Tables


@dataclasses.dataclass
class _Run:
    """One call of `solve`: limits and what is known so far."""

    layout: Layout
    mode: Mode
    max_nodes: int
    memory_limit: int
    began: float
    levels: Starts
    time_limit: float | None = None
    on_progress: Callable[[Progress], None] | None = None
    stop: Callable[[], bool] | None = None
    stopped: bool = False
    prepared: _Prepared | None = None
    compile_seconds: float = 0.0

    def __post_init__(self) -> None:
        count = len(self.levels.player)
        self.mesh: Mesh
        self.status = np.full(count, Status.OPEN, np.uint8)
        self.expanded, self.generated = np.zeros(count, np.int64), np.zeros(count, np.int64)
        self.pushes: list[np.ndarray] = [np.zeros((0, 2), np.int32)] * count

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.began - self.compile_seconds

    def search(self, num_slots: int, group: np.ndarray) -> None:
        """Decides the levels `group`. What is full grows; then fewer are searched together, at last one on a device."""
        mesh, growth, class_growth = self.mesh, 0, 0
        together = searched_together(self.layout) * mesh.size
        while group.size:
            ended = self._ended()
            if ended:
                self.status[group] = ended
                break
            some = group[: -(-group.size // -(-group.size // together))]
            sized = partial(make_config, self.layout, self.mode, num_slots, -(-some.size // mesh.size))
            configs = [(step, sized(step, class_growth)) for step in (growth, growth - 1) if step >= 0]
            step, config = next(((step, config) for step, config in configs if self._fits(config, mesh)), (0, None))
            full = None if config is None else self._attempt(config, mesh, some)
            if full is not None:
                growth, class_growth = step + 2 * full.storage, class_growth + full.classes
            elif some.size > mesh.size:
                growth, together = 0, max(some.size // 4, mesh.size)
            elif mesh.size > 1:
                growth, together, mesh = 0, 1, Mesh(mesh.devices[:1], (AXIS,))
            else:
                self.status[some] = Status.MEMORY_LIMIT
            group = group[self.status[group] == Status.OPEN]
        self.prepared = None

    def _ended(self) -> Status:
        """Why the whole search has to end now; OPEN where it has not."""
        if self._is_stopped():
            return Status.INTERRUPTED
        late = self.time_limit is not None and self.seconds > self.time_limit
        return Status.TIME_LIMIT if late else Status.OPEN

    def _is_stopped(self) -> bool:
        self.stopped = self.stopped or (self.stop is not None and self.stop())
        return self.stopped

    def _fits(self, config: Config, mesh: Mesh) -> bool:
        """Whether memory and the numbers that address it suffice."""
        return memory(config) * mesh.size <= self.memory_limit and addressed(config) <= np.iinfo(np.int32).max

    def _attempt(self, config: Config, mesh: Mesh, group: np.ndarray) -> _Full | None:
        """Searches some levels until each is decided or something is full; None where a device lacks the memory."""
        programs = self._compiled(compile_programs, config, mesh)
        if programs is None:
            return _Full(False, False)
        blank, prepare, start, advance = programs
        try:
            prepared = self._prepare(blank, prepare, config, mesh, group)
            if prepared is None:
                return _Full(False, False)
            index = np.where(np.isin(prepared.levels, group), prepared.levels, -1)
            wanted = jax.device_put(index >= 0, split_over(mesh))
            search = jax.block_until_ready(start(prepared.tables, prepared.starts, wanted))
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            self.prepared = None
            return None
        return self._advance(advance, prepared.tables, search, index)

    def _prepare(
        self, blank: Callable[..., Any], prepare: Callable[..., Any], config: Config, mesh: Mesh, group: np.ndarray
    ) -> _Prepared | None:
        """The tables of some levels, those of an earlier attempt if they are that; None where a limit came first."""
        shape, prepared = (config.num_slots, config.num_levels, mesh), self.prepared
        if prepared is not None and prepared.shape == shape and np.isin(group, prepared.levels).all():
            return prepared
        prepared = self.prepared = None  # frees the memory
        index = _spread(group, mesh.size, config.num_levels)
        place = partial(jax.device_put, device=split_over(mesh))
        starts = jax.tree.map(lambda leaf: place(leaf[np.maximum(index, 0)]), self.levels)
        tables, undecided = blank(), np.full(index.shape, Status.OPEN, np.uint8)
        for part in range(bounds.num_parts(config, -(-group.size // mesh.size))):
            tables = jax.block_until_ready(prepare(starts, tables, np.int32(part)))
            self._report(index, undecided, 0)
            if self._ended():
                return None
        self.prepared = _Prepared(shape, index, starts, tables)
        return self.prepared

    def _advance(self, advance: Callable[..., Any], tables: Tables, search: Search, index: np.ndarray) -> _Full:
        """Searches until each level is decided, something is full, or a limit is hit."""
        ended, rounds = Status.OPEN, 1 if self.layout.is_stacked else ROUNDS_A_CALL
        while not ended:
            called = time.perf_counter()
            search = advance(tables, search, np.int32(self.max_nodes), np.int32(rounds))
            status = np.where(index >= 0, np.asarray(search.levels.status), Status.UNSOLVABLE)
            rounds = _next_rounds(rounds, time.perf_counter() - called)
            self._report(index, status, int(np.asarray(search.log.size).sum()))
            if (np.asarray(search.overflow) | (status != Status.OPEN).all(axis=1)).all():
                break
            ended = self._ended()
        status[status == Status.OPEN] = ended
        self._collect(search, index, status)
        overflow, classless = np.asarray(search.overflow), np.asarray(search.pages.classless)
        return _Full(bool((overflow & ~classless).any()), bool(classless.any()))

    def _compiled(self, compiler: Callable[..., Sequence[Compilation]], *arguments: Any) -> list[Any] | None:
        """The programs that a compiler makes in the background; None where `stop` said so before they were there."""
        began = time.perf_counter()
        try:
            compilations = compiler(*arguments)
            while wait(compilations, _POLL_SECONDS).not_done:
                if self._is_stopped():
                    return None
            return [compilation.result() for compilation in compilations]
        finally:
            self.compile_seconds += time.perf_counter() - began

    def _report(self, index: np.ndarray, status: np.ndarray, expanded: int) -> None:
        if self.on_progress is None:
            return
        known = np.concatenate([self.status, status[index >= 0]])
        solved, given_up = int((known == Status.SOLVED).sum()), int((known > Status.SOLVED).sum())
        nodes = int(self.expanded.sum()) + expanded
        self.on_progress(Progress(len(self.status), solved, given_up, nodes, self.seconds))

    def _collect(self, search: Search, index: np.ndarray, status: np.ndarray) -> None:
        levels = jax.tree.map(np.asarray, search.levels)
        real = index >= 0
        self.status[index[real]] = status[real]
        self.expanded[index[real]] += levels.expanded[real]
        self.generated[index[real]] += levels.generated[real]
        logs = zip(_shards(search.log.parent), _shards(search.log.place), strict=True)
        for device, log in enumerate(logs):
            solved = np.flatnonzero(real[device] & (status[device] == Status.SOLVED))
            found = plans.trace(*log, levels.goal_parent[device, solved], levels.goal_place[device, solved])
            for level, steps in zip(index[device, solved], found, strict=True):
                self.pushes[level] = steps

    def result(self) -> SolveResult:
        """The plans with their walks, replayed."""
        count, solved = len(self.status), np.flatnonzero(self.status == Status.SOLVED)
        moves, is_push = [np.zeros(0, np.int32)] * count, [np.zeros(0, bool)] * count
        for level, actions, flags in self._walked(solved):
            moves[level], is_push[level] = actions, flags
        lengths_of = lambda steps: np.fromiter(map(len, steps), np.int32, count)
        only_solved = lambda numbers: np.where(self.status == Status.SOLVED, numbers, -1).astype(np.int32)
        return SolveResult(
            status=self.status,
            pushes=only_solved(lengths_of(self.pushes)),
            moves=only_solved(lengths_of(moves)),
            expanded=self.expanded,
            generated=self.generated,
            plans=tuple(moves),
            is_push=tuple(is_push),
            push_plans=tuple(self.pushes),
            seconds=self.seconds,
            compile_seconds=self.compile_seconds,
        )

    def _walked(self, levels: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """(level, its plan's moves, which of them are pushes) of some solved levels."""
        if not levels.size:
            return
        found = [self.pushes[level] for level in levels]
        sizes = plans.sizes_of(self.layout, found)
        began = time.perf_counter()
        # Nothing asks `stop`, for what is solved has to have its plan, but Python sees signals while it waits.
        programs = [compilation.result() for compilation in plans.compile_programs(self.layout, sizes)]
        self.compile_seconds += time.perf_counter() - began
        for first in range(0, levels.size, sizes.num_plans):
            some = slice(first, first + sizes.num_plans)
            starts = jax.tree.map(itemgetter(levels[some]), self.levels)
            moves, is_push = plans.walk(starts, found[some], sizes, programs)
            lengths = (moves != plans.END).sum(axis=1)
            for level, actions, flags, length in zip(levels[some], moves, is_push, lengths, strict=True):
                yield int(level), actions[:length].copy(), flags[:length].copy()


def _next_rounds(rounds: int, seconds: float) -> int:
    """How many rounds to ask for after a call that took so long: the time grows with the board and the open nodes."""
    if seconds > 2 * CALL_SECONDS:
        return max(rounds // 2, 1)
    return min(rounds * 2, ROUNDS_A_CALL) if seconds < CALL_SECONDS / 2 else rounds


def _spread(group: np.ndarray, num_devices: int, per_device: int) -> np.ndarray:
    """int[num_devices, per_device]: the levels of each device, dealt in turn; −1 where there is none."""
    index = np.full(num_devices * per_device, -1)
    index[: group.size] = group
    return index.reshape(per_device, num_devices).T


def _shards(array: jax.Array) -> list[np.ndarray]:
    """The parts [1, …] of an array split over devices, in order, without that axis; not copied on a CPU."""
    parts = sorted(array.addressable_shards, key=lambda shard: shard.index[0].start or 0)
    return [np.asarray(part.data)[0] for part in parts]


def _groups(levels: Starts) -> Iterator[tuple[int, np.ndarray]]:
    """(number of boxes that the bound matches, levels): few groups, so that few programs are compiled."""
    boxes = _count(levels.boxes)
    lowest = 0
    for slots in (2, 4, bounds.MAX_MATCHED):
        yield slots, np.flatnonzero((boxes > lowest) & (boxes <= slots))
        lowest = slots
    yield 0, np.flatnonzero(boxes > lowest)


def _count(board: bb.Board) -> np.ndarray:
    total = np.sum([np.bitwise_count(np.asarray(word)) for word in board], axis=0, dtype=np.int32)
    return np.asarray(total.sum(axis=-1, dtype=np.int32) if isinstance(board, bb.Stacked) else total)
