"""Plans: from the pushes that a search found to every step of the player."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs_jax.sokoban import board as bb
from envs_jax.sokoban import pushes, rules
from envs_jax.sokoban.board import Board, Layout
from envs_jax.sokoban.types import SokobanTask
from jaxrl_agents.search.best_first.types import DIRECTION_SHIFT, NO_NODE

_MOVES_A_CALL = 64


class Pushes(NamedTuple):
    """The pushes of L plans, one after the other."""

    boxes: np.ndarray  # int32[L, most]: the cell of the box before each push
    directions: np.ndarray  # int32[L, most]: 0–3
    numbers: np.ndarray  # int32[L]: of how many pushes each plan consists


def trace(parents: np.ndarray, places: np.ndarray, goal_parents: np.ndarray, goal_places: np.ndarray) -> Pushes:
    """Follows the log from solved states back to the starts.

    Args:
      parents: uint32[log]: for each expanded state the log's index of the one before; NO_NODE for a start.
      places: uint32[log]: the push that led to it.
      goal_parents: uint32[L]; NO_NODE where the start is solved.
      goal_places: uint32[L]: the last pushes.
    """
    chain, node, place = [], goal_parents, goal_places
    while (node != NO_NODE).any():
        chain.append(np.where(node != NO_NODE, place, NO_NODE))
        index = np.where(node != NO_NODE, node, 0)
        place = places[index]
        node = np.where(node != NO_NODE, parents[index], NO_NODE)
    found = np.array(chain[::-1], np.uint32).reshape(len(chain), len(goal_parents)).T
    numbers = (found != NO_NODE).sum(axis=1)
    # Shorter plans end at the right: move each to the left.
    column = np.arange(found.shape[1]) + (found.shape[1] - numbers)[:, None]
    found = np.take_along_axis(found, np.minimum(column, max(found.shape[1] - 1, 0)), axis=1)
    boxes, directions = found & 0xFFFF, found >> DIRECTION_SHIFT & 3
    return Pushes(boxes.astype(np.int32), directions.astype(np.int32), numbers.astype(np.int32))


def stack(plans: list[np.ndarray]) -> Pushes:
    """Plans int32[pushes, 2] (cell, direction) as arrays."""
    numbers = np.array([len(plan) for plan in plans], np.int32)
    steps = np.zeros((len(plans), max(numbers.max(initial=0), 1), 2), np.int32)
    for row, plan in enumerate(plans):
        steps[row, : len(plan)] = plan
    return Pushes(steps[:, :, 0], steps[:, :, 1], numbers)


def walk(layout: Layout, tasks: SokobanTask, plan: Pushes) -> list[np.ndarray]:
    """Every move of L plans: between two pushes the player takes a shortest way.

    Returns:
      L arrays int32[moves] of actions 0–3.
    """
    padded = -(-max(plan.boxes.shape[1], 1) // 64) * 64  # few shapes, few compilations
    columns = ((0, 0), (0, padded - plan.boxes.shape[1]))
    stages = jnp.asarray(np.pad(plan.boxes, columns)), jnp.asarray(np.pad(plan.directions, columns))
    numbers = jnp.asarray(plan.numbers)
    position = (tasks.boxes, tasks.player.astype(jnp.int32), jnp.zeros(len(numbers), jnp.int32))
    moves = []
    while not moves or (moves[-1][-1] >= 0).any():
        position, some = _walk_some(layout, tasks.walls, stages, numbers, position)
        moves.append(np.asarray(some))
    together = np.concatenate(moves).T
    return [row[:length] for row, length in zip(together, (together >= 0).sum(axis=1), strict=True)]


Position = tuple[Board, jax.Array, jax.Array]  # boxes, player, pushes done; a lane each


@partial(jax.jit, static_argnums=0)
def _walk_some(
    layout: Layout, walls: Board, stages: tuple[jax.Array, jax.Array], numbers: jax.Array, position: Position
) -> tuple[Position, jax.Array]:
    """The next moves of all plans: (position, int32[_MOVES_A_CALL, L]), −1 after the end of a plan."""
    lanes = jnp.arange(numbers.shape[0])

    def move(position: Position, _: None) -> tuple[Position, jax.Array]:
        boxes, player, done = position
        stage = jnp.minimum(done, stages[0].shape[1] - 1)
        box, direction = stages[0][lanes, stage], stages[1][lanes, stage]
        stand = box - _delta(layout, direction)
        walking, pushing = (done < numbers) & (player != stand), (done < numbers) & (player == stand)
        action = jnp.where(pushing, direction, _step_towards(layout, bb.union(walls, boxes), player, stand, walking))
        pushed, _ = pushes.apply_push(layout, boxes, box, direction)
        after = jnp.where(walking | pushing, player + _delta(layout, action), player)
        return (bb.where(pushing, pushed, boxes), after, done + pushing), jnp.where(walking | pushing, action, -1)

    return jax.lax.scan(move, position, length=_MOVES_A_CALL)


def _step_towards(layout: Layout, blocked: Board, player: jax.Array, goal: jax.Array, walking: jax.Array) -> jax.Array:
    """int32: the first move of a shortest way from `player` to `goal`, where there is one (lanes `walking`)."""
    free = bb.complement(layout, blocked)
    # Cells from which one move leads next to the goal, then two, …, until the player's neighbour is among them.
    neighbours = lambda cells: bb.union(*(bb.shift(layout, cells, direction) for direction in bb.DIRECTIONS))
    here = bb.singleton(layout, player)
    beside = neighbours(here)

    def grow(near: Board) -> Board:
        found = ~bb.is_empty(bb.intersection(near, beside)) | ~walking
        return bb.where(found, near, bb.union(near, bb.intersection(neighbours(near), free)))

    missing = lambda near: jnp.any(walking & bb.is_empty(bb.intersection(near, beside)))
    near = jax.lax.while_loop(missing, grow, bb.singleton(layout, goal))
    action = jnp.zeros_like(player)
    for direction in reversed(bb.DIRECTIONS):
        leads = ~bb.is_empty(bb.intersection(bb.shift(layout, here, direction), near))
        action = jnp.where(leads, direction, action)
    return action


def _delta(layout: Layout, direction: jax.Array) -> jax.Array:
    return jnp.where(direction < 2, layout.columns, 1) * jnp.where(direction & 1 == 1, 1, -1)


def check(layout: Layout, tasks: SokobanTask, moves: list[np.ndarray], numbers: np.ndarray) -> None:
    """Replays L plans with the environment's rules.

    Raises:
      RuntimeError: a plan has a blocked move, another number of pushes than `numbers` says, or does not solve.
    """
    most = max((len(plan) for plan in moves), default=0)
    padded = np.full((-(-max(most, 1) // _MOVES_A_CALL) * _MOVES_A_CALL, len(moves)), -1, np.int32)
    for i, plan in enumerate(moves):
        padded[: len(plan), i] = plan
    legal, pushed, solved = (np.asarray(x) for x in _replay(layout, tasks, jnp.asarray(padded)))
    wrong = (legal != [len(plan) for plan in moves]) | (pushed != numbers) | ~solved
    if wrong.any():
        raise RuntimeError(f"the plan of level {int(wrong.argmax())} does not replay to a solution; this is a bug")


@partial(jax.jit, static_argnums=0)
def _replay(layout: Layout, tasks: SokobanTask, actions: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(legal moves, pushes, solved at the end) of each level's plan; actions int32[moves, L]."""
    plan = jax.vmap(partial(rules.plan_move, layout))
    apply = jax.vmap(partial(rules.apply_move, layout))

    def step(carry: tuple, action: jax.Array) -> tuple[tuple, None]:
        boxes, player, legal, pushed = carry
        move = plan(tasks.walls, boxes, player, action)
        boxes, player = apply(boxes, player, move)
        return (boxes, player, legal + move.legal, pushed + move.pushes), None

    zeros = jnp.zeros(actions.shape[1], jnp.int32)
    (boxes, _, legal, pushed), _ = jax.lax.scan(step, (tasks.boxes, tasks.player, zeros, zeros), actions)
    return legal, pushed, rules.is_solved(tasks.targets, boxes)
