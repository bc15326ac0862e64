"""`results.json`: what it holds, and that it survives interruptions."""

import dataclasses
import json

import pytest

from benchmarks import machine, runner
from benchmarks.measure import Budget, Unavailable
from benchmarks.results import SCHEMA_VERSION, Results, Row, Target, spread
from benchmarks.suites import Case, Settings, Suite

ROW_FIELDS = {
    "suite", "case", "metric", "unit", "value", "p10", "p90", "repeats", "batch_size", "compile_seconds",
    "parameters", "better", "target", "histogram", "status", "note",
}  # fmt: skip
SETTINGS = Settings(Budget("quick", 1, 0.01))


def row(case="a", **fields):
    return Row(suite="toy", case=case, metric="speed", unit="steps/s", **fields)


def suite(cases):
    return Suite("toy", "Toys", lambda settings: cases, lambda rows, folder: iter(()))


class Heard(list):
    """What a listener was told."""

    def started(self, case):
        self.append(f"start {case}")

    def measured(self, row):
        self.append(row.case)

    def ended(self, case):
        self.append(f"end {case}")


def run(cases, path, heard=None):
    toys = suite(cases)
    return runner.run([(toys, case) for case in cases], SETTINGS, ["toy"], path, Heard() if heard is None else heard)


def test_schema(tmp_path):
    path = tmp_path / "results.json"
    run([Case("a", lambda: [row(value=2.0, target=Target(">=", 1.0), parameters={"arm": "x"})])], path)
    document = json.loads(path.read_text())
    assert document["schema_version"] == SCHEMA_VERSION
    assert set(document) == {"schema_version"} | {field.name for field in dataclasses.fields(Results)}
    assert {"cpu", "cores", "memory_gib", "backend", "accelerators", "system"} <= set(document["machine"])
    assert {"python", "jax", "jaxlib", "numpy"} <= set(document["versions"])
    assert document["complete"] is True and document["running"] is None and document["finished"] == ["toy/a"]
    (only,) = document["rows"]
    assert set(only) == ROW_FIELDS
    assert only["target"] == {"op": ">=", "value": 1.0, "tolerance": 0.0}


def test_the_machine_is_described_without_its_name_or_paths():
    import platform
    from pathlib import Path

    text = json.dumps([machine.fingerprint(), machine.versions()])
    assert platform.node() not in text or platform.node() in ("", "localhost")
    assert str(Path.home()) not in text and str(Path.cwd()) not in text


def test_round_trip(tmp_path):
    path = tmp_path / "results.json"
    rows = [row(value=1.5, p10=1.0, p90=2.0, repeats=3, target=Target("<=", 3.0)), row("b", status="failed", note="no")]
    results = Results(machine.fingerprint(), machine.versions(), {"suites": []}, rows, ["toy/a"])
    results.save(path)
    assert Results.load(path) == results
    assert Results.load(tmp_path) == results
    assert list(tmp_path.iterdir()) == [path]  # no partial file stays


@pytest.mark.parametrize("text", ["[]", "{}", '{"schema_version": 99}', '{"schema_version": 1, "rows": [{}]}'])
def test_what_is_not_results_is_refused_by_name(tmp_path, text):
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"other\.json: not benchmark results"):
        Results.load(path)


def test_spread():
    assert spread([1, 2, 3, 4, 5]) == {"value": 3.0, "p10": 1.4, "p90": 4.6, "repeats": 5}


@pytest.mark.parametrize(
    ("op", "value", "verdict"),
    [
        (">=", 2.0, "pass"), (">=", 1.9, "miss"), ("<=", 2.0, "pass"), ("<=", 2.1, "miss"),
        ("±", 1.5, "pass"), ("±", 2.5, "pass"), ("±", 1.4, "miss"), ("±", 2.6, "miss"),
    ],
)  # fmt: skip
def test_verdict(op, value, verdict):
    assert row(value=value, target=Target(op, 2.0, 0.5)).verdict == verdict
    assert row(status="failed", target=Target(op, 2.0)).verdict == ""
    assert row(value=value).verdict == ""


def test_a_case_that_raises_keeps_its_rows_and_hides_no_other(tmp_path):
    def half():
        yield row("half", value=1.0)
        raise MemoryError("too large")

    def absent():
        raise Unavailable("not installed")

    cases = [Case("half", half), Case("absent", absent), Case("c", lambda: [row("c", value=2.0)])]
    results = run(cases, tmp_path / "results.json")
    assert [(r.case, r.metric, r.status) for r in results.rows] == [
        ("half", "speed", "ok"),
        ("half", "case", "failed"),
        ("absent", "case", "unavailable"),
        ("c", "speed", "ok"),
    ]
    assert "MemoryError" in results.rows[1].note and results.complete


def test_an_interrupted_run_keeps_its_rows_and_goes_on(tmp_path):
    path, ran, interrupt = tmp_path / "results.json", [], [True]

    def case(name):
        def body():
            ran.append(name)
            yield row(name, value=float(len(ran)))
            if name == "b":
                assert [r.case for r in Results.load(path).rows] == ["a", "b"]  # a row is in the file when it is there
                if interrupt.pop():
                    raise KeyboardInterrupt

        return Case(name, body)

    cases = [case("a"), case("b"), case("c")]
    with pytest.raises(KeyboardInterrupt):
        run(cases, path)
    kept = Results.load(path)
    assert (kept.finished, kept.complete, kept.running) == (["toy/a"], False, None)
    assert [(r.case, r.value) for r in kept.rows] == [("a", 1.0), ("b", 2.0)]
    interrupt.append(False)
    heard = Heard()
    results = run(cases, path, heard)
    assert ran == ["a", "b", "b", "c"]
    assert [(r.case, r.value) for r in results.rows] == [("a", 1.0), ("b", 3.0), ("c", 4.0)] and results.complete
    assert heard == [part for name in "abc" for part in (f"start toy/{name}", name, f"end toy/{name}")]


def test_a_case_that_killed_the_process_is_reported_and_not_repeated(tmp_path):
    path, ran = tmp_path / "results.json", []
    cases = [Case(name, lambda name=name: ran.append(name) or [row(name, value=1.0)]) for name in "ab"]
    run(cases, path)
    document = json.loads(path.read_text())
    document.update(complete=False, running="toy/a", finished=[], rows=[])
    path.write_text(json.dumps(document))
    results = run(cases, path)
    assert ran == ["a", "b", "b"]
    assert [(r.case, r.status) for r in results.rows] == [("a", "failed"), ("b", "ok")]
    assert "the process ended" in results.rows[0].note


@pytest.mark.parametrize("change", ["complete", "machine", "versions", "settings", "text"])
def test_other_results_are_set_aside(tmp_path, change):
    path, ran = tmp_path / "results.json", []
    cases = [Case("a", lambda: ran.append("a") or [row(value=1.0)])]
    run(cases, path)
    document = json.loads(path.read_text())
    document["complete"] = change == "complete"
    if change == "machine":
        document["machine"]["cpu"] = "another"
    elif change == "versions":
        document["versions"]["jax"] = "0.0.1"
    elif change == "settings":
        document["settings"]["levels"] = {"files": 1, "bytes": 1}
    other = "not JSON" if change == "text" else json.dumps(document)
    for number in (1, 2):
        path.write_text(other)
        assert len(run(cases, path).rows) == 1
        assert (tmp_path / f"results.{number}.json").read_text() == other
    assert ran == ["a", "a", "a"]
