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

TIMINGS = 9  # of the episodes at most, after a first time, which counts only where there is no other
TIMING_SECONDS = 1.0  # of playing, after which there is none

Sizes = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Setting:
    """What is played: an environment, its number of decisions, and the turns that plans look ahead.

    A size is the mode's own: rollouts N, beam width W, depth D of the full tree (candidates M of `lookahead` where
    actions are not enumerated), simulations S. On CPUs mctx takes time by the square of S: its sizes are smaller, so
    that its times and those of the other modes overlap.
    """

    id: str
    decisions: int
    turns: int
    enumerate: bool  # whether all actions are candidates; otherwise they are drawn from the policy
    quick: Mapping[str, tuple[int, ...]]  # sizes of each mode that a quick run plays
    full: Mapping[str, tuple[int, ...]]  # sizes of each mode
    options: Mapping[str, float] = dataclasses.field(default_factory=dict)  # that the environment is made with

    def sizes(self, budget: str) -> Mapping[str, tuple[int, ...]]:
        """The sizes of each mode at a budget."""
        return self.full if budget == "full" else self.quick


def _sizes(rollouts: Sizes, width: Sizes, lookahead: Sizes, simulations: Sizes) -> dict[str, Sizes]:
    return {
        "best_of_n": rollouts,
        "beam_search": width,
        "beam_search, dedup": width,
        "lookahead": lookahead,
        "entropy_backtrack": rollouts,
        "mcts": simulations,
    }


_LAKE = Setting(
    "FrozenLake-v0",
    100,  # whole episodes, up to the time limit
    4,
    enumerate=True,
    quick={},
    full=_sizes((4, 16, 64, 256), (2, 8, 32, 128), (1, 2, 3, 4, 5, 6), (4, 16, 64)),
)
SETTINGS = {
    "Sokoban": Setting(
        "Sokoban-RAGEN-v0",
        10,
        8,
        enumerate=True,
        quick=_sizes((8,), (2,), (3,), (32,)),
        full=_sizes((4, 16, 64, 256), (2, 8, 32, 128), (2, 3, 4, 5, 6), (8, 32, 128)),
    ),
    "FrozenLake": _LAKE,  # where two steps in three go astray
    "FrozenLake-80": dataclasses.replace(_LAKE, options={"success_rate": 0.8}),  # and one in five
    "WebShop": Setting(
        "WebShop-v0",
        8,
        4,
        enumerate=False,
        quick={"best_of_n": (16,), "lookahead": (12,), "mcts": (64,)},  # its programs take seconds to compile
        full=_sizes((8, 32, 128, 512), (2, 8, 32, 128), (6, 24, 96, 384), (8, 32, 128)),
    ),
}


def contender(setting: Setting, mode: str, size: int, score: Any = "return") -> Search:
    """A mode at one of its sizes.

    `score` ranks the paths of those modes that are no tree search, which add a value to their leaves by themselves.
    """
    turns = setting.turns
    every: dict[str, Any] = {"candidates": "enumerate"} if setting.enumerate else {"num_candidates": 4}
    sampled = {"num_turns": turns, "num_rollouts": size, "score": score}
    if mode == "best_of_n":
        return Search(search.best_of_n, sampled)
    if mode == "entropy_backtrack":
        return Search(search.entropy_backtrack, {**sampled, "entropy_threshold": 1.2, "max_retries": turns // 4})
    if mode.startswith("beam_search"):
        beam = {"num_turns": turns, "beam_width": size, "score": score, **every}
        return Search(search.beam_search, {**beam, "deduplicate": mode.endswith("dedup")})
    if mode == "mcts":
        return Search(search.mcts, {"num_simulations": size})
    if not setting.enumerate:  # rollouts of the policy below each of `size` candidates
        return Search(search.lookahead, {"num_turns": 1, "depth": turns, "num_candidates": size})
    tree = {"num_turns": 1, "depth": size, "continuation": "full"}
    return Search(search.lookahead, {**tree, **every})


@dataclasses.dataclass(frozen=True)
class Played:
    """What the episodes of one mode came to."""

    returns: np.ndarray  # float[B]
    success: np.ndarray  # bool[B]
    nodes: float  # generated for a decision, the mean over those that a running episode took
    seconds: np.ndarray  # float64[timings]: for one decision of one episode, ended ones too: every mode computes those


def play(contender: Search, base: Problem, decisions: int) -> Played:
    """Plays an episode of at most `decisions` steps from each root, searching before each."""
    run = jax.jit(lambda *arguments: _episode(contender, base, decisions, *arguments))
    arguments = (jax.random.key(0), base.params, base.states, base.tasks)
    executable = run.lower(*arguments).compile()
    seconds: list[float] = []
    while len(seconds) <= TIMINGS and sum(seconds) < TIMING_SECONDS:
        start = time.perf_counter()
        found = jax.block_until_ready(executable(*arguments))
        seconds.append(time.perf_counter() - start)
    returns, success, generated, played, steps = map(np.asarray, found)
    each = np.array(seconds[1:] or seconds) / (int(steps) * base.batch_size)
    nodes = float(generated.sum()) / max(1, int(played.sum()))
    return Played(returns, success, nodes, each)


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


GRID = tuple(float(f"{digit}e{power}") for power in range(-1, 7) for digit in (1, 3))  # costs that are compared


def at_equal(points: Mapping[str, Sequence[tuple[float, float]]]) -> dict[float, dict[str, float]]:
    """The qualities of the modes at the same costs.

    Args:
      points: for each mode (cost, quality) at several sizes.

    Returns:
      For each cost of a fixed grid the modes that were measured both below and above it, with their qualities there:
      interpolated over the logarithm of the cost. Costs that only one mode, or none, can be had for are left out.
    """
    found: dict[float, dict[str, float]] = {}
    for cost in GRID:
        for mode, values in points.items():
            costs, qualities = np.array(sorted(values)).T
            if costs[0] <= cost <= costs[-1]:
                quality = np.interp(np.log(cost), np.log(costs), qualities)
                found.setdefault(cost, {})[mode] = float(quality)
    return {cost: qualities for cost, qualities in found.items() if len(qualities) > 1}
