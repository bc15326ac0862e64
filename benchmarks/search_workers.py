"""Measurements that need a process of their own: JAX's number of CPU devices and XLA's flags are fixed at its start.

`python -m benchmarks.search_workers devices '{"batch_size": 512, …}'` prints its result as JSON; `call` runs it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax

if TYPE_CHECKING:
    from benchmarks.suites import Settings

TIMEOUT = 900  # seconds


def call(worker: str, arguments: dict[str, Any], flags: str = "") -> Any:
    """What a worker returns, from a fresh process, with more XLA `flags` than this one has.

    Raises:
      RuntimeError: the process failed, with its last words; or it took longer than `TIMEOUT`.
    """
    command = [sys.executable, "-m", "benchmarks.search_workers", worker, json.dumps(arguments)]
    environment = {**os.environ, "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False, env=environment)
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(
            f"the process for {worker} was ended after {TIMEOUT} s, the most that it may take; a quick budget and "
            f"fewer levels take less (on slower machines raise TIMEOUT in {__name__})"
        ) from error
    if done.returncode != 0:
        raise RuntimeError(f"the process for {worker} ended with {done.returncode}: {done.stderr.strip()[-400:]}")
    return json.loads(done.stdout.splitlines()[-1])


def devices(
    num_devices: int, batch_size: int, num_turns: int, repeats: int, seconds: float, levels: str | None
) -> dict[str, Any]:
    """The same beam search on one and on `num_devices` simulated devices, in turn: roots a second of each repeat."""
    jax.config.update("jax_num_cpu_devices", num_devices)
    from benchmarks.measure import Budget, measure
    from benchmarks.search_arms import searching
    from benchmarks.search_headline import modes, roots

    beam, base = modes(num_turns)["beam_search"], roots(_settings(levels), "beam_search", batch_size)
    arms = {str(count): lambda count=count: searching(beam, base.over(count)) for count in (1, num_devices)}
    return _rates(measure(arms, Budget("devices", repeats, seconds)))


def nodes(budget: dict[str, Any], levels: str | None) -> list[dict[str, Any]]:
    """The arms of the headline case on one device and on one for each core, in turn; see `search_headline.Way`."""
    from envs_jax.host_cores import available_cores

    jax.config.update("jax_num_cpu_devices", available_cores())
    from benchmarks.measure import Budget
    from benchmarks.search_headline import measured

    return [way.document() for way in measured(_settings(levels, budget=Budget(**budget)))]


def mcts(batch_size: int, num_simulations: int, repeats: int, seconds: float, levels: str | None) -> dict[str, Any]:
    """mctx, mctx with its tree as an output, and `search.mcts`, in turn: roots a second of each repeat."""
    from benchmarks.measure import Budget, measure
    from benchmarks.search_arms import mctx_gumbel, our_mcts
    from benchmarks.search_problems import problem

    base = problem("Sokoban-v0", batch_size, _settings(levels))
    arms = {
        "mctx": lambda: mctx_gumbel(base, num_simulations),
        "mctx, with tree": lambda: mctx_gumbel(base, num_simulations, keep_tree=True),
        "mcts": lambda: our_mcts(base, num_simulations),
    }
    return _rates(measure(arms, Budget("mcts", repeats, seconds)))


def _settings(levels: str | None, **fields: Any) -> Settings:
    """The settings that play the level file or folder `levels`, or generated ones."""
    from benchmarks.suites import Settings

    return Settings(levels=None if levels is None else Path(levels), **fields)


def _rates(measured: dict[str, Any]) -> dict[str, list[float]]:
    for measurement in measured.values():
        if measurement.rates is None:
            raise RuntimeError(measurement.note)
    return {name: list(measurement.rates) for name, measurement in measured.items()}


if __name__ == "__main__":
    from benchmarks.solving_worker import solve
    from benchmarks.training_worker import train

    worker: Any = {"devices": devices, "mcts": mcts, "nodes": nodes, "solve": solve, "train": train}[sys.argv[1]]
    jax.config.update("jax_enable_compilation_cache", False)  # it would hide compile times
    print(json.dumps(worker(**json.loads(sys.argv[2]))))
