"""What a search takes and gives."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mctx
from mctx import RootFnOutput

from envs_jax.pytree import pytree_dataclass, static_field

__all__ = [
    "BacktrackTree",
    "Candidate",
    "Counts",
    "Proposal",
    "RootFnOutput",
    "SearchOutput",
    "SearchTree",
    "Trajectories",
]


class Proposal(NamedTuple):
    """One candidate turn for each of B nodes."""

    action: jax.Array  # int32[B], or int32[B, L]: a turn of up to L primitive actions
    length: jax.Array  # int32[B]: how many of the L actions are taken, 1 … L; 0 where the node has no legal action
    # float32[B]: of the whole turn, under the distribution that it was drawn from; a turn whose is NaN is no candidate
    log_prob: jax.Array
    # float32[B]: of that distribution, of whole turns, in nats; or an estimate of it, such as the sum of the entropies
    # of the decisions that were taken. Only `entropy_backtrack` reads it; NaN is above no threshold.
    entropy: jax.Array


class Candidate(NamedTuple):
    """What a caller's score sees of one candidate for each of B roots."""

    embedding: Any  # [B, …]: of the child
    action: jax.Array  # int32[B] or int32[B, L]
    reward: jax.Array  # float32[B]: of the turn
    discount: jax.Array  # float32[B]: of the turn; 0 where it ended the episode
    total: jax.Array  # float32[B]: discounted return from the root to the child
    parent_total: jax.Array  # float32[B]
    turn: jax.Array  # int32[]: 0 for children of the root


@pytree_dataclass
class Counts:
    """What a search did for each root, int32[B] each. `generated + wasted` rows went through `model.step`."""

    generated: jax.Array  # transitions of live nodes with legal actions: the nodes of the search
    unique: jax.Array  # of these, those that deduplication did not merge with another
    evaluated: jax.Array  # live nodes whose logits and value were asked for
    # Rows stepped for nothing: of ended nodes, empty slots, illegal candidates, finished roots; and those that a beam
    # over one of our environments steps a second time, the candidates that it keeps.
    wasted: jax.Array
    policy_forwards: jax.Array  # rows that went through `model.evaluate` (a recurrent_fn: through the function)
    # Nodes reached, and roots, that had not ended but had no legal action. Only a model with `ended` (`from_env`) can
    # tell of roots that they have ended; without it, those that leave no action count too.
    dead_ends: jax.Array


@pytree_dataclass
class SearchTree:
    """The nodes that a search kept, time-major: slot w of turn t of root b, with mctx's names.

    Turn t holds the nodes after t + 1 turns. A node that had ended before turn t stays in the tree as a copy of
    itself: action −1 and length 0. All integers have the smallest signed dtype that holds them.
    """

    parents: jax.Array  # [K, B, W]: slot of the parent in turn t − 1 (the root: 0); −1 for empty slots
    action_from_parent: jax.Array  # [K, B, W], or [K, B, W, L] for turns of several actions; −1 for copies
    lengths: jax.Array  # [K, B, W]: primitive actions taken in the turn
    rewards: jax.Array  # float32[K, B, W]: of the turn
    log_probs: jax.Array  # float32[K, B, W]: behaviour log-probability of the turn, at the temperature used
    node_values: jax.Array  # float32[K, B, W]: the node's score
    node_visits: jax.Array  # [K, B, W]: 1 for a node, 0 for an empty slot
    final_values: jax.Array  # float32[B, W]: what the slots of the last turn are ranked by
    final_returns: jax.Array  # float32[B, W]: their discounted returns from the root
    candidates: jax.Array  # [K, B, W]: i, where the node was played with word i of `bits(fold_in(root_key, t))`; else 0

    @property
    def num_turns(self) -> int:
        """K."""
        return self.parents.shape[0]

    @property
    def width(self) -> int:
        """W."""
        return self.parents.shape[2]


@pytree_dataclass
class BacktrackTree:
    """All nodes of rollouts that step back, the discarded ones too: node (i, b, n) was made in iteration i.

    An iteration in which a rollout did not act leaves action −1, length 0 and node_visits 0.
    """

    parents: jax.Array  # [I, B, N]: the iteration in which the parent was made; −1 where it is the root
    action_from_parent: jax.Array  # [I, B, N], or [I, B, N, L]
    lengths: jax.Array  # [I, B, N]
    rewards: jax.Array  # float32[I, B, N]
    log_probs: jax.Array  # float32[I, B, N]
    node_values: jax.Array  # float32[I, B, N]: the node's score
    node_visits: jax.Array  # [I, B, N]: 1 for a node
    steps_back: jax.Array  # [I, B, N]: turns that the rollout stepped back before it acted; 0 without a trigger
    # float32[I, B, N]: of the policy where the rollout stood before it stepped back, in nats; with `propose` of the
    # turn that it drew there
    entropies: jax.Array
    final_nodes: jax.Array  # int32[B, N]: where each rollout ended; −1: the root
    path_lengths: jax.Array  # int32[B, N]: turns from the root to there
    final_values: jax.Array  # float32[B, N]: what the rollouts are ranked by
    final_returns: jax.Array  # float32[B, N]
    num_turns: int = static_field()  # K: no path is longer
    clairvoyant: bool = static_field(default=False)  # words belong to positions of a path, not to iterations

    @property
    def width(self) -> int:
        """N."""
        return self.parents.shape[2]


@pytree_dataclass
class Trajectories:
    """Paths from the root, best first; turns that were not taken have mask False, action −1, reward 0, log-prob 0."""

    actions: jax.Array  # int32[B, k, K], or int32[B, k, K, L]
    lengths: jax.Array  # int32[B, k, K]: primitive actions taken in each turn
    rewards: jax.Array  # float32[B, k, K]
    log_probs: jax.Array  # float32[B, k, K]
    mask: jax.Array  # bool[B, k, K]
    returns: jax.Array  # float32[B, k]: discounted
    scores: jax.Array  # float32[B, k]: what they are ranked by; −inf where there are fewer than k paths
    words: jax.Array  # int32[B, k, K, 2]: (t, i) of a turn played with word i of `bits(fold_in(root_key, t))`; else −1
    simulated: bool = static_field(default=True)  # the search chose among outcomes that it had drawn itself

    def plan(self) -> jax.Array:
        """int32[B, K · L]: the primitive actions of each root's best path, in order; −1 fills the rest."""
        actions = self.actions[:, 0]
        flat = actions.reshape(actions.shape[0], -1)
        order = jnp.argsort(flat < 0, axis=-1, stable=True)
        return jnp.take_along_axis(flat, order, axis=-1)


@pytree_dataclass
class SearchOutput:
    """The result of a search."""

    # int32[B], or int32[B, L]: the first turn of the best path; −1 where there is none: the root has no legal action,
    # its budget allows none, or all scores are −inf
    action: jax.Array
    action_weights: jax.Array  # float32[B, A], or [B, M] over root candidates for turns of several actions
    search_tree: Any  # SearchTree; BacktrackTree under `entropy_backtrack`, mctx's Tree under `mcts`
    counts: Counts
    value: jax.Array  # float32[B]: the score of the best path
    key_hashes: jax.Array | None = None  # uint32[B]: of the roots' keys, to know them again; None under `mcts`
    simulated: bool = static_field(default=True)  # see Trajectories

    def trajectories(self, k: int = 1) -> Trajectories:
        """The k best paths of each root."""
        from jaxrl_agents.search import trajectory

        if isinstance(self.search_tree, mctx.Tree):
            return trajectory.principal_variations(self.search_tree, self.action, k)
        return trajectory.best_paths(self.search_tree, k, self.simulated)
