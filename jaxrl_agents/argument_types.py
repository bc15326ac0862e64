"""Types of command line arguments, for argparse."""

from __future__ import annotations

import argparse

from envs_jax.arguments import MAX_SEED


def count(text: str) -> int:
    """A whole number of at least 1."""
    if text.isdecimal() and 0 < int(text) < 2**31:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {2**31 - 1:,}")


def seed(text: str) -> int:
    """A whole number that seeds a random key."""
    if text.isdecimal() and int(text) <= MAX_SEED:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to {MAX_SEED:,}")
