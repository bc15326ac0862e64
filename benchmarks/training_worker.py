"""One training step on one and on several simulated devices; `benchmarks.search_workers` runs it in a process."""

from __future__ import annotations

from typing import Any

import jax


def train(num_devices: int, num_groups: int, group_size: int, repeats: int, seconds: float) -> dict[str, Any]:
    """The same step on one and on `num_devices` simulated devices, in turn.

    Returns:
      "rates", steps a second of each repeat, and "loss" and "gradient_norm" of the first step, by number of devices.
    """
    jax.config.update("jax_num_cpu_devices", num_devices)
    from benchmarks.measure import Budget, measure
    from benchmarks.training_arms import Work, step, work
    from jaxrl_agents.training import make_mesh

    def on(count: int) -> Work:
        mesh = make_mesh(devices=jax.devices()[:count])
        return work(num_groups, group_size, mesh=mesh)

    arms = {str(count): lambda count=count: step(on(count)) for count in (1, num_devices)}
    measured = measure(arms, Budget("devices", repeats, seconds))
    for measurement in measured.values():
        if measurement.rates is None:
            raise RuntimeError(measurement.note)
    found: dict[str, Any] = {"rates": {name: list(arm.rates) for name, arm in measured.items()}}  # type: ignore[arg-type]
    for metric in ("loss", "gradient_norm"):
        found[metric] = {name: arm.summary[f"first {metric}"] for name, arm in measured.items()}
    return found
