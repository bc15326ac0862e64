"""`python -m jaxrl_agents train`, `resume` and `evaluate`, run as users run them."""

import contextlib
import io
import json
import re
import signal
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxrl_agents import cli
from jaxrl_agents.training import Checkpointer, build, evaluation
from jaxrl_agents.training.records import read_rows
from jaxrl_agents.training.run_folder import RunFolder
from tests.jaxrl_agents.training.runs import petabytes, process_of

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
def shown(tmp_path_factory):
    """(folder, output, what the bar showed) of a run of four steps on a terminal, with beam search."""
    progress, bar = pytest.importorskip("rich.progress"), []
    folder = tmp_path_factory.mktemp("runs") / "lake"
    flags = [*TINY, "--rollout", "beam", "--search.beam-width", "2", "--out", str(folder)]
    update = progress.Progress.update
    seen_update = lambda self, task, **seen: bar.append(seen) or update(self, task, **seen)
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as output:
        patch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
        patch.setattr(progress.Progress, "update", seen_update)
        assert cli.main(["train", "--env", "FrozenLake-v0", *flags]) == 0
    return folder, output.getvalue(), bar


@pytest.fixture(scope="module")
def trained(shown):
    """The folder of the run."""
    return shown[0]


def test_training_leaves_a_run(trained):
    config = json.loads((trained / "config.json").read_text())
    assert (config["rollout"], config["search"]["beam_width"], config["batch"]["group_size"]) == ("beam", 2, 4)
    assert config["env_arguments"] == {"map": "SFG", "time_limit": 4}
    assert [row["step"] for row in read_rows(trained / "metrics.jsonl") if "train/loss" in row] == [1, 2, 3, 4]
    assert sorted(path.name for path in (trained / "checkpoints").iterdir()) == ["2", "4"]


def test_progress_is_shown_on_a_terminal(shown):
    _, output, bar = shown
    assert "\nfinished   step 4: success " in output
    assert [seen["completed"] for seen in bar] == [1, 2, 3, 4]
    assert re.match(r"success 0\.\d{3}  return 0\.\d{3}  entropy 1\.\d{3}  loss ", bar[-1]["description"])


def test_sigterm_saves_and_resume_goes_on_with_changed_flags(capsys, tmp_path):
    folder = tmp_path / "run"
    step = stopped_by_sigterm(folder)
    assert step >= 5 and (folder / "checkpoints" / str(step) / "SHA256SUMS").exists()
    assert read_rows(folder / "metrics.jsonl")[-1]["step"] == step
    last = step + 2
    status, output, errors = run(capsys, "resume", folder, "--num-steps", last, "--optimizer.learning-rate", "1e-3")
    assert status == 0 and f"changed    num_steps: 100000 → {last}\n" in output and "learning_rate: " in output
    assert re.search(rf"\nstep {last:6,}  success [01]\.\d{{3}} \[0\.\d{{3}}, [01]\.\d{{3}}\]  return ", output)
    assert f"finished   step {last}" in output and output.count("\nstep ") == 1
    assert [row["step"] for row in read_rows(folder / "metrics.jsonl") if "train/loss" in row] == [*range(1, last + 1)]
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((folder / "config.json").read_text())["num_steps"] == last
    status, output, errors = run(capsys, "resume", folder)
    assert status == 0 and f"finished   step {last} was reached before; --num-steps says where to stop" in output


def stopped_by_sigterm(folder):
    """Trains in a process of its own, and stops it as a scheduler would; returns the last step."""
    flags = [*TINY, "--num-steps", "100000", "--out", str(folder), "--evaluation.every", "0"]
    process = process_of("-m", "jaxrl_agents", "train", *flags)
    deadline = time.monotonic() + 120
    while not (folder / "metrics.jsonl").exists() or len(read_rows(folder / "metrics.jsonl")) < 5:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    return int(
        re.search(r"stopped    after step (\d+) by SIGTERM; go on with python -m jaxrl_agents resume", output)[1]
    )


def test_evaluate_and_render(capsys, tmp_path, trained):
    image = pytest.importorskip("PIL.Image")
    render = "--render", tmp_path / "episodes.gif"
    status, output, errors = run(capsys, "evaluate", trained, "--episodes", 8, "--baselines", *render)
    assert status == 0 and errors == ""
    assert f"policy     step 4 of {trained}, the likeliest actions\n" in output
    assert "tasks      1 of FrozenLake-v0, trained on\n" in output and "episodes   8\n" in output
    assert re.search(r"optimum    0\.\d{4}, the best policy's expected return\n", output)
    assert re.search(r"^random +success .+\noptimal +success .+$", output, re.MULTILINE)
    with image.open(tmp_path / "episodes.gif") as animation:
        assert animation.n_frames >= 8 and animation.format == "GIF"  # four episodes of two states or more
        height = animation.height
    render = lambda name, *more: run(capsys, "evaluate", trained, "--episodes", 8, "--render", tmp_path / name, *more)
    assert render("strip.png", "--step", 2)[0] == 0
    with image.open(tmp_path / "strip.png") as strip:
        assert strip.format == "PNG" and strip.height == 4 * height + 3 * 4  # a row for each
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
    for flags in (["train", "--config", trained / "config.json"], ["resume", trained]):
        status, output, _ = run(capsys, *flags, "--loss", "grpo", "--print-config")
        assert status == 0 and written["objective"]["discount"] and json.loads(output)["objective"]["discount"] is None
    flags = ["--env", "Sokoban-RAGEN-v0", "--env-arguments", "time_limit=20"]
    printed = json.loads(run(capsys, "train", *flags, "--print-config")[1])["env_arguments"]
    assert printed == {"num_levels": 16640, "time_limit": 20}
    printed = json.loads(run(capsys, "train", *flags, "num_levels=null", "--print-config")[1])["env_arguments"]
    assert printed == {"time_limit": 20}
    status, output, _ = run(capsys, "train", "--env", "Sokoban-RAGEN-v0", "--print-config")
    assert status == 0 and json.loads(output)["evaluation"]["num_held_out"] == 256  # the environment's preset


def test_the_layout_on_the_devices_is_printed(capsys):
    status, output, errors = run(capsys, "train", *TINY, "--print-plan")
    assert status == 0 and errors == ""
    assert re.search(r"^params/last_layer/qkv +8×2×3×4 +float32 +\(fsdp, tensor, ·, ·\) +768$", output, re.MULTILINE)
    assert re.search(r"\ntotal +([\d,]+)  of \1 in all\n$", output)  # one device


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
        (["train", "--loss", "rloo", "--objective.clip-low", "0.1", "--print-config"],
         "objective.clip_low=0.1 has no effect on loss='rloo', which has no ratio to clip"),
        (["train", "--env", "Sokobann-v0"], "id='Sokobann-v0' is not registered. Did you mean 'Sokoban-v0'?"),
        (["train", "--env"], "argument --env: expected one argument"),
        (["train", "--env-arguments", "num_levels=3"], "env_arguments: id='FrozenLake-v0' has no argument"),
        (["train", "--env-arguments", "num_levels=null"], "env_arguments={'num_levels': None} must be names with "),
        (["train", "--env-arguments", "time_limit"], "--env-arguments: 'time_limit' is not NAME=VALUE"),
        (["train", "--config", "missing.json"], "missing.json: No such file or directory"),
        (["train", "--config", "bad.json"], "bad.json: num_stepz=3 is no field; did you mean num_steps?"),
        (["train", "--out", "bad.json"], "bad.json is a file; name another folder (--out)"),
        (["train", "--out", ""], "--out '' names no folder"),
        (["resume", ""], "name the folder of the run first: resume RUN"),
        (["train", "--out", "bad.json/run"], "--out bad.json/run: Not a directory; name another folder"),
        (["train", "--batch.num-groups", "2000000000"],
         "batch.num_groups=2000000000 with batch.group_size="),
        (["resume"], "name the folder of the run first: resume RUN"),
        (["resume", "missing"], "missing holds no run: "),
        (["evaluate", "missing"], "missing holds no run: "),
        (["evaluate", "missing", "--render", "a.mp4"], "a.mp4 must end in .gif, .png or .txt"),
        (["train", "--env", "WebShop-v0", "--env-arguments", "products=missing"],
         "products=missing: no such file or folder; give the folder with WebShop's "),
        (["evaluate", "missing", "--render", "no/a.gif"], "--render no/a.gif: there is no folder no"),
        (["evaluate", "missing", "--num-rendered", "2000000000"], "--num-rendered 2000000000: at most 100"),
        (["evaluate", "missing", "--episodes", "0"], "argument --episodes: '0' is not a whole number from 1"),
        (["evaluate", "missing", "--seed", str(2**32)],
         "argument --seed: '4294967296' is not a whole number from 0 to 4,294,967,295"),
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
    """It names the step, the cause and the last good checkpoint."""
    folder = tmp_path / "run"
    flags = ["--optimizer.learning-rate", "1e38", "--num-steps", "50", "--evaluation.every", "0"]
    status, _, errors = run(capsys, "train", *TINY, *flags, "--checkpoint.every", "1", "--out", folder)
    found = re.match(r"error: training diverged in step (\d+): .* (is nan|is inf|not finite); ", errors)
    assert status == 1 and found and errors.count("\n") == 1
    step = int(found[1])
    assert read_rows(folder / "metrics.jsonl")[-1]["step"] == step
    with Checkpointer(folder / "checkpoints") as checkpointer:
        good = checkpointer.newest_good()
    if good is None:
        assert step == 1 and "there is no checkpoint yet: start again with python -m jaxrl_agents resume " in errors
    else:
        assert (
            good == step - 1 and f"the last good checkpoint is that of step {good} in {folder}/checkpoints: " in errors
        )
        state = build(RunFolder(folder).read_config()).learner.abstract_state()
        with Checkpointer(folder / "checkpoints") as checkpointer:
            params = checkpointer.restore(state, good).state.params
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))


def test_too_little_memory_to_evaluate_is_one_clear_line(capsys, monkeypatch, trained):
    monkeypatch.setattr(evaluation, "evaluate", petabytes)
    status, output, errors = run(capsys, "evaluate", trained)
    assert status == 1 and output == "" and errors.count("\n") == 1
    assert re.match(r"error: too little memory \(.*\d bytes.*\): the policy has [\d,]+ parameters, .*; lower", errors)


def test_missing_tensorboardx_says_what_to_install_first(capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    status, _, errors = run(capsys, "train", *TINY, "--tensorboard", "--out", tmp_path / "run")
    assert status == 1 and errors == 'error: TensorBoard files need tensorboardX: pip install "envs-jax[train]"\n'
    assert not (tmp_path / "run").exists()


def test_missing_tyro_says_what_to_install(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tyro", None)
    status, _, errors = run(capsys, "train", *TINY)
    assert status == 1 and errors == 'error: flags are read with tyro: pip install "envs-jax[train]"\n'
