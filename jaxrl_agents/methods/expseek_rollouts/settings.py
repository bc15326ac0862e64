"""What a training run is: its fixed sizes, and the numbers that may differ between runs of one program."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs_jax.pytree import pytree_dataclass
from envs_jax.web import tabular

INITIAL_TEMPERATURE = 1.0  # of actions that are not retried
WHOLE = {  # integers, and the least that they may be
    "num_epochs": 1, "num_rollouts": 1, "num_candidates": 1, "num_turns": 1, "free_steps": 0, "plain_every": 1,
    "steps_back": 1, "max_retries": 0, "required_pairs": 1,
}  # fmt: skip
AT_LEAST = {**WHOLE, "kl_coefficient": 0, "entropy_threshold": 0, "learning_rate": 0}
AT_MOST = {"required_pairs": round(1 / tabular.PAIR_REWARD)}  # so many pairs are paid what success is
ABOVE = {"clip": 0, "retry_temperature": 0}
MAY_BE_INFINITE = ("entropy_threshold",)


def checked(owner: Any) -> None:
    """Raises ValueError for the first field of a Config or Setting that is out of its range, an array's entry too.

    A traced field has no value to check, and passes.
    """
    for field in dataclasses.fields(owner):
        given, name = getattr(owner, field.name), field.name
        if isinstance(given, jax.core.Tracer):
            continue
        if name in WHOLE and np.asarray(given).dtype.kind not in "iu":
            raise ValueError(f"{name}={given} must be an integer")
        value, infinite = np.asarray(given, np.float64), name in MAY_BE_INFINITE
        if not np.all(value < np.inf) and not (infinite and not np.isnan(value).any()):
            raise ValueError(f"{name}={given} must be a finite number")
        if name in AT_LEAST and not np.all(value >= AT_LEAST[name]):
            raise ValueError(f"{name}={given} must be at least {AT_LEAST[name]}")
        if name in AT_MOST and not np.all(value <= AT_MOST[name]):
            raise ValueError(f"{name}={given} must be at most {AT_MOST[name]}")
        if name in ABOVE and not np.all(value > ABOVE[name]):
            raise ValueError(f"{name}={given} must be above {ABOVE[name]}")


@dataclasses.dataclass(frozen=True)
class Config:
    """What shapes and compiles; the defaults are the paper's (sections 3.2 and 3.3)."""

    num_epochs: int = 150
    num_rollouts: int = 32  # trained on in an epoch, spread evenly over the tasks
    num_candidates: int = 1  # N, of which the one of highest return is trained on; 1 without best-of-N
    num_turns: int = 10  # T, steps of a rollout, discarded ones included
    free_steps: int = 0  # discarded steps that do not count towards T, at most
    plain_every: int = 10  # epochs between two looks at the plain policy; divides num_epochs
    clip: float = 0.2  # ε
    kl_coefficient: float = 0.01  # β, towards the initial policy

    def __post_init__(self) -> None:
        checked(self)
        if self.num_epochs % self.plain_every:
            raise ValueError(f"plain_every={self.plain_every} does not divide num_epochs={self.num_epochs}")


@pytree_dataclass
class Setting:
    """What may differ between runs of one program; every field is a number, or an array of them under `jax.vmap`."""

    entropy_threshold: jax.Array | float = np.inf  # η, nats; infinity: no backtracking
    steps_back: jax.Array | int = 3  # the most steps that a retry goes back
    max_retries: jax.Array | int = 3  # of a rollout
    fixed_distance: jax.Array | bool = False  # go back as far as allowed; else 1 … that, uniformly
    retry_temperature: jax.Array | float = 1.5  # τ
    required_pairs: jax.Array | int = 4  # k, different rewarded pairs that make a success
    learning_rate: jax.Array | float = 1.0  # of plain gradient descent on the logits
    drawn_at_one: jax.Array | bool = False  # the ratio's denominator is π_old(a|s) for retried actions too
    one_group: jax.Array | bool = False  # advantages relative to all rollouts of the epoch, not to those of the task
    shared_policy: jax.Array | bool = False  # one table for all tasks

    def __post_init__(self) -> None:
        checked(self)


class Strategy(NamedTuple):
    """How the rollouts of an epoch are made."""

    backtracks: bool
    num_candidates: int


STRATEGIES = {
    "Standard": Strategy(False, 1),
    "ExpSeek": Strategy(True, 1),
    "Best-of-N": Strategy(False, 4),
    "ExpSeek+BoN": Strategy(True, 4),
}
ENTROPY_THRESHOLD = 0.3  # nats
OF_RETRIES = (
    "entropy_threshold", "steps_back", "max_retries", "fixed_distance", "retry_temperature", "drawn_at_one",
    "free_steps",
)  # fmt: skip


def strategy(name: str, **fields: Any) -> tuple[Setting, Config]:
    """One of the paper's four strategies.

    Args:
      name: a key of `STRATEGIES`.
      fields: of `Setting` and `Config`, in place of their defaults; `entropy_threshold` is 0.3 by default. Those of
        `OF_RETRIES` only for the strategies that backtrack.

    Raises:
      ValueError: there is no such strategy, or a field is out of its range or says nothing of this strategy.
      TypeError: there is no such field.
    """
    if name not in STRATEGIES:
        raise ValueError(f"strategy {name!r} is unknown; there are: {', '.join(STRATEGIES)}")
    backtracks, num_candidates = STRATEGIES[name]
    sizes = {field.name for field in dataclasses.fields(Config)}
    config = Config(**{"num_candidates": num_candidates, **{key: fields[key] for key in fields if key in sizes}})
    rest = {"entropy_threshold": ENTROPY_THRESHOLD, **{key: fields[key] for key in fields if key not in sizes}}
    if not backtracks:
        rest["entropy_threshold"] = np.inf
        for field in (field for field in OF_RETRIES if field in fields):
            raise ValueError(f"{field}={fields[field]} has no effect on {name}, which does not backtrack; leave it out")
    return Setting(**rest), config


@pytree_dataclass
class Web:
    """A web and its tasks, as plain tables."""

    links: jax.Array  # int32[S, A]: where each link leads
    rewarded: jax.Array  # bool[tasks, S, A]

    @property
    def num_tasks(self) -> int:
        """How many tasks."""
        return self.rewarded.shape[0]


def make_web(seed: int, num_tasks: int = 8) -> Web:
    """The web and tasks of `envs_jax.make("TabularWeb-v0", seed=seed)`."""
    env, tasks = tabular.make(seed=seed, num_tasks=num_tasks)
    rewarded = env.layout.unpack(tasks.instances.rewarded)
    return Web(env.links.astype(jnp.int32), jnp.asarray(rewarded))
