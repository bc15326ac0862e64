"""TaskBank: indexing, sampling, selections and the file format."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs_jax
from envs_jax import Task, TaskBank, make_bank, pytree_dataclass, stack_tasks

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytree_dataclass
class ToyTask(Task):
    words: tuple[jax.Array, ...]
    scale: jax.Array
    time_limit: jax.Array


@pytree_dataclass
class OtherTask(Task):
    time_limit: jax.Array


def toy_bank(size=10, weights=None, checksum=None):
    words = (np.arange(size, dtype=np.uint32), np.arange(size, dtype=np.uint32) * 7)
    instances = ToyTask(words, np.linspace(0, 1, size, dtype=np.float32), np.full(size, 5, np.uint16))
    return make_bank(instances, weights=weights, checksum=checksum)


def ids(bank):
    return np.asarray(bank.instances.words[0]).tolist()


def test_indexing():
    bank = toy_bank()
    assert len(bank) == 10
    assert bank[3].words[1] == 21 and bank[3].time_limit.shape == ()
    assert bank[-1].words[0] == 9
    assert ids(bank[2:5]) == [2, 3, 4]
    assert ids(bank[np.array([4, 4, 0])]) == [4, 4, 0]
    assert ids(bank[np.arange(10) > 7]) == [8, 9]
    assert jax.jit(lambda bank, i: bank[i].words[0])(bank, 6) == 6
    with pytest.raises(IndexError, match="index 10 is out of range for a TaskBank of 10"):
        bank[10]
    with pytest.raises(ValueError, match="leaves no task"):
        bank[5:5]


def test_selections():
    bank = toy_bank()
    first, rest = bank.split(0.3)
    assert ids(first) == [0, 1, 2] and ids(rest) == list(range(3, 10))
    shuffled = bank.shuffle(jax.random.key(0))
    assert ids(shuffled) != ids(bank) and sorted(ids(shuffled)) == ids(bank)
    assert ids(bank.filter(np.asarray(bank.instances.scale) > 0.5)) == [5, 6, 7, 8, 9]
    assert ids(TaskBank.concatenate([first, rest])) == ids(bank)
    with pytest.raises(ValueError, match="fraction=0.001"):
        bank.split(0.001)
    with pytest.raises(ValueError, match=r"mask must be bool\[10\]"):
        bank.filter(np.ones(9, bool))


def test_concatenate_refuses_what_does_not_belong_together():
    with pytest.raises(ValueError, match="different catalogues"):
        TaskBank.concatenate([toy_bank(checksum="a"), toy_bank(checksum="b")])
    other = make_bank(OtherTask(np.ones(2, np.uint16)))
    with pytest.raises(ValueError, match="different kinds"):
        TaskBank.concatenate([toy_bank(), other])


def test_weights_determine_the_draw():
    weights = np.array([0.0, 1.0, 2.0, 0.0, 5.0])
    bank = toy_bank(5, weights)
    draws = jax.jit(jax.vmap(lambda key: bank.sample(key).words[0]))(jax.random.split(jax.random.key(0), 20_000))
    share = np.bincount(draws, minlength=5) / 20_000
    np.testing.assert_allclose(share, weights / 8, atol=0.012)
    assert share[0] == share[3] == 0
    np.testing.assert_allclose(bank.weights, weights / 8, atol=1e-7)
    np.testing.assert_allclose(bank[np.array([4, 1])].weights, [5 / 6, 1 / 6], atol=1e-6)
    joined = TaskBank.concatenate([bank, toy_bank(5)])
    np.testing.assert_allclose(joined.weights, np.r_[weights / 16, np.full(5, 0.1)], atol=1e-6)
    # The last word that a generator can draw still selects a task.
    assert bank.sample_index(jnp.uint32(2**32 - 1)) == 4


def test_uniform_draw_reaches_all_tasks():
    bank = toy_bank(3)
    draws = jax.jit(jax.vmap(lambda key: bank.sample(key).words[0]))(jax.random.split(jax.random.key(1), 3000))
    np.testing.assert_allclose(np.bincount(draws, minlength=3) / 3000, 1 / 3, atol=0.04)


@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 3.0]])
def test_file_round_trip(tmp_path, weights):
    bank = toy_bank(3, weights, checksum="abc")
    bank.save(tmp_path / "bank.npz")
    loaded = TaskBank.load(tmp_path / "bank.npz")
    assert jax.tree.structure(loaded) == jax.tree.structure(bank)
    for a, b in zip(jax.tree.leaves(loaded), jax.tree.leaves(bank), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    assert [path.name for path in tmp_path.iterdir()] == ["bank.npz"]


def test_bad_files_are_refused(tmp_path):
    path = tmp_path / "bank.npz"
    with pytest.raises(FileNotFoundError):
        TaskBank.load(path)
    toy_bank().save(path)
    content = path.read_bytes()
    for damaged in (b"", b"not a zip", content[: len(content) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"bank.npz: not a TaskBank file"):
            TaskBank.load(path)
    np.savez(path, words=np.arange(3))
    with pytest.raises(ValueError, match=r"bank.npz: not a TaskBank file"):
        TaskBank.load(path)


def test_bad_indices_and_keys():
    bank = toy_bank()
    for index in (1.5, "a", None, True):
        with pytest.raises(TypeError, match=f"index={index!r} is not an integer"):
            bank[index]
    for index in ([0.5, 1.0], np.zeros((2, 2), int), ["a"]):
        with pytest.raises(TypeError, match=r"indices must be integers \[N\] or bool\[T\]"):
            bank[index]
    with pytest.raises(TypeError, match="a traced array of indices"):
        jax.jit(lambda i: bank[i])(np.arange(3))
    assert jax.vmap(lambda i: bank[i].words[0])(jnp.arange(3)).tolist() == [0, 1, 2]
    for call in (bank.sample, bank.shuffle):
        with pytest.raises(TypeError, match="key must be a typed key"):
            call(jax.random.PRNGKey(0))
    with pytest.raises(ValueError, match=r"array of keys of shape \(2,\)"):
        bank.sample(jax.random.split(jax.random.key(0)))
    for fraction in (float("nan"), -0.5, 1.5):
        with pytest.raises(ValueError, match=f"fraction={fraction} is not in"):
            bank.split(fraction)
    with pytest.raises(TypeError, match="fraction='a' is not a number"):
        bank.split("a")
    for banks in (bank, [bank, bank[0]], [None]):
        with pytest.raises(TypeError, match="banks must be a list of TaskBanks"):
            TaskBank.concatenate(banks)


def test_bad_arguments():
    with pytest.raises(ValueError, match="same first axis"):
        make_bank(ToyTask((np.zeros(2),), np.zeros(3), np.ones(2, np.uint16)))
    with pytest.raises(TypeError, match="instances must be a Task with stacked leaves; got dict"):
        make_bank({"time_limit": np.ones(2, np.uint16)})
    for limit, got in ((np.full(2, np.nan), "float64"), (np.ones(2, int), "int64"), ([5, 5], "list"), (5, "int")):
        with pytest.raises(TypeError, match=rf"time_limit must be uint16\[T\]; got {got}"):
            make_bank(OtherTask(limit))
    with pytest.raises(ValueError, match="a time_limit is 0"):
        make_bank(OtherTask(np.array([1, 0], np.uint16)))
    with pytest.raises(ValueError, match="tasks are of different kinds"):
        stack_tasks([toy_bank()[0], make_bank(OtherTask(np.ones(2, np.uint16)))[0]])
    with pytest.raises(ValueError, match="weights must be 3 finite numbers"):
        toy_bank(3, [1.0, float("nan"), 1.0])
    with pytest.raises(ValueError, match="weights must be 3 finite numbers"):
        toy_bank(3, [1.0, 2.0])
    with pytest.raises(ValueError, match="≥ 0 and have a positive sum"):
        toy_bank(3, [1.0, -2.0, 0.0])
    with pytest.raises(ValueError, match="tasks is empty"):
        stack_tasks([])


def test_stacking_single_tasks():
    bank = toy_bank()
    assert ids(stack_tasks([bank[4], bank[1]])) == [4, 1]


def test_damaged_contents_are_refused(tmp_path):
    path = tmp_path / "bank.npz"
    bank = toy_bank(4, [1.0, 2.0, 3.0, 4.0])
    bank.save(path)
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}

    def refused(match, **changed):
        np.savez(path, **{**arrays, **changed})
        with pytest.raises(ValueError, match=match):
            TaskBank.load(path)

    refused(
        "bank.npz.*array 'task.time_limit' is float64, not uint16",
        **{"task.time_limit": arrays["task.time_limit"].astype(np.float64)},
    )
    refused("bank.npz.*time_limit is 0", **{"task.time_limit": np.zeros(4, np.uint16)})
    refused("bank.npz.*weights", cumulative_weights=np.full(4, np.nan, np.float32))
    refused("bank.npz.*weights", cumulative_weights=np.array([1, 0.5, 0, -1], np.float32))
    refused("bank.npz.*weights", cumulative_weights=np.ones(1, np.float32))
    refused("bank.npz.*format 2", header=np.array(str(arrays["header"]).replace('"format": 1', '"format": 2')))
    refused("bank.npz.*KeyError", header=np.array(str(arrays["header"]).replace('"checksum"', '"sum"')))
    refused("bank.npz.*array 'task.other' does not belong there", **{"task.other": np.ones(4)})
    del arrays["task.time_limit"]
    refused("bank.npz.*array 'task.time_limit' is missing")
    bank.save(path)
    content = bytearray(path.read_bytes())
    for position in range(0, len(content), 97):
        damaged = content.copy()
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        try:
            loaded = TaskBank.load(path)
        except ValueError as error:
            assert "bank.npz" in str(error)  # noqa: PT017 (some bytes may hold no content)
        else:
            assert ids(loaded) == ids(bank)


def test_a_bank_loads_before_its_environment_is_imported(tmp_path):
    path = tmp_path / "bank.npz"
    envs_jax.make("FrozenLake-v0")[1].save(path)
    program = f"import envs_jax; print(type(envs_jax.TaskBank.load({str(path)!r}).instances).__name__)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout == "FrozenLakeTask\n"


def test_unknown_types_are_named(tmp_path, monkeypatch):
    toy_bank().save(tmp_path / "bank.npz")
    monkeypatch.delitem(Task._types, "ToyTask")
    with pytest.raises(ValueError, match="bank.npz.*no registered environment has tasks of type ToyTask; import the"):
        TaskBank.load(tmp_path / "bank.npz")


def test_tasks_remember_what_they_were_made_for(tmp_path):
    env, tasks = envs_jax.make("FrozenLake-Random-v0", size=5, num_maps=3)
    tasks.save(tmp_path / "bank.npz")
    assert TaskBank.load(tmp_path / "bank.npz").instances.made_for == tasks[0].made_for == env.made_for
    other, _ = envs_jax.make("FrozenLake-Random-v0", size=6, num_maps=3)
    with pytest.raises(ValueError, match="made for maps of up to 5×5 tiles; this environment is for maps of up to 6×6"):
        other.reset(jax.random.key(0), tasks[0])
