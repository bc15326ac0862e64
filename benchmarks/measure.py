"""How things are timed: compiled loops, calibrated repeats, alternating arms.

An arm is one thing that runs a given number of steps and waits for them. Arms that are compared run in turn, repeat by
repeat, so that a change in the machine's load meets all of them, and their ratio is the median of the ratios within a
repeat. The number of steps a repeat is calibrated for each arm, so that every repeat takes about the same time.
"""

from __future__ import annotations

import dataclasses
import time
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.results import Status

Body = Callable[[Any, Any, jax.Array], Any]


class Unavailable(Exception):
    """An arm cannot run here: a package is not installed, or the machine lacks something."""


@dataclasses.dataclass(frozen=True)
class Arm:
    """One thing to time."""

    run: Callable[[int], None]  # does that many steps and waits until they are done
    items: float  # what one step counts for, for example the batch size
    compile_seconds: float | None = None
    finish: Callable[[], dict[str, float]] = dict  # what the steps produced, asked for after the last repeat


@dataclasses.dataclass(frozen=True)
class Program:
    """A loop to be compiled: `carry = body(constants, carry, key)`, as often as asked.

    `constants` and `carry` are pytrees of arrays. Both are arguments of the compiled program; the carry is donated, is
    an output, and goes on from one call to the next, so nothing that it holds can be optimised away.
    """

    body: Body
    constants: Any
    carry: Any
    items: float
    summary: Callable[[Any], dict[str, float]] = lambda carry: {}  # figures from the last carry

    def compiled(self) -> tuple[Any, float]:
        """The executable, `(constants, carry, key, call, num_steps) -> carry`, and the seconds it took to make."""

        def loop(constants: Any, carry: Any, key: jax.Array, call: jax.Array, num_steps: jax.Array) -> Any:
            key = jax.random.fold_in(key, call)
            step = lambda i, carry: self.body(constants, carry, jax.random.fold_in(key, i))
            return jax.lax.fori_loop(0, num_steps, step, carry)

        arguments = (self.constants, self.carry, jax.random.key(0), np.uint32(0), np.int32(1))
        start = time.perf_counter()
        executable = jax.jit(loop, donate_argnums=1).lower(*arguments).compile()
        return executable, time.perf_counter() - start

    def arm(self) -> Arm:
        """The program as an arm, compiled."""
        executable, seconds = self.compiled()
        runner = Runner(executable, self.constants, self.carry)
        return Arm(runner, self.items, seconds, lambda: self.summary(runner.carry))


class Runner:
    """Calls a compiled program with the carry that its last call returned, and with new random numbers."""

    def __init__(self, executable: Any, constants: Any, carry: Any) -> None:
        self.executable = executable
        self.constants = constants
        # A donated array must be its own: reset may return one array in two places.
        self.carry = jax.tree.map(jnp.copy, carry)
        self.key = jax.random.key(1)
        self.calls = 0

    def __call__(self, num_steps: int) -> None:
        self.calls += 1
        arguments = (self.key, np.uint32(self.calls), np.int32(num_steps))
        self.carry = jax.block_until_ready(self.executable(self.constants, self.carry, *arguments))


@dataclasses.dataclass(frozen=True)
class Budget:
    """How much time measuring may take."""

    name: str
    repeats: int
    seconds: float  # that one repeat of one arm should take


BUDGETS = {"quick": Budget("quick", repeats=5, seconds=0.06), "full": Budget("full", repeats=9, seconds=0.5)}


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What an arm did: its rate in each repeat, or why it has none."""

    rates: np.ndarray | None = None  # float64[repeats]: items a second
    steps: int = 0  # a repeat
    compile_seconds: float | None = None
    summary: dict[str, float] = dataclasses.field(default_factory=dict)
    status: Status = "ok"
    note: str = ""

    def times(self, items: float) -> Measurement:
        """The measurement in what an item consists of, in place of items."""
        return self if self.rates is None else dataclasses.replace(self, rates=self.rates * items)


def measure(arms: Mapping[str, Callable[[], Arm]], budget: Budget) -> dict[str, Measurement]:
    """Times arms against each other.

    Args:
      arms: for each name, a function that prepares the arm (compiles, allocates).
      budget: repeats, and the time of one.

    Returns:
      A Measurement for each name. An arm that raises, whenever it does so, fails alone.
    """
    failures: dict[str, Measurement] = {}
    ready: dict[str, tuple[Arm, int]] = {}
    rates: dict[str, list[float]] = {name: [] for name in arms}

    def guarded(name: str, function: Callable[[], Any]) -> Any:
        try:
            return function()
        except Exception as error:
            failures[name] = failure(error)
            ready.pop(name, None)
            return None

    for name, prepare in arms.items():
        prepared = guarded(name, partial(_calibrated, prepare, budget.seconds))
        if prepared is not None:
            ready[name] = prepared
    for repeat in range(budget.repeats):
        names = list(ready)
        first = repeat % max(1, len(names))
        for name in names[first:] + names[:first]:
            arm, steps = ready[name]
            seconds = guarded(name, partial(timed, arm.run, steps))
            if seconds is not None:
                rates[name].append(arm.items * steps / seconds)
    done = {name: guarded(name, arm.finish) for name, (arm, _) in list(ready.items())}
    measured = {
        name: Measurement(np.array(rates[name]), steps, arm.compile_seconds, done[name])
        for name, (arm, steps) in ready.items()
    }
    return {name: failures[name] if name in failures else measured[name] for name in arms}


def failure(error: Exception) -> Measurement:
    """The Measurement of an arm that raised `error`."""
    if isinstance(error, Unavailable):
        return Measurement(status="unavailable", note=str(error))
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{frame.name} ({frame.filename.rsplit('/', 1)[-1]}:{frame.lineno})"
    message = " ".join(str(error).split())
    return Measurement(status="failed", note=f"{type(error).__name__} in {place}: {message[:500]}")


def timed(run: Callable[[int], None], steps: int) -> float:
    """Seconds that `run(steps)` takes."""
    start = time.perf_counter()
    run(steps)
    return time.perf_counter() - start


def _calibrated(prepare: Callable[[], Arm], seconds: float) -> tuple[Arm, int]:
    """The arm, warm, and how many of its steps take about `seconds`."""
    arm = prepare()
    steps, taken = 1, timed(arm.run, 1)
    if taken < seconds:
        taken = timed(arm.run, 1)  # the first call also touches fresh memory
    while taken < seconds / 4:
        steps = max(steps + 1, int(steps * min(16.0, seconds / 2 / max(taken, 1e-9))))
        taken = timed(arm.run, steps)
    return arm, max(1, round(steps * seconds / taken))


def ratio(numerator: Measurement, denominator: Measurement) -> np.ndarray | None:
    """The ratios of the rates within each repeat; None where one of the two has none."""
    if numerator.rates is None or denominator.rates is None:
        return None
    return numerator.rates / denominator.rates


def nbytes(tree: Any) -> int:
    """Bytes of all arrays of a pytree."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
