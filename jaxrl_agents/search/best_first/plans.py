"""Plans: from the pushes that a search found to every step of the player, replayed by the environment's rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs_jax import bitboard as bb
from envs_jax.bitboard import Board
from envs_jax.sokoban import pushes, rules
from envs_jax.sokoban.board import Layout
from jaxrl_agents.search.best_first.programs import Compilation, in_background
from jaxrl_agents.search.best_first.types import DIRECTION_SHIFT, NO_NODE, Starts

_WORDS_TOGETHER = 1 << 15  # of the boards of the plans that are walked together
END = -1  # the action after the last one of a plan


def trace(
    parents: np.ndarray, places: np.ndarray, goal_parents: np.ndarray, goal_places: np.ndarray
) -> list[np.ndarray]:
    """Follows the log from solved states back to the starts.

    Args:
      parents: uint32[log]: for each expanded state the log's index of the one before; NO_NODE for a start.
      places: uint32[log]: the push that led to it.
      goal_parents: uint32[L]; NO_NODE where the start is solved.
      goal_places: uint32[L]: the last pushes.

    Returns:
      L arrays int32[pushes, 2]: the cell of the box before each push, and the direction.
    """
    chain, node, place = [], goal_parents, goal_places
    while (node != NO_NODE).any():
        chain.append(np.where(node != NO_NODE, place, NO_NODE))
        index = np.where(node != NO_NODE, node, 0)
        place = places[index]
        node = np.where(node != NO_NODE, parents[index], NO_NODE)
    found = np.array(chain[::-1], np.uint32).reshape(len(chain), len(goal_parents)).T
    steps = np.stack([found & 0xFFFF, found >> DIRECTION_SHIFT & 3], axis=2).astype(np.int32)
    numbers = (found != NO_NODE).sum(axis=1)
    return [row[len(row) - number :] for row, number in zip(steps, numbers, strict=True)]


class Sizes(NamedTuple):
    """What shapes the programs that walk plans."""

    num_plans: int  # together
    most_pushes: int


def sizes_of(layout: Layout, plans: Sequence[np.ndarray]) -> Sizes:
    """The sizes to walk some plans with, a part of them at a time where they are many; powers of two."""
    number, longest = len(plans), max(len(plan) for plan in plans)
    together = 1 << ((_WORDS_TOGETHER // layout.num_words).bit_length() - 1)
    return Sizes(min(max(_power_of_two(number), 16), together), max(_power_of_two(longest), 64))


def _power_of_two(number: int) -> int:
    """The number rounded up to a power of two: few sizes, few compilations."""
    return 1 << (number - 1).bit_length()


def _moves_a_call(layout: Layout) -> int:
    """Moves of all plans that a call makes: fewer on large boards, on which a walk takes longer to find."""
    return 8 if layout.is_stacked else 64


@lru_cache(maxsize=16)
def compile_programs(layout: Layout, sizes: Sizes) -> tuple[Compilation, Compilation]:
    """The programs (walk, replay) that make, and check, the next moves of `num_plans` plans."""
    num_plans, most_pushes = sizes
    of = lambda dtype, *shape: jax.ShapeDtypeStruct(shape, dtype)
    board = bb.from_words(layout, partial(of, np.uint32, num_plans))
    number, player = of(np.int32, num_plans), of(layout.cell_dtype, num_plans)
    steps = of(np.int32, num_plans, most_pushes, 2)
    actions = of(np.int32, _moves_a_call(layout), num_plans)
    walk = jax.jit(partial(_walk_some, layout)).lower(board, steps, number, (board, player, number))
    replay = jax.jit(partial(_replay_some, layout)).lower(board, board, (board, player, number, number), actions)
    return in_background(walk), in_background(replay)


def walk(
    starts: Starts, plans: Sequence[np.ndarray], sizes: Sizes, programs: Sequence[Callable[..., Any]]
) -> tuple[np.ndarray, np.ndarray]:
    """Every move of L plans: between two pushes the player takes a shortest way. Each is replayed.

    Args:
      starts: L levels, NumPy arrays.
      plans: L arrays int32[pushes, 2] as `trace` gives them.
      sizes: not exceeded by these plans.
      programs: (walk, replay) compiled for these sizes.

    Returns:
      (actions int32[L, moves], END after the last one; bool[L, moves]: which are pushes).

    Raises:
      RuntimeError: a plan has a blocked move, another number of pushes, or does not solve its level.
    """
    size, most = sizes
    walk_some, replay_some = programs
    numbers = np.zeros(size, np.int32)
    numbers[: len(plans)] = [len(plan) for plan in plans]
    steps = np.zeros((size, most, 2), np.int32)
    for row, plan in enumerate(plans):
        steps[row, : len(plan)] = plan
    fill = lambda leaf: np.concatenate([leaf, np.repeat(leaf[:1], size - len(plans), axis=0)])
    walls, targets, boxes, player = jax.tree.map(fill, (starts.walls, starts.targets, starts.boxes, starts.player))

    zeros = np.zeros(size, np.int32)
    position: Any = (boxes, player, zeros)
    outcome: Any = (boxes, player, zeros, zeros)
    actions, is_push = [np.zeros((0, size), np.int32)], [np.zeros((0, size), bool)]
    while len(actions) == 1 or (np.asarray(position[2]) < numbers).any():
        position, some = walk_some(walls, steps, numbers, position)
        outcome, pushed, solved = replay_some(walls, targets, outcome, some)
        actions.append(np.asarray(some))
        is_push.append(np.asarray(pushed))
    moves, flags = (np.concatenate(parts).T[: len(plans)] for parts in (actions, is_push))
    legal, pushed, solved = (np.asarray(each)[: len(plans)] for each in (*outcome[2:], solved))
    wrong = (legal != (moves != END).sum(axis=1)) | (pushed != numbers[: len(plans)]) | ~solved
    if wrong.any():
        raise RuntimeError(f"plan {int(wrong.argmax())} does not replay to a solution; this is a bug of the solver")
    return moves, flags


Position = tuple[Board, jax.Array, jax.Array]  # boxes, player, pushes done; a lane each
Outcome = tuple[Board, jax.Array, jax.Array, jax.Array]  # boxes, player, legal moves, pushes; a lane each


def _walk_some(
    layout: Layout, walls: Board, steps: jax.Array, numbers: jax.Array, position: Position
) -> tuple[Position, jax.Array]:
    """(position, int32[moves, L]): the next moves of all plans."""
    lanes = jnp.arange(numbers.shape[0])

    def move(position: Position, _: None) -> tuple[Position, jax.Array]:
        boxes, player, done = position
        at = player.astype(jnp.int32)
        step = steps[lanes, jnp.minimum(done, steps.shape[1] - 1)]
        box, direction = step[:, 0], step[:, 1]
        stand = box - pushes.step_of(layout, direction)
        walking, pushing = (done < numbers) & (at != stand), (done < numbers) & (at == stand)
        towards = _step_towards(layout, bb.union(walls, boxes), at, stand, walking)
        action = jnp.where(pushing, direction, jnp.where(walking, towards, END))
        pushed = pushes.apply_push(layout, boxes, box, direction)[0]
        after = jnp.where(action == END, at, at + pushes.step_of(layout, action)).astype(player.dtype)
        return (bb.where(pushing, pushed, boxes), after, done + pushing), action

    return jax.lax.scan(move, position, length=_moves_a_call(layout))


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


def _replay_some(
    layout: Layout, walls: Board, targets: Board, outcome: Outcome, actions: jax.Array
) -> tuple[Outcome, jax.Array, jax.Array]:
    """(outcome, bool[moves, L]: pushes, bool[L]: solved) of moves int32[moves, L], by the rules of the environment."""
    plan = jax.vmap(partial(rules.plan_move, layout))
    apply = jax.vmap(partial(rules.apply_move, layout))

    def step(outcome: Outcome, action: jax.Array) -> tuple[Outcome, jax.Array]:
        boxes, player, legal, pushed = outcome
        move = plan(walls, boxes, player, action)
        boxes, player = apply(boxes, player, move)
        return (boxes, player, legal + move.legal, pushed + move.pushes), move.pushes

    outcome, is_push = jax.lax.scan(step, outcome, actions)
    return outcome, is_push, rules.is_solved(targets, outcome[0])
