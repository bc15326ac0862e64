"""Policy-gradient losses: what GRPO, PPO, CISPO and REINFORCE share, and the numbers that set them apart."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_agents.losses import arguments, kl
from jaxrl_agents.losses.aggregation import RULES, Counts, aggregate, count
from jaxrl_agents.losses.kl import bounded

SURROGATES = ("clipped", "truncated", "reinforce")
RATIOS = ("token", "sequence")

_Total = Callable[[jax.Array, jax.Array, str], jax.Array]  # of token losses, a mask and a rule


class TokenLosses(NamedTuple):
    """What a surrogate gives for each token, [B, T]."""

    losses: jax.Array
    clipped: jax.Array  # bool: the ratio was replaced by a bound


def sequence_log_ratio(log_ratio: jax.Array, log_probs: jax.Array, mask: jax.Array) -> jax.Array:
    """GSPO's length-normalised log ratio (arXiv 2507.18071, equations 7 and 14), the same for all tokens of a row.

    Its value is the mean over the row's tokens. Its gradient reaches each token's own log-probability, so advantages
    may differ within a row; where they do not, the gradient of a row is that of the sequence-level objective.

    Args:
      log_ratio: [B, T], 0 where the mask is False.
      log_probs: [B, T], of the policy, finite.
      mask: bool[B, T].
    """
    mean = log_ratio.sum(axis=-1, keepdims=True) / jnp.maximum(mask.sum(axis=-1, keepdims=True), 1)
    return log_probs - jax.lax.stop_gradient(log_probs) + jax.lax.stop_gradient(mean)


def clipped_surrogate(
    ratio: jax.Array, advantages: jax.Array, *, clip_low: float, clip_high: float, dual_clip: float | None = None
) -> TokenLosses:
    """PPO's clipped objective (arXiv 1707.06347, equation 7) with a bound for each side (DAPO's clip-higher).

    −min(r·A, clip(r, 1 − low, 1 + high)·A), which is −A times r, held below 1 + high where A > 0 and above 1 − low
    where A < 0. The dual clip c (arXiv 1912.09729) also holds r below c where A < 0. On a bound the
    gradient is that of r, as in PyTorch; beyond it, 0.
    """
    for_good = bounded(ratio, None, 1.0 + clip_high)
    for_bad = bounded(bounded(ratio, 1.0 - clip_low, None), None, dual_clip)
    used = jnp.where(advantages >= 0, for_good, for_bad)
    return TokenLosses(-used * advantages, (used != ratio) & (advantages != 0))


def truncated_surrogate(
    log_probs: jax.Array, ratio: jax.Array, advantages: jax.Array, *, clip_low: float, clip_high: float
) -> TokenLosses:
    """CISPO (MiniMax-M1, arXiv 2506.13585, equations 4 and 5): REINFORCE weighted by the clipped ratio, a constant.

    −sg(clip(r, 1 − low, 1 + high))·A·log π. Every token keeps its gradient, clipped or not. `clip_low=1` leaves the
    ratio unbounded below.
    """
    used = bounded(ratio, 1.0 - clip_low, 1.0 + clip_high)
    return TokenLosses(-jax.lax.stop_gradient(used) * advantages * log_probs, (used != ratio) & (advantages != 0))


@dataclasses.dataclass(frozen=True, kw_only=True)
class PolicyLoss:
    """A policy-gradient loss; the defaults are GRPO's (DeepSeekMath, arXiv 2402.03300) without a KL penalty.

    Hashable, so it can be a static argument of a jitted step. `dataclasses.replace` makes variants.
    """

    surrogate: str = "clipped"  # or "truncated" (CISPO), "reinforce" (−A·log π)
    ratio: str = "token"  # or "sequence" (GSPO)
    clip_low: float = 0.2  # r ≥ 1 − this where A < 0
    clip_high: float = 0.2  # r ≤ 1 + this where A > 0
    dual_clip: float | None = None  # r ≤ this where A < 0
    log_ratio_bound: float | None = None  # |log r| of a token, before it is used
    sequence_log_ratio_bound: float | None = None  # log of a sequence's ratio, from above
    aggregation: str = "sequence_mean_token_mean"  # a key of aggregation.RULES
    max_length: int | None = None  # of the `scale` rules
    kl_coefficient: float = 0.0
    kl_estimator: str = "k3"
    kl_log_ratio_bound: float | None = None
    kl_bound: float | None = None
    kl_aggregation: str | None = None  # as `aggregation` where None
    entropy_coefficient: float = 0.0
    entropy_aggregation: str | None = None  # as `aggregation` where None

    def __post_init__(self) -> None:
        arguments.choice("surrogate", self.surrogate, SURROGATES)
        arguments.choice("ratio", self.ratio, RATIOS)
        arguments.choice("aggregation", self.aggregation, RULES)
        arguments.choice("kl_aggregation", self.kl_aggregation, (None, *RULES))
        arguments.choice("entropy_aggregation", self.entropy_aggregation, (None, *RULES))
        arguments.choice("kl_estimator", self.kl_estimator, kl.ESTIMATORS)
        arguments.number("clip_low", self.clip_low, high=1.0)
        arguments.number("clip_high", self.clip_high, low=-1.0)  # CISPO may cap the weights below 1
        arguments.number("kl_coefficient", self.kl_coefficient)
        arguments.number("entropy_coefficient", self.entropy_coefficient)
        for name in ("log_ratio_bound", "sequence_log_ratio_bound", "kl_log_ratio_bound", "kl_bound"):
            if getattr(self, name) is not None:
                arguments.number(name, getattr(self, name))
        if self.dual_clip is not None:
            arguments.number("dual_clip", self.dual_clip, low=1.0)
        if self.max_length is not None:
            arguments.count("max_length", self.max_length)

    def __call__(
        self,
        log_probs: Any,
        old_log_probs: Any,
        advantages: Any,
        mask: Any,
        *,
        reference_log_probs: Any = None,
        entropies: Any = None,
        counts: Counts | None = None,
        lengths: Any = None,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The loss and its metrics.

        Args:
          log_probs: [B, T], of the tokens under the policy that is trained.
          old_log_probs: [B, T], under the policy that drew them: constants over the epochs of an update. On the first
            update they equal `log_probs`, of which `None` makes a copy without gradient.
          advantages: [B], or [B, T] where tokens differ.
          mask: bool[B, T], True for the policy's own tokens. What stands elsewhere does not matter, NaN included.
          reference_log_probs: [B, T], of a frozen or moving reference; needed by a KL penalty.
          entropies: [B, T], of the policy at each token; needed by an entropy bonus.
          counts: of the whole batch, `aggregation.count(mask)`, where this is one of its micro-batches.
          lengths: int[B], where the rows are pieces of sequences, see `aggregation.aggregate`; only with the ratios of
            tokens.

        Returns:
          The loss, float[], and float[] means over the tokens (constants): "policy_loss" (aggregated as the loss),
          "clip_fraction", "old_kl" (KL(old ‖ new) by k3), and "reference_kl" and "entropy" where their inputs are
          given. With `counts`, losses and metrics of micro-batches add up to those of the batch.
        """
        mask = arguments.mask_of("mask", mask, "B", "T")
        if lengths is not None and self.ratio == "sequence":
            raise ValueError("lengths with ratio='sequence': the ratio of a sequence needs its tokens in one row")
        counts = count(mask) if counts is None else counts
        total = partial(aggregate, counts=counts, max_length=self.max_length, lengths=lengths)
        log_probs = arguments.masked("log_probs", log_probs, mask)
        old = jax.lax.stop_gradient(log_probs if old_log_probs is None else _old(old_log_probs, mask))
        advantages = jax.lax.stop_gradient(arguments.per_token("advantages", advantages, mask))
        tokens = self.token_losses(log_probs, old, advantages, mask)
        loss = total(tokens.losses, mask, self.aggregation)
        metrics = {
            "policy_loss": loss,
            "clip_fraction": tokens.clipped.astype(loss.dtype),
            "old_kl": kl.k3(log_probs - old),
        }
        loss += self._penalty(log_probs, reference_log_probs, mask, total, metrics)
        loss -= self._bonus(entropies, mask, total, metrics)
        return loss, {name: jax.lax.stop_gradient(_mean(value, mask, counts)) for name, value in metrics.items()}

    def token_losses(
        self, log_probs: jax.Array, old_log_probs: jax.Array, advantages: jax.Array, mask: jax.Array
    ) -> TokenLosses:
        """The surrogate of each token, [B, T], from arrays that are 0 where the mask is False."""
        if self.surrogate == "reinforce":
            return TokenLosses(-advantages * log_probs, jnp.zeros_like(mask))
        log_ratio = log_probs - old_log_probs
        if self.log_ratio_bound is not None:
            log_ratio = bounded(log_ratio, -self.log_ratio_bound, self.log_ratio_bound)
        if self.ratio == "sequence":
            log_ratio = sequence_log_ratio(log_ratio, log_probs, mask)
            log_ratio = bounded(log_ratio, None, self.sequence_log_ratio_bound)
        ratio = jnp.exp(log_ratio)
        if self.surrogate == "truncated":
            return truncated_surrogate(log_probs, ratio, advantages, clip_low=self.clip_low, clip_high=self.clip_high)
        return clipped_surrogate(
            ratio, advantages, clip_low=self.clip_low, clip_high=self.clip_high, dual_clip=self.dual_clip
        )

    def _penalty(
        self, log_probs: jax.Array, reference: Any, mask: jax.Array, total: _Total, metrics: dict[str, jax.Array]
    ) -> jax.Array | float:
        if reference is None:
            if self.kl_coefficient:
                raise ValueError(f"kl_coefficient={self.kl_coefficient} needs reference_log_probs; got None")
            return 0.0
        estimates = kl.kl_divergence(
            log_probs,
            reference,
            mask,
            estimator=self.kl_estimator,
            log_ratio_bound=self.kl_log_ratio_bound,
            bound=self.kl_bound,
        )
        metrics["reference_kl"] = estimates
        if not self.kl_coefficient:
            return 0.0
        return self.kl_coefficient * total(estimates, mask, self.kl_aggregation or self.aggregation)

    def _bonus(
        self, entropies: Any, mask: jax.Array, total: _Total, metrics: dict[str, jax.Array]
    ) -> jax.Array | float:
        if entropies is None:
            if self.entropy_coefficient:
                raise ValueError(f"entropy_coefficient={self.entropy_coefficient} needs entropies; got None")
            return 0.0
        entropies = arguments.masked("entropies", entropies, mask)
        metrics["entropy"] = entropies
        if not self.entropy_coefficient:
            return 0.0
        return self.entropy_coefficient * total(entropies, mask, self.entropy_aggregation or self.aggregation)


def value_loss(
    values: Any,
    returns: Any,
    mask: Any,
    *,
    old_values: Any = None,
    clip: float | None = None,
    aggregation: str = "token_mean",
    max_length: int | None = None,
    counts: Counts | None = None,
) -> jax.Array:
    """Half the squared error of a value function, clipped around its old values as PPO's reference code has it.

    ½·max((v − R)², (clip(v, v_old − c, v_old + c) − R)²); c is `clip`, and None does not clip.

    Args:
      values: [B, T].
      returns: [B, T]; no gradient passes.
      mask: bool[B, T].
      old_values: [B, T], from before the update; needed by `clip`.
      clip: c.
      aggregation: a key of `aggregation.RULES`.
      max_length: as `aggregation.aggregate`.
      counts: as `aggregation.aggregate`.

    Returns:
      float[].
    """
    mask = arguments.mask_of("mask", mask, "B", "T")
    values = arguments.masked("values", values, mask)
    returns = jax.lax.stop_gradient(arguments.masked("returns", returns, mask))
    errors = jnp.square(values - returns)
    if clip is not None:
        if old_values is None:
            raise ValueError(f"clip={clip} needs old_values; got None")
        old = jax.lax.stop_gradient(arguments.masked("old_values", old_values, mask))
        change = bounded(values - old, -arguments.number("clip", clip), clip)
        errors = jnp.maximum(errors, jnp.square(old + change - returns))
    return 0.5 * aggregate(errors, mask, aggregation, counts=counts, max_length=max_length)


def _old(old_log_probs: Any, mask: jax.Array) -> jax.Array:
    return arguments.masked("old_log_probs", old_log_probs, mask)


def _mean(value: jax.Array, mask: jax.Array, counts: Counts) -> jax.Array:
    """A metric as one number: the mean over tokens, or what is one already."""
    return aggregate(value, mask, "token_mean", counts=counts) if value.ndim else value
