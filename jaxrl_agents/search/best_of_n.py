"""Best-of-N: independent rollouts, ranked."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from envs_jax.barriers import once
from jaxrl_agents.search import arguments, history, rng, weights
from jaxrl_agents.search.history import Record, Tally, nodes_of_turn, rows_of_turn
from jaxrl_agents.search.model import SearchModel
from jaxrl_agents.search.nodes import (
    Branching,
    Node,
    Propose,
    ScoreFn,
    added,
    anywhere,
    candidates_of_nodes,
    flattened,
    rolled_on,
    root_nodes,
    within_budget,
)
from jaxrl_agents.search.types import RootFnOutput, SearchOutput


def best_of_n(
    params: Any,
    rng_key: jax.Array,
    root: RootFnOutput,
    model: Any,
    *,
    tasks: Any = None,
    num_turns: int,
    num_rollouts: int,
    propose: Propose | None = None,
    max_turn_actions: int = 1,
    score: str | ScoreFn = "return",
    temperature: float | jax.Array = 1.0,
    weight_temperature: float | jax.Array = 1.0,
    invalid_actions: jax.Array | None = None,
    node_budget: int | jax.Array | None = None,
) -> SearchOutput:
    """Samples N rollouts of K turns from each root and ranks them (TSR, arXiv 2602.11767: argmax R(τ)).

    Rollout i uses word i of each turn, so the rollouts for N/2 are the first half of those for N.
    `output.trajectories(k)` keeps the top k of N.

    Args:
      params: passed to the model; with `tasks` the model receives `(params, tasks)`.
      rng_key: a typed key, or one per root, [B].
      root: mctx's RootFnOutput, leading axis B.
      model: a Model, `from_env(…)`, or mctx's recurrent_fn.
      tasks: static data per root, leading axis B (a TaskBank of B will do).
      num_turns: K.
      num_rollouts: N.
      propose: draws a turn in place of the logits, see `beam_search`.
      max_turn_actions: L, see `beam_search`.
      score: what rollouts are ranked by: "return", "step" (the last turn's reward) or a function, see `beam_search`.
      temperature: divides the logits that actions are drawn from.
      weight_temperature: of `action_weights`: softmax over root actions of the best score among their rollouts.
      invalid_actions: [B, A], nonzero where the root must not act so.
      node_budget: nodes that a root may generate, [] or [B]; a turn that could exceed it is not played.

    Returns:
      A SearchOutput. With N > 1 its outcomes are chosen from simulated ones, hence optimistic where the environment is
      stochastic: `simulated` is True.
    """
    params, keys, root, model = arguments.inputs(params, rng_key, root, model, tasks, invalid_actions)
    options = best_of_n_options(
        root,
        num_turns=num_turns,
        num_rollouts=num_rollouts,
        propose=propose,
        max_turn_actions=max_turn_actions,
        score=score,
        temperature=temperature,
        weight_temperature=weight_temperature,
        invalid_actions=invalid_actions,
        node_budget=node_budget,
    )
    return _search(params, keys, root, model, *options)


def best_of_n_options(
    root: RootFnOutput, *, num_turns: Any, num_rollouts: Any, node_budget: Any, weight_temperature: Any, **turns: Any
) -> tuple[Branching, Any, Any, int, int]:
    """The checked options, as `_search` takes them; of the `root` only shapes are read."""
    width = arguments.count("num_rollouts", num_rollouts)
    num_turns = arguments.count("num_turns", num_turns)
    branching = arguments.branching(root, num_candidates=1, candidates="sample", **turns)
    arguments.check_nodes(width * branching.turn_actions)
    arguments.check_history(root, num_turns, width)
    budget = arguments.node_budget(node_budget, len(root.prior_logits))
    return branching, budget, arguments.finite("weight_temperature", weight_temperature, low=0.0), num_turns, width


class _Carry(NamedTuple):
    turn: jax.Array  # int32[]
    nodes: Node  # [N, B]
    history: history.Record
    tally: Tally


@partial(jax.jit, static_argnames=("num_turns", "width"))
def _search(
    params: Any,
    keys: jax.Array,
    root: RootFnOutput,
    model: SearchModel,
    branching: Branching,
    budget: jax.Array,
    sharpness: jax.Array,
    num_turns: int,
    width: int,
) -> SearchOutput:
    batch_size, num_actions = root.prior_logits.shape
    first = root_nodes(params, model, root, width, copies=width)
    record = history.empty(num_turns, width, batch_size, num_actions, branching)
    tally = Tally.start(batch_size).add(dead_ends=first.dead_end[0].astype(jnp.int32))
    turn = partial(_turn, params, keys, model, branching, budget)
    going = lambda carry: (carry.turn < num_turns) & anywhere(_live(carry, branching, budget))
    end = jax.lax.while_loop(going, turn, _Carry(jnp.int32(0), first, record, tally))
    return _output(keys, end, sharpness, num_actions)


def _live(carry: _Carry, branching: Branching, budget: jax.Array) -> jax.Array:
    """bool[N, B]: the rollouts that go on."""
    return within_budget(carry.nodes, carry.tally.generated, branching.turn_actions, budget)


def _turn(
    params: Any, keys: jax.Array, model: SearchModel, branching: Branching, budget: jax.Array, carry: _Carry
) -> _Carry:
    nodes = carry.nodes
    width = len(nodes.total)
    words = once(carry.turn, partial(rng.turn_words, turn=carry.turn, num_words=width), keys)[:, None]
    live = _live(carry, branching, budget)
    made = flattened(candidates_of_nodes(carry.turn, params, model, branching, words, nodes, live))
    after = rolled_on(carry.turn, params, model, branching, words[:, 0], nodes, made)
    counts = nodes_of_turn(made, after) | rows_of_turn(branching, model, width, width)
    tally = carry.tally.add(generated=added(made.length), **counts)
    slots = jnp.arange(width, dtype=jnp.int32)[:, None] + jnp.zeros_like(made.length)
    record = Record(slots, made.action, made.length, made.reward, made.log_prob, made.score, slots)
    return _Carry(carry.turn + 1, after, history.write(carry.history, carry.turn, record), tally)


@jax.named_scope("output")
def _output(keys: jax.Array, end: _Carry, sharpness: jax.Array, num_actions: int) -> SearchOutput:
    record, nodes = end.history, end.nodes
    actions = record.action[0].astype(jnp.int32)
    best, value = jnp.argmax(nodes.score, axis=0), jnp.max(nodes.score, axis=0)
    action = jnp.take_along_axis(actions, best.reshape(1, -1, *(1,) * (actions.ndim - 2)), axis=0)[0]
    scores = jnp.where(record.length[0] > 0, nodes.score, -jnp.inf)
    if actions.ndim == 2:
        scores = weights.action_scores(scores, actions, num_actions)
    return SearchOutput(
        action=weights.best_action(action, value),
        action_weights=weights.softmax(scores, sharpness).T,
        search_tree=history.as_tree(record, nodes.score, nodes.total, end.turn),
        counts=end.tally.counts(),
        value=value,
        key_hashes=rng.hashed(keys),
        simulated=len(nodes.score) > 1,
    )
