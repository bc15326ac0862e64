"""Decoding, one token for each row, with the cache and without."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.measure import Program
from jaxrl_agents.models import Tokens, Transformer, TransformerConfig

WORDS = 256


def model(d_model: int = 256, num_layers: int = 4, num_heads: int = 8) -> Transformer:
    """A decoder of one word after the other."""
    config = TransformerConfig(
        num_actions=WORDS, num_words=WORDS, d_model=d_model, num_layers=num_layers, num_heads=num_heads,
        num_kv_heads=num_heads // 2,
    )  # fmt: skip
    return Transformer(config)


def cached(model: Transformer, batch_size: int, context: int, params: Any = None) -> Program:
    """The next token of each row behind a cache of `context` tokens; items are tokens.

    Every step starts from a cache of the same length, so that all steps do the same.
    """
    params = _params(model) if params is None else params
    words = _words(batch_size, context)
    empty = model.init_cache(batch_size, context + 1)
    _, _, cache = jax.jit(model.apply)(params, _stream(words), empty)

    def body(params: Any, carry: Any, key: jax.Array) -> Any:
        cache, word = carry
        token = _stream(word[:, None])
        logits, _, after = model.apply(params, token, cache)
        after = dataclasses.replace(after, length=cache.length)  # type: ignore[type-var]
        return after, jnp.argmax(logits[:, 0], axis=-1).astype(jnp.int32)

    return Program(body, params, (cache, words[:, -1]), batch_size)


def uncached(model: Transformer, batch_size: int, context: int, params: Any = None) -> Program:
    """The same token from one forward over all tokens of the row; items are tokens."""

    def body(params: Any, carry: Any, key: jax.Array) -> Any:
        words, word = carry
        logits, _, _ = model.apply(params, _stream(jnp.concatenate([words, word[:, None]], axis=1)))
        return words, jnp.argmax(logits[:, 0], axis=-1).astype(jnp.int32)

    words = _words(batch_size, context)
    params = _params(model) if params is None else params
    return Program(body, params, (words, words[:, -1]), batch_size)


def _params(model: Transformer) -> Any:
    return jax.jit(model.init)(jax.random.key(0))


def _words(batch_size: int, context: int) -> jax.Array:
    return jax.random.randint(jax.random.key(1), (batch_size, context), 0, WORDS)


def _stream(words: jax.Array) -> Tokens:
    """Words of which each sees those before it; the last one is read out."""
    batch_size, length = words.shape
    block = jnp.broadcast_to(jnp.arange(length, dtype=jnp.int32), words.shape)
    return Tokens(words, jnp.full((batch_size, 1), length - 1, jnp.int32), block=block)
