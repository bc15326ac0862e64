"""Searches in the environments: MCTS as mctx has it, and planned values."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import mctx
import numpy as np
import pytest

import envs_jax
from envs_jax.frozen_lake import planning
from jaxrl_agents import search
from tests.jaxrl_agents.search import tables
from tests.jaxrl_agents.search.roots import started

pytestmark = pytest.mark.usefixtures("quick_compilation")


def batch(env, tasks, number):
    """The first tasks of a bank, their initial states and the root of a search there."""
    picked = tasks[np.arange(number)]
    model = search.from_env(env)
    return model, picked, started(env, model, picked.instances)


@pytest.fixture(scope="module")
def maps():
    """Slippery 4×4 maps, different ones: chance and boards differ from root to root."""
    env, tasks = envs_jax.make("FrozenLake-RAGEN-v0", seed=0)
    return env, *batch(env, tasks, 32)


def test_visits_are_mctx_own(maps):
    env, model, tasks, root = maps
    discounted = search.from_env(env, discount=0.9)
    logits = jax.random.normal(jax.random.key(2), root.prior_logits.shape)
    root = search.RootFnOutput(prior_logits=logits, value=root.value, embedding=root.embedding)
    key = jax.random.key(7)
    for policy, options in (("gumbel_muzero", {"gumbel_scale": 0.0}), ("muzero", {"dirichlet_fraction": 0.1})):
        ours = search.mcts(
            None, key, root, discounted, tasks=tasks, num_simulations=24, policy=policy, max_depth=6, **options
        )
        alone = partial(getattr(mctx, f"{policy}_policy"), num_simulations=24, max_depth=6, **options)
        theirs = jax.jit(lambda *args, alone=alone: alone(*args, recurrent_fn=discounted))(
            (None, tasks.instances), key, root
        )
        np.testing.assert_array_equal(ours.search_tree.node_visits, theirs.search_tree.node_visits)
        np.testing.assert_array_equal(ours.action, theirs.action)
        np.testing.assert_allclose(ours.action_weights, theirs.action_weights, rtol=1e-5)


def test_without_masks_actions_without_effect_are_searched():
    env, bank = envs_jax.make("Sokoban-RAGEN-v0", num_levels=16)
    tasks, free, masked = bank[np.arange(16)], search.from_env(env, use_action_mask=False), search.from_env(env)
    root = started(env, free, tasks.instances)
    blank = lambda params, key, state: (jnp.zeros((len(state.steps), 4)), jnp.zeros(len(state.steps)), state)
    apart = search.Model(free.step, blank, free.state_key)
    find = lambda model, root, turns: search.beam_search(
        None, jax.random.key(0), root, model, tasks=tasks, num_turns=turns, beam_width=4, candidates="enumerate"
    )
    ours, theirs = find(free, root, 4), find(apart, root, 4)
    jax.tree.map(np.testing.assert_array_equal, ours.trajectories(4), theirs.trajectories(4))
    legal = jax.vmap(env.action_mask)(root.embedding, tasks.instances).sum(-1)
    assert legal.min() < 4 and (find(free, root, 1).counts.generated == 4).all()
    np.testing.assert_array_equal(find(masked, started(env, masked, tasks.instances), 1).counts.generated, legal)
    over = dataclasses.replace(root.embedding, steps=tasks.instances.time_limit)
    assert (free.root(None, over, tasks).prior_logits == -jnp.inf).all()


def test_mcts_on_a_table_written_apart():
    """mctx, with the process as a function written apart, gives the visits of the Model; the best path follows them."""
    processes = tables.processes(16)
    tasks = tables.table(processes)
    root = tables.root(tasks)
    options = {"num_simulations": 20, "gumbel_scale": 0.0}
    ours = search.mcts(None, jax.random.key(0), root, tables.MODEL, tasks=tasks, **options)
    lowest = jnp.finfo(jnp.float32).min  # as mctx wants it
    every = {name: np.stack([getattr(process, name) for process in processes]) for name in tables.Table._fields}

    def recurrent_fn(params, key, action, state):
        at = lambda name, *index: jnp.asarray(every[name])[(jnp.arange(16), state, *index)]
        after = at("next", action)
        reward, discount, state = at("reward", action), at("discount", action), after
        logits, value = jnp.maximum(at("logits"), lowest), at("value")
        return mctx.RecurrentFnOutput(reward=reward, discount=discount, prior_logits=logits, value=value), after

    policy = jax.jit(partial(mctx.gumbel_muzero_policy, recurrent_fn=recurrent_fn, **options))
    plain = policy(None, jax.random.key(0), root, invalid_actions=jnp.asarray(root.prior_logits == -np.inf))
    np.testing.assert_array_equal(ours.search_tree.node_visits, plain.search_tree.node_visits)
    counts, found, children_visits = jax.device_get(
        (ours.counts, ours.trajectories(1), ours.search_tree.children_visits)
    )
    np.testing.assert_array_equal(counts.generated + counts.wasted, 20)
    for b, process in enumerate(processes):
        visits = children_visits[b, 0]
        assert all(visits[a] == 0 for a in range(process.num_actions) if a not in process.legal(0))
        state = 0
        for action, reward, took in zip(found.actions[b, 0], found.rewards[b, 0], found.mask[b, 0], strict=True):
            if took:
                assert float(reward) == process.reward[state, int(action)]
                state = int(process.next[state, int(action)])


def test_full_lookahead_over_ice_has_the_planned_value():
    """Where nothing slips, it earns the exact discounted optimum if the goal is within sight, else nothing."""
    env, tasks = envs_jax.make("FrozenLake-RAGEN-v0", seed=0, is_slippery=False)
    _, picked, root = batch(env, tasks, 32)
    output = search.lookahead(
        None, jax.random.key(0), root, search.from_env(env, discount=0.9), tasks=picked, num_turns=4, depth=4,
        candidates="enumerate", continuation="full",
    )  # fmt: skip

    def optimum(env, task):
        return planning.start_value(env, task, planning.infinite_horizon(env, task, 0.9).values)

    optima = jax.jit(jax.vmap(optimum, in_axes=(None, 0)))(env, picked.instances)
    within_sight = np.asarray(optima) > 0.9**3.5  # a goal four steps away is worth 0.9³
    np.testing.assert_allclose(output.value, np.where(within_sight, optima, 0), rtol=1e-5)
    assert 0.2 < within_sight.mean() < 1


def test_a_wide_beam_buys_the_best_that_can_be_bought():
    """Every session of three steps in WebShop, by enumeration: search, open a product, buy it."""
    env, bank = envs_jax.make("WebShop-v0")
    model, picked, root = batch(env, bank, 1)
    output = search.beam_search(
        None, jax.random.key(0), root, model, tasks=picked, num_turns=3, beam_width=128, candidates="enumerate"
    )
    task, frontier = picked[0], [(0.0, jax.tree.map(lambda leaf: leaf[0], root.embedding))]
    for _ in range(3):
        assert len(frontier) <= 128
        reached = []
        for total, state in frontier:
            legal, over, rewards, states = jax.device_get(after_every_action(env, state, task))
            for a in [0] if over else np.flatnonzero(legal):
                reached.append((total + float(rewards[a]), jax.tree.map(lambda leaf, a=a: leaf[a], states)))
        frontier = reached
    best = max(total for total, _ in frontier)
    assert best > 0 and float(output.value[0]) == pytest.approx(best, rel=1e-6)


@jax.jit
def after_every_action(env, state, task):
    """(what is legal, whether the episode has ended, and of each action the reward and the state that follow)."""
    every = jnp.arange(env.num_actions)
    then, reward, _, _ = jax.vmap(env.transition, (None, 0, None, None))(state, every, jnp.uint32(0), task)
    return env.action_mask(state, task), jnp.logical_or(*env.status(state, task)), reward, then
