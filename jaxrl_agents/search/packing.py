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
    """A tree whose leaves of the least rank share words. (Axes may be swapped, or put in front of all arrays.)"""

    words: tuple[jax.Array, ...]  # uint32[C, B], for example
    whole: tuple[jax.Array, ...]  # leaves of higher rank and other dtypes, as they are
    structure: Any = static_field()
    leaves: tuple[jax.ShapeDtypeStruct, ...] = static_field()

    def unpack(self) -> Any:
        """The tree."""
        rest = iter(self.whole)
        bits = _num_bits(self.leaves)
        out = [None if num_bits else next(rest) for num_bits in bits]
        for word, group in zip(self.words, _groups(bits), strict=True):
            shift = 0
            for index in group:
                out[index] = _value(word >> shift, self.leaves[index].dtype)
                shift += bits[index]
        return jax.tree.unflatten(self.structure, out)


def pack(tree: Any) -> Packed:
    """Puts the leaves of the least rank, which have one shape, into as few words as their bits need."""
    leaves, structure = jax.tree.flatten(tree)
    bits = _num_bits(leaves)
    words = []
    for group in _groups(bits):
        word, shift = jnp.uint32(0), 0
        for index in group:
            word = word | (_bits(leaves[index]) << shift)
            shift += bits[index]
        words.append(word)
    whole = tuple(leaf for leaf, num_bits in zip(leaves, bits, strict=True) if not num_bits)
    kinds = tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves)
    return Packed(tuple(words), whole, structure, kinds)


def _num_bits(leaves: Sequence[Any]) -> list[int]:
    """Bits of an element of each leaf; 0 for those that are not packed."""
    rank = min((leaf.ndim for leaf in leaves), default=0)
    return [_width(leaf.dtype) if leaf.ndim == rank else 0 for leaf in leaves]


def _width(dtype: Any) -> int:
    """Bits of an element; 0 for a dtype that is not packed."""
    if dtype == jnp.bool_:
        return 1
    integer = jnp.issubdtype(dtype, jnp.integer)
    return 8 * dtype.itemsize if (integer and dtype.itemsize <= 4) or dtype == jnp.float32 else 0


def _groups(bits: Sequence[int]) -> list[list[int]]:
    """Indices of leaves that share a word: first fit, the widest first."""
    groups: list[list[int]] = []
    room: list[int] = []
    for index in sorted((i for i, num_bits in enumerate(bits) if num_bits), key=lambda i: -bits[i]):
        slot = next((i for i, free in enumerate(room) if free >= bits[index]), None)
        if slot is None:
            groups.append([index])
            room.append(32 - bits[index])
        else:
            groups[slot].append(index)
            room[slot] -= bits[index]
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
