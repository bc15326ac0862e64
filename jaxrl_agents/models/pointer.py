"""The pointer head: what can be clicked is scored by its own text (Vinyals et al. 2015, arXiv:1506.03134)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_agents.models.tokens import Tokens


def pointer_logits(query: jax.Array, keys: jax.Array, tokens: Tokens, num_actions: int) -> jax.Array:
    """The mean score of each action's tokens: those of its slot in the block that is read out.

    Args:
      query: float32[B, R, w], of the read-outs.
      keys: float32[B, T, w], of all tokens.
      tokens: the tokens; slot s belongs to action s − 1.
      num_actions: A.

    Returns:
      float32[B, R, A]: query · key / sqrt(w), averaged over an action's tokens; 0 for actions without any.
    """
    scores = jnp.einsum("brw,btw->brt", query, keys) * np.float32(query.shape[-1] ** -0.5)
    there = jnp.ones(tokens.word.shape, bool) if tokens.mask is None else tokens.mask
    belongs = (tokens.slot[..., None] == jnp.arange(1, num_actions + 1)) & there[..., None]  # type: ignore[index]
    if tokens.block is None:
        here = jnp.ones((1, 1, 1))
    else:
        block = jnp.take_along_axis(tokens.block, tokens.readout, axis=1)
        here = (tokens.block[:, None, :] == block[:, :, None]).astype(jnp.float32)
    own = belongs.astype(jnp.float32)
    total = jnp.einsum("brt,bta->bra", scores * here, own)
    count = jnp.einsum("brt,bta->bra", jnp.broadcast_to(here, scores.shape), own)
    return total / jnp.maximum(count, 1)
