"""Supervised losses: behaviour cloning, warm starts, rejection sampling."""

from __future__ import annotations

from typing import Any

import jax

from jaxrl_agents.losses import arguments
from jaxrl_agents.losses.aggregation import Counts, aggregate


def negative_log_likelihood(
    log_probs: Any,
    mask: Any,
    *,
    weights: Any = None,
    aggregation: str = "token_mean",
    max_length: int | None = None,
    counts: Counts | None = None,
) -> jax.Array:
    """−log π of the demonstrated tokens; "token_mean" is the cross-entropy of language models.

    Args:
      log_probs: [B, T], of the demonstrated tokens.
      mask: bool[B, T], True for the tokens to learn, such as the actions at and after a chosen step.
      weights: [B] or [B, T]; multiply the losses, not the counts. 1 by default.
      aggregation: a key of `aggregation.RULES`.
      max_length: as `aggregation.aggregate`.
      counts: as `aggregation.aggregate`.

    Returns:
      float[].
    """
    mask = arguments.mask_of("mask", mask, "B", "T")
    losses = -arguments.masked("log_probs", log_probs, mask)
    if weights is not None:
        losses *= jax.lax.stop_gradient(arguments.per_token("weights", weights, mask))
    return aggregate(losses, mask, aggregation, counts=counts, max_length=max_length)
