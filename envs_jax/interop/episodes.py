"""Episodes driven from Python one step at a time: what the adapters to object-oriented interfaces share.

The environment and its tasks are arguments of the compiled functions, so that all adapters of one kind of
environment share one compilation and no program holds a catalogue or a bank as a constant.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs_jax.environment import Environment, Transition
from envs_jax.tasks import TaskBank


class View(NamedTuple):
    """What can be seen of a state."""

    observation: Any
    action_mask: jax.Array  # bool[A]
    info: dict[str, jax.Array]


def random_words(rng: np.random.Generator, size: int | None = None) -> Any:
    """One random uint32, or an array of `size`."""
    return rng.integers(2**32, size=size, dtype=np.uint32)


def as_typed(key: jax.Array) -> jax.Array:
    """The key as a typed one: users of other packages hold raw keys (`jax.random.PRNGKey`), too."""
    return key if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else jax.random.wrap_key_data(key)


def view(env: Environment[Any, Any], state: Any, task: Any) -> View:
    """Everything there is to see of one state."""
    return View(env.observe(state, task), env.action_mask(state, task), env.info(state, task))


@jax.jit
def draw_task(tasks: TaskBank[Any], word: jax.Array) -> Any:
    """The task that the random `word` selects."""
    return tasks[tasks.sample_index(word)]


@jax.jit
def begin(env: Environment[Any, Any], task: Any, word: jax.Array) -> tuple[Any, View]:
    """Starts an episode of `task`: (state, view)."""
    state = env.initial(word, task)
    return state, view(env, state, task)


@jax.jit
def advance(
    env: Environment[Any, Any], task: Any, state: Any, action: jax.Array, word: jax.Array
) -> tuple[Transition, View]:
    """Takes one step: (transition, view of the state reached)."""
    transition = env.transition(state, action, word, task)
    return transition, view(env, transition.state, task)
