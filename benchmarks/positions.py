"""What moves can do in small levels, exactly: dynamic programming over every position."""

from __future__ import annotations

import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs_jax.sokoban import rules
from envs_jax.sokoban.board import Layout
from envs_jax.sokoban.env import SokobanTask
from envs_jax.tasks import TaskBank

LEVELS_AT_ONCE = 100  # bounds the table of successors


class Solvability(NamedTuple):
    """How T levels are solved by moves, walking and pushes alike."""

    moves: np.ndarray  # int32[T]: the fewest; −1 where no moves solve the level
    by_chance: np.ndarray  # float32[T]: the probability that uniformly random actions solve it within the horizon


def solvability(tasks: TaskBank[SokobanTask], layout: Layout, num_boxes: int, horizon: int) -> Solvability:
    """Looks at every position of levels that all have `num_boxes` boxes, on a board of at most 16 interior cells.

    Args:
      tasks: the levels.
      layout: the size of their boards.
      num_boxes: boxes in each.
      horizon: actions of a random episode, which ends when the level is solved.
    """
    if layout.num_cells > 16:
        raise ValueError(f"layout={layout}: every position is looked at only on boards of at most 16 interior cells")
    cells = itertools.combinations(range(layout.num_cells), num_boxes)
    sets = np.array([sum(1 << cell for cell in chosen) for chosen in cells], np.uint32)
    number = np.zeros(1 << layout.num_cells, np.int32)
    number[sets] = np.arange(len(sets))
    starts = range(0, len(tasks), LEVELS_AT_ONCE)
    banks = [tasks[first : first + LEVELS_AT_ONCE] for first in starts]
    parts = [_solve(bank.instances, sets, number, layout, horizon) for bank in banks]
    return Solvability(*(np.concatenate(part) for part in zip(*parts, strict=True)))


@functools.partial(jax.jit, static_argnames=("layout", "horizon"))
def _solve(
    levels: SokobanTask, sets: jax.Array, number: jax.Array, layout: Layout, horizon: int
) -> tuple[jax.Array, jax.Array]:
    """`Solvability` of a few levels; position n is the box set n // cells with the player on cell n % cells."""
    after, solved = jax.vmap(functools.partial(_moves, layout, sets, number))(levels)
    ahead = lambda values: jnp.take_along_axis(values, after.reshape(len(after), -1), axis=1).reshape(after.shape)
    far = jnp.int32(2**30)

    def relax(carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        distance, _ = carry
        nearer = jnp.minimum(distance, 1 + ahead(distance).min(axis=2))
        return nearer, (nearer < distance).any()

    distance, _ = jax.lax.while_loop(lambda carry: carry[1], relax, (jnp.where(solved, 0, far), jnp.bool_(True)))
    step = lambda _, chance: jnp.where(solved, 1.0, ahead(chance).mean(axis=2))
    chance = jax.lax.fori_loop(0, horizon, step, solved.astype(jnp.float32))

    start = number[levels.boxes[0]] * layout.num_cells + levels.player.astype(jnp.int32)
    moves, by_chance = (jnp.take_along_axis(values, start[:, None], axis=1)[:, 0] for values in (distance, chance))
    return jnp.where(moves < far, moves, -1), by_chance


def _moves(layout: Layout, sets: jax.Array, number: jax.Array, level: SokobanTask) -> tuple[jax.Array, jax.Array]:
    """(int32[positions, 4], the position after each action; bool[positions], whether it is solved)."""
    player = jnp.arange(layout.num_cells, dtype=jnp.uint8)

    def after(boxes: jax.Array, player: jax.Array, action: jax.Array) -> jax.Array:
        move = rules.plan_move(layout, level.walls, (boxes,), player, action)
        (boxes,), player = rules.apply_move(layout, (boxes,), player, move)
        return number[boxes] * layout.num_cells + player

    by_action = jax.vmap(after, in_axes=(None, None, 0))
    by_player = jax.vmap(by_action, in_axes=(None, 0, None))
    table = jax.vmap(by_player, in_axes=(0, None, None))(sets, player, jnp.arange(4, dtype=jnp.int32))
    solved = jax.vmap(lambda boxes: rules.is_solved(level.targets, (boxes,)))(sets)
    return table.reshape(-1, 4), jnp.repeat(solved, layout.num_cells)
