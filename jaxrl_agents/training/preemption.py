"""Stopping a training loop between two steps when the machine is about to be taken away."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any

import jax
from jax.experimental import multihost_utils


class StopOnSigterm:
    """Turns SIGTERM into a request that the training loop polls once a step.

        with StopOnSigterm() as stop:
            for step in range(first, last):
                state = train_step(state)
                if stop.requested(step):
                    break
        checkpointer.save(step, state)      # after the loop: the step is finished and the program exits with 0

    With one process the handler is this object's, and the former one comes back at the end. With several, JAX's own
    handler is used (`jax.experimental.multihost_utils.reached_preemption_sync_point`): one process that gets the signal
    makes all of them stop after the same step, a step or more later.
    """

    def __init__(self) -> None:
        self._received = False
        self._former: Any = None
        self._shared = False

    def __enter__(self) -> StopOnSigterm:
        """Installs the handler.

        Raises:
          RuntimeError: called outside the main thread, where Python allows no handlers.
        """
        self._received = False
        self._shared = jax.process_count() > 1
        if self._shared:
            return self
        try:
            self._former = signal.signal(signal.SIGTERM, self._receive)
        except ValueError as error:
            raise RuntimeError("StopOnSigterm must be entered in the main thread") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._shared:
            signal.signal(signal.SIGTERM, self._former)

    def requested(self, step: int) -> bool:
        """Whether to stop after `step`. Every process asks once after every step, with the same, increasing numbers."""
        if self._shared:
            return multihost_utils.reached_preemption_sync_point(step)
        return self._received

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._received = True
