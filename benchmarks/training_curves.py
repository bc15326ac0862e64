"""Learning curves: what training reaches after so many steps and seconds, with several seeds."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence

import jax
import numpy as np

from jaxrl_agents.training import Evaluation, Setup, build, evaluate, preset

LAKE, ROOMS = "FrozenLake-v0", "Sokoban-RAGEN-v0"


@dataclasses.dataclass(frozen=True)
class Curve:
    """One run."""

    points: list[tuple[int, float]]  # (steps, greedy success)
    seconds: float  # of a step; evaluations and compilation left out
    final: Evaluation


def curves(env: str, seeds: Sequence[int], num_points: int, num_episodes: int, num_final: int) -> list[Curve]:
    """Runs of an environment's preset, as long as `train` makes them; all share tasks and one compilation.

    Args:
      env: its id.
      seeds: of parameters and episodes.
      num_points: evaluations of each, the first one before anything was learned.
      num_episodes: of an evaluation, greedy.
      num_final: of the last policy's evaluation.
    """
    setup = build(preset(env))
    marks = np.unique(np.linspace(0, setup.config.num_steps, num_points).round().astype(int)).tolist()
    setup.learner.step(setup.learner.init(jax.random.key(0)), setup.tasks)  # compiled before the clock starts
    return [_curve(setup, seed, marks, num_episodes, num_final) for seed in seeds]


def _curve(setup: Setup, seed: int, marks: Sequence[int], num_episodes: int, num_final: int) -> Curve:
    key = jax.random.key(seed)
    state, points, seconds = setup.learner.init(key), [], 0.0

    def measured(number: int) -> Evaluation:
        return evaluate(
            state.params, jax.random.fold_in(key, 1), setup.policy, setup.evaluation_tasks,
            num_turns=setup.evaluation_turns, num_episodes=number,
        )  # fmt: skip

    for before, mark in zip([0, *marks], marks, strict=False):
        start = time.perf_counter()
        for _ in range(mark - before):
            state, _ = setup.learner.step(state, setup.tasks)
        jax.block_until_ready(state)
        seconds += time.perf_counter() - start
        points.append((mark, measured(num_episodes).success.mean))
    return Curve(points, seconds / marks[-1], measured(num_final))
