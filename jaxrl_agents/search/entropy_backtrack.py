"""Entropy-triggered backtracking: rollouts that step back where the policy becomes unsure, and try again."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp

from envs_jax.arguments import check_choice
from envs_jax.barriers import once
from envs_jax.pytree import pytree_dataclass, static_field
from jaxrl_agents.search import arguments, history, packing, rng, selection, weights
from jaxrl_agents.search.history import Record, Tally, nodes_of_turn, rows_of_turn
from jaxrl_agents.search.model import SearchModel
from jaxrl_agents.search.nodes import (
    Branching,
    Children,
    Node,
    Propose,
    ScoreFn,
    added,
    anywhere,
    candidates_of_nodes,
    flattened,
    propose_turns,
    rolled_on,
    root_nodes,
    small_int,
    where_rows,
    within_budget,
)
from jaxrl_agents.search.proposals import SMALL, distribution
from jaxrl_agents.search.types import BacktrackTree, Proposal, RootFnOutput, SearchOutput

Distance = Literal["uniform", "fixed"]

DISTANCE = 3  # offset of the hash that draws how far to step back
_RETRY = 4  # and of the hash from which `propose` draws a retried turn


def entropy_backtrack(
    params: Any,
    rng_key: jax.Array,
    root: RootFnOutput,
    model: Any,
    *,
    tasks: Any = None,
    num_turns: int,
    entropy_threshold: float | jax.Array,
    steps_back: int = 3,
    distance: Distance = "uniform",
    max_retries: int = 3,
    retry_temperature: float | jax.Array | None = None,
    free_backtrack: bool = False,
    num_rollouts: int = 1,
    propose: Propose | None = None,
    retry_propose: Propose | None = None,
    max_turn_actions: int = 1,
    score: str | ScoreFn = "return",
    clairvoyant: bool = False,
    temperature: float | jax.Array = 1.0,
    weight_temperature: float | jax.Array = 1.0,
    invalid_actions: jax.Array | None = None,
    node_budget: int | jax.Array | None = None,
) -> SearchOutput:
    """Samples rollouts that step back where the policy's entropy exceeds a threshold, and ranks them.

    Before a turn, where the entropy of the policy (nats, over legal actions, at `temperature`) is above the
    threshold, retries are left and the path is not empty, the rollout returns to an earlier node of its path and
    takes its turn there, at `retry_temperature`; that turn does not trigger again. With `num_rollouts` N it is
    combined with best-of-N.

    With `propose` the entropy is what it reports of the turn that it has drawn, of the whole turn (the sum over its
    decisions, or an estimate of it; NaN triggers nothing). A turn that triggers is not played; another one, which
    `retry_propose` draws where the rollout has gone back to, is. What is reported of a drawn turn may depend on the
    draw: then turns are left out by what they are, and played ones are not distributed as they were drawn.

    Args:
      params: passed to the model; with `tasks` the model receives `(params, tasks)`.
      rng_key: a typed key, or one per root, [B].
      root: mctx's RootFnOutput, leading axis B.
      model: a Model, `from_env(…)`, or mctx's recurrent_fn.
      tasks: static data per root, leading axis B (a TaskBank of B will do).
      num_turns: K, turns that a rollout may take, discarded ones included, unless `free_backtrack`.
      entropy_threshold: η; infinity gives plain rollouts.
      steps_back: the most turns that a retry goes back.
      distance: "uniform" draws how far from 1 … min(steps_back, length of the path), "fixed" takes that bound.
      max_retries: retries per rollout.
      retry_temperature: divides the logits of a retried turn; None is 1.5. Not with `propose`.
      free_backtrack: discarded turns do not count: a path may be K turns long whatever was discarded.
      num_rollouts: N.
      propose: draws a turn in place of the logits, see `beam_search`, and tells its entropy.
      retry_propose: draws the retried turns, at a higher temperature for example; None is `propose`.
      max_turn_actions: L, see `beam_search`; paths go back by whole turns. Without `propose` a turn's entropy is that
        of its first action: the states that decide the others are not known before it is played.
      score: what rollouts are ranked by, see `best_of_n`.
      clairvoyant: the turn at a position of the path always uses the word of that position, a retry too.
      temperature: divides the logits of the other turns.
      weight_temperature: of `action_weights`: softmax over first actions of the best score among their rollouts.
      invalid_actions: [B, A], nonzero where the root must not act so.
      node_budget: nodes that a root may generate, [] or [B]; a turn that could exceed it is not played.

    Returns:
      A SearchOutput with a BacktrackTree, which holds the discarded nodes too. Log-probabilities are those of the
      temperature that a turn was drawn at. With N > 1 outcomes are chosen from simulated ones: `simulated` is True.
      With one rollout it is False, `clairvoyant` or not: outcomes are not compared and turns are drawn without a look
      at their words. What it keeps still depends on chance: it left the states where the policy was unsure.
    """
    params, keys, root, model = arguments.inputs(params, rng_key, root, model, tasks, invalid_actions)
    options = backtrack_options(
        root,
        num_turns=num_turns,
        entropy_threshold=entropy_threshold,
        steps_back=steps_back,
        distance=distance,
        max_retries=max_retries,
        retry_temperature=retry_temperature,
        free_backtrack=free_backtrack,
        num_rollouts=num_rollouts,
        retry_propose=retry_propose,
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


def backtrack_options(
    root: RootFnOutput,
    *,
    num_turns: Any,
    num_rollouts: Any,
    retry_propose: Any,
    retry_temperature: Any,
    node_budget: Any,
    weight_temperature: Any,
    entropy_threshold: Any,
    steps_back: Any,
    distance: Any,
    max_retries: Any,
    free_backtrack: Any,
    clairvoyant: Any,
    **turns: Any,
) -> tuple[Branching, Rule, Any, Any, int]:
    """The checked options, as `_search` takes them; of the `root` only shapes are read."""
    width = arguments.count("num_rollouts", num_rollouts)
    num_turns = arguments.count("num_turns", num_turns)
    branching = arguments.branching(root, num_candidates=1, candidates="sample", **turns)
    furthest, retries = arguments.count("steps_back", steps_back), arguments.count("max_retries", max_retries)
    check_choice("distance", distance, get_args(Distance))
    more = retries * min(furthest, num_turns) if arguments.flag("free_backtrack", free_backtrack) else 0
    rule = Rule(
        entropy_threshold=arguments.number("entropy_threshold", entropy_threshold),
        retrying=arguments.retries(root, branching, retry_propose, retry_temperature),
        num_turns=num_turns,
        steps_back=furthest,
        distance=distance,
        max_retries=retries,
        num_iterations=num_turns + more,
        clairvoyant=arguments.flag("clairvoyant", clairvoyant),
    )
    arguments.check_nodes(width * branching.turn_actions)
    arguments.check_history(root, rule.num_iterations, width)
    budget = arguments.node_budget(node_budget, len(root.prior_logits))
    return branching, rule, budget, arguments.finite("weight_temperature", weight_temperature, low=0.0), width


@pytree_dataclass
class Rule:
    """When and how far to step back."""

    entropy_threshold: jax.Array
    retrying: Branching  # how retried turns are made
    num_turns: int = static_field()
    steps_back: int = static_field()
    distance: Distance = static_field()
    max_retries: int = static_field()
    num_iterations: int = static_field()
    clairvoyant: bool = static_field()


class _Saved(NamedTuple):
    """What stepping back restores of a node."""

    embedding: Any  # every leaf [N, B, …]
    logits: Any  # A times [N, B]; [N, B, A] for many actions
    total: jax.Array
    scale: jax.Array
    ancestors: tuple[jax.Array, ...]  # the rows of the nodes 1, 2, … `steps_back` turns before it, [N, B] each


class _Carry(NamedTuple):
    iteration: jax.Array  # int32[]
    nodes: Node  # [N, B]: where the rollouts stand
    row: jax.Array  # int32[N, B]: their rows in `saved`
    first_row: jax.Array  # int32[N, B]: the row of the first node of the path; 0 where it is empty
    position: jax.Array  # int32[N, B]: the length of the path
    retries: jax.Array  # int32[N, B]: used
    ancestors: tuple[jax.Array, ...]  # of the nodes where the rollouts stand, see _Saved
    saved: packing.Packed  # _Saved of all iterations, every leaf [I + 1, N, B, …]; row 0 is the root
    history: Record  # [I, N, B]; `parent` is a row of `saved`
    steps_back: jax.Array  # [I, N, B]
    entropy: jax.Array  # float32[I, N, B]
    tally: Tally


@partial(jax.jit, static_argnames=("width",))
def _search(
    params: Any,
    keys: jax.Array,
    root: RootFnOutput,
    model: SearchModel,
    branching: Branching,
    rule: Rule,
    budget: jax.Array,
    sharpness: jax.Array,
    width: int,
) -> SearchOutput:
    batch_size, num_actions = root.prior_logits.shape
    first = root_nodes(params, model, root, width, copies=width)
    tally = Tally.start(batch_size).add(dead_ends=first.dead_end[0].astype(jnp.int32))
    words = None
    if rule.clairvoyant:
        words = jax.vmap(lambda turn: rng.turn_words(keys, turn, width))(jnp.arange(rule.num_turns))
    iteration = partial(_iteration, params, keys, model, branching, rule, budget, words)
    going = lambda carry: (carry.iteration < rule.num_iterations) & anywhere(_live(carry, branching, rule, budget))
    end = jax.lax.while_loop(going, iteration, _start(first, tally, branching, rule, num_actions))
    return _output(keys, end, sharpness, num_actions, rule)


@jax.named_scope("record")
def _start(first: Node, tally: Tally, branching: Branching, rule: Rule, num_actions: int) -> _Carry:
    width, batch_size = first.total.shape
    rows = rule.num_iterations
    record = history.empty(rows, width, batch_size, num_actions, branching)
    record = record._replace(parent=jnp.zeros((rows, width, batch_size), small_int(rows)), candidate=None)
    room = lambda leaf: jnp.zeros((rows + 1, *leaf.shape), leaf.dtype).at[0].set(leaf)
    ancestors = (record.parent[0],) * min(rule.steps_back, rows)
    saved = jax.tree.map(room, packing.pack(_saved(first, ancestors)))
    zeros = jnp.zeros((width, batch_size), jnp.int32)
    back = jnp.zeros(record.parent.shape, small_int(rule.steps_back))
    return _Carry(jnp.int32(0), first, zeros, zeros, zeros, zeros, ancestors, saved, record, back, record.reward, tally)


def _saved(nodes: Node, ancestors: tuple[jax.Array, ...]) -> _Saved:
    """A row of what can be restored."""
    logits = nodes.logits
    columns = tuple(logits) if len(logits) <= SMALL else jnp.moveaxis(logits, 0, -1)
    return _Saved(nodes.embedding, columns, nodes.total, nodes.scale, ancestors)


def _live(carry: _Carry, branching: Branching, rule: Rule, budget: jax.Array) -> jax.Array:
    """bool[N, B]: the rollouts that go on."""
    live = within_budget(carry.nodes, carry.tally.generated, branching.turn_actions, budget)
    return live & (carry.position < rule.num_turns)


def _iteration(
    params: Any,
    keys: jax.Array,
    model: SearchModel,
    branching: Branching,
    rule: Rule,
    budget: jax.Array,
    position_words: jax.Array | None,
    carry: _Carry,
) -> _Carry:
    width = len(carry.row)
    words = once(carry.iteration, partial(rng.turn_words, turn=carry.iteration, num_words=width), keys)
    live = _live(carry, branching, rule, budget)
    ahead, entropy = _ahead(params, branching, words, carry)
    back = jnp.where(live, _steps_back(carry, rule, entropy, words), 0)
    row = _row_before(carry, back)
    nodes, ancestors = _restored(carry, row, back)
    position = carry.position - back
    temperature = jnp.where(back > 0, rule.retrying.temperature, branching.temperature)
    hot = dataclasses.replace(branching, temperature=temperature)
    proposal = None if ahead is None else _retried(params, rule.retrying, words, nodes, back, ahead)
    step_words = None if position_words is None else _at_position(position_words, position)
    made = flattened(
        candidates_of_nodes(
            carry.iteration, params, model, hot, words[:, None], nodes, live,
            step_words=step_words, depth=position, proposal=proposal,
        )
    )  # fmt: skip
    after = rolled_on(carry.iteration, params, model, branching, words, nodes, made)
    counts = nodes_of_turn(made, after) | rows_of_turn(branching, model, width, width)
    tally = carry.tally.add(generated=added(made.length), **counts)
    entropy = jnp.where(live, entropy, 0)
    ancestors = (row.astype(ancestors[0].dtype), *ancestors[:-1])
    return _advanced(carry, back, row, ancestors, made, after, entropy)._replace(tally=tally)


@jax.named_scope("record")
def _advanced(
    carry: _Carry,
    back: jax.Array,
    row: jax.Array,
    ancestors: tuple[jax.Array, ...],
    made: Children,
    after: Node,
    entropy: jax.Array,
) -> _Carry:
    """The carry of the next iteration: the rollouts stepped `back` to `row` and have `made` the nodes `after`."""
    put = lambda rows, leaf, at: jax.lax.dynamic_update_index_in_dim(rows, leaf.astype(rows.dtype), at, 0)
    here, position, moved = carry.iteration, carry.position - back, made.length > 0
    record = Record(row, made.action, made.length, made.reward, made.log_prob, made.score)
    return carry._replace(
        iteration=here + 1,
        nodes=after,
        row=jnp.where(moved, here + 1, row),
        first_row=jnp.where(moved & (position == 0), here + 1, carry.first_row),
        position=position + moved,
        retries=carry.retries + (back > 0),
        ancestors=ancestors,
        saved=jax.tree.map(
            lambda rows, leaf: put(rows, leaf, here + 1), carry.saved, packing.pack(_saved(after, ancestors))
        ),
        history=history.write(carry.history, here, record),
        steps_back=put(carry.steps_back, back, here),
        entropy=put(carry.entropy, entropy, here),
    )


@jax.named_scope("propose")
def _ahead(params: Any, branching: Branching, words: jax.Array, carry: _Carry) -> tuple[Proposal | None, jax.Array]:
    """The turns [N, 1, B] that `propose` draws where the rollouts stand; float32[N, B]: what the threshold is for."""
    if branching.propose is None:
        return None, distribution(carry.nodes.logits, branching.temperature).entropy
    turns = once(carry.iteration, partial(propose_turns, params, branching), words[:, None], carry.nodes)
    return turns, turns.entropy[:, 0]


@jax.named_scope("propose")
def _retried(
    params: Any, retrying: Branching, words: jax.Array, nodes: Node, back: jax.Array, ahead: Proposal
) -> Proposal:
    """The turns that are played: those `ahead`, and others from the `nodes` of the rollouts that have stepped back.

    The draws of a turn that is not played have decided that it is not: others are drawn with.
    """
    anew = lambda: propose_turns(params, retrying, rng.mix(words, _RETRY)[:, None], nodes)
    turns = jax.lax.cond(anywhere(back > 0), anew, lambda: ahead)
    return where_rows((back > 0)[:, None], turns, ahead)


@jax.named_scope("propose")
def _steps_back(carry: _Carry, rule: Rule, entropy: jax.Array, words: jax.Array) -> jax.Array:
    """int32[N, B]: how many turns to step back; 0 where nothing triggers."""
    most = jnp.minimum(carry.position, rule.steps_back)
    triggers = (entropy > rule.entropy_threshold) & (most > 0) & (carry.retries < rule.max_retries)
    if rule.distance == "uniform":
        drawn = rng.uniform(rng.mix(words, DISTANCE)) * most.astype(jnp.float32)
        most = 1 + jnp.minimum(drawn.astype(jnp.int32), most - 1)
    return jnp.where(triggers, most, 0)


@jax.named_scope("gather")
def _row_before(carry: _Carry, back: jax.Array) -> jax.Array:
    """int32[N, B]: the rows of the nodes `back` turns before those where the rollouts stand."""
    row = carry.row
    for step, ancestor in enumerate(carry.ancestors, start=1):
        row = jnp.where(back == step, ancestor.astype(jnp.int32), row)
    return row


@jax.named_scope("gather")
def _restored(carry: _Carry, row: jax.Array, back: jax.Array) -> tuple[Node, tuple[jax.Array, ...]]:
    """The nodes from which the rollouts act, and their ancestors: of `row` where they step back, else as they are."""
    earlier = jax.tree.map(lambda leaf: leaf[0], selection.take(carry.saved, row[None]))
    now = packing.pack(_saved(carry.nodes, carry.ancestors))
    restore = lambda back, earlier, now: where_rows(back > 0, earlier, now)
    found: _Saved = once(carry.iteration, restore, back, earlier, now).unpack()
    logits = jnp.stack(found.logits) if isinstance(found.logits, tuple) else jnp.moveaxis(found.logits, -1, 0)
    nodes = carry.nodes._replace(embedding=found.embedding, logits=logits, total=found.total, scale=found.scale)
    return nodes, found.ancestors


@jax.named_scope("gather")
def _at_position(words: jax.Array, position: jax.Array) -> jax.Array:
    """uint32[N, 1, B]: the words of each rollout's position, from [K, N, B]."""
    row = jnp.minimum(position, len(words) - 1)[None]
    return jnp.take_along_axis(words, row, axis=0)[0][:, None]


@jax.named_scope("output")
def _output(keys: jax.Array, end: _Carry, sharpness: jax.Array, num_actions: int, rule: Rule) -> SearchOutput:
    record = end.history
    played = record.length > 0
    rows = {
        "parents": jnp.where(played, record.parent - 1, -1),
        "action_from_parent": record.action,
        "lengths": record.length,
        "rewards": record.reward,
        "log_probs": record.log_prob,
        "node_values": jnp.where(played, record.score, -jnp.inf),
        "steps_back": end.steps_back,
        "entropies": end.entropy,
    }
    rows = history.by_root(end.iteration, rows)
    tree = BacktrackTree(
        **rows,
        node_visits=(rows["lengths"] > 0).astype(jnp.int8),
        final_values=end.nodes.score.T,
        final_returns=end.nodes.total.T,
        final_nodes=(end.row - 1).T,
        path_lengths=end.position.T,
        num_turns=rule.num_turns,
        clairvoyant=rule.clairvoyant,
    )
    started = end.first_row > 0
    actions = selection.take(record.action, jnp.maximum(end.first_row - 1, 0)[None])[0].astype(jnp.int32)
    actions = where_rows(started, actions, jnp.full_like(actions, -1))
    best, value = jnp.argmax(end.nodes.score, axis=0)[None], jnp.max(end.nodes.score, axis=0)
    scores = jnp.where(started, end.nodes.score, -jnp.inf)
    if actions.ndim == 2:
        scores = weights.action_scores(scores, actions, num_actions)
    return SearchOutput(
        action=weights.best_action(selection.take(actions, best)[0], value),
        action_weights=weights.softmax(scores, sharpness).T,
        search_tree=tree,
        counts=end.tally.counts(),
        value=value,
        key_hashes=rng.hashed(keys),
        simulated=len(end.nodes.score) > 1,
    )
