"""The memory of the host, for requests that would take hours to find out that they do not fit."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")  # of a container, or "max"


def check_fits(request: str, what: str, num_bytes: int, way_out: str) -> None:
    """Refuses a request that the host's memory cannot hold, where the system tells how much there is.

    Args:
      request: what was asked for: the name of the argument and its value.
      what: what would take the memory, in the plural.
      num_bytes: the least that it takes.
      way_out: what to do instead.

    Raises:
      ValueError: it does not fit.
    """
    memory = _num_bytes()
    if memory is not None and num_bytes > memory:
        needed, there = (f"{number / 2**30:,.0f} GiB" for number in (num_bytes, memory))
        raise ValueError(f"{request}: {what} would take {needed} or more, and there are {there} of memory; {way_out}")


def _num_bytes() -> int | None:
    """The memory of the machine, or of the container where that is less; None where the system does not tell."""
    limits = []
    if hasattr(os, "sysconf"):
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    with contextlib.suppress(OSError, ValueError):  # no such limit
        limits.append(int(_CGROUP_LIMIT.read_text()))
    return min(limits, default=None)
