"""MCTS: mctx's policies behind the signature and the output of the other modes."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import mctx

from jaxrl_agents.search import arguments
from jaxrl_agents.search.model import RecurrentModel
from jaxrl_agents.search.proposals import legal_actions
from jaxrl_agents.search.types import Counts, RootFnOutput, SearchOutput

Policy = Literal["gumbel_muzero", "muzero"]

POLICIES = {"gumbel_muzero": mctx.gumbel_muzero_policy, "muzero": mctx.muzero_policy}


def mcts(
    params: Any,
    rng_key: jax.Array,
    root: RootFnOutput,
    model: Any,
    *,
    tasks: Any = None,
    num_simulations: int,
    policy: Policy = "gumbel_muzero",
    max_depth: int | None = None,
    propose: None = None,
    max_turn_actions: int = 1,
    invalid_actions: jax.Array | None = None,
    **policy_options: Any,
) -> SearchOutput:
    """Monte-Carlo tree search with `mctx.gumbel_muzero_policy` or `mctx.muzero_policy`.

    Visits, action and weights are exactly mctx's for the same key. A simulated transition is an edge of the tree: the
    action chosen is to be executed with a word of its own. mctx draws for the whole batch, so with one key per root
    the first is used for all, and a root's result depends on the batch.

    Args:
      params: passed to the model; with `tasks` the model receives `(params, tasks)`.
      rng_key: a typed key, or one per root, [B].
      root: mctx's RootFnOutput, leading axis B.
      model: a Model, `from_env(…)`, or mctx's recurrent_fn.
      tasks: static data per root, leading axis B (a TaskBank of B will do).
      num_simulations: S; each costs a step and an evaluation per root, past the end of an episode too.
      policy: "gumbel_muzero" or "muzero".
      max_depth: of the tree; S by default.
      propose: not supported: MCTS needs a fixed set of actions.
      max_turn_actions: not supported above 1.
      invalid_actions: [B, A], nonzero where the root must not act so.
      **policy_options: mctx's own keyword arguments (qtransform, gumbel_scale, dirichlet_fraction, temperature, …).

    Returns:
      A SearchOutput with mctx's Tree. `trajectories(1)` starts with `action` and follows the most visited children;
      `value` is that of the root; action −1 where the root has no legal action. mctx simulates below ended nodes and
      dead ends too: such nodes are counted as wasted and are on no trajectory.
    """
    num_simulations, depth = mcts_options(
        num_simulations=num_simulations,
        policy=policy,
        max_depth=max_depth,
        propose=propose,
        max_turn_actions=max_turn_actions,
        **policy_options,
    )
    params, _, checked_root, searched = arguments.inputs(params, rng_key, root, model, tasks, None)
    if invalid_actions is not None:  # mctx masks itself
        arguments.check_mask(invalid_actions, root.prior_logits.shape)
    one_key = rng_key if rng_key.ndim == 0 else rng_key[0]
    root = checked_root.replace(embedding=arguments.constant(root.embedding))
    invalid_actions = _illegal(root.prior_logits, invalid_actions)
    arrays = {name: value for name, value in policy_options.items() if hasattr(value, "dtype")}
    fixed = tuple((name, value) for name, value in policy_options.items() if name not in arrays)
    return _search(params, one_key, root, searched, invalid_actions, arrays, fixed, num_simulations, policy, depth)


def mcts_options(
    *, num_simulations: Any, policy: Any, max_depth: Any, propose: Any, max_turn_actions: Any, **policy_options: Any
) -> tuple[int, int | None]:
    """(number of simulations, largest depth), after a check of all options."""
    num_simulations = arguments.count("num_simulations", num_simulations)
    if propose is not None or arguments.count("max_turn_actions", max_turn_actions) > 1:
        raise ValueError(
            "mcts cannot search turns of several actions (propose, max_turn_actions): its tree needs a fixed set of "
            "actions; use beam_search or lookahead"
        )
    arguments.check_policy_options(policy, POLICIES, policy_options)
    return num_simulations, None if max_depth is None else arguments.count("max_depth", max_depth)


@partial(jax.jit, static_argnames=("fixed", "num_simulations", "policy", "max_depth"))
def _search(
    params: Any,
    key: jax.Array,
    root: RootFnOutput,
    model: Any,
    invalid_actions: jax.Array | None,
    arrays: dict[str, jax.Array],
    fixed: tuple[tuple[str, Any], ...],
    num_simulations: int,
    policy: Policy,
    max_depth: int | None,
) -> SearchOutput:
    recurrent_fn = jax.named_scope("step")(model.recurrent_fn) if isinstance(model, RecurrentModel) else model
    found = POLICIES[policy](
        params, key, root, recurrent_fn, num_simulations, invalid_actions, max_depth, **arrays, **dict(fixed)
    )
    legal = legal_actions(root.prior_logits)
    if invalid_actions is not None:
        legal &= ~invalid_actions.astype(bool)
    ended = model.ended(params, root.embedding) if getattr(model, "ended", None) else jnp.zeros(len(legal), bool)
    has_legal = legal.any(axis=-1) & ~ended
    return SearchOutput(
        action=jnp.where(has_legal, found.action, -1),
        action_weights=jnp.where(has_legal[:, None], found.action_weights, 0),
        search_tree=found.search_tree,
        counts=_counts(found.search_tree, num_simulations, has_legal, ended),
        value=jnp.where(ended, 0, found.search_tree.node_values[:, 0]),
        simulated=False,
    )


def _illegal(logits: jax.Array, invalid_actions: jax.Array | None) -> jax.Array | None:
    """The illegal actions of the root as mctx wants them; None, as mctx's default, where there plainly are none."""
    illegal = ~legal_actions(logits)
    if invalid_actions is not None:
        illegal |= invalid_actions.astype(bool)
    elif not isinstance(illegal, jax.core.Tracer) and not illegal.any():
        return None
    return illegal.astype(jnp.float32)


def _counts(tree: mctx.Tree, num_simulations: int, has_legal: jax.Array, ended: jax.Array) -> Counts:
    """Each simulation steps and evaluates one row per root; what starts below an ended node or a dead end is wasted.

    A node at `max_depth` may be stepped to several times: its visits less those of its children tell how often.
    """
    stuck = ~legal_actions(tree.children_prior_logits).any(axis=-1)  # unvisited nodes have logits 0
    whole = jnp.full(has_legal.shape, num_simulations, jnp.int32)
    nothing = jnp.zeros_like(whole)

    def of_each_node() -> tuple[jax.Array, jax.Array]:
        roots, parents = jnp.arange(len(whole))[:, None], jnp.maximum(tree.parents, 0)
        over = (tree.parents >= 0) & (tree.children_discounts[roots, parents, tree.action_from_parent] == 0)
        spoiled = jnp.take_along_axis(_on_the_way(over | stuck, parents), parents, axis=1)
        reached = (tree.parents >= 0) & ~spoiled
        steps = tree.node_visits - tree.children_visits.sum(axis=-1)
        generated = jnp.sum(jnp.where(reached, steps, 0), axis=1, dtype=jnp.int32)
        return generated, (reached & stuck & ~over).sum(1, dtype=jnp.int32)

    # Gathers from whole trees cost some per cent of the search, and most often there is nothing to find.
    going_on = jnp.sum(tree.children_discounts != 0, axis=(1, 2), dtype=jnp.int32)
    anything = jnp.any((going_on != num_simulations) | stuck.any(axis=1))
    generated, dead_ends = jax.lax.cond(anything, of_each_node, lambda: (whole, nothing))
    generated = jnp.where(has_legal, generated, 0)
    dead_ends = jnp.where(has_legal, dead_ends, (~ended).astype(jnp.int32))
    return Counts(generated, generated, generated, whole - generated, whole, dead_ends)


def _on_the_way(flags: jax.Array, parents: jax.Array) -> jax.Array:
    """bool[B, N]: whether a node or one above it has its flag; `parents` int32[B, N], the root its own."""
    for _ in range((flags.shape[1] - 1).bit_length()):  # each round looks twice as far up
        flags |= jnp.take_along_axis(flags, parents, axis=1)
        parents = jnp.take_along_axis(parents, parents, axis=1)
    return flags
