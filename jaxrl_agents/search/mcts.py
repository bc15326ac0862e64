"""MCTS: mctx's policies behind the signature and the output of the other modes."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import mctx

from jaxrl_agents.search import arguments
from jaxrl_agents.search.model import RecurrentModel
from jaxrl_agents.search.proposals import legal_actions
from jaxrl_agents.search.types import Counts, RootFnOutput, SearchOutput

Policy = Literal["gumbel_muzero", "muzero"]

_POLICIES = {"gumbel_muzero": mctx.gumbel_muzero_policy, "muzero": mctx.muzero_policy}


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
      A SearchOutput with mctx's Tree. `trajectories(1)` follows the most visited children; action −1 where the root
      has no legal action.
    """
    num_simulations = arguments.count("num_simulations", num_simulations)
    if policy not in get_args(Policy):
        raise ValueError(f"policy={policy!r} is neither 'gumbel_muzero' nor 'muzero'")
    if propose is not None or max_turn_actions != 1:
        raise ValueError(
            "mcts cannot search turns of several actions (propose, max_turn_actions): its tree needs a fixed set of "
            "actions; use beam_search or lookahead"
        )
    depth = None if max_depth is None else arguments.count("max_depth", max_depth)
    one_key = rng_key if getattr(rng_key, "ndim", 0) == 0 else rng_key[0]
    params, _, _, searched = arguments.inputs(params, rng_key, root, model, tasks, invalid_actions)
    if invalid_actions is None:
        invalid_actions = _illegal(root.prior_logits)
    arrays = {name: value for name, value in policy_options.items() if hasattr(value, "dtype")}
    fixed = tuple((name, value) for name, value in policy_options.items() if name not in arrays)
    return _search(params, one_key, root, searched, invalid_actions, arrays, fixed, num_simulations, policy, depth)


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
    found = _POLICIES[policy](
        params, key, root, recurrent_fn, num_simulations, invalid_actions, max_depth, **arrays, **dict(fixed)
    )
    legal = legal_actions(root.prior_logits)
    if invalid_actions is not None:
        legal &= ~invalid_actions.astype(bool)
    has_legal = legal.any(axis=-1)
    return SearchOutput(
        action=jnp.where(has_legal, found.action, -1),
        action_weights=jnp.where(has_legal[:, None], found.action_weights, 0),
        search_tree=found.search_tree,
        counts=_counts(found.search_tree, num_simulations, has_legal),
        value=found.search_tree.node_values[:, 0],
        simulated=False,
    )


def _illegal(logits: jax.Array) -> jax.Array | None:
    """The illegal actions of the root as mctx wants them; None, as mctx's default, where there plainly are none."""
    illegal = ~legal_actions(logits)
    if not isinstance(illegal, jax.core.Tracer) and not illegal.any():
        return None
    return illegal.astype(jnp.float32)


def _counts(tree: Any, num_simulations: int, has_legal: jax.Array) -> Counts:
    """Each simulation steps and evaluates one row per root; those that start from an ended node are wasted."""
    roots = jnp.arange(len(tree.parents))[:, None]
    parents = jnp.maximum(tree.parents, 0)

    def below_ended() -> jax.Array:
        ended = (tree.parents >= 0) & (tree.children_discounts[roots, parents, tree.action_from_parent] == 0)
        return jnp.take_along_axis(ended, parents, axis=1)

    # Gathers from whole trees cost some per cent of the search, and most often no episode ends.
    any_ended = jnp.any((tree.children_index >= 0) & (tree.children_discounts == 0))
    wasted = jax.lax.cond(any_ended, below_ended, lambda: jnp.zeros(parents.shape, bool))
    made = (tree.parents >= 0) & ~wasted & has_legal[:, None]
    generated = made.sum(1, dtype=jnp.int32)
    whole = jnp.full_like(generated, num_simulations)
    dead_ends = (~has_legal).astype(jnp.int32)
    return Counts(generated, generated, generated, whole - generated, whole, dead_ends)
