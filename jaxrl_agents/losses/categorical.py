"""Log-probabilities and entropies of a categorical policy, in float32 or wider; logits of −inf are illegal actions."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl_agents.losses import arguments


def _normalized(logits: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Which actions are legal, and log-probabilities with 0 for the others, free of NaN in the gradient."""
    legal = logits > -jnp.inf
    finite = jnp.where(legal, logits, 0.0)
    log_total = jax.nn.logsumexp(finite, axis=-1, keepdims=True, where=legal)
    return legal, jnp.where(legal, finite - log_total, 0.0)


def log_prob(logits: Any, actions: Any) -> jax.Array:
    """Log-probabilities of actions, […], from logits […, A] and integer actions […]; −inf for an illegal action.

    Its gradient is one-hot minus softmax; that of an illegal action is 0.
    """
    logits, actions = jnp.asarray(logits), jnp.asarray(actions)
    if not jnp.issubdtype(actions.dtype, jnp.integer) or actions.shape != logits.shape[:-1]:
        raise ValueError(
            f"actions has dtype {actions.dtype}, shape {actions.shape}; must be integers, {logits.shape[:-1]}"
        )
    legal, log_probs = _normalized(arguments.floats("logits", logits, logits.shape))
    take = lambda values: jnp.take_along_axis(values, actions[..., None], axis=-1)[..., 0]
    return jnp.where(take(legal), take(log_probs), -jnp.inf)


def entropy(logits: Any) -> jax.Array:
    """Entropy in nats, […], of logits […, A]; illegal actions add nothing."""
    logits = jnp.asarray(logits)
    legal, log_probs = _normalized(arguments.floats("logits", logits, logits.shape))
    return -jnp.where(legal, jnp.exp(log_probs) * log_probs, 0.0).sum(axis=-1)
