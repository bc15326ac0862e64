"""What scripts reach on the tasks that a policy is measured on: chance below, experts above."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax

from envs_jax.environment import check_playable
from envs_jax.random_words import check_key
from envs_jax.scripted import Script, Uniform
from envs_jax.tasks import TaskBank
from jaxrl_agents.arguments import count
from jaxrl_agents.rollouts.performed import performed
from jaxrl_agents.rollouts.policy import Policy
from jaxrl_agents.training.evaluation import Evaluation, measured, num_played, optimum
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
      num_turns: K, turns of an episode, of as many actions as those of the policy.
      num_episodes: all tasks once by default. Experts in environments without chance play at most that.
      batch_size: episodes played at once.
      on_progress: called with the number of episodes that are played, while others are.
    """
    check_playable(policy.env, tasks)
    check_key(key)
    num_turns = count("num_turns", num_turns)
    return measured(
        lambda episodes: _play(script, key, policy, tasks, episodes, num_turns),
        num_played(policy.env, tasks, num_episodes, draws=draws(script, policy)),
        batch_size=batch_size,
        num_parts=1,
        best=partial(optimum, policy, tasks, num_turns),
        on_progress=on_progress,
    )


def draws(script: Script, policy: Policy) -> bool:
    """Whether a script may draw its actions: experts do not."""
    return script not in EXPERTS.get(type(policy.env), {}).values()


@partial(jax.jit, static_argnames=("script", "num_turns"))
def _play(
    script: Script, key: jax.Array, policy: Policy, tasks: TaskBank[Any], episodes: Any, num_turns: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Success, return and length of the episodes with these numbers, [B]."""
    keys = jax.vmap(partial(jax.random.fold_in, key))(episodes)
    instances = jax.tree.map(lambda leaf: leaf[episodes % len(tasks)], tasks.instances)
    shown = performed(policy, keys, instances, script, num_turns=num_turns)
    return shown.success, shown.returns, shown.lengths
