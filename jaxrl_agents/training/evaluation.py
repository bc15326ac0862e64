"""Evaluation on given tasks: success and return with confidence intervals, beside the optimum where it is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from envs_jax.environment import Environment, check_playable
from envs_jax.frozen_lake import planning
from envs_jax.frozen_lake.env import FrozenLake
from envs_jax.random_words import check_key
from envs_jax.tasks import TaskBank
from jaxrl_agents.arguments import count
from jaxrl_agents.rollouts.policy import LOWEST_TEMPERATURE, Policy
from jaxrl_agents.rollouts.standard import Standard
from jaxrl_agents.training import sharding
from jaxrl_agents.training.distributed import fetched

GREEDY = LOWEST_TEMPERATURE
_Z = 1.959964  # of 95 %


class Interval(NamedTuple):
    """A mean and its 95 % confidence interval."""

    mean: float
    low: float
    high: float


class Evaluation(NamedTuple):
    """How a policy did."""

    success: Interval  # Wilson's interval of the rate
    episode_return: Interval  # normal interval of the mean
    length: Interval  # actions; normal interval of the mean
    num_episodes: int
    optimum: float | None  # the expected return of the best policy on these episodes' tasks, where it can be computed


def evaluate(
    params: Any,
    key: jax.Array,
    policy: Policy,
    tasks: TaskBank[Any],
    *,
    num_turns: int,
    num_episodes: int | None = None,
    greedy: bool = True,
    batch_size: int = 1024,
    mesh: Mesh | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Plays episodes without learning. With several processes all call it alike, and each plays its share.

    Args:
      params: of the policy's model.
      key: a typed key; the same key gives the same episodes, whatever the batch size.
      policy: environment and model.
      tasks: played in turn, from the first on: each equally often where `num_episodes` is a multiple of their number.
      num_turns: K, turns of an episode.
      num_episodes: all tasks once by default. Where nothing is left to chance at most that: see `num_played`.
      greedy: take the likeliest action; False draws at the policy's temperature.
      batch_size: episodes played at once.
      mesh: from `training.make_mesh`: episodes are split over `data` and `fsdp`; None plays all of them on each device
        that has the parameters.
      on_progress: called with the number of episodes that are played, while others are.
    """
    check_playable(policy.env, tasks)
    check_key(key)
    num_turns = count("num_turns", num_turns)
    played = policy.replace(temperature=GREEDY) if greedy else policy
    return measured(
        lambda episodes: _play(params, key, played, tasks, episodes, num_turns, mesh),
        num_played(policy.env, tasks, num_episodes, draws=not greedy),
        batch_size=batch_size,
        num_parts=sharding.num_parts(mesh),
        best=partial(optimum, policy, tasks, num_turns),
        on_progress=on_progress,
    )


def measured(
    play: Callable[[np.ndarray], tuple[jax.Array, jax.Array, jax.Array]],
    number: int,
    *,
    batch_size: int,
    num_parts: int,
    best: Callable[[int], float | None],
    on_progress: Callable[[int], None] | None,
) -> Evaluation:
    """How the episodes 0 … `number` − 1 went.

    Args:
      play: from the numbers of episodes, int32[B], to success, return and length of each, [B].
      number: of episodes.
      batch_size: episodes played at once.
      num_parts: B is a multiple of it.
      best: the optimum of that many episodes.
      on_progress: called with the number of episodes that are played, while others are.
    """
    size = -(-min(count("batch_size", batch_size), number) // num_parts) * num_parts
    batches = []
    for start in range(0, number, size):
        episodes = np.minimum(np.arange(start, start + size, dtype=np.int32), number - 1)  # all batches have one shape
        batches.append(play(episodes))
        if on_progress is not None and start > 0:
            jax.block_until_ready(batches[-2])
            on_progress(start)
    success, returns, lengths = (np.concatenate(leaves)[:number] for leaves in zip(*fetched(batches), strict=True))
    return Evaluation(wilson(int(success.sum()), number), normal(returns), normal(lengths), number, best(number))


def num_played(env: Environment[Any, Any], tasks: TaskBank[Any], num_episodes: int | None, *, draws: bool) -> int:
    """How many of `num_episodes` are played: at most one of a task where all of its episodes are the same.

    Counted again and again they would make intervals too narrow.

    Args:
      env: the environment.
      tasks: played in turn.
      num_episodes: all tasks once by default.
      draws: whether actions are drawn.
    """
    number = count("num_episodes", len(tasks) if num_episodes is None else num_episodes)
    return number if draws or env.has_chance(tasks) else min(number, len(tasks))


@partial(jax.jit, static_argnames=("num_turns", "mesh"))
def _play(
    params: Any,
    key: jax.Array,
    policy: Policy,
    tasks: TaskBank[Any],
    episodes: Any,
    num_turns: int,
    mesh: Mesh | None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Success, return and length of the episodes with these numbers, [B]."""
    keys = jax.vmap(partial(jax.random.fold_in, key))(episodes)
    instances = jax.tree.map(lambda leaf: leaf[episodes % len(tasks)], tasks.instances)
    keys, instances = sharding.split_rows((keys, instances), mesh)
    trajectory = Standard()(params, keys, policy, instances, group_size=1, num_turns=num_turns)
    return sharding.split_rows((trajectory.success, trajectory.returns, trajectory.lengths), mesh)


def optimum(policy: Policy, tasks: TaskBank[Any], num_turns: int, num_episodes: int) -> float | None:
    """The expected return of the best policy over the tasks of `num_episodes` episodes, by exact planning.

    Known for FrozenLake whose tasks have one time limit; it may use the time, which the policy need not see. None
    elsewhere.
    """
    limits = np.unique(np.asarray(tasks.instances.time_limit))
    if not isinstance(policy.env, FrozenLake) or len(limits) > 1:
        return None
    horizon = min(int(limits[0]), num_turns * policy.max_turn_actions)
    instances = jax.tree.map(lambda leaf: leaf[: min(len(tasks), num_episodes)], tasks.instances)
    best = np.asarray(_optimal_returns(policy.env, instances, horizon), np.float64)
    times = num_episodes // len(best) + (np.arange(len(best)) < num_episodes % len(best))
    return float(best @ times / num_episodes)


@partial(jax.jit, static_argnames="horizon")
def _optimal_returns(env: FrozenLake, instances: Any, horizon: int) -> jax.Array:
    return jax.vmap(lambda task: planning.optimal_return(env, task, horizon))(instances)


def wilson(successes: int, number: int) -> Interval:
    """The rate and Wilson's score interval (Wilson 1927), which stays within [0, 1]."""
    rate, square = successes / number, _Z**2
    centre = (successes + square / 2) / (number + square)
    width = _Z / (number + square) * math.sqrt(number * rate * (1 - rate) + square / 4)
    return Interval(rate, max(0.0, centre - width), min(1.0, centre + width))


def normal(values: Any) -> Interval:
    """The mean ± 1.96 standard errors (n − 1 in the denominator); without an error for a single value."""
    values = np.asarray(values, np.float64)
    error = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    mean = float(values.mean())
    return Interval(mean, mean - _Z * error, mean + _Z * error)
