"""From token losses to one number: every rule has one name, whatever the libraries call it.

A rule is a numerator over a denominator. The denominator may be given for the whole batch (`count`): then the losses of
micro-batches, or of devices, add up to the loss of the batch, and so do their gradients.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_agents.losses import arguments


class Counts(NamedTuple):
    """What the rules divide by, int32[]. Counts of micro-batches add up, as do those of devices (`jax.lax.psum`)."""

    tokens: jax.Array  # True entries of the mask
    sequences: jax.Array  # rows with at least one
    rows: jax.Array  # all rows


class _Rule(NamedTuple):
    row: str  # a row gives the "sum" or the "mean" of its token losses
    unit: str | None  # what their sum is divided by: a field of Counts, or nothing
    per_length: bool = False  # and by the length that a row may have


# The unit comes first in a name, then what a row gives: `scale` is its sum over the fixed `max_length`.
RULES: dict[str, _Rule] = {
    "token_mean": _Rule("sum", "tokens"),
    "sequence_mean_token_mean": _Rule("mean", "sequences"),
    "sequence_mean_token_sum": _Rule("sum", "sequences"),
    "sequence_mean_token_scale": _Rule("sum", "sequences", per_length=True),
    "row_mean_token_mean": _Rule("mean", "rows"),
    "row_mean_token_sum": _Rule("sum", "rows"),
    "row_mean_token_scale": _Rule("sum", "rows", per_length=True),
    "row_sum_token_scale": _Rule("sum", None, per_length=True),
}


def count(mask: Any) -> Counts:
    """The counts of a batch with this mask, bool[B, T]."""
    mask = arguments.mask_of("mask", mask, "B", "T")
    return Counts(mask.sum(dtype=jnp.int32), mask.any(axis=-1).sum(dtype=jnp.int32), jnp.int32(mask.shape[0]))


def aggregate(
    losses: Any,
    mask: Any,
    rule: str = "token_mean",
    *,
    counts: Counts | None = None,
    max_length: int | None = None,
    lengths: Any = None,
) -> jax.Array:
    """One number from the losses of tokens; 0 where there is nothing to average.

    Args:
      losses: [B, T]; what stands where the mask is False does not matter.
      mask: bool[B, T].
      rule: a key of `RULES`. `sequence` rules leave rows without tokens out of the mean, `row` rules count them.
      counts: of the whole batch, where this is a part of it; by default those of `mask`.
      max_length: of the `scale` rules, the length that a row may have; by default T, the padded length.
      lengths: int[B], where the rows are pieces of sequences: the tokens of the whole sequences. Then give `counts`,
        and `max_length` to the `scale` rules: what the pieces give adds up to what the sequences give.

    Returns:
      float[].
    """
    mask = arguments.mask_of("mask", mask, "B", "T")
    losses = arguments.masked("losses", losses, mask)
    row, unit, per_length = RULES[arguments.choice("rule", rule, RULES)]
    rows = losses.sum(axis=-1)
    if row == "mean":
        rows = rows / jnp.maximum(mask.sum(axis=-1) if lengths is None else lengths, 1)
    total = rows.sum()
    if per_length:
        total = total / (mask.shape[1] if max_length is None else arguments.count("max_length", max_length))
    if unit is None:
        return total
    divisor = getattr(count(mask) if counts is None else counts, unit)
    return total / jnp.maximum(divisor, 1)
