"""Sokoban as an environment: rules, observations and task banks behind the common interface."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from envs_jax import spaces
from envs_jax.arguments import as_integer, check_bool, check_choice, check_integer, check_seed
from envs_jax.bitboard import Board
from envs_jax.environment import Environment
from envs_jax.pytree import pytree_dataclass, static_field
from envs_jax.sokoban import deadlocks, generator, grid, render, rules
from envs_jax.sokoban import levels as level_files
from envs_jax.sokoban.board import Layout
from envs_jax.sokoban.checks import check_layout
from envs_jax.sokoban.types import SokobanState, SokobanTask
from envs_jax.tasks import Task, TaskBank

Reward = Literal["dense", "sparse"]
ObservationKind = Literal["grid", "planes", "tokens"]
Path = str | os.PathLike[str]


@pytree_dataclass
class Sokoban(Environment[SokobanState, SokobanTask]):
    """Sokoban on boards of one size; levels of any smaller size and any number of boxes share a batch.

    Actions 0–3 move up, down, left, right; a move pushes the box that stands ahead, and a blocked move has no effect.
    An episode terminates when all targets are covered (and, with `deadlock_termination`, when a sound test shows that
    this has become impossible).
    """

    layout: Layout = static_field()
    reward: Reward = static_field(default="dense")
    observation: ObservationKind = static_field(default="grid")
    deadlock_termination: bool = static_field(default=False)

    task_type: ClassVar[type[Task]] = SokobanTask
    state_type: ClassVar[type[Any]] = SokobanState
    way_out: ClassVar[str] = "; play it in an environment of that size, or fit the tasks with envs_jax.sokoban.fit"

    def __post_init__(self) -> None:
        check_layout("layout", self.layout)
        check_choice("reward", self.reward, get_args(Reward))
        check_choice("observation", self.observation, get_args(ObservationKind))
        check_bool("deadlock_termination", self.deadlock_termination)

    @property
    def num_actions(self) -> int:
        return 4

    @property
    def action_names(self) -> tuple[str, ...]:
        return ("up", "down", "left", "right")

    @property
    def observation_space(self) -> spaces.Space:
        """`grid`: uint8[H, W], `Code`s; `planes`: uint8[H, W, 4], 0 or 1; `tokens`: uint8[H · W], codes row by row."""
        if self.observation == "planes":
            return spaces.Box(0, 1, (*self.layout.size, len(grid.PLANES)), np.uint8)
        shape = self.layout.size if self.observation == "grid" else (self.layout.height * self.layout.width,)
        return spaces.Box(0, len(grid.Code) - 1, shape, np.uint8)

    def has_chance(self, tasks: TaskBank[SokobanTask]) -> bool:
        del tasks
        return False

    def initial(self, word: jax.Array, task: SokobanTask) -> SokobanState:
        del word
        return SokobanState(task.boxes, task.player, jnp.uint16(0))

    def advance(
        self, state: SokobanState, action: jax.Array, word: jax.Array, task: SokobanTask
    ) -> tuple[SokobanState, jax.Array]:
        del word
        move = rules.plan_move(self.layout, task.walls, state.boxes, state.player, action)
        boxes, player = rules.apply_move(self.layout, state.boxes, state.player, move)
        solved = rules.is_solved(task.targets, boxes)
        if self.reward == "sparse":
            reward = jnp.where(solved, jnp.float32(rules.SOLVED_REWARD), 0)
        else:
            reward = rules.dense_reward(task.targets, move, solved)
        return SokobanState(boxes, player, state.steps), reward

    def terminated(self, state: SokobanState, task: SokobanTask) -> jax.Array:
        solved = rules.is_solved(task.targets, state.boxes)
        if not self.deadlock_termination:
            return solved
        return solved | deadlocks.is_deadlock(self.layout, task.walls, task.targets, state.boxes, task.dead)

    def success(self, state: SokobanState, task: SokobanTask) -> jax.Array:
        return rules.is_solved(task.targets, state.boxes)

    def observe(self, state: SokobanState, task: SokobanTask) -> jax.Array:
        view = grid.planes if self.observation == "planes" else grid.codes
        cells = view(self.layout, task.walls, task.targets, state.boxes, state.player)
        return cells.reshape(-1) if self.observation == "tokens" else cells

    def action_mask(self, state: SokobanState, task: SokobanTask) -> jax.Array:
        plan = lambda action: rules.plan_move(self.layout, task.walls, state.boxes, state.player, jnp.int32(action))
        legal = jnp.stack([plan(action).legal for action in range(4)])
        return legal | jnp.logical_or(*self.status(state, task))

    def state_key(self, state: SokobanState) -> jax.Array:
        """uint32[num_words + 1]: the words of the boxes and the player's cell."""
        return jnp.stack([*state.boxes, state.player.astype(jnp.uint32)])

    def render_text(self, state: SokobanState, task: SokobanTask) -> str:
        """The position in XSB glyphs, `height` lines; `envs_jax.sokoban.render.text` has other styles."""
        return render.text(self._codes(state, task))

    def render_ansi(self, state: SokobanState, task: SokobanTask) -> str:
        """The position as coloured symbols, two columns a cell."""
        return render.text(self._codes(state, task), "ansi")

    def render_rgb(self, state: SokobanState, task: SokobanTask) -> np.ndarray:
        """uint8[32 · height, 32 · width, 3]; `envs_jax.sokoban.render.rgb` takes a tile size."""
        return render.rgb(self._codes(state, task))

    def _codes(self, state: SokobanState, task: SokobanTask) -> np.ndarray:
        return np.asarray(_grid_codes(self.layout, task.walls, task.targets, state.boxes, state.player))

    @property
    def made_for(self) -> str:
        return self.layout.name

    def check_task(self, task: Any) -> None:
        super().check_task(task)
        self._check_words("task", "walls", task.walls)
        if self.deadlock_termination and not task.dead:
            raise ValueError(
                "deadlock_termination needs tasks with their dead squares; envs_jax.sokoban.deadlocks.with_dead_squares"
                "(env.layout, tasks) adds them to a bank"
            )

    def check_state(self, state: Any) -> None:
        super().check_state(state)
        self._check_words("state", "boxes", state.boxes)

    def _check_words(self, name: str, field: str, board: Board) -> None:
        if len(board) != self.layout.num_words:
            raise ValueError(
                f"{name} is of another board size: {name}.{field} has {len(board)} words, boards of "
                f"size={self.layout.size} have {self.layout.num_words}{self.way_out}"
            )


_grid_codes = jax.jit(grid.codes, static_argnums=0)


class Preset(NamedTuple):
    """The defaults of `make` that go with a name."""

    size: tuple[int, int]
    num_boxes: int
    time_limit: int = 120  # gym-sokoban's
    ragen: bool = False  # rooms as RAGEN generates them, in place of the package's own levels
    search_depth: int = 300  # of RAGEN's generator


PRESETS = {
    "standard": Preset((10, 10), 4),
    "small": Preset((8, 8), 2),
    "large": Preset((17, 20), 6),
    "ragen": Preset((6, 6), 1, time_limit=10, ragen=True),  # a trajectory of RAGEN's holds 10 actions
    "ragen_2box": Preset((6, 6), 2, time_limit=10, ragen=True, search_depth=100),
}
NUM_LEVELS = 1024


def make(
    *,
    seed: int = 0,
    preset: str = "standard",
    size: int | tuple[int, int] | None = None,
    num_boxes: int | None = None,
    num_levels: int | None = None,
    difficulty: Any = None,
    search_depth: int | None = None,
    levels: Path | Sequence[Path] | None = None,
    time_limit: int | None = None,
    reward: Reward = "dense",
    observation: ObservationKind = "grid",
    deadlock_termination: bool = False,
) -> tuple[Sokoban, TaskBank[SokobanTask]]:
    """Makes Sokoban and a bank of levels, generated on the device or read from files.

    Args:
      seed: determines the generated levels.
      preset: one of `PRESETS`; what follows overrides it.
      size: (height, width) of the board, wall ring included, or one number for a square board.
      num_boxes: boxes of each generated level.
      num_levels: how many levels to generate, 1,024 by default.
      difficulty: of the package's own levels, see `envs_jax.sokoban.generator.generate`.
      search_depth: of RAGEN's rooms, see `envs_jax.sokoban.generator.generate_ragen`.
      levels: files in Boxoban or XSB text, or folders of them, to read in place of generating levels.
      time_limit: steps after which an episode is truncated.
      reward: "dense" for gym-sokoban's rewards, "sparse" for 10 when solved and 0 otherwise.
      observation: "grid", "planes" or "tokens", see `Sokoban.observation_space`.
      deadlock_termination: end an episode, without success, as soon as `deadlocks.is_deadlock` holds.

    Returns:
      (env, tasks).

    Raises:
      TypeError, ValueError: naming the argument, its value and what is allowed.
    """
    check_choice("preset", preset, PRESETS)
    chosen, seed = PRESETS[preset], check_seed(seed)
    layout = _checked_layout(chosen.size if size is None else size)
    limit = check_integer("time_limit", chosen.time_limit if time_limit is None else time_limit, 1, 65_535)
    env = Sokoban(layout, reward, observation, deadlock_termination)
    generation = {"num_boxes": num_boxes, "num_levels": num_levels, "difficulty": difficulty}
    generation["search_depth"] = search_depth
    if levels is None:
        tasks = _generated(seed, layout, preset, limit, **generation)
    else:
        _check_for_files(levels, preset, **generation)
        tasks = level_files.load(levels, layout, time_limit=limit)
    return env, (deadlocks.with_dead_squares(layout, tasks) if env.deadlock_termination else tasks)


def _generated(
    seed: int,
    layout: Layout,
    preset: str,
    time_limit: int,
    *,
    num_boxes: int | None,
    num_levels: int | None,
    difficulty: Any,
    search_depth: int | None,
) -> TaskBank[SokobanTask]:
    chosen = PRESETS[preset]
    num_levels = NUM_LEVELS if num_levels is None else check_integer("num_levels", num_levels, 1, 2**31 - 1)
    num_boxes = chosen.num_boxes if num_boxes is None else num_boxes
    most = (layout.num_cells - 1) // 2  # a cell for each box, one for each target, one for the player
    if most < 1:
        raise ValueError(f"size={layout.size} is too small: a level needs 3 cells inside the walls, or more")
    if not 1 <= as_integer("num_boxes", num_boxes) <= most:
        raise ValueError(
            f"num_boxes={num_boxes}; inside the walls of size={layout.size} there is room for "
            f"1 … {most} boxes, as many targets and the player"
        )
    level: dict[str, Any] = {"layout": layout, "num_boxes": num_boxes, "time_limit": time_limit}
    key = jax.random.key(seed)
    if chosen.ragen:
        _check_unused("preset", preset, difficulty=difficulty)
        depth = chosen.search_depth if search_depth is None else search_depth
        return generator.generate_ragen(key, num_levels, search_depth=depth, **level)
    _check_unused("preset", preset, search_depth=search_depth)
    if difficulty is not None:
        level["difficulty"] = difficulty
    return generator.generate(key, num_levels, **level)


def _checked_layout(size: int | tuple[int, int]) -> Layout:
    if np.shape(size) not in ((), (2,)):
        raise ValueError(f"size={size!r} is neither (height, width) nor one number")
    height, width = np.broadcast_to(np.asarray(size), (2,)).tolist()
    return Layout(as_integer("size", height), as_integer("size", width))


def _check_for_files(levels: Any, preset: str, **generation: Any) -> None:
    if PRESETS[preset].ragen:
        raise ValueError(
            f"Sokoban-RAGEN-v0 and Sokoban-RAGEN-2box-v0 (preset={preset!r} of Sokoban) play generated rooms and "
            f"cannot be combined with levels={levels!r}; use Sokoban-v0 with levels="
        )
    _check_unused("levels", levels, **generation)


def _check_unused(cause: str, given: Any, **arguments: Any) -> None:
    for name, value in arguments.items():
        if value is not None:
            raise ValueError(
                f"{name}={value!r} says how to generate levels; it cannot be combined with {cause}={given!r}"
            )
