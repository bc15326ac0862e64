"""The learner: rollouts with search, filtering, advantages and updates as one jitted program."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax
from jax.sharding import Mesh

from envs_jax.tasks import TaskBank
from jaxrl_agents.losses import Algorithm
from jaxrl_agents.rollouts.policy import Policy
from jaxrl_agents.rollouts.types import Strategy, Trajectory

Metrics = dict[str, jax.Array]  # float32[] each, see `metrics.NAMES`


class TrainState(NamedTuple):
    """All that a training run remembers; what a checkpoint saves."""

    params: Any
    opt_state: Any
    reference: Any  # parameters of the KL penalty's reference; None without one
    key: jax.Array  # typed key, split by every step
    step: jax.Array  # int32[]: steps taken


@dataclasses.dataclass(frozen=True)
class Learner:
    """One training step as one jitted, donated program.

    learner = Learner(Policy(env, model), Standard(), losses.grpo(), optax.adam(1e-3), num_turns=10)
    state = learner.init(jax.random.key(0))
    for _ in range(100):
        state, metrics = learner.step(state, tasks)

    Attributes:
      policy: environment, model, context, turn length, temperature and action mask.
      rollout: a strategy of `jaxrl_agents.rollouts`.
      algorithm: advantages and loss, of `jaxrl_agents.losses`; `algorithm.loss.kl_coefficient` above 0 needs, and gets,
        a reference.
      optimizer: any optax transformation; clipping, schedules and weight decay belong into it.
      num_turns: K, turns of an episode.
      num_groups: P, tasks a step.
      group_size: N, episodes of each.
      num_epochs: passes over the trajectories, with frozen behaviour log-probabilities.
      num_minibatches: updates in each pass.
      num_micro_batches: parts that an update's gradient is summed from; they change memory, not the result.
      filter: picks the groups that are learned from, `(returns [P, N]) -> bool[P]`, of `rollouts.filtering`; None: all.
      credit: "episode": one advantage for all of an episode's turns, from its return; "step": returns from each turn
        on, compared with those of the group at the same turn.
      discount: of returns from a turn on, in (0, 1].
      value_coefficient: of the value loss; only algorithms whose advantages take values train the value head.
      reference_step_size: how far the reference follows the parameters after each step; 0 freezes it.
      mesh: from `training.make_mesh`; the batch is split over `data` and `fsdp`, parameters by `rules`.
      rules: see `training.sharding`; by default those of the model's logical axes.
    """

    policy: Policy
    rollout: Strategy
    algorithm: Algorithm
    optimizer: optax.GradientTransformation
    num_turns: int
    num_groups: int = 8
    group_size: int = 8
    num_epochs: int = 1
    num_minibatches: int = 1
    num_micro_batches: int = 1
    filter: Callable[[jax.Array], jax.Array] | None = None
    credit: str = "episode"
    discount: float = 1.0
    value_coefficient: float = 0.5
    reference_step_size: float = 0.0
    mesh: Mesh | None = None
    rules: Any = None

    def init(self, key: jax.Array) -> TrainState:
        """A fresh state; on a mesh computed straight into its layout."""
        raise NotImplementedError

    def step(self, state: TrainState, tasks: TaskBank[Any]) -> tuple[TrainState, Metrics]:
        """One step: sample P tasks, roll out, filter, advantages, update. `state` is donated: use the returned one."""
        raise NotImplementedError

    def supervised_step(self, state: TrainState, trajectory: Trajectory) -> tuple[TrainState, Metrics]:
        """One update towards the turns of `trajectory` where `loss_mask` is True. `state` is donated."""
        raise NotImplementedError
