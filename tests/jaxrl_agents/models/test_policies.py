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
    observed = jax.tree.map(lambda leaf: leaf[:, None], adapter_for(env)(seen(env, states, tasks)[0]))
    logits, _, _ = jax.jit(model.apply)(params, turns(model.config, observed, turn.action[:, None]))
    mask = jax.vmap(env.action_mask)(states, tasks)
    expected = decisions(model.config, logits, turn.action, mask, temperature=0.7)
    np.testing.assert_allclose(turn.log_prob, expected.log_prob.sum(-1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(turn.entropy, expected.entropy.sum(-1), rtol=1e-4, atol=1e-5)


def test_probabilities_of_all_turns_sum_to_one():
    env, model, _, _, _ = lake()
    logits = jax.random.normal(jax.random.key(0), (2, model.config.num_logits))
    every = [[a, b] for a in range(4) for b in (-1, 0, 1, 2, 3)]  # two actions, or one and the end
    result = decisions(model.config, jnp.broadcast_to(logits, (20, 2, 5)), jnp.array(every))
    assert float(jnp.exp(result.log_prob.sum(-1)).sum()) == pytest.approx(1, rel=1e-5)


def test_an_episode_in_the_cache_equals_one_forward_over_all_of_it():
    env, model, params, tasks, state = lake()
    functions = episode_functions(env, model, num_turns=3, max_turn_actions=ACTIONS)
    step, evaluate = jax.jit(functions.step), jax.jit(functions.evaluate)
    given = (params, tasks)
    actions = np.array([[[1, 2, -1], [0, -1, -1], [1, 1, 1]], [[2, -1, -1], [1, 1, -1], [0, -1, -1]]])  # [K − 1, B, L]
    _, value, node = jax.jit(functions.start)(given, state)
    values, logits, (observation, over) = [value], [node.logits], seen(env, state, tasks)
    observations, ended = [observation], [over]
    for turn in actions:
        for action in turn.T:
            after = step(given, jax.random.split(jax.random.key(0), ROWS), jnp.asarray(action), node)[2]
            going = lambda a, b, on=action >= 0: np.where(on.reshape(-1, *[1] * (a.ndim - 1)), a, b)
            node = jax.tree.map(going, after, node)
        observation, over = seen(env, node.state, tasks)
        _, value, node = evaluate(given, None, node)
        values, logits = [*values, value], [*logits, node.logits]
        observations, ended = [*observations, observation], [*ended, over]
    observed = adapter_for(env)(jnp.stack(observations, 1))
    taken = np.concatenate([actions, np.full((1, ROWS, ACTIONS), -1)]).transpose(1, 0, 2)
    full_logits, full_value, _ = jax.jit(model.apply)(params, turns(model.config, observed, taken))
    np.testing.assert_allclose(jnp.stack(logits, 1), full_logits[:, ::ACTIONS], rtol=2e-4, atol=2e-4)
    expected = jnp.where(jnp.stack(ended, 1), 0, full_value[:, ::ACTIONS])
    np.testing.assert_allclose(jnp.stack(values, 1), expected, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("name", ["Sokoban-v0", "TabularWeb-v0", "WebShop-v0"])
def test_every_environment_has_a_policy(name):
    env, tasks = envs_jax.make(name, seed=0, **({} if name.startswith("WebShop") else {"observation": "tokens"}))
    model = Transformer(config_for(env, **SIZES))
    _, observation, _ = started(env, tasks, jax.random.split(jax.random.key(0), 2))
    adapter = adapter_for(env)
    assert adapter(observation).num_tokens == adapter.num_tokens
    params = jax.jit(model.init)(jax.random.key(0))
    logits, value = jax.jit(one_turn_policy(env, model))(params, observation)
    assert logits.shape == (2, env.num_actions) and value.shape == (2,) and np.isfinite(logits).all()
    if name.startswith("Sokoban"):
        assert (np.take_along_axis(np.asarray(observation), np.asarray(adapter(observation).readout), 1) >= 5).all()


def test_tokens_of_actions():
    _, model, _, _, _ = lake()
    tokens = action_tokens(model.config, jnp.array([[2, -1]]))
    np.testing.assert_array_equal(tokens.word[0, 0], model.config.num_words + 2)
    np.testing.assert_array_equal(tokens.mask, [[True, False]])
    with pytest.raises(ValueError, match="must all have the same fields"):
        joined([tokens, tokens.replace(mask=None)])


def test_errors():
    env, model, _, _, _ = lake()
    plain, _ = envs_jax.make("FrozenLake-v0", seed=0)
    with pytest.raises(ValueError, match="make the environment with observation='tokens'"):
        adapter_for(plain)
    with pytest.raises(ValueError, match="num_actions=5 follows from the environment"):
        config_for(env, num_actions=5)
    with pytest.raises(ValueError, match="num_turns=0"):
        episode_functions(env, model, num_turns=0, max_turn_actions=2)
    with pytest.raises(ValueError, match="a turn of one action has no end"):
        one_turn_proposer(env, model, max_turn_actions=1)
    with pytest.raises(ValueError, match="discount=0"):
        episode_functions(env, model, num_turns=2, max_turn_actions=2, discount=0)
