"""Many small arrays as a few of uint32: a gather costs the same for 8 bits as for 32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from envs_jax.pytree import pytree_dataclass, static_field


@pytree_dataclass
class Packed:
    """A tree whose leaves of rank 2 share words."""

    words: tuple[jax.Array, ...]  # uint32[C, B]
    whole: tuple[jax.Array, ...]  # leaves of higher rank and other dtypes, as they are
    structure: Any = static_field()
    leaves: tuple[jax.ShapeDtypeStruct, ...] = static_field()

    def unpack(self) -> Any:
        """The tree."""
        rest = iter(self.whole)
        out = [None if _num_bits(leaf) else next(rest) for leaf in self.leaves]
        for word, group in zip(self.words, _groups(self.leaves), strict=True):
            shift = 0
            for index in group:
                out[index] = _value(word >> shift, self.leaves[index].dtype)
                shift += _num_bits(self.leaves[index])
        return jax.tree.unflatten(self.structure, out)


def pack(tree: Any) -> Packed:
    """Puts the leaves of rank 2 into as few words as their bits need."""
    leaves, structure = jax.tree.flatten(tree)
    words = []
    for group in _groups(leaves):
        word, shift = jnp.uint32(0), 0
        for index in group:
            word = word | (_bits(leaves[index]) << shift)
            shift += _num_bits(leaves[index])
        words.append(word)
    whole = tuple(leaf for leaf in leaves if not _num_bits(leaf))
    kinds = tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves)
    return Packed(tuple(words), whole, structure, kinds)


def _num_bits(leaf: Any) -> int:
    """Bits of an element; 0 for a leaf that is not packed."""
    if leaf.ndim != 2:
        return 0
    if leaf.dtype == jnp.bool_:
        return 1
    integer = jnp.issubdtype(leaf.dtype, jnp.integer)
    return 8 * leaf.dtype.itemsize if (integer and leaf.dtype.itemsize <= 4) or leaf.dtype == jnp.float32 else 0


def _groups(leaves: Sequence[Any]) -> list[list[int]]:
    """Indices of leaves that share a word: first fit, the widest first."""
    groups: list[list[int]] = []
    room: list[int] = []
    order = sorted((i for i, leaf in enumerate(leaves) if _num_bits(leaf)), key=lambda i: -_num_bits(leaves[i]))
    for index in order:
        bits = _num_bits(leaves[index])
        slot = next((i for i, free in enumerate(room) if free >= bits), None)
        if slot is None:
            groups.append([index])
            room.append(32 - bits)
        else:
            groups[slot].append(index)
            room[slot] -= bits
    return groups


def _bits(leaf: jax.Array) -> jax.Array:
    if leaf.dtype == jnp.float32:
        return jax.lax.bitcast_convert_type(leaf, jnp.uint32)
    if leaf.dtype == jnp.bool_:
        return leaf.astype(jnp.uint32)
    unsigned = np.dtype(f"uint{8 * leaf.dtype.itemsize}")
    return jax.lax.bitcast_convert_type(leaf, unsigned).astype(jnp.uint32)


def _value(word: jax.Array, dtype: Any) -> jax.Array:
    if dtype == jnp.float32:
        return jax.lax.bitcast_convert_type(word, jnp.float32)
    if dtype == jnp.bool_:
        return (word & 1).astype(bool)
    unsigned = np.dtype(f"uint{8 * np.dtype(dtype).itemsize}")
    return jax.lax.bitcast_convert_type(word.astype(unsigned), dtype)
