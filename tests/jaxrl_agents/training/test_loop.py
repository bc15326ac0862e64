"""The training loop on a tiny lake: records, exact resume, SIGTERM."""

import dataclasses
import json
import re
import shutil
import signal

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_agents.training import fields
from jaxrl_agents.training.checkpoint import Checkpointer
from jaxrl_agents.training.config import TrainConfig
from jaxrl_agents.training.loop import Diverged, train
from jaxrl_agents.training.memory import OutOfMemory
from jaxrl_agents.training.plots import plot_curves
from jaxrl_agents.training.progress import Display
from jaxrl_agents.training.records import MetricLog, read_rows, series
from jaxrl_agents.training.run_folder import RunFolder
from jaxrl_agents.training.setup import build
from tests.jaxrl_agents.training.runs import StopAfter, assert_same_run, petabytes

pytestmark = pytest.mark.usefixtures("quick_compilation")

TINY = {
    "env": "FrozenLake-v0",
    "env_arguments": {"map": "SFG", "time_limit": 4},  # short enough for some episodes to succeed
    "num_steps": 6,
    "model": {"d_model": 8, "num_layers": 1, "num_heads": 2},
    "batch": {"num_groups": 2, "group_size": 4, "num_minibatches": 2},
    "optimizer": {"schedule": "linear", "warmup_steps": 2},
    "evaluation": {"every": 2, "num_episodes": 8},
    "checkpoint": {"every": 4, "keep_last": 2},
}
OPTIMUM = 1 - (2 / 3) ** 4 - 4 * (2 / 3) ** 3 / 3  # going right works a third of the time, and must work twice


@pytest.fixture(scope="module")
def setup():
    return build(fields.updated(TrainConfig(), TINY))


@pytest.fixture(scope="module")
def whole(setup, tmp_path_factory):
    """A run of six steps."""
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "whole")
    outcome = train(setup, folder)
    assert (outcome.step, outcome.finished) == (6, True)
    assert outcome.evaluation.num_episodes == 8
    return folder


def test_a_run_leaves_configuration_metrics_and_checkpoints(setup, whole):
    assert whole.read_config() == setup.config
    rows = read_rows(whole.metrics)
    trained = [row for row in rows if "train/loss" in row]
    assert [row["step"] for row in trained] == [1, 2, 3, 4, 5, 6]
    names = {"loss", "gradient_norm", "entropy", "success", "return", "env_steps", "policy_forwards"}
    assert {f"train/{name}" for name in names} <= trained[0].keys()
    timed = [row["step"] for row in trained if row.get("time/step_seconds", 0) > 0]
    assert timed == [row["step"] for row in trained if row.get("time/step_processor_seconds", 0) > 0]
    assert timed == [2, 4, 6]  # the first step compiles, and evaluations come before steps 3 and 5
    measured = [row for row in rows if "evaluation/success" in row]
    assert [row["step"] for row in measured] == [2, 4, 6]
    for row in measured:
        assert row["evaluation/success_low"] <= row["evaluation/success"] <= row["evaluation/success_high"]
        assert row["evaluation/return_optimum"] == pytest.approx(OPTIMUM, abs=1e-6)
    assert any(row["train/gradient_norm"] > 0 for row in trained)
    with Checkpointer(whole.checkpoints) as checkpointer:
        assert checkpointer.steps() == [4, 6]
        assert checkpointer.metadata(6)["config"] == fields.as_document(setup.config)


def test_rates_are_counts_a_second(whole):
    timed = [row for row in read_rows(whole.metrics) if "time/step_seconds" in row]
    for row in timed:
        for rate, count in (("env_steps", "env_steps"), ("forwards", "policy_forwards")):
            done = row[f"time/{rate}_per_second"] * row["time/step_seconds"]
            assert done == pytest.approx(row[f"train/{count}"]) and done > 0
    assert len(timed) == 3


@pytest.mark.parametrize(("last", "measured"), [(2, []), (3, [2]), (6, [2, 4])])
def test_sigterm_finishes_the_step_saves_and_resume_is_exact(setup, whole, tmp_path, last, measured):
    """It does not wait for an evaluation that is due, as after steps 2 and 6: the resumed run makes it, once."""
    folder = RunFolder(tmp_path / "run")
    before = signal.getsignal(signal.SIGTERM)
    stopped = train(setup, folder, display=StopAfter(last - 1))  # a step more is under way
    assert (stopped.step, stopped.finished) == (last, False)
    assert [row["step"] for row in read_rows(folder.metrics) if "evaluation/success" in row] == measured
    assert signal.getsignal(signal.SIGTERM) is before
    with Checkpointer(folder.checkpoints) as checkpointer:
        assert checkpointer.newest_good() == stopped.step
    resumed = train(setup, folder, resume=True)
    assert (resumed.step, resumed.finished, resumed.evaluation.num_episodes) == (6, True, 8)
    again = train(setup, folder, resume=True)
    assert again.finished and again.evaluation is None
    assert_same_run(setup, folder, whole)


def test_resume_after_a_crash_drops_what_came_after_the_checkpoint(setup, whole, tmp_path):
    """The newest checkpoint is damaged, so that rows of two later steps, and half a row, are there already."""
    folder = RunFolder(tmp_path / "run")
    shutil.copytree(whole.path, folder.path)
    largest = max((folder.checkpoints / "6").rglob("*"), key=lambda path: path.is_file() and path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-1])
    with folder.metrics.open("a") as file:
        file.write('{"step": 7, "train/lo')
    train(setup, folder, resume=True)
    assert_same_run(setup, folder, whole)


def test_resume_without_a_checkpoint_starts_again(setup, whole, tmp_path):
    folder = RunFolder(tmp_path / "run")
    train(setup, folder, resume=True)
    assert_same_run(setup, folder, whole)


def test_a_policy_of_another_size_is_named(whole):
    wider = fields.updated(whole.read_config(), {"model": {"d_model": 16}})
    message = r"^model\.d_model: 8 → 16 does not fit the checkpoint of step 6: .* is float32\[3, 16\] in the "
    with pytest.raises(ValueError, match=message):
        train(build(wider), whole, resume=True)
    assert whole.read_config() != wider


def test_metrics_are_read_when_the_next_step_is_under_way(setup, tmp_path):
    events = []

    class Spy:
        def __getattr__(self, name):
            return getattr(setup.learner, name)

        def step(self, state, tasks):
            events.append(f"step {int(state.step) + 1}")
            return setup.learner.step(state, tasks)

    class Reader(Display):
        def step(self, step, row):
            events.append(f"read {step}")

    config = fields.updated(setup.config, {"num_steps": 4, "evaluation": {"every": 0}, "checkpoint": {"every": 3}})
    train(dataclasses.replace(setup, config=config, learner=Spy()), RunFolder(tmp_path / "run"), display=Reader())
    assert events == ["step 1", "step 2", "read 1", "step 3", "read 2", "read 3", "step 4", "read 4"]


@pytest.mark.parametrize("hungry", ["init", "step"])
def test_too_little_memory_is_one_line_and_leaves_nothing(setup, tmp_path, hungry):
    class Hungry:
        def __getattr__(self, name):
            return petabytes if name == hungry else getattr(setup.learner, name)

    number = setup.policy.model.config.num_parameters
    with pytest.raises(OutOfMemory) as error:
        train(dataclasses.replace(setup, learner=Hungry()), RunFolder(tmp_path / "run"))
    text = str(error.value)
    assert re.match(rf"too little memory \(.*\d bytes.*\): the policy has {number:,} parameters, .* GB with its ", text)
    assert "--model.d-model" in text and "\n" not in text and not (tmp_path / "run").exists()


def test_more_tasks_than_the_memory_holds_are_one_error():
    many = {"env_arguments": {"preset": "random", "size": 4, "num_maps": 10**15}}
    with pytest.raises(OutOfMemory, match=r"^too little memory \(.*\d bytes\): make fewer tasks of FrozenLake-v0, or "):
        build(fields.updated(TrainConfig(), many))


@pytest.mark.parametrize(("num_warm", "section"), [(1, "warm-start"), (0, "optimizer")])
def test_divergence_names_the_rate_to_lower(setup, tmp_path, num_warm, section):
    class Lost:
        def __getattr__(self, name):
            return getattr(setup.learner, name)

        def step(self, state, tasks):
            return state, {"loss": jnp.float32(np.nan)}

    config = fields.updated(setup.config, {"warm_start": {"num_steps": num_warm}, "evaluation": {"every": 0}})
    folder = RunFolder(tmp_path / "run")
    lost = dataclasses.replace(setup, config=config, learner=Lost(), warm_start=Lost() if num_warm else None)
    with pytest.raises(Diverged) as error:
        train(lost, folder)
    advice = f"start again with python -m jaxrl_agents resume {folder.path} --{section}.learning-rate LOWER"
    assert str(error.value) == f"training diverged in step 1: loss is nan; there is no checkpoint yet: {advice}"
    assert folder.read_config() == config  # so that the command works


def test_rows_of_a_log_come_back(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with MetricLog(path) as log:
        log.write(1, {"a": 0.5, "b": float("nan")})
        log.write(2, {"a": 1e-30})
        assert len(read_rows(path)) == 2  # written at once
    assert read_rows(path) == [{"step": 1, "a": 0.5, "b": None}, {"step": 2, "a": 1e-30}]
    assert series(read_rows(path), "b") == ([], []) and series(read_rows(path), "a") == ([1, 2], [0.5, 1e-30])
    with MetricLog(path, last_step=1) as log:
        log.write(2, {"a": 3})
    assert [json.loads(line)["a"] for line in path.read_text().splitlines()] == [0.5, 3]
    path.write_text('{"step": 1}\n{"stop": 2}\n{"step": 3}\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl:2: no row of metrics"):
        read_rows(path)


def test_tensorboard_files_hold_the_same_numbers(tmp_path):
    pytest.importorskip("tensorboardX")
    with MetricLog(tmp_path / "metrics.jsonl", tensorboard=tmp_path / "events") as log:
        log.write(1, {"train/loss": 0.25})
    written = b"".join(path.read_bytes() for path in (tmp_path / "events").iterdir())
    assert b"train/loss" in written and np.float32(0.25).tobytes() in written


def test_curves_are_a_picture(whole, tmp_path):
    image = pytest.importorskip("PIL.Image")
    pytest.importorskip("matplotlib")
    path = tmp_path / "curves.png"
    plot_curves(read_rows(whole.metrics), path, title="tiny")
    with image.open(path) as picture:
        assert picture.format == "PNG" and picture.width > 600
        assert len(np.unique(np.asarray(picture).reshape(-1, 4), axis=0)) > 10  # colours
    assert [file.name for file in tmp_path.iterdir()] == ["curves.png"]
    with pytest.raises(ValueError, match="rows holds no metrics to draw"):
        plot_curves([{"step": 1, "other": 2.0}], path)


def test_folders_that_hold_a_run_are_refused(whole, tmp_path):
    with pytest.raises(ValueError, match=r"whole holds a run already: go on with it \(python -m jaxrl_agents resume "):
        whole.check_new()
    RunFolder(tmp_path / "new").check_new()
    left = RunFolder(tmp_path / "left")
    shutil.copytree(whole.path, left.path)
    for path, name in ((left.config, "metrics.jsonl"), (left.metrics, "checkpoints")):
        path.unlink()
        with pytest.raises(ValueError, match=rf"left holds the {name} of a run without its config\.json: name another"):
            left.check_new()
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file; name another folder"):
        RunFolder(tmp_path / "file").check_new()
    with pytest.raises(ValueError, match="new holds no run: "):
        RunFolder(tmp_path / "new").read_config()
