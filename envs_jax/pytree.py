"""Frozen dataclasses that are JAX pytrees: the one form of every type in the package."""

from __future__ import annotations

import dataclasses
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

    Fields declared with `static_field()` become metadata, all others are children. JAX rebuilds such objects with
    tracers and placeholders as children, so a class must not check leaf values in `__post_init__`.
    """
    cls = dataclasses.dataclass(frozen=True, eq=False)(cls)
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    static = [field.name for field in fields if field.metadata.get("static")]
    children = [field.name for field in fields if not field.metadata.get("static")]
    return jax.tree_util.register_dataclass(cls, data_fields=children, meta_fields=static)
