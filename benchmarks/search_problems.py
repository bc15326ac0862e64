"""What the search suites search in: environments with roots, models and policies."""

from __future__ import annotations

import dataclasses
import functools
import importlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from benchmarks.suites import Settings
from benchmarks.workloads import environment
from jaxrl_agents import search

TABLE_ROWS = 1_024
HIDDEN = 512  # units of a layer of the policy network
ROOTS = "roots"  # the axis of a mesh that roots are spread over
NETWORK_CODES = 8  # more than a grid observation of Sokoban has


@dataclasses.dataclass(frozen=True)
class Problem:
    """B roots of one environment."""

    env: Any
    model: Any
    params: Any
    states: Any  # [B, …]
    tasks: Any  # [B, …]
    mesh: Mesh | None = None  # the devices that the roots are spread over; None: they are on one
    apart: bool = False  # whether each device searches its roots by itself

    @property
    def batch_size(self) -> int:
        """B."""
        return jax.tree.leaves(self.states)[0].shape[0]

    def root(self) -> Any:
        """The roots as mctx's RootFnOutput; a plain recurrent_fn evaluates none: equally likely actions, value 0."""
        if not hasattr(self.model, "evaluate"):
            return lean_root(self)
        return root_of(self.model, self.params, self.states, self.tasks)

    def with_model(self, model: Any, params: Any = None) -> Problem:
        """The same roots under another model."""
        return dataclasses.replace(self, model=model, params=params)

    def over(self, num_devices: int, *, apart: bool = False) -> Problem:
        """The same roots, an equal share on each of the first `num_devices` devices.

        With `apart` each searches its share by itself and waits for no other; else one program searches from all roots.
        """
        mesh = Mesh(np.array(jax.local_devices()[:num_devices]), (ROOTS,))
        spread = dataclasses.replace(self, mesh=mesh, apart=apart)
        states, tasks = spread.place((self.states, self.tasks), ROOTS)
        return dataclasses.replace(spread, params=spread.place(self.params), states=states, tasks=tasks)

    def place(self, arrays: Any, *axes: str | None) -> Any:
        """Arrays on the devices of the roots, split along the axis named ROOTS; a copy for each where there is none."""
        return arrays if self.mesh is None else jax.device_put(arrays, NamedSharding(self.mesh, PartitionSpec(*axes)))


def problem(id: str, batch_size: int, settings: Settings, **options: float) -> Problem:
    """The first states of a batch of tasks of the environment made with `options`.

    The policy is uniform over the actions that have an effect, values are 0.
    """
    env, bank = environment(id, settings, **options)
    tasks = bank[np.arange(batch_size) % len(bank)].instances
    _, states = _reset(env, jax.random.split(jax.random.key(0), batch_size), tasks)
    return Problem(env, search.from_env(env), None, states, tasks)


@jax.jit
def _reset(env: Any, keys: jax.Array, tasks: Any) -> Any:
    return jax.vmap(env.reset)(keys, tasks)


@jax.jit
def root_of(model: Any, params: Any, states: Any, tasks: Any) -> Any:
    """A search's root at environment states, under any of our models."""
    if isinstance(model, search.EnvModel):
        return model.root(params, states, tasks)
    keys = jax.random.split(jax.random.key(0), jax.tree.leaves(states)[0].shape[0])
    logits, value, embedding = model.evaluate((params, tasks), keys, states)
    return search.RootFnOutput(prior_logits=logits, value=value, embedding=embedding)


# Policies -----------------------------------------------------------------------------------------------------------


def with_table(base: Problem) -> Problem:
    """A policy that is a table: each state's logits lie in one of 1,024 rows, chosen by a hash of the state.

    The rows differ in how sure they are, so that the entropy differs from state to state.
    """
    rng = np.random.default_rng(0)
    sharpness = rng.uniform(0.2, 4.0, (TABLE_ROWS, 1))
    table = jnp.asarray(sharpness * rng.standard_normal((TABLE_ROWS, base.env.num_actions)), jnp.float32)
    return base.with_model(table_model(base.model), table)


def table_model(dynamics: Any) -> search.Model:
    """The model with the dynamics of one made by `from_env`; its `params` are a table of logits, float32[1,024, A]."""
    env = dynamics.env

    def evaluate(params: Any, key: jax.Array, embedding: Any) -> Any:
        table, tasks = params
        words = jax.vmap(env.state_key)(embedding)
        mixed = words[:, 0]
        for column in range(1, words.shape[1]):
            mixed = (mixed ^ words[:, column]) * np.uint32(0x9E3779B1)
        row = (mixed * np.uint32(0x9E3779B1)) >> np.uint32(22)  # the upper 10 bits
        logits = table[row.astype(jnp.int32)]
        if dynamics.use_action_mask:
            logits = jnp.where(jax.vmap(env.action_mask)(embedding, tasks), logits, -jnp.inf)
        return logits, jnp.zeros(len(row)), embedding

    return search.Model(dynamics.step, evaluate, dynamics.state_key)


def with_rollout_values(base: Problem) -> Problem:
    """FrozenLake where actions are equally likely, and a value is the mean of infinitely many such rollouts.

    That mean is computed exactly, by dynamic programming; `params` are float32[B, cells].
    """
    from envs_jax.frozen_lake import planning

    uniform = jnp.full((base.env.layout.num_cells, base.env.num_actions), 1 / base.env.num_actions)
    evaluated = jax.vmap(lambda task: planning.infinite_horizon(base.env, task, policy=uniform).values)
    return base.with_model(_cell_model(base.env), jax.jit(evaluated)(base.tasks))


@functools.cache
def _cell_model(env: Any) -> search.Model:
    dynamics = search.from_env(env)

    def evaluate(params: Any, key: jax.Array, state: Any) -> Any:
        return jnp.zeros((len(state.row), env.num_actions)), cell_values(env)(params, state), state

    return search.Model(dynamics.step, evaluate, dynamics.state_key)


@functools.cache
def cell_values(env: Any) -> Any:
    """`(params, state [B]) -> [B]`: the values of the cells on which the players stand; 0 where an episode ended."""

    def values_at(params: Any, state: Any) -> jax.Array:
        values, _ = params
        cell = state.row.astype(jnp.int32) * env.layout.columns + state.column
        return jnp.take_along_axis(values, cell[:, None], axis=1)[:, 0]

    return values_at


@functools.cache
def return_and_value(env: Any) -> Any:
    """A score: what was collected, and the value of where that led."""
    return lambda params, candidate: candidate.total + cell_values(env)(params, candidate.embedding)


def with_network(base: Problem) -> Problem:
    """A policy that is a network: two layers of 512 units on a grid observation, with heads for logits and value."""
    network = _network(base.env.num_actions)
    observation = jnp.zeros((1, *base.env.observation_space.shape), jnp.uint8)
    params = jax.jit(network.init)(jax.random.key(0), observation)
    return base.with_model(search.from_env(base.env, network.apply), params)


@functools.cache
def _network(num_actions: int) -> Any:
    nn: Any = importlib.import_module("flax.linen")

    class PolicyNetwork(nn.Module):  # type: ignore[misc]
        @nn.compact
        def __call__(self, grid: jax.Array) -> tuple[jax.Array, jax.Array]:
            x = jax.nn.one_hot(grid, NETWORK_CODES).reshape(len(grid), -1)
            for _ in range(2):
                x = nn.relu(nn.Dense(HIDDEN)(x))
            return nn.Dense(num_actions)(x), nn.Dense(1)(x)[:, 0]

    return PolicyNetwork()


# The leanest thing to search under mctx -------------------------------------------------------------------------------


@functools.cache
def lean_recurrent_fn(env: Any) -> Any:
    """The dynamics as mctx's recurrent_fn: uniform prior, value 0, no masks; tasks are in `params`, not in nodes."""
    import mctx

    def recurrent_fn(params: Any, key: jax.Array, action: jax.Array, state: Any) -> Any:
        _, tasks = params
        words = jax.random.bits(key, action.shape, jnp.uint32)
        state, reward, terminated, truncated = jax.vmap(env.transition)(state, action, words, tasks)
        discount = jnp.where(terminated | truncated, 0.0, 1.0)
        zeros = jnp.zeros(len(action))
        logits = jnp.zeros((len(action), env.num_actions))
        return mctx.RecurrentFnOutput(reward=reward, discount=discount, prior_logits=logits, value=zeros), state

    return recurrent_fn


def lean(base: Problem) -> Problem:
    """The same roots under `lean_recurrent_fn`."""
    return base.with_model(lean_recurrent_fn(base.env))


def lean_root(base: Problem) -> Any:
    """The root that goes with `lean_recurrent_fn`."""
    zeros = jnp.zeros(base.batch_size)
    logits = jnp.zeros((base.batch_size, base.env.num_actions))
    return search.RootFnOutput(prior_logits=logits, value=zeros, embedding=base.states)
