"""The study of ExpSeek as rollout augmentation: the command, its tables, and its verdicts."""

import contextlib
import dataclasses
import io
import json
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import commands
from benchmarks.__main__ import main
from benchmarks.papers import Progress, load, settings
from benchmarks.papers.expseek_rollouts import wanted
from benchmarks.papers.expseek_rollouts_claims import claims
from benchmarks.papers.expseek_rollouts_plan import DEFAULT, FREE, LEARNED, READINGS
from benchmarks.papers.expseek_rollouts_plots import plots
from benchmarks.papers.expseek_rollouts_runs import Trainer, chunks_of, train_all
from benchmarks.papers.expseek_rollouts_tables import epochs_to_target, equal_steps_look, tables
from benchmarks.papers.study import estimate
from jaxrl_agents.methods.expseek_rollouts import STRATEGIES

pytestmark = pytest.mark.usefixtures("quick_compilation")

QUICK = ["papers", "expseek-rollouts", "--budget", "quick", "--seeds", "2"]


class Impatient(Progress):
    """Ctrl-C when the first chunk is done."""

    def advanced(self, steps=1, note=None):
        raise KeyboardInterrupt


def printed(arguments, folder, status=0):
    """What the command prints, which ends with that status."""
    with contextlib.redirect_stdout(io.StringIO()) as output:
        assert main([*arguments, "--out", str(folder)]) == status
    return output.getvalue()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """What the command wrote, what it wrote after an interruption, and what it wrote with another seed."""
    first, resumed, other = (tmp_path_factory.mktemp(name) for name in ("first", "resumed", "other"))
    (first / "printed.txt").write_text(printed(QUICK, first))
    with pytest.MonkeyPatch.context() as changed:
        changed.setattr(commands, "PaperProgress", Impatient)
        (resumed / "interrupted.txt").write_text(printed(QUICK, resumed, status=130))
    (resumed / "kept").write_text(" ".join(sorted(path.name for path in (resumed / "runs").iterdir())))
    (resumed / "printed.txt").write_text(printed(QUICK, resumed))
    (other / "printed.txt").write_text(printed([*QUICK, "--seed", "1"], other))
    return first, resumed, other


def deterministic(folder):
    document = json.loads((folder / "results.json").read_text())
    for name in ("timings", "machine"):
        document.pop(name)
    return (folder / "report.md").read_text().partition("## Time")[0], document


def test_the_same_command_gives_the_same_report_interrupted_or_not(folders):
    first, resumed, other = map(deterministic, folders)
    assert first == resumed
    assert first[0] != other[0] and first[1]["records"] != other[1]["records"]


def test_an_interrupted_study_says_what_is_kept_and_goes_on_from_there(folders):
    first, resumed, _ = folders
    told = (resumed / "interrupted.txt").read_text()
    command = "python -m benchmarks papers expseek-rollouts --budget quick --seeds 2 --seed 0 --out"
    assert f"finished runs are kept in {resumed / 'runs'}, `{command} {resumed}` goes on from there" in told
    kept, all_files = (resumed / "kept").read_text().split(), {path.name for path in (first / "runs").iterdir()}
    assert 1 <= len(kept) < len(all_files) and set(kept) < all_files
    assert all_files == {path.name for path in (resumed / "runs").iterdir()}
    assert "trainings are kept from before" in (resumed / "printed.txt").read_text()
    assert "trainings that were kept from before" in (resumed / "report.md").read_text()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--seed", "7"], "other settings: seed 0, not 7; webs "),
        (["--seeds", "3"], "other settings: num_seeds 2, not 3; webs "),
    ],
)
def test_runs_of_another_study_are_refused(folders, arguments, message, capsys):
    assert main([*QUICK, *arguments, "--out", str(folders[0])]) == 2
    told = capsys.readouterr().err
    assert message in told and "give --out another folder" in told


def test_settings_of_trainings_are_told_apart(folders):
    (chunk, *_) = chunks_of(wanted("quick"))
    trainer = Trainer(folders[0], 2, 0, 150)
    assert set(trainer.load(chunk)) == {arm.name for arm in chunk}
    arm = chunk[0]
    changed = dataclasses.replace(arm, setting=dataclasses.replace(arm.setting, learning_rate=7.5))
    with pytest.raises(ValueError, match=r"other settings: arms .*learning_rate=1.9.* not .*learning_rate=7.5"):
        trainer.load([changed, *chunk[1:]])


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
def runs(folders):
    """Runs for every arm of the full budget: each stands in for those of the same program and strategy."""
    with Progress() as progress:
        base, num_kept = train_all(wanted("quick"), Trainer(folders[0], 2, 0, 150), progress)
    assert num_kept == len(base) == len(wanted("quick"))
    of = lambda arm: base[(FREE if arm.config.free_steps else DEFAULT).name, arm.strategy]
    return {arm.name: of(arm) for arm in wanted("full")}


def test_every_table_claim_and_plot(runs, tmp_path):
    found = {table.title: table for table in tables(runs, whole=True, fitted=True)}
    assert [len(table.rows) for table in found.values()] == [20, 12, 1 + len(READINGS), 10, 10, 3, 13]
    for table in found.values():
        assert all(len(row) == len(table.header) for row in table.rows), table.title
    found_claims = {claim.claim: claim.verdict for claim in claims(runs, whole=True)}
    assert len(found_claims) == len(list(claims(runs, whole=True))) == 45
    not_tested = [claim for claim, verdict in found_claims.items() if verdict == "not tested"]
    assert len(not_tested) == 4 and all(claim.startswith("free: ") for claim in not_tested)
    drawn = list(plots(runs, tmp_path, whole=True))
    assert {plot.file for plot in drawn} == {path.name for path in tmp_path.iterdir()}
    assert len(drawn) == 3


def test_names_of_arms_differ():
    for budget in ("quick", "standard", "full"):
        names = [arm.name for arm in wanted(budget)]
        assert len(set(names)) == len(names)
        assert sorted(arm.name for chunk in chunks_of(wanted(budget)) for arm in chunk) == sorted(names)
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


def test_each_reading_has_its_own_verdict():
    values = {"Standard": 0.5, "ExpSeek": 0.5, "Best-of-N": 0.8}
    runs = {(reading.name, name): run(value) for reading in (DEFAULT, FREE, LEARNED) for name, value in values.items()}
    runs |= {(DEFAULT.name, "ExpSeek+BoN"): run(0.7), (FREE.name, "ExpSeek+BoN"): run(0.8)}
    runs |= {(LEARNED.name, "ExpSeek+BoN"): run(0.9, plain=0.6)}
    found = {claim.claim: claim.verdict for claim in claims(runs, whole=False)}
    for claim in ("has the highest success (0.895)", "succeeds more often than Best-of-N alone (+2.7 %)"):
        assert found[f"default: ExpSeek+BoN {claim}"] == "does not hold"
        assert found[f"free: ExpSeek+BoN {claim}"] == "not separated"
        assert found[f"trained: ExpSeek+BoN {claim}"] == "holds"
    assert found["default: ExpSeek+BoN succeeds more often than Standard (+65 %)"] == "holds"
    assert len(found) == 30 and {claim.partition(": ")[0] for claim in found} == {"default", "free", "trained"}
    policy = "Training on ExpSeek+BoN rollouts improves final performance"
    assert found[f"free: {policy}"] == "not separated" and found[f"trained: {policy}"] == "holds"


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
