"""AutoReset against a plain loop over single environments, in all four modes."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs_jax
from envs_jax import AutoReset

NUM_ENVS = 96
NUM_STEPS = 25


pytestmark = pytest.mark.usefixtures("quick_compilation")

BANKS = {"Sokoban-8x8-v0": {"num_levels": 100}, "FrozenLake-RAGEN-v0": {"num_maps": 100}}


@pytest.fixture(scope="module", params=BANKS)
def env_and_tasks(request):
    env, tasks = envs_jax.make(request.param, seed=3, **BANKS[request.param])
    instances = dataclasses.replace(tasks.instances, time_limit=np.full(len(tasks), 7, np.uint16))
    return env, envs_jax.make_bank(instances)


def run(vec, key, num_envs=NUM_ENVS, stagger=True):
    """Plays NUM_STEPS steps with random actions; returns how they began and everything each step returned."""
    observation, state = begin(dataclasses.replace(vec, mode="same_step"), key, num_envs, stagger)
    return jax.device_get((observation, state, play(vec, key, state)))


@partial(jax.jit, static_argnames=("num_envs", "stagger"))
def begin(vec, key, num_envs, stagger):
    return vec.reset(key, num_envs, stagger=stagger)


@jax.jit
def play(vec, key, state):
    num_envs = len(state.episode_return)

    def step(state, key):
        action = jax.random.randint(jax.random.fold_in(key, 7), (num_envs,), 0, vec.num_actions)
        out = vec.step(key, state, action)
        return out[1], (action, *out)

    return jax.lax.scan(step, state, jax.random.split(key, NUM_STEPS))[1]


@jax.jit
def views(env, states, tasks):
    """The observations and the (terminated, truncated) of states [K, N]."""
    view = lambda state, task: (env.observe(state, task), env.status(state, task))
    return jax.vmap(jax.vmap(view))(states, tasks)


@jax.jit
def transition(env, state, action, word, task):
    """One lane alone, and the observation of what it reaches."""
    outcome = env.transition(state, action, word, task)
    return outcome, env.observe(outcome.state, task)


@jax.jit
def words_of(key):
    """uint32[NUM_STEPS, NUM_ENVS]: the random words of the lanes of `play`."""
    word = lambda key: jax.random.bits(jax.random.split(key)[0], (NUM_ENVS,), jnp.uint32)
    return jax.vmap(word)(jax.random.split(key, NUM_STEPS))


def lane(tree, *index):
    return jax.tree.map(lambda leaf: leaf[index], tree)


def assert_trees_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("mode", ["same_step", "next_step", "disabled", "optimistic"])
def test_modes_follow_their_definition(env_and_tasks, mode):
    env, tasks = env_and_tasks
    first, state, steps = run(AutoReset(env, tasks, mode), jax.random.key(0))
    action, observation, after, reward, terminated, truncated, info = steps
    every = jax.tree.map(lambda start, rest: np.concatenate([start[None], rest]), state, after)
    seen, status = jax.device_get(views(env, every.env_state, every.task))
    assert_trees_equal(first, lane(seen, 0))
    before = state
    ended_in = 0
    for t in range(NUM_STEPS):
        now = lane(after, t)
        was_over = np.logical_or(*lane(status, t))
        over = terminated[t] | truncated[t]
        ended_in += int(over.sum())
        if mode in ("same_step", "optimistic"):
            assert not was_over.any()
            fresh = over
        elif mode == "next_step":
            assert not (over & was_over).any()
            assert (reward[t][was_over] == 0).all()
            fresh = was_over
        else:
            fresh = np.zeros(NUM_ENVS, bool)
            assert (over[was_over]).all()
            assert (reward[t][was_over] == 0).all()
        # Lanes that were not reset keep their task; those that were start at time 0 with nothing earned.
        kept = jax.tree.map(lambda new, old, fresh=fresh: (new == old)[~fresh].all(), now.task, before.task)
        assert all(jax.tree.leaves(kept))
        assert (now.env_state.steps[fresh] == 0).all()
        assert (now.episode_return[fresh] == 0).all()
        counted = ~fresh & ~(was_over if mode == "disabled" else np.zeros_like(over))
        np.testing.assert_array_equal(
            now.env_state.steps[counted], before.env_state.steps[counted] + 1, err_msg=f"step {t}"
        )
        # The observation is that of the state returned; the final one that of the state reached by the action.
        assert_trees_equal(lane(observation, t), lane(seen, t + 1))
        same = ~over if mode in ("same_step", "optimistic") else np.ones(NUM_ENVS, bool)
        jax.tree.map(
            lambda final, seen, same=same: np.testing.assert_array_equal(final[same], seen[same]),
            lane(info["final_observation"], t),
            lane(observation, t),
        )
        before = now
    assert ended_in > NUM_ENVS if mode != "disabled" else ended_in > 0


def test_outcomes_equal_the_single_environment(env_and_tasks):
    """Every lane's reward, end and final observation equal those of `transition` called on that lane alone."""
    env, tasks = env_and_tasks
    key = jax.random.key(1)
    _, state, steps = run(AutoReset(env, tasks), key)
    action, _, after, reward, terminated, truncated, info = steps
    words = np.asarray(words_of(key))
    for i in (0, 17, NUM_ENVS - 1):
        before = lane(state, i)
        episode_return, episode_length = np.float32(0), 0
        for t in range(NUM_STEPS):
            outcome, seen = jax.device_get(transition(env, before.env_state, action[t, i], words[t, i], before.task))
            assert outcome.reward == reward[t, i]
            assert (outcome.terminated, outcome.truncated) == (terminated[t, i], truncated[t, i])
            assert_trees_equal(seen, lane(info["final_observation"], t, i))
            episode_return, episode_length = np.float32(episode_return + outcome.reward), episode_length + 1
            assert info["episode_return"][t, i] == episode_return
            assert info["episode_length"][t, i] == episode_length
            if outcome.terminated | outcome.truncated:
                episode_return, episode_length = np.float32(0), 0
            before = lane(after, t, i)


def test_a_lane_does_not_depend_on_the_batch_size(env_and_tasks):
    env, tasks = env_and_tasks
    vec = AutoReset(env, tasks)
    large = run(vec, jax.random.key(2), 96)
    small = run(vec, jax.random.key(2), 33)
    assert_trees_equal(jax.tree.map(lambda leaf: leaf[:33], large[1]), small[1])
    assert_trees_equal(jax.tree.map(lambda leaf: leaf[:, :33], large[2]), small[2])


def test_same_key_gives_the_same_bits(env_and_tasks):
    env, tasks = env_and_tasks
    vec = AutoReset(env, tasks)
    assert_trees_equal(run(vec, jax.random.key(4)), run(vec, jax.random.key(4)))


def test_optimistic_shares_fresh_episodes(env_and_tasks):
    env, tasks = env_and_tasks
    _, _, steps = run(AutoReset(env, tasks, "optimistic"), jax.random.key(5), stagger=False)
    _, _, after, _, terminated, truncated, _ = steps
    t = 6  # all lanes that did not end before end at the time limit
    over = (terminated | truncated)[t]
    starts = []
    for block in range(16):  # of six lanes
        lanes = np.flatnonzero(over & (np.arange(NUM_ENVS) // 6 == block))
        leaves = [leaf[lanes] for leaf in jax.tree.leaves(lane(after.task, t))]
        assert all((leaf == leaf[:1]).all() for leaf in leaves)
        starts.append(tuple(leaf[:1].tobytes() for leaf in leaves))
    assert len(set(starts)) > 8


def test_changing_the_bank_leaves_running_episodes_alone(env_and_tasks):
    env, tasks = env_and_tasks
    _, state = begin(AutoReset(env, tasks), jax.random.key(0), NUM_ENVS, stagger=True)
    longer = dataclasses.replace(tasks.instances, time_limit=np.full(len(tasks), 30, np.uint16))
    vec = AutoReset(env, envs_jax.make_bank(longer))
    _, _, after, _, terminated, truncated, _ = lane(jax.device_get(play(vec, jax.random.key(1), state)), 0)
    over = terminated | truncated
    assert over.any() and not over.all()
    np.testing.assert_array_equal(after.task.time_limit, np.where(over, 30, 7))


def test_reset_where_starts_the_lanes_asked_for(env_and_tasks):
    env, tasks = env_and_tasks
    _, state = begin(AutoReset(env, tasks), jax.random.key(0), NUM_ENVS, stagger=True)
    vec = AutoReset(env, tasks, "disabled")
    mask = np.arange(NUM_ENVS) % 3 == 0
    state, (_, after) = jax.device_get((state, jax.jit(vec.reset_where)(jax.random.key(1), state, mask)))
    assert (after.env_state.steps[mask] == 0).all()
    assert_trees_equal(jax.tree.map(lambda leaf: leaf[~mask], after), jax.tree.map(lambda leaf: leaf[~mask], state))


def test_tasks_are_drawn_uniformly(env_and_tasks):
    env, tasks = env_and_tasks
    tasks = tasks[:8]
    limits = np.arange(1, 9, dtype=np.uint16)  # a label that survives in the lanes
    tasks = envs_jax.make_bank(dataclasses.replace(tasks.instances, time_limit=limits))
    _, state = begin(AutoReset(env, tasks), jax.random.key(0), 8000, stagger=False)
    counts = np.bincount(state.task.time_limit, minlength=9)[1:]
    chi_square = ((counts - 1000) ** 2 / 1000).sum()
    assert chi_square < 24.3  # the 0.999 quantile for 7 degrees of freedom


@pytest.mark.parametrize("num_envs", [1, 2, 31, 32, 33, 64, 65, 1000])
def test_exactly_the_ended_lanes_are_replaced(num_envs):
    from envs_jax.autoreset import _replace

    rng = np.random.default_rng(num_envs)
    state = np.arange(num_envs, dtype=np.int32)
    replace = jax.jit(lambda done: _replace(done, state, lambda lanes: -1 - lanes))
    for probability in (0.0, 0.02, 0.5, 1.0):
        done = rng.random(num_envs) < probability
        np.testing.assert_array_equal(replace(done), np.where(done, -1 - state, state))


def test_errors_name_the_argument(env_and_tasks):
    env, tasks = env_and_tasks
    vec = AutoReset(env, tasks)
    key = jax.random.key(0)
    _, state = begin(vec, key, NUM_ENVS, stagger=True)
    state = jax.tree.map(lambda leaf: leaf[:4], jax.device_get(state))
    for num_envs in (0, -3):
        with pytest.raises(ValueError, match=f"num_envs={num_envs} is not in 1"):
            vec.reset(key, num_envs)
    for num_envs in (2.5, "8", None, True):
        with pytest.raises(TypeError, match=f"num_envs={num_envs!r} is not an integer"):
            vec.reset(key, num_envs)
    with pytest.raises(TypeError, match="stagger='no' is not a bool"):
        vec.reset(key, 4, stagger="no")
    with pytest.raises(TypeError, match=r"key must be a typed key, jax.random.key\(seed\); got 0"):
        vec.reset(0, 4)
    with pytest.raises(TypeError, match=r"typed key.*got uint32\[2\]"):
        vec.step(jax.random.PRNGKey(0), state, np.zeros(4, int))
    with pytest.raises(ValueError, match=r"array of keys of shape \(4,\)"):
        vec.reset(jax.random.split(key, 4), 4)
    with pytest.raises(TypeError, match="state must be the AutoResetState"):
        vec.step(key, state.env_state, np.zeros(4, int))
    unbatched = jax.tree.map(lambda leaf: leaf[0], state)
    for call in (
        lambda: jax.vmap(vec.step)(jax.random.split(key, 4), state, np.zeros(4, int)),
        lambda: vec.step(key, unbatched, np.zeros(1, int)),
        lambda: vec.reset_where(key, unbatched, np.ones(1, bool)),
    ):
        with pytest.raises(ValueError, match=r"state must be a batch, .*\[num_envs, …\]; got .* of shape \(\)"):
            call()
    for action in (np.zeros(4, bool), [0, 0, 0, 0], None):
        with pytest.raises(TypeError, match="integer"):
            vec.step(key, state, action)
    with pytest.raises(ValueError, match="action=9 is not one of 0 … 3"):
        vec.step(key, state, np.array([0, 1, 9, 2]))
    with pytest.raises(TypeError, match=r"mask must be an array bool\[4\]; got \[True"):
        vec.reset_where(key, state, [True, False, True, False])
    with pytest.raises(TypeError, match="integer dtype; got float32"):
        vec.step(jax.random.key(0), state, np.zeros(4, np.float32))
    with pytest.raises(ValueError, match=r"shape \(4,\).*got shape \(5,\)"):
        vec.step(jax.random.key(0), state, np.zeros(5, int))
    with pytest.raises(ValueError, match=r"mask must be bool\[4\]"):
        vec.reset_where(jax.random.key(0), state, np.zeros(3, bool))


def test_the_constructor_checks_its_arguments(env_and_tasks):
    env, tasks = env_and_tasks
    other, _ = envs_jax.make("TabularWeb-v0")
    for arguments, error, message in (
        ((env, tasks, "same-step"), ValueError, "mode='same-step' is not one of same_step, next_step"),
        (("Sokoban-v0", tasks), TypeError, r"env='Sokoban-v0' is an id.*env, tasks = envs_jax.make\('Sokoban-v0'\)"),
        (((env, tasks), tasks), TypeError, "env must be an Environment.*got tuple"),
        ((type(env), tasks), TypeError, f"env must be an Environment.*got the class {type(env).__name__}"),
        ((tasks, env), TypeError, "env must be an Environment.*got TaskBank"),
        ((env, tasks[0]), TypeError, "tasks must be a TaskBank"),
        ((env, None), TypeError, "tasks must be a TaskBank"),
        ((other, tasks), TypeError, "tasks holds"),
    ):
        with pytest.raises(error, match=message):
            AutoReset(*arguments)
    with pytest.raises(TypeError, match="tasks must be a TaskBank"):
        dataclasses.replace(AutoReset(env, tasks), tasks=tasks[0])


def test_jax_rebuilds_a_batch_without_the_checks(env_and_tasks):
    """With whatever JAX puts in the place of children: nothing, axes, shapes."""
    vec = AutoReset(*env_and_tasks)
    leaves, structure = jax.tree.flatten(vec)
    again = jax.tree.unflatten(structure, leaves)
    assert type(again) is AutoReset and again.mode == vec.mode and again.env == again.env
    assert jax.tree.structure(again) == structure
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(vec)]
    assert all(path.startswith(".tasks.instances.") for path in paths)
    emptied = jax.tree.map(lambda child: None, vec, is_leaf=lambda x: x is not vec)
    assert (emptied.env, emptied.tasks) == (None, None)
    assert jax.eval_shape(lambda vec: vec, vec).tasks.instances.time_limit.dtype == jnp.uint16
