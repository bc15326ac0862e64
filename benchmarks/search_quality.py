"""How good the decisions of the modes are for the nodes, and for the time, that they take.

Every mode plays whole episodes in the environment: at each step it searches from where the episode stands, and the
first action that it chose is played with a random word of its own. So modes that return plans and modes that return one
action are measured alike, and outcomes that a search simulated do not count.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.search_arms import Search
from benchmarks.search_problems import Problem
from jaxrl_agents import search

TIMINGS = 3  # of the episodes, after the first run


@dataclasses.dataclass(frozen=True)
class Setting:
    """What is played: an environment, its number of decisions, and the turns that plans look ahead."""

    id: str
    decisions: int
    turns: int
    enumerate: bool  # whether all actions are candidates; otherwise they are drawn from the policy


SETTINGS = {
    "Sokoban": Setting("Sokoban-RAGEN-v0", decisions=10, turns=8, enumerate=True),
    "FrozenLake": Setting("FrozenLake-v0", decisions=32, turns=16, enumerate=True),
    "WebShop": Setting("WebShop-v0", decisions=8, turns=4, enumerate=False),
}


def contenders(setting: Setting, nodes: int) -> dict[str, Search]:
    """Every mode, set to generate about `nodes` nodes for a decision, as far as its parameters allow."""
    turns = setting.turns
    rollouts = max(1, nodes // turns)
    width = max(1, nodes // (4 * turns))
    candidates: dict[str, Any] = {"candidates": "enumerate"} if setting.enumerate else {"num_candidates": 4}
    beam = {"num_turns": turns, "beam_width": width, **candidates}
    return {
        "best_of_n": Search(search.best_of_n, {"num_turns": turns, "num_rollouts": rollouts}),
        "beam_search": Search(search.beam_search, beam),
        "beam_search, dedup": Search(search.beam_search, {**beam, "deduplicate": True}),
        "lookahead": Search(search.lookahead, _lookahead(setting, nodes)),
        "entropy_backtrack": Search(
            search.entropy_backtrack,
            {"num_turns": turns, "num_rollouts": rollouts, "entropy_threshold": 1.2, "max_retries": turns // 4},
        ),
        "mcts": Search(search.mcts, {"num_simulations": nodes}),
    }


def _lookahead(setting: Setting, nodes: int) -> dict[str, Any]:
    """One turn: the full tree of four candidates where that fits the nodes, else rollouts of the policy."""
    if not setting.enumerate:
        depth = setting.turns
        return {"num_turns": 1, "depth": depth, "num_candidates": max(1, nodes // (1 + depth))}
    depth = max(1, round(np.log(nodes) / np.log(4)))
    return {"num_turns": 1, "depth": depth, "candidates": "enumerate", "continuation": "full"}


@dataclasses.dataclass(frozen=True)
class Played:
    """What the episodes of one mode came to."""

    returns: np.ndarray  # float[B]
    success: np.ndarray  # bool[B]
    nodes: float  # generated for a decision, the mean over those that a running episode took
    seconds: float  # for one decision of one episode, ended ones included: every mode computes those too
    compile_seconds: float


def play(contender: Search, base: Problem, decisions: int) -> Played:
    """Plays `decisions` steps of an episode from each root, searching before each."""
    run = jax.jit(lambda key, states, tasks: _episode(contender, base, decisions, key, states, tasks))
    start = time.perf_counter()
    executable = run.lower(jax.random.key(0), base.states, base.tasks).compile()
    compile_seconds = time.perf_counter() - start
    found = jax.block_until_ready(executable(jax.random.key(0), base.states, base.tasks))
    seconds = []
    for _ in range(TIMINGS):
        start = time.perf_counter()
        jax.block_until_ready(executable(jax.random.key(0), base.states, base.tasks))
        seconds.append(time.perf_counter() - start)
    returns, success, generated, played = map(np.asarray, found)
    each = float(np.median(seconds)) / (decisions * base.batch_size)
    nodes = float(generated.sum()) / max(1, int(played.sum()))
    return Played(returns, success, nodes, each, compile_seconds)


def _episode(contender: Search, base: Problem, decisions: int, key: jax.Array, states: Any, tasks: Any) -> Any:
    env, model = base.env, base.model

    def decide(index: jax.Array, carry: Any) -> Any:
        states, returns, generated, played = carry
        key_search, key_step = jax.random.split(jax.random.fold_in(key, index))
        ended = jnp.logical_or(*jax.vmap(env.status)(states, tasks))
        root = model.root(base.params, states, tasks)
        lowest = jnp.finfo(root.prior_logits.dtype).min
        root = root.replace(prior_logits=jnp.where(ended[:, None], lowest, root.prior_logits))
        output = contender(base.params, key_search, root, model, tasks)
        words = jax.random.bits(key_step, ended.shape, jnp.uint32)
        after = jax.vmap(env.transition)(states, jnp.maximum(output.action, 0), words, tasks)
        return after.state, returns + after.reward, generated + output.counts.generated, played + ~ended

    zeros = jnp.zeros(base.batch_size, jnp.int32)
    start = (states, jnp.zeros(base.batch_size), zeros, zeros)
    states, returns, generated, played = jax.lax.fori_loop(0, decisions, decide, start)
    return returns, jax.vmap(env.success)(states, tasks), generated, played


def at_equal(points: Mapping[str, Sequence[tuple[float, float]]]) -> tuple[float, dict[str, float]]:
    """The quality of each mode at one common cost, between its measured points.

    Args:
      points: for each mode (cost, quality) at several sizes.

    Returns:
      The cost, the geometric middle of what all modes have in common, and the qualities there, interpolated over the
      logarithm of the cost; a mode that does not reach the cost has NaN.
    """
    low = max(min(cost for cost, _ in values) for values in points.values())
    high = min(max(cost for cost, _ in values) for values in points.values())
    common = float(np.sqrt(low * high))
    found = {}
    for mode, values in points.items():
        costs, qualities = np.array(sorted(values)).T
        inside = costs[0] * 0.999 <= common <= costs[-1] * 1.001
        found[mode] = float(np.interp(np.log(common), np.log(costs), qualities)) if inside else float("nan")
    return common, found
