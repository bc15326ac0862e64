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
from benchmarks.search_problems import Problem, root_of
from jaxrl_agents import search

TIMINGS = 3  # of the episodes at most, after a first time, which counts only where there is no other
TIMING_SECONDS = 1.0  # of playing, after which there is none


@dataclasses.dataclass(frozen=True)
class Setting:
    """What is played: an environment, its number of decisions, and the turns that plans look ahead."""

    id: str
    decisions: int
    turns: int
    enumerate: bool  # whether all actions are candidates; otherwise they are drawn from the policy
    sizes: Mapping[str, tuple[int, ...]]  # by budget: nodes for a decision; none where it is left out
    quick_modes: tuple[str, ...] = ()  # those that a quick run plays; all where empty
    options: Mapping[str, float] = dataclasses.field(default_factory=dict)  # that the environment is made with


SETTINGS = {
    "Sokoban": Setting("Sokoban-RAGEN-v0", 10, 8, enumerate=True, sizes={"quick": (64,), "full": (32, 128, 512)}),
    # Whole episodes, up to the time limit; where two steps in three go astray, and one in five.
    "FrozenLake": Setting("FrozenLake-v0", 100, 4, enumerate=True, sizes={"quick": (), "full": (16, 64)}),
    "FrozenLake-80": Setting(
        "FrozenLake-v0",
        100,
        4,
        enumerate=True,
        sizes={"quick": (), "full": (16, 64, 128)},
        options={"success_rate": 0.8},
    ),
    # Its programs take seconds to compile.
    "WebShop": Setting(
        "WebShop-v0",
        8,
        4,
        enumerate=False,
        sizes={"quick": (64,), "full": (32, 128, 512)},
        quick_modes=("best_of_n", "lookahead", "mcts"),
    ),
}


def chosen(setting: Setting, budget: str, size: int, score: Any) -> dict[str, Search]:
    """The contenders that a run of this budget has time for."""
    found = contenders(setting, size, score)
    few = setting.quick_modes if budget == "quick" else ()
    return {mode: contender for mode, contender in found.items() if not few or mode in few}


def contenders(setting: Setting, nodes: int, score: Any = "return") -> dict[str, Search]:
    """Every mode, set to generate about `nodes` nodes for a decision, as far as its parameters allow.

    `score` ranks the paths of those modes that are no tree search, which add a value to their leaves by themselves.
    """
    turns = setting.turns
    rollouts = max(1, nodes // turns)
    width = max(1, nodes // (4 * turns))
    candidates: dict[str, Any] = {"candidates": "enumerate"} if setting.enumerate else {"num_candidates": 4}
    sampled = {"num_turns": turns, "num_rollouts": rollouts, "score": score}
    beam = {"num_turns": turns, "beam_width": width, "score": score, **candidates}
    backtrack = {**sampled, "entropy_threshold": 1.2, "max_retries": turns // 4}
    return {
        "best_of_n": Search(search.best_of_n, sampled),
        "beam_search": Search(search.beam_search, beam),
        "beam_search, dedup": Search(search.beam_search, {**beam, "deduplicate": True}),
        "lookahead": Search(search.lookahead, _lookahead(setting, nodes)),
        "entropy_backtrack": Search(search.entropy_backtrack, backtrack),
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
    """Plays an episode of at most `decisions` steps from each root, searching before each."""
    run = jax.jit(lambda *arguments: _episode(contender, base, decisions, *arguments))
    arguments = (jax.random.key(0), base.params, base.states, base.tasks)
    start = time.perf_counter()
    executable = run.lower(*arguments).compile()
    compile_seconds = time.perf_counter() - start
    seconds: list[float] = []
    while len(seconds) <= TIMINGS and sum(seconds) < TIMING_SECONDS:
        start = time.perf_counter()
        found = jax.block_until_ready(executable(*arguments))
        seconds.append(time.perf_counter() - start)
    returns, success, generated, played, steps = map(np.asarray, found)
    each = float(np.median(seconds[1:] or seconds)) / (int(steps) * base.batch_size)
    nodes = float(generated.sum()) / max(1, int(played.sum()))
    return Played(returns, success, nodes, each, compile_seconds)


def _episode(
    contender: Search, base: Problem, decisions: int, key: jax.Array, params: Any, states: Any, tasks: Any
) -> Any:
    env, model = base.env, base.model
    has_ended = lambda states: jnp.logical_or(*jax.vmap(env.status)(states, tasks))

    def decide(carry: Any) -> Any:
        index, ended, states, returns, generated, played = carry
        key_search, key_step = jax.random.split(jax.random.fold_in(key, index))
        root = root_of(model, params, states, tasks)
        lowest = jnp.finfo(root.prior_logits.dtype).min
        root = root.replace(prior_logits=jnp.where(ended[:, None], lowest, root.prior_logits))
        output = contender(params, key_search, root, model, tasks)
        words = jax.random.bits(key_step, ended.shape, jnp.uint32)
        after = jax.vmap(env.transition)(states, jnp.maximum(output.action, 0), words, tasks)
        totals = returns + after.reward, generated + output.counts.generated, played + ~ended
        return index + 1, has_ended(after.state), after.state, *totals

    zeros = jnp.zeros(base.batch_size, jnp.int32)
    start = (jnp.int32(0), has_ended(states), states, jnp.zeros(base.batch_size), zeros, zeros)
    unfinished = lambda carry: (carry[0] < decisions) & ~carry[1].all()
    steps, _, states, returns, generated, played = jax.lax.while_loop(unfinished, decide, start)
    return returns, jax.vmap(env.success)(states, tasks), generated, played, steps


def at_equal(points: Mapping[str, Sequence[tuple[float, float]]]) -> tuple[float, dict[str, float]]:
    """The quality of each mode at one common cost.

    Args:
      points: for each mode (cost, quality) at several sizes.

    Returns:
      The cost, the geometric middle of the range that all modes have in common; where there is none, the least that
      every mode can be had for. And the qualities there: interpolated over the logarithm of the cost, or that of the
      mode's largest size, where that costs less.
    """
    low = max(min(cost for cost, _ in values) for values in points.values())
    high = min(max(cost for cost, _ in values) for values in points.values())
    common = float(np.sqrt(low * max(low, high)))
    found = {}
    for mode, values in points.items():
        costs, qualities = np.array(sorted(values)).T
        found[mode] = float(np.interp(np.log(common), np.log(costs), qualities))
    return common, found
