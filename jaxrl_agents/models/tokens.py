"""Tokens as a transformer takes them, and streams of them: observations and actions in turn."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from envs_jax.pytree import pytree_dataclass
from jaxrl_agents.models.config import TransformerConfig


@pytree_dataclass
class Tokens:
    """Tokens of B rows, T each; R of them are read out.

    Fields that are None say that there is nothing of the kind: no padding, one block, no such embedding.
    """

    word: jax.Array  # int[B, T]: index into the table of words; action a is word num_words + a
    readout: jax.Array  # int[B, R]: the tokens at which logits and values are given
    segment: jax.Array | None = None  # int[B, T]
    slot: jax.Array | None = None  # int[B, T]: 1 + action, 0 where there is none
    place: jax.Array | None = None  # int[B, T]
    block: jax.Array | None = None  # int[B, T]: never falls along a row; what came in one piece has one number
    mask: jax.Array | None = None  # bool[B, T]: False for padding, which may stand anywhere

    def replace(self, **fields: Any) -> Tokens:
        """The tokens with other `fields`."""
        return dataclasses.replace(self, **fields)

    @property
    def num_tokens(self) -> int:
        """T."""
        return self.word.shape[-1]

    def filled(self) -> Tokens:
        """The same with every field that shapes attention written out."""
        there = self.mask if self.mask is not None else jnp.ones(self.word.shape, bool)
        block = self.block if self.block is not None else jnp.zeros(self.word.shape, jnp.int32)
        return self.replace(mask=there, block=block)


def action_tokens(config: TransformerConfig, actions: jax.Array, first_block: Any = 0) -> Tokens:
    """Actions as tokens, each a block of its own, and each read out.

    Args:
      config: of the model.
      actions: int[…, L]; those that are no action of the environment, such as −1, are padding.
      first_block: the number of the first block, an integer or int[…, 1].
    """
    taken = (actions >= 0) & (actions < config.num_actions)
    action = jnp.where(taken, actions, 0).astype(jnp.int32)
    zeros = jnp.zeros_like(action)
    numbers = jnp.broadcast_to(jnp.arange(action.shape[-1], dtype=jnp.int32), action.shape)
    return Tokens(
        word=config.num_words + action,
        readout=numbers,
        segment=zeros if config.num_segments else None,
        slot=action + 1 if config.num_slots else None,
        place=zeros if config.num_places else None,
        block=first_block + numbers,
        mask=taken,
    )


def joined(parts: list[Tokens]) -> Tokens:
    """Tokens one after the other along the axis of tokens, with the read-outs of all; blocks are taken as they are."""
    starts = np.cumsum([0, *(part.num_tokens for part in parts[:-1])])
    together = lambda name: _concatenated([getattr(part, name) for part in parts])
    fields = ("word", "segment", "slot", "place", "block", "mask")
    readout = _concatenated([part.readout + start for part, start in zip(parts, starts, strict=True)])
    return Tokens(**{name: together(name) for name in fields}, readout=readout)  # type: ignore[arg-type]


def turns(config: TransformerConfig, observations: Tokens, actions: jax.Array) -> Tokens:
    """Whole turns as one stream: observation, its actions, the next observation, and so on.

    Args:
      config: of the model.
      observations: leaves [B, K, …], each read out once.
      actions: int[B, K, L], −1 for what was not taken.

    Returns:
      Tokens [B, K · (T + L)] and read-outs [B, K · L]: where each turn's first, second, … action is decided. A turn
      that has no action at all and no later one may stay in: what follows a token does not change it.
    """
    batch_size, num_turns, max_actions = actions.shape
    number = jnp.arange(num_turns, dtype=jnp.int32)[:, None] * (max_actions + 1)
    observed = observations.filled()
    observed = observed.replace(block=jnp.broadcast_to(number, observed.word.shape))
    stream = joined([observed, action_tokens(config, actions, number + 1)])
    length = stream.num_tokens
    readout = stream.readout[..., :max_actions] + jnp.arange(num_turns, dtype=jnp.int32)[:, None] * length
    flat = jax.tree.map(lambda leaf: leaf.reshape(batch_size, num_turns * length), stream.replace(readout=stream.word))
    return flat.replace(readout=readout.reshape(batch_size, num_turns * max_actions))


def _concatenated(leaves: list[jax.Array | None]) -> jax.Array | None:
    present = [leaf for leaf in leaves if leaf is not None]
    if not present:
        return None
    if len(present) != len(leaves):
        raise ValueError("tokens that are joined must all have the same fields; give the missing ones, or none")
    dtype = jnp.result_type(*present)
    return jnp.concatenate([leaf.astype(dtype) for leaf in present], axis=-1)
