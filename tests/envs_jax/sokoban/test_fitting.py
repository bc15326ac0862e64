"""Levels on boards of another size are those that files would give."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import envs_jax
from envs_jax.sokoban import Layout, Sokoban, deadlocks, fit, generator, levels, rules
from envs_jax.tasks import TaskBank, make_bank
from envs_jax.web.tabular import TabularWeb, TabularWebState
from tests.envs_jax.sokoban.positions import random_text
from tests.reference import sokoban as reference

SMALL, LARGE = Layout(7, 8), Layout(18, 20)  # one word and nine, one and two bytes for the player's cell
LEVEL = "#######\n#     #\n# @$ .#\n#     #\n#######"


def assert_equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


def random_levels(layout, seed, number):
    rng = np.random.default_rng(seed)
    return levels.parse("\n\n".join(random_text(layout, rng, int(rng.integers(1, 4))) for _ in range(number)))


@settings(max_examples=30, deadline=None)
@given(st.integers(3, 12), st.integers(4, 40), st.integers(0, 12), st.integers(0, 12), st.integers(0, 2**32 - 1))
def test_fitted_levels_are_those_of_the_text(height, width, more_rows, more_columns, seed):
    layout, to = Layout(height + 2, width), Layout(height + 2 + more_rows, width + more_columns)
    read = random_levels(layout, seed, 3)
    assert_equal(fit(layout, read.bank(time_limit=9), to), read.bank(to, time_limit=9))
    assert_equal(fit(to, read.bank(to, time_limit=9), layout), read.bank(time_limit=9))  # and back


def test_only_walls_are_cut_off():
    text = "########\n#@$.####\n########\n########\n########"
    tall = levels.parse("#####\n#@$.#\n#####").bank(Layout(9, 5))
    assert_equal(fit(Layout(5, 8), levels.parse(text).bank(), Layout(9, 5)), tall)
    bank = TaskBank.concatenate([levels.parse(text).bank(Layout(5, 8)), levels.parse(LEVEL).bank(Layout(5, 8))])
    message = r"tasks\[1\] needs a board of 5×7, larger than to=Layout\(9, 5\); all 2 levels fit in Layout\(5, 7\)"
    with pytest.raises(ValueError, match=message):
        fit(Layout(5, 8), bank, Layout(9, 5))


def test_weights_limits_and_dead_squares_stay():
    read = random_levels(SMALL, 0, 3)
    bank = deadlocks.with_dead_squares(SMALL, read.bank(time_limit=9))
    weighted = make_bank(bank.instances, weights=[1, 0, 3])
    fitted = fit(SMALL, weighted, LARGE)
    assert_equal(fitted.instances, deadlocks.with_dead_squares(LARGE, read.bank(LARGE, time_limit=9)).instances)
    assert_equal(fitted.cumulative_weights, weighted.cumulative_weights)


def test_plans_stay():
    task = levels.parse(LEVEL).bank().instances
    fitted = fit(Layout(5, 7), make_bank(task), LARGE)[0]
    plan = jnp.asarray(reference.solve_moves(reference.parse_level(LEVEL)), jnp.int32)
    outcome = rules.replay(LARGE, fitted.walls, fitted.boxes, fitted.player, plan)
    assert bool(outcome.legal.all())
    assert levels.actions_to_lurd(LARGE, fitted, plan) == "RR"


def test_one_program_plays_a_mixture():
    env = Sokoban(Layout(7, 8))
    mixed = TaskBank.concatenate(
        [fit(Layout(5, 7), levels.parse(LEVEL).bank(), SMALL), random_levels(SMALL, 1, 2).bank()]
    )
    observations, _ = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), 3), mixed.instances)
    assert levels.codes_to_text(observations[0][:5, :7]) == LEVEL
    assert not observations[0][5:].any() and not observations[0][:, 7].any()


def test_wrong_tasks_are_named():
    bank = levels.parse(LEVEL).bank()
    with pytest.raises(ValueError, match="tasks were made for boards of 5×7 cells; layout is for boards of 7×8 cells"):
        fit(SMALL, bank, LARGE)
    unnamed = make_bank(dataclasses.replace(bank.instances, made_for=""))
    with pytest.raises(ValueError, match="tasks were made for boards of 1 words; layout is for boards of 10×10 cells"):
        fit(Layout(10, 10), unnamed, LARGE)
    with pytest.raises(TypeError, match="tasks must be a TaskBank of Sokoban levels; got SokobanTask"):
        fit(SMALL, bank[0], LARGE)
    _, lakes = envs_jax.make("FrozenLake-v0")
    with pytest.raises(TypeError, match="TaskBank of Sokoban levels"):
        fit(SMALL, lakes, LARGE)


def test_a_layout_that_is_not_the_tasks_is_refused_everywhere(tmp_path):
    bank, other = levels.parse(LEVEL).bank(), Layout(7, 5)  # as many words a board
    uses = {
        "tasks were": (lambda layout: levels.write(tmp_path / "levels.xsb", layout, bank)),
        "tasks were ": (lambda layout: deadlocks.with_dead_squares(layout, bank)),
        "task was": (lambda layout: levels.to_text(layout, bank[0])),
        "task was ": (lambda layout: levels.actions_to_lurd(layout, bank[0], [3])),
    }
    for subject, use in uses.items():
        with pytest.raises(ValueError, match=f"{subject.strip()} made for boards of 5×7 cells; layout is for .* 7×5"):
            use(other)
    key = jax.random.key(0)
    uses["fit"] = lambda layout: fit(layout, bank, LARGE)
    uses["bank"] = lambda layout: levels.parse(LEVEL).bank(layout)
    uses["generate"] = lambda layout: generator.generate(key, 1, layout=layout, num_boxes=1)
    uses["Sokoban"] = Sokoban
    for use in uses.values():
        with pytest.raises(TypeError, match=r"layout=\(10, 10\) must be a Layout: Layout\(10, 10\)"):
            use((10, 10))
    with pytest.raises(TypeError, match=r"to=18 must be a Layout: Layout\(height, width\)"):
        fit(Layout(5, 7), bank, 18)
    with pytest.raises(TypeError, match="task must be a SokobanTask, such as tasks.0.; got TaskBank"):
        levels.to_text(Layout(5, 7), bank)
    assert not any(tmp_path.iterdir())


# Tasks and states of another size in an environment ------------------------------------------------------------------


def test_tasks_of_another_size_are_refused_with_the_way_out():
    env, bank = Sokoban(Layout(10, 10)), levels.parse(LEVEL).bank()
    way_out = r"; play it in an environment of that size, or fit the tasks with envs_jax\.sokoban\.fit"
    for use in (
        lambda: env.reset(jax.random.key(0), bank[0]),
        lambda: jax.vmap(env.reset, in_axes=(None, 0))(jax.random.key(0), bank.instances),
        lambda: envs_jax.AutoReset(env, bank),
    ):
        message = "task was made for boards of 5×7 cells; this environment is for boards of 10×10 cells"
        with pytest.raises(ValueError, match=message + way_out):
            use()
    unnamed = dataclasses.replace(bank[0], made_for="")
    message = r"task is of another board size: task\.walls has 1 words, boards of size=\(10, 10\) have 2"
    with pytest.raises(ValueError, match=message + way_out):
        env.reset(jax.random.key(0), unnamed)


def test_states_of_another_size_are_refused_before_tracing():
    small, large = Sokoban(Layout(5, 7)), Sokoban(Layout(10, 10))
    task = levels.parse(LEVEL).bank()[0]
    _, state = small.reset(jax.random.key(0), task)
    fitted = fit(small.layout, make_bank(jax.tree.map(lambda leaf: leaf[None], task)), large.layout)[0]
    message = r"state is of another board size: state\.boxes has 1 words, boards of size=\(10, 10\) have 2"
    for use in (
        lambda: large.step(jax.random.key(0), state, 0, fitted),
        lambda: jax.jit(large.step)(jax.random.key(0), state, 0, fitted),
        lambda: large.action_mask(state, fitted),
        lambda: large.render_text(state, fitted),
    ):
        with pytest.raises(ValueError, match=message):
            use()
    with pytest.raises(ValueError, match=message):
        large.state_key(state)
    batch = jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), state)
    with pytest.raises(ValueError, match=r"state holds a batch \(steps has shape \(3,\)\)"):
        small.state_key(batch)
    assert jax.vmap(small.state_key)(batch).shape == (3, 2)
    lake, tasks = envs_jax.make("FrozenLake-v0")
    with pytest.raises(TypeError, match="state must be a SokobanState, .* got FrozenLakeState"):
        large.step(jax.random.key(0), lake.reset(jax.random.key(0), tasks[0])[1], 0, fitted)


def test_states_of_another_web_are_refused():
    web = TabularWeb(jnp.zeros((20, 5), jnp.uint8), num_tasks=1, checksum="")
    state = TabularWebState(np.uint8(0), (np.uint32(0),), np.uint16(0))
    with pytest.raises(ValueError, match=r"state\.found has 1 words, that of 20 pages × 5 links has 4"):
        web.check_state(state)
