"""Candidates of a node: all actions, samples with replacement, or samples without (Gumbel-top-k)."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_agents.search import rng
from jaxrl_agents.search.types import Proposal

Candidates = Literal["enumerate", "sample", "gumbel"]

SMALL = 16  # up to so many actions, arrays over actions are taken apart into columns, which fuse


def legal_actions(logits: jax.Array) -> jax.Array:
    """bool, like `logits`: False where a logit is −inf, the lowest finite number or about −1e9 (mctx's customs)."""
    return logits > max(-5e8, float(jnp.finfo(logits.dtype).min) / 2)


def float32_logits(logits: jax.Array) -> jax.Array:
    """`logits` as float32; those of another dtype are −inf where illegal: their lowest finite number is another one."""
    if logits.dtype == jnp.float32:
        return logits
    return jnp.where(legal_actions(logits), logits.astype(jnp.float32), np.float32(-np.inf))


class Distribution(NamedTuple):
    """softmax(logits / temperature) over the legal actions of nodes; the axis of actions is in front, [A, …]."""

    log_probs: jax.Array  # float32[A, …]; −inf where illegal
    probs: jax.Array  # float32[A, …]
    any_legal: jax.Array  # bool[…]

    @property
    def entropy(self) -> jax.Array:
        """float32[…], in nats."""
        return -reduced(jnp.add, jnp.where(self.probs > 0, self.probs * self.log_probs, 0))

    def log_prob(self, action: jax.Array) -> jax.Array:
        """float32[…] of an action […]; −inf for −1."""
        if len(self.log_probs) > SMALL:
            chosen = jnp.take_along_axis(self.log_probs, jnp.maximum(action, 0)[None], axis=0)[0]
            return jnp.where(action < 0, -jnp.inf, chosen)
        log_prob = jnp.full(action.shape, -jnp.inf, jnp.float32)
        for index, column in enumerate(self.log_probs):
            log_prob = jnp.where(action == index, column, log_prob)
        return log_prob


def distribution(logits: jax.Array, temperature: Any) -> Distribution:
    """The distribution over legal actions that `logits` [A, …] give."""
    legal = jnp.where(legal_actions(logits), logits.astype(jnp.float32), -jnp.inf)
    top = reduced(jnp.maximum, legal)
    any_legal = top > -jnp.inf
    shifted = (legal - jnp.where(any_legal, top, 0)) / temperature  # the largest is 0, however low the temperature
    weights = jnp.exp(shifted)
    total = reduced(jnp.add, weights)
    return Distribution(shifted - jnp.log(total), weights / jnp.where(any_legal, total, 1), any_legal)


def sample(policy: Distribution, words: jax.Array) -> jax.Array:
    """int32[…]: an action of each distribution, drawn with one word each; −1 where no action is legal."""
    if len(policy.probs) > SMALL:
        return _sample_many(policy, words)
    cumulative = [policy.probs[0]]
    for column in policy.probs[1:]:
        cumulative.append(cumulative[-1] + column)
    # `threshold` is below the last sum, so an action without probability is never reached.
    threshold = rng.uniform(words) * cumulative[-1]
    action = sum((bound <= threshold).astype(jnp.int32) for bound in cumulative[:-1]) + jnp.zeros_like(words, jnp.int32)
    return jnp.where(policy.any_legal, action, -1)


def _sample_many(policy: Distribution, words: jax.Array) -> jax.Array:
    """`sample` by the Gumbel-max trick; sums of many probabilities are not exact enough to invert."""
    action = jnp.argmax(_noisy(policy, words), axis=0).astype(jnp.int32)
    return jnp.where(policy.any_legal, action, -1)


def _noisy(policy: Distribution, words: jax.Array) -> jax.Array:
    """Log-probabilities plus Gumbel noise that is hashed from `words`, one for each action, [A, …]."""
    numbers = np.arange(1, len(policy.log_probs) + 1, dtype=np.uint32)
    return policy.log_probs + rng.gumbel(rng.mix(words, numbers.reshape(-1, *(1,) * words.ndim)))


def top_actions(policy: Distribution, words: jax.Array, num_candidates: int) -> jax.Array:
    """int32[M, …]: M different actions of each distribution, drawn without replacement (Kool et al. 2019).

    The actions with the M largest sums of log-probability and Gumbel noise, largest first; −1 where there are fewer
    legal actions than M.
    """
    noisy = _noisy(policy, words)
    chosen = []
    for _ in range(num_candidates):
        best = jnp.argmax(noisy, axis=0).astype(jnp.int32)
        value = reduced(jnp.maximum, noisy)
        chosen.append(jnp.where(value > -jnp.inf, best, -1))
        taken = np.arange(len(noisy), dtype=np.int32).reshape(-1, *(1,) * words.ndim) == best
        noisy = jnp.where(taken, -jnp.inf, noisy)
    return jnp.stack(chosen)


def enumerated(logits: jax.Array, num_candidates: int) -> tuple[jax.Array, jax.Array]:
    """(action, length) of all actions as candidates, int32[W, M, B]: the length is 0 where the action is illegal."""
    length = jnp.moveaxis(legal_actions(logits), 0, 1).astype(jnp.int32)
    return jnp.broadcast_to(np.arange(num_candidates, dtype=np.int32)[None, :, None], length.shape), length


def candidates_of(kind: Candidates, logits: jax.Array, words: jax.Array, temperature: Any) -> Proposal:
    """M single-action candidates of each node.

    Args:
      kind: how they are chosen; M is the number of actions for "enumerate".
      logits: [A, W, B].
      words: uint32[W, M, B]; each candidate draws from its own, Gumbel-top-k from the first of the node.
      temperature: divides the logits.

    Returns:
      A Proposal of [W, M, B]: action −1 and length 0 where there is no such candidate.
    """
    policy = distribution(logits, temperature)
    num_candidates = words.shape[1]
    if kind == "enumerate":
        numbers, length = enumerated(logits, num_candidates)
        log_prob = jnp.moveaxis(policy.log_probs, 0, 1)
        action = jnp.where(length > 0, numbers, -1)
    else:
        if kind == "sample":
            spread = jax.tree.map(lambda leaf: jnp.expand_dims(leaf, -2), policy)
            action = sample(spread, rng.mix(words, rng.PROPOSE))
        else:
            first = rng.mix(words[:, 0], rng.PROPOSE)
            action = jnp.moveaxis(top_actions(policy, first, num_candidates), 0, 1)
        log_prob = jax.tree.map(lambda leaf: jnp.expand_dims(leaf, -2), policy).log_prob(action)
    length = (action >= 0).astype(jnp.int32)
    entropy = jnp.broadcast_to(policy.entropy[:, None], action.shape)
    return Proposal(action, length, jnp.where(action >= 0, log_prob, 0), entropy)


def reduced(function: Any, columns: jax.Array) -> jax.Array:
    """The sum (jnp.add) or maximum (jnp.maximum) of [A, …] over A: few rows one by one, which fuses on CPUs."""
    if len(columns) > SMALL:
        return (jnp.max if function is jnp.maximum else jnp.sum)(columns, axis=0)
    result = columns[0]
    for column in columns[1:]:
        result = function(result, column)
    return result
