"""Programs that the tests run in processes of their own: `python -m …worker ROLE ARGUMENT…`."""

import functools
import pickle
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import envs_jax
from jaxrl_agents import losses
from jaxrl_agents.models import Transformer, config_for
from jaxrl_agents.rollouts import Policy, Standard
from jaxrl_agents.training import Checkpointer, Learner, StopOnSigterm, initialize, make_mesh, shard_batch, update
from jaxrl_agents.training.distributed import agree

NUM_TURNS = 2
SECOND = "second.pickle"  # what `pair` has after its second step


@functools.cache
def learner(mesh=None):
    """A transformer learner; eight devices along `tensor` do not divide its four heads of keys."""
    env, _ = envs_jax.make("FrozenLake-v0", map=["SFF", "FHF", "FFG"], observation="tokens")
    model = Transformer(config_for(env, d_model=16, num_layers=2, num_heads=8, num_kv_heads=4))
    algorithm, optimizer = losses.ppo(entropy_coefficient=0.01), optax.sgd(0.01, momentum=0.9)
    return Learner(Policy(env, model), Standard(), algorithm, optimizer, num_turns=NUM_TURNS, mesh=mesh)


def start(key):
    return learner().init(key)


def known():
    """A state of NumPy's numbers: every process has the same bits, whatever its compiler made of `init`."""
    random = np.random.default_rng(1)
    state = start(jax.random.key(0))
    draw = lambda leaf: jnp.asarray(random.normal(size=leaf.shape), leaf.dtype)
    params, opt_state = jax.tree.map(draw, (state.params, state.opt_state))
    return state._replace(params=params, opt_state=opt_state, step=jnp.int32(2))


def train_step(state, batch):
    """An update on a batch whose advantages the state's key moves: the next state, the loss and its gradient."""
    made = learner()
    loss = update.policy_loss(made.policy, made.algorithm, 0.5)
    key, noise_key = jax.random.split(state.key)
    noise = jax.random.uniform(noise_key, batch.advantages.shape)
    gradient, numbers = update.gradient(loss, state.params, batch._replace(advantages=batch.advantages + noise), 1)
    change, opt_state = made.optimizer.update(gradient, state.opt_state)
    params = optax.apply_updates(state.params, change)
    return state._replace(params=params, opt_state=opt_state, key=key, step=state.step + 1), numbers["loss"], gradient


train_step_on_one_device = jax.jit(train_step)


def train_step_on(mesh, layout):
    return jax.jit(train_step, out_shardings=(layout, NamedSharding(mesh, P()), layout.params))


def batch_of(rows=16):
    random = np.random.default_rng(0)
    shape = (rows, NUM_TURNS, 1)
    draw = lambda: random.normal(size=shape).astype(np.float32)
    return update.Batch(
        random.integers(0, 7, (rows, NUM_TURNS, 9), np.uint8), random.integers(0, 4, shape, np.int32), None,
        random.random(shape) < 0.9, old_log_probs=0.2 * draw() - np.log(4).astype(np.float32), advantages=draw(),
        value_targets=draw(),
    )  # fmt: skip


def as_arrays(tree):
    """As NumPy arrays, keys as their data; of what is split over processes a copy of the whole on each."""
    is_key = lambda leaf: jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    tree = jax.tree.map(lambda leaf: jax.random.key_data(leaf) if is_key(leaf) else leaf, tree)
    sharding = jax.tree.leaves(tree)[0].sharding
    if not sharding.is_fully_addressable:
        tree = jax.jit(lambda x: x, out_shardings=NamedSharding(sharding.mesh, P()))(tree)
    return jax.tree.map(np.asarray, tree)


@functools.cache
def reference(steps):
    """The state, loss and gradient after some steps on one device."""
    state, batch = start(jax.random.key(0)), batch_of()
    for _ in range(steps):
        state, value, gradient = train_step_on_one_device(state, batch)
    return as_arrays((state, value, gradient))


def assert_close(actual, expected, tolerance=1e-6):
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1, np.abs(b).max()))


def assert_equal(actual, expected):
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


def assert_as_one_device(found, steps):
    """State, loss and gradient after some steps, as arrays; the gradient differs by at most a millionth of its norm."""
    (state, value, gradient), expected = found, reference(steps)
    assert_close(state, expected[0], 2e-6)
    assert abs(value - expected[1]) <= 1e-5
    norm = lambda tree: np.sqrt(sum((leaf.astype(np.float64) ** 2).sum() for leaf in jax.tree.leaves(tree)))
    assert norm(jax.tree.map(np.subtract, gradient, expected[2])) <= 1e-6 * norm(expected[2])


def every_mesh():
    """All combinations of axes give the numbers of one device."""
    assert jax.device_count() == 8
    first = start(jax.random.key(0))
    for shape in [(8, 1, 1), (1, 8, 1), (1, 1, 8), (4, 2, 1), (2, 1, 4), (1, 2, 4), (2, 2, 2)]:
        mesh = make_mesh(*shape)
        assert_trains_as_one_device(first, mesh, learner(mesh).plan().shardings)


def eight_devices(folder):
    """Restores checkpoint 1 along every axis and along all; starts as one device does; saves 2, sharded."""
    assert jax.device_count() == 8
    with Checkpointer(folder) as checkpointer:
        for shape in [(8, 1, 1), (1, 8, 1), (1, 1, 8), (2, 2, 2)]:
            mesh = make_mesh(*shape)
            target = learner(mesh).abstract_state()
            layout = jax.tree.map(lambda leaf: leaf.sharding, target)
            restored = checkpointer.restore(target, step=1).state
            assert jax.tree.map(lambda leaf: leaf.sharding, restored) == layout
            assert_equal(as_arrays(restored), as_arrays(known()))
        first = jax.random.key(0)
        state = learner(mesh).init(first)
        assert jax.tree.map(lambda leaf: leaf.sharding, state) == layout
        assert_close(as_arrays(state), as_arrays(start(first)))
        keys = jax.random.split(jax.random.key(0), 16)
        rows = shard_batch({"keys": keys, "batch": batch_of()}, mesh)
        assert rows["keys"].sharding.spec == P(("data", "fsdp")) and (rows["keys"] == keys).all()
        checkpointer.save(2, {"state": restored, "keys": rows["keys"]})


def assert_trains_as_one_device(state, mesh, layout):
    state, batch = jax.device_put(state, layout), shard_batch(batch_of(), mesh)
    step = train_step_on(mesh, layout)
    for _ in range(2):
        state, value, gradient = step(state, batch)
    assert_as_one_device(as_arrays((state, value, gradient)), 2)


def two_devices(folder):
    """Restores what eight devices saved."""
    mesh = make_mesh(1, 2, 1)
    target = {
        "state": learner(mesh).abstract_state(),
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
    state, target = learner(mesh).init(jax.random.key(0)), learner(mesh).abstract_state()
    train, found = train_step_on(mesh, jax.tree.map(lambda leaf: leaf.sharding, target)), []
    with Checkpointer(folder) as checkpointer:
        for step in (1, 2):
            state, value, gradient = train(state, batch)
            checkpointer.save(step, state, {"step": step})
            found.append(as_arrays((state, value, gradient)))
        if rank == 0:
            (Path(folder) / SECOND).write_bytes(pickle.dumps(found[-1]))
        assert checkpointer.newest_good() == 2
        agree(lambda: corrupt(Path(folder) / "2"))
        restored = checkpointer.restore(target)
        assert restored.step == 1 and restored.metadata == {"step": 1}
        assert_equal(as_arrays(restored.state), found[0][0])
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
