"""Advantages: relative to a group, to the rest of it, to a value function, or to other visits of the same state.

Groups are ids, int[B] from 0 to B − 1, in any order and of any sizes; rows that do not count are False in `valid`.
Nothing here passes a gradient.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_agents.losses import arguments

SCALES = ("group", "batch", "none")
SINGLETONS = ("zero", "reward")


class GroupStatistics(NamedTuple):
    """Of the group of each row, [B]."""

    centered: jax.Array  # the row's reward minus the group's mean: exactly 0 where all are equal
    std: jax.Array  # with n − 1 in the denominator; 0 for a single row
    size: jax.Array  # int32: valid rows


def group_statistics(rewards: jax.Array, groups: jax.Array, valid: jax.Array) -> GroupStatistics:
    """Statistics of the valid rows of each row's group; `rewards` must be finite."""
    total = lambda values: jax.ops.segment_sum(jnp.where(valid, values, 0), groups, rewards.shape[0])[groups]
    size = total(jnp.ones_like(groups))
    # Shifted by one of its members, a group of equal rewards becomes exact zeros, and large rewards keep their digits.
    lowest = jax.ops.segment_min(jnp.where(valid, rewards, jnp.inf), groups, rewards.shape[0])[groups]
    shifted = jnp.where(valid, rewards - lowest, 0.0)
    centered = shifted - total(shifted) / jnp.maximum(size, 1)
    std = jnp.sqrt(total(jnp.square(centered)) / jnp.maximum(size - 1, 1))
    return GroupStatistics(jnp.where(valid, centered, 0.0), std, size)


def group_advantages(
    rewards: Any,
    groups: Any,
    *,
    valid: Any = None,
    scale: str = "group",
    epsilon: float = 1e-6,
    singleton: str = "zero",
) -> jax.Array:
    """Rewards relative to their group: GRPO (DeepSeekMath, arXiv 2402.03300, section 4.1.2) and Dr. GRPO.

    A = (R − mean) / (std + ε), std with n − 1 in the denominator as all libraries have it.

    Args:
      rewards: float[B].
      groups: int[B].
      valid: bool[B]; rows that are False enter no mean and get 0. All by default.
      scale: divide by the "group"'s standard deviation, that of the "batch"'s rewards, or "none" (Dr. GRPO, arXiv
        2503.20783).
      epsilon: added to the standard deviation: 1e-6 in verl and tunix, 1e-4 in TRL.
      singleton: the advantage of a group of one: "zero", or its "reward" as in verl (a bias: it has no baseline).

    Returns:
      float[B]; exactly 0 in groups of equal rewards.
    """
    rewards, groups, valid = _rows(rewards, groups, valid)
    arguments.choice("scale", scale, SCALES)
    arguments.choice("singleton", singleton, SINGLETONS)
    centered, std, size = group_statistics(rewards, groups, valid)
    if singleton == "reward":
        alone = valid & (size == 1)
        centered, std = jnp.where(alone, rewards, centered), jnp.where(alone, 1.0, std)
    if scale == "batch":
        std = group_statistics(rewards, jnp.zeros_like(groups), valid).std
    return jax.lax.stop_gradient(centered if scale == "none" else centered / (std + epsilon))


def leave_one_out_advantages(rewards: Any, groups: Any, *, valid: Any = None, singleton: str = "zero") -> jax.Array:
    """RLOO (arXiv 2402.14740): the reward minus the mean of the group's other rewards, n/(n − 1)·(R − mean).

    Args: as `group_advantages`.

    Returns:
      float[B].
    """
    rewards, groups, valid = _rows(rewards, groups, valid)
    arguments.choice("singleton", singleton, SINGLETONS)
    centered, _, size = group_statistics(rewards, groups, valid)
    advantages = centered * size / jnp.maximum(size - 1, 1)
    if singleton == "reward":
        advantages = jnp.where(valid & (size == 1), rewards, advantages)
    return jax.lax.stop_gradient(advantages)


def informative(rewards: Any, groups: Any, *, valid: Any = None) -> jax.Array:
    """bool[B]: valid rows whose group has unequal rewards; the others have advantage 0 (DAPO, arXiv 2503.14476)."""
    rewards, groups, valid = _rows(rewards, groups, valid)
    high = jax.ops.segment_max(jnp.where(valid, rewards, -jnp.inf), groups, rewards.shape[0])[groups]
    low = jax.ops.segment_min(jnp.where(valid, rewards, jnp.inf), groups, rewards.shape[0])[groups]
    return valid & (high > low)


class Selection(NamedTuple):
    """Rows picked from a batch."""

    rows: jax.Array  # int32[n]: indices, group by group
    kept: jax.Array  # bool[n]: False where there were too few to pick


def dynamic_sampling(rewards: Any, groups: Any, num_rows: int, *, valid: Any = None) -> Selection:
    """DAPO's dynamic sampling: the first `num_rows` rows of informative groups, in the order of the groups' first rows.

    Shapes are fixed under jit, so sample more than is trained on, select, and put `kept` into the mask. With whole
    groups of G rows and a multiple of G for `num_rows` no group is cut.
    """
    keep = informative(rewards, groups, valid=valid)
    size = arguments.count("num_rows", num_rows)
    if size > keep.shape[0]:
        raise ValueError(f"num_rows={size} is more than the {keep.shape[0]} rows there are")
    groups = jnp.asarray(groups)
    index = jnp.arange(keep.shape[0], dtype=jnp.int32)
    first = jax.ops.segment_min(index, groups, keep.shape[0])[groups]
    rows = jnp.lexsort((index, first, ~keep))[:size].astype(jnp.int32)
    return Selection(rows, keep[rows])


def overlong_penalty(lengths: Any, *, max_length: int, buffer: int, penalty: float = 1.0) -> jax.Array:
    """DAPO's soft penalty of long answers (arXiv 2503.14476, equation 13), to be added to the reward.

    0 up to `max_length − buffer` tokens, then linear to −`penalty` at `max_length`, and −`penalty` beyond.

    Args:
      lengths: int[…], in tokens.
      max_length: the longest answer, in tokens.
      buffer: over how many tokens the penalty grows.
      penalty: the largest.
    """
    max_length, buffer = arguments.count("max_length", max_length), arguments.count("buffer", buffer)
    if buffer > max_length:
        raise ValueError(f"buffer={buffer} must be at most max_length={max_length}")
    excess = (jnp.asarray(lengths) - (max_length - buffer)) / buffer
    return -arguments.number("penalty", penalty) * jnp.clip(excess, 0.0, 1.0)


def gae(
    rewards: Any, values: Any, mask: Any, *, discount: float = 1.0, decay: float = 1.0, bootstrap: Any = None
) -> tuple[jax.Array, jax.Array]:
    """Generalised advantage estimation (arXiv 1506.02438, equation 16) over the unmasked positions of each row.

    Positions that are False in the mask (observations, padding) are skipped as if they were not there: neither their
    values nor their rewards count, and they take no discount.

    Args:
      rewards: [B, T].
      values: [B, T], of the state in which the token or action was chosen.
      mask: bool[B, T].
      discount: γ.
      decay: λ.
      bootstrap: [B], the value of the state after the last position, for rows that were cut off; 0 by default.

    Returns:
      advantages and returns (advantage + value), [B, T]; 0 where the mask is False.
    """
    mask, rewards, values = _tokens(rewards, values, mask)
    after = (
        jnp.zeros_like(values[:, 0]) if bootstrap is None else arguments.floats("bootstrap", bootstrap, mask.shape[:1])
    )
    return _gae(rewards, values, mask, jnp.zeros_like(mask), after, discount, decay)


def bi_level_gae(
    rewards: Any,
    values: Any,
    mask: Any,
    turn_ends: Any,
    *,
    discount: float = 1.0,
    turn_discount: float = 0.95,
    decay: float = 1.0,
) -> tuple[jax.Array, jax.Array]:
    """RAGEN's bi-level GAE: first over turns, then over the tokens within each (RAGEN, `ragen/trainer/core_algos.py`).

    GAE over the last tokens of the turns, with `turn_discount`, gives each turn a return; that return, as the reward
    of the turn's last token, is spread over its tokens by GAE with `discount`, which starts afresh at each turn end.

    Args:
      rewards: [B, T].
      values: [B, T].
      mask: bool[B, T], the tokens of the policy.
      turn_ends: bool[B, T], the last token of each turn, within the mask. RAGEN takes the tokens with a reward other
        than 0 for them, so there a turn without reward melts into the next: `turn_ends=rewards != 0`.
      discount: γ between tokens.
      turn_discount: γ between turns.
      decay: λ of both.

    Returns:
      advantages and returns, [B, T]; 0 where the mask is False. RAGEN whitens the advantages afterwards.
    """
    mask, rewards, values = _tokens(rewards, values, mask)
    turn_ends = arguments.mask_of("turn_ends", turn_ends, "B", "T")
    if turn_ends.shape != mask.shape:
        raise ValueError(f"turn_ends has shape {turn_ends.shape}; the mask has {mask.shape}")
    if not isinstance(turn_ends & ~mask, jax.core.Tracer) and bool((turn_ends & ~mask).any()):
        raise ValueError("turn_ends is True where the mask is False; a turn ends on a token of the policy")
    zero = jnp.zeros_like(values[:, 0])
    _, turn_returns = _gae(rewards, values, turn_ends, jnp.zeros_like(mask), zero, turn_discount, decay)
    spread = jnp.where(turn_ends, turn_returns, rewards)
    return _gae(spread, values, mask, turn_ends, zero, discount, decay)


def whiten(values: Any, mask: Any) -> jax.Array:
    """Masked entries of [B, T] with mean 0 and variance 1 (n − 1 in the denominator, 1e-8 added), 0 elsewhere."""
    mask = arguments.mask_of("mask", mask, "B", "T")
    values = arguments.masked("values", values, mask)
    size = mask.sum()
    centered = jnp.where(mask, values - values.sum() / jnp.maximum(size, 1), 0.0)
    variance = jnp.square(centered).sum() / jnp.maximum(size - 1, 1)
    return centered * jax.lax.rsqrt(variance + 1e-8)


def discounted_returns(rewards: Any, mask: Any, *, discount: float) -> jax.Array:
    """R_t = r_t + γ·R_{t+1} over the unmasked positions of each row, [B, T]; 0 where the mask is False."""
    mask = arguments.mask_of("mask", mask, "B", "T")
    rewards = arguments.masked("rewards", rewards, mask)
    # GAE with λ = 1 and no values is the discounted return.
    zeros = jnp.zeros_like(rewards)
    return _gae(rewards, zeros, mask, jnp.zeros_like(mask), zeros[:, 0], discount, 1.0)[1]


def gigpo_advantages(
    rewards: Any,
    anchors: Any,
    groups: Any,
    mask: Any,
    *,
    learned: Any = None,
    discount: float = 0.95,
    step_weight: float = 1.0,
    scale: str = "none",
    epsilon: float = 1e-6,
    singleton: str = "zero",
    baseline: str = "episode",
) -> jax.Array:
    """GiGPO (arXiv 2505.10978, equations 3 to 8): relative to the group's episodes, and to other visits of the state.

    A = A_E + w·A_S. A_E compares the episode's undiscounted return with those of its group; A_S compares the
    discounted return from a step with those from all steps of the group that were taken in the same state. A state
    visited once has A_S = 0. Keys are compared in full, not as hashes.

    Args:
      rewards: [B, K], of K steps (turns).
      anchors: [B, K] or [B, K, W] integers: the state before each step, such as `env.state_key`.
      groups: int[B].
      mask: bool[B, K], the steps that were taken: their rewards make the returns.
      learned: bool[B, K], within the mask: the steps that are compared and get an advantage; all of them by default.
      discount: γ of the step returns.
      step_weight: w.
      scale: "none" (the default of the authors' scripts), or "group": divide both by the standard deviation + ε.
      epsilon: ε.
      singleton: the A_E of a group of one: "zero", or its "reward" as in the authors' code.
      baseline: "episode": the mean of A_E is over episodes (the authors' newer code); "step": over their steps, so that
        long episodes weigh more (their older code).

    Returns:
      float[B, K]; 0 where the mask or `learned` is False.
    """
    mask = arguments.mask_of("mask", mask, "B", "K")
    learned = mask if learned is None else arguments.mask_of("learned", learned, "B", "K")
    if learned.shape != mask.shape:
        raise ValueError(f"learned has shape {learned.shape}; the mask has {mask.shape}")
    groups = arguments.group_ids(groups, len(mask))
    arguments.choice("scale", scale, ("group", "none"))
    arguments.choice("baseline", baseline, ("episode", "step"))
    rewards = arguments.masked("rewards", rewards, mask)
    step_groups = _same_state(anchors, groups, learned)
    returns = discounted_returns(rewards, mask, discount=discount).reshape(-1)
    options: dict[str, Any] = {"scale": scale, "epsilon": epsilon}
    step = group_advantages(returns, step_groups, valid=learned.reshape(-1), **options).reshape(mask.shape)
    episode = _of_episodes(rewards.sum(axis=-1), groups, learned, baseline, singleton=singleton, **options)
    return jnp.where(learned, episode + step_weight * step, 0.0)


def _of_episodes(totals: jax.Array, groups: jax.Array, mask: jax.Array, baseline: str, **options: Any) -> jax.Array:
    """A_E, [B, 1] or [B, K], from the episodes' returns."""
    if baseline == "episode":
        return group_advantages(totals, groups, valid=mask.any(axis=-1), **options)[:, None]
    over_steps = lambda values: jnp.repeat(values, mask.shape[1])
    episode = group_advantages(over_steps(totals), over_steps(groups), valid=mask.reshape(-1), **options)
    return episode.reshape(mask.shape)


def _same_state(anchors: Any, groups: jax.Array, mask: jax.Array) -> jax.Array:
    """Ids, int32[B·K], that are equal for steps of one group with equal anchors."""
    anchors = jnp.asarray(anchors)
    if not jnp.issubdtype(anchors.dtype, jnp.integer) or anchors.shape[:2] != mask.shape or anchors.ndim > 3:
        raise ValueError(
            f"anchors has dtype {anchors.dtype} and shape {anchors.shape}; it must be integers, {mask.shape} or "
            f"({mask.shape[0]}, {mask.shape[1]}, W)"
        )
    size = mask.size
    words = anchors.reshape(size, -1).T
    columns = (~mask.reshape(-1), jnp.repeat(groups, mask.shape[1]), *words)
    order = jnp.lexsort(columns)
    differs = [(column[order][1:] != column[order][:-1]) for column in columns]
    starts = jnp.concatenate([jnp.zeros(1, bool), jnp.stack(differs).any(axis=0)])
    return jnp.zeros(size, jnp.int32).at[order].set(jnp.cumsum(starts, dtype=jnp.int32))


def _rows(rewards: Any, groups: Any, valid: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Checked rewards (0 where not valid), group ids and validity, [B] each."""
    rewards = jnp.asarray(rewards)
    if rewards.ndim != 1:
        raise ValueError(f"rewards has shape {rewards.shape}; it must be [B], one number a row")
    valid = jnp.ones(rewards.shape, bool) if valid is None else arguments.mask_of("valid", valid, "B")
    if valid.shape != rewards.shape:
        raise ValueError(f"valid has shape {valid.shape}; rewards has {rewards.shape}")
    return arguments.masked("rewards", rewards, valid), arguments.group_ids(groups, rewards.shape[0]), valid


def _tokens(rewards: Any, values: Any, mask: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
    mask = arguments.mask_of("mask", mask, "B", "T")
    return mask, arguments.masked("rewards", rewards, mask), arguments.masked("values", values, mask)


def _gae(
    rewards: jax.Array,
    values: jax.Array,
    mask: jax.Array,
    ends: jax.Array,
    after: jax.Array,
    discount: float,
    decay: float,
) -> tuple[jax.Array, jax.Array]:
    """GAE over the unmasked positions; nothing flows back over an end."""

    def backward(
        carry: tuple[jax.Array, jax.Array], position: tuple[jax.Array, ...]
    ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        next_advantage, next_value = carry
        reward, value, real, end = position
        next_advantage, next_value = jnp.where(end, 0.0, next_advantage), jnp.where(end, 0.0, next_value)
        advantage = reward + discount * next_value - value + discount * decay * next_advantage
        carry = jnp.where(real, advantage, next_advantage), jnp.where(real, value, next_value)
        return carry, jnp.where(real, advantage, 0.0)

    dtype = jnp.promote_types(rewards.dtype, values.dtype)
    start = jnp.zeros_like(after, dtype), after.astype(dtype)
    positions = (rewards.T.astype(dtype), values.T.astype(dtype), mask.T, ends.T)
    _, advantages = jax.lax.scan(backward, start, positions, reverse=True)
    advantages = jax.lax.stop_gradient(advantages.T)
    return advantages, jnp.where(mask, jax.lax.stop_gradient(advantages + values), 0.0)
