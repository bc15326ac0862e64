"""Rollouts equal a plain loop over `reset` and `step`."""

import jax
import numpy as np
import pytest

import envs_jax

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_rollout_equals_a_loop():
    env, tasks = envs_jax.make("FrozenLake-RAGEN-v0")
    task, key, num_steps = tasks[2], jax.random.key(3), 12
    play = jax.jit(lambda env, task, key: envs_jax.rollout(env, envs_jax.random_policy, task, key, num_steps))
    trajectory = jax.device_get(play(env, task, key))
    key_reset, key_steps = jax.random.split(key)
    reset, step, split = jax.jit(env.reset), jax.jit(env.step), jax.jit(jax.random.split)
    mask_of, choose = jax.jit(env.action_mask), jax.jit(envs_jax.random_policy)
    observation, state = reset(key_reset, task)
    total, live = 0.0, True
    for t, key in enumerate(jax.random.split(key_steps, num_steps)):
        key_policy, key_step = split(key)
        jax.tree.map(np.testing.assert_array_equal, lane(trajectory.observation, t), observation)
        assert trajectory.mask[t] == live
        action = choose(key_policy, observation, mask_of(state, task))
        assert trajectory.action[t] == action
        observation, state, reward, terminated, truncated, info = step(key_step, state, action, task)
        total, live = total + reward, live and not (terminated or truncated)
        assert (trajectory.reward[t], trajectory.terminated[t], trajectory.truncated[t]) == (
            reward,
            terminated,
            truncated,
        )
    assert trajectory.episode_return == total and trajectory.success == info["success"]
    jax.tree.map(np.testing.assert_array_equal, lane(trajectory.state, -1), state)


def lane(tree, index):
    return jax.tree.map(lambda leaf: leaf[index], tree)


def test_random_policy_respects_the_mask():
    mask = np.array([False, True, False, True])
    keys = jax.random.split(jax.random.key(0), 200)
    actions = jax.vmap(lambda key: envs_jax.random_policy(key, None, mask))(keys)
    assert set(np.asarray(actions).tolist()) == {1, 3}


def test_wrong_arguments_are_named():
    env, tasks = envs_jax.make("FrozenLake-v0")
    right = {"env": env, "policy": envs_jax.random_policy, "task": tasks[0], "key": jax.random.key(0), "num_steps": 2}
    for name, value, error, message in (
        ("num_steps", 0, ValueError, "num_steps=0 is not in 1"),
        ("num_steps", 2.5, TypeError, "num_steps=2.5 is not an integer"),
        ("env", "FrozenLake-v0", TypeError, "env must be an Environment; got str"),
        ("policy", None, TypeError, "policy=None is not a function"),
        ("policy", lambda key, observation, mask: 0.5, TypeError, "action must have an integer dtype"),
        ("policy", lambda key, observation, mask: mask, TypeError, "integer dtype; got bool"),
        ("policy", lambda key, observation, mask: np.zeros(4, int), ValueError, "action must be a scalar"),
        ("task", tasks, TypeError, "task is a whole TaskBank"),
        ("task", tasks.instances, ValueError, "task holds a batch"),
        ("key", jax.random.PRNGKey(0), TypeError, "typed key"),
        ("key", jax.random.split(jax.random.key(0)), ValueError, "array of keys"),
    ):
        with pytest.raises(error, match=message):
            envs_jax.rollout(**{**right, name: value})
