"""What arrays are, for the checks of what users pass (`arguments`) and of what their functions return (`returned`)."""

from __future__ import annotations

from typing import Any

import jax


def is_array(value: Any) -> bool:
    """Whether `value` is an array of NumPy or JAX, a tracer or a jax.ShapeDtypeStruct."""
    return hasattr(value, "shape") and hasattr(value, "dtype")


def described(value: Any) -> str:
    """The dtype and shape of an array, the type of anything else."""
    return f"{value.dtype}{list(value.shape)}" if is_array(value) else type(value).__name__


def leading_axis(name: str, tree: Any, batch_size: int) -> None:
    """Raises unless every leaf of `tree` is an array with a row for each root."""
    if all(is_array(leaf) and leaf.shape[:1] == (batch_size,) for leaf in jax.tree.leaves(tree)):
        return
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        where = f"{name}{jax.tree_util.keystr(path)}"
        if not is_array(leaf):
            raise TypeError(f"{where} is a {type(leaf).__name__}; it must be an array whose first axis are the roots")
        if leaf.shape[:1] != (batch_size,):
            raise ValueError(f"{where} has shape {leaf.shape}; its first axis must be the {batch_size} roots")
