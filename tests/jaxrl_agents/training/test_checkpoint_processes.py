"""Across devices and processes: meshes, checkpoints, a kill in the middle of a save, full disks, SIGTERM."""

import logging
import pickle
import resource
import signal
import socket
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_agents.training import Checkpointer, CheckpointError
from tests.jaxrl_agents.training import worker
from tests.jaxrl_agents.training.runs import process_of

pytestmark = pytest.mark.usefixtures("quick_compilation")


def start(role, *arguments, devices=1):
    return process_of("-m", worker.__name__, role, *arguments, num_devices=devices)


def finish(process, timeout=300):
    try:
        output, errors = process.communicate(timeout=timeout)
    finally:
        process.kill()
    assert process.returncode == 0, errors[-3000:]
    return output


def read_until(process, number):
    for line in process.stdout:
        if line.strip() == str(number):
            return
    pytest.fail(process.stderr.read()[-3000:])


@pytest.mark.slow
def test_every_mesh_of_eight_devices_gives_the_numbers_of_one():
    finish(start("every_mesh", devices=8))


def test_restores_on_1_2_and_8_devices(tmp_path):
    state = worker.known()
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(1, state)
        checkpointer.wait()
        finish(start("eight_devices", tmp_path, devices=8))
        finish(start("two_devices", tmp_path, devices=2))
        target = {"state": state, "keys": jax.random.split(jax.random.key(1), 16)}
        restored = checkpointer.restore(target)
    assert restored.step == 2
    worker.assert_equal(worker.as_arrays(restored.state["state"]), worker.as_arrays(state))
    assert (restored.state["keys"] == jax.random.split(jax.random.key(0), 16)).all()


def test_a_save_killed_in_the_middle_is_reported_and_removed(tmp_path, caplog):
    process = start("killed", tmp_path)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("2.*")):
        assert process.poll() is None and time.monotonic() < deadline, process.stderr.read()
        time.sleep(0.001)
    process.kill()
    process.communicate()
    assert not (tmp_path / "2").exists()
    with Checkpointer(tmp_path) as checkpointer:
        with caplog.at_level(logging.WARNING):
            restored = checkpointer.restore({"x": jnp.zeros(3, jnp.int32)})
        assert restored.step == 1 and restored.state["x"].tolist() == [0, 1, 2]
        (line,) = [record.getMessage() for record in caplog.records]
        assert "checkpoint 2 was cut short while it was saved" in line and "\n" not in line
        checkpointer.save(2, restored.state)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"]


def test_two_processes_of_two_devices(tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    processes = [start("pair", tmp_path, address, rank, devices=2) for rank in range(2)]
    try:
        read_until(processes[1], 4)
        processes[1].send_signal(signal.SIGTERM)
        outputs = [finish(process) for process in processes]
    finally:
        for process in processes:
            process.kill()
    steps = {int(output.splitlines()[-1].removeprefix("stopped ")) for output in outputs}
    with Checkpointer(tmp_path) as checkpointer:
        restored = checkpointer.restore(worker.start(jax.random.key(1)))
    assert steps == {restored.step} == {restored.metadata["step"]} == {int(restored.state.step)}
    worker.assert_as_one_device(pickle.loads((tmp_path / worker.SECOND).read_bytes()), 2)
    worker.assert_close(worker.as_arrays(restored.state), worker.reference(restored.step)[0], 1e-4)


def test_a_failed_save_says_why_and_leaves_earlier_ones(tmp_path):
    """A limit on the size of files stands in for a full disk, which a test cannot fill."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    former = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    checkpointer = Checkpointer(tmp_path)
    checkpointer.save(1, {"x": jnp.arange(3)})
    checkpointer.wait()
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        checkpointer.save(2, {"x": jnp.asarray(np.random.default_rng(0).random((1000, 1000)))})
        with pytest.raises(CheckpointError, match=r"checkpoint 2 was not saved to .*: a file got too large; earlier"):
            checkpointer.wait()
        assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size > 10_000]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, former)
    assert checkpointer.restore({"x": jnp.zeros(3, jnp.int32)}).step == 1
    checkpointer.save(2, {"x": jnp.arange(3)})
    checkpointer.close()
    assert checkpointer.steps() == [1, 2]
