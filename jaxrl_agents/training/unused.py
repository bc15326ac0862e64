"""Fields that would do nothing beside the values of others: each is an error, as nothing is silently ignored.

What belongs to another rollout, filter or loss is told by `setup.build` and `Learner`; this is the rest.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Iterator
from typing import Any, NamedTuple

from jaxrl_agents.losses import PolicyLoss
from jaxrl_agents.rollouts.types import Strategy
from jaxrl_agents.training.config import TrainConfig


class Unused(NamedTuple):
    """A field that does nothing."""

    field: str  # as "search.score"
    why: str  # what follows "has no effect"
    way_out: str


def check(config: TrainConfig, loss: PolicyLoss, strategy: Strategy) -> None:
    """Raises ValueError for the first field that was given and would do nothing.

    Args:
      config: all fields.
      loss: made from them.
      strategy: made from them.
    """
    fields = itertools.chain(
        _in_the_loss(config, loss, strategy),
        _in_the_advantages(config),
        _in_the_search(config, strategy),
        _in_the_filter(config),
        _in_the_warm_start(config),
        _in_the_checkpoints(config),
    )
    found = next(fields, None)
    if found is not None:
        value = operator.attrgetter(found.field)(config)
        raise ValueError(f"{found.field}={value!r} has no effect {found.why}: {found.way_out}, or leave it out")


def check_warmup(config: TrainConfig) -> None:
    """Raises ValueError where the run ends before the learning rate has risen."""
    updates = num_updates(config)
    if config.optimizer.warmup_steps >= updates:
        raise ValueError(
            f"optimizer.warmup_steps={config.optimizer.warmup_steps} must be less than the {updates} updates of the "
            "run: warm up for fewer, or take more steps"
        )


def check_turns(config: TrainConfig, longest: int) -> None:
    """Raises ValueError where episodes are given more turns than the longest time limit lets them have."""
    for section in ("batch", "evaluation"):
        turns = getattr(config, section).num_turns
        if turns is not None and turns > longest:
            raise ValueError(
                f"{section}.num_turns={turns} is more than the {longest} actions of the longest task: use at most "
                f"{longest}, or leave it out"
            )


def num_updates(config: TrainConfig) -> int:
    """Updates of the parameters in training, after the warm start."""
    return config.num_steps * config.batch.num_epochs * config.batch.num_minibatches


def _in_the_loss(config: TrainConfig, loss: PolicyLoss, strategy: Strategy) -> Iterator[Unused]:
    objective, batch = config.objective, config.batch
    one_update = batch.num_epochs * batch.num_minibatches == 1
    # The ratio is not 1 where behaviour and update differ in temperature, or in the rounding of 8 bits. Of turns of
    # several actions the update takes the policy's log-probabilities, not the behaviour's.
    retried = getattr(strategy, "retry_temperature", config.policy.temperature)
    at_another_temperature = retried != config.policy.temperature and config.policy.max_turn_actions == 1
    on_policy = one_update and not at_another_temperature and config.model.dtype == "float32"
    for name in ("clip_low", "clip_high", "dual_clip"):
        if getattr(objective, name) is None:
            continue
        field, another = f"objective.{name}", "use another loss"
        if loss.surrogate == "reinforce":
            yield Unused(field, f"on loss={config.loss!r}, which has no ratio to clip", another)
        elif name == "dual_clip" and loss.surrogate == "truncated":
            yield Unused(field, f"on loss={config.loss!r}, whose ratio is a weight", another)
        elif on_policy:
            why = "where each step updates once: the policy is still the one that played"
            yield Unused(field, why, "use batch.num_epochs or batch.num_minibatches above 1")
    if objective.max_length is not None and not loss.aggregation.endswith("_scale"):
        why = f"on objective.aggregation={loss.aggregation!r}"
        yield Unused("objective.max_length", why, "use a rule that ends in _scale")
    if objective.kl_estimator is not None and not loss.kl_coefficient:
        why = "without a penalty"
        yield Unused("objective.kl_estimator", why, "give objective.kl_coefficient above 0")


def _in_the_advantages(config: TrainConfig) -> Iterator[Unused]:
    objective = config.objective
    if config.loss != "ppo":
        for name in ("advantages", "turn_discount", "gae_lambda"):
            if getattr(objective, name) is not None:
                yield Unused(
                    f"objective.{name}", f"on loss={config.loss!r}, which has no value function", "use loss='ppo'"
                )
    elif objective.advantages != "bi_level_gae":
        if objective.turn_discount is not None:
            way_out = "give objective.advantages='bi_level_gae'"
            yield Unused("objective.turn_discount", "where turns are not told from actions", way_out)
    elif config.policy.max_turn_actions == 1:
        why = "where a turn is one action, so that it is gae with another discount"
        yield Unused("objective.advantages", why, "give policy.max_turn_actions above 1")


def _in_the_search(config: TrainConfig, strategy: Any) -> Iterator[Unused]:
    search, group_size = config.search, config.batch.group_size
    kept = group_size if getattr(strategy, "per", "member") == "group" else 1
    if _paths(strategy) == kept:
        names = [name for name in ("num_rollouts", "beam_width", "num_candidates") if hasattr(strategy, name)]
        way_out = f"give more {' or '.join(f'search.{name}' for name in names)}"
        for name in ("score", "depth", "bootstrap"):
            if getattr(search, name):
                yield Unused(f"search.{name}", f"where there is nothing to choose from, {kept} of {kept}", way_out)
    if search.deduplicate and search.beam_width == 1:
        yield Unused("search.deduplicate", "where search.beam_width=1", "give a search.beam_width above 1")
    if search.distance is not None and search.steps_back == 1:
        yield Unused("search.distance", "where search.steps_back=1", "give search.steps_back above 1")
    if search.per is not None and group_size == 1:
        yield Unused("search.per", "in groups of one", "give batch.group_size above 1")


def _paths(strategy: Any) -> float:
    """Paths, or candidates of one node, that a strategy picks from."""
    if getattr(strategy, "candidates", "sample") == "enumerate":
        return math.inf
    return math.prod(getattr(strategy, name, 1) for name in ("num_rollouts", "beam_width", "num_candidates"))


def _in_the_filter(config: TrainConfig) -> Iterator[Unused]:
    if config.filter != "none" and config.batch.group_size == 1:
        why = "in groups of one, whose returns never differ"
        yield Unused("filter", why, "use batch.group_size above 1")
    given = config.filtering
    for name, every in (("share", 1), ("number", config.batch.num_groups)):
        keeps_all = config.filter in ("top", "top_k") and getattr(given, name) == every
        if keeps_all and given.include_zero is not False:
            why = f"with filtering.{name}={getattr(given, name)}, as it keeps all {config.batch.num_groups} groups"
            yield Unused("filter", why, "keep fewer")


def _in_the_warm_start(config: TrainConfig) -> Iterator[Unused]:
    if config.warm_start.num_steps:
        return
    for name in ("expert", "num_episodes", "learning_rate"):
        if getattr(config.warm_start, name) is not None:
            yield Unused(f"warm_start.{name}", "without supervised steps", "give warm_start.num_steps above 0")


def _in_the_checkpoints(config: TrainConfig) -> Iterator[Unused]:
    every, kept = config.checkpoint.every, config.checkpoint.keep_every
    if kept is not None and math.lcm(every, kept) > config.total_steps:
        why = f"where checkpoints are {every:,} steps apart and the run ends at {config.total_steps:,}"
        yield Unused("checkpoint.keep_every", why, "use a multiple of checkpoint.every within the run")
