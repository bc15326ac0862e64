"""The check that search, losses, rollouts and training share, and how commands tell errors of files."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

LARGEST = 2**31 - 1  # indices and counts are int32


def count(name: str, value: Any) -> int:
    """`value` as a Python integer of at least 1, and at most the largest int32."""
    if isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}={value} is a boolean, not a number")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}={value!r} is not an integer") from None
    if number < 1:
        raise ValueError(f"{name}={number} must be at least 1")
    if number > LARGEST:
        raise ValueError(f"{name}={number} must be at most {LARGEST}")
    return number


def told(error: OSError) -> str:
    """One line: the system's errors with the file first, those of our own as they are."""
    return f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)
