"""Programs that the tests run in processes of their own: `python worker.py ROLE ARGUMENT…`."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jaxrl_agents.training import Checkpointer, StopOnSigterm, init_sharded, initialize, make_mesh, plan, shard_batch
from jaxrl_agents.training.distributed import agree

RULES = ((r"up$", P(None, "fsdp", "tensor")), (r"down$", P(None, "tensor", "fsdp")), (r"bias$", P("tensor")))
LEARNING_RATE = 0.05


def init(key):
    """Two layers of an MLP, stacked, with a bias that no even number of devices divides."""
    up, down = jax.random.split(key)
    params = {
        "up": jax.random.normal(up, (2, 8, 16)) / 4,
        "down": jax.random.normal(down, (2, 16, 8)) / 4,
        "bias": jnp.zeros(7),
    }
    return {"params": params, "key": jax.random.fold_in(key, 1), "count": jnp.uint32(0)}


start = jax.jit(init)


def known():
    """A state of NumPy's numbers: every process has the same bits, whatever its compiler made of `init`."""
    random = np.random.default_rng(1)
    state = start(jax.random.key(0))
    params = jax.tree.map(lambda leaf: jnp.asarray(random.normal(size=leaf.shape), leaf.dtype), state["params"])
    return state | {"params": params, "count": jnp.uint32(2)}


def loss(params, batch):
    def layer(x, weights):
        up, down = weights
        return x + jnp.tanh(x @ up) @ down, None

    x, _ = jax.lax.scan(layer, batch["x"], (params["up"], params["down"]))
    return jnp.mean((x[:, :7] + params["bias"] - batch["y"]) ** 2)


def train_step(state, batch):
    key, noise_key = jax.random.split(state["key"])
    noisy = batch | {"x": batch["x"] + 0.1 * jax.random.uniform(noise_key, batch["x"].shape)}
    value, gradient = jax.value_and_grad(loss)(state["params"], noisy)
    params = jax.tree.map(lambda p, g: p - LEARNING_RATE * g, state["params"], gradient)
    return {"params": params, "key": key, "count": state["count"] + 1}, value, gradient


train_step_on_one_device = jax.jit(train_step)


def train_step_on(shardings):
    return jax.jit(train_step, out_shardings=(shardings, None, shardings["params"]))


def batch_of(rows=16):
    random = np.random.default_rng(0)
    return {"x": random.normal(size=(rows, 8)).astype(np.float32), "y": np.ones((rows, 7), np.float32)}


def placed(state, mesh):
    return jax.device_put(state, plan(state, mesh, RULES).shardings)


def as_arrays(state):
    """As NumPy arrays, keys as their data; in runs of several processes a copy of the whole on each."""
    state = state | {"key": jax.random.key_data(state["key"])}
    if jax.process_count() > 1:
        state = jax.jit(lambda x: x, out_shardings=NamedSharding(state["count"].sharding.mesh, P()))(state)
    return jax.tree.map(np.asarray, state)


def reference(steps):
    """The state, loss and gradient after some steps on one device."""
    state, batch = start(jax.random.key(0)), batch_of()
    for _ in range(steps):
        state, value, gradient = train_step_on_one_device(state, batch)
    state["key"] = jax.random.key_data(state["key"])
    return jax.tree.map(np.asarray, (state, value, gradient))


def assert_close(actual, expected, tolerance=1e-6):
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1, np.abs(b).max()))


def assert_equal(actual, expected):
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


def eight_devices(folder):
    """All combinations of axes give the numbers of one device; checkpoint 1 restores everywhere; saves 2, sharded."""
    assert jax.device_count() == 8
    expected = reference(2)
    for shape in [(4, 2, 1), (2, 1, 4), (1, 2, 4)]:
        assert_trains_as_one_device(make_mesh(*shape), expected)
    with Checkpointer(folder) as checkpointer:
        for shape in [(8, 1, 1), (1, 8, 1), (1, 1, 8), (2, 2, 2)]:
            mesh = make_mesh(*shape)
            assert_trains_as_one_device(mesh, expected)
            target = placed(start(jax.random.key(3)), mesh)
            restored = checkpointer.restore(target, step=1).state
            assert jax.tree.map(lambda leaf: leaf.sharding, restored) == plan(target, mesh, RULES).shardings
            assert_equal(as_arrays(restored), as_arrays(known()))
        state, layout = init_sharded(init, mesh, RULES, jax.random.key(0))
        assert jax.tree.map(lambda leaf: leaf.sharding, state) == layout.shardings
        assert_close(as_arrays(state), as_arrays(start(jax.random.key(0))))
        keys = jax.random.split(jax.random.key(0), 16)
        rows = shard_batch({"keys": keys, **batch_of()}, mesh)
        assert rows["keys"].sharding.spec == P(("data", "fsdp")) and (rows["keys"] == keys).all()
        checkpointer.save(2, {"state": restored, "keys": rows["keys"]})


def assert_trains_as_one_device(mesh, expected):
    state = start(jax.random.key(0))
    layout = plan(state, mesh, RULES)
    step, state, batch = train_step_on(layout.shardings), placed(state, mesh), shard_batch(batch_of(), mesh)
    for _ in range(2):
        state, value, gradient = step(state, batch)
    expected_state, expected_value, expected_gradient = expected
    assert abs(float(value) - expected_value) < 1e-5
    assert_close(as_arrays(state), expected_state, 2e-6)
    norm = np.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(expected_gradient)))
    errors = jax.tree.map(lambda a, b: np.linalg.norm(np.asarray(a) - b), gradient, expected_gradient)
    assert max(jax.tree.leaves(errors)) < 1e-6 * norm


def two_devices(folder):
    """Restores what eight devices saved."""
    mesh = make_mesh(1, 2, 1)
    target = {
        "state": placed(start(jax.random.key(3)), mesh),
        "keys": shard_batch({"keys": jax.random.split(jax.random.key(1), 16)}, mesh)["keys"],
    }
    with Checkpointer(folder) as checkpointer:
        restored = checkpointer.restore(target)
    assert restored.step == 2
    assert_equal(as_arrays(restored.state["state"]), as_arrays(known()))
    assert restored.state["keys"].sharding.is_equivalent_to(target["keys"].sharding, 1)
    assert (restored.state["keys"] == jax.random.split(jax.random.key(0), 16)).all()


def killed(folder):
    """Saves checkpoint 1, then 2, which takes long enough to be killed in between."""
    with Checkpointer(folder) as checkpointer:
        checkpointer.save(1, {"x": jnp.arange(3)})
        checkpointer.wait()
        random = np.random.default_rng(0)
        checkpointer.save(2, {f"x{i}": jnp.asarray(random.random(4_000_000, np.float32)) for i in range(8)})


def pair(folder, address, rank):
    """One of two processes with two devices each: trains, saves, survives damage, stops when rank 1 gets SIGTERM."""
    rank = int(rank)
    initialize(address, 2, rank)
    assert jax.device_count() == 4 and jax.process_count() == 2
    mesh = make_mesh(2, 2, 1)
    rows = slice(8 * rank, 8 * rank + 8)
    batch = shard_batch(jax.tree.map(lambda leaf: leaf[rows], batch_of()), mesh)
    state, layout = init_sharded(init, mesh, RULES, jax.random.key(0))
    target, train = state, train_step_on(layout.shardings)
    with Checkpointer(folder) as checkpointer:
        for step in (1, 2):
            state, _, _ = train(state, batch)
            checkpointer.save(step, state, {"step": step})
        assert checkpointer.newest_good() == 2
        assert_close(as_arrays(checkpointer.restore(target).state), reference(2)[0], 2e-6)
        agree(lambda: corrupt(Path(folder) / "2"))
        restored = checkpointer.restore(target)
        assert restored.step == 1 and restored.metadata == {"step": 1}
        assert_close(as_arrays(restored.state), reference(1)[0], 2e-6)
        assert_raises_everywhere(lambda: checkpointer.save(1, state), ValueError)
        state, step = restored.state, 1
        with StopOnSigterm() as stop:
            while not stop.requested(step):
                step += 1
                state, value, _ = train(state, batch)
                value.block_until_ready()
                print(step, flush=True)
        checkpointer.save(step, state, {"step": step})
    print("stopped", step, flush=True)


def corrupt(folder):
    payload = max((folder / "state").rglob("d/*"), key=lambda path: path.stat().st_size)
    data = bytearray(payload.read_bytes())
    data[len(data) // 2] ^= 1
    payload.write_bytes(data)


def assert_raises_everywhere(call, kind):
    try:
        call()
    except kind:
        return
    raise AssertionError("no error")


if __name__ == "__main__":
    role, *arguments = sys.argv[1:]
    globals()[role](*arguments)
