"""The logical axes of parameters, as data: what each dimension is, for rules that shard them over a mesh."""

from __future__ import annotations

import re
from typing import Any

import jax

Axes = tuple[str | None, ...]

# (pattern that a parameter's path ends with, the axes of one layer's parameter). The first match counts.
AXES: tuple[tuple[str, Axes], ...] = (
    (r"embedding/word", ("vocab", "embed")),
    (r"embedding/(segment|slot|place)", (None, "embed")),
    (r"qkv", ("embed", "kv_heads", None, "head_dim")),
    (r"out", ("kv_heads", None, "head_dim", "embed")),
    (r"gate_up", ("embed", None, "mlp")),
    (r"down", ("mlp", "embed")),
    (r"norm/scale", (None,)),
    (r"heads/policy", ("embed", "actions")),
    (r"heads/value", ("embed", None)),
    (r"heads/pointer_(query|key)", ("embed", "head_dim")),
)


def logical_axes(params: Any) -> Any:
    """The axes of each parameter, a tuple of one name (or None) a dimension, in the structure of `params`.

    Stacked layers have the axis "layers" in front.

    Args:
      params: parameters, or their shapes (`jax.eval_shape(model.init, key)`).

    Raises:
      ValueError: for a parameter that no rule of `AXES` matches.
    """
    return jax.tree_util.tree_map_with_path(lambda path, leaf: _axes(_name(path), leaf.ndim), params)


def _axes(name: str, ndim: int) -> Axes:
    for pattern, axes in AXES:
        if re.search(rf"{pattern}$", name):
            axes = ("layers", *axes) if name.startswith("layers/") else axes
            if len(axes) != ndim:
                raise ValueError(f"parameter {name} has {ndim} dimensions, its axes are {axes}")
            return axes
    raise ValueError(f"no rule in AXES matches the parameter {name}")


def _name(path: Any) -> str:
    return "/".join(str(entry.key) for entry in path)
