"""A training state as a flat dict of plain arrays and a JSON record of everything that is not a plain array.

Orbax stores arrays. Typed keys, Python numbers and arrays without elements go through the record, so that they come
back with the very type and value they had; the record also tells a wrong target before anything is read.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_SHOWN = 3  # leaves that an error lists


def flatten(tree: Any) -> dict[str, Any]:
    """The leaves by path, as "params/layers/kernel".

    Raises:
      ValueError: two leaves have the same path, for keys that contain a slash.
    """
    leaves: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if name in leaves:
            raise ValueError(f"state has two leaves called {name!r}: use dict keys without slashes")
        leaves[name] = leaf
    return leaves


def encode(state: Any) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The arrays to store and the record of all leaves.

    Raises:
      TypeError: a leaf is neither an array nor a number.
      ValueError: nothing is left to store, or two leaves have the same path.
    """
    leaves = flatten(state)
    record = {name: _describe(name, leaf) for name, leaf in leaves.items()}
    arrays = {name: _plain(leaf) for name, leaf in leaves.items() if _is_stored(record[name])}
    if not arrays:
        raise ValueError("state has no array with elements: there is nothing to save")
    for name, leaf in leaves.items():
        if record[name]["kind"] == "key":
            record[name]["impl"] = str(jax.random.key_impl(leaf))
    return arrays, record


def check(target: Any, record: dict[str, dict[str, Any]]) -> None:
    """Compares a target with what was saved.

    Raises:
      ValueError: leaves are missing or too many, or differ in kind, shape or dtype; the first few are listed.
    """
    wanted = {name: _describe(name, leaf) for name, leaf in flatten(target).items()}
    problems = [f"{name} is not in the checkpoint" for name in wanted if name not in record]
    problems += [f"{name} is only in the checkpoint" for name in record if name not in wanted]
    for name in wanted.keys() & record.keys():
        asked, saved = _summary(wanted[name]), _summary(record[name])
        if asked != saved:
            problems.append(f"{name} is {asked} in the target and {saved} in the checkpoint")
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise ValueError("target does not fit: " + "; ".join(sorted(problems)[:_SHOWN]) + more)


def abstract_arrays(target: Any, record: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What Orbax is to read for `target`: shapes, dtypes and shardings of the stored arrays."""
    return {name: _abstract(leaf) for name, leaf in flatten(target).items() if _is_stored(record[name])}


def decode(arrays: dict[str, Any], record: dict[str, dict[str, Any]], target: Any) -> Any:
    """The state, with `target`'s structure and kinds of leaves."""
    leaves, structure = jax.tree.flatten(target)
    names = flatten(target)
    restored = [_restored(leaf, arrays.get(name), record[name]) for name, leaf in zip(names, leaves, strict=True)]
    return jax.tree.unflatten(structure, restored)


def _describe(name: str, leaf: Any) -> dict[str, Any]:
    if isinstance(leaf, (bool, int, float)) and not isinstance(leaf, np.generic):
        return {"kind": type(leaf).__name__, "value": leaf}
    dtype, shape = getattr(leaf, "dtype", None), getattr(leaf, "shape", None)
    if dtype is None or shape is None or dtype == np.dtype(object):
        raise TypeError(
            f"state leaf {name!r} is a {type(leaf).__name__}: arrays, keys and numbers are saved; put it in metadata"
        )
    kind = "key" if _is_key(dtype) else "numpy" if isinstance(leaf, (np.ndarray, np.generic)) else "array"
    return {"kind": kind, "shape": list(shape), "dtype": str(dtype)}


def _summary(entry: dict[str, Any]) -> str:
    if "value" in entry:
        return entry["kind"]
    return f"{entry['dtype']}[{', '.join(map(str, entry['shape']))}]"


def _is_key(dtype: Any) -> bool:
    return jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key)


def _is_stored(entry: dict[str, Any]) -> bool:
    return "value" not in entry and math.prod(entry["shape"]) > 0


def _plain(leaf: Any) -> Any:
    if _is_key(leaf.dtype):
        return jax.random.key_data(leaf)
    return np.asarray(leaf) if isinstance(leaf, np.generic) else leaf


def _abstract(leaf: Any) -> Any:
    if isinstance(leaf, (np.ndarray, np.generic)):
        return np.empty(leaf.shape, leaf.dtype)
    sharding = getattr(leaf, "sharding", None) or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    if not _is_key(leaf.dtype):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
    data = jax.eval_shape(jax.random.key_data, jax.ShapeDtypeStruct(leaf.shape, leaf.dtype))
    return jax.ShapeDtypeStruct(data.shape, data.dtype, sharding=sharding)


def _restored(leaf: Any, array: Any, entry: dict[str, Any]) -> Any:
    if "value" in entry:
        return type(leaf)(entry["value"])
    if array is None:  # no elements, so nothing was stored
        empty = _abstract(leaf)
        array = empty if isinstance(empty, np.ndarray) else jnp.zeros(empty.shape, empty.dtype, device=empty.sharding)
    if isinstance(leaf, np.generic):
        return array[()]
    if not _is_key(leaf.dtype):
        return array
    keys = jax.random.wrap_key_data(array, impl=entry["impl"])
    return keys if leaf.sharding is None else jax.device_put(keys, leaf.sharding)
