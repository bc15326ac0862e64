"""Nodes of a frontier and their expansion: candidate turns proposed, played and scored.

Arrays have the batch last among their leading axes, [W, B] for nodes and [W, M, B] for candidates, so that the inner
loops of the compiled program run over roots.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from envs_jax.barriers import once
from envs_jax.pytree import pytree_dataclass, static_field
from jaxrl_agents.search import rng
from jaxrl_agents.search.model import SearchModel
from jaxrl_agents.search.proposals import (
    SMALL,
    Candidates,
    candidates_of,
    distribution,
    enumerated,
    float32_logits,
    legal_actions,
    sample,
)
from jaxrl_agents.search.types import Candidate, Proposal, RootFnOutput

Propose = Callable[[Any, jax.Array, Any], Proposal]
ScoreFn = Callable[[Any, Candidate], jax.Array]


@pytree_dataclass
class Branching:
    """How candidates are made and scored."""

    kind: Candidates = static_field()
    num_candidates: int = static_field()  # M
    turn_actions: int = static_field()  # L
    propose: Propose | None = static_field()
    score: str | ScoreFn = static_field()
    temperature: Any  # float[], or [W, B]

    @property
    def enumerates(self) -> bool:
        """Whether the candidates are the single actions, whatever the node."""
        return self.kind == "enumerate" and self.propose is None and self.turn_actions == 1

    @property
    def draws_as_it_plays(self) -> bool:
        """Whether turns of several actions are drawn from the model's logits step by step."""
        return self.propose is None and self.turn_actions > 1


class Node(NamedTuple):
    """The nodes of a frontier."""

    embedding: Any  # every leaf [W, B, …]
    logits: jax.Array  # [A, W, B]: with the actions last, what reads them would not be vector code on CPUs
    value: jax.Array  # [W, B]
    total: jax.Array  # float32[W, B]: discounted return from the root
    scale: jax.Array  # float32[W, B]: product of the discounts; 0 where the episode has ended
    score: jax.Array  # float32[W, B]
    filled: jax.Array  # bool[W, B]: there is a node in the slot

    @property
    def dead_end(self) -> jax.Array:
        """bool[W, B]: not ended, but without a legal action."""
        return self.filled & (self.scale != 0) & ~_any_legal(self.logits)

    @property
    def live(self) -> jax.Array:
        """bool[W, B]: nodes that can have children."""
        return self.filled & (self.scale != 0) & _any_legal(self.logits)


class Expansion(NamedTuple):
    """Candidates, every leaf [W, M, B, …]."""

    action: jax.Array  # int32[W, M, B], or [W, M, B, L]; −1 where no primitive action was taken
    length: jax.Array  # int32[W, M, B]: primitive actions taken; 0 for what is not a candidate
    log_prob: jax.Array  # float32[W, M, B]
    entropy: jax.Array  # float32[W, M, B]
    reward: jax.Array  # float32[W, M, B]: of the turn, discounted within it
    discount: jax.Array  # float32[W, M, B]
    embedding: Any
    first_log_prob: jax.Array | None = None  # float32[W, M, B]: of the first action, of turns drawn step by step


class Children(NamedTuple):
    """Candidates of a frontier, and its ended nodes as copies of themselves; every leaf [W, M, B, …]."""

    action: jax.Array  # as in Expansion; −1 for copies and what is not a candidate
    length: jax.Array  # small integers [W, M, B]; 0 for copies and what is not a candidate
    log_prob: jax.Array  # float32[W, M, B]
    reward: Any  # float32[W, M, B]
    total: Any  # float32[W, M, B]
    scale: Any  # float32[W, M, B]
    score: Any  # float32[W, M, B]; −inf for what is neither a candidate nor a copy
    embedding: Any
    first_log_prob: Any  # as in Expansion


@jax.named_scope("evaluate")
def root_nodes(params: Any, model: SearchModel, root: RootFnOutput, width: int, copies: int = 1) -> Node:
    """A frontier of `width` slots with the root in the first `copies`; it has ended where the model says so."""
    batch_size = root.value.shape[0]
    spread = lambda leaf: jnp.broadcast_to(leaf, (width, *leaf.shape))
    filled = jnp.broadcast_to(jnp.arange(width)[:, None] < copies, (width, batch_size))
    total = jnp.zeros((width, batch_size), jnp.float32)
    ended = getattr(model, "ended", None)
    scale = total + 1 if ended is None else spread(jnp.where(ended(params, root.embedding), np.float32(0), 1))
    logits = jnp.broadcast_to(root.prior_logits.T[:, None], (root.prior_logits.shape[1], width, batch_size))
    return Node(
        jax.tree.map(spread, root.embedding), logits, spread(root.value), total, scale,
        jnp.where(filled, total, -jnp.inf), filled,
    )  # fmt: skip


@jax.named_scope("evaluate")
def evaluated(
    turn: jax.Array, model: SearchModel, params: Any, words: jax.Array, embedding: Any, **fields: jax.Array
) -> Node:
    """Nodes with the model's logits and value; `words` uint32[W, B], `turn` as in `once`."""

    def evaluate(words: jax.Array, embedding: Any) -> Any:
        over = jax.vmap(model.evaluate, in_axes=(None, 0, 0))
        logits, value, embedding = over(params, rng.row_keys(words, rng.EVALUATE), embedding)
        return jnp.moveaxis(float32_logits(logits), -1, 0), value.astype(jnp.float32), embedding

    logits, value, embedding = once(turn, evaluate, words, embedding)
    return Node(embedding=embedding, logits=logits, value=value, **fields)


@jax.named_scope("propose")
def within_budget(nodes: Node, generated: jax.Array, cost: int, budget: jax.Array) -> jax.Array:
    """bool[W, B]: the live nodes of roots that may still generate `cost` nodes for each of them."""
    live = nodes.live
    return live & (generated + added(live) * cost <= budget)


@jax.named_scope("propose")
def propose_turns(model_params: Any, branching: Branching, words: jax.Array, nodes: Node) -> Proposal:
    """M candidate turns of each node, leaves [W, M, B, …]; `words` uint32[W, M, B], one a candidate."""
    if branching.propose is not None:
        over = jax.vmap(jax.vmap(branching.propose, in_axes=(None, 0, None)), in_axes=(None, 0, 0))
        return over(model_params, rng.row_keys(words, rng.PROPOSE), nodes.embedding)
    return candidates_of(branching.kind, nodes.logits, words, branching.temperature)


@jax.named_scope("step")
def play(
    turn: jax.Array,
    model: SearchModel,
    params: Any,
    branching: Branching,
    words: jax.Array,
    parents: Any,
    proposal: Proposal,
    *,
    drawn_with: jax.Array | None = None,
    all_actions: bool = False,
) -> Expansion:
    """Plays proposals [W, M, B], with `words`, from the nodes with the embeddings `parents` [W, B, …].

    With `all_actions` candidate m of each node is action m. `drawn_with` is as in `_play_turn`, by default `words`;
    `turn` is as in `once`.
    """
    if branching.turn_actions > 1:
        drawn_with = words if drawn_with is None else drawn_with
        return _play_turn(turn, model, params, branching, words, drawn_with, parents, proposal)
    step = jax.vmap(jax.vmap(partial(_stepped, model), in_axes=(None, 0, 0, None)), in_axes=(None, 0, 0, 0))

    def played(words: jax.Array, parents: Any, action: jax.Array | None) -> tuple[jax.Array, jax.Array, Any]:
        if action is None:  # not read from memory: what depends on the action alone is computed once for all nodes
            action = jnp.broadcast_to(np.arange(words.shape[1], dtype=np.int32)[:, None], words.shape)
        return step(params, rng.row_keys(words, rng.STEP), jnp.maximum(action, 0), parents)

    given = None if all_actions else proposal.action
    return Expansion(*proposal, *once(turn, played, words, parents, given))


def _stepped(
    model: SearchModel, params: Any, key: jax.Array, action: jax.Array, embedding: Any
) -> tuple[jax.Array, jax.Array, Any]:
    """`model.step`, with reward and discount as float32."""
    reward, discount, embedding = model.step(params, key, action, embedding)
    return reward.astype(jnp.float32), discount.astype(jnp.float32), embedding


def _play_turn(
    turn: jax.Array,
    model: SearchModel,
    params: Any,
    branching: Branching,
    words: jax.Array,
    drawn_with: jax.Array,
    parents: Any,
    proposal: Proposal,
) -> Expansion:
    """Plays turns of up to L primitive actions, which end early with the episode.

    A proposal of whole turns, [W, M, B, L], is played as it is. Of one of single actions these come first, and each
    later action is drawn in the state that it meets: with a hash of `drawn_with`, whatever the `words` that drive the
    transitions. So a turn played again, by chance through other states, has the actions that the same draws have there.
    """
    step = jax.vmap(jax.vmap(partial(_stepped, model), in_axes=(None, 0, 0, 0)), in_axes=(None, 0, 0, 0))
    drawn = proposal.action.ndim == words.ndim
    spread = lambda leaf: jnp.broadcast_to(leaf[:, None], (leaf.shape[0], words.shape[1], *leaf.shape[1:]))

    def primitive(carry: tuple[Any, ...], index: jax.Array) -> tuple[tuple[Any, ...], jax.Array]:
        embedding, reward, discount, length, log_prob = carry
        if drawn:
            later, later_log_prob = _later(model, params, branching, rng.action_words(drawn_with, index), embedding)
            action = jnp.where(index == 0, proposal.action, later)
            going = (discount != 0) & (length == index) & (action >= 0)
            log_prob += jnp.where(going & (index > 0), later_log_prob, 0)
        else:
            action = proposal.action[..., index]
            going = (discount != 0) & (index < proposal.length)
        keys = rng.row_keys(rng.action_words(words, index), rng.STEP)
        step_reward, step_discount, after = step(params, keys, jnp.maximum(action, 0), embedding)
        embedding = where_rows(going, after, embedding)
        reward += jnp.where(going, rounded(turn, discount * step_reward), 0)
        discount = jnp.where(going, discount * step_discount, discount)
        return (embedding, reward, discount, length + going, log_prob), jnp.where(going, action, -1)

    zeros = jnp.zeros(words.shape, jnp.float32)
    start = (jax.tree.map(spread, parents), zeros, zeros + 1, jnp.zeros(words.shape, jnp.int32), proposal.log_prob)
    indices = jnp.arange(branching.turn_actions, dtype=jnp.int32)
    (embedding, reward, discount, length, log_prob), actions = jax.lax.scan(primitive, start, indices)
    action = jnp.moveaxis(actions, 0, -1)
    first = proposal.log_prob if drawn else None
    return Expansion(action, length, log_prob, proposal.entropy, reward, discount, embedding, first)


@jax.named_scope("propose")
def _later(
    model: SearchModel, params: Any, branching: Branching, words: jax.Array, embedding: Any
) -> tuple[jax.Array, jax.Array]:
    """An action for every candidate's state, drawn from the model's logits (or −1), and its log-probability (or 0)."""
    over = jax.vmap(jax.vmap(model.evaluate, in_axes=(None, 0, 0)), in_axes=(None, 0, 0))
    logits, _, _ = over(params, rng.row_keys(words, rng.EVALUATE), embedding)
    logits = float32_logits(logits)
    temperature = jnp.asarray(branching.temperature)
    policy = distribution(jnp.moveaxis(logits, -1, 0), temperature[:, None] if temperature.ndim else temperature)
    action = sample(policy, rng.mix(words, rng.PROPOSE))
    return action, jnp.where(action >= 0, policy.log_prob(action), 0)


def candidates_of_nodes(
    turn: jax.Array,
    params: Any,
    model: SearchModel,
    branching: Branching,
    words: jax.Array,
    nodes: Node,
    live: jax.Array,
    *,
    step_words: jax.Array | None = None,
    depth: jax.Array | None = None,
    proposal: Proposal | None = None,
) -> Children:
    """The candidates of the `live` nodes (bool[W, B]); other filled slots survive as their first one.

    Each candidate is drawn with its of the `words` uint32[W, M, B], unless it is in the `proposal`, and played with
    its of the `step_words`, which are the same ones by default. `depth` is what the caller's score sees as the turn.
    `turn` is as in `once`.
    """
    depth = turn if depth is None else depth
    is_first = np.arange(words.shape[1])[None, :, None] == 0

    if proposal is None:
        proposal = once(turn, partial(propose_turns, params, branching), words, nodes)
    if branching.enumerates:
        action, length = enumerated(nodes.logits, words.shape[1])
        proposal = proposal._replace(action=action, length=length)
    step_words = words if step_words is None else step_words
    made = play(
        turn, model, params, branching, step_words, nodes.embedding, proposal,
        drawn_with=words, all_actions=branching.enumerates,
    )  # fmt: skip
    # Integers: XLA's CPU compiler does not make vector code of what reads booleans.
    with jax.named_scope("settle"):
        integers = lambda *kinds: tuple(kind.astype(jnp.int32) for kind in kinds)
        goes, stays = once(turn, integers, live, nodes.filled & ~live)
        valid = (goes > 0)[:, None] & (made.length > 0)
    before = (nodes.embedding, nodes.total, nodes.scale, nodes.score)
    return _settled(turn, params, branching, made, before, valid, (stays > 0)[:, None] & is_first, depth)


def commit(
    turn: jax.Array,
    params: Any,
    model: SearchModel,
    branching: Branching,
    words: jax.Array,
    parents: tuple[Any, jax.Array, jax.Array, jax.Array],
    chosen: Children,
    filled: jax.Array,
    *,
    redrawn: bool = False,
) -> Children:
    """Plays `chosen` candidates [W, B] again, with `words` uint32[W, B].

    `parents` are the embedding, total, scale and score of their parents; what is `filled` without being a candidate
    survives as it is. Of turns that are `redrawn` the later actions are drawn again, in the states that they meet now.
    """
    action, log_prob = chosen.action, chosen.log_prob
    if redrawn:
        action, log_prob = action[..., 0], chosen.first_log_prob
    proposal = Proposal(action, chosen.length, log_prob, jnp.zeros_like(log_prob))
    proposal = jax.tree.map(lambda leaf: leaf[:, None], proposal)
    made = play(turn, model, params, branching, words[:, None], parents[0], proposal)
    valid = filled[:, None] & (made.length > 0)
    return flattened(_settled(turn, params, branching, made, parents, valid, filled[:, None] & ~valid, turn))


def flattened(children: Any) -> Any:
    """Leaves [W, M, B, …] as [W · M, B, …]."""
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), children)


@jax.named_scope("settle")
def _settled(
    turn: jax.Array,
    params: Any,
    branching: Branching,
    made: Expansion,
    before: tuple[Any, jax.Array, jax.Array, jax.Array],
    valid: jax.Array,
    copied: jax.Array,
    depth: jax.Array,
) -> Children:
    """What has become of expansions: `valid` ones count, where `copied` the parent stays as it was.

    One whose score, reward or discount is NaN has score −inf, which is no candidate: else it would make the result of
    the whole root NaN.
    """
    parent, total, scale, score = before[0], *(leaf[:, None] for leaf in before[1:])
    reached = total + rounded(turn, scale * made.reward)
    child_score = _scores(params, branching.score, made, reached, total, depth)
    sound = valid & ~jnp.isnan(child_score) & ~jnp.isnan(made.discount)
    if branching.score != "return":
        sound &= ~jnp.isnan(made.reward)
    return Children(
        action=where_rows(valid, made.action, jnp.full_like(made.action, -1)),
        length=jnp.where(valid, made.length, 0).astype(small_int(branching.turn_actions)),
        log_prob=jnp.where(valid, made.log_prob, 0),
        reward=jnp.where(valid, made.reward, 0),
        total=jnp.where(copied, total, reached),
        scale=jnp.where(copied, 0, scale * made.discount),  # what does not go on now never will
        score=jnp.where(sound, child_score, jnp.where(copied, score, -jnp.inf)),
        embedding=where_rows(copied, jax.tree.map(lambda leaf: leaf[:, None], parent), made.embedding),
        first_log_prob=made.first_log_prob,
    )


def _scores(
    params: Any, score: str | ScoreFn, made: Expansion, total: jax.Array, before: jax.Array, turn: jax.Array
) -> jax.Array:
    """float32[W, M, B]: the score of each candidate."""
    if score == "return":
        return total
    if score == "step":
        return made.reward
    spread = lambda leaf: jnp.broadcast_to(leaf, total.shape)
    own = turn[:, None] if jnp.ndim(turn) else turn  # [W, B] where every path is at a turn of its own
    turns = jnp.broadcast_to(own, total.shape[: max(2, jnp.ndim(own))])
    candidate = Candidate(made.embedding, made.action, made.reward, made.discount, total, spread(before), turns)
    over = jax.vmap(jax.vmap(cast(ScoreFn, score), in_axes=(None, 0)), in_axes=(None, 0))
    return over(params, candidate).astype(jnp.float32)


def rounded(never_negative: jax.Array, products: jax.Array) -> jax.Array:
    """float32 `products` as they are rounded: so that a sum which follows is the same wherever it is compiled.

    The compiler would make one operation of a product and its sum in some places and shapes, and not in others. It
    cannot know that the bits stay as they are, as `never_negative` (int32[]) is at least 0.
    """
    bits = jax.lax.bitcast_convert_type(products, jnp.int32)
    return jax.lax.bitcast_convert_type(bits ^ (never_negative >> 31), jnp.float32)


def rolled_on(
    turn: jax.Array,
    params: Any,
    model: SearchModel,
    branching: Branching,
    words: jax.Array,
    nodes: Node,
    made: Children,
) -> Node:
    """Where rollouts [N, B] are after the candidates that they `made`, one each; one without a candidate is lost."""
    with jax.named_scope("settle"):
        fields = {"scale": made.scale, "score": made.score, "filled": nodes.filled & (made.score > -jnp.inf)}
    total = made.score if branching.score == "return" else made.total
    return evaluated(turn, model, params, words, made.embedding, total=total, **fields)


def where_rows(condition: jax.Array, a: Any, b: Any) -> Any:
    """`a` where the condition […] holds, else `b`, for leaves […, …]."""
    pick = lambda x, y: jnp.where(condition.reshape(condition.shape + (1,) * (x.ndim - condition.ndim)), x, y)
    return jax.tree.map(pick, a, b)


def added(counts: jax.Array) -> jax.Array:
    """int32[B]: the sum of integers or booleans [W, B] over W."""
    if len(counts) > 128:
        return jnp.sum(counts, axis=0, dtype=jnp.int32)
    total = counts[0].astype(jnp.int32)  # additions fuse, a reduction is a slow loop of its own on CPUs
    for row in counts[1:]:
        total += row.astype(jnp.int32)
    return total


def anywhere(holds: jax.Array) -> jax.Array:
    """bool[]: whether `holds` (bool[W, B]) does for any node; rows are added first, which is vector code on CPUs."""
    return jnp.any(added(holds) > 0)


def small_int(largest: int) -> np.dtype:
    """The smallest signed integer dtype that holds `largest` and −1."""
    return np.min_scalar_type(-largest - 1)


def _any_legal(logits: jax.Array) -> jax.Array:
    legal = legal_actions(logits)
    if len(legal) > SMALL:
        return legal.any(0)
    any_legal = legal[0]
    for column in legal[1:]:
        any_legal = any_legal | column
    return any_legal
