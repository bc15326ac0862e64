"""The environment as its users meet it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs_jax
from envs_jax import AutoReset, TaskBank
from envs_jax.web.goals import goal_splits, product_split
from envs_jax.web.state_machine import Page
from tests.envs_jax.web import shops

pytestmark = pytest.mark.usefixtures("quick_compilation")

step = jax.jit(lambda env, state, action, task: env.step(jax.random.key(0), state, action, task))


def play(env, task, *commands):
    """The last (observation, state, reward, terminated, truncated, info) after a list of commands."""
    _, state = env.reset(jax.random.key(0), task)
    outcome = None
    for command in commands:
        action = env.parse_action(command, state, task)
        assert action >= 0, command
        outcome = step(env, state, jnp.int32(action), task)
        state = outcome[1]
    return outcome


def buying(env, goal_index):
    """The commands that buy the asked product with the wanted options, found through the instruction."""
    goal = env.shop.goals[goal_index]
    product = env.shop.products[goal.product]
    wanted = dict(goal.options)
    choices = [f"click[{wanted[name]}]" for name in product.options]
    return [f"search[{goal.instruction}]", f"click[{product.asin}]", *choices, "click[Buy Now]"]


def first_page_goal(env, tasks):
    """A goal with options whose product is on the first page of its instruction's results."""
    results = np.asarray(env.links.results)
    for i, goal in enumerate(env.shop.goals):
        row = int(tasks.instances.queries[i, 1])
        if goal.options and goal.product in results[row, : env.actions.page_size]:
            return i
    raise AssertionError("no such goal")


def test_a_purchase():
    env, tasks = shops.synthetic()
    index = first_page_goal(env, tasks)
    task = tasks[index]
    _, state, reward, terminated, truncated, info = play(env, task, *buying(env, index))
    assert reward == 1 and terminated and not truncated and info["success"] and info["score"] == 1
    assert bool(env.success(state, task)) and state.page == Page.DONE and int(state.product) == int(task.product)
    again = step(env, state, jnp.int32(0), task)
    assert again[2] == 0 and again[3] and again[5]["score"] == 1
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), again[1], state))
    assert env.action_mask(state, task).all()


def test_time_limit():
    env, tasks = shops.synthetic(time_limit=3)
    task = tasks[0]
    query = f"search[{env.shop.searches[0][0]}]"
    *_, terminated, truncated, _ = play(env, task, query, "click[next >]", "click[back to search]")
    assert truncated and not terminated


def test_action_texts_and_parsing_are_inverse():
    env, tasks = shops.synthetic()
    index = first_page_goal(env, tasks)
    task = tasks[index]
    _, state = env.reset(jax.random.key(0), task)
    for command in (*buying(env, index)[:2], "click[description]"):
        for action in np.flatnonzero(env.action_mask(state, task)):
            text = env.action_text(int(action), state, task)
            assert env.parse_action(text, state, task) == action
        state = step(env, state, jnp.int32(env.parse_action(command, state, task)), task)[1]
    assert env.action_text(env.actions.buy, state, task) == "buy"  # not on this page: its name
    for text in ("", "click[", "click[buy now]", "Click[< prev]", "search[robes]", "< prev"):
        assert env.parse_action(text, state, task) == -1
    assert env.parse_action("click[< PREV]", state, task) == env.actions.prev
    with pytest.raises(ValueError, match=f"action={env.num_actions} is not one of"):
        env.action_text(env.num_actions, state, task)


def test_invalid_actions_change_nothing_but_the_clock():
    env, tasks = shops.synthetic()
    task = tasks[0]
    _, state = env.reset(jax.random.key(0), task)
    for action in (-1, -7, env.num_actions, env.actions.buy, env.actions.next):
        outcome = step(env, state, jnp.int32(action), task)
        assert (env.state_key(outcome[1]) == env.state_key(state)).all()
        assert outcome[1].steps == 1 and outcome[2] == 0 and not outcome[3]


def test_state_is_small():
    env, tasks = shops.synthetic()
    _, state = env.reset(jax.random.key(0), tasks[0])
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(state)) <= 12


def test_a_saved_bank_knows_its_catalogue(tmp_path):
    env, tasks = shops.synthetic()
    tasks.save(tmp_path / "goals.npz")
    loaded = TaskBank.load(tmp_path / "goals.npz")
    assert loaded.checksum == env.catalogue_checksum and len(loaded) == len(tasks)
    assert jax.tree.all(jax.tree.map(lambda a, b: a.dtype == b.dtype and (a == b).all(), loaded, tasks))
    begin = lambda env: jax.eval_shape(lambda vec: vec.reset(jax.random.key(0), 2), AutoReset(env, loaded))
    begin(env)
    small_pages, _ = shops.synthetic(page_size=3)
    begin(small_pages)  # the same catalogue, shown differently
    other, _ = envs_jax.make("WebShop-v0", seed=shops.SEED + 1, num_products=20)
    with pytest.raises(ValueError, match="tasks belong to catalogue"):
        begin(other)


def test_auto_reset_equals_single_steps():
    env, tasks = shops.synthetic()
    auto = AutoReset(env, tasks)
    _, state = jax.jit(lambda auto, key: auto.reset(key, 8))(auto, jax.random.key(1))
    batched = jax.jit(lambda auto, key, state, action: auto.step(key, state, action))
    masks_of = jax.jit(jax.vmap(env.action_mask))
    rng = np.random.default_rng(0)
    for t in range(30):
        masks = np.asarray(masks_of(state.env_state, state.task))
        actions = np.array([rng.choice(np.flatnonzero(mask)) for mask in masks], np.int32)
        for lane in (0, 5):
            one = jax.tree.map(lambda leaf, lane=lane: leaf[lane], (state.env_state, state.task))
            expected = step(env, one[0], jnp.int32(actions[lane]), one[1])
            if lane == 0:
                first = expected
        _, state, reward, terminated, truncated, info = batched(auto, jax.random.key(t), state, jnp.asarray(actions))
        assert (reward[0], terminated[0], truncated[0]) == (first[2], first[3], first[4])
        same = jax.tree.map(lambda a, b: bool((a[0] == b).all()), info["final_observation"], first[0])
        assert all(same.values())


def test_goals_are_sampled_with_webshops_weights():
    env, tasks = shops.synthetic()
    drawn = jax.vmap(lambda key: tasks.sample(key).goal)(jax.random.split(jax.random.key(0), 20_000))
    share = np.bincount(np.asarray(drawn), minlength=len(tasks)) / 20_000
    by_product = np.bincount(np.asarray(tasks.instances.product), tasks.weights)
    seen = np.bincount(np.asarray(tasks.instances.product), share)
    np.testing.assert_allclose(seen, by_product, atol=0.015)
    assert tasks.weights.max() > 5 * tasks.weights.min()
    del env


def test_product_split_is_disjoint():
    _, tasks = shops.synthetic()
    first, second = product_split(tasks, 0.3)
    products = [set(np.asarray(bank.instances.product).tolist()) for bank in (first, second)]
    assert not products[0] & products[1] and len(first) + len(second) == len(tasks)
    assert len(products[0]) == round(0.3 * len(products[0] | products[1]))
    again, _ = product_split(tasks, 0.3)
    other, _ = product_split(tasks, 0.3, seed=1)
    assert (again.instances.goal == first.instances.goal).all()
    assert set(np.asarray(other.instances.product).tolist()) != products[0]
    with pytest.raises(ValueError, match=r"fraction=1.0 of .* products leaves one side empty"):
        product_split(tasks, 1.0)


def test_goal_splits_are_webshops(data_dir):
    _, tasks = shops.real(data_dir / "webshop")
    test, evaluation, train = goal_splits(tasks)
    goals = [np.asarray(bank.instances.goal) for bank in (test, evaluation, train)]
    assert [(part[0], part[-1]) for part in goals] == [(0, 499), (500, 1499), (1500, 6909)]
    assert test.checksum == tasks.checksum
    with pytest.raises(ValueError, match="tasks has 500 goals; WebShop's splits need more than 1500"):
        goal_splits(test)


def test_splits_are_of_webshop_goals_in_their_order():
    _, tasks = shops.synthetic()
    _, lakes = envs_jax.make("FrozenLake-v0")
    for split in (goal_splits, lambda tasks: product_split(tasks, 0.5)):
        for wrong in (lakes, tasks[0]):
            with pytest.raises(TypeError, match="tasks must be a TaskBank of WebShop goals"):
                split(wrong)
    many = tasks[np.resize(np.arange(len(tasks))[::-1], 1600)]
    with pytest.raises(ValueError, match="tasks is shuffled or a selection; .* in the order of `make`"):
        goal_splits(many)


def test_all_task_leaves_are_per_instance():
    _, tasks = shops.synthetic()
    assert {leaf.shape[0] for leaf in jax.tree.leaves(tasks.instances)} == {len(tasks)}
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(tasks[0])) <= 80


def test_made_twice_compiles_once():
    traces = []

    @jax.jit
    def count(env, state, task):
        traces.append(1)
        return env.observe(state, task)

    for _ in range(2):
        env, tasks = envs_jax.make("WebShop-v0", seed=4, num_products=10)
        count(env, env.initial(jnp.uint32(0), tasks[0]), tasks[0])
    assert len(traces) == 1
    changed = dataclasses.replace(env, reward_mode="binary")
    count(changed, env.initial(jnp.uint32(0), tasks[0]), tasks[0])
    assert len(traces) == 2
