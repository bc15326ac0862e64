"""Random tabular decision processes as models of a search, a different one for each root."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mctx
import numpy as np

from jaxrl_agents import search
from tests.reference.search import Process, random_process


class Table(NamedTuple):
    """Processes, [B, S, …]."""

    next: jax.Array
    reward: jax.Array
    discount: jax.Array
    logits: jax.Array
    value: jax.Array


def processes(number: int, **kwargs: Any) -> list[Process]:
    return [random_process(seed, **kwargs) for seed in range(number)]


def table(tables: list[Process]) -> Table:
    stacked = {name: np.stack([getattr(process, name) for process in tables]) for name in Table._fields}
    return Table(**jax.tree.map(jnp.asarray, stacked | {"next": stacked["next"].astype(np.int32)}))


def step(params: Any, key: jax.Array, action: jax.Array, state: jax.Array) -> Any:
    del key
    _, tasks = params
    rows = jnp.arange(len(state))
    return tasks.reward[rows, state, action], tasks.discount[rows, state, action], tasks.next[rows, state, action]


def evaluate(params: Any, key: jax.Array, state: jax.Array) -> Any:
    del key
    _, tasks = params
    rows = jnp.arange(len(state))
    return tasks.logits[rows, state], tasks.value[rows, state], state


MODEL = search.Model(step, evaluate, lambda state: state.astype(jnp.uint32)[:, None])


def recurrent_fn(params: Any, rng_key: jax.Array, action: jax.Array, state: jax.Array) -> Any:
    """The same model in mctx's form."""
    reward, discount, state = step(params, rng_key, action, state)
    logits, value, _ = evaluate(params, rng_key, state)
    return mctx.RecurrentFnOutput(reward=reward, discount=discount, prior_logits=logits, value=value), state


def root(tasks: Table) -> search.RootFnOutput:
    logits, value = (jnp.asarray(np.asarray(leaf)[:, 0]) for leaf in (tasks.logits, tasks.value))
    return search.RootFnOutput(prior_logits=logits, value=value, embedding=jnp.asarray(np.zeros(len(value), np.int32)))


def keys(number: int, seed: int = 0) -> jax.Array:
    return jax.random.split(jax.random.key(seed), number)


def paths(output: search.SearchOutput, k: int = 1) -> list[list[tuple[int, ...]]]:
    """The actions of the k best paths of each root."""
    found = output.trajectories(k)
    actions, mask = np.asarray(found.actions), np.asarray(found.mask)
    return [[tuple(actions[b, i][mask[b, i]].tolist()) for i in range(k)] for b in range(len(actions))]
