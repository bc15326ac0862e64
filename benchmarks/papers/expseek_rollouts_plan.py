"""ExpSeek as rollout augmentation: what is trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

from jaxrl_agents.methods.expseek_rollouts import STRATEGIES, Config, Setting, strategy

BACKTRACKING = ("ExpSeek", "ExpSeek+BoN")
THRESHOLDS = (0.1, 0.2, 0.3, 0.5, 0.8)  # η of the paper's ablation, nats
BACKTRACKS = (1, 2, 3, 4, 5)  # B of the paper's ablation


@dataclasses.dataclass(frozen=True)
class Reading:
    """One way to read what the paper leaves open."""

    name: str
    summary: str
    fields: dict[str, Any]  # of Setting and Config
    of_retries: bool = False  # it says something of retries only: rollouts without them are those of the default
    one_web: bool = False  # all seeds share the web of the first


# For each k the learning rate with which Standard comes nearest to the paper's 0.542 in its last ten epochs
# (`--budget full` shows the search); k = 2 is the k whose returns are the paper's too.
FITTED = {2: 1.9, 3: 7.25, 4: 14.0, 5: 25.0}
DEFAULT_K = 2
TRAINED = {"required_pairs": 4, "learning_rate": 100.0}  # the environment's own k, trained until little changes


def _fit(k: int) -> dict[str, Any]:
    return {"required_pairs": k, "learning_rate": FITTED[k]}


DEFAULT = Reading("default", "discarded steps count towards T; a rollout retries B times, 1 … B steps back", _fit(2))
LEARNED = Reading("trained", "k = 4 and a learning rate of 100: the policy becomes peaked", TRAINED)
FREE = Reading("free", "discarded steps do not count towards T", {**_fit(2), "free_steps": 9}, of_retries=True)
READINGS = (
    DEFAULT,
    FREE,
    Reading("B steps back", "a retry always goes B steps back", {**_fit(2), "fixed_distance": True}, of_retries=True),
    Reading("one step back", "a retry goes one step back", {**_fit(2), "steps_back": 1}, of_retries=True),
    Reading("B a trigger", "retries are not limited, only how far they go", {**_fit(2), "max_retries": 10}, True),
    Reading(
        "ratio at 1",
        "the ratio divides by π(a|s), not by the probability at τ",
        {**_fit(2), "drawn_at_one": True},
        True,
    ),
    Reading("one group", "advantages relative to all rollouts of the epoch", {**_fit(2), "one_group": True}),
    Reading("shared policy", "one table for all tasks", {**_fit(2), "shared_policy": True}),
    Reading("one web", "the web and tasks of the first seed for all seeds", _fit(2), one_web=True),
    *(Reading(f"k = {k}", f"success asks for {k} rewarded pairs", _fit(k)) for k in FITTED if k != DEFAULT_K),
)
JUDGED = (DEFAULT, FREE, LEARNED)  # every claim is judged under each of these,
ABLATED = (DEFAULT, LEARNED)  # those of the ablations under these, as nothing else was run
FIT_GRID = {2: (1.5, 1.9, 2.5), 3: (6.0, 7.25, 8.5), 4: (12.0, 14.0, 16.0), 5: (20.0, 25.0, 30.0)}


@dataclasses.dataclass(frozen=True)
class Arm:
    """One training, of all seeds."""

    reading: str
    strategy: str
    setting: Setting
    config: Config
    one_web: bool = False

    @property
    def name(self) -> tuple[str, str]:
        """What tells it from others."""
        return self.reading, self.strategy


def arms(readings: Iterable[Reading]) -> Iterator[Arm]:
    """The trainings that the readings ask for."""
    for reading in readings:
        for name in BACKTRACKING if reading.of_retries else STRATEGIES:
            yield Arm(reading.name, name, *strategy(name, **reading.fields), reading.one_web)


def ablations(regime: Reading) -> Iterator[Arm]:
    """The two ablations of the paper under one regime; η = 0.3 and B = 3 are the regime itself."""
    swept = {f"η = {eta}": {"entropy_threshold": eta} for eta in THRESHOLDS if eta != 0.3}
    swept |= {f"B = {b}": {"steps_back": b, "max_retries": b} for b in BACKTRACKS if b != 3}
    for point, fields in swept.items():
        for name in BACKTRACKING:
            yield Arm(f"{regime.name}, {point}", name, *strategy(name, **regime.fields, **fields))


def fits() -> Iterator[Arm]:
    """Standard over the learning rates from which `FITTED` was chosen."""
    for k, rates in FIT_GRID.items():
        for rate in rates:
            setting, config = strategy("Standard", required_pairs=k, learning_rate=rate)
            yield Arm(f"k = {k}, rate {rate:g}", "Standard", setting, config)
