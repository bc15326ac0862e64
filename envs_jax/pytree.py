"""Frozen dataclasses that are JAX pytrees: the one form of every type in the package."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import jax
from typing_extensions import dataclass_transform

T = TypeVar("T")


def static_field(**kwargs: Any) -> Any:
    """A field that is part of the pytree's structure: hashable configuration, not an array."""
    return dataclasses.field(metadata={"static": True}, **kwargs)


@dataclass_transform(frozen_default=True, field_specifiers=(static_field, dataclasses.field))
def pytree_dataclass(cls: type[T]) -> type[T]:
    """Makes `cls` a frozen dataclass and registers it as a pytree.

    Fields declared with `static_field()` become metadata, all others are children. A `__post_init__` may check what
    users pass: JAX, which rebuilds such objects with tracers and placeholders as children, does so without it.

    The structures of two classes are never equal, whatever their fields hold. Those of `jax.tree_util.
    register_dataclass` are where the fields hold the same, and then `jax.jit` of jax 0.10 at times runs the program
    that it has compiled for an object of the one class when it is called with one of the other.
    """
    cls = dataclasses.dataclass(frozen=True, eq=False)(cls)
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    static = [field.name for field in fields if field.metadata.get("static")]
    children = [field.name for field in fields if not field.metadata.get("static")]
    values_of, metadata_of = _getter(children), _getter(static)

    def flatten(x: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        return values_of(x), metadata_of(x)

    def flatten_with_keys(x: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        values, metadata = flatten(x)
        return tuple(zip(map(jax.tree_util.GetAttrKey, children), values, strict=True)), metadata

    def unflatten(metadata: tuple[Any, ...], values: Iterable[Any]) -> T:
        rebuilt = object.__new__(cls)
        vars(rebuilt).update(zip((*children, *static), (*values, *metadata), strict=True))
        return rebuilt

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls


def _getter(names: list[str]) -> Callable[[Any], tuple[Any, ...]]:
    """The attributes of an object as a tuple, fast: this runs at every call of a jitted function."""
    if len(names) > 1:
        return operator.attrgetter(*names)
    return lambda x: tuple(getattr(x, name) for name in names)
