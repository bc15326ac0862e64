"""FrozenLake against the plain-Python version: steps, starts, masks, observations, padding, `make`."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import envs_jax
from envs_jax.frozen_lake import env as frozen_lake
from envs_jax.frozen_lake import maps, rules
from envs_jax.frozen_lake.env import Dynamics, FrozenLake, FrozenLakeState
from tests.envs_jax.frozen_lake.lake import PythonLake, lake_maps

LAYOUT = maps.layout_of((6, 6))  # one layout, one compilation; smaller maps are padded
ENV = FrozenLake(LAYOUT, "index")
RATES = (1 / 3, 0.8, 0.0, 1.0, 0.5)

transitions = jax.jit(jax.vmap(lambda env, *args: env.transition(*args), in_axes=(None, 0, 0, 0, None)))
masks = jax.jit(jax.vmap(lambda env, *args: env.action_mask(*args), in_axes=(None, 0, None)))
initials = jax.jit(jax.vmap(lambda env, *args: env.initial(*args), in_axes=(None, 0, None)))


def states_at(cells):
    row, column = np.array(cells, np.uint8).T
    return FrozenLakeState(jnp.asarray(row), jnp.asarray(column), jnp.zeros(len(cells), jnp.uint16))


def edge_words(rate):
    """Words on both sides of every threshold, and the ends."""
    fail = (1 - rate) / 2
    edges = [0, 2**32 - 1]
    for cumulative in (fail, fail + rate):
        nearest = int(cumulative * 2**32)
        edges += [min(max(nearest + d, 0), 2**32 - 1) for d in (-1, 0, 1)]
    return sorted(set(edges))


@settings(max_examples=25, deadline=None)
@given(rows=lake_maps(), rate=st.sampled_from(RATES))
def test_every_transition_is_the_reference_s(rows, rate):
    rewards = (2.0, -1.0, -0.25)
    lake = PythonLake(rows, rate, rewards)
    task = ENV.map_tasks([rows], Dynamics(rate, reward_schedule=rewards))[0]
    words = edge_words(rate)
    cases = [(cell, a, w) for cell in lake.cells for a in range(4) for w in words]
    cases += [cases[-1]] * (6 * 6 * 4 * 8 - len(cases))  # one shape
    cells, actions, drawn = zip(*cases, strict=True)
    outcome = transitions(ENV, states_at(cells), jnp.array(actions), jnp.array(drawn, jnp.uint32), task)
    outcome = jax.tree.map(np.asarray, outcome)
    for i, (cell, action, word) in enumerate(cases):
        reached = (int(outcome.state.row[i]), int(outcome.state.column[i]))
        if lake.tile(cell) in "GH":
            assert (reached, float(outcome.reward[i])) == (cell, 0.0)
            assert outcome.terminated[i] and outcome.state.steps[i] == 0
        else:
            assert (reached, float(outcome.reward[i])) == lake.step(cell, action, word / 2**32)
            assert bool(outcome.terminated[i]) == (lake.tile(reached) in "GH")
            assert outcome.state.steps[i] == 1 and not outcome.truncated[i]


@settings(max_examples=25, deadline=None)
@given(rows=lake_maps(), rate=st.sampled_from(RATES))
def test_the_mask_is_true_where_some_outcome_moves(rows, rate):
    lake = PythonLake(rows, rate)
    task = ENV.map_tasks([rows], Dynamics(rate))[0]
    cells = (lake.cells * 36)[:36]
    mask = np.asarray(masks(ENV, states_at(cells), task))
    for cell, row in zip(cells, mask, strict=True):
        if lake.tile(cell) in "GH":
            assert row.all()
        else:
            moves = [any(p > 0 and target != cell for p, target, _ in lake.outcomes(cell, a)) for a in range(4)]
            assert row.tolist() == moves


@settings(max_examples=25, deadline=None)
@given(rows=lake_maps(), words=st.lists(st.integers(0, 2**32 - 1), min_size=16, max_size=16))
def test_starts_are_the_reference_s(rows, words):
    lake = PythonLake(rows)
    first = initials(ENV, jnp.array(words, jnp.uint32), ENV.map_tasks([rows])[0])
    assert [(int(r), int(c)) for r, c in zip(first.row, first.column, strict=True)] == [
        lake.start(word / 2**32) for word in words
    ]


def test_starts_are_equally_likely_to_the_word():
    """The words are split among n starts as evenly as 2³² allows: start k owns those from ⌈k 2³² / n⌉."""
    rows = ("SFSF", "FSFF", "SFFG", "SHFS", "FFSF")
    task = ENV.map_tasks([rows])[0]
    starts = PythonLake(rows).starts
    for k, cell in enumerate(starts):
        first = -(-(k * 2**32) // len(starts))
        last = -(-((k + 1) * 2**32) // len(starts)) - 1
        chosen = initials(ENV, jnp.array([first, last] * 8, jnp.uint32), task)
        assert set(zip(chosen.row.tolist(), chosen.column.tolist(), strict=True)) == {cell}


def test_one_batch_holds_maps_slips_rewards_and_limits_of_its_own():
    kinds = [
        (maps.MAPS["4x4"], Dynamics(is_slippery=False, time_limit=3)),
        (("SG",), Dynamics(0.8, reward_schedule=(5, -5, -1), time_limit=7)),
        (("SFH", "FFG"), Dynamics(0.0)),
    ]
    bank = envs_jax.TaskBank.concatenate([ENV.map_tasks([rows], dynamics) for rows, dynamics in kinds])
    step = jax.jit(jax.vmap(ENV.transition))
    task = jax.tree.map(lambda leaf: jnp.tile(leaf, (20,)), bank.instances)
    state = jax.vmap(ENV.initial)(jnp.zeros(60, jnp.uint32), task)
    rng = np.random.default_rng(0)
    lakes = [PythonLake(rows, 1.0 if not d.is_slippery else d.success_rate, d.reward_schedule) for rows, d in kinds]
    places = [lakes[lane % 3].starts[0] for lane in range(60)]
    alive = [True] * 60
    for t in range(1, 11):
        actions, words = rng.integers(0, 4, 60), rng.integers(0, 2**32, 60, dtype=np.uint32)
        outcome = step(state, jnp.asarray(actions), jnp.asarray(words), task)
        state, reward, terminated, truncated = jax.tree.map(np.asarray, outcome)
        for lane in range(60):
            lake, limit = lakes[lane % 3], kinds[lane % 3][1].time_limit
            expected = 0.0
            if alive[lane]:
                places[lane], expected = lake.step(places[lane], int(actions[lane]), int(words[lane]) / 2**32)
                assert bool(truncated[lane]) == (t == limit)
            assert (int(state.row[lane]), int(state.column[lane]), float(reward[lane])) == (*places[lane], expected)
            ended = lake.tile(places[lane]) in "GH"
            assert bool(terminated[lane]) == ended
            alive[lane] = alive[lane] and not ended and t < limit


def test_slips_have_their_probabilities():
    task = ENV.map_tasks([("FFF", "FSF", "FFG")], Dynamics(0.5))[0]
    n = 20_000
    words = jax.random.bits(jax.random.key(0), (n,), jnp.uint32)
    centre = states_at([(1, 1)] * n)
    after = transitions(ENV, centre, jnp.full(n, rules.RIGHT), words, task).state
    reached = np.asarray(after.row) * 3 + np.asarray(after.column)
    counts = np.array([(reached == cell).sum() for cell in (7, 5, 1)])  # down, right, up
    expected = n * np.array([0.25, 0.5, 0.25])
    assert counts.sum() == n
    assert ((counts - expected) ** 2 / expected).sum() < 13.8  # chi-square, 2 degrees of freedom, p = 0.001


def test_observations():
    rows = ("SFH", "FGF")
    layout = maps.layout_of((3, 4))
    index, grid, tokens = (FrozenLake(layout, kind) for kind in ("index", "grid", "tokens"))
    task = index.map_tasks([rows])[0]
    expected = np.array([[1, 1, 2, 0], [1, 3, 1, 0], [0, 0, 0, 0]], np.uint8)
    for row, column in ((0, 0), (0, 2), (1, 1), (1, 2)):
        state = FrozenLakeState(jnp.uint8(row), jnp.uint8(column), jnp.uint16(0))
        codes = expected.copy()
        codes[row, column] += 3
        np.testing.assert_array_equal(grid.observe(state, task), codes)
        np.testing.assert_array_equal(tokens.observe(state, task), codes.reshape(-1))
        assert index.observe(state, task) == 3 * row + column  # of the map's own three columns
        for env in (index, grid, tokens):
            assert env.observation_space.contains(env.observe(state, task))
    assert grid.observe(state, task).dtype == tokens.observe(state, task).dtype == jnp.uint8
    assert index.observe(state, task).dtype == jnp.int32


def test_state_is_small():
    env, tasks = envs_jax.make("FrozenLake-v0")
    _, state = env.reset(jax.random.key(0), tasks[0])
    size = lambda tree: sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
    assert size(state) == 4
    assert size(tasks[0]) == 36


@pytest.mark.parametrize(
    "id, cells, limit, rate, count, observation",
    [
        ("FrozenLake-v0", 16, 100, 1 / 3, 1, "index"),
        ("FrozenLake-8x8-v0", 64, 200, 1 / 3, 1, "index"),
        ("FrozenLake-Random-v0", 64, 200, 1 / 3, 1024, "grid"),
        ("FrozenLake-RAGEN-v0", 16, 10, 1 / 3, 1024, "grid"),
        ("FrozenLake-RAGEN2-v0", 16, 10, 0.8, 1024, "grid"),
    ],
)
def test_registered_presets(id, cells, limit, rate, count, observation):
    env, tasks = envs_jax.make(id)
    assert (env.layout.num_cells, len(tasks), env.observation) == (cells, count, observation)
    assert (np.asarray(tasks.instances.time_limit) == limit).all()
    probabilities = jax.vmap(rules.probabilities)(tasks.instances.slip)
    np.testing.assert_allclose(probabilities[0], [(1 - rate) / 2, rate, (1 - rate) / 2], atol=1e-7)
    assert env.rows_of(tasks[0]) == maps.MAPS.get({16: "4x4", 64: "8x8"}[cells]) or count > 1


def test_make_with_maps_of_the_user():
    env, tasks = envs_jax.make("FrozenLake-v0", map=["SF", "HG"], time_limit=5, observation="tokens")
    assert (env.rows_of(tasks[0]), int(tasks[0].time_limit)) == (("SF", "HG"), 5)
    env, tasks = envs_jax.make("FrozenLake-v0", map="SFG\n\nSF\nFG\nFH\n", size=(4, 5))
    assert [env.rows_of(tasks[i]) for i in range(2)] == [("SFG",), ("SF", "FG", "FH")]
    assert (env.observation, env.observation_space.shape) == ("grid", (4, 5))
    env, tasks = envs_jax.make("FrozenLake-v0", map="8x8")
    assert env.rows_of(tasks[0]) == maps.MAPS["8x8"]


def test_make_random_maps():
    env, tasks = envs_jax.make("FrozenLake-Random-v0", size=(3, 5), num_maps=20, frozen_probability=0.6, seed=3)
    rows = [env.rows_of(tasks[i]) for i in range(20)]
    assert all((len(r), len(r[0]), r[0][0], r[-1][-1]) == (3, 5, "S", "G") for r in rows)
    _, others = envs_jax.make("FrozenLake-Random-v0", size=(3, 5), num_maps=20, frozen_probability=0.6, seed=4)
    assert rows != [env.rows_of(others[i]) for i in range(20)]
    small = env.random_tasks(jax.random.key(0), 5, size=2)
    mixed = envs_jax.TaskBank.concatenate([tasks, small])
    assert {(int(t.rows), int(t.columns)) for t in (mixed[0], mixed[24])} == {(3, 5), (2, 2)}


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"preset": "9x9"}, "preset='9x9' is not one of 4x4, 8x8, random, ragen_v1, ragen_v2"),
        ({"observation": "rgb"}, "observation='rgb' is not one of index, grid, tokens"),
        ({"map": "5x5"}, "map='5x5' is neither one of 4x4, 8x8 nor the text of a map"),
        ({"map": "SF\nFX"}, r"map, line 2, column 2: unknown tile 'X'"),
        (
            {"map": ["SF\nFG", "SF\nFG"]},
            r"map holds 'SF\\nFG', which is more than a row.* as one text with blank lines",
        ),
        ({"size": 0, "preset": "random"}, "size=0; a map has 1 to 64 rows and columns"),
        ({"size": 65, "preset": "random"}, "size=65; a map has 1 to 64"),
        ({"size": (1, 1), "preset": "random"}, r"size=\(1, 1\); .* at least two cells"),
        ({"size": (4, 4, 4), "preset": "random"}, "is neither an integer nor"),
        ({"size": 3}, r"size=\(3, 3\) is too small for a map of 4 × 4 tiles"),
        ({"success_rate": 1.5}, r"success_rate=1.5 is not in \[0, 1\]"),
        ({"success_rate": float("nan")}, "success_rate=nan is not in"),
        ({"reward_schedule": (1, 0)}, r"reward_schedule=\(1, 0\) must be three finite numbers"),
        ({"reward_schedule": (1, 0, float("inf"))}, "must be three finite numbers"),
        ({"time_limit": 0}, "time_limit=0 is not in 1 … 65,535"),
        ({"num_maps": 5}, "num_maps=5 is for random maps; the map is given"),
        ({"frozen_probability": 0.5}, "frozen_probability=0.5 is for random maps"),
        ({"num_maps": 0, "preset": "random"}, "num_maps=0; at least one"),
        ({"frozen_probability": 1.2, "preset": "random"}, r"frozen_probability=1.2 is not in \[0, 1\]"),
        (
            {"frozen_probability": 0.0, "preset": "random", "num_maps": 2, "size": 3},
            "frozen_probability=0.0 is too low for maps of 3 × 3 tiles: 2 of 2 maps had no way",
        ),
    ],
)
def test_make_names_what_is_wrong(arguments, message):
    with pytest.raises(ValueError, match=message):
        frozen_lake.make(**arguments)


def test_task_methods_name_what_is_wrong():
    with pytest.raises(ValueError, match="lake_maps is empty"):
        ENV.map_tasks([])
    with pytest.raises(ValueError, match=r"size=\(7, 2\) exceeds the environment's \(6, 6\)"):
        ENV.random_tasks(jax.random.key(0), 1, size=(7, 2))
    with pytest.raises(ValueError, match="placement='middle' is neither"):
        ENV.random_tasks(jax.random.key(0), 1, placement="middle")


def test_pictures_and_text():
    env, tasks = envs_jax.make("FrozenLake-v0")
    task = tasks[0]
    _, state = env.reset(jax.random.key(0), task)
    at = lambda row, column: dataclasses.replace(state, row=jnp.uint8(row), column=jnp.uint8(column))
    assert env.render_text(state, task) == "PFFF\nFHFH\nFFFH\nHFFG"
    assert env.render_text(at(0, 2), task) == "SFPF\nFHFH\nFFFH\nHFFG"
    assert env.render_text(at(1, 1), task) == "SFFF\nFXFH\nFFFH\nHFFG"
    assert env.render_text(at(3, 3), task) == "SFFF\nFHFH\nFFFH\nHFF√"
    assert env.render_ansi(state, task).count("\x1b[97;44mH \x1b[0m") == 4
    before, after = env.render_rgb(state, task), env.render_rgb(at(0, 1), task)
    assert before.shape == (192, 192, 3) and before.dtype == np.uint8
    changed = (before != after).any(axis=2)
    assert changed[:48, :48].any() and changed[:48, 48:96].any()
    assert not changed[48:].any() and not changed[:, 96:].any()
    kinds = {
        env.render_rgb(at(3, 3), task)[48 * r : 48 * r + 48, 48 * c : 48 * c + 48].tobytes()
        for r, c in ((0, 0), (0, 1), (1, 1), (3, 3))
    }
    assert len(kinds) == 4


def test_pictures_show_the_map_without_its_padding():
    env = FrozenLake(maps.layout_of((5, 6)), "grid")
    task = env.map_tasks([("SF", "FG", "HF")])[0]
    _, state = env.reset(jax.random.key(0), task)
    assert env.render_text(state, task) == "PF\nFG\nHF"
    assert env.render_rgb(state, task).shape == (144, 96, 3)
