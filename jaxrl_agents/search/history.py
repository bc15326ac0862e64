"""The record of a search: parent pointers and what happened on the way, one contiguous row a turn."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs_jax.barriers import once
from jaxrl_agents.search import packing
from jaxrl_agents.search.model import RecurrentModel
from jaxrl_agents.search.nodes import Branching, Children, Node, added, small_int, where_rows
from jaxrl_agents.search.types import Counts, SearchTree


class Record(NamedTuple):
    """What a turn adds; every leaf [W, B, …]. Stacked over turns it is the history, [K, W, B, …]."""

    parent: jax.Array  # the slot of the parent
    action: jax.Array  # −1 for copies and empty slots
    length: jax.Array
    reward: jax.Array  # float32
    log_prob: jax.Array  # float32
    score: jax.Array  # float32; −inf for empty slots
    candidate: jax.Array | None = None  # whose word it was played with; None where that is the slot itself


@jax.named_scope("record")
def empty(num_turns: int, width: int, batch_size: int, num_actions: int, branching: Branching) -> Record:
    """The history in which every slot holds a copy of itself, which is what turns that are never played leave."""
    shape = (num_turns, width, batch_size)
    slots = jnp.arange(width, dtype=small_int(width)).reshape(1, width, 1)
    actions = (*shape, branching.turn_actions) if branching.turn_actions > 1 else shape
    return Record(
        jnp.broadcast_to(slots, shape),
        jnp.full(actions, -1, small_int(num_actions)),
        jnp.zeros(shape, small_int(branching.turn_actions)),
        jnp.zeros(shape, jnp.float32),
        jnp.zeros(shape, jnp.float32),
        jnp.full(shape, -jnp.inf, jnp.float32),
        jnp.zeros(shape, small_int(width * branching.num_candidates)),
    )


@jax.named_scope("record")
def write(history: Record, turn: jax.Array, record: Record) -> Record:
    """Puts a turn's record in place."""
    put = lambda rows, row: jax.lax.dynamic_update_index_in_dim(rows, row.astype(rows.dtype), turn, 0)
    return jax.tree.map(put, history, record)


@jax.named_scope("output")
def as_tree(history: Record, scores: jax.Array, returns: jax.Array, turns: jax.Array) -> SearchTree:
    """The history of `turns` played turns, with the final `scores` and `returns` [W, B], as a SearchTree."""
    played = jnp.arange(history.score.shape[0])[:, None, None] < turns
    score = jnp.where(played, history.score, scores)
    filled = score > -jnp.inf
    first = jnp.arange(history.score.shape[0])[:, None, None] == 0
    parent = jnp.where(filled, jnp.where(first, 0, history.parent), -1).astype(history.parent.dtype)
    blank = lambda leaf: jnp.where(filled, leaf, 0)
    taken = lambda leaf: jnp.where(filled & (history.length > 0), leaf, 0)
    rows = {
        "parents": parent,
        "action_from_parent": where_rows(filled, history.action, jnp.full_like(history.action, -1)),
        "lengths": blank(history.length),
        "rewards": blank(history.reward),
        "log_probs": blank(history.log_prob),
        "node_values": score,
        "candidates": taken(history.candidate),
    }
    rows = by_root(turns, rows)
    visits = (rows["node_values"] > -jnp.inf).astype(jnp.int8)
    return SearchTree(node_visits=visits, final_values=scores.T, final_returns=returns.T, **rows)


@jax.named_scope("output")
def by_root(turn: jax.Array, rows: Any) -> Any:
    """Leaves [K, W, B, …] as [K, B, W, …]; `turn` as in `once`.

    Small integers go together: to swap axes costs the same for 8 bits as for 32, and more than to take words apart.
    """
    swapped = lambda packed: jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 1, 2), packed)
    return once(turn, swapped, packing.pack(rows)).unpack()


class Tally(NamedTuple):
    """Running counts, int32[B]; rows of `step` and `evaluate` are the same for all roots, int32[]."""

    generated: jax.Array
    merged: jax.Array
    evaluated: jax.Array
    dead_ends: jax.Array
    step_rows: jax.Array
    forwards: jax.Array

    @staticmethod
    def start(batch_size: int) -> Tally:
        """Nothing counted."""
        zeros = jnp.zeros(batch_size, jnp.int32)
        return Tally(zeros, zeros, zeros, zeros, jnp.int32(0), jnp.int32(0))

    @jax.named_scope("record")
    def add(self, **more: Any) -> Tally:
        """The counts with the given ones increased."""
        return self._replace(**{name: getattr(self, name) + value for name, value in more.items()})

    @jax.named_scope("output")
    def counts(self) -> Counts:
        """As the search reports them."""
        forwards = jnp.broadcast_to(self.forwards, self.generated.shape)
        unique = self.generated - self.merged
        wasted = self.step_rows - self.generated
        return Counts(self.generated, unique, self.evaluated, wasted, forwards, self.dead_ends)


@jax.named_scope("record")
def nodes_of_turn(kept: Children, after: Node) -> dict[str, jax.Array]:
    """What a turn adds to the nodes evaluated and the dead ends: `after` are the nodes of the candidates `kept`."""
    moved = after.filled & (kept.length > 0)
    return {"evaluated": added(moved & (kept.scale != 0)), "dead_ends": added(moved & after.dead_end)}


def rows_of_turn(
    branching: Branching, model: Any, num_candidates: int, num_evaluated: int, *, planned: bool = False
) -> dict[str, np.int32]:
    """What a turn adds per root to the rows of `step` and the policy forwards; `planned` turns need no logits."""
    step_rows = num_candidates * branching.turn_actions
    if isinstance(model, RecurrentModel):
        forwards = step_rows
    else:
        forwards = num_evaluated + (step_rows if branching.draws_as_it_plays and not planned else 0)
    return {"step_rows": np.int32(step_rows), "forwards": np.int32(forwards)}
