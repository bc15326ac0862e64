"""The study of ExpSeek as rollout augmentation: the command, its tables, and its verdicts."""

import contextlib
import io
import json
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.papers import Progress, load, settings
from benchmarks.papers.expseek_rollouts import wanted
from benchmarks.papers.expseek_rollouts_claims import claims
from benchmarks.papers.expseek_rollouts_plan import DEFAULT, FREE, LEARNED, READINGS, arms, train_all
from benchmarks.papers.expseek_rollouts_plots import plots
from benchmarks.papers.expseek_rollouts_tables import epochs_to_target, equal_steps_look, tables
from benchmarks.papers.study import estimate
from jaxrl_agents.methods.expseek_rollouts import STRATEGIES

pytestmark = pytest.mark.usefixtures("quick_compilation")

QUICK = ["papers", "expseek-rollouts", "--budget", "quick", "--seeds", "2"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """What the same command wrote twice, and the command with another seed."""
    found = [tmp_path_factory.mktemp(name) for name in ("first", "again", "other")]
    for folder, seed in zip(found, "001", strict=True):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            assert main([*QUICK, "--seed", seed, "--out", str(folder)]) == 0
        (folder / "printed.txt").write_text(printed.getvalue())
    return found


def deterministic(folder):
    document = json.loads((folder / "results.json").read_text())
    for name in ("timings", "machine"):
        document.pop(name)
    return (folder / "report.md").read_text().partition("## Time")[0], document


def test_the_same_command_gives_the_same_report(folders):
    first, again, other = map(deterministic, folders)
    assert first == again
    assert first[0] != other[0] and first[1]["records"] != other[1]["records"]


def test_the_report_the_results_and_the_terminal_show_the_same(folders):
    text, document = deterministic(folders[0])
    assert document["paper"] == "expseek-rollouts"
    assert document["settings"] == {"budget": "quick", "num_seeds": 2, "seed": 0, "levels": None}
    assert "python -m benchmarks papers expseek-rollouts --budget quick --seeds 2 --seed 0" in text
    table = document["tables"][0]
    assert table["title"] == "Table 1" and len(table["rows"]) == 5 * len(STRATEGIES)
    assert table["rows"][0][:2] == ["success, Standard", "0.542"]
    for row in table["rows"]:
        assert "| " + " | ".join(row) + " |" in text
    record = document["records"]["default: Best-of-N"]
    assert table["rows"][2][2].startswith(f"{record['trained_on']['success']['mean']:.3f} ± ")
    assert len(record["success_by_epoch"]) == 150 and record["environment_steps"] == 150 * 32 * 4 * 10
    for part in ("Table 1", "success, ExpSeek+BoN", "Claims", "does not hold: ", "Time: compiling", "report.md"):
        assert part in (folders[0] / "printed.txt").read_text()
    assert all((folders[0] / name).stat().st_size > 5_000 for name in ("success.png", "curves.png"))


@pytest.fixture(scope="module")
def runs():
    """Runs for every arm of the full budget: each stands in for those of the same program and strategy."""
    with Progress() as progress:
        base = train_all(list(arms((DEFAULT, FREE))), 2, 0, 150, progress)
    of = lambda arm: base[(FREE if arm.config.free_steps else DEFAULT).name, arm.strategy]
    return {arm.name: of(arm) for arm in wanted("full")}


def test_every_table_claim_and_plot(runs, tmp_path):
    found = {table.title: table for table in tables(runs, whole=True, fitted=True)}
    assert [len(table.rows) for table in found.values()] == [20, 12, 1 + len(READINGS), 10, 10, 3, 13]
    for table in found.values():
        assert all(len(row) == len(table.header) for row in table.rows), table.title
    assert len(list(claims(runs, whole=True))) == 14
    drawn = list(plots(runs, tmp_path, whole=True))
    assert {plot.file for plot in drawn} == {path.name for path in tmp_path.iterdir()}
    assert len(drawn) == 3


def test_names_of_arms_differ():
    for budget in ("quick", "standard", "full"):
        names = [arm.name for arm in wanted(budget)]
        assert len(set(names)) == len(names)
    assert len(wanted("quick")) < len(wanted("standard")) < len(wanted("full"))


def run(success, *, plain=0.5, steps=320, num_seeds=8):
    """A run of constant metrics that differ a little between seeds."""
    wobble = 0.001 * np.arange(num_seeds)[:, None]
    of = lambda value, width: np.full((num_seeds, width), value) + wobble
    fields = ("success", "mean_return", "coverage", "pair_diversity", "action_diversity", "retries", "length")
    return SimpleNamespace(
        trained_on=SimpleNamespace(**{field: of(success, 150) for field in fields}),
        plain=SimpleNamespace(**{field: of(plain, 15) for field in fields}),
        steps=np.full((num_seeds, 150), steps),
    )


@pytest.mark.parametrize(
    ("both_default", "both_free", "verdict"),
    [
        (0.9, 0.9, "holds"),
        (0.7, 0.7, "does not hold"),
        (0.9, 0.7, "depends on the reading"),
        (0.8, 0.7, "does not hold"),
    ],
)
def test_verdicts_follow_the_readings(both_default, both_free, verdict):
    values = {"Standard": 0.5, "ExpSeek": 0.5, "Best-of-N": 0.8}
    runs = {(reading.name, name): run(value) for reading in (DEFAULT, FREE, LEARNED) for name, value in values.items()}
    runs |= {(DEFAULT.name, "ExpSeek+BoN"): run(both_default), (FREE.name, "ExpSeek+BoN"): run(both_free)}
    runs |= {(LEARNED.name, "ExpSeek+BoN"): run(0.9)}
    found = {claim.claim: claim for claim in claims(runs, whole=False)}
    assert found["ExpSeek+BoN succeeds more often than Best-of-N alone (+2.7 %)"].verdict == verdict
    assert found["ExpSeek+BoN has the highest success (0.895)"].verdict == verdict
    assert found["ExpSeek+BoN succeeds more often than Standard (+65 %)"].verdict == "holds"
    assert found["Training on ExpSeek+BoN rollouts improves final performance"].verdict == "not separated"


def test_estimate():
    found = estimate([1.0, 2.0, 3.0])
    assert (found.mean, found.num_seeds) == (2.0, 3)
    assert found.high - 2.0 == pytest.approx(4.302653 / 3**0.5) == 2.0 - found.low
    assert str(found) == "2.000 ± 2.484"
    with pytest.raises(ValueError, match=r"values has shape \(1,\)"):
        estimate([1.0])


def test_epochs_to_the_target():
    success = np.zeros((3, 30))
    success[0, 5:] = 1.0  # the last ten have 0.9 from epoch 14 on
    success[1] = 0.875
    found = epochs_to_target(SimpleNamespace(trained_on=SimpleNamespace(success=success)))
    np.testing.assert_array_equal(found, [14, 10, 30])


def test_equal_steps():
    assert equal_steps_look(run(0.5), run(0.5)) == 14
    assert equal_steps_look(run(0.5, steps=1280), run(0.5)) == 3  # after 40 of 150 epochs


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "paper 'nothing' is unknown; there are: expseek-rollouts"),
        (["expseek-rollouts", "--budget", "huge"], "--budget huge: expseek-rollouts has the budgets quick (Table 1"),
        (["expseek-rollouts", "--levels", "."], "--levels .: expseek-rollouts plays no levels"),
        (["tsr", "--levels", "nowhere"], "--levels nowhere: there is no such file or folder"),
        (["expseek-rollouts", "--seeds", "1"], "--seeds 1: an interval needs at least 2 seeds"),
        (["expseek-rollouts", "--seed", "-1"], "--seed -1 is not in 0"),
    ],
)  # fmt: skip
def test_errors_name_the_option(arguments, message, capsys):
    assert main(["papers", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_the_default_budget_has_the_seeds_that_the_study_promises():
    asked = settings(load("expseek-rollouts"), None, None, 0)
    assert (asked.budget, asked.num_seeds) == ("standard", 64)
