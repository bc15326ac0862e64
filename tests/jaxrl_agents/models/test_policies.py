"""Adapters, turns of several actions, and the functions that searches call."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs_jax
from jaxrl_agents.models import (
    Transformer,
    action_tokens,
    adapter_for,
    config_for,
    decisions,
    episode_functions,
    joined,
    one_turn_policy,
    one_turn_proposer,
    turns,
)

pytestmark = pytest.mark.usefixtures("quick_compilation")

ROWS, ACTIONS = 3, 3
SIZES = {"d_model": 16, "num_layers": 2, "num_heads": 2}


@functools.cache
def lake():
    env, tasks = envs_jax.make("FrozenLake-v0", seed=0, observation="tokens")
    model = Transformer(config_for(env, **SIZES, end_of_turn=True))
    waves = lambda leaf: jnp.asarray(leaf + 0.3 * np.cos(np.arange(leaf.size)).reshape(leaf.shape), jnp.float32)
    params = jax.tree.map(waves, jax.device_get(jax.jit(model.init)(jax.random.key(0))))
    task, _, states = started(env, tasks, jax.random.split(jax.random.key(1), ROWS))
    return env, model, params, task, states


@jax.jit
def started(env, tasks, keys):
    """(tasks, observations, states) of the beginnings of episodes."""
    task = jax.vmap(tasks.sample)(keys)
    return task, *jax.vmap(env.reset)(keys, task)


@jax.jit
def seen(env, states, tasks):
    """(observations, whether the episodes have ended)."""
    return jax.vmap(env.observe)(states, tasks), jnp.logical_or(*jax.vmap(env.status)(states, tasks))


def test_turns_have_the_log_probabilities_of_the_full_forward():
    env, model, params, tasks, states = lake()
    propose = one_turn_proposer(env, model, max_turn_actions=ACTIONS, temperature=0.7)
    turn = jax.jit(propose)((params, tasks), jax.random.split(jax.random.key(2), ROWS), states)
    assert (np.asarray(turn.action >= 0).sum(1) == turn.length).all() and (turn.length >= 1).all()

    @jax.jit
    def of_the_full_forward(params, action):
        observed = jax.tree.map(lambda leaf: leaf[:, None], adapter_for(env)(seen(env, states, tasks)[0]))
        logits, _, _ = model.apply(params, turns(model.config, observed, action[:, None]))
        mask = jax.vmap(env.action_mask)(states, tasks)
        return decisions(model.config, logits, action, mask, temperature=0.7)

    expected = of_the_full_forward(params, turn.action)
    np.testing.assert_allclose(turn.log_prob, expected.log_prob.sum(-1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(turn.entropy, expected.entropy.sum(-1), rtol=1e-4, atol=1e-5)


def test_probabilities_of_all_turns_sum_to_one():
    env, model, _, _, _ = lake()
    logits = np.random.default_rng(0).normal(size=(2, model.config.num_logits)).astype(np.float32)
    every = np.array([[a, b] for a in range(4) for b in (-1, 0, 1, 2, 3)])  # two actions, or one and the end
    log_probs = jax.jit(lambda logits, taken: decisions(model.config, logits, taken).log_prob)
    probabilities = np.exp(np.asarray(log_probs(np.broadcast_to(logits, (20, 2, 5)), every)).sum(-1))
    assert probabilities.sum() == pytest.approx(1, rel=1e-5)


def test_an_episode_in_the_cache_equals_one_forward_over_all_of_it():
    env, model, params, tasks, state = lake()
    keys = jax.random.split(jax.random.key(0), ROWS)
    functions = episode_functions(env, model, num_turns=3, max_turn_actions=ACTIONS)
    step, evaluate = jax.jit(functions.step), jax.jit(functions.evaluate)
    given = (params, tasks)
    actions = np.array([[[1, 2, -1], [0, -1, -1], [1, 1, 1]], [[2, -1, -1], [1, 1, -1], [0, -1, -1]]])  # [K − 1, B, L]
    _, value, node = jax.jit(functions.start)(given, state)
    values, logits, (observation, over) = [value], [node.logits], seen(env, state, tasks)
    observations, ended = [observation], [over]
    for turn in actions:
        for action in turn.T:
            after = step(given, keys, action, node)[2]
            going = lambda a, b, on=action >= 0: np.where(on.reshape(-1, *[1] * (a.ndim - 1)), a, b)
            node = jax.tree.map(going, after, node)
        observation, over = seen(env, node.state, tasks)
        _, value, node = evaluate(given, None, node)
        values, logits = [*values, value], [*logits, node.logits]
        observations, ended = [*observations, observation], [*ended, over]
    taken = np.concatenate([actions, np.full((1, ROWS, ACTIONS), -1)]).transpose(1, 0, 2)

    @jax.jit
    def full_forward(params, observations):
        return model.apply(params, turns(model.config, adapter_for(env)(observations), taken))[:2]

    full_logits, full_value = map(np.asarray, full_forward(params, np.stack(observations, 1)))
    np.testing.assert_allclose(np.stack(logits, 1), full_logits[:, ::ACTIONS], rtol=2e-4, atol=2e-4)
    expected = np.where(np.stack(ended, 1), 0, full_value[:, ::ACTIONS])
    np.testing.assert_allclose(np.stack(values, 1), expected, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("name", ["Sokoban-v0", "TabularWeb-v0", "WebShop-v0"])
def test_every_environment_has_a_policy(name):
    env, tasks = envs_jax.make(name, seed=0, **({} if name.startswith("WebShop") else {"observation": "tokens"}))
    model, adapter = Transformer(config_for(env, d_model=16, num_layers=1, num_heads=2)), adapter_for(env)

    @jax.jit
    def first_turn(tasks, key):
        _, observation, _ = started(env, tasks, jax.random.split(key, 2))
        tokens = adapter(observation)
        assert tokens.num_tokens == adapter.num_tokens
        return one_turn_policy(env, model)(model.init(key), observation), observation, tokens.readout

    (logits, value), observation, readout = first_turn(tasks, jax.random.key(0))
    assert logits.shape == (2, env.num_actions) and value.shape == (2,) and np.isfinite(logits).all()
    if name.startswith("Sokoban"):  # the ring of wall is left out, and the policy reads out where the player stands
        cells = np.asarray(observation).reshape(2, 10, 10)[:, 1:-1, 1:-1].reshape(2, 64)
        np.testing.assert_array_equal(adapter(observation).word, cells)
        assert adapter.num_tokens == 64 and (np.take_along_axis(cells, np.asarray(readout), 1) >= 5).all()


def test_tokens_of_actions():
    _, model, _, _, _ = lake()
    tokens = action_tokens(model.config, np.array([[2, -1]]))
    np.testing.assert_array_equal(tokens.word[0, 0], model.config.num_words + 2)
    np.testing.assert_array_equal(tokens.mask, [[True, False]])
    with pytest.raises(ValueError, match="must all have the same fields"):
        joined([tokens, tokens.replace(mask=None)])


def test_errors():
    env, model, _, _, _ = lake()
    plain, _ = envs_jax.make("FrozenLake-v0", seed=0)
    with pytest.raises(ValueError, match="make the environment with observation='tokens'"):
        adapter_for(plain)
    with pytest.raises(TypeError, match="no adapter for object: give adapter="):
        adapter_for(object())
    with pytest.raises(ValueError, match="num_actions=5 follows from the environment"):
        config_for(env, num_actions=5)
    with pytest.raises(ValueError, match="num_turns=0"):
        episode_functions(env, model, num_turns=0, max_turn_actions=2)
    with pytest.raises(ValueError, match="a turn of one action has no end"):
        one_turn_proposer(env, model, max_turn_actions=1)
    with pytest.raises(ValueError, match="discount=0"):
        episode_functions(env, model, num_turns=2, max_turn_actions=2, discount=0)
