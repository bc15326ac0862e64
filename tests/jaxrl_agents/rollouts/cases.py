"""Small policies that tests of rollouts and training share."""

import functools

import jax
import numpy as np

import envs_jax
from jaxrl_agents.models import Transformer, config_for
from jaxrl_agents.rollouts import Policy

SIZES = {"d_model": 8, "num_layers": 1, "num_heads": 2}


@functools.cache
def lake(**options):
    """FrozenLake's 4×4 map, slippery unless said otherwise: a policy, decided parameters, and the bank of tasks."""
    env, tasks = envs_jax.make("FrozenLake-v0", observation="tokens", **options)
    return _decided(Policy(env, Transformer(config_for(env, **SIZES)))), tasks


@functools.cache
def rooms(**fields):
    """Sokoban rooms, without an action mask."""
    env, tasks = envs_jax.make("Sokoban-RAGEN-v0", seed=0, num_levels=6, observation="tokens")
    model = Transformer(config_for(env, **SIZES, end_of_turn=fields.get("max_turn_actions", 1) > 1))
    return _decided(Policy(env, model, use_action_mask=False, **fields)), tasks


def batch(tasks, number):
    """The first tasks of a bank, again and again."""
    return jax.tree.map(lambda leaf: leaf[np.arange(number) % len(tasks)], jax.device_get(tasks.instances))


def _decided(policy):
    """The policy and parameters under which its actions are far from equally likely."""
    params = jax.device_get(jax.jit(policy.model.init)(jax.random.key(0)))
    heads = params["heads"] | {
        "policy": 100 * params["heads"]["policy"],
        "value": 1 + params["heads"]["value"],
    }
    return policy, params | {"heads": heads}
