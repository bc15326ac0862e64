"""What a transformer is made of: sizes, checked where they are given."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
    """Sizes and options of a policy transformer; `config_for(env)` fills in what depends on the environment.

    Attributes:
      num_actions: A, the environment's actions.
      num_words: words that observations are made of; the embedding table holds the A actions behind them.
      num_segments: kinds of text, 0 where observations have none.
      num_slots: 1 + actions that a token can belong to, 0 where observations have none.
      num_places: places within an observation or text that have an embedding of their own, 0 for none.
      d_model: width of the residual stream.
      num_layers: layers; the last one is computed at the read-outs only.
      num_heads: query heads.
      num_kv_heads: key and value heads, each shared by num_heads / num_kv_heads query heads; default num_heads.
      head_dim: width of a head, even; default d_model / num_heads.
      d_ff: hidden width of SwiGLU; default 8/3 · d_model, rounded up to a multiple of 8.
      rope_theta: base of the rotary angles.
      norm_eps: added to the mean square in RMSNorm.
      dtype: of the matrix products and the cache; parameters, norms, softmax and logits are float32.
      pointer: whether actions are scored against the text of their slot as well.
      end_of_turn: whether logits have an entry for ending the turn behind the A actions.
      unroll: unrolls the loop over layers: compiles longer, and may run faster.
    """

    num_actions: int
    num_words: int
    num_segments: int = 0
    num_slots: int = 0
    num_places: int = 0
    d_model: int = 64
    num_layers: int = 2
    num_heads: int = 4
    num_kv_heads: int | None = None
    head_dim: int | None = None
    d_ff: int | None = None
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-6
    dtype: Literal["float32", "bfloat16"] = "float32"
    pointer: bool = False
    end_of_turn: bool = False
    unroll: bool = False

    def __post_init__(self) -> None:
        for name in ("num_actions", "num_words", "d_model", "num_layers", "num_heads"):
            _check_size(name, getattr(self, name), 1)
        for name in ("num_segments", "num_slots", "num_places"):
            _check_size(name, getattr(self, name), 0)
        for name in ("num_kv_heads", "head_dim", "d_ff"):
            if getattr(self, name) is not None:
                _check_size(name, getattr(self, name), 1)
        self._check_heads()
        for name in ("rope_theta", "norm_eps"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name}={value!r} must be a positive number")
        if self.dtype not in ("float32", "bfloat16"):
            raise ValueError(f"dtype={self.dtype!r} must be 'float32' or 'bfloat16'")
        if self.pointer and self.num_slots != self.num_actions + 1:
            raise ValueError(
                f"pointer=True needs num_slots = num_actions + 1 = {self.num_actions + 1}, not {self.num_slots}: "
                "slot s belongs to action s − 1"
            )

    def _check_heads(self) -> None:
        if self.head_dim is None and self.d_model % self.num_heads:
            raise ValueError(f"num_heads={self.num_heads} does not divide d_model={self.d_model}; change one of them")
        if self.head_width % 2:
            given = f"head_dim={self.head_dim}"
            if self.head_dim is None:
                given = f"d_model={self.d_model} over num_heads={self.num_heads}: a width of {self.head_width}"
            raise ValueError(f"{given} is odd, but rotary embeddings turn pairs; make it even")
        if self.num_heads % self.kv_heads:
            raise ValueError(f"num_kv_heads={self.kv_heads} does not divide num_heads={self.num_heads}")

    @property
    def kv_heads(self) -> int:
        """Key and value heads."""
        return self.num_heads if self.num_kv_heads is None else self.num_kv_heads

    @property
    def group(self) -> int:
        """Query heads that share a key head."""
        return self.num_heads // self.kv_heads

    @property
    def head_width(self) -> int:
        """Width of a head."""
        return self.d_model // self.num_heads if self.head_dim is None else self.head_dim

    @property
    def hidden_width(self) -> int:
        """Hidden width of SwiGLU."""
        return -(-8 * self.d_model // 24) * 8 if self.d_ff is None else self.d_ff

    @property
    def num_logits(self) -> int:
        """A, and one more with `end_of_turn`."""
        return self.num_actions + self.end_of_turn

    @property
    def compute_dtype(self) -> jnp.dtype:
        """`dtype` as a dtype."""
        return jnp.dtype(self.dtype)

    @property
    def num_parameters(self) -> int:
        """How many numbers `init` makes."""
        tables = self.num_words + self.num_actions + self.num_segments + self.num_slots + self.num_places
        pointer = 2 * self.d_model * self.head_width + self.d_model if self.pointer else 0
        heads = self.d_model * (self.num_logits + 2)  # policy, value, and the norm before them
        return self.d_model * tables + self.num_layers * self._layer_weights + heads + pointer

    @property
    def _layer_weights(self) -> int:
        attention = 2 * (self.num_heads + self.kv_heads) * self.head_width
        return self.d_model * (attention + 3 * self.hidden_width + 2)

    def forward_flops(self, num_tokens: int, num_readouts: int = 1, num_cached: int = 0) -> int:
        """Floating-point operations of the matrix products of one row's forward.

        Counts two for each multiplication with addition; norms, softmax and other elementwise work are left out.

        Args:
          num_tokens: T, tokens given.
          num_readouts: R, of which logits are asked for.
          num_cached: S, the capacity of the cache.
        """
        keys = 2 * self.d_model * self.kv_heads * self.head_width
        rest = 2 * self.d_model * self.num_heads * self.head_width + 3 * self.d_model * self.hidden_width
        scores = 2 * self.num_heads * self.head_width * (num_tokens + num_cached)
        inner = (self.num_layers - 1) * num_tokens * (keys + rest + scores)
        last = num_tokens * keys + num_readouts * (rest + scores)
        heads = num_readouts * self.d_model * (self.num_logits + 1)
        if self.pointer:
            width = self.d_model * self.head_width
            heads += num_tokens * width + num_readouts * (width + num_tokens * (self.head_width + 2 * self.num_actions))
        return 2 * (inner + last + heads)


def _check_size(name: str, value: object, low: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise ValueError(f"{name}={value!r} must be an integer of at least {low}")
