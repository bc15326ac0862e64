"""Learning curves: what training reaches after so many steps, and what a run takes, with several seeds."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection, Generator, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from jaxrl_agents.training import Evaluation, Setup, build, evaluate, preset

LAKE, ROOMS = "FrozenLake-v0", "Sokoban-RAGEN-v0"


@dataclasses.dataclass(frozen=True)
class Run:
    """What a run took and came to; compilation, all steps and the evaluations on the way count."""

    params: Any
    final: Evaluation
    step_seconds: float  # of a step; evaluations left out
    step_processor_seconds: float
    seconds: float
    processor_seconds: float  # of all cores


# Yields (steps, what the policy does after them) while the run goes on.
Curve = Generator[tuple[int, Evaluation], None, Run]


def follow(setup: Setup, seed: int, marks: Collection[int], measured: Callable[[Any], Evaluation]) -> Curve:
    """A run, up to the last of the marks.

    Args:
      setup: its parts.
      seed: of parameters and episodes.
      marks: steps after which the policy is measured; 0 is before anything was learned.
      measured: what measures it, given its parameters.
    """
    start, stepping = _now(), np.zeros(2)
    state = setup.placed(setup.learner.init(jax.random.key(seed)))
    before = _now()
    for number in range(max(marks) + 1):
        if number:
            state, _ = setup.step(number, state)
        if number not in marks:
            continue
        jax.block_until_ready(state)
        stepping += _now() - before
        result = measured(state.params)
        yield number, result
        before = _now()
    return Run(state.params, result, *(stepping / max(marks)).tolist(), *(_now() - start).tolist())


def curves(env: str, seeds: Sequence[int], num_points: int, num_episodes: int, num_final: int) -> dict[int, Curve]:
    """Runs of an environment's preset by seed, as long as `train` makes them; all share tasks and one compilation.

    Args:
      env: its id.
      seeds: of parameters and episodes.
      num_points: evaluations of each, the first one before anything was learned.
      num_episodes: of an evaluation, greedy.
      num_final: of the last policy's evaluation, which is not part of the run.
    """
    setup = build(preset(env))
    marks = np.unique(np.linspace(0, setup.config.num_steps, num_points).round().astype(int)).tolist()

    def measured(seed: int, number: int, params: Any) -> Evaluation:
        return evaluate(
            params, jax.random.fold_in(jax.random.key(seed), 1), setup.policy, setup.evaluation_tasks,
            num_turns=setup.evaluation_turns, num_episodes=number,
        )  # fmt: skip

    start = _now()
    state, _ = setup.learner.step(setup.placed(setup.learner.init(jax.random.key(0))), setup.tasks)
    measured(0, num_episodes, state.params)
    seconds, processor_seconds = (_now() - start).tolist()  # compilation, mostly

    def curve(seed: int) -> Curve:
        run = yield from follow(setup, seed, marks, partial(measured, seed, num_episodes))
        return dataclasses.replace(
            run,
            final=measured(seed, num_final, run.params),
            seconds=run.seconds + seconds,
            processor_seconds=run.processor_seconds + processor_seconds,
        )

    return {seed: curve(seed) for seed in seeds}


def _now() -> np.ndarray:
    """Seconds on the wall's clock and on that of the processor."""
    return np.array([time.perf_counter(), time.process_time()])
