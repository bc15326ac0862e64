"""The training loop: the edge where the jitted step meets the clock, the disk, signals and people."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_agents.training import fields, memory
from jaxrl_agents.training.checkpoint import Checkpointer
from jaxrl_agents.training.distributed import agree
from jaxrl_agents.training.evaluation import Evaluation, Interval
from jaxrl_agents.training.learner import TrainState
from jaxrl_agents.training.metrics import divergence
from jaxrl_agents.training.preemption import CtrlCAsSigterm, StopOnSigterm
from jaxrl_agents.training.progress import Display
from jaxrl_agents.training.records import MetricLog, event_writer, read_rows
from jaxrl_agents.training.run_folder import RunFolder
from jaxrl_agents.training.setup import Setup

_COUNTED = {"env_steps": "env_steps_per_second", "policy_forwards": "forwards_per_second"}
_SMALLER = (
    "lower --model.d-model or --model.num-layers where that is much, else raise --batch.num-micro-batches, or lower "
    "--batch.num-groups, --batch.group-size or --evaluation.num-episodes"
)


class Diverged(FloatingPointError):
    """Metrics or parameters are no longer finite."""


@dataclass(frozen=True)
class Outcome:
    """How a call of `train` ended."""

    step: int  # the last one, saved
    finished: bool  # False where a signal stopped it, if only before the evaluation of the last step
    interrupted: bool  # the signal was Ctrl-C in this process
    evaluation: Evaluation | None  # the last one of this call


def train(
    setup: Setup,
    folder: RunFolder,
    *,
    resume: bool = False,
    tensorboard: bool = False,
    display: Display | None = None,
) -> Outcome:
    """Trains until the configuration's `total_steps`, or until SIGTERM or Ctrl-C, which finish the step and save.

    An evaluation that is due after the step of such a signal is left to the call that resumes the run: it might take
    longer than there is time to save.

    With several processes all call it alike; process 0 alone writes metrics and shows progress. Nothing is written
    before the first step, or such an evaluation, is through, so that one that does not fit into the memory leaves no
    trace.

    Args:
      setup: what to train, made by `build`.
      folder: where the files go.
      resume: goes on from the newest whole checkpoint, or from the start without one; metrics after it are dropped and
        made again.
      tensorboard: writes event files too.
      display: what people see; None shows nothing.

    Raises:
      CheckpointError: a checkpoint could not be written.
      Diverged: a metric or a parameter is NaN or infinite.
      ImportError: `tensorboard` without tensorboardX.
      OutOfMemory: the state, a step or an evaluation needs more than the devices have.
      ValueError: the configuration does not fit the checkpoint.
    """
    keep, first = setup.config.checkpoint, jax.process_index() == 0
    if tensorboard:
        event_writer()  # says what to install, before anything is computed
    with contextlib.ExitStack() as stack:
        stack.enter_context(memory.told(lambda: f"{setup.size}; {_SMALLER}"))
        stop, ctrl_c = stack.enter_context(StopOnSigterm()), stack.enter_context(CtrlCAsSigterm())
        checkpointer = stack.enter_context(
            Checkpointer(folder.checkpoints, keep_last=keep.keep_last, keep_every=keep.keep_every)
        )
        state, start = _first_state(setup, checkpointer, resume)

        def open_log() -> MetricLog | None:
            if not first:
                return None
            folder.write_config(setup.config)
            events = folder.tensorboard if tensorboard else None
            return stack.enter_context(MetricLog(folder.metrics, last_step=start, tensorboard=events))

        display = stack.enter_context(display if display and first else Display())
        display.start(setup.summary, start, setup.config.total_steps)
        step, finished, result = _Loop(setup, folder, checkpointer, open_log, display, stop).run(state, start)
        return Outcome(step, finished, ctrl_c.pressed, result)


def _first_state(setup: Setup, checkpointer: Checkpointer, resume: bool) -> tuple[TrainState, int]:
    """(state, its step): fresh, or of the newest whole checkpoint, which must fit the configuration."""
    step = checkpointer.newest_good() if resume else None
    if step is None:
        state = setup.learner.init(jax.random.key(setup.config.seed))
        return setup.placed(state), 0
    try:
        return checkpointer.restore(setup.learner.abstract_state(), step).state, step
    except ValueError as error:
        bare = dataclasses.replace(setup.config, env_arguments={})
        before = fields.updated(bare, checkpointer.metadata(step)["config"])
        changes = ", ".join(fields.differences(before, setup.config)) or "this version"
        raise ValueError(f"{changes} does not fit the checkpoint of step {step}: {error}") from error


@dataclass
class _Loop:
    """The loop's parts, and where its clock stands."""

    setup: Setup
    folder: RunFolder
    checkpointer: Checkpointer
    open_log: Callable[[], MetricLog | None]  # called when there is something to write
    display: Display
    stop: StopOnSigterm
    clock: np.ndarray | None = None  # wall and processor time when the last step ended; None if other work came since

    @cached_property
    def log(self) -> MetricLog | None:
        """Where metrics go; None but for process 0."""
        return self.open_log()

    def run(self, state: TrainState, start: int) -> tuple[int, bool, Evaluation | None]:
        """The last step, which is saved, whether nothing is left to do, and the last evaluation.

        Metrics of a step are read when the next one is under way, so that devices never wait for the host.
        """
        config = self.setup.config
        step, unread, owed = start, None, False
        result = self._evaluate(start, state) if self._left_unmeasured(start) else None
        stopping = start >= config.total_steps
        while not stopping:
            step += 1
            state, metrics = self.setup.step(step, state)
            if unread is not None:
                self._read(*unread)
            unread = step, metrics
            stopped, measuring = self.stop.requested(step), self._measures(step)
            stopping, owed = stopped or step == config.total_steps, stopped and measuring
            saving = stopping or _due(step, config.checkpoint.every)
            if saving or measuring:
                self._read(*unread)
                unread, self.clock = None, None
            if measuring and not owed:  # before the save: what a checkpoint has behind it is in the log
                result = self._evaluate(step, state)
            if saving:
                self._save(step, state)
        self.checkpointer.wait()
        return step, step >= config.total_steps and not owed, result

    def _measures(self, step: int) -> bool:
        config = self.setup.config
        ends = (config.warm_start.num_steps, config.total_steps)
        return step > 0 and (step in ends or _due(step, config.evaluation.every))

    def _left_unmeasured(self, step: int) -> bool:
        """Whether a signal came before the evaluation of `step`, from which the run goes on: the log lacks it."""
        return self._measures(step) and not agree(lambda: _is_measured(self.folder, step))

    def _read(self, step: int, metrics: Mapping[str, jax.Array]) -> None:
        """Waits for a step's metrics; logs and shows them, and stops when they are not finite."""
        numbers = {name: float(np.asarray(value)) for name, value in metrics.items()}
        now = np.array([time.perf_counter(), time.process_time()])
        seconds = None if self.clock is None else (now - self.clock).tolist()
        self.clock = now
        phase = "warm_start" if step <= self.setup.config.warm_start.num_steps else "train"
        row = {f"{phase}/{name}": value for name, value in numbers.items()}
        if seconds is not None:
            row["time/step_seconds"], row["time/step_processor_seconds"] = seconds
            row |= {f"time/{rate}": numbers[name] / seconds[0] for name, rate in _COUNTED.items() if name in numbers}
        if self.log is not None:
            self.log.write(step, row)
        self.display.step(step, row)
        cause = divergence(numbers)
        if cause is not None:
            raise self._diverged(step, cause)

    def _evaluate(self, step: int, state: TrainState) -> Evaluation:
        key = jax.random.fold_in(jax.random.key(self.setup.config.seed), step)
        result = self.setup.evaluate(state.params, key)
        if self.log is not None:
            self.log.write(step, evaluation_row(result))
        self.display.evaluation(step, result)
        return result

    def _save(self, step: int, state: TrainState) -> None:
        cause = _not_finite(state.params)
        if cause is not None:
            raise self._diverged(step, cause)
        self.checkpointer.save(step, state, {"config": fields.as_document(self.setup.config)})

    def _diverged(self, step: int, cause: str) -> Diverged:
        good = self.checkpointer.newest_good()
        if good is None:
            start = "there is no checkpoint yet: start again"
        else:
            start = f"the last good checkpoint is that of step {good} in {self.folder.checkpoints}: go on from there"
        section = "warm-start" if step <= self.setup.config.warm_start.num_steps else "optimizer"
        command = f"python -m jaxrl_agents resume {self.folder.path} --{section}.learning-rate LOWER"
        return Diverged(f"training diverged in step {step}: {cause}; {start} with {command}")


def evaluation_row(result: Evaluation) -> dict[str, float]:
    """An evaluation as numbers for the log."""
    row: dict[str, float] = {}
    for name in ("success", "episode_return", "length"):
        interval: Interval = getattr(result, name)
        short = name.removeprefix("episode_")
        row |= {
            f"evaluation/{short}": interval.mean,
            f"evaluation/{short}_low": interval.low,
            f"evaluation/{short}_high": interval.high,
        }
    row["evaluation/episodes"] = result.num_episodes
    if result.optimum is not None:
        row["evaluation/return_optimum"] = result.optimum
    return row


def _is_measured(folder: RunFolder, step: int) -> bool:
    rows = read_rows(folder.metrics) if folder.metrics.exists() else []
    return any(row["step"] == step and "evaluation/episodes" in row for row in rows)


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


@jax.jit
def _count_not_finite(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.sum(~jnp.isfinite(leaf)), tree)


def _not_finite(tree: Any) -> str | None:
    """The first leaf with NaN or infinities, as "3 numbers of params/heads/value are not finite"; None without one."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(_count_not_finite(tree)):
        count = int(np.asarray(leaf))
        if count:
            return f"{count} numbers of params/{jax.tree_util.keystr(path, simple=True, separator='/')} are not finite"
    return None
