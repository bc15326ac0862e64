"""`python -m jaxrl_agents train`, `resume` and `evaluate`, run as users run them."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest

from jaxrl_agents import cli
from jaxrl_agents.training.records import read_rows

pytestmark = pytest.mark.usefixtures("quick_compilation")

pytest.importorskip("tyro")

TINY = [
    "--env-arguments", "map=SFG", "time_limit=4", "--num-steps", "4", "--model.d-model", "8", "--model.num-layers", "1",
    "--model.num-heads", "2", "--batch.num-groups", "2", "--batch.group-size", "4", "--evaluation.every", "2",
    "--evaluation.num-episodes", "8", "--checkpoint.every", "2",
]  # fmt: skip


def run(capsys, *arguments):
    """(exit status, output, errors) of the command."""
    try:
        status = cli.main([str(argument) for argument in arguments])
    except SystemExit as end:
        status = end.code
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run of four steps, with beam search."""
    folder = tmp_path_factory.mktemp("runs") / "lake"
    flags = [*TINY, "--rollout", "beam", "--search.beam-width", "2", "--out", str(folder)]
    assert cli.main(["train", "--env", "FrozenLake-v0", *flags]) == 0
    return folder


def test_training_leaves_a_run(trained):
    config = json.loads((trained / "config.json").read_text())
    assert (config["rollout"], config["search"]["beam_width"], config["batch"]["group_size"]) == ("beam", 2, 4)
    assert config["env_arguments"] == {"map": "SFG", "time_limit": 4}
    assert [row["step"] for row in read_rows(trained / "metrics.jsonl") if "train/loss" in row] == [1, 2, 3, 4]
    assert sorted(path.name for path in (trained / "checkpoints").iterdir()) == ["2", "4"]


def test_resume_goes_on_with_changed_flags(capsys, tmp_path, trained):
    folder = tmp_path / "run"
    status, output, errors = run(capsys, "train", *TINY, "--num-steps", 2, "--out", folder)
    assert status == 0 and "\nfinished   step 2: success " in output
    status, output, errors = run(capsys, "resume", folder, "--num-steps", 4, "--optimizer.learning-rate", "1e-3")
    assert status == 0 and "changed    num_steps: 2 → 4\n" in output and "learning_rate: " in output
    assert re.search(r"step      4  success 0\.\d{3} \[0\.\d{3}, [01]\.\d{3}\]  return ", output)
    assert "step      2" not in output and "finished   step 4" in output
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((folder / "config.json").read_text())["num_steps"] == 4
    status, output, errors = run(capsys, "resume", folder)
    assert status == 0 and "finished   step 4 was reached before; --num-steps says where to stop" in output


def test_evaluate_and_render(capsys, tmp_path, trained):
    image = pytest.importorskip("PIL.Image")
    status, output, errors = run(capsys, "evaluate", trained, "--episodes", 50, "--render", tmp_path / "episodes.gif")
    assert status == 0 and errors == ""
    assert f"policy     step 4 of {trained}, the likeliest actions\n" in output
    assert "tasks      1 of FrozenLake-v0, trained on\n" in output and "episodes   50\n" in output
    assert re.search(r"optimum    0\.\d{4}, the best policy's expected return\n", output)
    with image.open(tmp_path / "episodes.gif") as animation:
        assert animation.n_frames >= 8 and animation.format == "GIF"  # four episodes of two states or more
        height = animation.height
    render = lambda name, *more: run(capsys, "evaluate", trained, "--episodes", 1, "--render", tmp_path / name, *more)
    assert render("strip.png", "--num-rendered", 2, "--step", 2)[0] == 0
    with image.open(tmp_path / "strip.png") as strip:
        assert strip.format == "PNG" and strip.height == 2 * height + 4  # a row for each
    assert render("episodes.txt", "--num-rendered", 1, "--sample")[0] == 0
    text = (tmp_path / "episodes.txt").read_text()
    moves = re.findall(r"^(\d+)\. (left|down|right|up), reward [01]$", text, re.MULTILINE)
    assert [int(number) for number, _ in moves] == list(range(1, len(moves) + 1)) and 1 <= len(moves) <= 4
    assert text.endswith(("\nsuccess, return 1\n", "\nno success, return 0\n"))


def test_the_configuration_is_printed(capsys, trained):
    status, output, _ = run(capsys, "train", *TINY, "--print-config")
    assert status == 0 and json.loads(output)["model"]["d_model"] == 8
    flags = ["--config", trained / "config.json", "--batch.group-size", "6", "--print-config"]
    status, output, _ = run(capsys, "train", *flags)
    written = json.loads((trained / "config.json").read_text())
    assert status == 0 and json.loads(output) == {**written, "batch": {**written["batch"], "group_size": 6}}
    status, output, _ = run(capsys, "resume", trained, "--print-config")
    assert status == 0 and json.loads(output) == written
    status, output, _ = run(capsys, "train", "--env", "Sokoban-RAGEN-v0", "--print-config")
    assert status == 0 and json.loads(output)["evaluation"]["num_held_out"] == 256  # the environment's preset


def test_help_lists_flags_and_defaults(capsys):
    status, output, errors = run(capsys, "train", "--env", "Sokoban-RAGEN-v0", "--help")
    assert status == 0 and errors == ""
    for text in ("--rollout", "--optimizer.learning-rate", "--search.beam-width", "--out", "Sokoban-RAGEN-v0"):
        assert text in output
    assert run(capsys, "resume", "--help")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--batch.num-groups", "0"], "batch.num_groups=0 must be an integer of at least 1"),
        (["train", "--optimizer.learning-rate", "fast"],
         "--optimizer.learning-rate: could not convert string to float: 'fast'"),
        (["train", "--rollout", "bean"], "invalid choice 'bean' for argument '--rollout'. Expected one of ("),
        (["train", "--beam-width", "2"], "unrecognized options: --beam-width"),
        (["train", "--search.beam-width", "2"], "search.beam_width=2 is no option of rollout='standard'"),
        (["train", "--env", "Sokobann-v0"], "id='Sokobann-v0' is not registered. Did you mean 'Sokoban-v0'?"),
        (["train", "--env"], "argument --env: expected one argument"),
        (["train", "--env-arguments", "num_levels=3"], "env_arguments: id='FrozenLake-v0' has no argument"),
        (["train", "--env-arguments", "time_limit"], "--env-arguments: 'time_limit' is not NAME=VALUE"),
        (["train", "--config", "missing.json"], "missing.json: No such file or directory"),
        (["train", "--config", "bad.json"], "bad.json: num_stepz=3 is no field; did you mean num_steps?"),
        (["train", "--out", "bad.json"], "bad.json is a file; name another folder (--out)"),
        (["resume"], "name the folder of the run first: resume RUN"),
        (["resume", "missing"], "missing holds no run: "),
        (["evaluate", "missing"], "missing holds no run: "),
        (["evaluate", "missing", "--render", "a.mp4"], "a.mp4 must end in .gif, .png or .txt"),
        (["evaluate", "missing", "--episodes", "0"], "argument --episodes: '0' is not a whole number from 1"),
        (["solve", "missing", "--fast"], "unrecognized arguments: --fast"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_wrong_arguments_are_one_clear_line(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    Path("bad.json").write_text('{"num_stepz": 3}')
    status, output, errors = run(capsys, *arguments)
    assert status == 2 and output == ""
    assert errors.startswith(f"error: {message}") and errors.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["bad.json"]


def test_a_folder_with_a_run_is_not_overwritten(capsys, trained):
    before = (trained / "metrics.jsonl").read_bytes()
    status, _, errors = run(capsys, "train", *TINY, "--out", trained)
    assert status == 2 and errors.startswith(f"error: {trained} holds a run already: go on with it (python -m ")
    assert (trained / "metrics.jsonl").read_bytes() == before


def test_divergence_is_one_clear_line(capsys, tmp_path):
    flags = ["--optimizer.learning-rate", "1e38", "--num-steps", "50", "--out", tmp_path / "run"]
    status, _, errors = run(capsys, "train", *TINY, *flags)
    assert status == 1 and errors.startswith("error: training diverged in step ") and errors.count("\n") == 1


def test_missing_tyro_says_what_to_install(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tyro", None)
    status, _, errors = run(capsys, "train", *TINY)
    assert status == 1 and errors == 'error: flags are read with tyro: pip install "envs-jax[train]"\n'


def test_progress_is_shown_on_a_terminal(capsys, monkeypatch, tmp_path):
    progress = pytest.importorskip("rich.progress")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    shown, update = [], progress.Progress.update
    monkeypatch.setattr(
        progress.Progress, "update", lambda self, task, **seen: shown.append(seen) or update(self, task, **seen)
    )
    assert run(capsys, "train", *TINY, "--out", tmp_path / "run")[0] == 0
    assert [seen["completed"] for seen in shown] == [1, 2, 3, 4]
    assert re.match(r"success 0\.\d{3}  return 0\.\d{3}  entropy 1\.\d{3}  loss ", shown[-1]["description"])


def test_sigterm_saves_and_exits_with_0(tmp_path):
    """In a process of its own, as a scheduler would stop it."""
    folder = tmp_path / "run"
    cache = {"JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir or ""}
    environment = {**os.environ, **cache, "JAX_PLATFORMS": "cpu", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3"}
    flags = [*TINY, "--num-steps", "100000", "--out", str(folder), "--evaluation.every", "0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "jaxrl_agents", "train", *flags], cwd=Path(__file__).parents[2], env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not (folder / "metrics.jsonl").exists() or len(read_rows(folder / "metrics.jsonl")) < 5:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    step = int(
        re.search(r"stopped    after step (\d+) by SIGTERM; go on with python -m jaxrl_agents resume", output)[1]
    )
    assert step >= 5 and (folder / "checkpoints" / str(step) / "SHA256SUMS").exists()
    assert read_rows(folder / "metrics.jsonl")[-1]["step"] == step
