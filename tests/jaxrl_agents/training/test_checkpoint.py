"""Checkpoints in one process: exact round trips, every kind of damage, what is kept, and errors."""

import hashlib
import logging
import shutil
import subprocess
from collections import namedtuple
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from jaxrl_agents.training import Checkpointer, CheckpointError, manifest

Pair = namedtuple("Pair", "left right")


def training_state(seed=0):
    params = {"layers": {"kernel": jax.random.normal(jax.random.key(seed), (3, 4)), "scale": jnp.ones(4, jnp.bfloat16)}}
    return {
        "params": params,
        "optimizer": optax.adamw(1e-3).init(params),
        "key": jax.random.key(seed + 1),
        "keys": jax.random.split(jax.random.key(seed, impl="rbg"), (2, 3)),
        "env": Pair(jnp.arange(6, dtype=jnp.uint16), np.arange(3, dtype=np.int8)),
        "mask": jnp.array([True, False]),
        "empty": jnp.zeros((0, 3)),
        "no_keys": jax.random.split(jax.random.key(0), 1)[:0],
        "count": np.int64(2**40 + seed),
        "step": 2**70 + seed,
        "best": 0.1 + seed,
        "warm": True,
        "nothing": None,
    }


def assert_same(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(actual), jax.tree.leaves(expected), strict=True):
        assert type(a) is type(b), path
        if hasattr(b, "dtype"):
            assert a.dtype == b.dtype and a.shape == b.shape, path
        if isinstance(b, jax.Array) and jax.dtypes.issubdtype(b.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b), err_msg=str(path))


def files_of(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def flip_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


DAMAGES = {"flip": flip_bit, "truncate": truncate, "delete": Path.unlink}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with checkpoints 1 and 2."""
    folder = tmp_path_factory.mktemp("checkpoints")
    with Checkpointer(folder) as checkpointer:
        for step in (1, 2):
            checkpointer.save(step, training_state(step), {"loss": step / 3, "config": {"env": "Sokoban-v0"}})
    return folder


@pytest.fixture
def damaged(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "copy")
    return tmp_path / "copy"


def test_round_trip_is_exact(saved):
    with Checkpointer(saved) as checkpointer:
        newest = checkpointer.restore(training_state())
        assert newest.step == 2
        assert newest.metadata == {"loss": 2 / 3, "config": {"env": "Sokoban-v0"}}
        assert_same(newest.state, training_state(2))
        assert_same(checkpointer.restore(training_state(), step=1).state, training_state(1))
        assert checkpointer.metadata(1)["loss"] == 1 / 3
        assert checkpointer.steps() == [1, 2]
        assert checkpointer.damage(1) is None


def test_restores_to_abstract_targets(saved):
    def arrays(seed):
        return {name: leaf for name, leaf in training_state(seed).items() if isinstance(leaf, jax.Array)}

    target = {**training_state(), **jax.eval_shape(lambda: arrays(0))}
    with Checkpointer(saved) as checkpointer:
        assert_same(checkpointer.restore(target).state, training_state(2))


def test_training_resumes_bit_for_bit(tmp_path):
    optimizer = optax.adamw(1e-2)

    @jax.jit
    def train_step(state):
        key, noise_key = jax.random.split(state["key"])
        gradient = jax.grad(lambda w: jnp.sum(jnp.sin(w + jax.random.normal(noise_key, w.shape)) ** 2))(state["w"])
        updates, moments = optimizer.update(gradient, state["moments"], state["w"])
        return {"w": state["w"] + updates, "moments": moments, "key": key}

    def fresh():
        weights = jnp.linspace(-1, 1, 64)
        return {"w": weights, "moments": optimizer.init(weights), "key": jax.random.key(5)}

    state = fresh()
    for step in range(8):
        state = train_step(state)
        if step == 3:
            with Checkpointer(tmp_path) as checkpointer:
                checkpointer.save(4, state)
    with Checkpointer(tmp_path) as checkpointer:
        resumed = checkpointer.restore(jax.eval_shape(fresh)).state
    for _ in range(4):
        resumed = train_step(resumed)
    assert_same(resumed, state)


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_damaged_file_is_found_and_the_newest_good_step_used(saved, damaged, damage, caplog):
    names = files_of(saved / "2")
    assert len(names) > 8 and manifest.NAME in names
    with Checkpointer(damaged) as checkpointer:
        for name in names:
            if not (damaged / "2" / name).stat().st_size:
                continue
            DAMAGES[damage](damaged / "2" / name)
            caplog.clear()
            with caplog.at_level(logging.WARNING):
                assert checkpointer.newest_good() == 1
            (line,) = [record.getMessage() for record in caplog.records]
            assert "checkpoint 2" in line and name in line and "\n" not in line
            with pytest.raises(CheckpointError, match="checkpoint 2 .* is damaged"):
                checkpointer.restore(training_state(), step=2)
            shutil.copy(saved / "2" / name, damaged / "2" / name)
        assert checkpointer.newest_good() == 2


@pytest.mark.parametrize("item", ["state", "document"])
def test_a_lost_folder_is_damage(damaged, item):
    shutil.rmtree(damaged / "2" / item)
    with Checkpointer(damaged) as checkpointer:
        assert checkpointer.newest_good() == 1
        with pytest.raises(CheckpointError, match=f"checkpoint 2 .* is damaged: .*{item}/"):
            checkpointer.restore(training_state(), step=2)


def test_a_file_that_cannot_be_read_is_damage(damaged):
    """A folder in its place cannot be read either, not even by root, who may read every file."""
    name = next(name for name in files_of(damaged / "2") if name.startswith("state/"))
    (damaged / "2" / name).unlink()
    (damaged / "2" / name).mkdir()
    with Checkpointer(damaged) as checkpointer:
        assert checkpointer.newest_good() == 1
        with pytest.raises(CheckpointError, match=f"checkpoint 2 .* is damaged: {name}: cannot be read"):
            checkpointer.restore(training_state(), step=2)


def test_restore_falls_back(damaged):
    flip_bit(next((damaged / "2" / "state").rglob("d/*")))
    with Checkpointer(damaged) as checkpointer:
        restored = checkpointer.restore(training_state())
    assert restored.step == 1
    assert_same(restored.state, training_state(1))


def test_plain_orbax_restores_a_flipped_bit_in_silence_and_we_do_not(tmp_path):
    state = {"w": jax.random.normal(jax.random.key(0), (256, 256))}
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(1, {"w": jnp.zeros((256, 256))})
        checkpointer.save(2, state)
    payload = max((tmp_path / "2" / "state").rglob("d/*"), key=lambda path: path.stat().st_size)
    original, silent = payload.read_bytes(), 0
    with ocp.StandardCheckpointer() as plain, Checkpointer(tmp_path) as checkpointer:
        for share in (0.3, 0.5, 0.7, 0.8):
            data = bytearray(original)
            data[int(share * len(data))] ^= 1
            payload.write_bytes(data)
            try:
                restored = plain.restore(tmp_path / "2" / "state", state)
                silent += not np.array_equal(restored["w"], state["w"])
            except ValueError:
                pass  # the bit was in the part that decompression happens to notice
            assert checkpointer.restore(state).step == 1
    assert silent >= 1


def test_nothing_whole_is_left(damaged):
    for step in (1, 2):
        truncate(damaged / str(step) / "state" / "manifest.ocdbt")
    with Checkpointer(damaged) as checkpointer:
        assert checkpointer.newest_good() is None
        with pytest.raises(CheckpointError, match="no whole checkpoint is in"):
            checkpointer.restore(training_state())
        with pytest.raises(CheckpointError, match=r"checkpoint 7 is not in .*; checkpoints here: \[1, 2\]"):
            checkpointer.restore(training_state(), step=7)


def test_training_goes_on_over_a_damaged_step(damaged):
    flip_bit(damaged / "2" / "document" / "metadata")
    with Checkpointer(damaged, keep_last=1) as checkpointer:
        assert checkpointer.restore(training_state()).step == 1
        checkpointer.save(2, training_state(9))
        checkpointer.wait()
        assert checkpointer.steps() == [2]
        with pytest.raises(ValueError, match="checkpoint 2 is in .* already"):
            checkpointer.save(2, training_state(1))
        assert_same(checkpointer.restore(training_state()).state, training_state(9))


def test_a_damaged_newer_step_does_not_displace_good_ones(damaged):
    with Checkpointer(damaged) as checkpointer:
        checkpointer.save(9, training_state(9))
    flip_bit(damaged / "9" / "document" / "metadata")
    with Checkpointer(damaged, keep_last=1) as checkpointer:
        assert checkpointer.newest_good() == 2
        checkpointer.save(3, training_state(3))
        checkpointer.wait()
        assert checkpointer.newest_good() == 3


def test_digests_are_what_sha256sum_checks(saved):
    names = files_of(saved / "2")
    names.remove(manifest.NAME)
    lines = [line for line in (saved / "2" / manifest.NAME).read_text().splitlines() if not line.startswith("#")]
    digests = {name: hashlib.sha256((saved / "2" / name).read_bytes()).hexdigest() for name in names}
    assert lines == [f"{digests[name]}  {name}" for name in names]
    if shutil.which("sha256sum"):
        subprocess.run(["sha256sum", "-c", "--quiet", manifest.NAME], cwd=saved / "2", check=True)


def test_keeps_the_last_and_every_kth(tmp_path):
    state = {"x": jnp.arange(3)}
    with Checkpointer(tmp_path, keep_last=2, keep_every=3) as checkpointer:
        for step in range(1, 9):
            checkpointer.save(step, state)
        checkpointer.wait()
        assert checkpointer.steps() == [3, 6, 7, 8]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3", "6", "7", "8"]


def test_an_old_checkpoint_that_cannot_be_removed_is_a_warning(damaged, caplog):
    """A link in its place cannot be removed as a folder is, not even by root."""
    (damaged / "1").rename(damaged.parent / "elsewhere")
    (damaged / "1").symlink_to(damaged.parent / "elsewhere")
    with Checkpointer(damaged, keep_last=1) as checkpointer, caplog.at_level(logging.WARNING):
        checkpointer.save(3, {"x": jnp.arange(3)})
        checkpointer.wait()
        assert checkpointer.newest_good() == 3 and checkpointer.steps() == [1, 3]
    (line,) = [record.getMessage() for record in caplog.records if record.name == "jaxrl_agents.training.checkpoint"]
    assert line.startswith(f"old checkpoint 1 could not be removed: {damaged / '1'}: ") and "\n" not in line


def test_arrays_may_be_donated_right_after_a_save(tmp_path):
    overwrite = jax.jit(lambda x: x * 0 - 1, donate_argnums=0)
    with Checkpointer(tmp_path) as checkpointer:
        for step in range(4):
            x, host = jnp.full((512, 512), float(step)), np.full(100_000, step)
            checkpointer.save(step, {"x": x, "host": host})
            for _ in range(3):
                x = overwrite(x)
            host += 1
            restored = checkpointer.restore({"x": x, "host": host}, step=step).state
            assert (restored["x"] == step).all() and (restored["host"] == step).all()


def test_targets_that_do_not_fit_are_named(saved):
    with Checkpointer(saved) as checkpointer:
        target = training_state()
        target["params"]["layers"]["kernel"] = jnp.ones((3, 5))
        with pytest.raises(
            ValueError, match=r"params/layers/kernel is float32\[3, 5\] in the target and float32\[3, 4\]"
        ):
            checkpointer.restore(target)
        target = training_state() | {"extra": jnp.ones(1)}
        del target["mask"]
        with pytest.raises(ValueError, match="extra is not in the checkpoint; mask is only in the checkpoint"):
            checkpointer.restore(target)
        with pytest.raises(ValueError, match="key is key<rbg>.* in the target and key<fry>"):
            checkpointer.restore(training_state() | {"key": jax.random.key(0, impl="rbg")})


def test_bad_arguments(tmp_path, saved):
    with pytest.raises(ValueError, match="keep_last must be at least 1, got 0"):
        Checkpointer(tmp_path, keep_last=0)
    with pytest.raises(ValueError, match="keep_every must be at least 1 or None, got 0"):
        Checkpointer(tmp_path, keep_every=0)
    with pytest.raises(ValueError, match="gs://bucket"):
        Checkpointer("gs://bucket/run")
    with Checkpointer(saved) as checkpointer:
        with pytest.raises(ValueError, match="step must be at least 0, got -1"):
            checkpointer.save(-1, {"x": jnp.ones(1)})
        with pytest.raises(ValueError, match="checkpoint 2 is in .* already"):
            checkpointer.save(2, {"x": jnp.ones(1)})
        with pytest.raises(TypeError, match="'name' is a str"):
            checkpointer.save(3, {"name": "run"})
        with pytest.raises(TypeError, match="metadata must be what JSON can hold"):
            checkpointer.save(3, {"x": jnp.ones(1)}, {"x": object()})
        with pytest.raises(ValueError, match="no array with elements"):
            checkpointer.save(3, {"step": 1})
        with pytest.raises(ValueError, match="two leaves called 'a/b'"):
            checkpointer.save(3, {"a/b": jnp.ones(1), "a": {"b": jnp.ones(1)}})
        assert checkpointer.steps() == [1, 2]


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        Checkpointer(tmp_path / "file" / "run") as checkpointer,
        pytest.raises(CheckpointError, match=r"checkpoint 1 was not saved to .*file/run: .*name another folder"),
    ):
        checkpointer.save(1, {"x": jnp.ones(1)})
