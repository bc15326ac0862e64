"""What every registered environment must do, whatever its rules."""

import dataclasses
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs_jax
from envs_jax import AutoReset
from tests.envs_jax.interop.corridor import CorridorState

BATCH = 64
LARGE_CONSTANT = 64 * 1024
QUICKLY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


@pytest.fixture(scope="module", params=envs_jax.registered_ids())
def made(request):
    return envs_jax.make(request.param)


@pytest.fixture(scope="module")
def played(made):
    """(tasks, trajectories, state keys without the clock) of BATCH random episodes, at various times, some ended."""
    env, tasks = made

    @partial(jax.jit, compiler_options=QUICKLY)  # the largest program, which runs once
    def play(env, tasks, keys):
        task = jax.vmap(tasks.sample)(keys)
        run = lambda task, key: envs_jax.rollout(env, _uniform(env), task, key, 40)
        trajectory = jax.vmap(run)(task, keys)
        untimed = dataclasses.replace(trajectory.state, steps=jnp.zeros_like(trajectory.state.steps))
        return task, trajectory, jax.vmap(jax.vmap(env.state_key))(untimed)

    return jax.device_get(play(env, tasks, jax.random.split(jax.random.key(0), BATCH)))


def _at(index, tree):
    return jax.tree.map(lambda leaf: leaf[index], tree)


def _uniform(env):
    return lambda key, observation, mask: jax.random.randint(key, (), 0, env.num_actions)


@pytest.fixture(scope="module")
def begun(made):
    """The first task, and the observation and state at its beginning, from a program that gets all as arguments."""
    return jax.jit(lambda env, tasks, key: (tasks[0], *env.reset(key, tasks[0])))(*made, jax.random.key(0))


@pytest.fixture(scope="module")
def traces(made):
    """One entry for each time that `step` was traced."""
    return []


@pytest.fixture(scope="module")
def step(traces):
    """`env.step` and the mask and key of the state that it leads to, compiled once."""

    @jax.jit
    def step(env, key, state, action, task):
        traces.append(env)
        outcome = env.step(key, state, action, task)
        return *outcome, env.action_mask(outcome[1], task), env.state_key(outcome[1])

    return step


@pytest.fixture(scope="module")
def steps(made):
    """`env.step` of BATCH lanes and the status and masks before it, compiled once."""
    env, _ = made
    before = lambda state, task: (env.status(state, task), env.action_mask(state, task))
    return jax.jit(jax.vmap(lambda key, state, *rest: (env.step(key, state, *rest), before(state, rest[-1]))))


def test_environment_is_a_pytree_that_jit_accepts(made, begun):
    env, _ = made
    leaves, structure = jax.tree.flatten(env)
    assert type(jax.tree.unflatten(structure, leaves)) is type(env)
    hash(structure)
    assert all(leaf is not None for leaf in begun)


def test_signatures_and_dtypes(made, begun, step):
    env, _ = made
    task, observation, state = begun
    assert env.observation_space.contains(jax.tree.map(np.asarray, observation))
    observation, after, reward, terminated, truncated, info, mask, state_key = step(
        env, jax.random.key(3), state, np.int32(0), task
    )
    assert env.observation_space.contains(jax.tree.map(np.asarray, observation))
    assert (reward.dtype, terminated.dtype, truncated.dtype) == (jnp.float32, jnp.bool_, jnp.bool_)
    assert reward.shape == terminated.shape == truncated.shape == ()
    assert info["success"].dtype == jnp.bool_
    assert after.steps.dtype == np.uint16 and int(after.steps) == 1 and int(state.steps) == 0
    assert mask.shape == (env.num_actions,) and mask.dtype == jnp.bool_
    assert len(env.action_names) == env.num_actions
    assert state_key.dtype == jnp.uint32
    dtypes = lambda tree: [leaf.dtype for leaf in jax.tree.leaves(tree)]
    assert dtypes(after) == dtypes(state)
    assert env.action_space.n == env.num_actions


def test_observations_belong_to_the_space(made, played):
    env, _ = made
    _, trajectory, _ = played
    for lane in range(0, BATCH, 9):
        for t in (0, 3, 40):
            assert env.observation_space.contains(_at((lane, t), trajectory.observation))
    drawn = jax.jit(lambda key: env.observation_space.sample(key))(jax.random.key(0))
    assert env.observation_space.contains(jax.device_get(drawn))


def test_ended_episodes_absorb(made, played, steps):
    env, _ = made
    task, trajectory, _ = played
    state = jax.tree.map(lambda leaf: leaf[:, -1], trajectory.state)
    # Run every lane's clock out, so that there are ended lanes in every environment.
    state = dataclasses.replace(state, steps=np.maximum(state.steps, task.time_limit))
    keys = jax.random.split(jax.random.key(5), BATCH)
    for action in range(min(env.num_actions, 6)):
        outcome, (status, masks) = jax.device_get(steps(keys, state, np.full(BATCH, action, np.int32), task))
        _, after, reward, terminated, truncated, _ = outcome
        jax.tree.map(np.testing.assert_array_equal, after, state)
        assert (reward == 0).all() and truncated.all()
        np.testing.assert_array_equal(terminated, status[0])
        assert masks.all()


def test_rewards_stop_at_the_end(made, played):
    _, trajectory, _ = played
    over = trajectory.terminated | trajectory.truncated
    np.testing.assert_array_equal(trajectory.mask[:, 1:], ~over[:, :-1])
    assert (trajectory.reward[~trajectory.mask] == 0).all()


def test_batch_order_and_size_do_not_matter(made, played, step, steps):
    env, _ = made
    task, trajectory, _ = played
    keys = jax.random.split(jax.random.key(6), BATCH)
    state = jax.tree.map(lambda leaf: leaf[:, 2], trajectory.state)
    action = np.random.default_rng(7).integers(0, env.num_actions, BATCH, np.int32)
    whole, _ = jax.device_get(steps(keys, state, action, task))
    order = np.random.default_rng(0).permutation(BATCH)
    permuted, _ = steps(keys[order], *_at(order, (state, action, task)))
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[order], b), whole, permuted)
    for lane in (0, BATCH - 1):
        *alone, _, _ = step(env, keys[lane], *_at(lane, (state, action, task)))
        jax.tree.map(lambda a, b, lane=lane: np.testing.assert_array_equal(a[lane], b), whole, tuple(alone))


def test_state_keys_tell_states_apart(played):
    _, trajectory, keys = played
    places = dataclasses.replace(trajectory.state, steps=np.zeros_like(trajectory.state.steps))
    leaves = [leaf.reshape(BATCH, 41, -1) for leaf in jax.tree.leaves(places)]
    for lane in range(0, BATCH, 16):
        whole = {tuple(np.concatenate([leaf[lane, t] for leaf in leaves]).tolist()) for t in range(41)}
        assert len({keys[lane, t].tobytes() for t in range(41)}) == len(whole)


def test_no_large_constant_in_the_program(made):
    env, tasks = made

    def step(vec, key, state, action):
        return vec.step(key, state, action)

    vec = AutoReset(env, tasks)
    _, state = jax.eval_shape(lambda vec: vec.reset(jax.random.key(0), BATCH), vec)
    lowered = jax.jit(step).lower(vec, jax.random.key(0), state, jax.ShapeDtypeStruct((BATCH,), jnp.int32))
    sizes = [0]
    for shape in re.findall(
        r"stablehlo.constant dense<(?:\"0x|\[)[^>]*> : tensor<([0-9x]+)x?[a-z]+\d*>", lowered.as_text()
    ):
        sizes.append(4 * int(np.prod([int(n) for n in shape.rstrip("x").split("x")])))
    assert max(sizes) <= LARGE_CONSTANT


def test_new_tasks_and_states_do_not_retrace(made, begun, step, traces):
    env, tasks = made
    task, _, state = begun
    for i in range(min(3, len(tasks))):
        for _ in range(2):
            state = step(env, jax.random.key(i), state, np.int32(i % env.num_actions), tasks[i])[1]
    step(env, jax.random.key(0), begun[2], np.int32(0), task)
    assert len(traces) == 1


def test_make_is_deterministic(made, request):
    _, tasks = made
    _, again = envs_jax.make(request.node.callspec.params["made"])
    jax.tree.map(np.testing.assert_array_equal, tasks.instances, again.instances)


def test_banks_survive_a_file(made, tmp_path):
    env, tasks = made
    tasks.save(tmp_path / "tasks.npz")
    loaded = envs_jax.TaskBank.load(tmp_path / "tasks.npz")
    jax.tree.map(np.testing.assert_array_equal, loaded, tasks)
    jax.eval_shape(lambda vec: vec.reset(jax.random.key(0), 2), AutoReset(env, loaded))


def test_rendering(made, begun):
    env, _ = made
    task, _, state = begun
    text = env.render_text(state, task)
    assert isinstance(text, str) and text.strip()
    picture = env.render_rgb(state, task)
    assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3
    assert picture.std() > 0


def test_wrong_arguments_are_named(made, begun):
    env, tasks = made
    task, _, state = begun
    key = jax.random.key(0)
    with pytest.raises(TypeError, match="task is a whole TaskBank"):
        env.reset(key, tasks)
    with pytest.raises(TypeError, match="task is a whole TaskBank"):
        jax.jit(env.step)(key, state, jnp.int32(0), tasks)
    with pytest.raises(TypeError, match="task must be a .*Task"):
        env.reset(key, {"walls": 0})
    with pytest.raises(TypeError, match="integer dtype; got float32"):
        env.step(key, state, jnp.float32(0), task)
    with pytest.raises(ValueError, match=r"action must be a scalar; got shape \(2,\)"):
        env.step(key, state, jnp.zeros(2, jnp.int32), task)
    with pytest.raises(ValueError, match=f"action={env.num_actions} is not one of"):
        env.step(key, state, env.num_actions, task)
    with pytest.raises(ValueError, match="action=-1 is not one of"):
        env.step(key, state, -1, task)
    with pytest.raises(TypeError, match="integer dtype; got bool"):
        env.step(key, state, True, task)
    for action in (None, "0", [0], object()):
        with pytest.raises(TypeError, match="is not an integer"):
            env.step(key, state, action, task)
    for wrong in (0, jax.random.PRNGKey(0)):
        with pytest.raises(TypeError, match="key must be a typed key"):
            env.reset(wrong, task)
        with pytest.raises(TypeError, match="key must be a typed key"):
            env.step(wrong, state, 0, task)
    with pytest.raises(ValueError, match="array of keys"):
        env.reset(jax.random.split(key, 2), task)
    foreign = CorridorState(jnp.int32(0), jnp.uint16(0))
    message = f"state must be a {type(state).__name__}, one of this environment's; got CorridorState"
    for call in (lambda: env.step(key, foreign, 0, task), lambda: env.observe(foreign, task)):
        with pytest.raises(TypeError, match=message):
            call()


def two(tree):
    return jax.tree.map(lambda leaf: np.stack([leaf, leaf]), tree)


def test_every_view_refuses_what_is_not_one_state_and_one_task(made, begun):
    env, tasks = made
    task, _, state = begun
    views = (env.observe, env.action_mask, env.success, env.info, env.terminated, env.status)
    for view in (*views, env.render_text, env.render_ansi, env.render_rgb):
        for wrong, error, message in (
            ((state, tasks), TypeError, f"task is a whole TaskBank of {len(tasks)} tasks; environments take one"),
            ((state, tasks.instances), ValueError, "task holds a batch"),
            ((two(state), task), ValueError, r"state holds a batch \(steps has shape \(2,\)\)"),
            ((state, None), TypeError, "task must be a .*Task"),
            ((None, task), TypeError, "state must be one that reset or step returned; got NoneType"),
        ):
            with pytest.raises(error, match=message):
                view(*wrong)
            with pytest.raises(error, match=message):
                view(state=wrong[0], task=wrong[1])


def test_steps_refuse_what_is_not_one_state_and_one_task(made, begun):
    env, tasks = made
    key = jax.random.key(0)
    task, _, state = begun
    word, action = jnp.uint32(0), jnp.int32(0)
    for method in (env.transition, env.live_transition, env.advance):
        with pytest.raises(TypeError, match="task is a whole TaskBank"):
            jax.jit(method)(state, action, word, tasks)
        with pytest.raises(ValueError, match="state holds a batch"):
            method(two(state), action, word, task)
    with pytest.raises(TypeError, match="task is a whole TaskBank"):
        env.initial(word, tasks)
    with pytest.raises(TypeError, match="task is a whole TaskBank"):
        env.action_text(0, state, tasks)
    with pytest.raises(ValueError, match="task holds a batch"):
        env.step(key, state, 0, two(task))
    with pytest.raises(ValueError, match="state holds a batch"):
        env.step(key, two(state), 0, task)


def test_traced_actions_out_of_range_have_no_effect(made, begun, step):
    env, _ = made
    task, _, state = begun
    before = np.asarray(jax.jit(env.state_key)(state))
    for action in (-1, env.num_actions, 200):
        _, after, *_, state_key = step(env, jax.random.key(1), state, np.int32(action), task)
        np.testing.assert_array_equal(state_key, before)
        assert int(after.steps) == 1
