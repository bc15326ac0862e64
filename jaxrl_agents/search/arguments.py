"""The checks of what users pass, before anything is traced. Tracers are checked for shape and dtype only.

Nothing here computes on a device without need: numbers stay NumPy's, which costs a call less than all else does.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Callable
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np

from envs_jax.arguments import as_float, check_choice
from envs_jax.environment import Environment
from envs_jax.tasks import TaskBank
from jaxrl_agents.arguments import LARGEST, count
from jaxrl_agents.search import returned, rng
from jaxrl_agents.search.arrays import described, is_array, leading_axis
from jaxrl_agents.search.model import EnvModel, Evaluated, RecurrentModel, SearchModel, as_model
from jaxrl_agents.search.nodes import Branching
from jaxrl_agents.search.proposals import Candidates, float32_logits
from jaxrl_agents.search.types import RootFnOutput

_RANGES = {  # of mctx's options
    "dirichlet_fraction": (0.0, 1.0),
    "dirichlet_alpha": (float(np.finfo(np.float32).tiny), math.inf),
    "temperature": (0.0, math.inf),
    "gumbel_scale": (0.0, math.inf),
}


def number(name: str, value: Any) -> Any:
    """`value` as a float32 scalar, checked not to be NaN where it is concrete."""
    traced = isinstance(value, jax.core.Tracer)
    if isinstance(value, int) and not isinstance(value, bool):
        value = as_float(name, value)  # NumPy has no dtype for an integer beyond 64 bits
    kind = value.dtype if traced else np.asarray(value).dtype
    if not (jnp.issubdtype(kind, jnp.integer) or jnp.issubdtype(kind, jnp.floating)):
        raise TypeError(f"{name}={value!r} is not a number")
    if np.ndim(value) != 0:
        raise ValueError(f"{name} must be a scalar; got shape {np.shape(value)}")
    if traced:
        return constant(value.astype(jnp.float32))
    if math.isnan(value):
        raise ValueError(f"{name}={value} is not a number")
    with np.errstate(over="ignore"):
        return np.float32(value)


def finite(name: str, value: Any, *, low: float) -> Any:
    """`value` as `number` has it, checked to be finite and above `low`, in float32, where it is concrete.

    Numbers too small for their full precision count as 0, as the processor has them.
    """
    checked_value = number(name, value)
    if isinstance(value, jax.core.Tracer):
        return checked_value
    seen = checked_value if abs(checked_value) >= np.finfo(np.float32).tiny else np.float32(0)
    if not (math.isfinite(seen) and seen > low):
        raise ValueError(f"{name}={float(value)} must be a finite number above {low:g} (in float32)")
    return checked_value


def flag(name: str, value: Any) -> bool:
    """`value`, checked to be True or False."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}={value!r} is neither True nor False")
    return bool(value)


def unbanked(tasks: Any) -> Any:
    """The instances of a TaskBank, or `tasks` as it is."""
    return tasks.instances if isinstance(tasks, TaskBank) else tasks


def instances(env: Environment[Any, Any], name: str, states: Any, tasks: Any) -> Any:
    """The task instances of `states`, both with leaves [B, …] and `env`'s; `name` is what errors call the states."""
    if tasks is None:
        raise ValueError("tasks is None; a model made by from_env needs the task instances of the roots, [B, …]")
    (env.check_tasks if isinstance(tasks, TaskBank) else env.check_task)(tasks)
    if not isinstance(states, env.state_type) or not hasattr(states, "steps"):
        raise TypeError(
            f"{name} must be states of {type(env).__name__}, as jax.vmap(env.reset)(keys, tasks) returns them; got "
            f"{type(states).__name__}"
        )
    if np.ndim(states.steps) != 1:
        raise ValueError(f"{name} must be a batch of states, [B, …]; got steps of shape {np.shape(states.steps)}")
    leading_axis(name, states, len(states.steps))
    leading_axis("tasks", unbanked(tasks), len(states.steps))
    return unbanked(tasks)


def inputs(
    params: Any, rng_key: Any, root: RootFnOutput, model: Any, tasks: Any, invalid_actions: Any
) -> tuple[Any, jax.Array, RootFnOutput, SearchModel]:
    """What a search starts from: the model's first argument, a key per root, the root (masked), the model."""
    params, root, tasks = constant((params, checked_root(root), tasks))
    batch_size, num_actions = root.prior_logits.shape
    searched = as_model(model, num_actions)
    if isinstance(searched, EnvModel):
        tasks = instances(searched.env, "root.embedding", root.embedding, tasks)
        if num_actions != searched.env.num_actions:
            raise ValueError(
                f"root.prior_logits has {num_actions} actions; {type(searched.env).__name__} has "
                f"{searched.env.num_actions}"
            )
    elif tasks is not None:
        tasks = unbanked(tasks)
        leading_axis("tasks", tasks, batch_size)
    if tasks is not None:
        params = (params, tasks)
    keys = _keys(rng_key, batch_size)
    if invalid_actions is not None:
        check_mask(invalid_actions, root.prior_logits.shape)
        masked = jnp.where(invalid_actions.astype(bool), np.float32(-np.inf), root.prior_logits)
        root = root.replace(prior_logits=masked)
    if isinstance(searched, RecurrentModel):
        root = root.replace(embedding=Evaluated(root.embedding, root.prior_logits, root.value))
    return params, keys, root, searched


def constant(tree: Any) -> Any:
    """`tree`, a constant to jax.grad as far as it is traced: searches have no gradient, which loops would refuse."""
    return jax.tree.map(lambda leaf: jax.lax.stop_gradient(leaf) if isinstance(leaf, jax.core.Tracer) else leaf, tree)


def checked_root(root: RootFnOutput) -> RootFnOutput:
    """The root with logits and value in float32; raises where it cannot be searched."""
    check_root(root)
    _check_values("root.prior_logits", root.prior_logits, "a logit is finite, or −inf for an illegal action")
    _check_values("root.value", root.value, "a value is finite")
    if root.prior_logits.dtype == root.value.dtype == jnp.float32:
        return root
    logits = float32_logits(jnp.asarray(root.prior_logits))
    return root.replace(prior_logits=logits, value=jnp.asarray(root.value, jnp.float32))


def check_root(root: RootFnOutput) -> None:
    """Raises unless the arrays of a root have the shapes and dtypes of one."""
    if not isinstance(root, RootFnOutput):
        raise TypeError(f"root must be a RootFnOutput (prior_logits, value, embedding); got {type(root).__name__}")
    logits, value = root.prior_logits, root.value
    for name, array in (("root.prior_logits", logits), ("root.value", value)):
        if not is_array(array) or not jnp.issubdtype(array.dtype, jnp.floating):
            raise TypeError(f"{name} must be an array of floats; got {described(array)}")
    if logits.ndim != 2 or value.shape != logits.shape[:1]:
        raise ValueError(
            f"root.prior_logits must be [B, A] and root.value [B]; got shapes {logits.shape} and {value.shape}"
        )
    if 0 in logits.shape:
        raise ValueError(f"root.prior_logits has shape {logits.shape}; a search needs at least one root and one action")
    leading_axis("root.embedding", root.embedding, len(value))


def _check_values(name: str, array: Any, rule: str) -> None:
    """Raises where a concrete array holds NaN or +inf: its largest element tells, which is cheap to find."""
    if isinstance(array, jax.core.Tracer | jax.ShapeDtypeStruct) or not getattr(array, "is_fully_addressable", True):
        return
    values = np.asarray(array)
    if values.dtype != np.float32:
        values = values.astype(np.float64)  # NumPy warns of NaN in narrow floats
    if not values.max() < np.inf:
        where = tuple(map(int, np.argwhere(~(values < np.inf))[0]))
        raise ValueError(f"{name}{list(where)} is {float(values[where])}; {rule}")


def check_mask(invalid_actions: Any, shape: tuple[int, ...]) -> None:
    """Raises unless `invalid_actions` are booleans or numbers of the `shape` [B, A] of the root's logits."""
    if not is_array(invalid_actions):
        raise TypeError(f"invalid_actions must be an array [B, A]; got {described(invalid_actions)}")
    kinds = (jnp.bool_, jnp.integer, jnp.floating)
    if not any(jnp.issubdtype(invalid_actions.dtype, kind) for kind in kinds):
        raise TypeError(f"invalid_actions must be booleans or numbers; got {described(invalid_actions)}")
    if invalid_actions.shape != shape:
        raise ValueError(f"invalid_actions has shape {invalid_actions.shape}; root.prior_logits {shape}")
    if jnp.issubdtype(invalid_actions.dtype, jnp.floating):
        _check_values("invalid_actions", invalid_actions, "0 allows an action, any other finite number forbids it")


def branching(
    root: RootFnOutput,
    *,
    num_candidates: Any,
    candidates: Candidates,
    propose: Any,
    max_turn_actions: Any,
    score: Any,
    temperature: Any,
    invalid_actions: Any = None,
) -> Branching:
    """The checked options of how candidates are made and scored; `num_candidates` None means all actions."""
    num_actions = root.prior_logits.shape[1]
    check_choice("candidates", candidates, get_args(Candidates))
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
    proposer = None if propose is None else _proposer("propose", propose, length, num_actions)
    if propose is not None and candidates != "sample":
        raise ValueError(
            f"candidates={candidates!r} with propose: all candidates come from `propose`; leave one of the two out"
        )
    if propose is not None and invalid_actions is not None:
        raise ValueError("invalid_actions with propose: turns are played as `propose` draws them; mask them there")
    heat = finite("temperature", temperature, low=0.0)
    if propose is not None and not isinstance(heat, jax.core.Tracer) and heat != 1:
        raise ValueError(
            f"temperature={float(heat):g} with propose: it draws its turns itself; divide its logits there"
        )
    check_score(score)
    scored = returned.Score(score) if callable(score) else score
    return Branching(candidates, number, length, proposer, scored, heat)


def _proposer(name: str, propose: Any, max_turn_actions: int, num_actions: int) -> returned.Propose:
    if not callable(propose):
        raise TypeError(f"{name}={propose!r} is not a function (params, key, embedding) -> Proposal")
    return returned.Propose(propose, max_turn_actions, num_actions, name)


def retries(root: RootFnOutput, branching: Branching, retry_propose: Any, retry_temperature: Any) -> Branching:
    """How turns are made again: by `retry_propose` where there is a `propose`, else at the `retry_temperature`."""
    if branching.propose is None:
        if retry_propose is not None:
            raise ValueError("retry_propose without propose: pass both, or give a retry_temperature")
        heat = finite("retry_temperature", 1.5 if retry_temperature is None else retry_temperature, low=0.0)
        return dataclasses.replace(branching, temperature=heat)
    if retry_temperature is not None:
        raise ValueError(
            f"retry_temperature={retry_temperature} with propose: give the function that draws retried turns, "
            "retry_propose"
        )
    if retry_propose is None:
        return branching
    again = _proposer("retry_propose", retry_propose, branching.turn_actions, root.prior_logits.shape[1])
    return dataclasses.replace(branching, propose=again)


def check_nodes(num_nodes: int) -> None:
    """Raises where the nodes that a root may generate in a turn are more than can be counted."""
    if num_nodes > LARGEST:
        raise ValueError(f"a turn of one root would generate {num_nodes:,} nodes; at most {LARGEST:,} can be counted")


def check_history(root: RootFnOutput, num_turns: int, width: int) -> None:
    """Raises where a search of all roots would keep more nodes than an array can hold."""
    batch_size = len(root.prior_logits)
    if num_turns * width * batch_size > LARGEST:
        raise ValueError(
            f"num_turns={num_turns:,} turns of {width:,} nodes for {batch_size:,} roots are more than the "
            f"{LARGEST:,} nodes that an array can hold; use fewer turns, or `chunked`"
        )


def check_score(score: Any) -> None:
    """Raises where nodes cannot be ranked by `score`."""
    if not callable(score) and not (isinstance(score, str) and score in ("return", "step")):
        raise ValueError(f"score={score!r} is neither 'return' nor 'step' nor a function (params, candidate) -> [B]")


def node_budget(budget: Any, batch_size: int) -> Any:
    """int32[] or int32[B]: the nodes that each root may generate; the largest int32 without a limit.

    0 is a budget: nothing is played then.
    """
    if budget is None:
        return np.int32(LARGEST)
    traced = isinstance(budget, jax.core.Tracer)
    values = budget if traced else np.asarray(budget)
    if not jnp.issubdtype(values.dtype, jnp.integer) or values.shape not in ((), (batch_size,)):
        got = described(budget if is_array(budget) else values)
        raise ValueError(f"node_budget must be integers [] or [{batch_size}]; got {got}")
    if traced:  # what is above is never reached: nodes are counted in int32
        return values if values.dtype == jnp.int32 else jnp.minimum(values, LARGEST).astype(jnp.int32)
    wrong = values[(values < 0) | (values > LARGEST)]
    if wrong.size:
        raise ValueError(f"node_budget={wrong[0]} is not in 0 … {LARGEST}; None means no limit")
    return values.astype(np.int32)


def plan(name: str, actions: Any, root: RootFnOutput, *forms: tuple[str, ...]) -> Any:
    """Actions, checked: integers [B, …] of one of the `forms`, −1 … A − 1 where they are concrete.

    A form names the axes after B: () or ("T",), say.
    """
    batch_size, num_actions = root.prior_logits.shape
    fits = is_array(actions) and len(actions.shape) in [1 + len(axes) for axes in forms]
    if not fits or not jnp.issubdtype(actions.dtype, jnp.integer) or actions.shape[0] != batch_size:
        shapes = " or ".join(f"[{', '.join([str(batch_size), *axes])}]" for axes in forms)
        raise ValueError(f"{name} must be integers {shapes}; got {described(actions)}")
    if not isinstance(actions, jax.core.Tracer) and getattr(actions, "is_fully_addressable", True):
        values = np.asarray(actions)
        wrong = values[(values < -1) | (values >= num_actions)]
        if wrong.size:
            raise ValueError(f"{name} holds {wrong[0]}; actions are 0 … {num_actions - 1}, and −1 takes no step")
    return actions


def check_policy_options(name: str, policies: dict[str, Callable[..., Any]], options: dict[str, Any]) -> None:
    """Raises unless `name` is one of mctx's `policies` and the `options` are its own keyword arguments."""
    if not isinstance(name, str) or name not in policies:
        raise ValueError(f"policy={name!r} is neither {' nor '.join(map(repr, policies))}")
    parameters = inspect.signature(policies[name]).parameters.values()
    known = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    unknown = [option for option in options if option not in known]
    if unknown:
        hint = "; the nodes that a root generates are at most num_simulations" if "node_budget" in unknown else ""
        raise TypeError(
            f"mcts(policy={name!r}) has no argument {unknown[0]!r}; what it passes to mctx is {', '.join(known)}{hint}"
        )
    for option, value in options.items():
        if option == "qtransform":
            if not callable(value):
                raise TypeError(f"qtransform={value!r} is not a function (tree, node_index) -> q-values [A]")
        elif option.startswith("max_num_"):
            count(option, value)
        elif np.ndim(value) == 0:
            _check_range(option, number(option, value))
        elif not is_array(value):
            raise TypeError(f"{option}={value!r} is neither a number nor an array")


def _check_range(option: str, value: Any) -> None:
    """Raises where one of mctx's numbers is concrete and outside its range."""
    low, high = _RANGES.get(option, (-math.inf, math.inf))
    if not isinstance(value, jax.core.Tracer) and not low <= value <= high:
        raise ValueError(f"{option}={float(value):g} is not in [{low:g}, {high:g}]")


def check_mode(mode: Any) -> None:
    """Raises where `mode` cannot be one of the functions that search."""
    if not callable(mode):
        raise TypeError(f"mode={mode!r} is not a function; it is search.beam_search or another mode")


def _keys(rng_key: Any, batch_size: int) -> jax.Array:
    if not jnp.issubdtype(getattr(rng_key, "dtype", np.float32), jax.dtypes.prng_key):
        raise TypeError("rng_key must be a typed key (jax.random.key(seed)), or one per root")
    if rng_key.shape not in ((), (batch_size,)):
        raise ValueError(f"rng_key has shape {rng_key.shape}; one key, or one per root ({batch_size},)")
    return rng.root_keys(rng_key, batch_size)
