"""Measurements that need a process of their own, since JAX's number of CPU devices is fixed when it starts.

`python -m benchmarks.search_workers devices '{"batch_size": 512, …}'` prints its result as JSON; `call` runs it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

TIMEOUT = 900  # seconds


def call(worker: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """What a worker returns, from a fresh process; raises RuntimeError with its last words where it fails."""
    command = [sys.executable, "-m", "benchmarks.search_workers", worker, json.dumps(arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the process for {worker} ended with {done.returncode}: {done.stderr.strip()[-400:]}")
    return json.loads(done.stdout.splitlines()[-1])


def devices(num_devices: int, batch_size: int, num_turns: int, repeats: int, seconds: float) -> dict[str, Any]:
    """The same beam search on one and on `num_devices` simulated devices, in turn: roots a second of each repeat."""
    jax.config.update("jax_num_cpu_devices", num_devices)
    from benchmarks.measure import Arm, Budget, measure
    from benchmarks.search_arms import Search, searching
    from benchmarks.search_problems import problem
    from benchmarks.suites import Settings
    from jaxrl_agents import search

    base = problem("Sokoban-v0", batch_size, Settings())
    options = {"num_turns": num_turns, "beam_width": 16, "candidates": "enumerate"}
    beam = Search(search.beam_search, options)

    def on(count: int) -> Arm:
        mesh = jax.sharding.Mesh(np.array(jax.devices()[:count]), ("roots",))
        rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("roots"))
        states, tasks = jax.device_put((base.states, base.tasks), rows)
        return searching(beam, dataclasses.replace(base, states=states, tasks=tasks))

    arms = {str(count): lambda count=count: on(count) for count in (1, num_devices)}
    measured = measure(arms, Budget("devices", repeats, seconds))
    for measurement in measured.values():
        if measurement.rates is None:
            raise RuntimeError(measurement.note)
    return {name: list(measurement.rates) for name, measurement in measured.items() if measurement.rates is not None}


def solve(levels: list[str] | None, num_levels: int, modes: list[str], repeats: int) -> dict[str, Any]:
    """Solves level files (None: generated levels) in each mode on all cores, `repeats` times after a first time."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    jax.config.update("jax_num_cpu_devices", cores)
    from jaxrl_agents.search.best_first import solve as solve_levels

    layout, tasks = _levels(levels, num_levels)
    found: dict[str, Any] = {"levels": len(tasks), "devices": len(jax.devices())}
    for mode in modes:
        first = solve_levels(tasks, layout=layout, mode=mode)  # type: ignore[arg-type]
        seconds = []
        for _ in range(repeats):
            again = solve_levels(tasks, layout=layout, mode=mode)  # type: ignore[arg-type]
            seconds.append(again.seconds + again.compile_seconds)
        pushes, counts = np.unique(first.pushes[first.solved], return_counts=True)
        found[mode] = {
            "solved": int(first.solved.sum()),
            "seconds": seconds,
            "compile_seconds": first.compile_seconds,
            "expanded": float(first.expanded.mean()),
            "moves": float(np.median(first.moves[first.solved])),
            "pushes": pushes.tolist(),
            "counts": counts.tolist(),
        }
    return found


def _levels(paths: list[str] | None, num_levels: int) -> tuple[Any, Any]:
    from envs_jax.sokoban import levels as level_files
    from envs_jax.sokoban.board import Layout
    from envs_jax.sokoban.generator import generate

    if paths is None:
        layout = Layout(10, 10)
        return layout, generate(jax.random.key(2**31), num_levels, layout=layout, num_boxes=4)
    found = level_files.read([Path(path) for path in paths])
    return found.layout, found.bank()


if __name__ == "__main__":
    worker: Any = {"devices": devices, "solve": solve}[sys.argv[1]]
    print(json.dumps(worker(**json.loads(sys.argv[2]))))
