"""Roots of searches in the environments."""

import jax
import jax.numpy as jnp
import numpy as np


@jax.jit
def started(env, model, tasks):
    """The root of a search from the first states of tasks [B]; one program, not an operation at a time."""
    words = jnp.zeros(jax.tree.leaves(tasks)[0].shape[0], jnp.uint32)
    return model.root(None, jax.vmap(env.initial)(words, tasks), tasks)


def random_lake(seed, size):
    """The rows of a square map, with or without a way from the upper left to the lower right corner."""
    tiles = np.random.default_rng(seed).choice(["F", "H"], (size, size), p=[0.75, 0.25])
    tiles[0, 0], tiles[-1, -1] = "S", "G"
    return tuple(map("".join, tiles))


def as_text(lakes):
    """Maps as `make` reads them."""
    return "\n\n".join(map("\n".join, lakes))
