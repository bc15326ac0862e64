"""The checks of what users pass, before anything is traced."""

from __future__ import annotations

import math
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np

from envs_jax.tasks import TaskBank
from jaxrl_agents.arguments import count
from jaxrl_agents.search.model import EnvModel, Evaluated, RecurrentModel, SearchModel, as_model
from jaxrl_agents.search.nodes import Branching
from jaxrl_agents.search.proposals import Candidates, float32_logits, legal_actions
from jaxrl_agents.search.types import RootFnOutput


def number(name: str, value: Any) -> Any:
    """`value` as a float32 scalar, checked not to be NaN where it is concrete."""
    if isinstance(value, jax.core.Tracer):
        return value
    kind = np.asarray(value).dtype
    if not (jnp.issubdtype(kind, jnp.integer) or jnp.issubdtype(kind, jnp.floating)):
        raise TypeError(f"{name}={value!r} is not a number")
    if np.ndim(value) != 0:
        raise ValueError(f"{name} must be a scalar; got shape {np.shape(value)}")
    if math.isnan(value):
        raise ValueError(f"{name}={value} is not a number")
    return jnp.float32(value)


def finite(name: str, value: Any, *, low: float) -> Any:
    """`value` as `number` has it, checked to be finite and above `low` where it is concrete."""
    checked = number(name, value)
    if not isinstance(value, jax.core.Tracer) and not (math.isfinite(value) and value > low):
        raise ValueError(f"{name}={float(value)} must be a finite number above {low:g}")
    return checked


def unbanked(tasks: Any) -> Any:
    """The instances of a TaskBank, or `tasks` as it is."""
    return tasks.instances if isinstance(tasks, TaskBank) else tasks


def inputs(
    params: Any, rng_key: Any, root: RootFnOutput, model: Any, tasks: Any, invalid_actions: Any
) -> tuple[Any, jax.Array, RootFnOutput, SearchModel]:
    """What a search starts from: the model's first argument, a key per root, the root (masked), the model."""
    if not isinstance(root, RootFnOutput):
        raise TypeError(f"root must be a RootFnOutput (prior_logits, value, embedding); got {type(root).__name__}")
    if root.prior_logits.ndim != 2 or root.value.shape != root.prior_logits.shape[:1]:
        raise ValueError(
            f"root.prior_logits must be [B, A] and root.value [B]; got shapes {root.prior_logits.shape} and "
            f"{root.value.shape}"
        )
    batch_size = root.value.shape[0]
    _check_leading("root.embedding", root.embedding, batch_size)
    searched = as_model(model)
    if tasks is None and isinstance(searched, EnvModel):
        raise ValueError("tasks is None; a model made by from_env needs the task instances of the roots, [B, …]")
    if tasks is not None:
        if isinstance(searched, EnvModel):
            check = searched.env.check_tasks if isinstance(tasks, TaskBank) else searched.env.check_task
            check(tasks)
        tasks = unbanked(tasks)
        _check_leading("tasks", tasks, batch_size)
        params = (params, tasks)
    keys = _keys(rng_key, batch_size)
    if invalid_actions is not None:
        if invalid_actions.shape != root.prior_logits.shape:
            raise ValueError(
                f"invalid_actions has shape {invalid_actions.shape}; root.prior_logits {root.prior_logits.shape}"
            )
        masked = jnp.where(invalid_actions.astype(bool), -jnp.inf, root.prior_logits)
        root = RootFnOutput(prior_logits=masked, value=root.value, embedding=root.embedding)
    logits, value = float32_logits(root.prior_logits), root.value.astype(jnp.float32)
    root = RootFnOutput(prior_logits=logits, value=value, embedding=root.embedding)
    if isinstance(searched, RecurrentModel):
        embedding = Evaluated(root.embedding, root.prior_logits, root.value)
        root = RootFnOutput(prior_logits=root.prior_logits, value=root.value, embedding=embedding)
    return params, keys, root, searched


def branching(
    root: RootFnOutput,
    *,
    num_candidates: Any,
    candidates: Candidates,
    propose: Any,
    max_turn_actions: Any,
    score: Any,
    temperature: Any,
) -> Branching:
    """The checked options of how candidates are made and scored; `num_candidates` None means all actions."""
    num_actions = root.prior_logits.shape[1]
    if candidates not in get_args(Candidates):
        raise ValueError(f"candidates={candidates!r} is not one of {', '.join(map(repr, get_args(Candidates)))}")
    if num_candidates is None and candidates != "enumerate":
        raise ValueError("num_candidates is None; it can be left out only with candidates='enumerate' (A)")
    number = num_actions if num_candidates is None else count("num_candidates", num_candidates)
    if propose is None and candidates == "enumerate" and number != num_actions:
        raise ValueError(f"num_candidates={number}; candidates='enumerate' takes all {num_actions} actions")
    if propose is None and candidates == "gumbel" and number > num_actions:
        raise ValueError(f"num_candidates={number} different actions of {num_actions} cannot be drawn")
    length = count("max_turn_actions", max_turn_actions)
    if length > 1 and propose is None and candidates != "sample":
        raise ValueError(
            f"max_turn_actions={length} with candidates={candidates!r}: turns of several actions are sampled "
            "(candidates='sample') or come from `propose`"
        )
    check_score(score)
    return Branching(candidates, number, length, propose, score, finite("temperature", temperature, low=0.0))


def check_score(score: Any) -> None:
    """Raises where nodes cannot be ranked by `score`."""
    if not callable(score) and score not in ("return", "step"):
        raise ValueError(f"score={score!r} is neither 'return' nor 'step' nor a function (params, candidate) -> [B]")


def node_budget(budget: Any, batch_size: int) -> jax.Array:
    """int32[B]: the nodes that each root may generate; the largest int32 without a limit."""
    if budget is None:
        return jnp.full((batch_size,), np.iinfo(np.int32).max, jnp.int32)
    budget = jnp.asarray(budget)
    if not jnp.issubdtype(budget.dtype, jnp.integer) or budget.shape not in ((), (batch_size,)):
        raise ValueError(f"node_budget must be integers [] or [{batch_size}]; got {budget.dtype}{list(budget.shape)}")
    return jnp.broadcast_to(budget, (batch_size,)).astype(jnp.int32)


def any_legal(root: RootFnOutput) -> jax.Array:
    """bool[B]: roots with a legal action."""
    return legal_actions(root.prior_logits).any(axis=-1)


def _keys(rng_key: Any, batch_size: int) -> jax.Array:
    if not jnp.issubdtype(getattr(rng_key, "dtype", np.float32), jax.dtypes.prng_key):
        raise TypeError("rng_key must be a typed key (jax.random.key(seed)), or one per root")
    if rng_key.shape not in ((), (batch_size,)):
        raise ValueError(f"rng_key has shape {rng_key.shape}; one key, or one per root ({batch_size},)")
    return rng_key if rng_key.ndim else jax.random.split(rng_key, batch_size)


def _check_leading(name: str, tree: Any, batch_size: int) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if np.shape(leaf)[:1] != (batch_size,):
            raise ValueError(
                f"{name}{jax.tree_util.keystr(path)} has shape {np.shape(leaf)}; its first axis must be the "
                f"{batch_size} roots"
            )
