"""The logical axes of parameters, as data: what each dimension is, for rules that shard them over a mesh."""

from __future__ import annotations

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
