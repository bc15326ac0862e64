"""TSR as a learner: searches in place of plain rollouts, instance filtering, and the paper's PPO or GRPO."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from envs_jax.tasks import TaskBank
from jaxrl_agents import losses
from jaxrl_agents.arguments import count
from jaxrl_agents.losses import Algorithm
from jaxrl_agents.methods.tsr.domains import NUM_HELD_OUT, Domain
from jaxrl_agents.methods.tsr.scores import Guided
from jaxrl_agents.models import Transformer, config_for
from jaxrl_agents.rollouts import Beam, BestOfN, Lookahead, Policy, Standard, Strategy, Top
from jaxrl_agents.search.arguments import finite
from jaxrl_agents.training.learner import Learner
from jaxrl_agents.training.setup import with_tokens

NUM_GROUPS, GROUP_SIZE, KEPT = 16, 16, 0.25  # P, L and p of the paper
CLIP_LOW, CLIP_HIGH, ENTROPY = 0.2, 0.28, 0.001
VALUE = 0.01  # coefficient of the value loss: the critic shares the policy's layers, and returns reach 10
TEMPERATURE = 0.5  # of evaluations

# What each of the paper's methods collects with, under the scores of a domain that needs one.
METHODS: dict[str, Strategy] = {
    "filtering": Standard(),
    "best-of-N": BestOfN(28, per="group"),
    "lookahead": Lookahead(depth=2, num_candidates=4),
    "beam": Beam(beam_width=2, num_candidates=4),
}


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What the paper's language models do not determine: the policy, and how fast it learns.

    Attributes:
      d_model: width of the transformer.
      num_layers: its layers.
      num_heads: their heads.
      base_learning_rate: of the supervised updates that make the base model, see `base.base_params`.
      learning_rate: of Adam in training, for the policy and the value head alike; times the domain's pace.
      num_epochs: passes over the rollouts of an iteration (RAGEN: 1).
      num_minibatches: updates of a pass; of the 64 rollouts that the filter keeps the paper's updates take 32.

    Raises:
      TypeError, ValueError: naming the field that is no integer of at least 1, or no finite rate above 0.
    """

    d_model: int = 32
    num_layers: int = 2
    num_heads: int = 2
    base_learning_rate: float = 3e-3
    learning_rate: float = 1e-3
    num_epochs: int = 2
    num_minibatches: int = 2

    def __post_init__(self) -> None:
        for name in ("d_model", "num_layers", "num_heads", "num_epochs", "num_minibatches"):
            count(name, getattr(self, name))
        for name in ("base_learning_rate", "learning_rate"):
            finite(name, getattr(self, name), low=0)


class Problem(NamedTuple):
    """What all the methods share on a domain."""

    domain: Domain
    policy: Policy
    tasks: TaskBank[Any]  # to train on
    held_out: TaskBank[Any]  # of `NUM_HELD_OUT`


def problem(domain: Domain, sizes: Sizes, seed: int) -> Problem:
    """The tasks and the policy of a domain; no board or product is both trained on and held out.

    Raises:
      ValueError: there are too few tasks to hold some out.
    """
    env, bank = with_tokens(domain.id, seed, dict(domain.arguments))
    if len(bank) <= NUM_HELD_OUT:
        raise ValueError(f"{domain.name} has {len(bank)} tasks, of which {NUM_HELD_OUT} are held out; give it more")
    tasks, held_out = env.hold_out(bank, NUM_HELD_OUT, seed)
    several = domain.max_turn_actions > 1
    config = config_for(
        env, d_model=sizes.d_model, num_layers=sizes.num_layers, num_heads=sizes.num_heads, end_of_turn=several
    )
    policy = Policy(env, Transformer(config), context=domain.context, max_turn_actions=domain.max_turn_actions)
    return Problem(domain, policy, tasks, held_out)


def guided(strategy: Strategy, domain: Domain) -> Strategy:
    """The strategy, ranking by the domain's score where it has one; whole rollouts are ranked by their returns."""
    if domain.score is None or not isinstance(strategy, Beam | Lookahead):
        return strategy
    return Guided(strategy, domain.score)


def learner(given: Problem, strategy: Strategy, sizes: Sizes) -> Learner:
    """The paper's training: Algorithm 1 with this strategy, which ranks by the domain's score."""
    dense = given.domain.algorithm == "ppo"
    return Learner(
        given.policy,
        guided(strategy, given.domain),
        algorithm(given.domain),
        optax.chain(optax.clip_by_global_norm(1.0), optax.adam(given.domain.pace * sizes.learning_rate)),
        num_turns=given.domain.num_turns,
        num_groups=NUM_GROUPS,
        group_size=GROUP_SIZE,
        num_epochs=sizes.num_epochs,
        num_minibatches=sizes.num_minibatches,
        filter=Top(KEPT),
        discount=1.0 if dense else None,
        value_coefficient=VALUE if dense else None,
    )


def algorithm(domain: Domain) -> Algorithm:
    """PPO with γ = λ = 1, or GRPO; clip-higher, no KL penalty, an entropy bonus of 0.001."""
    options = {"clip_low": CLIP_LOW, "clip_high": CLIP_HIGH, "entropy_coefficient": ENTROPY}
    if domain.algorithm == "grpo":
        return losses.grpo(**options)
    return losses.ppo(**options)._replace(advantages=losses.gae)


class Measured(NamedTuple):
    """The policy on the held-out tasks, without search."""

    success: jax.Array  # float32[]: the share of the episodes
    turns: jax.Array  # float32[]: mean
    actions: jax.Array  # float32[]: mean
    episode_return: jax.Array  # float32[]: mean


def measure(given: Problem, params: Any, key: jax.Array) -> Measured:
    """Plays every held-out task once, at temperature 0.5; the same key gives the same draws."""
    policy = given.policy.replace(temperature=TEMPERATURE)
    return _measured(params, key, policy, given.held_out.instances, given.domain.num_turns)


@partial(jax.jit, static_argnames="num_turns")
def _measured(params: Any, key: jax.Array, policy: Policy, instances: Any, num_turns: int) -> Measured:
    played = Standard()(params, key, policy, instances, group_size=1, num_turns=num_turns)
    of = (played.success, played.mask.sum(axis=-1), played.lengths, played.returns)
    return Measured(*(jnp.mean(values.astype(jnp.float32)) for values in of))
