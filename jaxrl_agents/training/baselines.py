"""What scripts reach on the tasks that a policy is measured on: chance below, experts above."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np

from envs_jax.environment import check_playable
from envs_jax.random_words import check_key
from envs_jax.scripted import Script, Uniform
from envs_jax.tasks import TaskBank
from jaxrl_agents.arguments import count
from jaxrl_agents.rollouts.performed import performed
from jaxrl_agents.rollouts.policy import Policy
from jaxrl_agents.training.evaluation import Evaluation, normal, optimum, wilson
from jaxrl_agents.training.experts import EXPERTS


def baselines(policy: Policy) -> dict[str, Script]:
    """The scripts of a policy's environment by name: "random", and its experts, the best one last."""
    experts = EXPERTS.get(type(policy.env), {})
    return {"random": Uniform(), **dict(reversed(experts.items()))}


def measure(
    script: Script,
    key: jax.Array,
    policy: Policy,
    tasks: TaskBank[Any],
    *,
    num_turns: int,
    num_episodes: int | None = None,
    batch_size: int = 256,
    on_progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Plays a script's episodes, as `evaluate` plays those of a policy.

    Args:
      script: what is played.
      key: a typed key.
      policy: its environment is played.
      tasks: played in turn, from the first on.
      num_turns: K, turns of an episode, one action each.
      num_episodes: all tasks once by default.
      batch_size: episodes played at once.
      on_progress: called with the number of episodes that are played.
    """
    check_playable(policy.env, tasks)
    check_key(key)
    number = count("num_episodes", len(tasks) if num_episodes is None else num_episodes)
    size = min(count("batch_size", batch_size), number)
    batches = []
    for start in range(0, number, size):
        episodes = np.minimum(np.arange(start, start + size, dtype=np.int32), number - 1)  # all batches have one shape
        batches.append(jax.device_get(_play(script, key, policy, tasks, episodes, count("num_turns", num_turns))))
        if on_progress is not None:
            on_progress(min(start + size, number))
    success, returns, lengths = (np.concatenate(leaves)[:number] for leaves in zip(*batches, strict=True))
    best = optimum(policy, tasks, num_turns, number)
    return Evaluation(wilson(int(success.sum()), number), normal(returns), normal(lengths), number, best)


@partial(jax.jit, static_argnames=("script", "num_turns"))
def _play(
    script: Script, key: jax.Array, policy: Policy, tasks: TaskBank[Any], episodes: Any, num_turns: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Success, return and length of the episodes with these numbers, [B]."""
    keys = jax.vmap(partial(jax.random.fold_in, key))(episodes)
    instances = jax.tree.map(lambda leaf: leaf[episodes % len(tasks)], tasks.instances)
    shown = performed(policy, keys, instances, script, num_turns=num_turns)
    return shown.success, shown.returns, shown.lengths
