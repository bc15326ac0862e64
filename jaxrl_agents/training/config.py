"""The configuration of a training run: typed, checked, printable, and saved beside the checkpoints."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from envs_jax.arguments import MAX_SEED
from jaxrl_agents.rollouts.policy import LOWEST_TEMPERATURE
from jaxrl_agents.training import fields
from jaxrl_agents.training.fields import (
    Bounds,
    Count,
    CountOrZero,
    Fraction,
    NotNegative,
    Positive,
    PositiveFraction,
)

Temperature = Annotated[float, Bounds(LOWEST_TEMPERATURE)]

DEFAULT_ENV = "FrozenLake-v0"

RolloutName = Literal["standard", "best_of_n", "beam", "lookahead", "entropy_backtrack"]
LossName = Literal["grpo", "dr_grpo", "dapo", "gspo", "cispo", "rloo", "gigpo", "ppo"]
FilterName = Literal["none", "top", "top_k", "top_p", "min_p", "informative"]


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The transformer.

    Attributes:
      d_model: width of the residual stream.
      num_layers: layers.
      num_heads: query heads.
      num_kv_heads: key and value heads; none: as many as query heads.
      d_ff: hidden width of SwiGLU; none: 8/3 of d_model.
      dtype: of the matrix products; parameters are float32.
    """

    d_model: Count = 32
    num_layers: Count = 2
    num_heads: Count = 4
    num_kv_heads: Count | None = None
    d_ff: Count | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"


@dataclasses.dataclass(frozen=True)
class PolicyConfig:
    """How the model plays.

    Attributes:
      context: what it sees: the present turn, or the whole episode so far.
      max_turn_actions: actions that a turn may have; above 1 the model decides when a turn ends.
      action_mask: whether actions without effect are ruled out.
      temperature: divides the logits, in rollouts and in the loss.
    """

    context: Literal["turn", "episode"] = "turn"
    max_turn_actions: Count = 1
    action_mask: bool = False
    temperature: Temperature = 1.0


@dataclasses.dataclass(frozen=True)
class BatchConfig:
    """How much a step collects and how often it learns from it.

    Attributes:
      num_groups: tasks a step.
      group_size: episodes of each task.
      num_turns: turns of an episode; none: as many as the longest task's time limit. Fewer are the end of the episode
        as the time limit is: what might have come later counts 0, also with a value function.
      num_epochs: passes over the trajectories.
      num_minibatches: updates in each pass.
      num_micro_batches: parts that an update's gradient is summed from; they change memory and speed, not the result.
    """

    num_groups: Count = 16
    group_size: Count = 16
    num_turns: Count | None = None
    num_epochs: Count = 1
    num_minibatches: Count = 1
    num_micro_batches: Count = 1


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with a schedule and clipping.

    Attributes:
      learning_rate: the highest one.
      schedule: after the warm-up: constant, or falling to 0 at the last step along a line or a half cosine.
      warmup_steps: updates over which the learning rate rises from 0.
      max_gradient_norm: longer gradients are shortened to it.
      weight_decay: decoupled, of matrices only, not of the norms' scales.
      beta1: decay of the mean of gradients.
      beta2: decay of the mean of their squares.
      epsilon: added to the root of that mean.
    """

    learning_rate: Positive = 3e-3
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup_steps: CountOrZero = 0
    max_gradient_norm: Positive = 1.0
    weight_decay: NotNegative = 0.0
    beta1: Annotated[float, Bounds(0, 1, below=True)] = 0.9
    beta2: Annotated[float, Bounds(0, 1, below=True)] = 0.999
    epsilon: Positive = 1e-8


@dataclasses.dataclass(frozen=True)
class WarmStartConfig:
    """Supervised learning from an expert's episodes, before training; it has the rest of `optimizer` but no schedule.

    Attributes:
      num_steps: supervised steps, an update each; 0 for none.
      expert: whose episodes; none: the best that the environment has.
      num_episodes: episodes of a step, each of a training task of its own; none: 64.
      learning_rate: of the supervised steps; none: that of `optimizer`.
    """

    num_steps: CountOrZero = 0
    expert: str | None = None
    num_episodes: Count | None = None
    learning_rate: Positive | None = None


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """How the policy is measured while it trains.

    Attributes:
      every: steps between two evaluations; 0 for one at the end. The step after one is not timed: with 1 none is.
      num_episodes: episodes of an evaluation, spread over its tasks.
      num_turns: turns of an episode; none: as many as the longest task's time limit.
      num_held_out: tasks kept from training for it, disjoint by board, or by product in WebShop; 0 evaluates on the
        training tasks.
      greedy: takes the likeliest action instead of drawing one.
    """

    every: CountOrZero = 50
    num_episodes: Count = 1024
    num_turns: Count | None = None
    num_held_out: CountOrZero = 0
    greedy: bool = True


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    """When the state is saved.

    Attributes:
      every: steps between two checkpoints; the last step is always saved. The step after one is not timed.
      keep_last: how many of the newest stay.
      keep_every: those whose step is a multiple of it stay too.
    """

    every: Count = 100
    keep_last: Count = 3
    keep_every: Count | None = None


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """How arrays are split over devices.

    Attributes:
      data: copies of the model; none: all devices that the other two leave.
      fsdp: parts that parameters and the batch are split into.
      tensor: parts that the dimensions inside a layer are split into.
    """

    data: Count | None = None
    fsdp: Count = 1
    tensor: Count = 1


@dataclasses.dataclass(frozen=True)
class SearchConfig:
    """Options of the rollout; none: the rollout's own default. One that the chosen rollout lacks is an error.

    Attributes:
      num_rollouts: best_of_n, entropy_backtrack: rollouts of which the best is kept.
      beam_width: beam: nodes that are kept each turn.
      num_candidates: beam, lookahead: candidates of each node.
      candidates: beam, lookahead: how they are drawn.
      depth: lookahead: turns that are simulated behind a candidate.
      bootstrap: lookahead: whether the value head's estimate is added behind them.
      deduplicate: beam: whether one node of those in the same state is kept.
      per: best_of_n, beam: a search for each member of a group, or one for the group.
      entropy_threshold: entropy_backtrack: above it (nats) a rollout steps back.
      steps_back: entropy_backtrack: the most turns that it goes back.
      distance: entropy_backtrack: how far, drawn or fixed.
      max_retries: entropy_backtrack: retries of a rollout.
      retry_temperature: entropy_backtrack: divides the logits of a retried turn.
      free_backtrack: entropy_backtrack: whether discarded turns do not count as turns of the episode.
      score: all of them: what paths are ranked by.
    """

    num_rollouts: Count | None = None
    beam_width: Count | None = None
    num_candidates: Count | None = None
    candidates: Literal["sample", "gumbel", "enumerate"] | None = None
    depth: Count | None = None
    bootstrap: bool | None = None
    deduplicate: bool | None = None
    per: Literal["member", "group"] | None = None
    entropy_threshold: NotNegative | None = None
    steps_back: Count | None = None
    distance: Literal["uniform", "fixed"] | None = None
    max_retries: Count | None = None
    retry_temperature: Temperature | None = None
    free_backtrack: bool | None = None
    score: str | None = None


@dataclasses.dataclass(frozen=True)
class FilteringConfig:
    """Options of the filter; none: the filter's own default. One that the chosen filter lacks is an error.

    Attributes:
      share: top: of the groups that is kept.
      number: top_k, informative: groups that are kept.
      p: top_p: share of all deviation that is kept; min_p: of the largest deviation that a group must have.
      weighting: top_p: how a group's share is computed.
      include_zero: whether groups of equal returns may be kept.
    """

    share: PositiveFraction | None = None
    number: Count | None = None
    p: PositiveFraction | None = None
    weighting: Literal["linear", "softmax"] | None = None
    include_zero: bool | None = None


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig:
    """What is optimised; none: the loss's own default. One that does nothing with the chosen loss is an error.

    Attributes:
      credit: for losses relative to the group: one advantage for all of an episode's turns (none: this), or one for
        each turn from what it brought from there on.
      advantages: of ppo: gae over all actions of an episode (none: this), or RAGEN's bi_level_gae, over its turns and
        then over the actions of each.
      discount: of later rewards, for losses and credits that look at single turns; of bi_level_gae within a turn.
      turn_discount: of bi_level_gae, from turn to turn; none: 0.95.
      gae_lambda: λ of ppo's advantages; none: 0.95.
      clip_low: how far the ratio may fall.
      clip_high: how far it may rise.
      dual_clip: bound of the ratio where the advantage is negative.
      aggregation: how the losses of turns are averaged; docs/losses.md has the names.
      max_length: turns that the `scale` rules divide by.
      kl_coefficient: of the KL penalty against the reference, the first parameters.
      kl_estimator: of that divergence.
      reference_step_size: how far the reference follows the parameters after each step; 0 freezes it.
      entropy_coefficient: of the entropy bonus.
      value_coefficient: of the value loss of ppo; none: 0.5.
    """

    credit: Literal["episode", "step"] | None = None
    advantages: Literal["gae", "bi_level_gae"] | None = None
    discount: PositiveFraction | None = None
    turn_discount: PositiveFraction | None = None
    gae_lambda: Fraction | None = None
    clip_low: Fraction | None = None
    clip_high: NotNegative | None = None
    dual_clip: Positive | None = None
    aggregation: str | None = None
    max_length: Count | None = None
    kl_coefficient: NotNegative | None = None
    kl_estimator: Literal["k1", "k2", "k3"] | None = None
    reference_step_size: Fraction = 0.0
    entropy_coefficient: NotNegative | None = None
    value_coefficient: NotNegative | None = None


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """A training run: `build(config)` makes its parts, `train(config, folder)` runs it.

    Attributes:
      env: the id of the environment, one of envs_jax.registered_ids().
      env_arguments: arguments of envs_jax.make, names and values.
      rollout: how episodes are collected; its options are search.*.
      loss: advantages and loss; its options are objective.*.
      filter: picks the groups that are learned from; its options are filtering.*.
      num_steps: training steps; those of the warm start come before them.
      seed: determines tasks, parameters and episodes.
      model: the transformer.
      policy: how it plays.
      batch: what a step collects.
      search: options of the rollout.
      filtering: options of the filter.
      objective: options of the loss.
      optimizer: AdamW.
      warm_start: supervised steps before training.
      evaluation: how the policy is measured.
      checkpoint: when the state is saved.
      mesh: how arrays are split over devices.
    """

    env: str = DEFAULT_ENV
    env_arguments: dict[str, bool | int | float | str] = dataclasses.field(default_factory=dict)
    rollout: RolloutName = "standard"
    loss: LossName = "grpo"
    filter: FilterName = "none"
    num_steps: Count = 300
    seed: Annotated[int, Bounds(0, MAX_SEED)] = 0
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    policy: PolicyConfig = dataclasses.field(default_factory=PolicyConfig)
    batch: BatchConfig = dataclasses.field(default_factory=BatchConfig)
    search: SearchConfig = dataclasses.field(default_factory=SearchConfig)
    filtering: FilteringConfig = dataclasses.field(default_factory=FilteringConfig)
    objective: ObjectiveConfig = dataclasses.field(default_factory=ObjectiveConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    warm_start: WarmStartConfig = dataclasses.field(default_factory=WarmStartConfig)
    evaluation: EvaluationConfig = dataclasses.field(default_factory=EvaluationConfig)
    checkpoint: CheckpointConfig = dataclasses.field(default_factory=CheckpointConfig)
    mesh: MeshConfig = dataclasses.field(default_factory=MeshConfig)

    def __post_init__(self) -> None:
        """Checks all fields, those of the parts too.

        Raises:
          ValueError: the first wrong one, as "batch.num_groups=0 must be an integer of at least 1".
        """
        fields.check(self)

    @property
    def total_steps(self) -> int:
        """Steps of the whole run: those of the warm start, then those of training."""
        return self.warm_start.num_steps + self.num_steps


def chosen(prefix: str, section: Any, names: Iterable[str], owner: str) -> dict[str, Any]:
    """The options of a section that are given.

    Raises:
      ValueError: one is given that is not among `names`, the options of `owner`.
    """
    names = tuple(names)
    given = {field.name: getattr(section, field.name) for field in dataclasses.fields(section)}
    given = {name: value for name, value in given.items() if value is not None}
    for name, value in given.items():
        if name not in names:
            there = f"its options are {', '.join(f'{prefix}.{known}' for known in names)}" if names else "it has none"
            raise ValueError(f"{prefix}.{name}={value!r} is no option of {owner}: {there}")
    return given
