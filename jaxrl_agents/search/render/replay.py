"""The environment's states at the nodes of a tree, which keeps actions and words only."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs_jax.environment import Environment
from jaxrl_agents.search import arguments, rng
from jaxrl_agents.search.model import EnvModel
from jaxrl_agents.search.render.nodes import ROOT, Node
from jaxrl_agents.search.types import RootFnOutput, SearchOutput


class Replay(NamedTuple):
    """Row 0 is the root, row n the n-th of the N nodes; concrete arrays."""

    states: Any  # every leaf [N + 1, L, …]: after each primitive action of the turn; what is not taken changes nothing
    taken: np.ndarray  # bool[N + 1, L]
    rewards: np.ndarray  # float32[N + 1]: discounted within the turn
    terminated: np.ndarray  # bool[N + 1], as the following, of the last state
    truncated: np.ndarray
    success: np.ndarray
    stuck: np.ndarray  # no action is legal
    task: Any  # of the root
    redrawn: bool  # the environment draws, and not all words were those of the search


def replay(
    output: SearchOutput,
    root: RootFnOutput,
    model: Any,
    tasks: Any,
    index: int,
    nodes: dict[int, Node],
    rng_key: jax.Array | None,
) -> Replay:
    """Plays the turns of `nodes`, parents before children, from root `index` of a search with this `output`.

    With `rng_key`, that of the search, they are played with their words of the search, if the tree tells which these
    were; else each with a fresh word of its own.

    Raises:
      TypeError: the model was not made by `from_env`, or another argument is of the wrong type.
      ValueError: `rng_key` is another one, or with it a turn comes out differently than in the tree.
    """
    if not isinstance(model, EnvModel):
        raise TypeError(f"model must be one that search.from_env made; got {type(model).__name__}")
    fresh = jax.random.key(0)
    given = fresh if rng_key is None else rng_key
    (_, instances), keys, root, _ = arguments.inputs(None, given, root, model, tasks, None)
    if len(keys) != len(output.value):
        raise ValueError(f"output is of {len(output.value)} roots, root holds {len(keys)}; it must be the searched one")
    own = lambda tree: jax.tree.map(lambda leaf: jnp.asarray(leaf)[index], tree)
    told = rng_key is not None and all(min(node.word) >= 0 for node in nodes.values())
    if told and output.key_hashes is not None and rng.hashed(keys[index][None])[0] != output.key_hashes[index]:
        raise ValueError(f"rng_key is not that of the search: root {index} was searched with another key")
    parents, actions = _rows(nodes)
    words = _searched_words(keys[index], nodes, len(parents)) if told else _fresh_words(fresh, nodes, len(parents))
    task, state = own(instances), own(root.embedding)
    rules = dataclasses.replace(model, policy=None)  # another policy is no other program
    found = jax.device_get(_replayed(rules, task, state, parents, actions, words))
    found = jax.tree.map(lambda leaf: leaf[: len(nodes) + 1], found)
    played = Replay(**found, task=task, redrawn=not told and _draws(model.env, state, task))
    if told:
        _check(played, nodes)
    return played


def states_of_turns(played: Replay) -> Any:
    """The states of the root and the nodes, every leaf [N + 1, …]."""
    return jax.tree.map(lambda leaf: leaf[:, -1], played.states)


def _rows(nodes: dict[int, Node]) -> tuple[np.ndarray, np.ndarray]:
    """The parents, as rows of a Replay, and the actions, −1 after the last; padded so that few programs do for all."""
    number = max(8, 1 << (len(nodes) - 1).bit_length())
    rows = {ROOT: 0} | {number: row for row, number in enumerate(nodes, start=1)}
    parents = np.zeros(number, np.int32)
    actions = np.full((number, max((len(node.action) for node in nodes.values()), default=1)), -1, np.int32)
    for row, node in enumerate(nodes.values()):
        parents[row] = rows[node.parent]
        actions[row, : len(node.action)] = node.action
    return parents, actions


def _fresh_words(key: jax.Array, nodes: dict[int, Node], rows: int) -> Any:
    numbers = np.zeros(rows, np.uint32)
    numbers[: len(nodes)] = [*nodes]
    return _drawn(key, numbers)


@jax.jit
def _drawn(key: jax.Array, numbers: jax.Array) -> jax.Array:
    return jax.vmap(lambda number: jax.random.bits(jax.random.fold_in(key, number), dtype=jnp.uint32))(numbers)


def _searched_words(key: jax.Array, nodes: dict[int, Node], rows: int) -> Any:
    at = np.full((1, rows, 2), -1, np.int32)
    at[0, : len(nodes)] = np.array([node.word for node in nodes.values()]).reshape(-1, 2)
    return _words_at(key[None], at, 1 << int(at[..., 1].max(initial=0)).bit_length())[0]


_words_at = jax.jit(rng.words_at, static_argnums=2)


def _draws(env: Environment[Any, Any], state: Any, task: Any) -> bool:
    """Whether the environment's transitions read their random word."""
    transition = lambda word: env.transition(state, jnp.int32(0), word, task)
    program = jax.make_jaxpr(transition)(jnp.uint32(0)).jaxpr
    read = [*program.outvars, *(variable for equation in program.eqns for variable in equation.invars)]
    return any(variable is program.invars[0] for variable in read)


@jax.jit
def _replayed(model: EnvModel, task: Any, root: Any, parents: Any, actions: Any, words: Any) -> dict[str, Any]:
    """The fields of a Replay that are computed."""
    env = model.env
    stuck = lambda state: ~env.action_mask(state, task).any() if model.use_action_mask else jnp.bool_(False)

    def primitive(carry: tuple[Any, ...], turn: tuple[jax.Array, ...]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        state, word, scale, total = carry
        number, action = turn
        taken = (action >= 0) & ~jnp.logical_or(*env.status(state, task))
        after = env.transition(state, jnp.maximum(action, 0), rng.action_words(word, number), task)
        state = jax.tree.map(lambda old, new: jnp.where(taken, new, old), state, after.state)
        total += jnp.where(taken, scale * after.reward, 0)
        return (state, word, jnp.where(taken, scale * model.discount, scale), total), (state, taken)

    def node(rows: Any, turn: tuple[jax.Array, ...]) -> tuple[Any, tuple[Any, ...]]:
        row, parent, action, word = turn
        before = jax.tree.map(lambda leaf: leaf[parent], rows)
        start = (before, word, jnp.float32(1), jnp.float32(0))
        (after, _, _, reward), (states, taken) = jax.lax.scan(primitive, start, (jnp.arange(length), action))
        return jax.tree.map(lambda leaf, new: leaf.at[row].set(new), rows, after), (states, taken, reward)

    number, length = actions.shape
    room = jax.tree.map(lambda leaf: jnp.zeros((number + 1, *leaf.shape), leaf.dtype).at[0].set(leaf), root)
    turns = (jnp.arange(1, number + 1), parents, actions, words)
    rows, (states, taken, rewards) = jax.lax.scan(node, room, turns)
    first = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (1, length, *leaf.shape)), root)
    states = jax.tree.map(lambda *parts: jnp.concatenate(parts), first, states)
    terminated, truncated = jax.vmap(lambda state: env.status(state, task))(rows)
    return {
        "states": states,
        "taken": jnp.pad(taken, [(1, 0), (0, 0)]),
        "rewards": jnp.pad(rewards, (1, 0)),
        "terminated": terminated,
        "truncated": truncated,
        "success": jax.vmap(lambda state: env.success(state, task))(rows),
        "stuck": jax.vmap(stuck)(rows),
    }


def _check(played: Replay, nodes: dict[int, Node]) -> None:
    """Raises where the search's words lead elsewhere than they did in the search."""
    for row, node in enumerate(nodes.values(), start=1):
        same = np.isclose(played.rewards[row], node.reward, rtol=1e-5, atol=1e-6)
        if not (same and played.taken[row].sum() == len(node.action)):
            raise ValueError(
                f"rng_key, root, model and tasks must be those of the search: a turn of reward {node.reward:g} in the "
                f"tree has reward {played.rewards[row]:g} when played again"
            )
