"""The transformer, in the form of today's open models: RMSNorm before each part, rotary positions, grouped-query
attention and SwiGLU, without biases; Linen modules behind `init` and `apply`.

Sources: pre-norm RMSNorm (Zhang & Sennrich 2019, arXiv:1910.07467), SwiGLU (Shazeer 2020, arXiv:2002.05202), the whole
as in LLaMA (Touvron et al. 2023, arXiv:2302.13971).
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxrl_agents.models import initializers
from jaxrl_agents.models.attention import Angles, Past, attend, rotary_angles, rotate, visible_tokens
from jaxrl_agents.models.cache import Cache, empty_cache
from jaxrl_agents.models.config import TransformerConfig
from jaxrl_agents.models.pointer import pointer_logits
from jaxrl_agents.models.tokens import Tokens

Params = Any


@dataclasses.dataclass(frozen=True)
class Transformer:
    """A policy as two pure functions of parameters.

    model = Transformer(config)
    params = model.init(jax.random.key(0))
    logits, value, cache = model.apply(params, tokens)                   # without a cache: None
    logits, value, cache = model.apply(params, tokens, model.init_cache(batch_size, capacity))
    """

    config: TransformerConfig

    def init(self, key: jax.Array) -> Params:
        """Parameters, nested dicts of float32 arrays, with the layers but the last stacked along axis 0."""
        return _init(self.config, key)

    def init_cache(self, batch_size: int, capacity: int) -> Cache:
        """An empty cache for `batch_size` rows of up to `capacity` tokens."""
        return empty_cache(self.config, batch_size, capacity)

    def apply(
        self, params: Params, tokens: Tokens, cache: Cache | None = None
    ) -> tuple[jax.Array, jax.Array, Cache | None]:
        """Logits and values at the read-outs.

        Args:
          params: made by `init`.
          tokens: B rows of T tokens, R read-outs.
          cache: of the tokens before these, B rows; None where there are none and none will follow.

        Returns:
          logits float32[B, R, A] ([B, R, A + 1] with `end_of_turn`), value float32[B, R], and the cache with these
          tokens added. A row that holds more tokens than its cache has room for gives NaN.
        """
        self._check(tokens, cache)
        return _Network(self.config).apply({"params": params}, tokens, cache)  # type: ignore[return-value]

    def _check(self, tokens: Tokens, cache: Cache | None) -> None:
        shape = tokens.word.shape
        if len(shape) != 2 or tokens.readout.ndim != 2 or tokens.readout.shape[0] != shape[0]:
            raise ValueError(f"tokens.word {shape} and tokens.readout {tokens.readout.shape} must be [B, T] and [B, R]")
        for name in ("segment", "slot", "place"):
            size, leaf = getattr(self.config, f"num_{name}s"), getattr(tokens, name)
            if bool(size) != (leaf is not None):
                raise ValueError(f"num_{name}s={size}, but tokens.{name} is {'there' if size == 0 else 'None'}")
        for name in ("segment", "slot", "place", "block", "mask"):
            leaf = getattr(tokens, name)
            if leaf is not None and leaf.shape != shape:
                raise ValueError(f"tokens.{name} has shape {leaf.shape}, tokens.word {shape}; they must be the same")
        if cache is not None and cache.length.shape != shape[:1]:
            raise ValueError(f"the cache has {cache.length.shape[0]} rows, the tokens have {shape[0]}")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Context:
    """What all layers know of the tokens."""

    angles: Angles
    visible: jax.Array | None  # bool[B, T, T]
    cache: Cache | None


class _Network(nn.Module):
    """Tokens and cache to logits, values and cache."""

    config: TransformerConfig

    @nn.compact
    def __call__(self, tokens: Tokens, cache: Cache | None) -> tuple[jax.Array, jax.Array, Cache | None]:
        config = self.config
        positions = _positions(tokens, cache)
        angles = rotary_angles(positions, config.head_width, config.rope_theta)
        visible = visible_tokens(tokens.block, tokens.block, tokens.mask)
        x = _Embedding(config, name="embedding")(tokens)
        x, new = self._inner_layers(x, _Context(angles, visible, cache))
        read = _Readout(tokens.readout)
        here = None if visible is None else (visible if visible.shape[1] == 1 else read(visible))
        h, last = _Layer(config, name="last_layer")(
            x, jnp.int32(config.num_layers - 1), _Context(angles, here, cache), tokens.readout
        )
        logits, value = _Heads(config, name="heads")(h, x, tokens)
        if cache is None:
            return logits, value, None
        keys, values = jax.tree.map(lambda a, b: jnp.concatenate([a, b[:, None]], axis=1), new, last)
        cache = _extended(cache, keys, values, tokens, positions)
        spoilt = lambda leaf: jnp.where(jnp.expand_dims(cache.overflowed, range(1, leaf.ndim)), jnp.nan, leaf)
        return spoilt(logits), spoilt(value), cache

    def _inner_layers(self, x: jax.Array, context: _Context) -> tuple[jax.Array, Any]:
        """All layers but the last: [B, T, d_model], and with a cache the new keys and values [B, layers − 1, T, …]."""
        config, count = self.config, self.config.num_layers - 1
        if count == 0:
            empty = jnp.zeros((x.shape[0], 0, x.shape[1], config.kv_heads, config.head_width), x.dtype)
            return x, None if context.cache is None else (empty, empty)
        stack = nn.scan(
            _Layer,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=(0, nn.broadcast),
            out_axes=1,
            length=count,
            unroll=count if config.unroll else 1,
        )
        return stack(config, name="layers")(x, jnp.arange(count, dtype=jnp.int32), context)


class _Layer(nn.Module):
    """Attention and SwiGLU, each behind its norm and added to the residual stream."""

    config: TransformerConfig

    @nn.compact
    def __call__(
        self, x: jax.Array, number: jax.Array, context: _Context, readout: jax.Array | None = None
    ) -> tuple[jax.Array, Any]:
        """The tokens, or those at `readout` alone, after this layer; with a cache also the keys and values of all."""
        config = self.config
        d_model, kv_heads, group, head_dim = config.d_model, config.kv_heads, config.group, config.head_width
        kernel = _kernel(self, "qkv", (d_model, kv_heads, group + 2, head_dim), fan_in=d_model)
        normed = _RMSNorm(config, name="attention_norm")(x)
        if readout is None:
            queries, new = jnp.split(jnp.einsum("btd,dkgh->btkgh", normed, kernel), [group], axis=3)
        else:
            read = _Readout(readout)
            queries = jnp.einsum("btd,dkgh->btkgh", read(normed), kernel[:, :, :group])
            new = jnp.einsum("btd,dkgh->btkgh", normed, kernel[:, :, group:])
            x = read(x)
        keys, values = rotate(new[:, :, :, 0], context.angles), new[:, :, :, 1]
        turned = rotate(queries, context.angles if readout is None else jax.tree.map(read, context.angles))
        mixed = attend(turned, keys, values, context.visible, _past(context.cache, number))
        scale = (2 * config.num_layers) ** -0.5  # of what is added to the residual stream, as in GPT-2
        out = _kernel(self, "out", (kv_heads, group, head_dim, d_model), config.num_heads * head_dim, scale)
        x = x + jnp.einsum("btkgh,kghd->btd", mixed, out)
        gate_up = _kernel(self, "gate_up", (d_model, 2, config.hidden_width), fan_in=d_model)
        hidden = jnp.einsum("btd,dcf->btcf", _RMSNorm(config, name="mlp_norm")(x), gate_up)
        down = _kernel(self, "down", (config.hidden_width, d_model), config.hidden_width, scale)
        x = x + jnp.einsum("btf,fd->btd", nn.silu(hidden[:, :, 0]) * hidden[:, :, 1], down)
        return x, None if context.cache is None else (keys, values)


class _Embedding(nn.Module):
    """The sum of the embeddings of what a token is."""

    config: TransformerConfig

    @nn.compact
    def __call__(self, tokens: Tokens) -> jax.Array:
        config, fields = self.config, ("segment", "slot", "place")
        x = self._table("word", config.num_words + config.num_actions)[tokens.word]
        for name in fields:
            size = getattr(config, f"num_{name}s")
            if size:
                x = x + self._table(name, size)[getattr(tokens, name)]
        return x.astype(config.compute_dtype)

    def _table(self, name: str, size: int) -> jax.Array:
        return self.param(name, initializers.normal(1.0), (size, self.config.d_model))


class _Heads(nn.Module):
    """Policy and value at the read-outs, in float32."""

    config: TransformerConfig

    @nn.compact
    def __call__(self, h: jax.Array, x: jax.Array, tokens: Tokens) -> tuple[jax.Array, jax.Array]:
        """`h` [B, R, d_model]: the read-outs after the last layer; `x` [B, T, d_model]: all tokens before it."""
        config, width = self.config, self.config.head_width
        h = _RMSNorm(config, name="norm")(h).astype(jnp.float32)
        policy = self.param(
            "policy", initializers.normal(0.01 * config.d_model**-0.5), (config.d_model, config.num_logits)
        )
        value = self.param("value", nn.initializers.zeros, (config.d_model, 1))
        logits = h @ policy
        if config.pointer:
            query = h @ self.param("pointer_query", _fan_in(config.d_model), (config.d_model, width))
            key_kernel = _kernel(self, "pointer_key", (config.d_model, width), config.d_model)
            keys = (_RMSNorm(config, name="pointer_norm")(x) @ key_kernel).astype(jnp.float32)
            scores = pointer_logits(query, keys, tokens, config.num_actions)
            logits = logits + jnp.pad(scores, [(0, 0), (0, 0), (0, config.num_logits - config.num_actions)])
        return logits, (h @ value)[..., 0]


class _RMSNorm(nn.Module):
    """x / sqrt(mean(x²) + eps) · scale, computed in float32."""

    config: TransformerConfig

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        wide = x.astype(jnp.float32)
        mean_square = jnp.mean(jnp.square(wide), axis=-1, keepdims=True)
        return (wide * jax.lax.rsqrt(mean_square + self.config.norm_eps) * scale).astype(x.dtype)


@dataclasses.dataclass(frozen=True)
class _Readout:
    """Takes the tokens that are read out."""

    index: jax.Array  # int[B, R]

    def __call__(self, leaf: jax.Array) -> jax.Array:
        """[B, R, …] of a leaf [B, T, …]; a leaf [1, T, …] is the same for all rows."""
        if leaf.shape[0] == 1:
            return leaf[0][self.index]
        return jnp.take_along_axis(leaf, self.index[..., None], axis=1)


def _fan_in(fan_in: int, scale: float = 1.0) -> nn.initializers.Initializer:
    return initializers.truncated_normal(scale * fan_in**-0.5)


def _kernel(module: nn.Module, name: str, shape: tuple[int, ...], fan_in: int, scale: float = 1.0) -> jax.Array:
    """A weight in the dtype of the computation."""
    return module.param(name, _fan_in(fan_in, scale), shape).astype(module.config.compute_dtype)  # type: ignore[attr-defined]


@partial(jax.jit, static_argnums=0)
def _init(config: TransformerConfig, key: jax.Array) -> Params:
    return _Network(config).init(key, _example(config), None)["params"]


def _positions(tokens: Tokens, cache: Cache | None) -> jax.Array:
    """int32[B, T] ([1, T] where rows do not differ): how many tokens of the row stand before each, padding apart."""
    if tokens.mask is None:
        positions = jnp.arange(tokens.num_tokens, dtype=jnp.int32)[None]
    else:
        positions = jnp.cumsum(tokens.mask, axis=1, dtype=jnp.int32) - tokens.mask
    return positions if cache is None else positions + cache.seen[:, None]


def _past(cache: Cache | None, layer: jax.Array) -> tuple[Past, ...]:
    if cache is None:
        return ()
    take = lambda leaf: jax.lax.dynamic_index_in_dim(leaf, layer, axis=1, keepdims=False)
    return *_past(cache.before, layer), Past(take(cache.keys), take(cache.values), cache.filled)


def _extended(cache: Cache, keys: jax.Array, values: jax.Array, tokens: Tokens, positions: jax.Array) -> Cache:
    own = positions if cache.before is None else positions - cache.before.seen[:, None]
    if tokens.mask is None:
        return cache.extended(keys, values, own, jnp.int32(tokens.num_tokens))
    there = jnp.where(tokens.mask, own, cache.capacity)
    return cache.extended(keys, values, there, jnp.sum(tokens.mask, axis=1, dtype=jnp.int32))


def _example(config: TransformerConfig) -> Tokens:
    """One row of one token; parameters depend on the configuration alone."""
    token = jnp.zeros((1, 1), jnp.int32)
    given = {name: token if getattr(config, f"num_{name}s") else None for name in ("segment", "slot", "place")}
    return Tokens(token, token, **given)
