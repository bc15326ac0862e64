"""Computing something once: what XLA's CPU compiler would otherwise fuse anew into each of its consumers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def once(never_negative: jax.Array, function: Callable[..., Any], *operands: Any) -> Any:
    """`function(*operands)`; on CPUs its results exist in memory before anything else uses them.

    They leave a conditional that always holds: `never_negative` (int32[]) is at least 0, which the compiler cannot
    know. Without it a gather, for example, would step the environment again for every element that it reads; and
    consumers that read an array while another one replaces it would make the compiler copy that array.
    """
    function = jax.jit(function, inline=True)  # traced once for all its uses below

    def behind_conditional(*operands: Any) -> Any:
        nothing = lambda *xs: jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(function, *xs))
        return jax.lax.cond(never_negative >= 0, function, nothing, *operands)

    return jax.lax.platform_dependent(*operands, cpu=behind_conditional, default=function)
