"""Batches that the tests of the losses share."""

import jax.numpy as jnp
import numpy as np


def batch(seed=0, num_rows=6, length=7, spread=0.4):
    """Arrays in float64: holes in the mask, a fully masked row, a row of one token, advantages of 0."""
    rng = np.random.default_rng(seed)
    shape = (num_rows, length)
    lp = -np.abs(rng.normal(1.5, 0.7, shape))
    mask = rng.random(shape) < 0.7
    mask[1] = False
    mask[2] = np.arange(length) == 3
    mask[0, :2], mask[0, 2] = True, False
    advantages = rng.normal(size=num_rows)
    advantages[3] = 0.0
    return {
        "lp": lp,
        "old": lp - rng.normal(0, spread, shape),
        "adv": advantages,
        "mask": mask,
        "ref": lp - rng.normal(0, spread, shape),
        "ent": np.abs(rng.normal(1.0, 0.3, shape)),
    }


def call(loss, case, lp=None, **options):
    """The loss of a PolicyLoss for a case."""
    arrays = {name: jnp.asarray(value) for name, value in case.items()}
    return loss(
        arrays["lp"] if lp is None else lp,
        arrays["old"],
        arrays["adv"],
        arrays["mask"],
        reference_log_probs=arrays["ref"],
        entropies=arrays["ent"],
        **options,
    )


def numeric_gradient(function, point, step=1e-6):
    """Central differences of a scalar function of a NumPy array."""
    gradient = np.zeros_like(point)
    for index in np.ndindex(*point.shape):
        up, down = point.copy(), point.copy()
        up[index] += step
        down[index] -= step
        gradient[index] = (function(up) - function(down)) / (2 * step)
    return gradient
