"""Where the time of one program goes: a trace, its operations, and the machine's limits beside them."""

from __future__ import annotations

import dataclasses
import gzip
import json
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import hlo
from benchmarks.hlo_costs import Work, work
from benchmarks.measure import Arm, Budget, Program, Runner, measure

TRACE_SECONDS = 0.05  # of work in a trace; tracing itself multiplies the size, not the share, of each operation
MAX_TRACE_STEPS = 200


@dataclasses.dataclass(frozen=True)
class Cost:
    """What one operation, or a group of them, took in the traced steps."""

    name: str
    seconds: float = 0.0  # its own time, without the operations that it contains
    runs: int = 0
    operations: int = 0  # arithmetic on elements, over all runs
    flops: int = 0  # of matrix products and convolutions, over all runs
    bytes: int = 0  # read and written, over all runs
    uncounted: tuple[str, ...] = ()  # kinds of work in it that are not counted


@dataclasses.dataclass(frozen=True)
class Profile:
    """What `profile` found out about a program."""

    name: str
    compile_seconds: float
    items: float  # a step
    flops: float  # a step, as the compiler counts them: the body of an inner loop once
    bytes_accessed: float  # the same
    memory: dict[str, int]  # bytes, from the compiler
    opcodes: dict[str, int]
    steps: int  # traced
    costs: list[Cost]  # each operation, the longest first
    instructions: dict[str, hlo.Instruction]  # operation → its instruction
    rates: dict[str, np.ndarray]  # float64[repeats]: items/s, untraced, and the machine's LIMITS, all in turn
    trace: Path

    @property
    def item_seconds(self) -> float:
        """Measured without tracing."""
        return 1 / float(np.median(self.rates[PROGRAM]))

    @property
    def seconds(self) -> float:
        """Of the traced operations."""
        return sum(cost.seconds for cost in self.costs)

    def work_of(self, limit: str) -> float:
        """What an item takes of the work that a limit is of."""
        return self.per_item(sum(getattr(cost, LIMITS[limit].measure) for cost in self.costs))

    def shares_of_repeats(self) -> dict[str, np.ndarray]:
        """For each limit that was measured what the program reaches of it, float64[repeats]."""
        program = self.rates[PROGRAM]
        return {name: self.work_of(name) * program / self.rates[name] for name in LIMITS if name in self.rates}

    def shares(self) -> dict[str, float]:
        """The medians of the same."""
        return {name: float(np.median(shares)) for name, shares in self.shares_of_repeats().items()}

    @property
    def uncounted(self) -> list[str]:
        """What ran without being counted, each kind once."""
        return sorted({kind for cost in self.costs for kind in cost.uncounted})

    def per_item(self, total: float) -> float:
        """A total over the traced steps, for one item."""
        return total / (self.steps * self.items)

    def grouped(self, group: Callable[[Cost], str]) -> list[Cost]:
        """The costs, added up by group, the longest first."""
        groups: dict[str, list[Cost]] = defaultdict(list)
        for cost in self.costs:
            groups[group(cost)].append(cost)
        return sorted((_total(name, costs) for name, costs in groups.items()), key=lambda cost: -cost.seconds)


def profile(name: str, program: Program, budget: Budget, folder: Path) -> Profile:
    """Compiles, times and traces a program.

    Args:
      name: for the report.
      program: what to look at.
      budget: for the timing.
      folder: where the trace is written (open it with Perfetto or TensorBoard).
    """
    jax.clear_caches()  # a cached inner function would name the line that called it first, in another program
    executable, compile_seconds = program.compiled()
    runner = Runner(executable, program.constants, program.carry)
    arms = {PROGRAM: lambda: Arm(runner, program.items), **{limit: LIMITS[limit].arm for limit in LIMITS}}
    measured = measure(arms, budget)
    if measured[PROGRAM].rates is None:
        raise ValueError(f"{name}: {measured[PROGRAM].note}")
    rates = {arm: found.rates for arm, found in measured.items() if found.rates is not None}
    steps = int(np.clip(TRACE_SECONDS * float(np.median(rates[PROGRAM])) / program.items, 1, MAX_TRACE_STEPS))
    with jax.profiler.trace(str(folder), create_perfetto_trace=True):
        runner(steps)
    module = hlo.parse(executable.as_text())
    analysis = executable.cost_analysis() or {}
    write_phases(folder, module)
    return Profile(
        name,
        compile_seconds,
        program.items,
        analysis.get("flops", 0.0),
        analysis.get("bytes accessed", 0.0),
        _memory(executable),
        dict(module.opcodes().most_common()),
        steps,
        _costs(own_times(read_trace(folder)), module),
        module.instructions,
        rates,
        folder,
    )


PHASES = "phases.trace.json.gz"


def write_phases(folder: Path, module: hlo.Module) -> None:
    """Writes the newest trace in the folder again, each operation named by its phase (its named scope) in front."""
    with gzip.open(_newest_trace(folder)) as file:
        document = json.load(file)
    for event in document["traceEvents"]:
        instruction = module.instructions.get(event.get("args", {}).get("hlo_op", ""))
        if instruction is not None and instruction.scope:
            event["name"] = f"{instruction.scope}: {event['name']}"
    with gzip.open(folder / PHASES, "wt") as out:
        json.dump(document, out)


def _newest_trace(folder: Path) -> Path:
    files = sorted(folder.glob("plugins/profile/*/*.trace.json.gz"))
    return [file for file in files if not file.name.startswith("perfetto")][-1]


def read_trace(folder: Path) -> list[dict[str, Any]]:
    """The events of the newest trace in the folder that are operations of the program `loop`."""
    with gzip.open(_newest_trace(folder)) as file:
        events = json.load(file)["traceEvents"]
    ours = lambda event: event.get("args", {}).get("hlo_module", "").startswith("jit_loop")
    return [event for event in events if event.get("ph") == "X" and ours(event) and "hlo_op" in event["args"]]


def own_times(events: list[dict[str, Any]]) -> dict[str, tuple[float, int]]:
    """For each operation its seconds, those of events within its own left out, and how often it ran."""
    threads: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for event in events:
        threads[event["pid"], event["tid"]].append(event)
    totals: dict[str, tuple[float, int]] = defaultdict(lambda: (0.0, 0))

    def add(name: str, seconds: float, runs: int) -> None:
        totals[name] = (totals[name][0] + seconds, totals[name][1] + runs)

    for thread in threads.values():
        open_events: list[tuple[float, str]] = []  # (end, operation), outermost first
        for event in sorted(thread, key=lambda event: (event["ts"], -event["dur"])):
            name, seconds = event["args"]["hlo_op"], event["dur"] * 1e-6
            while open_events and open_events[-1][0] <= event["ts"]:
                open_events.pop()
            if open_events:
                add(open_events[-1][1], -seconds, 0)
            add(name, seconds, 1)
            open_events.append((event["ts"] + event["dur"], name))
    return dict(totals)


def _costs(times: dict[str, tuple[float, int]], module: hlo.Module) -> list[Cost]:
    costs = []
    for name, (seconds, runs) in times.items():
        instruction = module.instructions.get(name)
        one = Work() if instruction is None else work(module, instruction)
        costs.append(
            Cost(name, seconds, runs, runs * one.operations, runs * one.flops, runs * one.bytes, one.uncounted)
        )
    return sorted(costs, key=lambda cost: -cost.seconds)


def _total(name: str, costs: list[Cost]) -> Cost:
    add = lambda field: sum(getattr(cost, field) for cost in costs)
    uncounted = tuple(sorted({kind for cost in costs for kind in cost.uncounted}))
    return Cost(name, add("seconds"), add("runs"), add("operations"), add("flops"), add("bytes"), uncounted)


def _memory(executable: Any) -> dict[str, int]:
    analysis = executable.memory_analysis()
    fields = ("argument", "output", "alias", "temp")
    return {field: int(getattr(analysis, f"{field}_size_in_bytes", 0)) for field in fields}


# The machine's limits -----------------------------------------------------------------------------------------------

PROGRAM = "program"  # among the rates
FROM_MEMORY = "bytes, from memory"
WORDS = 8_192


def _copy(words: int) -> Arm:
    """Reads and writes an array of 4-byte words a step."""
    array = jnp.zeros(words, jnp.uint32)
    return Program(lambda constants, carry, key: carry + jnp.uint32(1), None, array, 2 * array.nbytes).arm()


def _integers() -> Arm:
    """Xorshift, 64 rounds of three shifts and three xors a step, in registers; enough words for every core."""

    def body(constants: None, words: jax.Array, key: jax.Array) -> jax.Array:
        for _ in range(64):
            words = words ^ (words << 13)
            words = words ^ (words >> 17)
            words = words ^ (words << 5)
        return words

    return Program(body, None, jnp.arange(1, WORDS + 1, dtype=jnp.uint32), WORDS * 64 * 6).arm()


def _products() -> Arm:
    """Products of float32 matrices of 1,024 × 1,024."""
    from benchmarks.training_arms import matrix_product

    return matrix_product(1_024, "float32").arm()


@dataclasses.dataclass(frozen=True)
class Limit:
    """What the machine can do at most of one kind of work, by a program that does nothing else."""

    measure: str  # the field of Cost that is held against it
    unit: str
    arm: Callable[[], Arm]


LIMITS = {
    FROM_MEMORY: Limit("bytes", "B/s", partial(_copy, 2**25)),  # 128 MiB, far more than a core's caches hold
    "bytes, from caches": Limit("bytes", "B/s", partial(_copy, 2**18)),  # 1 MiB
    "arithmetic on integers": Limit("operations", "/s", _integers),
    "matrix products": Limit("flops", "flop/s", _products),
}
