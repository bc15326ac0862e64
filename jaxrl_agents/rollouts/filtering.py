"""Which groups are learned from: those whose returns differ, most first (RAGEN's rollout filters).

A filter is a frozen dataclass of options: `filter(returns float[P, N], valid bool[P, N])` is bool[P], and
`filter.most(P)` the most groups that it keeps, so that shapes are fixed. Groups are ranked by the standard deviation of
their returns (n − 1 in the denominator); ties go to the lower index. RAGEN: arXiv 2504.20073 and its code,
`agent_trainer.py` (version 1: `Top`) and `rollout_filter.py` (version 2: `TopP`, `TopK`, `MinP`).
"""

from __future__ import annotations

import dataclasses
import math
from typing import Literal, Protocol, get_args

import jax
import jax.numpy as jnp

from jaxrl_agents import losses
from jaxrl_agents.arguments import count
from jaxrl_agents.losses.advantages import group_statistics

Weighting = Literal["linear", "softmax"]


class Filter(Protocol):
    """What a learner asks of a filter."""

    def __call__(self, returns: jax.Array, valid: jax.Array) -> jax.Array:
        """bool[P]: the groups that are kept, from returns float[P, N]; rows that are no episodes are not `valid`."""

    def most(self, num_groups: int) -> int:
        """The most groups that it keeps of `num_groups`; raises ValueError where it would keep none."""


def spread(returns: jax.Array, valid: jax.Array) -> jax.Array:
    """float[P]: the standard deviation of each group's returns [P, N]; 0 for groups of one."""
    num_groups, size = returns.shape
    groups = jnp.repeat(jnp.arange(num_groups), size)
    return group_statistics(returns.reshape(-1), groups, valid.reshape(-1)).std[::size]


@dataclasses.dataclass(frozen=True)
class Top:
    """The `share` of the groups with the largest deviation, rounded down (RAGEN 1: 0.25)."""

    share: float = 0.25
    include_zero: bool = True  # keep groups of equal returns where there are too few others

    def __post_init__(self) -> None:
        _check_share("share", self.share)

    def __call__(self, returns: jax.Array, valid: jax.Array) -> jax.Array:
        return _largest(spread(returns, valid), self.most(len(returns)), self.include_zero)

    def most(self, num_groups: int) -> int:
        kept = int(self.share * num_groups)
        if not kept:
            raise ValueError(f"share={self.share} of {num_groups} groups keeps none; sample more groups, or keep more")
        return kept


@dataclasses.dataclass(frozen=True)
class TopK:
    """The `number` groups with the largest deviation."""

    number: int
    include_zero: bool = True

    def __post_init__(self) -> None:
        count("number", self.number)

    def __call__(self, returns: jax.Array, valid: jax.Array) -> jax.Array:
        return _largest(spread(returns, valid), self.most(len(returns)), self.include_zero)

    def most(self, num_groups: int) -> int:
        if self.number > num_groups:
            raise ValueError(f"number={self.number} is more than the {num_groups} groups there are")
        return self.number


@dataclasses.dataclass(frozen=True)
class TopP:
    """The fewest groups that together have the share `p` of all deviation.

    "linear" weighs a group by its deviation; RAGEN's slack of 0.01 on their sum is kept. "softmax" weighs it by the
    softmax of the deviations.
    """

    p: float = 0.9
    weighting: Weighting = "linear"
    include_zero: bool = False

    def __post_init__(self) -> None:
        _check_share("p", self.p)
        if self.weighting not in get_args(Weighting):
            raise ValueError(f"weighting={self.weighting!r} is neither 'linear' nor 'softmax'")

    def __call__(self, returns: jax.Array, valid: jax.Array) -> jax.Array:
        deviation = spread(returns, valid)
        possible = (deviation > 0) | self.include_zero
        if self.weighting == "linear":
            weights = jnp.where(possible, deviation, 0)
            needed = self.p * jnp.sum(weights) - 0.01
        else:
            weights = jax.nn.softmax(jnp.where(possible, deviation, -jnp.inf), where=possible)
            needed = jnp.asarray(self.p)
        order = jnp.argsort(jnp.where(possible, -deviation, jnp.inf), stable=True)
        before = jnp.cumsum(weights[order]) - weights[order]
        kept = (before < needed) | (jnp.arange(len(order)) == 0)
        return jnp.zeros_like(possible).at[order].set(kept) & possible

    def most(self, num_groups: int) -> int:
        return num_groups


@dataclasses.dataclass(frozen=True)
class MinP:
    """The groups whose deviation is at least `p` of the largest one."""

    p: float = 0.5
    include_zero: bool = False

    def __post_init__(self) -> None:
        _check_share("p", self.p)

    def __call__(self, returns: jax.Array, valid: jax.Array) -> jax.Array:
        deviation = spread(returns, valid)
        return (deviation >= self.p * jnp.max(deviation)) & ((deviation > 0) | self.include_zero)

    def most(self, num_groups: int) -> int:
        return num_groups


@dataclasses.dataclass(frozen=True)
class Informative:
    """The first `number` groups whose returns differ: DAPO's dynamic sampling (arXiv 2503.14476, section 3.2)."""

    number: int

    def __post_init__(self) -> None:
        count("number", self.number)

    def __call__(self, returns: jax.Array, valid: jax.Array) -> jax.Array:
        groups = jnp.repeat(jnp.arange(len(returns)), returns.shape[1])
        differ = losses.informative(returns.reshape(-1), groups, valid=valid.reshape(-1))
        differ = differ.reshape(returns.shape).any(axis=-1)
        return differ & (jnp.cumsum(differ) <= self.most(len(returns)))

    def most(self, num_groups: int) -> int:
        if self.number > num_groups:
            raise ValueError(f"number={self.number} is more than the {num_groups} groups there are")
        return self.number


FILTERS = {"top": Top, "top_k": TopK, "top_p": TopP, "min_p": MinP, "informative": Informative}


def _largest(deviation: jax.Array, number: int, include_zero: bool) -> jax.Array:
    order = jnp.argsort(-deviation, stable=True)[:number]
    kept = jnp.zeros(deviation.shape, bool).at[order].set(True)
    return kept & ((deviation > 0) | include_zero)


def _check_share(name: str, value: float) -> None:
    if not (math.isfinite(value) and 0 < value <= 1):
        raise ValueError(f"{name}={value} must be above 0 and at most 1")
