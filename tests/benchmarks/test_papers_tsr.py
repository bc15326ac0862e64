import copy
import dataclasses
import itertools
import json
from pathlib import Path

import jax
import numpy as np
import pytest

from benchmarks import machine
from benchmarks.papers import Settings, tsr_runs
from benchmarks.papers.progress import Progress
from benchmarks.papers.report import markdown
from benchmarks.papers.store import Store, digest
from benchmarks.papers.study import Estimate, verdict_of
from benchmarks.papers.tsr import study_of
from benchmarks.papers.tsr_analysis import (
    alike,
    at,
    base_model,
    budget_claim,
    common_budget,
    common_steps,
    compared,
    counted,
    diminishing,
    first_there,
    gain,
    gained,
    mean_of,
    ordering,
    per_update,
    positive,
    reached,
    sooner,
    spikes,
    success,
    times_the_baseline,
)
from benchmarks.papers.tsr_claims import claims
from benchmarks.papers.tsr_costs import comparable, cost_tables
from benchmarks.papers.tsr_plan import FIRST_BUDGETS, METHODS, PLANS, STRATEGIES, Cell, Plan
from benchmarks.papers.tsr_runs import CURVE, STEPS, Divergence, Run, RunStore, Workshop
from benchmarks.papers.tsr_tables import CLOCKED, PUBLISHED, PUBLISHED_BUDGETS, tables
from jaxrl_agents.methods import tsr
from jaxrl_agents.rollouts import Beam

SMALL = tsr.Sizes(d_model=8, num_layers=1, num_epochs=1, num_minibatches=1)


def a_run(final, *, curve=(0.1, 0.2, 0.4), steps_an_update=100.0, norms=(1.0, 1.0, 1.0, 1.0)):
    updates = [0.0, 2.0, 4.0]
    points = {name: [0.0] * 3 for name in CURVE}
    points |= {"updates": updates, "success": list(curve), "turns": [4.0, 3.5, 3.0]}
    points["env_steps"] = [steps_an_update * update for update in updates]
    points["policy_forwards"] = [10.0 * update for update in updates]
    recorded = {name: [0.5] * 4 for name in STEPS} | {"gradient_norm": list(norms)}
    return Run(4, points, recorded, {"success": final, "turns": 3.0, "actions": 6.0, "episode_return": 1.0}, 1.0, 2.0)


def runs_of(**finals):
    return {method: [a_run(value) for value in values] for method, values in finals.items()}


def test_a_verdict_needs_intervals_that_exclude_zero():
    above, around, below = (Estimate(mean, mean - 0.1, mean + 0.1, 3) for mean in (0.2, 0.05, -0.2))
    assert verdict_of([above, above]) == "holds"
    assert verdict_of([above, around]) == "not separated"
    assert verdict_of([above, around, below]) == "does not hold"


def test_methods_are_compared_seed_by_seed():
    """Seeds that differ by much more than the methods do: the pairs separate them all the same."""
    runs = runs_of(filtering=[0.1, 0.5, 0.9], beam=[0.2, 0.61, 0.99])
    assert compared("x", "d", runs, [("beam", "filtering")], success).verdict == "holds"
    assert compared("x", "d", runs, [("filtering", "beam")], success).verdict == "does not hold"
    assert compared("x", "d", runs, [("lookahead", "filtering")], success).verdict == "not tested"
    mixed = runs_of(filtering=[0.1, 0.5, 0.9], beam=[0.2, 0.4, 0.9])
    assert compared("x", "d", mixed, [("beam", "filtering")], success).verdict == "not separated"


def test_an_order_is_that_of_all_its_pairs():
    """Neighbours that are not separated, and ends that are: the order does not hold."""
    assert ordering(("a", "b", "c")) == [("b", "a"), ("c", "a"), ("c", "b")]
    runs = runs_of(a=[0.50, 0.50, 0.50], b=[0.44, 0.52, 0.48], c=[0.42, 0.44, 0.43])
    assert compared("x", "d", runs, [("b", "a"), ("c", "b")], success).verdict == "not separated"
    assert compared("x", "d", runs, ordering("abc"), success).verdict == "does not hold"


def test_a_gain_has_the_error_of_the_base_model_too():
    """It is measured once, in 512 episodes: seeds that agree say nothing of that."""
    runs = runs_of(near=[0.12, 0.12, 0.12], far=[0.2, 0.21, 0.22])
    base = base_model(runs)
    assert base.mean == pytest.approx(0.1, abs=1e-3) and base.high - base.low == pytest.approx(0.052, abs=1e-3)
    near, far, seeds = gained(runs, "near"), gained(runs, "far"), mean_of(runs, "far", gain)
    assert near.high - near.low == pytest.approx(base.high - base.low)
    assert (far.high - far.low) ** 2 == pytest.approx((seeds.high - seeds.low) ** 2 + (base.high - base.low) ** 2)
    assert positive("x", "d", runs, {"far": far}).verdict == "holds"
    assert positive("x", "d", runs, {"near": near, "far": far}).verdict == "not separated"


def test_equal_cost_reads_the_curve_between_evaluations():
    cheap, dear = a_run(0.4), a_run(0.4, steps_an_update=300.0)
    assert common_budget({"a": [cheap], "b": [dear]}, ("a", "b"), "env_steps") == 400
    assert at(400.0, "env_steps")(cheap) == pytest.approx(0.4)
    assert at(400.0, "env_steps")(dear) == pytest.approx(0.1 + 0.1 * 400 / 600)


def test_updates_to_a_share_of_the_final_success():
    assert reached(a_run(0.4), 0.8) == 4 and reached(a_run(0.2), 0.8) == 2 and reached(a_run(0.1), 0.8) == 0
    assert reached(a_run(0.9), 0.8) == 4  # no evaluation got there: the last one stands for it
    assert reached(a_run(0.1), 0.8, a_run(0.25)) == 2  # of what another run ends with


def test_what_the_baseline_does_beyond_the_compared_updates_does_not_count():
    longer = dataclasses.replace(a_run(0.45, norms=(1.0, 1.0, 1.0, 90.0)), num_updates=2)
    assert reached(longer, 0.8) == 2 and spikes(longer) == 1
    assert per_update("env_steps")(longer) == 100


def test_spikes_are_relative_to_the_median_of_the_run():
    assert spikes(a_run(0.4, norms=(2.0, 2.0, 2.0, 30.0))) == pytest.approx(15)


def test_what_the_base_model_has_already_is_not_timed():
    runs = runs_of(filtering=[0.4, 0.4, 0.4], beam=[0.41, 0.4, 0.4])
    assert sooner("x", "d", runs, [("filtering", "beam")], 0.8).verdict == "not separated"
    flat = {method: [a_run(0.11, curve=(0.1, 0.1, 0.1))] * 3 for method in runs}  # above the base, but not by much
    assert sooner("x", "d", flat, [("filtering", "beam")], 0.8).verdict == "not tested"
    assert first_there("x", "d", flat, ["filtering"], "beam").verdict == "not tested"
    idle = sooner("x", "d", runs | {"beam": [a_run(0.09)] * 3}, [("filtering", "beam")], 0.8)
    assert idle.verdict == "not tested" and "beam: not above the base model" in idle.found


def test_the_first_at_the_baselines_success():
    slow, fast = a_run(0.4), a_run(0.4, curve=(0.1, 0.4, 0.4))
    runs = {"filtering": [slow] * 3, "beam": [fast] * 3, "lookahead": [a_run(0.2, curve=(0.1, 0.1, 0.2))] * 3}
    assert first_there("x", "d", runs, ["filtering"], "beam").verdict == "holds"
    assert first_there("x", "d", runs, ["beam"], "filtering").verdict == "does not hold"
    updates, missing = common_steps(runs, "lookahead")
    assert list(updates) == [4, 4, 4] and missing == 3


def test_a_claim_of_likeness_is_refuted_by_a_difference_and_never_proved():
    near, far = runs_of(filtering=[0.1, 0.2], beam=[0.2, 0.1]), runs_of(filtering=[0.1, 0.2], beam=[0.3, 0.4001])
    assert alike("x", "d", near, [("beam", "filtering")], success).verdict == "not separated"
    assert alike("x", "d", far, [("beam", "filtering")], success).verdict == "does not hold"
    assert alike("x", "d", far, [("lookahead", "filtering")], success).verdict == "not tested"


@pytest.mark.parametrize(
    "finals, verdict",
    [
        (([0.1, 0.2, 0.3], [0.3, 0.4001, 0.5], [0.31, 0.41, 0.52]), "holds"),
        (([0.3, 0.4001, 0.5], [0.1, 0.2, 0.3], [0.31, 0.41, 0.52]), "does not hold"),  # the first two lose
        (([0.1, 0.2, 0.3], [0.2, 0.3001, 0.4], [0.41, 0.51, 0.62]), "does not hold"),  # the next two gain more
    ],
)
def test_diminishing_returns(finals, verdict):
    runs = runs_of(**dict(zip(("a", "b", "c"), finals, strict=True)))
    assert diminishing("d", runs, "a", "b", "c").verdict == verdict
    assert diminishing("d", {}, "a", "b", "c").verdict == "not tested"


def test_time_to_convergence_is_judged_by_the_papers_own_longest():
    """Table 9: best-of-N takes 1.32 hours where filtering takes 0.80."""
    assert comparable() == pytest.approx(1.32 / 0.80)
    runs = {"filtering": [a_run(0.4)] * 2}
    for seconds, verdict in ((1.5, "holds"), (1.7, "does not hold")):
        runs["beam"] = [dataclasses.replace(a_run(0.4), seconds=seconds)] * 2
        *_, table = cost_tables({"d": runs}, {"d": 16})
        assert [row[:3] for row in table.rows] == [("d: beam", f"{seconds:.2f}", verdict)]
    runs["beam"] = [a_run(0.1)] * 2
    *_, table = cost_tables({"d": runs}, {"d": 16})
    assert table.rows[0][2] == "not tested"


@pytest.mark.parametrize(
    "finals, verdict",
    [
        (([0.1, 0.2, 0.3], [0.31, 0.4, 0.49], [0.32, 0.41, 0.52]), "holds"),
        (([0.1, 0.2, 0.3], [0.12, 0.21, 0.32], [0.31, 0.42, 0.5]), "does not hold"),
        (([0.1, 0.2, 0.3], [0.2, 0.3, 0.4], [0.3, 0.4, 0.5]), "not separated"),
    ],
)
def test_the_beam_budgets(finals, verdict):
    narrow, wide, many = FIRST_BUDGETS
    runs = runs_of(**dict(zip(FIRST_BUDGETS, finals, strict=True)))
    assert budget_claim("d", runs, narrow, wide, many).verdict == verdict
    assert budget_claim("d", {}, narrow, wide, many).verdict == "not tested"


def test_claims_on_synthetic_numbers():
    rising = {method: [0.1 * i, 0.1 * i + 0.01, 0.1 * i + 0.03] for i, method in enumerate(METHODS, start=1)}
    found = {claim.claim: claim.verdict for claim in claims({"lake": runs_of(**rising)}, {"lake": 0.5})}
    assert found["lake: beam > lookahead > best-of-N > filtering, at equal updates"] == "holds"
    for equal in ("environment steps", "policy forwards"):  # same curves
        assert found[f"lake: search beats instance filtering, at equal {equal}"] == "not separated"
        assert found[f"lake: beam > lookahead > best-of-N > filtering, at equal {equal}"] == "not separated"
    assert found["lake: entropy falls with every method (first quarter less last)"] == "not separated"  # constant
    assert found["lake: entropy ends like filtering's (last quarter)"] == "not separated"
    assert found["lake: training ends above the base model (final less base)"] == "not separated"  # filtering is at 0.1
    assert found["lake: W 1 → 2 gains more than M 2 → 6"] == "not tested"
    assert found["lake: beam search brings the largest model to 60.7 %"] == "does not hold"


def test_costs_are_compared_by_update():
    runs = {"filtering": [a_run(0.1)] * 2, "beam": [a_run(0.1, steps_an_update=300.0)] * 2}
    assert times_the_baseline(runs, "beam", "policy_forwards") == 1
    assert times_the_baseline(runs, "beam", "env_steps") == 3


def test_the_plans_name_what_there_is():
    for plan in (*PLANS.values(), PLANS["quick"].with_levels("levels.txt")):
        for cell in plan.cells():
            assert cell.domain in plan.presets and cell.method in STRATEGIES
    assert "boxoban" in PLANS["full"].with_levels("levels.txt").domains and "boxoban" not in PLANS["full"].domains
    assert len({cell.name for cell in PLANS["full"].cells()}) == len(list(PLANS["full"].cells()))
    assert PLANS["standard"].num_updates >= 60


def test_the_papers_numbers_agree_with_one_another():
    """Its times are shares of the hours by updates, and its main results are those of the beam with M=2 and W=2."""
    for domain, methods in CLOCKED.items():
        for clocked in itertools.chain(*methods.values()):
            each = clocked.hours / (100 if domain == "webshop" else 200)
            found = [clocked.updates_80 * each, clocked.updates_end * each]
            np.testing.assert_allclose(found, [clocked.hours_80, clocked.hours_end], atol=0.011)
        assert str(PUBLISHED[domain]["beam"]) == str(PUBLISHED_BUDGETS[domain][2, 2])


PLAN = Plan(("sokoban",), {}, num_updates=4, longer=1, every=2, sizes=SMALL)
CELL = Cell("sokoban", "beam M=2 W=1", 4, 4, 2)


def test_a_run_is_kept_and_found_again(tmp_path):
    store = RunStore(tmp_path, PLAN, 0)
    assert store.load(CELL, 1) is None
    store.save(CELL, 1, a_run(0.4))
    assert store.load(CELL, 1) == a_run(0.4)
    assert store.load(CELL, 0) is None


def test_a_damaged_run_is_refused(tmp_path):
    store = RunStore(tmp_path, PLAN, 0)
    store.save(CELL, 1, a_run(0.4))
    (path,) = (tmp_path / "runs").iterdir()
    document = json.loads(path.read_text())
    document["content"]["run"]["final"]["success"] = 0.9
    path.write_text(json.dumps(document))
    with pytest.raises(ValueError, match="damaged: its digest is wrong; remove it"):
        store.load(CELL, 1)
    path.write_text(path.read_text()[:100])
    with pytest.raises(ValueError, match="no file of a run"):
        store.load(CELL, 1)


def test_a_run_of_another_study_is_refused(tmp_path):
    RunStore(tmp_path, PLAN, 0).save(CELL, 1, a_run(0.4))
    with pytest.raises(ValueError, match="other settings: seed 0, not 7; give --out another folder"):
        RunStore(tmp_path, PLAN, 7).load(CELL, 1)
    with pytest.raises(ValueError, match="other settings"):
        RunStore(tmp_path, PLAN, 0).load(dataclasses.replace(CELL, num_updates=5), 1)


def kept_without(folder, field):
    """The store of a run that was kept by a version which did not record the field."""
    store = RunStore(folder, PLAN, 0)
    store.save(CELL, 1, a_run(0.4))
    (path,) = (folder / "runs").iterdir()
    content = json.loads(path.read_text())["content"]
    del content["run"][field]
    path.write_text(json.dumps({"content": content, "sha256": digest(content)}))
    return store


def test_a_run_of_another_version_is_refused(tmp_path):
    store = kept_without(tmp_path, "cpu_seconds")
    with pytest.raises(ValueError, match="written by another version"):
        store.load(CELL, 1)


def test_a_run_says_what_its_numbers_depend_on(tmp_path, monkeypatch):
    """Another beam under the same name, other constants, other machines, and runs of before all that was kept."""
    RunStore(tmp_path, PLAN, 0).save(CELL, 1, a_run(0.4))
    with monkeypatch.context() as changed:
        changed.setitem(STRATEGIES, CELL.method, Beam(beam_width=7, num_candidates=9))
        with pytest.raises(ValueError, match="other settings: strategy .*num_candidates=2.* not .*num_candidates=9"):
            RunStore(tmp_path, PLAN, 0).load(CELL, 1)
    with monkeypatch.context() as changed:
        changed.setattr(tsr_runs, "CONSTANTS", tsr_runs.CONSTANTS | {"KEPT": 0.5})
        with pytest.raises(ValueError, match="other settings: constants "):
            RunStore(tmp_path, PLAN, 0).load(CELL, 1)
    with monkeypatch.context() as changed:
        changed.setattr("benchmarks.papers.store.versions", lambda: machine.versions() | {"optax": "0.0.1"})
        with pytest.raises(ValueError, match="other settings: optax .* not 0.0.1; give"):
            RunStore(tmp_path, PLAN, 0).load(CELL, 1)
    with monkeypatch.context() as changed:
        changed.setattr("benchmarks.papers.store.fingerprint", lambda: {"backend": "cpu", "cores": 1000})
        with pytest.raises(ValueError, match="other settings: cores .* not 1000"):
            RunStore(tmp_path, PLAN, 0).load(CELL, 1)
    (path,) = (tmp_path / "runs").iterdir()
    content = json.loads(path.read_text())["content"]
    for missing in ({"run": content["run"]}, content | {"settings": {"seed": 0}}):
        path.write_text(json.dumps({"content": missing, "sha256": digest(missing)}))
        with pytest.raises(ValueError, match="written by another version"):
            RunStore(tmp_path, PLAN, 0).load(CELL, 1)


def test_a_folder_of_another_study_is_refused(tmp_path):
    RunStore(tmp_path, PLAN, 0).save(CELL, 1, a_run(0.4))
    with pytest.raises(ValueError, match="sokoban-beam-M2-W1-1.json is of another study, tsr; give --out another"):
        Store(tmp_path, "expseek-rollouts")
    RunStore(tmp_path, PLAN, 7)
    (tmp_path / "results.json").write_text('{"paper": "expseek-rollouts"}')
    with pytest.raises(ValueError, match="results.json is of another study, expseek-rollouts; give --out another"):
        RunStore(tmp_path, PLAN, 0)


@pytest.mark.parametrize("part, value", [("curve", {}), ("final", {}), ("steps", {"return": []})])
def test_a_run_that_lacks_numbers_is_refused(tmp_path, part, value):
    store = RunStore(tmp_path, PLAN, 0)
    store.save(CELL, 1, dataclasses.replace(a_run(0.4), **{part: value}))
    with pytest.raises(ValueError, match="another version of the study .it does not have all that a run measures."):
        store.load(CELL, 1)


DIVERGED = Divergence(update=3, cause="loss is nan", env_steps=330.0, policy_forwards=30.0)


def a_diverged_run():
    """`a_run` that ended in the third of its four updates."""
    whole = a_run(0.4)
    return dataclasses.replace(
        whole, final={}, diverged=DIVERGED, curve={name: values[:2] for name, values in whole.curve.items()},
        steps={name: values[:2] for name, values in whole.steps.items()},
    )  # fmt: skip


def test_a_run_that_diverged_counts_as_failed_from_then_on():
    run = counted(a_diverged_run(), CELL)
    expected = {
        "updates": [0, 2, 3, 4], "success": [0.1, 0.2, 0, 0], "turns": [4, 3.5, 4, 4], "actions": [0] * 4,
        "episode_return": [0] * 4, "env_steps": [0, 200, 330, 440], "policy_forwards": [0, 20, 30, 40],
    }  # fmt: skip
    assert run.curve == expected
    assert run.steps == {
        "success": [0.5, 0.5, 0, 0], "return": [0.5, 0.5, 0, 0], "entropy": [0.5] * 4, "gradient_norm": [1.0] * 4,
    }  # fmt: skip
    assert run.final == {"success": 0, "turns": 4, "actions": 0, "episode_return": 0}
    assert (success(run), gain(run), per_update("env_steps")(run)) == (0, -0.1, 110)
    assert reached(run, 0.8) == 4 and spikes(run) == np.inf
    assert counted(a_run(0.4), CELL) == a_run(0.4)


def test_a_run_that_diverged_at_once_counts_too():
    end = Divergence(update=1, cause="loss is nan", env_steps=100.0, policy_forwards=10.0)
    start = a_run(0.4)
    start = dataclasses.replace(
        start, final={}, diverged=end, curve={name: values[:1] for name, values in start.curve.items()},
        steps={name: [] for name in STEPS},
    )  # fmt: skip
    run = counted(start, CELL)
    assert run.curve["success"] == [0.1, 0, 0, 0] and run.curve["env_steps"] == [0, 100, 200, 400]
    assert run.steps == {name: [0.0] * 4 for name in STEPS}


def test_what_was_measured_before_the_run_diverged_stays():
    """The baseline goes on for longer than it is compared for."""
    longer = dataclasses.replace(a_diverged_run(), num_updates=2, final=a_run(0.4).final)
    run = counted(longer, dataclasses.replace(CELL, num_updates=2))
    assert success(run) == 0.4 and spikes(run) == 1 and run.curve["success"][-1] == 0


def test_tables_and_claims_say_what_diverged():
    lost = counted(a_diverged_run(), CELL)
    runs = {"filtering": [a_run(0.4), a_run(0.41)], "beam": [a_run(0.4), lost]}
    found = {table.title: table for table in (*tables({"d": runs}, {}), *cost_tables({"d": runs}, {"d": 16}))}
    rows = {title: [row[0] for row in table.rows] for title, table in found.items()}
    for title in ("Success and turns (the paper's Tables 1 and 2)", "Success in per cent, at equal cost",
                  "Speed of learning (the paper's Tables 8 to 10)", "Cost of an update"):  # fmt: skip
        assert "d: beam (1 of 2 diverged)" in rows[title] and "d: filtering" in rows[title]
    assert found["Runs that diverged"].rows == [("d: beam, seed 1", "3", "loss is nan")]
    (shown,) = (row for row in next(iter(found.values())).rows if "beam" in row[0])
    assert shown[1].startswith("20.0 ± ")  # of 40 % and 0
    (norms,) = (claim for claim in claims({"d": runs}, {}) if "no spikes" in claim.claim)
    assert norms.verdict == "does not hold" and "beam diverged" in norms.found


def test_no_claim_holds_in_favour_of_a_method_that_diverged():
    """The run that counts as 0 makes the interval so wide that nothing would be separated."""
    lost, runs = counted(a_diverged_run(), CELL), {"filtering": [a_run(0.2)] * 3}
    runs["beam"] = [a_run(0.4), a_run(0.4), lost]
    assert compared("x", "d", runs, [("beam", "filtering")], success).verdict == "does not hold"
    assert compared("x", "d", runs, [("beam", "filtering")], success, favoured=1).verdict == "not separated"
    assert positive("x", "d", runs, {"beam": gained(runs, "beam")}).verdict == "does not hold"


def test_nothing_is_timed_to_what_a_baseline_that_diverged_ends_with():
    lost, fast = counted(a_diverged_run(), CELL), a_run(0.4, curve=(0.1, 0.4, 0.4))
    runs = {"filtering": [lost, lost, a_run(0.4)], "beam": [fast] * 3}
    assert first_there("x", "d", runs, ["filtering"], "beam").verdict == "not tested"
    runs["filtering"] = [lost, a_run(0.4), a_run(0.4)]
    found = first_there("x", "d", runs, ["filtering"], "beam")
    assert found.verdict == "holds" and "+2.000" in found.found and "of 2 seeds" in found.found


def test_a_run_that_diverged_is_kept(tmp_path):
    kept = RunStore(tmp_path, PLAN, 0)
    kept.save(CELL, 1, a_diverged_run())
    assert kept.load(CELL, 1) == a_diverged_run()
    kept.save(CELL, 1, dataclasses.replace(a_diverged_run(), final=a_run(0.4).final))  # never measured
    with pytest.raises(ValueError, match="does not have all that a run measures"):
        kept.load(CELL, 1)


def test_a_run_from_before_divergence_was_recorded_is_found(tmp_path):
    assert kept_without(tmp_path, "diverged").load(CELL, 1) == a_run(0.4)


def test_the_kept_study_has_the_tables_and_claims_of_its_numbers():
    """The report in the documentation is what this code makes of the runs beside it."""
    path = Path(__file__).parents[2] / "docs/results/xeon-2-cores-tsr-standard/results.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    plan, runs, optima = PLANS["standard"], document["records"]["runs"], document["records"]["optima"]
    domains = {domain: {} for domain in plan.domains}
    for cell in plan.cells():
        kept = [Run(cell.num_updates, **run, seconds=1.0, cpu_seconds=1.0) for run in runs[cell.name]]
        domains[cell.domain][cell.method] = [counted(run, cell) for run in kept]
    as_json = lambda found: json.loads(json.dumps([dataclasses.asdict(one) for one in found]))
    assert as_json(tables(domains, optima)) == document["tables"]
    assert as_json(claims(domains, optima)) == document["claims"]


def test_levels_are_told_apart_by_what_they_hold(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "levels").mkdir()
    (tmp_path / "levels" / "one.txt").write_text("; 0\n####\n")
    cell = dataclasses.replace(CELL, domain="boxoban")
    RunStore(tmp_path, PLAN.with_levels("levels"), 0).save(cell, 1, a_run(0.4))
    again = RunStore(tmp_path, PLAN.with_levels(tmp_path / "." / "levels"), 0)
    assert again.load(cell, 1) == a_run(0.4)
    (tmp_path / "levels" / "one.txt").write_text("; 0\n#  #\n")
    with pytest.raises(ValueError, match="other settings: domain "):
        RunStore(tmp_path, PLAN.with_levels("levels"), 0).load(cell, 1)


class Impatient(Progress):
    """Stops the study when the first run is done, as Ctrl-C does."""

    def say(self, line, style=""):
        raise KeyboardInterrupt


FEW = {"arguments": (("num_maps", 300),), "num_turns": 2, "max_turn_actions": 2, "base_steps": 1}
LAKES = {"frozen-lake": dataclasses.replace(tsr.DOMAINS["frozen-lake"], **FEW)}
LAKE_PLAN = Plan(("frozen-lake",), {}, 1, longer=2, every=1, sizes=SMALL, methods=("filtering",), presets=LAKES)
LAKE_SETTINGS = Settings("quick", 2, 3)


@pytest.fixture(scope="module")
def workshop():
    """That of `LAKE_PLAN`, for studies that need not compile it anew."""
    return Workshop(LAKE_PLAN, LAKE_SETTINGS.seed)


def study_with(workshop, folder, progress, monkeypatch):
    """The study of `LAKE_PLAN`, with what the workshop has made already."""
    folder.mkdir(exist_ok=True)
    with monkeypatch.context() as changed:
        changed.setattr("benchmarks.papers.tsr.Workshop", lambda plan, seed: workshop)
        return study_of(LAKE_PLAN, LAKE_SETTINGS, folder, progress)


@pytest.mark.usefixtures("quick_compilation")
def test_an_interrupted_study_goes_on_to_the_same_end(workshop, tmp_path, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        study_with(workshop, tmp_path / "interrupted", Impatient(), monkeypatch)
    assert len(list((tmp_path / "interrupted" / "runs").iterdir())) == 1
    resumed = study_of(LAKE_PLAN, LAKE_SETTINGS, tmp_path / "interrupted", Progress())  # all made anew
    whole = study_with(workshop, tmp_path / "whole", Progress(), monkeypatch)
    assert resumed.records == whole.records
    assert (resumed.tables, resumed.claims) == (whole.tables, whole.claims)
    runs = whole.records["runs"]["frozen-lake/filtering"]
    assert len(runs) == 2 and runs[0]["curve"]["updates"] == [0, 1, 2] and len(runs[0]["steps"]["entropy"]) == 2
    assert runs[0] != runs[1]
    assert runs[0]["curve"]["success"][0] == runs[1]["curve"]["success"][0]  # one base model
    assert np.all(np.diff(runs[0]["curve"]["env_steps"]) > 0)
    assert 0 < whole.records["optima"]["frozen-lake"] < 1
    text = markdown(whole, "TSR", "command")
    assert "best of all policies, exact" in text and "tsr_success.png" in text
    assert (tmp_path / "whole" / "tsr_success.png").exists()


@pytest.mark.usefixtures("quick_compilation")
def test_a_study_goes_on_when_a_run_diverges(workshop, tmp_path, monkeypatch):
    """The first run starts from parameters of which no gradient comes, the second one from the base model."""
    base = workshop.base("frozen-lake")
    starts = iter([jax.tree.map(lambda leaf: 1e30 * leaf, base), base])
    broken = copy.copy(workshop)
    broken.base = lambda domain: next(starts)
    found = study_with(broken, tmp_path, Progress(), monkeypatch)
    lost, other = found.records["runs"]["frozen-lake/filtering"]
    assert lost["diverged"]["update"] == 1 and lost["diverged"]["cause"] == "gradient_norm is nan"
    assert lost["curve"]["updates"] == [0] and lost["steps"]["return"] == [] and lost["final"] == {}
    assert lost["diverged"]["env_steps"] > 0 and lost["diverged"]["policy_forwards"] > 0
    assert "diverged" not in other and other["curve"]["updates"] == [0, 1, 2]
    assert "1 of the 2 runs diverged and count as failed" in found.summary
    name, shown, *_ = found.tables[0].rows[1]
    assert name == "frozen-lake: filtering (1 of 2 diverged)"
    assert shown.startswith(f"{100 * other['final']['success'] / 2:.1f} ± ")
    again = study_with(workshop, tmp_path, Progress(), monkeypatch)  # from what is kept
    assert (found.tables, found.claims, found.records) == (again.tables, again.claims, again.records)
