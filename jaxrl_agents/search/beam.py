"""Beam search over turns: W nodes, M candidates each, the best W go on."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs_jax.barriers import once
from jaxrl_agents.search import arguments, dedup, history, packing, rng, selection, weights
from jaxrl_agents.search.history import Record, Tally, nodes_of_turn, rows_of_turn
from jaxrl_agents.search.model import SearchModel, replayed
from jaxrl_agents.search.nodes import (
    Branching,
    Children,
    Node,
    Propose,
    ScoreFn,
    added,
    anywhere,
    candidates_of_nodes,
    commit,
    evaluated,
    flattened,
    root_nodes,
    small_int,
    within_budget,
)
from jaxrl_agents.search.proposals import Candidates
from jaxrl_agents.search.types import RootFnOutput, SearchOutput


def beam_search(
    params: Any,
    rng_key: jax.Array,
    root: RootFnOutput,
    model: Any,
    *,
    tasks: Any = None,
    num_turns: int,
    beam_width: int,
    num_candidates: int | None = None,
    candidates: Candidates = "sample",
    propose: Propose | None = None,
    max_turn_actions: int = 1,
    score: str | ScoreFn = "return",
    deduplicate: bool = False,
    temperature: float | jax.Array = 1.0,
    weight_temperature: float | jax.Array = 1.0,
    invalid_actions: jax.Array | None = None,
    node_budget: int | jax.Array | None = None,
) -> SearchOutput:
    """Searches with a beam (TSR, arXiv 2602.11767: B_{t+1} = Top_W{τ·a | τ ∈ B_t, a ∈ candidates of τ}).

    Each turn every node of the beam makes M candidates, and the W best of these W·M are the next beam, best first;
    ties go to the lower index (w · M + m). A node that has ended, or has no legal action, stays as one candidate.

    Args:
      params: passed to the model; with `tasks` the model receives `(params, tasks)`.
      rng_key: a typed key, or one per root, [B].
      root: mctx's RootFnOutput, leading axis B.
      model: a Model, `from_env(…)`, or mctx's recurrent_fn.
      tasks: static data per root, leading axis B (a TaskBank of B will do).
      num_turns: K.
      beam_width: W.
      num_candidates: M; None for all actions with candidates="enumerate".
      candidates: "sample" from the logits with replacement (as TSR), "gumbel" without (Gumbel-top-k), or "enumerate".
      propose: draws one candidate instead: `(params, key [B], embedding [B, …]) -> Proposal`; its turn ends before an
        action outside 0 … A − 1, is played even where it is illegal, and is none where its log-probability is NaN.
      max_turn_actions: L; above 1 a turn is up to L primitive actions, which end early with the episode. `propose`
        then returns actions [B, L]; without it a turn is sampled from the model's logits step by step.
      score: "return" ranks by the discounted return from the root, "step" by the turn's reward, a function
        `(params, Candidate) -> [B]` by its result; its scores must be above −inf.
      deduplicate: keep only the first of the candidates of a turn that share a `model.state_key`, best score first.
      temperature: divides the logits that candidates are drawn from.
      weight_temperature: of `action_weights`: softmax over root actions of the best score below each (of the nodes
        in the last beam, or the action's own where none is left).
      invalid_actions: [B, A], nonzero where the root must not act so, as in mctx.
      node_budget: nodes that a root may generate, [] or [B]; a turn that could exceed it is not played.

    Returns:
      A SearchOutput. With M > 1 its outcomes are chosen from simulated ones, hence optimistic where the environment is
      stochastic: `simulated` is True.
    """
    params, keys, root, model = arguments.inputs(params, rng_key, root, model, tasks, invalid_actions)
    options = beam_options(
        root,
        num_turns=num_turns,
        beam_width=beam_width,
        num_candidates=num_candidates,
        candidates=candidates,
        deduplicate=deduplicate,
        propose=propose,
        max_turn_actions=max_turn_actions,
        score=score,
        temperature=temperature,
        weight_temperature=weight_temperature,
        invalid_actions=invalid_actions,
        node_budget=node_budget,
    )
    if deduplicate and getattr(model, "state_key", None) is None:
        raise ValueError("deduplicate=True needs state keys: a Model with a `state_key` function, or from_env")
    return _search(params, keys, root, model, *options)


def beam_options(
    root: RootFnOutput,
    *,
    num_turns: Any,
    beam_width: Any,
    deduplicate: Any,
    node_budget: Any,
    weight_temperature: Any,
    **turns: Any,
) -> tuple[Branching, Any, Any, int, int, bool]:
    """The checked options, as `_search` takes them; of the `root` only shapes are read."""
    width = arguments.count("beam_width", beam_width)
    num_turns = arguments.count("num_turns", num_turns)
    branching = arguments.branching(root, **turns)
    deduplicate = arguments.flag("deduplicate", deduplicate)
    arguments.check_nodes(width * branching.num_candidates * branching.turn_actions)
    arguments.check_history(root, num_turns, width)
    budget = arguments.node_budget(node_budget, len(root.prior_logits))
    sharpness = arguments.finite("weight_temperature", weight_temperature, low=0.0)
    return branching, budget, sharpness, num_turns, width, deduplicate


class _Carry(NamedTuple):
    turn: jax.Array  # int32[]
    nodes: Node
    origin: jax.Array  # [W, B]: the root candidate that a node descends from
    history: Record
    tally: Tally
    root_scores: jax.Array  # float32[M, B]: of the first turn's candidates
    root_actions: jax.Array  # [M, B] or [M, B, L]


@partial(jax.jit, static_argnames=("num_turns", "width", "deduplicate"))
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
    deduplicate: bool,
) -> SearchOutput:
    batch_size, num_actions = root.prior_logits.shape
    first = root_nodes(params, model, root, width)
    record = history.empty(num_turns, width, batch_size, num_actions, branching)
    tally = Tally.start(batch_size).add(dead_ends=first.dead_end.sum(0, dtype=jnp.int32))
    shape = (branching.num_candidates, batch_size)
    origin = jnp.zeros((width, batch_size), small_int(branching.num_candidates))
    root_actions = jnp.full((*shape, *record.action.shape[3:]), -1, jnp.int32)
    start = _Carry(jnp.int32(0), first, origin, record, tally, jnp.full(shape, -jnp.inf, jnp.float32), root_actions)
    turn = partial(_turn, params, keys, model, branching, budget, deduplicate)
    going = lambda carry: (carry.turn < num_turns) & anywhere(_live(carry, branching, budget))
    end = jax.lax.while_loop(going, turn, start)
    return _output(keys, end, sharpness, num_actions, simulated=branching.num_candidates > 1)


def _live(carry: _Carry, branching: Branching, budget: jax.Array) -> jax.Array:
    """bool[W, B]: the nodes that are expanded."""
    cost = branching.num_candidates * branching.turn_actions
    return within_budget(carry.nodes, carry.tally.generated, cost, budget)


def _turn(
    params: Any,
    keys: jax.Array,
    model: SearchModel,
    branching: Branching,
    budget: jax.Array,
    deduplicate: bool,
    carry: _Carry,
) -> _Carry:
    nodes = carry.nodes
    width, batch_size = nodes.total.shape
    number = branching.num_candidates
    words = once(carry.turn, partial(rng.turn_words, turn=carry.turn, num_words=width * number), keys).reshape(
        width, number, batch_size
    )
    live = _live(carry, branching, budget)
    children = candidates_of_nodes(carry.turn, params, model, branching, words, nodes, live)
    made = _offspring(model, branching, deduplicate, carry.history.action.dtype, flattened(children))
    ranked, merged = made.score, jnp.zeros(batch_size, jnp.int32)
    if made.state_key is not None:
        ranked, merged = dedup.keep_best(carry.turn, made.score, made.state_key)
    score, chosen = selection.best(carry.turn, ranked, width)
    kept = once(carry.turn, selection.take, made.packed, chosen).unpack()
    parents = jax.lax.div(chosen, np.int32(number))  # the floor of `//` costs more: it allows for negative numbers
    held = nodes.embedding if replayed(model) else None, nodes.total, nodes.scale, nodes.score, carry.origin
    *held, origin = once(carry.turn, selection.take, packing.pack(held), parents).unpack()
    if replayed(model):
        chosen_words = selection.take(words.reshape(-1, batch_size), chosen)
        kept = commit(carry.turn, params, model, branching, chosen_words, tuple(held), kept, score > -jnp.inf)
    total = score if branching.score == "return" else kept.total
    fields = {"total": total, "scale": kept.scale, "score": score, "filled": score > -jnp.inf}
    after = evaluated(carry.turn, model, params, words[:, 0], kept.embedding, **fields)
    counts = nodes_of_turn(kept, after) | rows_of_turn(branching, model, width * number, width)
    tally = carry.tally.add(generated=added(made.length), merged=merged, **counts)
    if replayed(model):
        tally = tally.add(**rows_of_turn(branching, model, width, 0, planned=True))
    record = Record(parents, kept.action, kept.length, kept.reward, kept.log_prob, score, chosen)
    first = carry.turn == 0
    origin = jnp.where(first, jax.lax.rem(chosen, np.int32(number)), origin).astype(carry.origin.dtype)
    return _Carry(
        carry.turn + 1,
        after,
        origin,
        history.write(carry.history, carry.turn, record),
        tally,
        jnp.where(first, made.root_scores, carry.root_scores),
        jnp.where(first, made.root_actions, carry.root_actions),
    )


class _Offspring(NamedTuple):
    """The candidates of a turn, C = W · M for each root."""

    score: jax.Array  # float32[C, B]
    state_key: tuple[jax.Array, ...] | None  # the words of the keys, uint32[C, B] each
    packed: packing.Packed  # Children, without scores; without what playing the chosen ones again will tell
    length: jax.Array  # [C, B]
    root_scores: jax.Array  # float32[M, B]: of the first node's candidates
    root_actions: jax.Array  # int32[M, B] or int32[M, B, L]


@jax.named_scope("settle")
def _offspring(
    model: SearchModel, branching: Branching, with_keys: bool, action_dtype: np.dtype, children: Children
) -> _Offspring:
    number = branching.num_candidates
    packed = children._replace(score=None, first_log_prob=None, action=children.action.astype(action_dtype))
    if branching.score == "return":
        packed = packed._replace(total=None)  # the score says it
    if replayed(model):
        packed = packed._replace(total=None, scale=None, reward=None, embedding=None)
    return _Offspring(
        score=children.score,
        state_key=_words(jax.vmap(model.state_key)(children.embedding)) if with_keys else None,
        packed=packing.pack(packed),
        length=children.length,
        root_scores=jnp.where(children.length[:number] > 0, children.score[:number], -jnp.inf),
        root_actions=children.action[:number].astype(jnp.int32),
    )


def _words(keys: jax.Array) -> tuple[jax.Array, ...]:
    return tuple(keys[..., index] for index in range(keys.shape[-1]))


@jax.named_scope("output")
def _output(keys: jax.Array, end: _Carry, sharpness: jax.Array, num_actions: int, simulated: bool) -> SearchOutput:
    scores, actions = weights.best_below(end.root_scores, end.nodes.score, end.origin), end.root_actions
    best = selection.take(actions, end.origin[:1].astype(jnp.int32))[0]
    if actions.ndim == 2:
        scores = weights.action_scores(scores, actions, num_actions)
    return SearchOutput(
        action=weights.best_action(best, end.nodes.score[0]),
        action_weights=weights.softmax(scores, sharpness).T,
        search_tree=history.as_tree(end.history, end.nodes.score, end.nodes.total, end.turn),
        counts=end.tally.counts(),
        value=end.nodes.score[0],
        key_hashes=rng.hashed(keys),
        simulated=simulated,
    )
