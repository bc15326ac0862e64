"""FrozenLake as an environment."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from envs_jax import bitboard as bb
from envs_jax import spaces
from envs_jax.arguments import check_bool, check_choice, check_integer, check_number, check_seed
from envs_jax.bitboard import Board, Grid
from envs_jax.environment import Environment
from envs_jax.frozen_lake import maps, render, rules
from envs_jax.frozen_lake.maps import Lake, Placement, Rows
from envs_jax.pytree import pytree_dataclass, static_field
from envs_jax.tasks import Task, TaskBank, make_bank

ObservationName = Literal["index", "grid", "tokens"]

# Codes of the observations `grid` and `tokens`; + 3 where the player stands.
OUTSIDE, FROZEN, HOLE, GOAL = range(4)
PLAYER = 3
NUM_CODES = 7


@pytree_dataclass
class FrozenLakeState:
    """What changes within an episode; 4 bytes."""

    row: jax.Array  # uint8[]: the player's row
    column: jax.Array  # uint8[]: the player's column
    steps: jax.Array  # uint16[]


@pytree_dataclass
class FrozenLakeTask(Task):
    """One map with its slips, rewards and time limit; 36 bytes for a 4×4 map."""

    holes: Board  # uint32[] × num_words
    goals: Board  # uint32[] × num_words
    starts: Board  # uint32[] × num_words: an episode starts in one of them, uniformly
    rows: jax.Array  # uint8[]: the size of the map, at most that of the environment
    columns: jax.Array  # uint8[]
    slip_below: jax.Array  # uint32[]: see rules.Thresholds
    slip_above: jax.Array  # uint32[]
    goal_reward: jax.Array  # float32[]: for entering a goal
    hole_reward: jax.Array  # float32[]: for entering a hole
    frozen_reward: jax.Array  # float32[]: for a step that ends on a frozen tile
    time_limit: jax.Array  # uint16[]
    made_for: str = static_field(default="")

    @property
    def slip(self) -> rules.Thresholds:
        """The thresholds of the slips."""
        return rules.Thresholds(self.slip_below, self.slip_above)


@dataclasses.dataclass(frozen=True)
class Dynamics:
    """How a map is played: Gymnasium's arguments, and the number of steps after which an episode is truncated."""

    success_rate: float = 1 / 3
    is_slippery: bool = True
    reward_schedule: tuple[float, float, float] = (1.0, 0.0, 0.0)  # goal, hole, frozen (start included)
    time_limit: int = 100

    def __post_init__(self) -> None:
        check_number("success_rate", self.success_rate, 0, 1)
        check_bool("is_slippery", self.is_slippery)
        wrong = f"reward_schedule={self.reward_schedule!r} must be three finite numbers: goal, hole, frozen"
        try:
            finite = [math.isfinite(reward) for reward in self.reward_schedule]
        except TypeError:
            raise TypeError(wrong) from None
        if finite != [True] * 3:
            raise ValueError(wrong)
        check_integer("time_limit", self.time_limit, 1, 65_535)


@pytree_dataclass
class FrozenLake(Environment[FrozenLakeState, FrozenLakeTask]):
    """FrozenLake on maps of up to the layout's size; smaller ones take its upper left corner.

    Observations:
      * `index`: int32[], row × columns of the map + column, as Gymnasium's.
      * `grid`: uint8[rows, columns] of codes: 0 outside the map, 1 frozen, 2 hole, 3 goal; where the player stands 3
        more (4, 5, 6).
      * `tokens`: uint8[rows · columns], the grid row by row.
    """

    layout: Grid = static_field()
    observation: ObservationName = static_field(default="grid")

    task_type: ClassVar[type[Task]] = FrozenLakeTask
    state_type: ClassVar[type[Any]] = FrozenLakeState
    way_out: ClassVar[str] = "; make both with the same size"

    @property
    def made_for(self) -> str:
        return f"maps of up to {self.layout.rows}×{self.layout.columns} tiles"

    @property
    def num_actions(self) -> int:
        return 4

    @property
    def action_names(self) -> tuple[str, ...]:
        return ("left", "down", "right", "up")

    @property
    def observation_space(self) -> spaces.Space:
        if self.observation == "index":
            return spaces.Discrete(self.layout.num_cells)
        shape = (self.layout.rows, self.layout.columns)
        return spaces.Box(0, NUM_CODES - 1, shape if self.observation == "grid" else (math.prod(shape),), np.uint8)

    def has_chance(self, tasks: TaskBank[FrozenLakeTask]) -> bool:
        """Whether a task has slippery ice or several starts."""
        before, _, behind = rules.possible(tasks.instances.slip)
        return bool(jnp.any(before | behind) | jnp.any(bb.count(tasks.instances.starts) > 1))

    def initial(self, word: jax.Array, task: FrozenLakeTask) -> FrozenLakeState:
        cell = rules.chosen_start(task.starts, word).astype(jnp.uint32)
        row, column = cell // self.layout.columns, cell % self.layout.columns
        return FrozenLakeState(row.astype(jnp.uint8), column.astype(jnp.uint8), jnp.uint16(0))

    def advance(
        self, state: FrozenLakeState, action: jax.Array, word: jax.Array, task: FrozenLakeTask
    ) -> tuple[FrozenLakeState, jax.Array]:
        direction = rules.slipped(action, word, task.slip)
        row, column = rules.moved(state.row, state.column, direction, task.rows, task.columns)
        moved = FrozenLakeState(row, column, state.steps)
        cell = self.cell(moved)
        reward = jnp.where(bb.contains(task.holes, cell), task.hole_reward, task.frozen_reward)
        return moved, jnp.where(bb.contains(task.goals, cell), task.goal_reward, reward)

    def terminated(self, state: FrozenLakeState, task: FrozenLakeTask) -> jax.Array:
        return bb.contains(bb.union(task.holes, task.goals), self.cell(state))

    def success(self, state: FrozenLakeState, task: FrozenLakeTask) -> jax.Array:
        return bb.contains(task.goals, self.cell(state))

    def cell(self, state: FrozenLakeState) -> jax.Array:
        """int32[]: the player's cell in the layout; what `planning` calls a state."""
        return state.row.astype(jnp.int32) * self.layout.columns + state.column

    def observe(self, state: FrozenLakeState, task: FrozenLakeTask) -> jax.Array:
        if self.observation == "index":
            return state.row.astype(jnp.int32) * task.columns + state.column
        codes = self._codes(state, task)
        return codes if self.observation == "grid" else codes.reshape(-1)

    def _codes(self, state: FrozenLakeState, task: FrozenLakeTask) -> jax.Array:
        """uint8[rows, columns]."""
        rows = np.arange(self.layout.rows, dtype=np.uint8)[:, None]
        columns = np.arange(self.layout.columns, dtype=np.uint8)
        holes, goals = self.cells(task.holes), self.cells(task.goals)
        tiles = jnp.where((rows < task.rows) & (columns < task.columns), FROZEN + holes + 2 * goals, OUTSIDE)
        player = (rows == state.row) & (columns == state.column)
        return (tiles + PLAYER * player).astype(jnp.uint8)

    def cells(self, board: Board) -> jax.Array:
        """uint8[rows, columns]: 1 where the board is set."""
        amounts = np.arange(32, dtype=np.uint32)
        bits = jnp.concatenate([(word >> amounts) & np.uint32(1) for word in board])
        return bits[: self.layout.num_cells].astype(jnp.uint8).reshape(self.layout.rows, self.layout.columns)

    def action_mask(self, state: FrozenLakeState, task: FrozenLakeTask) -> jax.Array:
        """bool[4]: the actions with an outcome of positive probability that moves the player."""
        open_to = jnp.stack(
            [state.column > 0, state.row < task.rows - 1, state.column < task.columns - 1, state.row > 0]
        )
        left, ahead, right = rules.possible(task.slip)
        effective = (jnp.roll(open_to, 1) & left) | (open_to & ahead) | (jnp.roll(open_to, -1) & right)
        return effective | jnp.logical_or(*self.status(state, task))

    def state_key(self, state: FrozenLakeState) -> jax.Array:
        return self.cell(state).astype(jnp.uint32)[None]

    def render_text(self, state: FrozenLakeState, task: FrozenLakeTask) -> str:
        return render.text(self.rows_of(task), int(state.row), int(state.column))

    def render_ansi(self, state: FrozenLakeState, task: FrozenLakeTask) -> str:
        return render.ansi(self.rows_of(task), int(state.row), int(state.column))

    def render_rgb(self, state: FrozenLakeState, task: FrozenLakeTask) -> np.ndarray:
        return render.rgb(self.rows_of(task), int(state.row), int(state.column))

    def rows_of(self, task: FrozenLakeTask) -> Rows:
        """The map of a (concrete) task as text."""
        lake = Lake(task.holes, task.goals, task.starts)
        return maps.to_rows(lake, self.layout, int(task.rows), int(task.columns))

    def map_tasks(self, lake_maps: Sequence[Rows], dynamics: Dynamics = Dynamics()) -> TaskBank[FrozenLakeTask]:
        """Tasks on given maps (as `maps.parse_maps` returns them), all played alike."""
        if not lake_maps:
            raise ValueError("lake_maps is empty; a TaskBank holds at least one task")
        lakes = [maps.to_lake(rows, self.layout) for rows in lake_maps]
        stacked = jax.tree.map(lambda *words: np.stack(words), *lakes)
        sizes = np.array([(len(rows), len(rows[0])) for rows in lake_maps], np.uint8)
        return _bank(stacked, sizes, dynamics, self.made_for)

    def random_tasks(
        self,
        key: jax.Array,
        num_maps: int,
        *,
        size: int | Sequence[int] | None = None,
        frozen_probability: float = 0.8,
        placement: Placement = "corners",
        dynamics: Dynamics = Dynamics(),
    ) -> TaskBank[FrozenLakeTask]:
        """Tasks on random solvable maps of `size` (the environment's by default); see `maps.random_lakes`."""
        inner = self.layout if size is None else maps.layout_of(size)
        lakes = maps.random_lakes(
            key,
            num_maps,
            layout=self.layout,
            size=(inner.rows, inner.columns),
            frozen_probability=frozen_probability,
            placement=placement,
        )
        sizes = np.tile(np.array([inner.rows, inner.columns], np.uint8), (num_maps, 1))
        return _bank(lakes, sizes, dynamics, self.made_for)


def _bank(lakes: Lake, sizes: np.ndarray, dynamics: Dynamics, made_for: str) -> TaskBank[FrozenLakeTask]:
    """Tasks from lakes (leading axis T) and their sizes, uint8[T, 2]."""
    slip = rules.thresholds(dynamics.success_rate if dynamics.is_slippery else 1.0)
    goal_reward, hole_reward, frozen_reward = (jnp.float32(reward) for reward in dynamics.reward_schedule)
    alike = lambda value: jnp.full(len(sizes), value)
    instances = FrozenLakeTask(
        holes=lakes.holes,
        goals=lakes.goals,
        starts=lakes.starts,
        rows=jnp.asarray(sizes[:, 0]),
        columns=jnp.asarray(sizes[:, 1]),
        slip_below=alike(slip.slip_below),
        slip_above=alike(slip.slip_above),
        goal_reward=alike(goal_reward),
        hole_reward=alike(hole_reward),
        frozen_reward=alike(frozen_reward),
        time_limit=alike(jnp.uint16(dynamics.time_limit)),
        made_for=made_for,
    )
    return make_bank(instances)


class Preset(NamedTuple):
    """The defaults of `make` that go with a name."""

    map: str | None  # a name of maps.MAPS; None: random maps
    size: int
    frozen_probability: float
    placement: Placement
    success_rate: float
    time_limit: int


PRESETS = {
    "4x4": Preset("4x4", 4, 0.8, "corners", 1 / 3, 100),
    "8x8": Preset("8x8", 8, 0.8, "corners", 1 / 3, 200),
    "random": Preset(None, 8, 0.8, "corners", 1 / 3, 200),
    "ragen_v1": Preset(None, 4, 0.8, "random", 1 / 3, 10),
    "ragen_v2": Preset(None, 4, 0.9, "random", 0.8, 10),
}
NUM_MAPS = 1_024


def make(
    *,
    seed: int = 0,
    preset: str = "4x4",
    map: str | Sequence[str] | None = None,
    size: int | Sequence[int] | None = None,
    frozen_probability: float | None = None,
    success_rate: float | None = None,
    is_slippery: bool = True,
    reward_schedule: Sequence[float] = (1.0, 0.0, 0.0),
    time_limit: int | None = None,
    num_maps: int | None = None,
    observation: ObservationName | None = None,
) -> tuple[FrozenLake, TaskBank[FrozenLakeTask]]:
    """FrozenLake and its tasks.

    Args:
      seed: determines the random maps.
      preset: one of `PRESETS`; what follows overrides it.
      map: the map or maps to play: a name of `maps.MAPS`, a text that `maps.parse_maps` reads, or the rows of one map.
      size: (rows, columns), or a square's side: of the random maps; of given maps, what smaller ones are padded to.
      frozen_probability: of each tile of a random map but start and goal.
      success_rate: the probability of going where the action says; the rest is split between the two sides.
      is_slippery: False: `success_rate` is 1; another one cannot be given with it.
      reward_schedule: for a step onto a goal, onto a hole, onto any other tile.
      time_limit: steps after which an episode is truncated.
      num_maps: how many random maps (default 1,024).
      observation: "index" (default for one map), "grid" (default for several) or "tokens".

    Returns:
      (env, tasks).

    Raises:
      TypeError, ValueError: naming the argument, its value and what is allowed.
    """
    seed = check_seed(seed)
    check_choice("preset", preset, PRESETS)
    check_choice("observation", observation, (*get_args(ObservationName), None))
    chosen = PRESETS[preset]
    dynamics = _dynamics(chosen, success_rate, is_slippery, reward_schedule, time_limit)
    source = chosen.map if map is None else map
    if source is None:
        env = FrozenLake(maps.layout_of(chosen.size if size is None else size), observation or "grid")
        return env, _random_maps(env, seed, chosen, num_maps, frozen_probability, dynamics)
    _check_for_given(frozen_probability=frozen_probability, num_maps=num_maps)
    given = _given_maps(source)
    sides = [max(len(rows) for rows in given), max(len(rows[0]) for rows in given)] if size is None else size
    env = FrozenLake(maps.layout_of(sides), observation or ("index" if len(given) == 1 else "grid"))
    return env, env.map_tasks(given, dynamics)


def _check_for_given(**arguments: Any) -> None:
    for name, value in arguments.items():
        if value is not None:
            raise ValueError(f"{name}={value} is for random maps; the map is given (use preset='random' without `map`)")


def _dynamics(
    chosen: Preset,
    success_rate: float | None,
    is_slippery: bool,
    reward_schedule: Any,
    time_limit: int | None,
) -> Dynamics:
    dynamics = Dynamics(
        chosen.success_rate if success_rate is None else success_rate,
        is_slippery,
        reward_schedule,
        chosen.time_limit if time_limit is None else time_limit,
    )
    if not is_slippery and success_rate is not None and success_rate < 1:
        raise ValueError(f"success_rate={success_rate} contradicts is_slippery=False, which makes it 1; leave one out")
    return dynamics


def _random_maps(
    env: FrozenLake,
    seed: int,
    chosen: Preset,
    num_maps: int | None,
    frozen_probability: float | None,
    dynamics: Dynamics,
) -> TaskBank[FrozenLakeTask]:
    return env.random_tasks(
        jax.random.key(seed),
        NUM_MAPS if num_maps is None else num_maps,
        frozen_probability=chosen.frozen_probability if frozen_probability is None else frozen_probability,
        placement=chosen.placement,
        dynamics=dynamics,
    )


def _given_maps(source: str | Sequence[str]) -> list[Rows]:
    if not isinstance(source, str):
        if not (isinstance(source, Sequence) and all(isinstance(row, str) for row in source)):
            raise TypeError(f"map={source!r} is neither a name, the text of a map nor a sequence of its rows")
        for row in source:
            if row.splitlines() not in ([], [row]):
                raise ValueError(
                    f"map holds {row!r}, which is more than a row: a sequence holds the rows of one map. Give several "
                    "maps as one text with blank lines between them, '\\n\\n'.join(maps)"
                )
        return maps.parse_maps("\n".join(source))
    if source in maps.MAPS:
        return [maps.MAPS[source]]
    if source.strip().isalnum() and not set(source.strip()) <= set("SFHG"):
        raise ValueError(f"map={source!r} is neither one of {', '.join(maps.MAPS)} nor the text of a map")
    return maps.parse_maps(source)
