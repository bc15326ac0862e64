"""Learning curves: what training reaches after so many updates and seconds, with several seeds."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import jax

from jaxrl_agents.training import Evaluation, build, evaluate, preset, updated

ID = "FrozenLake-v0"


@dataclasses.dataclass(frozen=True)
class Curve:
    """One run."""

    points: list[tuple[int, float]]  # (updates, greedy success)
    seconds: float  # of an update, rollout included: evaluations and compilation left out
    final: Evaluation


def curves(seeds: Sequence[int], num_steps: int, every: int, num_episodes: int, num_final: int) -> list[Curve]:
    """Runs of FrozenLake's preset; all share one compilation.

    Args:
      seeds: of the runs.
      num_steps: updates of each.
      every: updates between evaluations.
      num_episodes: of an evaluation, greedy.
      num_final: of the last one.
    """
    setup = build(updated(preset(ID), {"num_steps": num_steps, "mesh": {}}))
    step = setup.learner.step
    step(setup.learner.init(jax.random.key(0)), setup.tasks)  # compiled before the clock starts
    return [_curve(setup, seed, num_steps, every, num_episodes, num_final) for seed in seeds]


def _curve(setup: Any, seed: int, num_steps: int, every: int, num_episodes: int, num_final: int) -> Curve:
    key = jax.random.key(seed)
    state, points, seconds = setup.learner.init(key), [], 0.0

    def measured(number: int) -> Evaluation:
        return evaluate(
            state.params, jax.random.fold_in(key, 1), setup.policy, setup.evaluation_tasks,
            num_turns=setup.evaluation_turns, num_episodes=number,
        )  # fmt: skip

    points.append((0, measured(num_episodes).success.mean))
    for number in range(every, num_steps + 1, every):
        start = time.perf_counter()
        for _ in range(every):
            state, _ = setup.learner.step(state, setup.tasks)
        jax.block_until_ready(state)
        seconds += time.perf_counter() - start
        points.append((number, measured(num_episodes).success.mean))
    return Curve(points, seconds / num_steps, measured(num_final))
