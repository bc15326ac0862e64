"""PPO on Sokoban through gymnax's interface: a whole training run, environments included, in one jitted function.

    pip install "envs-jax[agents]" "gymnax>=1.0"
    python examples/ppo_gymnax.py

The loop is the one that code written for gymnax before 1.0 has: five values from `step`, one `done`, an automatic
reset. Levels change because `params.tasks` is a bank that every reset draws from. About 30 seconds on two CPU cores.

PPO: Schulman et al., "Proximal Policy Optimization Algorithms" (2017); advantages: Schulman et al., "High-Dimensional
Continuous Control Using Generalized Advantage Estimation" (2015).
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from gymnax.wrappers import LegacyStepAPIWrapper, LogWrapper

import envs_jax
from envs_jax.interop import to_gymnax

ID = "Sokoban-RAGEN-v0"  # 6×6 rooms with one box and 10 moves
NUM_CODES = 7  # of a cell of Sokoban's grid


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes and coefficients."""

    num_envs: int = 128
    num_steps: int = 32  # of each environment between updates
    num_updates: int = 150
    num_epochs: int = 4
    num_minibatches: int = 4
    learning_rate: float = 1e-3
    discount: float = 0.98
    gae_lambda: float = 0.95
    clip: float = 0.2
    entropy_weight: float = 0.01
    value_weight: float = 0.5
    max_grad_norm: float = 0.5


class Step(NamedTuple):
    """One step of every environment; leading axes [num_steps, num_envs]."""

    observation: jax.Array
    action: jax.Array
    log_prob: jax.Array
    value: jax.Array
    reward: jax.Array
    done: jax.Array


class ActorCritic(nn.Module):
    """Logits [B, A] and values [B] from grids of codes [B, H, W]."""

    num_actions: int

    @nn.compact
    def __call__(self, grid: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = jax.nn.one_hot(grid, NUM_CODES).reshape(grid.shape[0], -1)
        for _ in range(2):
            x = nn.relu(nn.Dense(128)(x))
        logits = nn.Dense(self.num_actions, kernel_init=nn.initializers.orthogonal(0.01))(x)
        return logits, nn.Dense(1)(x)[:, 0]


def advantages(steps: Step, last_value: jax.Array, config: Config) -> jax.Array:
    """Generalised advantage estimates, [num_steps, num_envs]."""

    def backward(carry: tuple[jax.Array, jax.Array], step: Step) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        advantage, next_value = carry
        live = config.discount * (1.0 - step.done)
        delta = step.reward + live * next_value - step.value
        advantage = delta + live * config.gae_lambda * advantage
        return (advantage, step.value), advantage

    return jax.lax.scan(backward, (jnp.zeros_like(last_value), last_value), steps, reverse=True)[1]


def loss(weights: Any, network: ActorCritic, steps: Step, advantage: jax.Array, config: Config) -> jax.Array:
    """PPO's clipped objective on a minibatch (leading axis [B])."""
    logits, value = network.apply(weights, steps.observation)
    log_probs = jax.nn.log_softmax(logits)
    log_prob = jnp.take_along_axis(log_probs, steps.action[:, None], axis=1)[:, 0]
    ratio = jnp.exp(log_prob - steps.log_prob)
    scaled = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    clipped = jnp.clip(ratio, 1 - config.clip, 1 + config.clip)
    policy_loss = -jnp.minimum(ratio * scaled, clipped * scaled).mean()
    value_loss = 0.5 * jnp.square(value - (steps.value + advantage)).mean()
    entropy = -(jnp.exp(log_probs) * log_probs).sum(axis=1).mean()
    return policy_loss + config.value_weight * value_loss - config.entropy_weight * entropy


def minibatches(key: jax.Array, data: Any, config: Config) -> Any:
    """Shuffles data [num_steps, num_envs, …] anew for each epoch: [num_epochs · num_minibatches, B, …]."""
    size = config.num_steps * config.num_envs
    orders = [jax.random.permutation(key_epoch, size) for key_epoch in jax.random.split(key, config.num_epochs)]
    rows = jnp.stack(orders).reshape(config.num_epochs * config.num_minibatches, -1)
    return jax.tree.map(lambda leaf: leaf.reshape(size, *leaf.shape[2:])[rows], data)


def train(env: LegacyStepAPIWrapper, params: Any, key: jax.Array, config: Config) -> tuple[Any, dict[str, jax.Array]]:
    """Trains a policy.

    Args:
      env: a gymnax environment behind LogWrapper and LegacyStepAPIWrapper.
      params: its parameters, with the levels.
      key: a random key.
      config: sizes and coefficients.

    Returns:
      (the network's weights, curves [num_updates]: mean `success` and `return` of the episodes that ended).
    """
    network = ActorCritic(env.num_actions)
    optimiser = optax.chain(optax.clip_by_global_norm(config.max_grad_norm), optax.adam(config.learning_rate))
    reset, step = jax.vmap(env.reset, (0, None)), jax.vmap(env.step, (0, 0, 0, None))

    def act(carry: tuple[Any, ...], key: jax.Array) -> tuple[tuple[Any, ...], tuple[Step, dict[str, jax.Array]]]:
        weights, observation, state = carry
        key_action, key_step = jax.random.split(key)
        logits, value = network.apply(weights, observation)
        action = jax.random.categorical(key_action, logits)
        log_prob = jnp.take_along_axis(jax.nn.log_softmax(logits), action[:, None], axis=1)[:, 0]
        keys = jax.random.split(key_step, config.num_envs)
        next_observation, state, reward, done, info = step(keys, state, action, params)
        return (weights, next_observation, state), (Step(observation, action, log_prob, value, reward, done), info)

    def learn(carry: tuple[Any, Any], batch: tuple[Step, jax.Array]) -> tuple[tuple[Any, Any], None]:
        weights, optimiser_state = carry
        grads = jax.grad(loss)(weights, network, *batch, config)
        updates, optimiser_state = optimiser.update(grads, optimiser_state)
        return (optax.apply_updates(weights, updates), optimiser_state), None

    def update(carry: tuple[Any, ...], key: jax.Array) -> tuple[tuple[Any, ...], dict[str, jax.Array]]:
        weights, optimiser_state, observation, state = carry
        key_act, key_learn = jax.random.split(key)
        (_, observation, state), (steps, info) = jax.lax.scan(
            act, (weights, observation, state), jax.random.split(key_act, config.num_steps)
        )
        advantage = advantages(steps, network.apply(weights, observation)[1], config)
        batches = minibatches(key_learn, (steps, advantage), config)
        (weights, optimiser_state), _ = jax.lax.scan(learn, (weights, optimiser_state), batches)
        ended = info["returned_episode"]
        mean = lambda value: jnp.sum(value * ended) / jnp.maximum(jnp.sum(ended), 1)
        curves = {"success": mean(info["success"]), "return": mean(info["returned_episode_returns"])}
        return (weights, optimiser_state, observation, state), curves

    key_init, key_reset, key_updates = jax.random.split(key, 3)
    observation, state = reset(jax.random.split(key_reset, config.num_envs), params)
    weights = network.init(key_init, observation)
    start = (weights, optimiser.init(weights), observation, state)
    (weights, *_), curves = jax.lax.scan(update, start, jax.random.split(key_updates, config.num_updates))
    return weights, curves


def main() -> None:
    """Trains, and prints the share of the episodes that ended solved."""
    env, params = to_gymnax(*envs_jax.make(ID))
    wrapped = LegacyStepAPIWrapper(LogWrapper(env))
    config = Config()
    _, curves = jax.jit(train, static_argnums=(0, 3))(wrapped, params, jax.random.key(0), config)
    for update in range(0, config.num_updates, 10):
        window = slice(update, update + 10)
        steps = (update + 10) * config.num_steps * config.num_envs
        solved, total = curves["success"][window].mean(), curves["return"][window].mean()
        print(f"{steps:9,} steps   solved {solved:6.1%}   return {total:6.2f}")


if __name__ == "__main__":
    main()
