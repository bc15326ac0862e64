"""Losses of batches of decisions, and gradients that do not depend on how a batch is cut."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_agents import losses
from jaxrl_agents.losses import Algorithm, Counts
from jaxrl_agents.rollouts.policy import Decided, Policy
from jaxrl_agents.training.metrics import Metrics

Loss = Callable[[Any, Any, Counts], tuple[jax.Array, Metrics]]  # (params, batch, counts) -> loss, metrics


class Batch(NamedTuple):
    """B episodes as an update takes them: all that the policy's parameters do not change.

    Or B turns of them, with K = 1 (`by_turns`).
    """

    observations: Any  # leaves [B, K, …]
    actions: jax.Array  # int32[B, K, L]
    action_mask: jax.Array | None  # bool[B, K, A]
    mask: jax.Array  # bool[B, K, L]: decisions that are learned from
    old_log_probs: jax.Array | None = None  # float32[B, K, L], of the behaviour
    advantages: jax.Array | None = None  # float32[B, K, L]
    value_targets: jax.Array | None = None  # float32[B, K, L]
    reference_log_probs: jax.Array | None = None  # float32[B, K, L]
    lengths: jax.Array | None = None  # int32[B]: where rows are turns, decisions of the episodes that they are from


def decided(policy: Policy, params: Any, batch: Batch) -> Decided:
    """What the policy makes of a batch's decisions."""
    return policy.decided(params, batch.observations, batch.actions, batch.action_mask)


def policy_loss(policy: Policy, algorithm: Algorithm, value_coefficient: float, max_length: int | None = None) -> Loss:
    """The algorithm's loss, with a value loss where the batch has targets for one.

    Args:
      policy: whose decisions they are.
      algorithm: its loss.
      value_coefficient: of the value loss.
      max_length: decisions that an episode may have; by default those that fit in a row.
    """
    objective = algorithm.loss
    if objective.max_length is None:
        objective = dataclasses.replace(objective, max_length=max_length)

    def loss(params: Any, batch: Batch, counts: Counts) -> tuple[jax.Array, Metrics]:
        made = decided(policy, params, batch)
        mask = _flat(batch.mask)
        reference = None if batch.reference_log_probs is None else _flat(batch.reference_log_probs)
        total, metrics = objective(
            _flat(made.log_probs), _flat(batch.old_log_probs), _flat(batch.advantages), mask,
            reference_log_probs=reference, entropies=_flat(made.entropies), counts=counts, lengths=batch.lengths,
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


def gradient(
    loss: Loss, params: Any, batch: Batch, num_parts: int, *, turns_apart: bool = False, num_shards: int = 1
) -> tuple[Any, Metrics]:
    """The gradient of a batch's loss, and the metrics, summed over `num_parts` micro-batches.

    Every part divides by the counts of the whole batch, so the sum is the whole batch's, but for rounding. Parts in
    which there is nothing to learn are left out.

    Args:
      loss: of `policy_loss` (with its `max_length`, if turns are apart) or `supervised_loss`.
      params: of the policy.
      batch: B episodes.
      num_parts: of equal size, the last one but for what is left.
      turns_apart: whether the loss of a turn depends on no other turn of the episode: then parts are made of turns, and
        those with something to learn come first.
      num_shards: devices that the rows are split over.
    """
    counts = losses.count(_flat(batch.mask))
    differentiate = jax.grad(loss, has_aux=True)
    if num_parts == 1:
        return differentiate(params, batch, counts)
    rows = by_turns(batch) if turns_apart else batch
    part, number = _learned_first(rows, num_parts, num_shards)
    add = lambda index, total: jax.tree.map(jnp.add, total, differentiate(params, part(index), counts))
    shapes = jax.eval_shape(differentiate, params, jax.eval_shape(part, 0), counts)
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    return jax.lax.fori_loop(0, number, add, zeros)


def by_turns(batch: Batch) -> Batch:
    """Every turn as a row, [B · K, 1, …], that knows how many decisions its episode has."""
    num_turns = batch.mask.shape[1]
    lengths = jnp.repeat(jnp.sum(batch.mask, axis=(1, 2), dtype=jnp.int32), num_turns)
    rows = jax.tree.map(lambda leaf: leaf.reshape(-1, 1, *leaf.shape[2:]), batch)
    return rows._replace(lengths=lengths)


def _learned_first(batch: Batch, num_parts: int, num_shards: int) -> tuple[Callable[[Any], Batch], jax.Array]:
    """A function from the number of a part to the part, and in how many parts, the first ones, something is learned.

    A part has as many rows of each device, which stay there; those with something to learn come first.
    """
    num_shards = math.gcd(num_shards, len(batch.mask))
    sharded = jax.tree.map(lambda leaf: leaf.reshape(num_shards, -1, *leaf.shape[1:]), batch)
    learned = jnp.any(sharded.mask, axis=(-1, -2))
    order = jnp.argsort(~learned, axis=-1, stable=True)
    num_rows = order.shape[1]
    size = -(-num_rows // num_parts)
    number = -(-jnp.max(jnp.sum(learned, axis=-1, dtype=jnp.int32)) // size)
    take = jax.vmap(lambda leaf, rows: leaf[rows])

    def part(index: Any) -> Batch:
        places = index * size + jnp.arange(size)
        rows = order[:, jnp.minimum(places, num_rows - 1)]
        taken = jax.tree.map(lambda leaf: take(leaf, rows).reshape(-1, *leaf.shape[2:]), sharded)
        return taken._replace(mask=taken.mask & jnp.tile(places < num_rows, num_shards)[:, None, None])

    return part, number


def in_parts(function: Callable[[Batch], Any], batch: Batch, num_parts: int) -> Any:
    """`function(batch)`, leaves [B, …], computed for micro-batches one by one: `num_parts`, or fewer that divide B."""
    num_parts = math.gcd(num_parts, len(batch.mask))
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
