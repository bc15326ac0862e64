"""Exact planning on FrozenLake: the transition tensor, value iteration, and the value of a given policy.

A state is a cell of the environment's layout, row × columns + column, which for maps of the layout's size is
Gymnasium's state. All functions are pure and take one task; `jax.vmap` over tasks gives a batch, and `jax.jit` may be
put around it. The task's time limit plays no part: the horizon is an argument.

Values are the optimal (or the policy's) expected sums of rewards, discounted if asked. They are exact up to float32.
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs_jax.arguments import check_integer, check_number
from envs_jax.frozen_lake import rules
from envs_jax.frozen_lake.env import FrozenLake, FrozenLakeTask
from envs_jax.pytree import pytree_dataclass

NUM_ACTIONS = 4


class TransitionTensor(NamedTuple):
    """A task as a Markov decision process of S cells and A = 4 actions."""

    probability: jax.Array  # float32[S, A, S]: P[s, a, s']; each [s, a] sums to 1
    reward: jax.Array  # float32[S, A, S]: R[s, a, s'], for each outcome on its own; 0 where it cannot happen
    terminal: jax.Array  # bool[S]: holes and goals, which are absorbing with reward 0; so are cells outside the map
    start: jax.Array  # float32[S]: the distribution of the first state


@pytree_dataclass
class FiniteHorizon:
    """Planning for H steps; row t is after t steps."""

    values: jax.Array  # float32[H + 1, S]: the expected sum of the rewards to come
    policy: jax.Array  # int32[H, S]: the best action; the lowest of equally good ones


@pytree_dataclass
class InfiniteHorizon:
    """Planning without an end."""

    values: jax.Array  # float32[S]: the expected discounted sum of the rewards to come
    policy: jax.Array  # int32[S]: the best action before a future under the policy evaluated, or the optimal one
    residual: jax.Array  # float32[]: the largest change of a value in the last sweep
    iterations: jax.Array  # int32[]: sweeps done


def transition_tensor(env: FrozenLake, task: FrozenLakeTask) -> TransitionTensor:
    """The decision process of `task`: Gymnasium's `env.P` as arrays."""
    env.check_single(task)
    model = _Model.of(env, task)
    num_cells = env.layout.num_cells
    # Outcome k of action a goes in direction a + k - 1.
    direction = (np.arange(NUM_ACTIONS)[:, None] + np.arange(3) - 1) % 4
    target = model.target[direction].transpose(2, 0, 1)  # [S, A, outcome]
    target = jnp.where(model.terminal[:, None, None], np.arange(num_cells)[:, None, None], target)
    state, action = np.arange(num_cells)[:, None, None], np.arange(NUM_ACTIONS)[:, None]
    zeros = jnp.zeros((num_cells, NUM_ACTIONS, num_cells))
    probability = zeros.at[state, action, target].add(model.probabilities)
    reward = jnp.where((probability > 0) & ~model.terminal[:, None, None], model.reward, 0)
    starts = env.cells(task.starts).reshape(-1).astype(jnp.float32)
    return TransitionTensor(probability, reward, model.terminal, starts / jnp.sum(starts))


def finite_horizon(
    env: FrozenLake, task: FrozenLakeTask, horizon: int, policy: jax.Array | None = None
) -> FiniteHorizon:
    """Value iteration backwards in time.

    Args:
      env: the environment.
      task: one task.
      horizon: H ≥ 1, the number of steps.
      policy: what to evaluate: float32[S, 4] or [H, S, 4], the probabilities of the actions by state (and time), or
        integers [S] or [H, S], the actions. None: the optimum over all time-dependent policies.

    Returns:
      The values, and the actions that are best before a future under `policy` (None: the optimal policy).
    """
    env.check_single(task)
    horizon = check_integer("horizon", horizon, 1, 2**31 - 1)
    weights = None if policy is None else _weights(env, policy, horizon)
    return _finite(env, task, horizon, weights)


def infinite_horizon(
    env: FrozenLake,
    task: FrozenLakeTask,
    discount: float = 1.0,
    policy: jax.Array | None = None,
    *,
    tolerance: float = 1e-6,
    max_iterations: int = 10_000,
) -> InfiniteHorizon:
    """Value iteration until no value changes by more than `tolerance` in a sweep.

    With discount 1 several actions may promise the same value though only some ever collect it. The policy therefore
    holds, for each state, the best action of the last sweep in which the value of the best action changed; as values
    start from 0, that is one which collects it.

    Args:
      env: the environment.
      task: one task.
      discount: in (0, 1]. With 1 the values are finite where every policy ends or pays nothing meanwhile, as under
        the default rewards.
      policy: as in `finite_horizon`, stationary; None: the optimum.
      tolerance: > 0. With discount γ < 1, values are within tolerance · γ / (1 - γ) of the true ones.
      max_iterations: where to stop though it has not converged; the `residual` then exceeds the tolerance.
    """
    env.check_single(task)
    if check_number("discount", discount, 0, 1) == 0:
        raise ValueError(f"discount={discount} is not in (0, 1]")
    if check_number("tolerance", tolerance, 0, math.inf) == 0:
        raise ValueError(f"tolerance={tolerance}; it must be > 0")
    max_iterations = check_integer("max_iterations", max_iterations, 1, 2**31 - 1)
    weights = None if policy is None else _weights(env, policy, None)
    return _infinite(env, task, jnp.float32(discount), weights, jnp.float32(tolerance), jnp.int32(max_iterations))


def start_value(env: FrozenLake, task: FrozenLakeTask, values: jax.Array) -> jax.Array:
    """float32[]: the mean of `values` (float32[S]) over the starts, what an episode returns in expectation."""
    env.check_single(task)
    if np.shape(values) != (env.layout.num_cells,):
        raise ValueError(f"values has shape {np.shape(values)}; expected ({env.layout.num_cells},), one for each cell")
    starts = env.cells(task.starts).reshape(-1).astype(jnp.float32)
    return jnp.dot(values, starts) / jnp.sum(starts)


def optimal_return(env: FrozenLake, task: FrozenLakeTask, horizon: int) -> jax.Array:
    """float32[]: the expected return of the best policy in episodes of `horizon` steps; the ceiling of any result."""
    return start_value(env, task, finite_horizon(env, task, horizon).values[0])


class _Model(NamedTuple):
    """A task as a sweep over its cells needs it."""

    probabilities: jax.Array  # float32[3]: of the directions a - 1, a, a + 1
    target: jax.Array  # int32[direction, S]: the cell that a step leads to
    reward: jax.Array  # float32[S]: for a step that ends on the cell
    terminal: jax.Array  # bool[S]: hole, goal or outside the map

    @staticmethod
    def of(env: FrozenLake, task: FrozenLakeTask) -> _Model:
        holes, goals = env.cells(task.holes).reshape(-1) == 1, env.cells(task.goals).reshape(-1) == 1
        reward = jnp.where(goals, task.goal_reward, jnp.where(holes, task.hole_reward, task.frozen_reward))
        row, column = jnp.indices((env.layout.rows, env.layout.columns), jnp.uint8).reshape(2, -1)
        outside = (row >= task.rows) | (column >= task.columns)
        direction = jnp.arange(NUM_ACTIONS)[:, None]
        rows, columns = rules.moved(row, column, direction, task.rows, task.columns)
        target = rows.astype(jnp.int32) * env.layout.columns + columns
        return _Model(rules.probabilities(task.slip), target, reward, holes | goals | outside)

    def action_values(self, values: jax.Array, discount: jax.Array) -> jax.Array:
        """float32[4, S]: the values of the actions, from those of the states after them, float32[S]."""
        gain = (self.reward + discount * jnp.where(self.terminal, 0, values))[self.target]  # [direction, S]
        before, ahead, behind = self.probabilities
        expected = before * jnp.roll(gain, 1, axis=0) + ahead * gain + behind * jnp.roll(gain, -1, axis=0)
        return jnp.where(self.terminal, 0, expected)


def _weights(env: FrozenLake, policy: jax.Array, horizon: int | None) -> jax.Array:
    """A policy as float32[S, 4], or float32[H, S, 4] where `horizon` is given."""
    policy = jnp.asarray(policy)
    num_cells = env.layout.num_cells
    if jnp.issubdtype(policy.dtype, jnp.integer):
        policy = jax.nn.one_hot(policy, NUM_ACTIONS)
    shapes = [(num_cells, NUM_ACTIONS)] + ([] if horizon is None else [(horizon, num_cells, NUM_ACTIONS)])
    if policy.shape not in shapes:
        raise ValueError(
            f"policy gives actions or probabilities of shape {list(policy.shape)}; expected "
            f"{' or '.join(str(list(shape)) for shape in shapes)} (integer policies without the last axis)"
        )
    _check_distributions(policy)
    return policy if horizon is None else jnp.broadcast_to(policy, shapes[-1])


def _check_distributions(policy: jax.Array) -> None:
    """Refuses a (concrete) policy that is not one of probabilities; an action outside 0 … 3 left a row without any."""
    if isinstance(policy, jax.core.Tracer):
        return
    rows = np.asarray(policy, np.float64)
    if not (rows >= 0).all() or not np.allclose(rows.sum(axis=-1), 1, atol=1e-4):
        raise ValueError("policy must give an action in 0 … 3 for each cell, or probabilities ≥ 0 that sum to 1")


def _under(weights: jax.Array | None, action_values: jax.Array) -> jax.Array:
    """float32[S]: the values of states from those of actions [4, S], under a policy [S, 4] or the best one."""
    if weights is None:
        return jnp.max(action_values, axis=0)
    return jnp.sum(weights.T * action_values, axis=0)


@partial(jax.jit, static_argnames="horizon")
def _finite(env: FrozenLake, task: FrozenLakeTask, horizon: int, weights: jax.Array | None) -> FiniteHorizon:
    model = _Model.of(env, task)

    def step(values: jax.Array, weights: jax.Array | None) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        action_values = model.action_values(values, jnp.float32(1))
        values = _under(weights, action_values)
        return values, (values, jnp.argmax(action_values, axis=0).astype(jnp.int32))

    last = jnp.zeros(env.layout.num_cells)
    _, (values, policy) = jax.lax.scan(step, last, weights, length=horizon, reverse=True)
    return FiniteHorizon(jnp.concatenate([values, last[None]]), policy)


@jax.jit
def _infinite(
    env: FrozenLake,
    task: FrozenLakeTask,
    discount: jax.Array,
    weights: jax.Array | None,
    tolerance: jax.Array,
    max_iterations: jax.Array,
) -> InfiniteHorizon:
    model = _Model.of(env, task)
    num_cells = env.layout.num_cells

    def sweep(carry: tuple[InfiniteHorizon, jax.Array]) -> tuple[InfiniteHorizon, jax.Array]:
        found, best = carry
        action_values = model.action_values(found.values, discount)
        values, new_best = _under(weights, action_values), jnp.max(action_values, axis=0)
        policy = jnp.where(new_best != best, jnp.argmax(action_values, axis=0), found.policy).astype(jnp.int32)
        residual = jnp.max(jnp.abs(values - found.values))
        return InfiniteHorizon(values, policy, residual, found.iterations + 1), new_best

    def unfinished(carry: tuple[InfiniteHorizon, jax.Array]) -> jax.Array:
        found, _ = carry
        return (found.residual > tolerance) & (found.iterations < max_iterations)

    zeros = jnp.zeros(num_cells)
    start = InfiniteHorizon(zeros, jnp.zeros(num_cells, jnp.int32), jnp.float32(jnp.inf), jnp.int32(0))
    return jax.lax.while_loop(unfinished, sweep, (start, zeros))[0]
