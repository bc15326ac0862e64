"""Checks of the arguments of the `make` functions: each raises an error that begins with `name=value`."""

from __future__ import annotations

import operator
import reprlib
from collections.abc import Iterable
from typing import Any

import numpy as np

MAX_SEED = 2**32 - 1


def as_integer(name: str, value: Any) -> int:
    """The value as an int; TypeError where it is no integer. True and False are none: they are always a mistake."""
    if not isinstance(value, bool):
        try:
            return operator.index(value)
        except TypeError:
            pass
    raise TypeError(f"{name}={value!r} is not an integer")


def check_integer(name: str, value: Any, low: int, high: int) -> int:
    """The value as an int; TypeError where it is no integer, ValueError where it is not in low … high."""
    number = as_integer(name, value)
    if not low <= number <= high:
        raise ValueError(f"{name}={number} is not in {low:,} … {high:,}")
    return number


def check_seed(value: Any) -> int:
    """The seed as an int; what `jax.random.key` would truncate without a word is refused."""
    return check_integer("seed", value, 0, MAX_SEED)


def as_float(name: str, value: Any) -> float:
    """The value as a float; TypeError where it is no real number, ValueError for an integer beyond all floats."""
    if isinstance(value, bool | np.bool_ | str | bytes):
        raise TypeError(f"{name}={value!r} is not a number")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{name} is an integer of {value.bit_length()} bits, beyond all floats but math.inf") from None
    except (TypeError, ValueError):
        raise TypeError(f"{name}={value!r} is not a number") from None


def check_number(name: str, value: Any, low: float, high: float) -> float:
    """The value as a float; TypeError where it is no real number, ValueError where it is NaN or not in [low, high]."""
    number = as_float(name, value)
    if not low <= number <= high:
        raise ValueError(f"{name}={value} is not in [{low:g}, {high:g}]")
    return number


def check_bool(name: str, value: Any) -> bool:
    """The value as a bool; TypeError where it is neither True nor False, so that no text counts as true."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}={value!r} is not a bool: True or False")
    return bool(value)


def check_string(name: str, value: Any) -> str:
    """The value; TypeError where it is not a string."""
    if not isinstance(value, str):
        raise TypeError(f"{name}={reprlib.repr(value)} is not a string")
    return value


def check_choice(name: str, value: Any, choices: Iterable[str | None]) -> None:
    """ValueError where the value is not one of the choices."""
    choices = tuple(choices)
    if not (isinstance(value, str | None) and value in choices):
        raise ValueError(f"{name}={value!r} is not one of {', '.join(map(str, choices))}")
