"""Where every array of a training state lives on a mesh, decided by rules that are data.

The mesh has three axes: `data` holds copies of the model, `fsdp` splits parameters and the batch (fully sharded data
parallel), `tensor` splits the dimensions inside a layer. Programs stay ordinary `jax.jit` functions; XLA inserts the
communication (axis types are Auto).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

AXES = ("data", "fsdp", "tensor")
BATCH = PartitionSpec(("data", "fsdp"))  # of the leading axis of every batch

# Where logical axes go; the others are not split. A vocabulary is not: a lookup in a split table gathers all of it.
MESH_AXES: Mapping[str, str] = {"embed": "fsdp", "kv_heads": "tensor", "mlp": "tensor"}

Rules = Sequence[tuple[str, PartitionSpec]]
"""Pairs of a regular expression, searched in a leaf's path ("params/layers/mlp/up/kernel"), and the spec of the leaves
it is found in; the first that is found decides. A spec names mesh axes dimension by dimension; what it leaves out is
not split."""


@dataclass(frozen=True)
class Placement:
    """How one leaf is laid out."""

    path: str  # as "params/layers/mlp/up/kernel"
    shape: tuple[int, ...]
    dtype: str
    spec: PartitionSpec
    bytes_total: int
    bytes_per_device: int
    note: str  # why it is not split as its rule says, or that no rule matched; empty when all is well


@dataclass(frozen=True)
class Plan:
    """The layout of a tree."""

    shardings: Any  # the tree, with a NamedSharding for every leaf
    placements: tuple[Placement, ...]

    @property
    def bytes_per_device(self) -> int:
        """Bytes that every device holds."""
        return sum(placement.bytes_per_device for placement in self.placements)

    @property
    def replicated(self) -> tuple[Placement, ...]:
        """The leaves of which a rule, or the lack of one, leaves more on each device than was meant."""
        return tuple(placement for placement in self.placements if placement.note)

    def table(self) -> str:
        """One line a leaf: path, shape, dtype, spec, bytes a device and a note; the sum comes last."""
        rows = [("parameter", "shape", "dtype", "spec", "bytes/device", "note")]
        for item in self.placements:
            shape = "×".join(map(str, item.shape)) or "scalar"
            rows.append((item.path, shape, item.dtype, _spec_text(item.spec), f"{item.bytes_per_device:,}", item.note))
        total = sum(placement.bytes_total for placement in self.placements)
        rows.append(("total", "", "", "", f"{self.bytes_per_device:,}", f"of {total:,} in all"))
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        return "\n".join("  ".join(map(_cell, row, widths, range(len(row)))).rstrip() for row in rows)


def make_mesh(
    data: int | None = None, fsdp: int = 1, tensor: int = 1, *, devices: Sequence[jax.Device] | None = None
) -> Mesh:
    """A mesh `data × fsdp × tensor` with Auto axis types.

    Args:
      data: devices along `data`; None takes all that the other two leave.
      fsdp: devices along `fsdp`.
      tensor: devices along `tensor`, best inside one host.
      devices: the devices to use; None is all of them, of all processes.

    Raises:
      ValueError: the product is not the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    for name, size in (("data", data), ("fsdp", fsdp), ("tensor", tensor)):
        if size is not None and size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}")
    if data is None and len(devices) % (fsdp * tensor):
        raise ValueError(f"fsdp={fsdp} × tensor={tensor} must divide the number of devices, {len(devices)}")
    data = len(devices) // (fsdp * tensor) if data is None else data
    if data * fsdp * tensor != len(devices):
        raise ValueError(
            f"data={data} × fsdp={fsdp} × tensor={tensor} = {data * fsdp * tensor} must be the number of devices, "
            f"{len(devices)}"
        )
    return jax.make_mesh((data, fsdp, tensor), AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices)


def logical_rules(
    axes: Sequence[tuple[str, tuple[str | None, ...]]], mesh_axes: Mapping[str, str] = MESH_AXES
) -> list[tuple[str, PartitionSpec]]:
    """Rules from the names of dimensions.

    Args:
      axes: pairs of a regular expression that a path ends with and the logical axes of one layer's parameter, such as
        `jaxrl_agents.models.AXES`. Below "layers/" the leaves have one more dimension in front, which is not split.
      mesh_axes: the mesh axis of each logical axis that is split.
    """
    rules = []
    for pattern, names in axes:
        spec = [mesh_axes.get(name) if name else None for name in names]
        rules.append((rf"(^|/)layers/.*({pattern})$", PartitionSpec(None, *spec)))
        rules.append((rf"({pattern})$", PartitionSpec(*spec)))
    return rules


def plan(tree: Any, mesh: Mesh | AbstractMesh, rules: Rules) -> Plan:
    """Applies rules to the leaves of a tree.

    A dimension that the axes of its rule do not divide is not split, and the placement's note says so. A leaf of lower
    rank than its rule's spec (an optimiser's factored moments, say) is not split at all, and noted too.

    Args:
      tree: arrays or `jax.ShapeDtypeStruct`s, such as `jax.eval_shape(init, key)`; parameters, or a whole training
        state: moments end in the path of their parameter, so the same rules place them.
      mesh: from `make_mesh`, or a `jax.sharding.AbstractMesh` to see the plan for devices that are not there.
      rules: see `Rules`.

    Raises:
      ValueError: a rule is not a regular expression, or names an axis that the mesh lacks or names one twice.
    """
    compiled = [(_compile(pattern, spec, mesh), spec) for pattern, spec in rules]
    leaves, structure = jax.tree_util.tree_flatten_with_path(tree)
    placements = tuple(_place(path, leaf, mesh, compiled) for path, leaf in leaves)
    shardings = [NamedSharding(mesh, placement.spec) for placement in placements]
    return Plan(jax.tree.unflatten(structure, shardings), placements)


def init_sharded(init: Callable[..., Any], mesh: Mesh, rules: Rules, *arguments: Any) -> tuple[Any, Plan]:
    """`init(*arguments)` computed straight into its layout, so that no device ever holds the whole, and the layout."""
    layout = plan(jax.eval_shape(init, *arguments), mesh, rules)
    return jax.jit(init, out_shardings=layout.shardings)(*arguments), layout


def shard_batch(batch: Any, mesh: Mesh) -> Any:
    """Splits the leading axis of every leaf over `data` and `fsdp`.

    Args:
      batch: arrays with the same leading size, the same in every process; each process passes the rows of its own
        devices, which are joined in the order of the mesh. Processes that share a position along `data` and `fsdp`
        (a `tensor` axis across processes) pass the same rows.
      mesh: from `make_mesh`.

    Returns:
      Global arrays; with one process their values are those of `batch`.

    Raises:
      ValueError: a leaf is a scalar or its leading size cannot be split evenly; it is named.
    """
    parts = num_parts(mesh)
    sharding = NamedSharding(mesh, BATCH)
    local_parts = _local_parts(mesh)

    def put(path: Any, leaf: Any) -> Any:
        shape = np.shape(leaf)
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if not shape:
            raise ValueError(f"batch leaf {name!r} is a scalar: it has no leading axis to split")
        if shape[0] % local_parts:
            raise ValueError(
                f"batch leaf {name!r} has {shape[0]} rows in this process: they must split evenly over its "
                f"{local_parts} of the {parts} parts of data × fsdp"
            )
        return _global_rows(leaf, sharding)

    return jax.tree_util.tree_map_with_path(put, batch)


def num_parts(mesh: Mesh | None) -> int:
    """Into how many parts rows are split: 1 without a mesh."""
    return 1 if mesh is None else mesh.shape["data"] * mesh.shape["fsdp"]


def split_rows(tree: Any, mesh: Mesh | None) -> Any:
    """Inside jit: the tree with the leading axis of every leaf split over `data` and `fsdp`; as it is where None."""
    return tree if mesh is None else jax.lax.with_sharding_constraint(tree, NamedSharding(mesh, BATCH))


def _local_parts(mesh: Mesh) -> int:
    """Into how many parts the rows of this process are split."""
    local = np.vectorize(lambda device: device.process_index == jax.process_index())(mesh.devices)
    return max(1, int(local.any(axis=AXES.index("tensor")).sum()))


def _global_rows(leaf: Any, sharding: NamedSharding) -> jax.Array:
    if not jax.dtypes.issubdtype(getattr(leaf, "dtype", np.float32), jax.dtypes.prng_key):
        return jax.make_array_from_process_local_data(sharding, np.asarray(leaf))
    data = jax.make_array_from_process_local_data(sharding, np.asarray(jax.random.key_data(leaf)))
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))


def _compile(pattern: str, spec: PartitionSpec, mesh: Mesh | AbstractMesh) -> re.Pattern[str]:
    axes = [axis for entry in spec for axis in _axes(entry)]
    unknown = [axis for axis in axes if axis not in mesh.shape]
    if unknown:
        raise ValueError(
            f"rule {pattern!r} names {unknown[0]!r}: the axes of the mesh are {', '.join(mesh.axis_names)}"
        )
    if len(set(axes)) < len(axes):
        raise ValueError(f"rule {pattern!r} names an axis twice: {spec}")
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(f"rule {pattern!r} is not a regular expression: {error}") from error


def _place(
    path: Any, leaf: Any, mesh: Mesh | AbstractMesh, rules: list[tuple[re.Pattern[str], PartitionSpec]]
) -> Placement:
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    shape, dtype = np.shape(leaf), jax.dtypes.result_type(leaf)
    wanted = next((spec for pattern, spec in rules if pattern.search(name)), None)
    spec, note = _fit(wanted, shape, mesh)
    size = math.prod(shape) * _item_bytes(leaf, dtype)
    parts = math.prod(mesh.shape[axis] for entry in spec for axis in _axes(entry))
    return Placement(name, shape, str(dtype), spec, size, size // parts, note)


def _fit(wanted: PartitionSpec | None, shape: tuple[int, ...], mesh: Mesh | AbstractMesh) -> tuple[PartitionSpec, str]:
    """The part of a rule's spec that a shape allows, and what had to be left out."""
    if wanted is None:
        return PartitionSpec(), "no rule matched: replicated" if shape else ""
    if len(wanted) > len(shape):
        return PartitionSpec(), f"{_spec_text(wanted)} has more dimensions: replicated" if shape else ""
    entries, notes = [], []
    for dimension, entry in enumerate(wanted):
        parts = math.prod(mesh.shape[axis] for axis in _axes(entry))
        divides = shape[dimension] % parts == 0
        entries.append(entry if divides else None)
        if not divides:
            size = "×".join(f"{axis}={mesh.shape[axis]}" for axis in _axes(entry))
            notes.append(f"dimension {dimension} of {shape[dimension]} is not divisible by {size}: not split")
    return PartitionSpec(*entries), "; ".join(notes)


def _axes(entry: Any) -> tuple[str, ...]:
    if entry is None:
        return ()
    return (entry,) if isinstance(entry, str) else tuple(entry)


def _item_bytes(leaf: Any, dtype: Any) -> int:
    if not jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key):
        return dtype.itemsize
    data = jax.eval_shape(jax.random.key_data, jax.ShapeDtypeStruct((), dtype))
    return math.prod(data.shape) * data.dtype.itemsize


def _spec_text(spec: PartitionSpec) -> str:
    return "(" + ", ".join("+".join(_axes(entry)) or "·" for entry in spec) + ")" if any(spec) else "replicated"


def _cell(text: str, width: int, column: int) -> str:
    return text.rjust(width) if column == 4 else text.ljust(width)
