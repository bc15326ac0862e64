"""What a study finds: tables, claims, pictures and the numbers behind them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks import machine
from benchmarks.suites import Plot
from envs_jax.files import replaced

SCHEMA_VERSION = 1

Verdict = Literal["holds", "does not hold", "not separated", "not tested"]


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its 95 % confidence interval (Student's t)."""

    mean: float
    low: float
    high: float
    num_seeds: int

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {(self.high - self.low) / 2:.3f}"


def estimate(values: Any) -> Estimate:
    """The estimate from one value a seed, at least two."""
    from scipy.stats import t  # comes with JAX; slow to import

    values = np.asarray(values, np.float64)
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(f"values has shape {values.shape}; it must be [seeds], two or more")
    half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return Estimate(float(values.mean()), float(values.mean() - half), float(values.mean() + half), len(values))


def verdict_of(differences: Sequence[Estimate]) -> Verdict:
    """Whether all the differences are above 0: the intervals of all of them, or that of one of them the other way."""
    if any(difference.high < 0 for difference in differences):
        return "does not hold"
    return "holds" if all(difference.low > 0 for difference in differences) else "not separated"


@dataclasses.dataclass(frozen=True)
class Table:
    """A table as it is shown; cells are text."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Claim:
    """What the paper says, whether it was found again, and what was found."""

    claim: str
    verdict: Verdict
    found: str


@dataclasses.dataclass(frozen=True)
class Study:
    """All that a study shows. The same settings give the same, `timings` and `time_tables` apart."""

    summary: str  # what was run, in a sentence or two
    tables: Sequence[Table]
    claims: Sequence[Claim]
    plots: Sequence[Plot]
    records: dict[str, Any]  # the numbers behind the tables, as JSON holds them
    timings: dict[str, float]  # seconds, by what took them
    time_tables: Sequence[Table] = ()  # what clocks say


def save(study: Study, paper: str, settings: dict[str, Any], path: Path) -> None:
    """Writes `results.json`: what was asked for, what was found, on which machine, and how long it took."""
    document = {
        "schema_version": SCHEMA_VERSION,
        "paper": paper,
        "settings": settings,
        "tables": [dataclasses.asdict(table) for table in study.tables],
        "claims": [dataclasses.asdict(claim) for claim in study.claims],
        "records": study.records,
        "timings": study.timings,
        "time_tables": [dataclasses.asdict(table) for table in study.time_tables],
        "machine": machine.fingerprint(),
        "versions": machine.versions(),
    }
    with replaced(path) as partial:
        partial.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
