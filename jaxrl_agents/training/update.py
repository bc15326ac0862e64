"""Losses of batches of decisions, and gradients that do not depend on how a batch is cut."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_agents import losses
from jaxrl_agents.losses import Algorithm, Counts
from jaxrl_agents.rollouts.policy import Decided, Policy

Metrics = dict[str, jax.Array]
Loss = Callable[[Any, Any, Counts], tuple[jax.Array, Metrics]]  # (params, batch, counts) -> loss, metrics


class Batch(NamedTuple):
    """B episodes as an update takes them: all that the policy's parameters do not change."""

    observations: Any  # leaves [B, K, …]
    actions: jax.Array  # int32[B, K, L]
    action_mask: jax.Array | None  # bool[B, K, A]
    mask: jax.Array  # bool[B, K, L]: decisions that are learned from
    old_log_probs: jax.Array | None = None  # float32[B, K, L], of the behaviour
    advantages: jax.Array | None = None  # float32[B, K, L]
    value_targets: jax.Array | None = None  # float32[B, K, L]
    reference_log_probs: jax.Array | None = None  # float32[B, K, L]


def decided(policy: Policy, params: Any, batch: Batch) -> Decided:
    """What the policy makes of a batch's decisions."""
    return policy.decided(params, batch.observations, batch.actions, batch.action_mask)


def policy_loss(policy: Policy, algorithm: Algorithm, value_coefficient: float) -> Loss:
    """The algorithm's loss, with a value loss where the batch has targets for one."""

    def loss(params: Any, batch: Batch, counts: Counts) -> tuple[jax.Array, Metrics]:
        made = decided(policy, params, batch)
        mask = _flat(batch.mask)
        reference = None if batch.reference_log_probs is None else _flat(batch.reference_log_probs)
        total, metrics = algorithm.loss(
            _flat(made.log_probs), _flat(batch.old_log_probs), _flat(batch.advantages), mask,
            reference_log_probs=reference, entropies=_flat(made.entropies), counts=counts,
        )  # fmt: skip
        if batch.value_targets is not None:
            errors = losses.value_loss(_flat(made.values), _flat(batch.value_targets), mask, counts=counts)
            total += value_coefficient * errors
            metrics["value_loss"] = errors
        return total, metrics | {"loss": total}

    return loss


def supervised_loss(policy: Policy) -> Loss:
    """Cross-entropy of the decisions, the mean over them."""

    def loss(params: Any, batch: Batch, counts: Counts) -> tuple[jax.Array, Metrics]:
        made = decided(policy, params, batch)
        mask = _flat(batch.mask)
        total = losses.negative_log_likelihood(_flat(made.log_probs), mask, counts=counts)
        entropy = losses.aggregate(_flat(made.entropies), mask, counts=counts)
        return total, {"loss": total, "entropy": entropy}

    return loss


def gradient(loss: Loss, params: Any, batch: Batch, num_parts: int) -> tuple[Any, Metrics]:
    """The gradient of a batch's loss, and the metrics, summed over `num_parts` micro-batches.

    Every part divides by the counts of the whole batch, so the sum is the whole batch's, but for rounding.
    """
    counts = losses.count(_flat(batch.mask))
    differentiate = jax.grad(loss, has_aux=True)
    if num_parts == 1:
        return differentiate(params, batch, counts)
    parts = split(batch, num_parts)
    add = lambda total, part: (jax.tree.map(jnp.add, total, differentiate(params, part, counts)), None)
    shapes = jax.eval_shape(differentiate, params, jax.tree.map(lambda leaf: leaf[0], parts), counts)
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    return jax.lax.scan(add, zeros, parts)[0]


def in_parts(function: Callable[[Batch], Any], batch: Batch, num_parts: int) -> Any:
    """`function(batch)`, leaves [B, …], computed for `num_parts` micro-batches one after the other."""
    if num_parts == 1:
        return function(batch)
    made = jax.lax.map(function, split(batch, num_parts))
    return jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1).reshape(-1, *leaf.shape[2:]), made)


def split(batch: Batch, num_parts: int) -> Batch:
    """Leaves [B, …] as [num_parts, B / num_parts, …]; a part takes every n-th row, so each device keeps its rows."""
    cut = lambda leaf: jnp.swapaxes(leaf.reshape(-1, num_parts, *leaf.shape[1:]), 0, 1)
    return jax.tree.map(cut, batch)


def _flat(leaf: Any) -> jax.Array:
    return leaf.reshape(len(leaf), -1)
