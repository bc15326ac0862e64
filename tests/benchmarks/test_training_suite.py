"""The parts of the training suite."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import (
    search_workers,
    training_arms,
    training_curves,
    training_decoding,
    training_plots,
    training_worker,
)
from benchmarks.measure import BUDGETS, Measurement, Runner
from benchmarks.results import Row, Target
from benchmarks.rows import RowMaker
from benchmarks.suites import Settings
from benchmarks.suites import training as suite
from jaxrl_agents.training import Evaluation, make_mesh, preset, updated
from jaxrl_agents.training.evaluation import Interval

pytestmark = pytest.mark.usefixtures("quick_compilation")

GROUPS, SIZE = 2, 8
ROWS = RowMaker("training", "subject/case")


@pytest.fixture(scope="module")
def work():
    return training_arms.work(GROUPS, SIZE, num_micro_batches=2, d_model=8, num_layers=1, num_heads=2)


@pytest.fixture(scope="module")
def stepped(work):
    """The summary of two steps."""
    arm = training_arms.step(work)
    arm.run(1)
    assert arm.compile_seconds > 0
    return arm.finish()


def test_the_halves_are_the_step(work, stepped):
    """What the suite times as rollout and update is what the step does."""
    trajectory = work.learner.collect(work.first[0], work.tasks)
    state, halves = work.learner.learn(work.state(), trajectory)
    whole, metrics = work.learner.step(work.state(), work.tasks)
    assert halves.keys() < metrics.keys()
    for name, value in halves.items():
        np.testing.assert_allclose(value, metrics[name], rtol=1e-5, atol=1e-7, err_msg=name)
    assert jnp.sum(trajectory.counts.env_steps) == metrics["env_steps"] and state.key == whole.key
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), state.params, whole.params)
    assert stepped["first gradient_norm"] > 0
    assert stepped["first loss"] == pytest.approx(float(metrics["loss"]), rel=1e-5, abs=1e-7)


def test_steps_count_what_they_did(work, stepped):
    assert 0 < stepped["env_steps"] <= work.update_rows == GROUPS * SIZE * training_arms.TURNS
    assert stepped["policy_forwards"] == work.update_rows + GROUPS  # the roots of the groups
    arm = training_arms.rollout(work)
    arm.run(1)
    assert arm.finish()["policy_forwards"] == stepped["policy_forwards"]
    assert stepped["bytes"] > sum(leaf.nbytes for leaf in jax.tree.leaves(work.first[0].params))


def test_a_program_for_profiles_goes_on_training(work):
    program = training_arms.step_program(work)
    assert 0 < program.items <= work.update_rows
    runner = Runner(program.compiled()[0], program.constants, program.carry)
    runner(3)
    assert runner.carry.step == 3 and program.carry.step == 0


def test_bare_forwards_are_those_of_the_rollout(work):
    arm = training_arms.forwards(work, copies=3)
    assert arm.finish() == {"rows": 3.0 * work.update_rows}


@pytest.mark.parametrize("parts", [1, 2])
def test_the_bare_gradient_does_not_depend_on_the_parts(work, parts):
    learner = dataclasses.replace(work.learner, num_micro_batches=parts)
    cut = training_arms.Work(learner, work.tasks)
    cut.__dict__.update(first=work.first, played=work.played)
    found = training_arms.bare_gradient(cut)()

    def loss(params):
        made = work.policy.decided(params, work.played.observations, work.played.actions.clip(0), None)
        return -made.log_probs.sum()

    expected = jax.jit(jax.grad(loss))(work.first[0].params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, expected)


def test_what_a_step_must_hold_shrinks_with_its_parts(work):
    held = training_arms.estimated_bytes(work)
    whole = training_arms.Work(dataclasses.replace(work.learner, num_micro_batches=1), work.tasks)
    state = sum(leaf.nbytes for leaf in jax.tree.leaves((work.first[0].params, work.first[0].opt_state)))
    assert held + state < training_arms.estimated_bytes(whole) < 2 * held  # twice the residuals, once the rest


def test_decoding_gives_the_same_with_the_cache_and_without():
    model = training_decoding.model(d_model=16, num_layers=2, num_heads=2)
    params = jax.jit(model.init)(jax.random.key(3))
    params["heads"]["policy"] = 100 * params["heads"]["policy"]  # so that no two logits are close
    found = []
    for make in (training_decoding.cached, training_decoding.uncached):
        program = make(model, 3, 9, params)
        body = jax.jit(program.body)
        carry = body(program.constants, program.carry, jax.random.key(0))
        again = body(program.constants, carry, jax.random.key(0))
        assert program.items == 3
        found.append((carry[1], again[1]))
    np.testing.assert_array_equal(*found)


def test_all_that_can_be_run_is_a_case():
    listed = {case.run.func for case in suite.cases(Settings(budget=BUDGETS["full"]))}
    assert listed == {run for name, run in vars(suite).items() if name.startswith("run_")}


def failed():
    return Measurement(status="failed", note="no memory")


def test_the_cost_of_a_step_is_its_time_over_that_of_its_parts():
    arm = lambda *rates: Measurement(np.array(rates, float))
    row = suite.cost_of(ROWS, arm(1.0, 2.0), [arm(2.0, 4.0), arm(4.0, 8.0)])
    assert row.value == pytest.approx(1 / 0.75) and row.verdict == "miss"
    assert suite.cost_of(ROWS, arm(1.0), [arm(1.5), arm(4.0)]).verdict == "pass"
    row = suite.cost_of(ROWS, arm(1.0), [arm(1.0), failed()])
    assert (row.value, row.status, row.note) == (None, "failed", "no memory")


def test_a_search_has_its_share_of_the_step(work):
    arm = lambda rate, **summary: Measurement(np.array([rate]), summary=summary)
    measured = {
        "beam": arm(2.0, env_steps=100.0, policy_forwards=300.0),
        "beam, rollout": arm(4.0, policy_forwards=300.0),
        "standard, rollout": arm(10.0),
        "forwards, 4": arm(8.0, rows=600.0),
        "gradient": arm(8.0),
    }
    found = {(row.metric, row.unit, row.parameters.get("program")): row.value
             for row in suite.strategy_rows(ROWS, "beam", measured, work)}  # fmt: skip
    assert found == pytest.approx({
        ("throughput", "env steps/s", None): 200, ("throughput", "forwards/s", None): 600,
        ("throughput", "tokens/s", "step"): 2 * (300 + work.update_rows) * work.num_tokens,
        ("throughput", "tokens/s", "rollout"): 4 * 300 * work.num_tokens,
        ("time", "ms", "step"): 500, ("time", "ms", "rollout"): 250,
        ("rollout's share of the step", "%", None): 50, ("search's share of the step", "%", None): 30,
        ("time over forwards and gradient", "×", None): 0.5 / (0.0625 + 0.125),
    })  # fmt: skip
    names = [row.metric for row in suite.strategy_rows(ROWS, "beam", measured | {"beam, rollout": failed()}, work)]
    assert "search's share of the step" not in names and names.count("time") == 2


def test_gradients_on_meshes_are_compared_as_vectors(work):
    """A gradient turned round has the same norm, and is twice that norm away."""
    found = training_worker.gradient(work)
    mesh = make_mesh(devices=jax.devices()[:1])
    meshed = dataclasses.replace(work, learner=dataclasses.replace(work.learner, mesh=mesh))
    assert training_worker.change(found, training_worker.gradient(meshed)) <= suite.SAME_GRADIENT
    assert training_worker.change(found, jax.tree.map(np.negative, found)) == pytest.approx(2)


def test_differences_between_devices_stand_beside_their_targets(monkeypatch):
    found = {"rates": {"1": [4.0], "8": [2.0]}, "loss": {"1": 0.5, "8": 0.5 + 2e-6}, "gradient_change": 2e-6}
    monkeypatch.setattr(search_workers, "call", lambda worker, arguments: found)
    *_, times, loss, gradient = suite.run_devices(Settings())
    assert (times.value, loss.verdict, gradient.value, gradient.verdict) == (2, "pass", 2e-6, "miss")


def test_accelerator_cases_say_that_they_were_left_out():
    for run in (suite.run_accelerator_update, suite.run_accelerator_step):
        (row,) = run(Settings())
        assert row.status == "unavailable" and "no accelerator" in row.note and row.target is not None
        assert row.verdict == ""


def test_an_update_is_a_share_of_the_matrix_rate(work):
    *_, share = found = list(suite.update_rows(ROWS, Settings(), work, 64, Target(">=", 40)))
    assert [row.status for row in found] == ["ok"] * 4
    assert found[0].value == work.policy.model.config.num_parameters
    assert 0 < share.value < 100 and share.unit == "%"
    assert share.value == pytest.approx(100 * found[2].value / found[1].value, rel=0.9)


def test_the_best_throughput_stands_beside_the_target(work):
    measured, best = suite.throughput_rows(Settings(), [work], Target(">=", 1e9))
    assert (measured.status, measured.batch_size, measured.target) == ("ok", GROUPS * SIZE, None)
    assert (best.metric, best.value, best.verdict) == ("best throughput", measured.value, "miss")


def curve(seed, optimum=0.74):
    """A run that has learned half of it after five steps."""
    reached = lambda success: Evaluation(*(3 * [Interval(success, success - 0.01, success + 0.02)]), 100, optimum)
    yield 0, reached(0.0)
    yield 5, reached(0.5)
    return training_curves.Run(None, reached(0.7 + seed / 100), 0.25, 0.125, 170.0 + 5 * seed, 90.0)


def curves(optimum=0.74):
    return {seed: curve(seed, optimum) for seed in (0, 1, 2)}


def test_learning_is_compared_with_the_optimum():
    rows = {row.metric: row for row in suite.learning_rows(ROWS, curves(), 3.0)}
    assert rows["short of the optimum"].value == pytest.approx(0.03) and rows["short of the optimum"].repeats == 3
    assert rows["optimum"].value == 0.74 and rows["final success"].value == pytest.approx(0.71)
    assert (rows["time of a step"].value, rows["processor time of a step"].value) == (0.25, 0.125)
    assert (rows["wall time"].value, rows["wall time"].verdict, rows["processor time"].value) == (175, "pass", 90)
    assert rows["processor time"].target is None


def test_learning_without_a_known_optimum_is_compared_with_the_target():
    rows = list(suite.learning_rows(ROWS, curves(None), 2.0, Target(">=", 0.715)))
    times = ["time of a step", "processor time of a step", "wall time", "processor time"]
    assert [row.metric for row in rows] == ["success"] * 6 + times + ["final success"]
    assert [row.parameters for row in rows[2:4]] == [{"seed": 1, "steps": 0}, {"seed": 1, "steps": 5}]
    assert rows[-1].value == pytest.approx(0.71) and rows[-1].verdict == rows[-3].verdict == "miss"


def test_points_come_while_the_run_goes_on(monkeypatch):
    small = {
        "env_arguments": {"time_limit": 2},
        "num_steps": 2,
        "model": {"d_model": 4, "num_heads": 1},
        "batch": {"group_size": 2, "num_epochs": 1, "num_micro_batches": 1},
    }
    monkeypatch.setattr(training_curves, "preset", lambda env: updated(preset(env), small))
    seeds = training_curves.curves(training_curves.LAKE, (3, 4), 3, 8, 8)
    steps, before = next(seeds[3])
    assert list(seeds) == [3, 4] and (steps, before.num_episodes) == (0, 8)
    rows = suite.followed(ROWS, seeds[3], "return", {"seed": 3})
    assert [next(rows).parameters for _ in range(2)] == [{"seed": 3, "steps": 1}, {"seed": 3, "steps": 2}]
    with pytest.raises(StopIteration) as ended:
        next(rows)
    run = ended.value.value
    assert 0 < 2 * run.step_seconds < run.seconds and run.processor_seconds > 0 and run.final.num_episodes == 8


def test_plots_show_what_there_is(tmp_path):
    assert list(training_plots.training([], tmp_path)) == []
    row = lambda case, metric, value, **parameters: Row(
        suite="training", case=case, metric=metric, unit="", value=value, parameters=parameters
    )
    rows = [row("s/search", "time", 9.0, rollout="beam", program=program) for program in ("step", "rollout")]
    rows += [row("t/decoding", "throughput", 5.0, arm="without", context=context) for context in (64, 256)]
    for env, optimum in (("FrozenLake-v0", 0.74), ("Sokoban-RAGEN-v0", None)):
        rows += suite.learning_rows(RowMaker("training", f"{env}/learning"), curves(optimum), 3.0)
    shop = lambda metric, value, **of: row("WebShop-v0/learning", metric, value, **of)
    rows += [shop("return", 0.1 * steps, policy="trained from scratch", steps=steps) for steps in (5, 10)]
    rows += [shop("final return", 0.5, policy="rule"), shop("final return", 1.0, policy="trained from scratch")]
    drawn = list(training_plots.training(rows, tmp_path))
    names = ["training_step", "decoding", "learning", "learning_rooms", "learning_webshop"]
    assert [plot.file for plot in drawn] == [f"{name}.png" for name in names]
    assert all((tmp_path / plot.file).stat().st_size > 1_000 for plot in drawn)
