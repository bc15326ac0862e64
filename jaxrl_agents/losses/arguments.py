"""The checks of what users pass, before anything is traced; masked entries become zeros here and nowhere else."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_agents.arguments import count as count  # also as arguments.count


def mask_of(name: str, mask: Any, *axes: str) -> jax.Array:
    """`mask` as a bool array with these axes."""
    mask = jnp.asarray(mask)
    if mask.dtype != bool:
        raise TypeError(f"{name} has dtype {mask.dtype}; it must be bool: compare it with 0, as in `{name} > 0`")
    if mask.ndim != len(axes):
        raise ValueError(f"{name} has shape {mask.shape}; it must be [{', '.join(axes)}]")
    return mask


def floats(name: str, value: Any, shape: tuple[int, ...]) -> jax.Array:
    """`value` as a float array of `shape`, in float32 or wider."""
    value = jnp.asarray(value)
    if not jnp.issubdtype(value.dtype, jnp.floating):
        raise TypeError(f"{name} has dtype {value.dtype}; it must be floating point")
    if value.shape != shape:
        raise ValueError(f"{name} has shape {value.shape}; it must be {shape}")
    return value.astype(jnp.promote_types(value.dtype, jnp.float32))


def masked(name: str, value: Any, mask: jax.Array) -> jax.Array:
    """`value` where the mask is True, else 0: what stood there, NaN included, reaches no sum and no gradient."""
    return jnp.where(mask, floats(name, value, mask.shape), 0.0)


def per_token(name: str, value: Any, mask: jax.Array) -> jax.Array:
    """`value`, one number a row, [B], or a token, [B, T], as masked [B, T]."""
    value = jnp.asarray(value)
    if value.shape == mask.shape[:1]:
        value = jnp.broadcast_to(value[:, None], mask.shape)
    elif value.shape != mask.shape:
        raise ValueError(f"{name} has shape {value.shape}; it must be {mask.shape[:1]} or {mask.shape}")
    return masked(name, value, mask)


def group_ids(groups: Any, num_rows: int) -> jax.Array:
    """Group ids [B]: integers from 0 to B − 1, checked where they are concrete."""
    groups = jnp.asarray(groups)
    if not jnp.issubdtype(groups.dtype, jnp.integer) or groups.shape != (num_rows,):
        raise ValueError(
            f"groups has dtype {groups.dtype} and shape {groups.shape}; it must be integers, ({num_rows},)"
        )
    if not isinstance(groups, jax.core.Tracer) and num_rows:
        low, high = int(np.min(groups)), int(np.max(groups))
        if low < 0 or high >= num_rows:
            raise ValueError(f"groups holds {low if low < 0 else high}; ids must be from 0 to {num_rows - 1}, rows − 1")
    return groups.astype(jnp.int32)


def number(name: str, value: float, *, low: float = 0.0, high: float = math.inf) -> float:
    """`value`, a Python number from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
        raise TypeError(f"{name}={value!r} must be a number")
    if not low <= value <= high:
        raise ValueError(f"{name}={value} must be from {low:g} to {high:g}")
    return float(value)


def choice(name: str, value: Any, choices: Any) -> Any:
    """`value`, one of `choices`."""
    if value not in choices:
        raise ValueError(f"{name}={value!r} must be one of {', '.join(map(repr, choices))}")
    return value
