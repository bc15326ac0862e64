"""Every registered environment, made once for all tests, with a bank that is quick to make."""

from __future__ import annotations

import functools
from typing import Any

import envs_jax


def settings(id: str) -> dict[str, Any]:
    """Arguments of `make` that keep the bank small."""
    if id.startswith("Sokoban"):
        return {"num_levels": 16}
    return {"num_products": 100} if id.startswith("WebShop") else {}


@functools.cache
def made(id: str) -> tuple[Any, Any]:
    """What `envs_jax.make` returns."""
    return envs_jax.make(id, **settings(id))
