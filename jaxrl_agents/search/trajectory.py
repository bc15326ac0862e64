"""Paths through a search tree, and playing them."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mctx

from jaxrl_agents.search import arguments, rng
from jaxrl_agents.search.model import RecurrentModel, without_actions
from jaxrl_agents.search.nodes import rounded, where_rows
from jaxrl_agents.search.proposals import float32_logits, legal_actions
from jaxrl_agents.search.types import BacktrackTree, RootFnOutput, SearchTree, Trajectories

_BLANKS = (-1, 0, 0, 0)  # action, length, reward and log-probability of a turn that was not taken


def best_paths(tree: SearchTree | BacktrackTree, k: int, simulated: bool) -> Trajectories:
    """The k best paths of each root."""
    extract = _through_turns if isinstance(tree, SearchTree) else _through_iterations
    return extract(tree, _checked(k, tree.width), simulated)


def principal_variations(tree: mctx.Tree, action: jax.Array, k: int) -> Trajectories:
    """The k best paths of each root under `mcts`, which chose `action` [B] (−1: the root has no legal action).

    The first path starts with that action, the others with the other actions in the order of their visits; all follow
    the most visited children, down to where the episode ends or no action is legal. Log-probabilities are those of
    the prior in the tree (under "muzero" the root's holds mctx's Dirichlet noise), scores the visits of the first
    action.
    """
    return _principal_variations(tree, action, _checked(k, tree.num_actions))


def _checked(k: int, width: int) -> int:
    if arguments.count("k", k) > width:
        raise ValueError(f"k={k}; this search has {width} paths per root: k is 1 … {width}")
    return k


def _pick(leaf: jax.Array, slot: jax.Array) -> jax.Array:
    """Entries [B, k, …] of [B, W, …] at `slot` [B, k]."""
    return jnp.take_along_axis(leaf, slot.reshape(slot.shape + (1,) * (leaf.ndim - 2)), axis=1)


def _masked(condition: jax.Array, leaf: jax.Array, blank: int) -> jax.Array:
    return where_rows(condition, leaf, jnp.full_like(leaf, blank))


def _ranking(tree: Any, k: int) -> jax.Array:
    return jnp.argsort(-tree.final_values, axis=1, stable=True)[:, :k].astype(jnp.int32)


def _assembled(tree: Any, order: jax.Array, played: tuple[jax.Array, ...], simulated: bool) -> Trajectories:
    """From what was played in each turn, [K, B, k, …]; empty slots have no path."""
    scores = _pick(tree.final_values, order)
    exists = (scores > -jnp.inf)[..., None]
    *moves, words = (jnp.moveaxis(leaf, 0, 2) for leaf in played)
    actions, lengths, rewards, log_probs = (
        _masked(exists, leaf, blank) for leaf, blank in zip(moves, _BLANKS, strict=True)
    )
    lengths = lengths.astype(jnp.int32)
    returns = jnp.where(exists[..., 0], _pick(tree.final_returns, order), 0)
    words = jnp.where((lengths > 0)[..., None], words.astype(jnp.int32), -1)
    return Trajectories(
        actions.astype(jnp.int32), lengths, rewards, log_probs, lengths > 0, returns, scores, words, simulated
    )


@partial(jax.jit, static_argnames=("k", "simulated"))
def _through_turns(tree: SearchTree, k: int, simulated: bool) -> Trajectories:
    order = _ranking(tree, k)

    def back(slot: jax.Array, turn: tuple[jax.Array, ...]) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        parent, *played = (_pick(leaf, slot) for leaf in turn)
        return jnp.maximum(parent.astype(jnp.int32), 0), tuple(played)

    rows = (tree.parents, tree.action_from_parent, tree.lengths, tree.rewards, tree.log_probs, tree.candidates)
    _, (*played, candidate) = jax.lax.scan(back, order, rows, reverse=True)
    turns = jnp.broadcast_to(jnp.arange(tree.num_turns, dtype=jnp.int32)[:, None, None], candidate.shape)
    return _assembled(tree, order, (*played, jnp.stack([turns, candidate], axis=-1)), simulated)


@partial(jax.jit, static_argnames=("k", "simulated"))
def _through_iterations(tree: BacktrackTree, k: int, simulated: bool) -> Trajectories:
    order = _ranking(tree, k)
    depth = _pick(tree.path_lengths, order)
    rows = (tree.action_from_parent, tree.lengths, tree.rewards, tree.log_probs)

    def at(leaf: jax.Array, node: jax.Array) -> jax.Array:
        mine = jnp.maximum(node, 0)
        roots = jnp.arange(node.shape[0], dtype=jnp.int32)[:, None]
        return leaf[mine, roots, order]

    def back(node: jax.Array, turn: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        on_path = turn < depth
        played = tuple(_masked(on_path, at(leaf, node), blank) for leaf, blank in zip(rows, _BLANKS, strict=True))
        word = jnp.stack([jnp.broadcast_to(turn, node.shape) if tree.clairvoyant else node, order], axis=-1)
        return jnp.where(on_path, at(tree.parents, node).astype(jnp.int32), node), (*played, word)

    turns = jnp.arange(tree.num_turns, dtype=jnp.int32)
    _, played = jax.lax.scan(back, _pick(tree.final_nodes, order), turns, reverse=True)
    return _assembled(tree, order, played, simulated)


@partial(jax.jit, static_argnames=("k",))
def _principal_variations(tree: mctx.Tree, action: jax.Array, k: int) -> Trajectories:
    roots = jnp.arange(len(tree.parents))[:, None]
    visits = tree.children_visits[:, 0]
    chosen = jnp.arange(tree.num_actions) == action[:, None]
    first = jnp.argsort(jnp.where(chosen, -1 - tree.num_simulations, -visits), axis=1, stable=True)
    first = first[:, :k].astype(jnp.int32)
    stuck = ~legal_actions(tree.children_prior_logits).any(axis=-1)
    log_prior = jax.nn.log_softmax(tree.children_prior_logits.astype(jnp.float32))

    def follow(carry: Any, turn: jax.Array) -> tuple[Any, tuple[jax.Array, ...]]:
        node, scale, returns = carry
        best = jnp.argmax(tree.children_visits[roots, node], axis=-1).astype(jnp.int32)
        action = jnp.where(turn == 0, first, best)
        child = tree.children_index[roots, node, action]
        taken = (child != tree.UNVISITED) & (scale != 0) & ~stuck[roots, node]
        reward = jnp.where(taken, tree.children_rewards[roots, node, action], 0)
        log_prob = jnp.where(taken, log_prior[roots, node, action], 0)
        discount = jnp.where(taken, tree.children_discounts[roots, node, action], 0)
        played = (jnp.where(taken, action, -1), taken.astype(jnp.int32), reward, log_prob)
        returns = returns + rounded(turn, scale * reward)
        return (jnp.where(taken, child, node), scale * discount, returns), played

    acts = jnp.broadcast_to(action[:, None] >= 0, first.shape)
    start = (jnp.zeros_like(first), acts.astype(jnp.float32), jnp.zeros(first.shape, jnp.float32))
    (_, _, returns), played = jax.lax.scan(follow, start, jnp.arange(tree.num_simulations))
    actions, lengths, rewards, log_probs = (jnp.moveaxis(leaf, 0, 2) for leaf in played)
    scores = jnp.take_along_axis(visits, first, axis=1).astype(jnp.float32)
    scores = jnp.where((scores > 0) & acts, scores, -jnp.inf)
    words = jnp.full((*lengths.shape, 2), -1, jnp.int32)  # mctx draws for the whole batch at once
    return Trajectories(actions, lengths, rewards, log_probs, lengths > 0, returns, scores, words, simulated=False)


class Execution(NamedTuple):
    """What became of plans of T primitive actions."""

    rewards: jax.Array  # float32[B, T]
    discounts: jax.Array  # float32[B, T]; 0 from the end of the episode on
    mask: jax.Array  # bool[B, T]: the action was taken
    returns: jax.Array  # float32[B]: discounted
    embeddings: Any  # every leaf [B, T + 1, …], from the root on


def execute(
    params: Any,
    rng_key: jax.Array,
    root: RootFnOutput,
    model: Any,
    actions: jax.Array,
    *,
    tasks: Any = None,
) -> Execution:
    """Plays plans with fresh words, as an environment would: step t uses word 0 of `bits(fold_in(root_key, t))`.

    Args:
      params: passed to the model; with `tasks` the model receives `(params, tasks)`.
      rng_key: a typed key, or one per root, [B]; not the key of the search, whose outcomes it would repeat.
      root: where the plans start, leading axis B.
      model: as in the search.
      actions: integers [B, T], for example `trajectories.plan()`; −1 takes no step, nor does any action where the
        episode has ended.
      tasks: as in the search.
    """
    params, keys, root, model = arguments.inputs(params, rng_key, root, model, tasks, None)
    return _execute(params, keys, root, model, arguments.plan("actions", actions, root, ("T",)))


@jax.jit
def _execute(params: Any, keys: jax.Array, root: RootFnOutput, model: Any, actions: jax.Array) -> Execution:
    def step(carry: tuple[Any, ...], turn: tuple[jax.Array, jax.Array]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        embedding, scale, returns = carry
        index, action = turn
        words = rng.turn_words(keys, index, 1)[0]
        taken = (action >= 0) & (scale != 0)
        row_keys = rng.row_keys(words, rng.STEP)
        reward, discount, after = model.step(params, row_keys, jnp.maximum(action, 0), embedding)
        reward = jnp.where(taken, reward.astype(jnp.float32), 0)
        discount = jnp.where(taken, discount.astype(jnp.float32), (scale != 0).astype(jnp.float32))
        after = where_rows(taken, after, embedding)
        returns = returns + rounded(index, scale * reward)
        return (after, scale * discount, returns), (reward, discount, taken, after)

    zeros = jnp.zeros(root.value.shape, jnp.float32)
    ended = getattr(model, "ended", None)
    scale = zeros + 1 if ended is None else jnp.where(ended(params, root.embedding), zeros, 1)
    start = (root.embedding, scale, zeros)
    turns = (jnp.arange(actions.shape[1], dtype=jnp.int32), actions.T.astype(jnp.int32))
    (_, _, returns), (rewards, discounts, mask, after) = jax.lax.scan(step, start, turns)
    embeddings = jax.tree.map(
        lambda first, rest: jnp.moveaxis(jnp.concatenate([first[None], rest]), 0, 1), root.embedding, after
    )
    return Execution(rewards.T, discounts.T, mask.T, returns, embeddings)


def next_root(
    params: Any, rng_key: jax.Array, root: RootFnOutput, model: Any, action: jax.Array, *, tasks: Any = None
) -> tuple[RootFnOutput, Execution]:
    """Takes the turn that a search chose, with fresh words: the child is the root of the next search.

    Args:
      params: passed to the model; with `tasks` the model receives `(params, tasks)`.
      rng_key: a typed key, or one per root, [B]; a new one for each turn.
      root: the root of the search.
      model: as in the search.
      action: `output.action`, int32[B] or [B, L].
      tasks: as in the search.

    Returns:
      The next root, ready evaluated, and what happened on the way. Where the episode has ended, now or before, the
      next root has no legal action, and a search of it does nothing.
    """
    params, keys, root, model = arguments.inputs(params, rng_key, root, model, tasks, None)
    turn = arguments.plan("action", action, root, (), ("L",))
    played = _execute(params, keys, root, model, turn.reshape(turn.shape[0], -1))
    return _evaluated_root(params, keys, model, root, played), played


@jax.jit
def _evaluated_root(params: Any, keys: jax.Array, model: Any, before: RootFnOutput, played: Execution) -> RootFnOutput:
    """The root where `played` has led to from the root `before`."""
    last = jax.tree.map(lambda leaf: leaf[:, -1], played.embeddings)
    words = rng.turn_words(keys, jnp.int32(played.mask.shape[1]), 1)[0]
    logits, value, embedding = model.evaluate(params, rng.row_keys(words, rng.EVALUATE), last)
    if isinstance(model, RecurrentModel):
        embedding = embedding.embedding
    logits, value = float32_logits(logits), value.astype(jnp.float32)
    ended = (played.discounts == 0).any(axis=1)
    stays = ~legal_actions(before.prior_logits).any(axis=1) & ~played.mask.any(axis=1)  # ended before, or a dead end
    value = jnp.where(ended, 0, jnp.where(stays, before.value, value))
    return RootFnOutput(prior_logits=without_actions(logits, ended | stays), value=value, embedding=embedding)
