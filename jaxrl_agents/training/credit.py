"""From trajectories to the advantages of decisions, whatever the algorithm compares."""

from __future__ import annotations

import inspect
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_agents import losses
from jaxrl_agents.losses import Algorithm
from jaxrl_agents.rollouts.types import Trajectory

Credit = Literal["episode", "step"]


class Credited(NamedTuple):
    """What decisions were worth."""

    advantages: jax.Array  # float32[B, K, L]
    value_targets: jax.Array | None  # float32[B, K, L]; None where the algorithm takes no values


def takes_values(algorithm: Algorithm) -> bool:
    """Whether the algorithm's advantages need a value function: `gae`, `bi_level_gae`."""
    return "values" in _arguments(algorithm)


def check(
    algorithm: Algorithm,
    *,
    group_size: int,
    credit: Credit | None,
    discount: float | None,
    value_coefficient: float | None,
    reference_step_size: float,
) -> None:
    """Raises where an option would do nothing under the algorithm, or a group of one would teach nothing."""
    relative = not takes_values(algorithm) and "anchors" not in _arguments(algorithm)
    if credit is not None and not relative:
        compared = "single actions by a value function" if takes_values(algorithm) else "turns in the same state"
        raise ValueError(
            f"credit={credit!r} has no effect on a loss that compares {compared}: leave it out, or use one that is "
            "relative to the group, such as grpo"
        )
    if relative and group_size == 1:
        raise ValueError(
            "group_size=1 leaves nothing to compare an episode with, so that every advantage is 0: use 2 or more, or "
            "the ppo loss"
        )
    if relative and credit != "step" and discount not in (None, 1):
        raise ValueError(
            f"discount={discount} has no effect where whole episodes are compared, by undiscounted returns: use "
            "credit='step', or leave it out"
        )
    if value_coefficient is not None and not takes_values(algorithm):
        raise ValueError(
            f"value_coefficient={value_coefficient} has no effect without a value function: use the ppo loss, or leave "
            "it out"
        )
    if reference_step_size and not algorithm.loss.kl_coefficient:
        raise ValueError(
            f"reference_step_size={reference_step_size} has no effect without a reference: give a kl_coefficient above "
            "0, or leave it out"
        )


def assign(
    algorithm: Algorithm,
    trajectory: Trajectory,
    taken: jax.Array,
    learned: jax.Array,
    values: jax.Array | None,
    *,
    credit: Credit | None,
    discount: float | None,
) -> Credited:
    """The advantage of each decision.

    Returns and the advantages of value functions are of all that was taken: a reward counts also where its own turn is
    not learned from. What is compared, whitened and given an advantage is what is learned from.

    Algorithms are told apart by the names of the arguments that their advantages take: with `values` (PPO) over single
    decisions, whitened over the batch as verl does; with `anchors` (GiGPO) over turns and the states they were taken
    in; else relative to the group, over episodes or turns as `credit` says.

    Args:
      algorithm: of `jaxrl_agents.losses`.
      trajectory: B rows.
      taken: bool[B, K, L], all decisions.
      learned: bool[B, K, L], those that are learned from; within `taken`.
      values: float32[B, K, L], for algorithms that take them.
      credit: of algorithms that are relative to the group. "episode", or None: all turns have the advantage of the
        episode's return. "step": the return from a turn on is compared with those of the group from the same turn on.
      discount: of rewards to come; None: the algorithm's own, 1 for "step".
    """
    options = {} if discount is None else {"discount": discount}
    if takes_values(algorithm):
        return _over_decisions(algorithm, trajectory, taken, learned, values, options)
    turns = learned.any(axis=-1)
    if "anchors" in _arguments(algorithm):
        advantages = algorithm.advantages(
            trajectory.rewards, trajectory.state_keys, trajectory.groups, trajectory.mask, learned=turns, **options
        )
    elif credit == "step":
        advantages = _over_turns(algorithm, trajectory, turns, 1.0 if discount is None else discount)
    else:
        advantages = algorithm.advantages(trajectory.returns, trajectory.groups, valid=turns.any(axis=-1))[:, None]
    return Credited(jnp.broadcast_to(advantages[..., None], learned.shape), None)


def _over_turns(algorithm: Algorithm, trajectory: Trajectory, turns: jax.Array, discount: float) -> jax.Array:
    num_turns = turns.shape[1]
    returns = losses.discounted_returns(trajectory.rewards, trajectory.mask, discount=discount)
    groups = trajectory.groups[:, None] * num_turns + jnp.arange(num_turns)
    advantages = algorithm.advantages(returns.reshape(-1), groups.reshape(-1), valid=turns.reshape(-1))
    return advantages.reshape(turns.shape)


def _over_decisions(
    algorithm: Algorithm,
    trajectory: Trajectory,
    taken: jax.Array,
    learned: jax.Array,
    values: Any,
    options: dict[str, float],
) -> Credited:
    flat = lambda leaf: leaf.reshape(len(taken), -1)
    last = jnp.sum(taken, axis=-1, keepdims=True) - 1 == jnp.arange(taken.shape[-1])
    ends = taken & last
    rewards = jnp.where(ends, trajectory.rewards[..., None], 0)
    if "turn_ends" in _arguments(algorithm):
        options = options | {"turn_ends": flat(ends)}
    advantages, targets = algorithm.advantages(flat(rewards), flat(values), flat(taken), **options)
    advantages = losses.whiten(advantages, flat(learned))
    return Credited(advantages.reshape(taken.shape), targets.reshape(taken.shape))


def _arguments(algorithm: Algorithm) -> set[str]:
    return set(inspect.signature(algorithm.advantages).parameters)
