"""Stopping a training loop between two steps: the machine is about to be taken away, or somebody pressed Ctrl-C."""

from __future__ import annotations

import signal
import sys
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


class CtrlCAsSigterm:
    """Turns the first Ctrl-C into a SIGTERM, so that inside a `StopOnSigterm` it stops the loop, of all processes.

    A second one does what Ctrl-C did before: Python raises KeyboardInterrupt. Where SIGINT is ignored or handled by
    others (a shell's background, a notebook), and outside the main thread, nothing is changed.
    """

    def __init__(self) -> None:
        self.pressed = False
        self._former: Any = None

    def __enter__(self) -> CtrlCAsSigterm:
        self.pressed = False
        self._former = signal.getsignal(signal.SIGINT)
        if self._former is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if signal.getsignal(signal.SIGINT) == self._receive:
            signal.signal(signal.SIGINT, self._former)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.pressed = True
        signal.signal(signal.SIGINT, self._former)
        print("\nstopping after this step, to save it; press Ctrl-C again to stop at once", file=sys.stderr, flush=True)
        signal.raise_signal(signal.SIGTERM)
