"""Estimators of KL(policy ‖ reference) from the log-probabilities of tokens that the policy drew.

J. Schulman, "Approximating KL Divergence" (2020), http://joschu.net/blog/kl-approx.html. With d = log reference − log
policy: k1 = −d, k2 = d²/2, k3 = eᵈ − 1 − d. k1 and k3 are unbiased, k2 and k3 never negative. As a *loss* they differ
more: on-policy the gradient of k1 has mean 0 (it penalises nothing), that of k2 has the gradient of the KL divergence
as its mean, that of k3 the gradient of the divergence the other way round, KL(reference ‖ policy).

The reference is data: frozen weights, or moving ones (`optax.incremental_update`), give its log-probabilities, and no
gradient reaches it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl_agents.losses import arguments

_SERIES_RADIUS = 0.3
_SERIES = [1 / math.factorial(n) for n in range(14, 1, -1)]  # exact to float64 within the radius


def k1(log_ratio: jax.Array) -> jax.Array:
    """−d."""
    return -log_ratio


def k2(log_ratio: jax.Array) -> jax.Array:
    """d²/2."""
    return 0.5 * jnp.square(log_ratio)


def k3(log_ratio: jax.Array) -> jax.Array:
    """eᵈ − 1 − d, accurate to a few units in the last place for every d.

    The formula as written is wrong by up to 10⁸ times its value, and often negative, near 0 in float32; there the
    Taylor series replaces it.
    """
    near = jnp.abs(log_ratio) < _SERIES_RADIUS
    small = jnp.where(near, log_ratio, 0.0)
    series = jnp.zeros_like(small)
    for coefficient in _SERIES:
        series = series * small + coefficient
    far = jnp.where(near, 1.0, log_ratio)
    return jnp.where(near, jnp.square(small) * series, jnp.expm1(far) - far)


ESTIMATORS: dict[str, Callable[[jax.Array], jax.Array]] = {"k1": k1, "k2": k2, "k3": k3}


def bounded(values: jax.Array, low: float | None, high: float | None) -> jax.Array:
    """`values` clipped to [low, high]; the gradient is 1 on the closed interval, as PyTorch's, and 0 outside."""
    if low is not None:
        values = jnp.where(values < low, jnp.asarray(low, values.dtype), values)
    if high is not None:
        values = jnp.where(values > high, jnp.asarray(high, values.dtype), values)
    return values


def kl_divergence(
    log_probs: Any,
    reference_log_probs: Any,
    mask: Any,
    *,
    estimator: str = "k3",
    log_ratio_bound: float | None = None,
    bound: float | None = None,
) -> jax.Array:
    """The estimate for each token, [B, T]; 0 where the mask is False.

    Args:
      log_probs: [B, T], of the policy.
      reference_log_probs: [B, T], of the reference; no gradient passes.
      mask: bool[B, T].
      estimator: "k1", "k2" or "k3".
      log_ratio_bound: clips d to ± this.
      bound: clips the estimate to ± this.
    """
    mask = arguments.mask_of("mask", mask, "B", "T")
    estimate = ESTIMATORS[arguments.choice("estimator", estimator, ESTIMATORS)]
    reference = jax.lax.stop_gradient(arguments.masked("reference_log_probs", reference_log_probs, mask))
    log_ratio = reference - arguments.masked("log_probs", log_probs, mask)
    return bounded(estimate(bounded(log_ratio, *_both(log_ratio_bound))), *_both(bound))


def _both(limit: float | None) -> tuple[float | None, float | None]:
    return (None, None) if limit is None else (-limit, limit)
