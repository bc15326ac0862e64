"""Rows from measurements: rates, times, ratios and costs."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from benchmarks.measure import Measurement, ratio
from benchmarks.results import Row, Target, spread


@dataclasses.dataclass(frozen=True)
class RowMaker:
    """Makes the rows of one case."""

    suite: str
    case: str
    batch_size: int | None = None

    def fact(self, metric: str, unit: str, value: float, **fields: Any) -> Row:
        """A single value that is counted or computed, not timed."""
        return self._row(metric, unit, value=float(value), p10=float(value), p90=float(value), repeats=1, **fields)

    def sample(self, metric: str, unit: str, values: Any, **fields: Any) -> Row:
        """The median and spread of the values of the repeats."""
        return self._row(metric, unit, **spread(values), **fields)

    def missing(self, metric: str, unit: str, measurement: Measurement, **fields: Any) -> Row:
        """A row for what could not be measured, with the reason."""
        return self._row(metric, unit, **{**fields, "status": measurement.status, "note": measurement.note})

    def rate(self, measurement: Measurement, unit: str = "steps/s", **fields: Any) -> Row:
        """Items a second."""
        fields = {"compile_seconds": measurement.compile_seconds, "better": "higher", **fields}
        if measurement.rates is None:
            return self.missing("throughput", unit, measurement, **fields)
        return self.sample("throughput", unit, measurement.rates, **fields)

    def ratio(self, metric: str, a: Measurement, b: Measurement, target: float | None = None, **fields: Any) -> Row:
        """How many times faster `a` is than `b`, from the repeats of both."""
        fields = {"better": "higher", "target": None if target is None else Target(">=", target), **fields}
        values = ratio(a, b)
        if values is None:
            return self.missing(metric, "×", _lacking(a, b), **fields)
        return self.sample(metric, "×", values, **fields)

    def extra_cost(self, metric: str, a: Measurement, base: Measurement, target: float | None, **fields: Any) -> Row:
        """By how many per cent an item of `a` takes longer than one of `base`."""
        fields = {"better": "lower", "target": None if target is None else Target("<=", target), **fields}
        values = ratio(base, a)
        if values is None:
            return self.missing(metric, "%", _lacking(a, base), **fields)
        return self.sample(metric, "%", 100 * (values - 1), **fields)

    def nanoseconds(self, metric: str, a: Measurement, less: Measurement | None = None, **fields: Any) -> Row:
        """The time of an item of `a`, less that of an item of another arm."""
        fields = {"better": "lower", **fields}
        if a.rates is None or (less is not None and less.rates is None):
            return self.missing(metric, "ns", _lacking(a, less or a), **fields)
        values = 1e9 / a.rates - (0 if less is None else 1e9 / np.asarray(less.rates))
        return self.sample(metric, "ns", values, **fields)

    def _row(self, metric: str, unit: str, **fields: Any) -> Row:
        fields = {"batch_size": self.batch_size, **fields}
        return Row(suite=self.suite, case=self.case, metric=metric, unit=unit, **fields)


def _lacking(a: Measurement, b: Measurement) -> Measurement:
    """The status of what is made of two arms of which one has no rates; its own row says why."""
    lacking = a if a.rates is None else b
    return Measurement(status=lacking.status, note="an arm that it is made of has no value")
