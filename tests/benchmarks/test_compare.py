"""Two results beside each other."""

from dataclasses import replace

import pytest

from benchmarks.compare import compare, warnings
from benchmarks.results import Results, Row


def row(value, p10=None, p90=None, case="a", better="higher", **fields):
    p10, p90 = (value if bound is None else bound for bound in (p10, p90))
    fields = {"unit": "u", **fields}
    return Row(suite="s", case=case, metric="m", value=value, p10=p10, p90=p90, better=better, **fields)


def results(*rows, **fields):
    return Results(
        {"cpu": "c", "load_average": 1.0}, {"jax": "1"}, {"budget": "quick"}, list(rows), complete=True, **fields
    )


@pytest.mark.parametrize(
    ("a", "b", "verdict", "ratio"),
    [
        (row(10, 9, 11), row(20, 18, 22), "better", 2.0),
        (row(20, 18, 22), row(10, 9, 11), "worse", 0.5),
        (row(10, 9, 11), row(12, 10.5, 13), "not separated", 1.2),
        (row(10, 9, 11), row(12, 11, 13), "not separated", 1.2),  # the ranges touch
        (row(10, better="lower"), row(20, better="lower"), "worse", 2.0),
        (row(20, better="lower"), row(10, better="lower"), "better", 0.5),
        (row(10, better=""), row(11, better=""), "changed", 1.1),
        (row(10, better=""), row(10, better=""), "same", 1.0),
        (row(0.0, better="lower"), row(3.0, better="lower"), "worse", None),
        (row(10, unit="s", repeats=1), row(19, unit="s"), "not separated", 1.9),  # timed once
        (row(10, unit="s", repeats=1, better="lower"), row(21, unit="s", better="lower"), "worse", 2.1),
        (row(10, unit="s", repeats=5), row(19, unit="s", repeats=5), "better", 1.9),
        (row(10, unit="bytes", repeats=1), row(11, unit="bytes", repeats=1), "better", 1.1),  # counted
        (replace(row(1.0), p10=None), row(1.4), "not separated", 1.4),  # made of times taken once
        (row(10), row(None, status="failed"), "lost", None),
        (row(None, status="failed"), row(10), "new", None),
    ],
)
def test_verdicts(a, b, verdict, ratio):
    (pair,) = compare(results(a), results(b))
    assert pair.verdict == verdict
    assert pair.ratio == (None if ratio is None else pytest.approx(ratio))


def test_rows_are_matched_by_what_they_measure():
    a = results(row(1, case="x"), row(2, case="y"), row(3, batch_size=1), row(4, parameters={"arm": "p"}))
    b = results(row(40, parameters={"arm": "p"}), row(30, batch_size=1), row(5, case="new"), row(10, case="x"))
    found = {(p.row.case, p.row.batch_size, *p.row.parameters.values()): (p.ratio, p.verdict) for p in compare(a, b)}
    assert found == {
        ("a", None, "p"): (10.0, "better"),
        ("a", 1): (10.0, "better"),
        ("new", None): (None, "new"),
        ("x", None): (10.0, "better"),
        ("y", None): (None, "lost"),
    }


def test_rows_in_two_units_are_two():
    """Environment steps a second and tokens a second of one arm, say."""
    pairs = compare(results(row(1, unit="u"), row(2, unit="v")), results(row(10, unit="u"), row(20, unit="v")))
    assert [(pair.row.unit, pair.ratio) for pair in pairs] == [("u", 10), ("v", 10)]


def test_values_that_neither_has_are_left_out():
    assert compare(results(row(None, status="failed")), results(row(None, status="unavailable"))) == []


def test_warnings():
    a = results()
    assert warnings(a, results()) == []
    busy = replace(a, machine={"cpu": "c", "load_average": 9.0})
    assert warnings(a, busy) == []
    other = Results({"cpu": "d"}, {"jax": "2"}, {"budget": "full", "levels": {"files": 2, "bytes": 3}})
    text = "\n".join(warnings(a, other))
    for part in ("machines differ", "jax differs: 1 and 2", "quick and full", "--levels", "B is incomplete"):
        assert part in text
