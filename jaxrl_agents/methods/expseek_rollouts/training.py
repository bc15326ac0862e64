"""GRPO on the rollouts that a strategy kept."""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from envs_jax.pytree import pytree_dataclass
from jaxrl_agents import losses
from jaxrl_agents.methods.expseek_rollouts.metrics import Metrics, measure
from jaxrl_agents.methods.expseek_rollouts.rollouts import Rollouts, generate
from jaxrl_agents.methods.expseek_rollouts.settings import INITIAL_TEMPERATURE, Config, Setting, Web


@pytree_dataclass
class Run:
    """What a training run was like; with [settings, seeds] in front where many were trained at once."""

    trained_on: Metrics  # [epochs]: of the rollouts that the policy was updated with
    plain: Metrics  # [looks]: of as many rollouts without retries or selection, of the policy after each look's epochs
    entropy: jax.Array  # float32[epochs]: of the policy, nats, mean over the pages of the rollouts trained on
    steps: jax.Array  # int32[epochs]: of the environment, for the rollouts to train on
    logits: jax.Array  # float32[tasks, S, A]: the policy that came out


@partial(jax.jit, static_argnames=("config",))
def train_many(settings: Setting, webs: Web, keys: jax.Array, config: Config) -> Run:
    """Trains with each setting on each web, all at once.

    Args:
      settings: every field [M].
      webs: leaves [R, …], one for each seed.
      keys: typed keys [R]; a seed has the same web and the same key under all settings.
      config: what all have in common.

    Returns:
      A Run with leaves [M, R, …].
    """
    over_seeds = jax.vmap(partial(train, config=config), (None, 0, 0))
    return jax.vmap(over_seeds, (0, None, None))(settings, webs, keys)


def train(setting: Setting, web: Web, key: jax.Array, *, config: Config) -> Run:
    """Trains one policy from the uniform one; see `train_many` for what runs share."""
    looks = config.num_epochs // config.plain_every
    keys = jax.random.split(key, (looks, config.plain_every + 1))
    start = jnp.zeros((web.num_tasks, *web.links.shape))
    logits, (history, plain) = jax.lax.scan(partial(_until_look, setting, web, config), start, keys)
    trained_on, entropy, steps = jax.tree.map(lambda leaf: leaf.reshape(config.num_epochs), history)
    return Run(trained_on, plain, entropy, steps, logits)


_History = tuple[Metrics, jax.Array, jax.Array]


def _until_look(
    setting: Setting, web: Web, config: Config, logits: jax.Array, keys: jax.Array
) -> tuple[jax.Array, tuple[_History, Metrics]]:
    """Some epochs, one for each key but the last, and then a look at the plain policy."""
    logits, history = jax.lax.scan(partial(_epoch, setting, web, config), logits, keys[:-1])
    plain = _rolled(logits, keys[-1], web, *without_search(setting, config))
    return logits, (history, _measured(plain, web))


def _epoch(setting: Setting, web: Web, config: Config, logits: jax.Array, key: jax.Array) -> tuple[jax.Array, _History]:
    kept = _rolled(logits, key, web, setting, config)
    tasks = tasks_of(config.num_rollouts, web.num_tasks)
    history = _measured(kept, web), _mean_entropy(logits, kept, tasks), kept.steps
    return update(logits, kept, tasks, setting, config), history


def _rolled(logits: jax.Array, key: jax.Array, web: Web, setting: Setting, config: Config) -> Rollouts:
    """The rollouts of an epoch."""
    keys = jax.random.split(key, config.num_rollouts)
    return generate(logits, keys, tasks_of(config.num_rollouts, web.num_tasks), web, setting, config)


def _measured(rollouts: Rollouts, web: Web) -> Metrics:
    return measure(rollouts, *web.links.shape)


def tasks_of(num_rollouts: int, num_tasks: int) -> jax.Array:
    """int32[B]: the task of each rollout of an epoch; those of one task lie together."""
    if num_rollouts % num_tasks:
        raise ValueError(f"num_rollouts={num_rollouts} is not a multiple of the {num_tasks} tasks")
    return jnp.repeat(jnp.arange(num_tasks, dtype=jnp.int32), num_rollouts // num_tasks)


def update(logits: jax.Array, kept: Rollouts, tasks: jax.Array, setting: Setting, config: Config) -> jax.Array:
    """The policy after one step of gradient descent on GRPO's loss.

    The denominator of the ratio is the probability with which an action was drawn: at the temperature of retries where
    it was retried, unless `setting.drawn_at_one`. So retried actions may be clipped in this one update already.
    """
    algorithm = losses.grpo(clip_low=config.clip, clip_high=config.clip, kl_coefficient=config.kl_coefficient)
    groups = jnp.where(setting.one_group, 0, tasks)
    advantages = algorithm.advantages(kept.returns, groups)
    hot = kept.retried & ~jnp.asarray(setting.drawn_at_one)
    temperature = jnp.where(hot, setting.retry_temperature, INITIAL_TEMPERATURE)[..., None]
    visited = _visited(logits, kept, tasks)
    old = losses.log_prob(visited / temperature, kept.actions)
    reference = losses.log_prob(jnp.zeros_like(visited), kept.actions)

    def loss(logits: jax.Array) -> jax.Array:
        log_probs = losses.log_prob(_visited(logits, kept, tasks), kept.actions)
        return algorithm.loss(log_probs, old, advantages, kept.mask, reference_log_probs=reference)[0]

    gradient = jax.grad(loss)(logits)
    gradient = jnp.where(setting.shared_policy, gradient.sum(axis=0), gradient)
    return logits - setting.learning_rate * gradient


def _visited(logits: jax.Array, kept: Rollouts, tasks: jax.Array) -> jax.Array:
    """float32[B, T, A]: the logits where the actions of rollouts were chosen."""
    return logits[tasks[:, None], kept.pages]


def _mean_entropy(logits: jax.Array, kept: Rollouts, tasks: jax.Array) -> jax.Array:
    entropies = losses.entropy(_visited(logits, kept, tasks))
    return jnp.where(kept.mask, entropies, 0).sum() / jnp.maximum(kept.mask.sum(), 1)


def without_search(setting: Setting, config: Config) -> tuple[Setting, Config]:
    """The same, with plain rollouts: nothing triggers, and there is one candidate."""
    return (
        dataclasses.replace(setting, entropy_threshold=np.inf),
        dataclasses.replace(config, num_candidates=1, free_steps=0),
    )
