"""Turns of up to L actions: decoded one by one, and their log-probabilities from one forward over all."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_agents.models.cache import Cache
from jaxrl_agents.models.config import TransformerConfig
from jaxrl_agents.models.tokens import action_tokens
from jaxrl_agents.models.transformer import Params, Transformer


class Turn(NamedTuple):
    """One turn of each of B rows."""

    action: jax.Array  # int32[B, L]; −1 after the turn's end
    length: jax.Array  # int32[B]: actions taken, 1 … L; 0 where no first action is legal
    log_prob: jax.Array  # float32[B]: of the whole turn, its end included, at the temperature it was drawn with
    entropy: jax.Array  # float32[B]: of the decisions taken, summed: an unbiased estimate of the turn's entropy, nats


class Decisions(NamedTuple):
    """The decisions of turns: position i is which action comes i-th, or that the turn ends before it."""

    log_prob: jax.Array  # float32[…, L]; 0 where nothing was decided
    entropy: jax.Array  # float32[…, L]: 0 where nothing was decided
    mask: jax.Array  # bool[…, L]: a decision was taken


def decode_turn(
    model: Transformer,
    params: Params,
    key: jax.Array,
    logits: jax.Array,
    cache: Cache,
    *,
    max_turn_actions: int,
    action_mask: jax.Array | None = None,
    temperature: float | jax.Array = 1.0,
) -> Turn:
    """Draws a turn for each row.

    Args:
      model: with `end_of_turn` turns may end before L actions.
      params: its parameters.
      key: one key a row, [B].
      logits: [B, A] or [B, A + 1], where the first action is decided.
      cache: of all tokens up to there; turns that are drawn from the same one under `vmap` share it.
      max_turn_actions: L.
      action_mask: bool[B, A]: what may come first; later actions are not masked, as what they meet is not known.
      temperature: divides the logits, above 0.
    """
    check_turns(model.config, max_turn_actions)
    policy = lambda logits, mask, number: _log_policy(model.config, logits, mask, number, temperature)
    noise = jax.vmap(lambda key: jax.random.gumbel(key, (max_turn_actions, model.config.num_logits)))(key)
    live = jnp.ones(logits.shape[:1], bool) if action_mask is None else jnp.any(action_mask, axis=-1)

    def decide(log_policy: jax.Array, live: jax.Array, number: int | jax.Array) -> tuple[jax.Array, ...]:
        choice = jnp.argmax(log_policy + noise[:, number], axis=-1).astype(jnp.int32)
        log_prob = jnp.where(live, jnp.take_along_axis(log_policy, choice[:, None], axis=-1)[:, 0], 0)
        goes_on = live & (choice < model.config.num_actions)
        return jnp.where(goes_on, choice, -1), log_prob, jnp.where(live, entropy_of(log_policy), 0), goes_on

    def another(carry: tuple[jax.Array, jax.Array, Cache], number: jax.Array) -> tuple[tuple, tuple]:
        action, live, own = carry
        tokens = action_tokens(model.config, action[:, None])
        logits, _, after = model.apply(params, tokens, own.after(cache))
        action, log_prob, entropy, live = decide(policy(logits[:, 0], None, number), live, number)
        return (action, live, after.after(None)), (action, log_prob, entropy)  # type: ignore[union-attr]

    first = decide(policy(logits, action_mask, 0), live, 0)
    numbers = jnp.arange(1, max_turn_actions)
    own = model.init_cache(len(logits), max(1, max_turn_actions - 1))
    _, rest = jax.lax.scan(another, (first[0], first[3], own), numbers)
    action, log_prob, entropy = (jnp.concatenate([a[None], b]).T for a, b in zip(first[:3], rest, strict=True))
    return Turn(action, jnp.sum(action >= 0, axis=-1, dtype=jnp.int32), log_prob.sum(-1), entropy.sum(-1))


def decisions(
    config: TransformerConfig,
    logits: jax.Array,
    actions: jax.Array,
    action_mask: jax.Array | None = None,
    temperature: float | jax.Array = 1.0,
) -> Decisions:
    """What the decisions of given turns were worth under `logits`.

    Args:
      config: of the model that made the logits.
      logits: [..., L, A] or [..., L, A + 1]: where each action is decided, as `tokens.turns` reads them out.
      actions: int[..., L]: what was taken, −1 after the turn's end.
      action_mask: bool[..., A]: what might have come first.
      temperature: divides the logits.
    """
    max_actions = actions.shape[-1]
    check_turns(config, max_actions)
    number = np.arange(max_actions)
    mask = decision_mask(config, actions)
    ends = mask & (actions < 0)
    spread = None if action_mask is None else action_mask[..., None, :] | (number > 0)[:, None]
    log_policy = _log_policy(config, logits, spread, number[:, None], temperature)
    target = jnp.where(ends, config.num_actions, jnp.maximum(actions, 0))
    log_prob = jnp.take_along_axis(log_policy, target[..., None].astype(jnp.int32), axis=-1)[..., 0]
    return Decisions(jnp.where(mask, log_prob, 0), jnp.where(mask, entropy_of(log_policy), 0), mask)


def decision_mask(config: TransformerConfig, actions: jax.Array) -> jax.Array:
    """bool[…, L]: where something was decided in turns, int[…, L] with −1 for what was not taken."""
    number = np.arange(actions.shape[-1])
    length = jnp.sum(actions >= 0, axis=-1, keepdims=True)
    ends = config.end_of_turn & (number == length) & (length > 0)
    return (number < length) | ends


def entropy_of(log_policy: jax.Array) -> jax.Array:
    """float32[…]: entropy in nats of log-probabilities […, A], −inf for what cannot happen."""
    finite = jnp.where(log_policy > -jnp.inf, log_policy, 0)
    return -jnp.sum(jnp.exp(log_policy) * finite, axis=-1)


def check_turns(config: TransformerConfig, max_turn_actions: int) -> None:
    """Raises where a model cannot decide turns of that many actions."""
    if max_turn_actions < 1:
        raise ValueError(f"max_turn_actions={max_turn_actions} must be at least 1")
    if config.end_of_turn and max_turn_actions == 1:
        raise ValueError("end_of_turn=True, but max_turn_actions=1: a turn of one action has no end to decide")


def _log_policy(
    config: TransformerConfig,
    logits: jax.Array,
    action_mask: jax.Array | None,
    number: int | jax.Array | np.ndarray,
    temperature: float | jax.Array,
) -> jax.Array:
    """Log-probabilities of the `number`-th decision; a turn cannot end before its first action."""
    if action_mask is not None:
        missing = config.num_logits - config.num_actions
        allowed = jnp.pad(action_mask, [(0, 0)] * (action_mask.ndim - 1) + [(0, missing)], constant_values=True)
        logits = jnp.where(allowed, logits, -jnp.inf)
        logits = jnp.where(jnp.any(action_mask, axis=-1, keepdims=True), logits, 0)  # of no use, but no NaN
    if config.end_of_turn:
        is_end = np.arange(config.num_logits) == config.num_actions
        logits = jnp.where(is_end & (jnp.asarray(number) == 0), -jnp.inf, logits)
    return jax.nn.log_softmax(logits / temperature, axis=-1)
