"""Every registered environment, made once for all tests."""

from __future__ import annotations

import functools
from typing import Any

import envs_jax


@functools.cache
def made(id: str) -> tuple[Any, Any]:
    """What `envs_jax.make(id)` returns."""
    return envs_jax.make(id)
