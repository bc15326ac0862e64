"""Lookahead: each candidate is judged by what can follow it, one turn is committed, and so on."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from envs_jax.arguments import check_choice
from envs_jax.barriers import once
from envs_jax.pytree import pytree_dataclass, static_field
from jaxrl_agents.search import arguments, history, rng, selection, trajectory, weights
from jaxrl_agents.search.history import Record, Tally, rows_of_turn
from jaxrl_agents.search.model import RecurrentModel, SearchModel
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
    rounded,
    within_budget,
)
from jaxrl_agents.search.proposals import Candidates, reduced
from jaxrl_agents.search.types import RootFnOutput, SearchOutput

Continuation = Literal["policy", "full"]

_SIMULATE = 1 << 16  # offset of the hashes that simulated transitions draw from
_CHILD = 1 << 17  # and of those of deeper levels, to which the child's number is added


def lookahead(
    params: Any,
    rng_key: jax.Array,
    root: RootFnOutput,
    model: Any,
    *,
    tasks: Any = None,
    num_turns: int,
    depth: int,
    num_candidates: int | None = None,
    continuation: Continuation = "policy",
    beam_width: int = 1,
    candidates: Candidates = "sample",
    propose: Propose | None = None,
    max_turn_actions: int = 1,
    score: str | ScoreFn = "return",
    bootstrap: bool = True,
    clairvoyant: bool = False,
    temperature: float | jax.Array = 1.0,
    weight_temperature: float | jax.Array = 1.0,
    invalid_actions: jax.Array | None = None,
    node_budget: int | jax.Array | None = None,
) -> SearchOutput:
    """Commits, turn by turn, the candidates whose simulated continuations score best (TSR, arXiv 2602.11767).

    Each turn every one of the W committed paths makes M candidates, each is simulated further, and the W best
    candidates are played: with a word that the simulation has not seen, unless `clairvoyant`. The outcomes of one
    path are therefore fair draws; `simulated` is True where they were chosen from (M > 1): among W > 1 paths, or by
    clairvoyance.

    Args:
      params: passed to the model; with `tasks` the model receives `(params, tasks)`.
      rng_key: a typed key, or one per root, [B].
      root: mctx's RootFnOutput, leading axis B.
      model: a Model, `from_env(…)`, or mctx's recurrent_fn.
      tasks: static data per root, leading axis B (a TaskBank of B will do).
      num_turns: K, turns committed.
      depth: D. With continuation="policy" each candidate is followed by D more turns of the policy (as TSR); with
        "full" the tree of candidates is D turns deep, the first included: M + M² + … + M^D nodes.
      num_candidates: M; None for all actions with candidates="enumerate".
      continuation: "policy" or "full"; a candidate's score is that of its single continuation or of its best one.
      beam_width: W, committed paths.
      candidates: "sample", "gumbel" or "enumerate", see `beam_search`.
      propose: draws a turn in place of the logits, see `beam_search`.
      max_turn_actions: L, see `beam_search`. A turn drawn step by step is drawn so again when it is played: with the
        same random draws, but in the states that chance now leads to. Without chance it is the turn that was
        simulated. A turn of `propose` is played as it was proposed.
      score: of the last simulated node: "return" from the root, "step", or a function, see `beam_search`.
      bootstrap: with score="return", add the model's (discounted) value of the last simulated node; False saves its
        evaluation.
      clairvoyant: play the chosen candidate with the word that its simulation used.
      temperature: divides the logits that candidates and the policy's turns are drawn from.
      weight_temperature: of `action_weights`: softmax over root actions of the best simulated score of each.
      invalid_actions: [B, A], nonzero where the root must not act so.
      node_budget: nodes that a root may generate, [] or [B]; a turn that could exceed it is not played.

    Returns:
      A SearchOutput; the tree holds the committed paths only.
    """
    params, keys, root, model = arguments.inputs(params, rng_key, root, model, tasks, invalid_actions)
    options = lookahead_options(
        root,
        num_turns=num_turns,
        depth=depth,
        num_candidates=num_candidates,
        continuation=continuation,
        beam_width=beam_width,
        candidates=candidates,
        bootstrap=bootstrap,
        clairvoyant=clairvoyant,
        propose=propose,
        max_turn_actions=max_turn_actions,
        score=score,
        temperature=temperature,
        weight_temperature=weight_temperature,
        invalid_actions=invalid_actions,
        node_budget=node_budget,
    )
    return _search(params, keys, root, model, *options)


def lookahead_options(
    root: RootFnOutput,
    *,
    num_turns: Any,
    depth: Any,
    continuation: Any,
    beam_width: Any,
    bootstrap: Any,
    clairvoyant: Any,
    node_budget: Any,
    weight_temperature: Any,
    **turns: Any,
) -> tuple[Simulation, Any, Any, int, int]:
    """The checked options, as `_search` takes them; of the `root` only shapes are read."""
    width = arguments.count("beam_width", beam_width)
    num_turns = arguments.count("num_turns", num_turns)
    depth = arguments.count("depth", depth)
    check_choice("continuation", continuation, get_args(Continuation))
    branching = arguments.branching(root, **turns)
    budget = arguments.node_budget(node_budget, len(root.prior_logits))
    sharpness = arguments.finite("weight_temperature", weight_temperature, low=0.0)
    further = (
        (branching,) * (depth - 1)
        if continuation == "full"
        else (dataclasses.replace(branching, kind="sample", num_candidates=1),) * depth
    )
    bootstrap = arguments.flag("bootstrap", bootstrap) and branching.score == "return"
    plan = Simulation(branching, further, bootstrap, arguments.flag("clairvoyant", clairvoyant))
    arguments.check_nodes(width * plan.cost)
    arguments.check_history(root, num_turns, width)
    return plan, budget, sharpness, num_turns, width


@pytree_dataclass
class Simulation:
    """How candidates are judged."""

    branching: Branching  # of the candidates
    further: tuple[Branching, ...]  # of the levels below them
    bootstrap: bool = static_field()
    clairvoyant: bool = static_field()

    @property
    def redraws(self) -> bool:
        """Whether turns drawn step by step in simulation are drawn again when they are played, with other words."""
        return self.branching.draws_as_it_plays and not self.clairvoyant

    @property
    def cost(self) -> int:
        """Transitions for one committed node: of all levels, and of the turn that is played."""
        cost, leaves = self.branching.turn_actions, 1
        for level in (self.branching, *self.further):
            leaves *= level.num_candidates
            cost += leaves * level.turn_actions
        return cost


class _Carry(NamedTuple):
    turn: jax.Array  # int32[]
    nodes: Node
    history: Record
    tally: Tally
    root_scores: jax.Array  # float32[M, B]
    root_actions: jax.Array  # [M, B] or [M, B, L]


@partial(jax.jit, static_argnames=("num_turns", "width"))
def _search(
    params: Any,
    keys: jax.Array,
    root: RootFnOutput,
    model: SearchModel,
    plan: Simulation,
    budget: jax.Array,
    sharpness: jax.Array,
    num_turns: int,
    width: int,
) -> SearchOutput:
    batch_size, num_actions = root.prior_logits.shape
    first = root_nodes(params, model, root, width, copies=1)
    record = history.empty(num_turns, width, batch_size, num_actions, plan.branching)
    tally = Tally.start(batch_size).add(dead_ends=first.dead_end[0].astype(jnp.int32))
    shape = (plan.branching.num_candidates, batch_size)
    root_actions = jnp.full((*shape, *record.action.shape[3:]), -1, jnp.int32)
    start = _Carry(jnp.int32(0), first, record, tally, jnp.full(shape, -jnp.inf, jnp.float32), root_actions)
    turn = partial(_turn, params, keys, model, plan, budget)
    going = lambda carry: (carry.turn < num_turns) & anywhere(_live(carry, plan, budget))
    end = jax.lax.while_loop(going, turn, start)
    simulated = plan.branching.num_candidates > 1 and (plan.clairvoyant or width > 1)
    return _output(keys, end, sharpness, num_actions, simulated)


@jax.named_scope("output")
def _output(keys: jax.Array, end: _Carry, sharpness: jax.Array, num_actions: int, simulated: bool) -> SearchOutput:
    scores = end.root_scores
    if end.root_actions.ndim == 2:
        scores = weights.action_scores(scores, end.root_actions, num_actions)
    tree = history.as_tree(end.history, end.nodes.score, end.nodes.total, end.turn)
    paths = trajectory.best_paths(tree, 1, simulated)
    return SearchOutput(
        action=paths.actions[:, 0, 0],
        action_weights=weights.softmax(scores, sharpness).T,
        search_tree=tree,
        counts=end.tally.counts(),
        value=paths.scores[:, 0],
        key_hashes=rng.hashed(keys),
        simulated=simulated,
    )


def _live(carry: _Carry, plan: Simulation, budget: jax.Array) -> jax.Array:
    return within_budget(carry.nodes, carry.tally.generated, plan.cost, budget)


def _turn(
    params: Any, keys: jax.Array, model: SearchModel, plan: Simulation, budget: jax.Array, carry: _Carry
) -> _Carry:
    nodes = carry.nodes
    width, batch_size = nodes.total.shape
    number = plan.branching.num_candidates
    words = once(carry.turn, partial(rng.turn_words, turn=carry.turn, num_words=width * number), keys)
    simulated = words if plan.clairvoyant else rng.mix(words, _SIMULATE)
    shaped = lambda leaf: leaf.reshape(width, number, batch_size)
    live = _live(carry, plan, budget)
    made = flattened(
        candidates_of_nodes(
            carry.turn, params, model, plan.branching, shaped(words), nodes, live, step_words=shaped(simulated)
        )
    )
    prospects, tally = _prospects(params, model, plan, simulated, made, carry.tally, carry.turn)
    score, chosen = selection.best(carry.turn, prospects, width)
    kept = selection.take(made._replace(embedding=None), chosen)
    parents = selection.take((nodes.embedding, nodes.total, nodes.scale, nodes.score), chosen // number)
    played = commit(
        carry.turn, params, model, plan.branching, selection.take(words, chosen), parents, kept, score > -jnp.inf,
        redrawn=plan.redraws,
    )  # fmt: skip
    fields = {"total": played.total, "scale": played.scale, "score": played.score, "filled": score > -jnp.inf}
    after = evaluated(carry.turn, model, params, words[:width], played.embedding, **fields)
    tally = tally.add(
        generated=added(made.length) + added(played.length),
        evaluated=added((played.length > 0) & (played.scale != 0)),
        dead_ends=added((played.length > 0) & after.dead_end),
        **rows_of_turn(plan.branching, model, width * number, 0),
    )
    tally = tally.add(**rows_of_turn(plan.branching, model, width, width, planned=not plan.redraws))
    record = Record(
        chosen // number, played.action, played.length, played.reward, played.log_prob, played.score, chosen
    )
    first = carry.turn == 0
    tried = jnp.where(made.length > 0, prospects, -jnp.inf)[:number]
    return _Carry(
        carry.turn + 1,
        after,
        history.write(carry.history, carry.turn, record),
        tally,
        jnp.where(first, tried, carry.root_scores),
        jnp.where(first, made.action[:number], carry.root_actions),
    )


def _prospects(
    params: Any,
    model: SearchModel,
    plan: Simulation,
    words: jax.Array,
    made: Children,
    tally: Tally,
    turn: jax.Array,
) -> tuple[jax.Array, Tally]:
    """float32[C, B]: the best score that the simulation reaches below each candidate; and what that cost."""
    num_candidates, batch_size = words.shape
    for level, branching in enumerate(plan.further):
        nodes = _as_nodes(turn, params, model, words, made)
        live = nodes.live
        number = branching.num_candidates
        children = np.arange(1, number + 1, dtype=np.uint32)[:, None]
        words = rng.mix(words[:, None], _CHILD + children)
        made = flattened(
            candidates_of_nodes(turn, params, model, branching, words, nodes, live, depth=turn + 1 + level)
        )
        words = words.reshape(-1, batch_size)
        rows = rows_of_turn(branching, model, len(words), len(nodes.total))
        tally = tally.add(generated=added(made.length), evaluated=added(live), **rows)
    score = made.score
    if plan.bootstrap:
        nodes = _as_nodes(turn, params, model, words, made)
        live = nodes.live
        score = score + jnp.where(live, rounded(turn, nodes.scale * nodes.value), 0)
        score = jnp.where(jnp.isnan(score), -jnp.inf, score)
        forwards = 0 if isinstance(model, RecurrentModel) else len(words)
        tally = tally.add(evaluated=added(live), forwards=np.int32(forwards))
    with jax.named_scope("select"):
        leaves = jnp.swapaxes(score.reshape(num_candidates, -1, batch_size), 0, 1)
        return reduced(jnp.maximum, leaves), tally


def _as_nodes(turn: jax.Array, params: Any, model: SearchModel, words: jax.Array, made: Children) -> Node:
    """The candidates [C, B] as nodes."""
    fields = {"total": made.total, "scale": made.scale, "score": made.score, "filled": made.score > -jnp.inf}
    return evaluated(turn, model, params, words, made.embedding, **fields)
