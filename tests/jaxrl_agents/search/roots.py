"""Roots of searches in the environments."""

import jax
import jax.numpy as jnp


@jax.jit
def started(env, model, tasks):
    """The root of a search from the first states of tasks [B]; one program, not an operation at a time."""
    words = jnp.zeros(jax.tree.leaves(tasks)[0].shape[0], jnp.uint32)
    return model.root(None, jax.vmap(env.initial)(words, tasks), tasks)
