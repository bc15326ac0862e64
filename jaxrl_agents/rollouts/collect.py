"""From a search to trajectories: what all strategies share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_agents.arguments import count
from jaxrl_agents.rollouts.policy import Policy, PolicyModel
from jaxrl_agents.rollouts.replay import replay
from jaxrl_agents.rollouts.types import EXPERT, POLICY, Counts, Trajectory
from jaxrl_agents.search import rng
from jaxrl_agents.search.arguments import unbanked
from jaxrl_agents.search.types import SearchOutput

Per = Literal["member", "group"]


def check_per(per: str) -> None:
    """Raises where `per` is not one of its values."""
    if per not in get_args(Per):
        raise ValueError(f"per={per!r} is neither 'member' nor 'group'")


def check_group(name: str, number: int, per: str, group_size: int) -> None:
    """Raises where one search for a group has fewer paths than the group has rows."""
    if per == "group" and number < group_size:
        raise ValueError(
            f"{name}={number} is less than group_size={group_size}, and with per='group' one search gives the rows of "
            "a group: use more, or per='member'"
        )


def check_candidates(candidates: str, num_candidates: int, policy: Policy) -> None:
    """Raises where the policy cannot draw candidates so."""
    if policy.max_turn_actions > 1 and candidates != "sample":
        raise ValueError(
            f"candidates={candidates!r}: turns of max_turn_actions={policy.max_turn_actions} actions are sampled; use "
            "candidates='sample', or turns of one action"
        )
    if candidates == "gumbel" and num_candidates > policy.env.num_actions:
        raise ValueError(
            f"num_candidates={num_candidates}: with candidates='gumbel' they differ, and there are "
            f"{policy.env.num_actions} actions; use fewer, or candidates='sample'"
        )


def searched(
    mode: Callable[..., SearchOutput],
    params: Any,
    key: jax.Array,
    policy: Policy,
    tasks: Any,
    *,
    group_size: int,
    num_turns: int,
    num_words: int,
    per: Per = "member",
    turns_ahead: int = 0,
    **options: Any,
) -> Trajectory:
    """The trajectories that a mode of `jaxrl_agents.search` finds.

    Args:
      mode: `best_of_n`, `beam_search`, `lookahead` or `entropy_backtrack`.
      params: of the policy's model.
      key: see `Strategy`.
      policy: see `Strategy`.
      tasks: see `Strategy`.
      group_size: N.
      num_turns: K.
      num_words: random words that the mode draws for a root and turn.
      per: one search for each "member" of a group, whose best path is the row; or one for the whole "group", whose N
        best paths are its rows.
      turns_ahead: how far the mode looks beyond turn K.
      **options: the mode's own.
    """
    group_size, num_turns = count("group_size", group_size), count("num_turns", num_turns)
    copies, paths_each = (group_size, 1) if per == "member" else (1, group_size)
    tasks = unbanked(tasks)
    keys, states = starts(policy, key, tasks)
    proposes = options.get("propose") is not None
    model = policy.search_model(num_turns + turns_ahead, reads=not proposes or options.get("bootstrap", False))
    root, roots_tasks = _repeated((model.root(params, states, tasks), tasks), copies)
    keys = jax.vmap(lambda key: jax.random.split(key, copies))(keys).reshape(-1)
    options["max_turn_actions"] = policy.max_turn_actions
    if options.get("propose") is None:  # which draws at the policy's temperature
        options["temperature"] = policy.temperature
    output = mode(params, keys, root, model, tasks=roots_tasks, num_turns=num_turns, **options)
    paths = output.trajectories(paths_each)
    words = rng.words_at(keys, paths.words, num_words)
    rows = lambda tree: jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), tree)
    states, tasks = _repeated((states, tasks), group_size)
    return _trajectory(
        policy, states, tasks, rows(paths.actions).reshape(-1, num_turns, policy.max_turn_actions), rows(words),
        log_probs=rows(paths.log_probs), counts=_counts(output, paths_each, copies, model, proposes),
        group_size=group_size, simulated=output.simulated, source=POLICY,
    )  # fmt: skip


def demonstrated(policy: Policy, key: jax.Array, tasks: Any, actions: jax.Array) -> Trajectory:
    """Trajectories of given actions, for `Learner.supervised_step`: those of an expert, or of a script.

    Args:
      policy: its environment is played.
      key: see `Strategy`; draws the first states and the words of the steps.
      tasks: leaves [P, …], or a TaskBank of P.
      actions: integers [P, K] or [P, K, L], −1 for what is not taken.

    Returns:
      P rows, each a group, with source EXPERT and log-probabilities 0 (those of an expert are not known). Actions after
      the end of an episode are no part of it.
    """
    tasks = unbanked(tasks)
    keys, states = starts(policy, key, tasks)
    actions = jnp.asarray(actions, jnp.int32)
    if actions.ndim == 2:
        actions = actions[..., None]
    if actions.ndim != 3 or len(actions) != len(keys) or actions.shape[2] != policy.max_turn_actions:
        raise ValueError(
            f"actions has shape {actions.shape}; it must be [{len(keys)}, K, {policy.max_turn_actions}], a row for "
            "each task and max_turn_actions in each turn"
        )
    words = turn_words(keys, actions.shape[1])
    trajectory = _trajectory(
        policy, states, tasks, actions, words, log_probs=jnp.zeros(words.shape),
        counts=Counts(*[jnp.zeros(len(keys), jnp.int32)] * 2), group_size=1, simulated=False, source=EXPERT,
    )  # fmt: skip
    return trajectory.replace(counts=trajectory.counts._replace(env_steps=trajectory.lengths))


def starts(policy: Policy, key: jax.Array, tasks: Any) -> tuple[jax.Array, Any]:
    """A key for each task, and its first state, which the members of its group share."""
    policy.env.check_task(tasks)
    num_tasks = np.shape(tasks.time_limit)[0] if np.ndim(tasks.time_limit) else 0
    if not num_tasks:
        raise ValueError("tasks must be a batch, leaves [P, …], or a TaskBank; got one task")
    if not jnp.issubdtype(getattr(key, "dtype", np.float32), jax.dtypes.prng_key) or key.shape not in (
        (),
        (num_tasks,),
    ):
        raise TypeError(f"key must be a typed key (jax.random.key(seed)), or one for each of the {num_tasks} tasks")
    keys = jax.vmap(jax.random.split)(key if key.ndim else jax.random.split(key, num_tasks))
    words = jax.vmap(lambda key: jax.random.bits(key, dtype=jnp.uint32))(keys[:, 0])
    return keys[:, 1], jax.vmap(policy.env.initial)(words, tasks)


def turn_words(keys: jax.Array, num_turns: int) -> jax.Array:
    """uint32[B, K]: the words that drive the turns of plain rollouts with these keys [B]."""
    return jax.vmap(lambda turn: rng.turn_words(keys, turn, 1)[0])(jnp.arange(num_turns)).T


def _repeated(tree: Any, times: int) -> Any:
    return jax.tree.map(lambda leaf: jnp.repeat(leaf, times, axis=0), tree)


def _trajectory(
    policy: Policy,
    states: Any,
    tasks: Any,
    actions: jax.Array,
    words: jax.Array,
    *,
    log_probs: jax.Array,
    counts: Counts,
    group_size: int,
    simulated: bool,
    source: int,
) -> Trajectory:
    """The trajectory of turns whose outcomes follow from the first states and the words."""
    played = replay(policy, states, tasks, actions, words)
    mask = played.actions[..., 0] >= 0
    num_rows = len(mask)
    return Trajectory(
        observations=played.observations,
        actions=played.actions,
        log_probs=log_probs,
        rewards=played.rewards,
        mask=mask,
        loss_mask=mask,
        action_mask=played.action_mask,
        state_keys=played.state_keys,
        success=played.success,
        ended=played.ended,
        source=jnp.full(mask.shape, source, jnp.int8),
        prefix_length=jnp.zeros(num_rows, jnp.int32),
        groups=jnp.arange(num_rows, dtype=jnp.int32) // group_size,
        counts=counts,
        simulated=simulated,
    )


def _counts(output: SearchOutput, paths_each: int, copies: int, model: PolicyModel, proposes: bool) -> Counts:
    """Rows of one search share its cost: it stands in the first. The evaluation of a group's root does so too.

    Where the search `proposes`, whole turns are drawn from as many nodes as it evaluates, and read unless they remember
    the episode.
    """
    first = lambda count: jnp.pad(count[:, None], [(0, 0), (0, paths_each - 1)]).reshape(-1)
    each = model.reads + (proposes and model.policy.context == "turn")
    forwards = each * first(output.counts.policy_forwards)
    is_root = jnp.arange(len(forwards)) % (paths_each * copies) == 0
    return Counts(first(output.counts.generated), forwards + (model.reads & is_root))
