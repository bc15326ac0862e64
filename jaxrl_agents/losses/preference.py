"""Losses from pairs of sequences of which one is preferred."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl_agents.losses import arguments


def dpo_loss(
    chosen_log_probs: Any,
    rejected_log_probs: Any,
    reference_chosen_log_probs: Any,
    reference_rejected_log_probs: Any,
    chosen_mask: Any,
    rejected_mask: Any,
    *,
    beta: float = 0.1,
    label_smoothing: float = 0.0,
    valid: Any = None,
    num_pairs: int | jax.Array | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Direct preference optimisation (arXiv 2305.18290, equation 7): −log σ(β·Δ).

    Δ is how much log π/π_ref of the chosen sequence exceeds that of the rejected one. With label smoothing ε,
    −(1 − ε)·log σ(βΔ) − ε·log σ(−βΔ): preferences that are wrong with probability ε (cDPO).

    Args:
      chosen_log_probs: [P, T], of the tokens of the preferred sequences.
      rejected_log_probs: [P, U], of the others; U may differ from T.
      reference_chosen_log_probs: [P, T], under the reference; no gradient passes.
      reference_rejected_log_probs: [P, U].
      chosen_mask: bool[P, T], the policy's own tokens.
      rejected_mask: bool[P, U].
      beta: β.
      label_smoothing: ε, from 0 to ½.
      valid: bool[P]; pairs that are False do not count. All by default.
      num_pairs: valid pairs of the whole batch, where this is one of its micro-batches.

    Returns:
      The loss, float[], and float[] means over the pairs: "accuracy" (chosen above rejected), "margin" (βΔ),
      "chosen_reward" and "rejected_reward" (β times log π/π_ref).
    """
    arguments.number("label_smoothing", label_smoothing, high=0.5)
    chosen_mask, rejected_mask, valid = _masks(chosen_mask, rejected_mask, valid)
    chosen = beta * _log_ratio("chosen_log_probs", chosen_log_probs, reference_chosen_log_probs, chosen_mask, valid)
    rejected = beta * _log_ratio(
        "rejected_log_probs", rejected_log_probs, reference_rejected_log_probs, rejected_mask, valid
    )
    margin = chosen - rejected
    losses = -(1 - label_smoothing) * jax.nn.log_sigmoid(margin) - label_smoothing * jax.nn.log_sigmoid(-margin)
    divisor = jnp.maximum(valid.sum() if num_pairs is None else num_pairs, 1)
    mean = lambda values: jnp.where(valid, values, 0.0).sum() / divisor
    metrics = {"accuracy": margin > 0, "margin": margin, "chosen_reward": chosen, "rejected_reward": rejected}
    return mean(losses), {name: jax.lax.stop_gradient(mean(value)) for name, value in metrics.items()}


def _masks(chosen_mask: Any, rejected_mask: Any, valid: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The checked masks: bool[P, T], bool[P, U] and bool[P]."""
    chosen_mask = arguments.mask_of("chosen_mask", chosen_mask, "P", "T")
    rejected_mask = arguments.mask_of("rejected_mask", rejected_mask, "P", "U")
    pairs = chosen_mask.shape[:1]
    if rejected_mask.shape[:1] != pairs:
        raise ValueError(f"rejected_mask has {rejected_mask.shape[0]} rows; chosen_mask has {pairs[0]}")
    valid = jnp.ones(pairs, bool) if valid is None else arguments.mask_of("valid", valid, "P")
    if valid.shape != pairs:
        raise ValueError(f"valid has shape {valid.shape}; it must be {pairs}")
    return chosen_mask, rejected_mask, valid


def _log_ratio(name: str, log_probs: Any, reference: Any, mask: jax.Array, valid: jax.Array) -> jax.Array:
    """The log of π/π_ref of each sequence, [P]."""
    mask = mask & valid[:, None]
    reference = jax.lax.stop_gradient(arguments.masked(f"reference_{name}", reference, mask))
    return (arguments.masked(name, log_probs, mask) - reference).sum(axis=-1)
