"""`python -m jaxrl_agents train` and `resume` on two processes, and Ctrl-C in one or in several."""

import io
import re
import signal
import socket
import time
from contextlib import redirect_stderr, redirect_stdout

import pytest

from jaxrl_agents import cli
from jaxrl_agents.training.preemption import CtrlCAsSigterm, StopOnSigterm
from jaxrl_agents.training.progress import Console
from jaxrl_agents.training.records import read_rows
from tests.jaxrl_agents.training.runs import process_of

pytestmark = pytest.mark.usefixtures("quick_compilation", "interruptible")

pytest.importorskip("tyro")

TINY = [
    "--env-arguments", "map=SFG", "time_limit=4", "--model.d-model", "8", "--model.num-layers", "1",
    "--model.num-heads", "2", "--batch.group-size", "16", "--batch.num-micro-batches", "2",
    "--optimizer.epsilon", "1e-3", "--optimizer.schedule", "constant", "--evaluation.num-episodes", "16",
]  # fmt: skip


# Trains for two steps, and goes on until it is stopped with the programs that are traced already; says how many of
# the episodes of an evaluation it plays itself.
PROGRAM = """
import dataclasses, sys
from jaxrl_agents import cli, train_command
from jaxrl_agents.training import evaluation
play = evaluation._play
def watched(*arguments):
    played = play(*arguments)
    print("played", *[len(part.data) for part in played[0].addressable_shards], "of", len(played[0]), file=sys.stderr)
    return played
evaluation._play = watched
folder, *flags = sys.argv[1:]
build, built = train_command.build, []
train_command.build = lambda config: built.append(build(config)) or built[0]
assert cli.main(["train", *flags, "--num-steps", "2", "--out", folder]) == 0
train_command.build = lambda config: dataclasses.replace(built[0], config=config)
sys.exit(cli.main(["resume", folder, "--num-steps", "1000000", "--evaluation.every", "0"]))
"""


def start(rank, address, folder):
    flags = ["--coordinator-address", address, "--num-processes", 2, "--process-id", rank]
    return process_of("-c", PROGRAM, folder, *TINY, *flags)


def trained_by_two(folder):
    """[(exit status, output, errors)] of two processes, after Ctrl-C in the second."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    processes = [start(rank, address, folder) for rank in range(2)]
    try:
        deadline = time.monotonic() + 240
        while not (folder / "metrics.jsonl").exists() or (4, "train/loss") not in numbers(folder, 4):
            assert all(process.poll() is None for process in processes)
            assert time.monotonic() < deadline
            time.sleep(0.05)
        processes[1].send_signal(signal.SIGINT)
        said = [process.communicate(timeout=60) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, *texts) for process, texts in zip(processes, said, strict=True)]


def numbers(folder, last_step):
    """{(step, name): value} of all that does not depend on the clock."""
    rows = [row for row in read_rows(folder / "metrics.jsonl") if row["step"] <= last_step]
    return {(row["step"], name): row[name] for row in rows for name in row if "time/" not in name and name != "step"}


@pytest.fixture(scope="module")
def alone(interruptible, quick_compilation, tmp_path_factory):
    """(folder, exit status, output, errors) of one process, after Ctrl-C while the metrics of step 4 are shown."""
    folder, output, errors = tmp_path_factory.mktemp("runs") / "alone", io.StringIO(), io.StringIO()
    flags = [*TINY, "--num-steps", "1000", "--evaluation.every", "2", "--out", str(folder)]
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(output), redirect_stderr(errors):
        patch.setattr(Console, "step", lambda self, step, row: step == 4 and signal.raise_signal(signal.SIGINT))
        status = cli.main(["train", *flags])
    return folder, status, output.getvalue(), errors.getvalue()


def test_ctrl_c_saves_and_exits_with_130(alone):
    folder, status, output, errors = alone
    assert status == 130 and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert errors == "\nstopping after this step, to save it; press Ctrl-C again to stop at once\n"
    assert read_rows(folder / "metrics.jsonl")[-1]["step"] == 5  # the one that was under way
    end = f"stopped    after step 5 by Ctrl-C; go on with python -m jaxrl_agents resume {folder}\n"
    assert output.endswith(end) and (folder / "checkpoints" / "5" / "SHA256SUMS").exists()


def test_two_processes_train_stop_and_resume_as_one(tmp_path, alone):
    folder = tmp_path / "pair"
    first, second = trained_by_two(folder)
    assert (first[0], second[0]) == (0, 130), (first, second)
    assert "played 8 of 16\n" in first[2] and "played 8 of 16\n" in second[2]
    assert "2 cpu devices of 2 processes\n" in first[1] and "\nfinished   step 2: success " in first[1]
    assert "changed    num_steps: 2 → 1000000\n" in first[1]
    assert re.sub(r"\[Gloo\].*\n", "", second[1]) == ""  # one of them speaks, and writes
    assert "stopping after this step, to save it; press Ctrl-C again to stop at once" in second[2]
    step = int(re.search(r"\nstopped    after step (\d+) by SIGTERM; go on with python -m jaxrl_a", first[1])[1])
    assert (folder / "checkpoints" / str(step) / "SHA256SUMS").exists()
    assert read_rows(folder / "metrics.jsonl")[-1]["step"] == step
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["checkpoints", "config.json", "curves.png", "metrics.jsonl"]
    expected = {place: value for place, value in numbers(alone[0], 4).items() if place[0] < 4 or "train/" in place[1]}
    assert numbers(folder, 4) == pytest.approx(expected, rel=1e-5, abs=1e-5)
    assert len({value for (_, name), value in expected.items() if name == "train/loss"}) == 4


# On two devices: measures a run of one device, and trains; says so where parameters cannot be split.
ON_TWO_DEVICES = """
import sys
from jaxrl_agents import cli
alone, folder, *flags = sys.argv[1:]
assert cli.main(["evaluate", alone, "--episodes", "3"]) == 0
sys.exit(cli.main(["train", *flags, "--num-steps", "1", "--out", folder]))
"""


def test_a_run_is_measured_on_other_devices_than_it_was_trained_on(tmp_path, alone):
    sizes = ["--mesh.tensor", 2, "--model.num-heads", 1, "--model.d-ff", 7]
    process = process_of("-c", ON_TWO_DEVICES, alone[0], tmp_path / "pair", *TINY, *sizes, num_devices=2)
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    assert "policy     step 5 of " in output and "episodes   3\n" in output
    assert "; 2 cpu devices\nnot split  last_layer/down (dimension 0 of 7 is not divisible by tensor=2), last" in output
    assert "dimension 1 of 1 is not divisible by tensor=2)\nstep      1  success " in output
    with redirect_stdout(io.StringIO()) as output:
        assert cli.main(["evaluate", str(tmp_path / "pair"), "--episodes", "3"]) == 0
    assert "policy     step 1 of " in output.getvalue()


def test_the_second_ctrl_c_interrupts():
    with StopOnSigterm() as stop, CtrlCAsSigterm() as ctrl_c:
        assert not (stop.requested(1) or ctrl_c.pressed)
        signal.raise_signal(signal.SIGINT)
        assert stop.requested(2) and ctrl_c.pressed
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_an_ignored_ctrl_c_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with CtrlCAsSigterm() as ctrl_c:
            signal.raise_signal(signal.SIGINT)
        assert not ctrl_c.pressed and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_wrong_processes_are_one_clear_line(capsys, tmp_path):
    assert cli.main(["train", *TINY, "--num-processes", "2", "--out", str(tmp_path / "run")]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("error: coordinator_address and process_id must be given too: pass all of ")
    assert errors.count("\n") == 1
