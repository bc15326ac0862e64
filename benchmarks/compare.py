"""Two results beside each other: ratios, and whether they are larger than the noise."""

from __future__ import annotations

import dataclasses
from typing import Literal

from benchmarks.machine import same_machine
from benchmarks.results import Results, Row

Verdict = Literal["better", "worse", "same", "not separated", "changed", "lost", "new"]
TIMES = frozenset(("s", "ms", "µs", "ns"))
TIMED_ONCE = 2.0  # by this factor times must differ to be told apart where one of them was taken only once


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One value in two results."""

    a: Row | None
    b: Row | None

    @property
    def row(self) -> Row:
        """One of the two, to name what was measured."""
        row = self.b if self.b is not None else self.a
        assert row is not None
        return row

    @property
    def ratio(self) -> float | None:
        """B / a; None where one of them has no value, or a is 0."""
        if self.a is None or self.b is None or not self.a.value or self.b.value is None:
            return None
        return self.b.value / self.a.value

    @property
    def verdict(self) -> Verdict:
        """What the two say of each other.

        `not separated` where the ranges from p10 to p90 overlap, or times of which one was taken only once differ by
        less than a factor of 2; `lost` and `new` where only one result has a value.
        """
        a = self.a if self.a is not None and self.a.value is not None else None
        b = self.b if self.b is not None and self.b.value is not None else None
        if a is None or b is None:
            return "lost" if b is None else "new"
        if _value(a) == _value(b):
            return "same"
        if _overlap(a, b) or (_timed_once(a, b) and _close(_value(a), _value(b))):
            return "not separated"
        if not b.better:
            return "changed"
        return "better" if (_value(b) > _value(a)) == (b.better == "higher") else "worse"


def compare(a: Results, b: Results) -> list[Comparison]:
    """Every value that at least one of the results has, in the order of `b`."""
    old = {row.key: row for row in a.rows}
    new = {row.key: row for row in b.rows}
    pairs = [Comparison(old.get(key), row) for key, row in new.items()]
    pairs += [Comparison(row, None) for key, row in old.items() if key not in new]
    has_value = lambda pair: any(row is not None and row.value is not None for row in (pair.a, pair.b))
    return [pair for pair in pairs if has_value(pair)]


def warnings(a: Results, b: Results) -> list[str]:
    """What makes the two hard to compare."""
    found = []
    if not same_machine(a.machine, b.machine):
        found.append("the machines differ: the ratios mix machine and code")
    for package in ("jax", "jaxlib"):
        if a.versions.get(package) != b.versions.get(package):
            found.append(f"{package} differs: {a.versions.get(package)} and {b.versions.get(package)}")
    if a.settings.get("budget") != b.settings.get("budget"):
        found.append(f"the budgets differ: {a.settings.get('budget')} and {b.settings.get('budget')}")
    for name in ("levels", "products"):
        if a.settings.get(name) != b.settings.get(name):
            found.append(f"the two ran on different --{name}: {a.settings.get(name)} and {b.settings.get(name)}")
    found += [f"{name} is incomplete" for name, results in (("A", a), ("B", b)) if not results.complete]
    return found


def _overlap(a: Row, b: Row) -> bool:
    low, high = (
        (lambda row: row.p10 if row.p10 is not None else _value(row)),
        (lambda row: row.p90 if row.p90 is not None else _value(row)),
    )
    return low(a) <= high(b) and low(b) <= high(a)


def _timed_once(*rows: Row) -> bool:
    """Whether one of the rows is a time, or made of times, that was taken only once: nothing is known of its spread."""
    return any(row.repeats <= 1 and (row.unit in TIMES or row.p10 is None) for row in rows)


def _close(a: float, b: float) -> bool:
    return min(a, b) > 0 and max(a, b) < TIMED_ONCE * min(a, b)


def _value(row: Row) -> float:
    assert row.value is not None
    return row.value
