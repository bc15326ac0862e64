"""Sokoban behind the common interface: properties of play, observations, options and refused arguments."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import envs_jax
from envs_jax.sokoban import deadlocks, levels
from envs_jax.sokoban.board import Layout
from envs_jax.sokoban.env import Sokoban, make
from envs_jax.sokoban.grid import Code
from tests.envs_jax.sokoban.positions import bank_of, boards_of, random_text, state_of, texts
from tests.reference import sokoban as reference

LAYOUT = Layout(7, 8)
STEPS = 30


@jax.jit
def play(env, task, actions):
    """States [K + 1] and what the steps return [K] of one episode."""

    def step(state, action):
        mask = env.action_mask(state, task)
        observation, after, reward, terminated, truncated, _ = env.step(jax.random.key(0), state, action, task)
        return after, (after, observation, reward, terminated, truncated, mask)

    first = env.initial(jnp.uint32(0), task)
    _, (states, *rest) = jax.lax.scan(step, first, actions)
    return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), first, states), *rest


def actions_of(seed, steps=STEPS):
    return np.random.default_rng(seed).integers(0, 4, steps).astype(np.int32)


@settings(max_examples=25, deadline=None)
@given(texts(LAYOUT), st.integers(0, 2**32 - 1))
def test_play_equals_the_reference(text, seed):
    env, bank = Sokoban(LAYOUT), levels.parse(text).bank(LAYOUT, time_limit=20)
    level = reference.parse_level(text)
    actions = actions_of(seed)
    states, observations, rewards, terminated, truncated, masks = jax.tree.map(np.asarray, play(env, bank[0], actions))
    expected, steps = level.start, 0
    for t, action in enumerate(actions):
        ended = reference.is_solved(level, expected) or steps == 20
        legal = reference.legal_actions(level, expected)
        assert np.flatnonzero(masks[t]).tolist() == ([0, 1, 2, 3] if ended else legal)
        before = expected
        if not ended:
            expected, steps = reference.step(level, expected, action), steps + 1
        at = jax.tree.map(lambda leaf, t=t: leaf[t + 1], states)
        assert state_of(LAYOUT, level, at.boxes, at.player) == expected
        assert at.steps == steps
        assert rewards[t] == pytest.approx(0 if ended else reference.reward(level, before, expected), abs=1e-6)
        assert terminated[t] == reference.is_solved(level, expected)
        assert truncated[t] == (steps == 20)
        assert levels.codes_to_text(observations[t]) == reference.to_text(level, expected)


@settings(max_examples=15, deadline=None)
@given(texts(LAYOUT), st.integers(0, 2**32 - 1))
def test_boxes_are_conserved_and_walls_never_entered(text, seed):
    states, *_ = jax.device_get(play(Sokoban(LAYOUT), bank_of(LAYOUT, [text])[0], actions_of(seed)))
    walls = np.array([[cell == "#" for cell in row] for row in text.split("\n")])[1:-1, 1:-1]
    num_boxes = text.count("$") + text.count("*")
    for t in range(STEPS + 1):
        state = jax.tree.map(lambda leaf, t=t: leaf[t], states)
        boxes = LAYOUT.unpack(state.boxes)
        assert boxes.sum() == num_boxes
        assert not (boxes & walls).any()
        assert not (boxes | walls).reshape(-1)[state.player]


@pytest.fixture(scope="module")
def batch():
    """Sixteen levels, their states after some play, and actions."""
    rng = np.random.default_rng(3)
    bank = jax.device_get(bank_of(LAYOUT, [random_text(LAYOUT, rng, int(n)) for n in rng.integers(1, 5, 16)]))
    actions = np.stack([actions_of(seed, 10) for seed in range(16)])
    states, *_ = jax.device_get(jax.vmap(partial(play, Sokoban(LAYOUT)))(bank.instances, actions))
    return bank, jax.tree.map(lambda leaf: leaf[:, -1], states), actions[:, 0]


@jax.jit
def step_batch(env, states, actions, tasks):
    keys = jax.random.split(jax.random.key(0), actions.shape[0])
    return jax.vmap(env.step)(keys, states, actions, tasks)


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def test_a_batch_of_one_is_the_single_environment(batch):
    bank, states, actions = batch
    env = Sokoban(LAYOUT)
    step = jax.jit(env.step)
    for i in range(3):
        one = jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], (states, actions, bank.instances))
        single = jax.tree.map(lambda leaf, i=i: leaf[i], (states, actions, bank.instances))
        outcome = jax.tree.map(lambda leaf: leaf[0], jax.device_get(step_batch(env, *one)))
        assert same(outcome, step(jax.random.key(9), *single))


def test_the_order_of_the_batch_does_not_matter(batch):
    bank, states, actions = batch
    env = Sokoban(LAYOUT)
    permute = lambda tree, order: jax.tree.map(lambda leaf: leaf[order], tree)
    order = np.random.default_rng(0).permutation(16)
    outcome = jax.device_get(step_batch(env, states, actions, bank.instances))
    assert same(step_batch(env, *permute((states, actions, bank.instances), order)), permute(outcome, order))


def test_levels_of_different_sizes_and_box_counts_share_a_batch():
    layout = Layout(9, 11)
    texts = [
        "#####\n#@$.#\n#####",
        "######\n#    #\n#@$$ #\n# .. #\n######",
        random_text(layout, np.random.default_rng(1), 7),
    ]
    bank = bank_of(layout, texts)
    env = Sokoban(layout)
    for text, task in zip(texts, [bank[i] for i in range(3)], strict=True):
        level = reference.parse_level(text)
        actions = actions_of(1)
        states, *_ = jax.device_get(play(env, task, actions))
        expected = reference.play(level, actions.tolist())
        solved = next((t for t, state in enumerate(expected) if reference.is_solved(level, state)), STEPS)
        boxes, player = boards_of(layout, level, expected[solved])
        assert states.player[-1] == player
        assert [word[-1] for word in states.boxes] == list(boxes)


# Observations and rewards --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [Layout(5, 6), Layout(10, 10), Layout(18, 20)], ids=str)
def test_observations_show_the_same_position(layout):
    rng = np.random.default_rng(4)
    bank = bank_of(layout, [random_text(layout, rng, 3) for _ in range(5)])
    views = {}
    for kind in ("grid", "planes", "tokens"):
        env = Sokoban(layout, observation=kind)
        first = lambda task, env=env: env.observe(env.initial(jnp.uint32(0), task), task)
        views[kind] = np.asarray(jax.jit(jax.vmap(first))(bank.instances))
        assert env.observation_space.contains(views[kind][0])
    grid, planes, tokens = views["grid"], views["planes"], views["tokens"]
    for i, codes in enumerate(grid):
        assert levels.codes_to_text(codes) == levels.to_text(layout, bank[i])
    assert (tokens == grid.reshape(5, -1)).all()
    holds = lambda *codes: np.isin(grid, codes)
    expected = [
        holds(Code.WALL),
        holds(Code.TARGET, Code.BOX_ON_TARGET, Code.PLAYER_ON_TARGET),
        holds(Code.BOX, Code.BOX_ON_TARGET),
        holds(Code.PLAYER, Code.PLAYER_ON_TARGET),
    ]
    assert (planes == np.stack(expected, axis=-1)).all()


def test_codes_and_tokens_are_stable():
    text = "#####\n#+$ #\n#*  #\n#####"
    env, bank = Sokoban(Layout(4, 5), observation="tokens"), levels.parse(text).bank()
    tokens, _ = jax.jit(env.reset)(jax.random.key(0), bank[0])
    assert tokens.tolist() == [0, 0, 0, 0, 0, 0, 6, 4, 1, 0, 0, 3, 1, 1, 0, 0, 0, 0, 0, 0]
    text = "#####\n#@$.#\n#####"
    reset = jax.jit(Sokoban(Layout(3, 5), observation="tokens").reset)
    tokens, _ = reset(jax.random.key(0), levels.parse(text).bank()[0])
    assert tokens.tolist() == [0] * 5 + [0, 5, 4, 2, 0] + [0] * 5


def test_rewards_of_the_two_kinds():
    text = "########\n#@$. $.#\n########"
    task = levels.parse(text).bank()[0]
    pushes = np.array([3, 3, 3], np.int32)  # onto the target, off it, blocked
    _, _, rewards, terminated, *_ = play(Sokoban(Layout(3, 8)), task, pushes)
    np.testing.assert_allclose(rewards, [0.9, -1.1, -0.1], atol=1e-6)
    task = levels.parse("#####\n#@$.#\n#####").bank()[0]
    for kind, reward in (("dense", 10.9), ("sparse", 10.0)):
        _, _, rewards, terminated, _, _ = play(Sokoban(Layout(3, 5), kind), task, np.array([2, 3, 3], np.int32))
        np.testing.assert_allclose(rewards, [-0.1 if kind == "dense" else 0, reward, 0], atol=1e-6)
        assert terminated.tolist() == [False, True, True]


# Deadlock termination ------------------------------------------------------------------------------------------------


def test_an_episode_ends_when_the_level_is_lost():
    layout = Layout(5, 6)
    bank = levels.parse("######\n#  @ #\n# .$ #\n#    #\n######").bank(layout)
    env = Sokoban(layout, deadlock_termination=True)
    task = deadlocks.with_dead_squares(layout, bank)[0]
    actions = np.array([1, 0, 0], np.int32)  # push down to the wall
    states, _, rewards, terminated, truncated, _ = play(env, task, actions)
    assert terminated.tolist() == [True, True, True] and not truncated.any()
    np.testing.assert_allclose(rewards, [-0.1, 0, 0], atol=1e-6)
    last = jax.tree.map(lambda leaf: leaf[-1], states)
    assert not env.success(last, task) and last.steps == 1
    _, _, _, terminated, *_ = play(Sokoban(layout), bank[0], actions)
    assert not terminated.any()


def test_deadlock_termination_needs_dead_squares(tmp_path):
    layout = Layout(5, 6)
    bank = levels.parse("######\n#  @ #\n# .$ #\n#    #\n######").bank(layout)
    env = Sokoban(layout, deadlock_termination=True)
    with pytest.raises(ValueError, match="with_dead_squares"):
        env.reset(jax.random.key(0), bank[0])
    with pytest.raises(ValueError, match="with_dead_squares"):
        envs_jax.AutoReset(env, bank).reset(jax.random.key(0), 2)
    filled = deadlocks.with_dead_squares(layout, bank)
    for name, tasks in (("plain", bank), ("filled", filled)):
        tasks.save(tmp_path / f"{name}.npz")
        assert same(envs_jax.TaskBank.load(tmp_path / f"{name}.npz"), tasks)


# Size and arguments --------------------------------------------------------------------------------------------------


def test_a_node_and_a_batch_are_small():
    bank = bank_of(Layout(10, 10), [random_text(Layout(10, 10), np.random.default_rng(0), 4)])
    env = Sokoban(Layout(10, 10))
    size = lambda tree: sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
    _, state = jax.eval_shape(env.reset, jax.random.key(0), bank[0])
    assert size(state) == 11  # at most 24
    _, batch = jax.eval_shape(lambda key: envs_jax.AutoReset(env, bank).reset(key, 1000), jax.random.key(0))
    assert size(batch) <= 200 * 1000


def test_equal_keys_mean_equal_positions():
    rng = np.random.default_rng(0)
    bank = bank_of(LAYOUT, [random_text(LAYOUT, rng, 2, 0.1)])
    env, text = Sokoban(LAYOUT), levels.to_text(LAYOUT, bank[0])
    level = reference.parse_level(text)
    states, *_ = jax.device_get(play(env, bank[0], actions_of(2)))
    keys = np.asarray(jax.jit(jax.vmap(env.state_key))(states))
    assert keys.dtype == np.uint32 and keys.shape == (STEPS + 1, LAYOUT.num_words + 1)
    positions = [state_of(LAYOUT, level, [w[t] for w in states.boxes], states.player[t]) for t in range(STEPS + 1)]
    for a in range(STEPS + 1):
        for b in range(STEPS + 1):
            assert (keys[a] == keys[b]).all() == (positions[a] == positions[b])


@pytest.mark.parametrize(("id", "num_boxes"), [("Sokoban-RAGEN-v0", 1), ("Sokoban-RAGEN-2box-v0", 2)])
def test_make_generates_rooms_as_ragen(id, num_boxes):
    env, tasks = envs_jax.make(id, num_levels=4)
    assert env.layout == Layout(6, 6) and len(tasks) == 4
    assert tasks.instances.time_limit.tolist() == [10] * 4
    for i in range(4):
        level = reference.parse_level(levels.to_text(env.layout, tasks[i]))
        assert len(level.targets) == num_boxes
        assert reference.solve_moves(level) is not None


def test_make_passes_the_arguments_of_generated_levels_on():
    env, tasks = envs_jax.make("Sokoban-8x8-v0", seed=3, num_levels=5, num_boxes=1, difficulty="easy", time_limit=50)
    assert len(tasks) == 5 and tasks.instances.time_limit.tolist() == [50] * 5
    assert {levels.to_text(env.layout, tasks[i]).count("$") for i in range(5)} == {1}
    _, again = envs_jax.make("Sokoban-8x8-v0", seed=3, num_levels=5, num_boxes=1, difficulty="easy", time_limit=50)
    _, other = envs_jax.make("Sokoban-8x8-v0", seed=4, num_levels=5, num_boxes=1, difficulty="easy", time_limit=50)
    assert same(tasks, again) and not same(tasks, other)
    with pytest.raises(ValueError, match="difficulty='extreme'"):
        envs_jax.make("Sokoban-v0", difficulty="extreme")


@pytest.mark.parametrize(
    ("id", "size", "num_boxes", "limit"),
    [("Sokoban-v0", (10, 10), 4, 120), ("Sokoban-8x8-v0", (8, 8), 2, 120), ("Sokoban-Large-v0", (17, 20), 6, 120)],
)
def test_registered_presets(id, size, num_boxes, limit):
    env, tasks = envs_jax.make(id, num_levels=2)
    assert env.layout.size == size and tasks.instances.time_limit.tolist() == [limit] * 2
    assert {levels.to_text(env.layout, tasks[i]).count("$") for i in range(2)} == {num_boxes}


def test_make_reads_levels(tmp_path):
    (tmp_path / "a.txt").write_text("#####\n#@$.#\n#####\n")
    (tmp_path / "b.txt").write_text("######\n#@$ .#\n######\n")
    env, tasks = envs_jax.make("Sokoban-v0", levels=[tmp_path / "a.txt", tmp_path / "b.txt"], observation="planes")
    assert len(tasks) == 2 and env.layout == Layout(10, 10)
    assert tasks.instances.time_limit.tolist() == [120, 120]
    env, tasks = envs_jax.make("Sokoban-8x8-v0", levels=tmp_path, time_limit=7, deadlock_termination=True)
    assert tasks.instances.time_limit.tolist() == [7, 7] and len(tasks.instances.dead) == 2
    with pytest.raises(levels.LevelError, match=r"a\.txt:1: the level is 3×5, larger than size=\(4, 4\)"):
        envs_jax.make("Sokoban-v0", levels=tmp_path, size=4)


BAD_ARGUMENTS = {
    "size": [(2, "size=(2, 2)"), ((10, 2), "size=(10, 2)"), ((1, 2, 3), "size=(1, 2, 3)"), ((300, 300), "65,536")],
    "num_boxes": [(0, "num_boxes=0"), (32, "1 … 31 boxes"), (-1, "num_boxes=-1")],
    "num_levels": [(0, "num_levels=0 is not in 1")],
    "time_limit": [(0, "time_limit=0 is not in 1"), (65_536, "time_limit=65536")],
    "reward": [("shaped", "reward='shaped' is not one of dense, sparse")],
    "observation": [("rgb", "observation='rgb' is not one of grid, planes, tokens")],
    "preset": [("boxoban", "preset='boxoban'")],
    "seed": [(-1, "seed=-1")],
}


@pytest.mark.parametrize(("name", "value", "message"), [(n, v, m) for n, bad in BAD_ARGUMENTS.items() for v, m in bad])
def test_bad_arguments_are_refused(name, value, message):
    arguments = {"seed": 0, "size": (10, 10), "num_boxes": 4, "num_levels": 4}
    with pytest.raises(ValueError, match=re.escape(message)):
        make(**{**arguments, name: value})


def test_wrong_types_and_combinations_are_refused(tmp_path):
    with pytest.raises(TypeError, match=r"num_boxes=1\.5 is not an integer"):
        make(seed=0, size=10, num_boxes=1.5)
    with pytest.raises(TypeError, match="size=7.5 is not an integer"):
        make(seed=0, size=7.5, num_boxes=1)
    with pytest.raises(ValueError, match=r"num_levels=5 .* cannot be combined with levels="):
        make(seed=0, size=10, num_levels=5, levels=tmp_path)
    with pytest.raises(ValueError, match=r"preset='ragen' .* cannot be combined with levels="):
        make(seed=0, size=10, preset="ragen", levels=tmp_path)
    for name, value in (("num_boxes", 4), ("difficulty", "easy"), ("search_depth", 50)):
        with pytest.raises(ValueError, match=rf"{name}={value!r} .* cannot be combined with levels="):
            envs_jax.make("Sokoban-v0", levels=tmp_path, **{name: value})
    with pytest.raises(ValueError, match=r"preset='ragen_2box' .* cannot be combined with levels="):
        envs_jax.make("Sokoban-RAGEN-2box-v0", levels=tmp_path)
    with pytest.raises(ValueError, match=r"search_depth=5 .* cannot be combined with preset='large'"):
        envs_jax.make("Sokoban-Large-v0", search_depth=5)
    with pytest.raises(ValueError, match=r"difficulty='hard' .* cannot be combined with preset='ragen'"):
        make(seed=0, size=10, num_boxes=1, preset="ragen", difficulty="hard")


def test_tasks_of_another_size_are_refused():
    bank = levels.parse("#####\n#@$.#\n#####").bank(Layout(10, 10))
    env = Sokoban(Layout(17, 20))
    with pytest.raises(ValueError, match="made for boards of 10×10 cells; this environment is for boards of 17×20"):
        env.reset(jax.random.key(0), bank[0])
    with pytest.raises(ValueError, match="made for boards of 10×10"):
        envs_jax.AutoReset(env, bank).reset(jax.random.key(0), 2)
    with pytest.raises(ValueError, match="made for boards of 10×10"):
        Sokoban(Layout(9, 11)).reset(jax.random.key(0), bank[0])  # as many words a board


@pytest.mark.parametrize(
    ("option", "error"),
    [({"reward": "dens"}, ValueError), ({"observation": "rgb"}, ValueError), ({"deadlock_termination": 1}, TypeError)],
)
def test_the_constructor_refuses_what_make_refuses(option, error):
    ((name, value),) = option.items()
    for use in (partial(Sokoban, LAYOUT), make):
        with pytest.raises(error, match=f"^{name}={value!r} is not "):
            use(**option)
