"""The policy that training starts from: one that has seen some plans, in place of the paper's language models."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from envs_jax.frozen_lake import planning
from envs_jax.frozen_lake.env import FrozenLake
from envs_jax.sokoban.env import Sokoban
from envs_jax.tasks import TaskBank
from jaxrl_agents.methods.tsr import learning
from jaxrl_agents.methods.tsr.learning import Problem, Sizes
from jaxrl_agents.rollouts import Policy, Standard, Trajectory, demonstrated
from jaxrl_agents.training.experts import expert_for
from jaxrl_agents.training.planned import best_plans
from jaxrl_agents.training.warm_start import WarmStart

BATCH_SIZE = 256  # demonstrations of an update
NUM_TASKS = 1024  # at most so many are planned for
BEAM_WIDTH = 64  # of the beam that solves rooms
_INTENDED = np.array([[0, -1], [1, 0], [0, 1], [-1, 0]], np.int32)  # where an action of FrozenLake means to go


def base_params(given: Problem, sizes: Sizes, key: jax.Array) -> Any:
    """Parameters after the domain's `base_steps` supervised updates, on tasks that are trained on.

    They are towards plans for whole turns, or where a turn is one action towards the environment's expert. 0 steps
    leave the parameters random.
    """
    optimizer = optax.adam(sizes.base_learning_rate)
    learner = dataclasses.replace(learning.learner(given, Standard(), sizes), optimizer=optimizer)
    state = learner.init(key)
    if not given.domain.base_steps:
        return state.params
    if given.domain.max_turn_actions == 1:
        warm_start = WarmStart(learner, expert_for(given.policy.env))
        for _ in range(given.domain.base_steps):
            state, _ = warm_start.step(state, given.tasks)
        return state.params
    tasks, actions = plans(given)
    for number in range(given.domain.base_steps):
        draw, play = jax.random.split(jax.random.fold_in(key, number))
        batch = jax.random.randint(draw, (BATCH_SIZE,), 0, len(tasks))
        state, _ = learner.supervised_step(state, _shown(given.policy, play, tasks.instances, actions, batch))
    return state.params


@jax.jit
def _shown(policy: Policy, key: jax.Array, instances: Any, actions: jax.Array, batch: jax.Array) -> Trajectory:
    return demonstrated(policy, key, jax.tree.map(lambda leaf: leaf[batch], instances), actions[batch])


def plans(given: Problem) -> tuple[TaskBank[Any], jax.Array]:
    """(tasks, int32[T, K, L]): what to do from the start of each, −1 for nothing; for up to `NUM_TASKS` of them.

    Turns have as many actions as let an episode's actions last for all its turns. Sokoban: the rooms that a beam of 64
    over single actions solves, with its plan. FrozenLake: the first turn on every map, the best action after each
    intended move; as starts are random, first turns stand for all.
    """
    env, tasks = given.policy.env, given.tasks[:NUM_TASKS]
    limit = int(np.max(np.asarray(tasks.instances.time_limit)))
    each = min(-(-limit // given.domain.num_turns), given.domain.max_turn_actions)
    if not isinstance(env, FrozenLake | Sokoban):
        raise ValueError(f"base_steps={given.domain.base_steps}: there is no planner for {given.domain.id}; use 0")
    if isinstance(env, FrozenLake):
        chosen = jax.lax.map(lambda task: _intended_path(env, task, limit, each), tasks.instances)
        actions = np.asarray(chosen)[:, None]
    else:
        found, solved = _solutions(env, tasks, limit)
        tasks = tasks.filter(solved)
        missing = given.domain.num_turns * each - limit
        actions = np.pad(found[solved], [(0, 0), (0, max(0, missing))], constant_values=-1)
        actions = actions[:, : given.domain.num_turns * each].reshape(len(tasks), given.domain.num_turns, each)
    rest = given.domain.max_turn_actions - each
    return tasks, jnp.asarray(np.pad(actions, [(0, 0), (0, 0), (0, rest)], constant_values=-1))


def _intended_path(env: FrozenLake, task: Any, horizon: int, number: int) -> jax.Array:
    """int32[number]: the best actions of a whole horizon, if no move slips; −1 after an end."""
    model = planning.transition_tensor(env, task)
    best = planning.finite_horizon(env, task, horizon).policy[0]
    cell, path = jnp.argmax(model.start).astype(jnp.int32), []
    for _ in range(number):
        path.append(jnp.where(model.terminal[cell], -1, best[cell]))
        row, column = cell // env.layout.columns, cell % env.layout.columns
        step = jnp.asarray(_INTENDED)[best[cell]]
        row = jnp.clip(row + step[0], 0, task.rows.astype(jnp.int32) - 1)
        column = jnp.clip(column + step[1], 0, task.columns.astype(jnp.int32) - 1)
        cell = row * env.layout.columns + column
    return jnp.stack(path)


def _solutions(env: Any, tasks: TaskBank[Any], limit: int) -> tuple[np.ndarray, np.ndarray]:
    """(int32[T, limit], bool[T]): the plan of each room, and whether it solves it."""
    parts = [
        _solve(env, jax.tree.map(lambda leaf, rows=rows: leaf[rows], tasks.instances), limit)
        for rows in np.array_split(np.arange(len(tasks)), -(-len(tasks) // 512))
    ]
    found, solved = (np.concatenate(leaves) for leaves in zip(*parts, strict=True))
    return found, solved


@partial(jax.jit, static_argnames="limit")
def _solve(env: Sokoban, instances: Any, limit: int) -> tuple[jax.Array, jax.Array]:
    actions = best_plans(env, instances, limit, BEAM_WIDTH)
    states = jax.vmap(lambda task: env.initial(jnp.uint32(0), task))(instances)
    step = lambda state, action: (_played(env, state, action, instances), None)
    last, _ = jax.lax.scan(step, states, actions.T)
    return actions, jax.vmap(env.success)(last, instances)


def _played(env: Sokoban, states: Any, actions: jax.Array, instances: Any) -> Any:
    """The states after an action each; −1 leaves them."""
    words = jnp.zeros(len(actions), jnp.uint32)
    after, *_ = jax.vmap(env.transition)(states, jnp.maximum(actions, 0), words, instances)
    return jax.tree.map(lambda a, b: jnp.where((actions >= 0).reshape(-1, *(1,) * (a.ndim - 1)), a, b), after, states)
