"""One training step on one and on several simulated devices; `benchmarks.search_workers` runs it in a process."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

if TYPE_CHECKING:
    from benchmarks.training_arms import Work


def train(num_devices: int, num_groups: int, group_size: int, repeats: int, seconds: float) -> dict[str, Any]:
    """The same step on one and on `num_devices` simulated devices, in turn.

    Returns:
      "rates", steps a second of each repeat, and "loss" of the first step, by number of devices; and
      "gradient_change", see `change`, of the gradient of an update on several devices from that on one.
    """
    jax.config.update("jax_num_cpu_devices", num_devices)
    from benchmarks.measure import Budget, measure
    from benchmarks.training_arms import step, work
    from jaxrl_agents.training import make_mesh

    counts = (1, num_devices)
    works = {n: work(num_groups, group_size, mesh=make_mesh(devices=jax.devices()[:n])) for n in counts}
    arms = {str(count): functools.partial(step, made) for count, made in works.items()}
    measured = measure(arms, Budget("devices", repeats, seconds))
    for measurement in measured.values():
        if measurement.rates is None:
            raise RuntimeError(measurement.note)
    return {
        "rates": {name: list(arm.rates) for name, arm in measured.items()},  # type: ignore[arg-type]
        "loss": {name: arm.summary["first loss"] for name, arm in measured.items()},
        "gradient_change": change(*(gradient(made) for made in works.values())),
    }


def gradient(made: Work) -> Any:
    """The gradient of an update's loss, as NumPy arrays: the same episodes of random actions on any mesh."""
    from jaxrl_agents.training import shard_batch, update

    played, policy = made.played, made.policy
    draw = np.random.default_rng(0).normal(size=played.actions.shape).astype(np.float32)
    likelihood = np.full_like(draw, -np.log(policy.env.num_actions))
    mask = played.mask[..., None] & (played.actions >= 0)
    batch = update.Batch(played.observations, played.actions, played.action_mask, mask, likelihood, draw)
    if made.learner.mesh is not None:
        batch = shard_batch(batch, made.learner.mesh)
    loss = update.policy_loss(policy, made.learner.algorithm, 0.5)
    found, _ = jax.jit(lambda params, batch: update.gradient(loss, params, batch, 1))(made.first[0].params, batch)
    return jax.device_get(found)


def change(before: Any, after: Any) -> float:
    """The norm of the difference of two trees of arrays over the norm of the first."""
    norm = lambda tree: np.sqrt(sum(np.sum(np.square(leaf, dtype=np.float64)) for leaf in jax.tree.leaves(tree)))
    return float(norm(jax.tree.map(np.subtract, after, before)) / norm(before))
