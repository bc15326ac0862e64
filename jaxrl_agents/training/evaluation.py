"""Evaluation on given tasks: success and return with confidence intervals, beside the optimum where it is known."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

from envs_jax.tasks import TaskBank
from jaxrl_agents.rollouts.policy import Policy


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
    optimum: float | None  # the expected return of the best policy on the same tasks, where it can be computed


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
) -> Evaluation:
    """Plays episodes without learning.

    Args:
      params: of the policy's model.
      key: a typed key; the same key gives the same episodes.
      policy: environment and model.
      tasks: the tasks, each played equally often (the first ones once more where `num_episodes` is no multiple).
      num_turns: K, turns of an episode.
      num_episodes: all tasks once by default.
      greedy: take the likeliest action; False draws at the policy's temperature.
      batch_size: episodes played at once.
    """
    raise NotImplementedError
