"""WebShop's learning case on a tiny shop."""

import pytest

from benchmarks import training_webshop
from benchmarks.results import Target
from benchmarks.suites import Settings
from benchmarks.suites import training as suite
from envs_jax.web.scripted import Rule

pytestmark = pytest.mark.usefixtures("quick_compilation")

TINY = {
    "env_arguments": {"num_products": 60, "page_size": 3, "num_distractors": 0},
    "num_steps": 1,
    "model": {"d_model": 8},
    "batch": {"num_groups": 1, "group_size": 2, "num_turns": 3, "num_micro_batches": 1},
    "warm_start": {"num_steps": 1, "num_episodes": 2},
    "evaluation": {"num_episodes": 12, "num_turns": 6, "num_held_out": 12},
}


def test_rows_have_scripts_and_runs_and_what_they_are_above_the_rule(monkeypatch):
    run, scripts = training_webshop.run, training_webshop.scripts

    monkeypatch.setattr(training_webshop, "baselines", lambda policy: {"rule": Rule(), "options": Rule(options=True)})
    monkeypatch.setattr(training_webshop, "VARIANTS", {"after a warm start": {}})
    monkeypatch.setattr(training_webshop, "scripts", lambda products, document: scripts(products, TINY))
    monkeypatch.setattr(training_webshop, "run", lambda products, document, number: run(products, TINY, number))
    monkeypatch.setattr(suite, "WEBSHOP_POINTS", 2)
    rows = list(suite.run_webshop(Settings()))
    final = {row.parameters["policy"]: row for row in rows if row.metric == "final return"}
    assert list(final) == ["rule", "options", "trained after a warm start"]
    assert 0 <= final["rule"].value < final["options"].value <= 1
    points = [row for row in rows if row.metric == "return"]
    assert [row.parameters["steps"] for row in points] == [1, 2]
    assert points[-1].value == final["trained after a warm start"].value
    times = {row.metric: row for row in rows if row.metric.endswith("time")}
    assert times["wall time"].value > 0 and times["wall time"].target == Target("<=", 1_200)
    assert times["processor time"].value > 0
    above = next(row for row in rows if row.metric == "return above the rule")
    assert above.value == pytest.approx(points[-1].value - final["rule"].value) and above.target == Target(">=", 0.15)
    assert "12 episodes" in final["rule"].note
    assert all(row.status == "ok" for row in rows)
