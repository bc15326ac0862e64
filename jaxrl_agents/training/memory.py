"""Too little memory, told in one line."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator

import jax


class OutOfMemory(MemoryError):
    """Something needs more memory than the devices have."""


@contextlib.contextmanager
def told(way_out: Callable[[], str]) -> Iterator[None]:
    """Makes the devices' error of too little memory an OutOfMemory of one line: what they say, and `way_out()`."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        found = re.search(r"RESOURCE_EXHAUSTED: (.+)|(Out of memory .+)", str(error))
        if found is None:
            raise
        cause = (found[1] or found[2])[:200].rstrip(". ")
        raise OutOfMemory(f"too little memory ({cause}): {way_out()}") from error
