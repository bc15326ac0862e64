"""Frozen dataclasses as configuration: checked against their annotations, updated from JSON and printed.

A field's annotation says all that it may be: `int`, `float`, `bool`, `str`, `Literal`, `X | None`, `dict[str, X]`,
another dataclass, or a number with bounds, `Annotated[float, Bounds(…)]`.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Bounds:
    """What a number must lie in; for an annotation."""

    low: float = -math.inf
    high: float = math.inf
    above: bool = False  # `low` itself is not allowed
    below: bool = False  # `high` itself is not allowed

    def allows(self, value: float) -> bool:
        """Whether `value` lies in the bounds; NaN and the infinities never do."""
        if not math.isfinite(value) or (self.above and value == self.low) or (self.below and value == self.high):
            return False
        return self.low <= value <= self.high

    def __str__(self) -> str:
        start = f"above {self.low:,.12g}" if self.above else f"of at least {self.low:,.12g}"
        end = f"{'below' if self.below else 'at most'} {self.high:,.12g}"
        if math.isinf(self.high):
            return start
        return f"{start} and {end}" if math.isfinite(self.low) else f"of {end}"


Count = Annotated[int, Bounds(1)]
CountOrZero = Annotated[int, Bounds(0)]
Positive = Annotated[float, Bounds(0, above=True)]
NotNegative = Annotated[float, Bounds(0)]
Fraction = Annotated[float, Bounds(0, 1)]
PositiveFraction = Annotated[float, Bounds(0, 1, above=True)]


def check(config: Any, prefix: str = "") -> None:
    """Raises ValueError for the first field whose value its annotation does not allow: name, value, what is allowed."""
    for name, hint in _hints(type(config)).items():
        value, path = getattr(config, name), f"{prefix}{name}"
        if dataclasses.is_dataclass(hint) and isinstance(value, hint):  # type: ignore[arg-type]
            check(value, f"{path}.")
        elif not _allows(hint, value):
            raise ValueError(f"{path}={value!r} must be {_text(hint)}")


def updated(config: T, document: Any, prefix: str = "") -> T:
    """`config` with the fields that `document`, an object of JSON, names; nested objects update nested dataclasses.

    Objects update dicts too: their names are added, and those that are null are taken out (RFC 7396).

    Raises:
      ValueError: `document` is no object, or names a field that is not there; what `check` says of a wrong value.
    """
    if not isinstance(document, Mapping):
        raise ValueError(f"{prefix.rstrip('.') or 'the configuration'}={document!r} must be an object of fields")
    hints = _hints(type(config))
    fields = {}
    for name, value in document.items():
        if name not in hints:
            close = difflib.get_close_matches(str(name), hints, n=1)
            hint = f"; did you mean {prefix}{close[0]}?" if close else f": leave it out; there are {', '.join(hints)}"
            raise ValueError(f"{prefix}{name}={value!r} is no field{hint}")
        nested = getattr(config, name)
        if dataclasses.is_dataclass(nested):
            value = updated(nested, value, f"{prefix}{name}.")
        elif isinstance(nested, dict) and isinstance(value, Mapping):
            value = merged(nested, value)
        fields[name] = value
    return dataclasses.replace(config, **fields)  # type: ignore[type-var]


def left_out(config: Any, document: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(name, value in `config`) of the fields that `document`, which `updated` has taken, does not name."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from left_out(value, document.get(field.name, {}), f"{prefix}{field.name}.")
        elif field.name not in document:
            yield f"{prefix}{field.name}", value


def merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """`old` with the names of `new`; None takes a name out that is there."""
    taken_out = {name for name, value in new.items() if value is None and name in old}
    return {name: value for name, value in {**old, **new}.items() if name not in taken_out}


def as_document(config: Any) -> dict[str, Any]:
    """The configuration as an object of JSON, complete."""
    return dataclasses.asdict(config)


def to_json(config: Any) -> str:
    """The configuration as JSON text, a field a line."""
    return json.dumps(as_document(config), indent=2)


def read_json(path: str | os.PathLike[str]) -> Any:
    """The JSON in a file.

    Raises:
      ValueError: it is none; the message has the file and the line.
      OSError: it cannot be read.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{os.fspath(path)}:{error.lineno}: no JSON: {error.msg}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{os.fspath(path)}: no JSON: {error.reason} at byte {error.start}") from error


def differences(old: Any, new: Any, prefix: str = "") -> Iterator[str]:
    """A line "field: old → new" for every field that differs between two configurations of one type."""
    for field in dataclasses.fields(old):
        before, after = getattr(old, field.name), getattr(new, field.name)
        if dataclasses.is_dataclass(before):
            yield from differences(before, after, f"{prefix}{field.name}.")
        elif before != after:
            yield f"{prefix}{field.name}: {before!r} → {after!r}"


def _hints(cls: type) -> dict[str, Any]:
    hints = get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def _allows(hint: Any, value: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _allows(arguments[0], value) and all(bounds.allows(value) for bounds in arguments[1:])
    if origin in (Union, UnionType):
        return any(_allows(choice, value) for choice in arguments)
    if origin is Literal:
        return isinstance(value, str) and value in arguments
    if origin is dict:
        return isinstance(value, dict) and all(
            isinstance(k, str) and _allows(arguments[1], v) for k, v in value.items()
        )
    if hint in (int, float) and isinstance(value, bool):
        return False
    if hint is float:
        return isinstance(value, int | float)
    return isinstance(value, hint)


def _text(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        number = "an integer" if arguments[0] is int else "a number"
        return " ".join([number, *map(str, arguments[1:])])
    if origin in (Union, UnionType):
        return " or ".join(map(_text, arguments))
    if origin is Literal:
        return f"one of {', '.join(arguments)}"
    if origin is dict:
        return f"names with a value each, {_text(arguments[1])}"
    names = {int: "an integer", float: "a number", bool: "true or false", str: "text", NoneType: "none"}
    return names.get(hint, f"a {getattr(hint, '__name__', hint)}")
