"""A small environment for the tests of the adapters: a walk along a corridor, with every form of observation."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np

from envs_jax import Environment, Task, TaskBank, make_bank, pytree_dataclass, spaces, static_field

LENGTH = 8


@pytree_dataclass
class CorridorState:
    position: jax.Array  # int32[]
    steps: jax.Array  # uint16[]


@pytree_dataclass
class CorridorTask(Task):
    goal: jax.Array  # int32[]: the cell whose reaching ends the episode
    time_limit: jax.Array  # uint16[]


@pytree_dataclass
class Corridor(Environment[CorridorState, CorridorTask]):
    """Actions: left, right, stay.

    A slippery corridor starts in cell 0 or 1 and adds a step to the right with probability 1/4.
    """

    observation: Literal["index", "box", "dict"] = static_field(default="box")
    slippery: bool = static_field(default=False)

    task_type: ClassVar[type[Task]] = CorridorTask
    state_type: ClassVar[type[Any]] = CorridorState
    num_actions = 3
    action_names = ("left", "right", "stay")

    @property
    def observation_space(self) -> spaces.Space:
        index = spaces.Discrete(LENGTH, np.uint8)
        box = spaces.Box(0, 1, (LENGTH,), np.uint8)
        return {"index": index, "box": box, "dict": spaces.Dict({"index": index, "cells": box})}[self.observation]

    def initial(self, word, task):
        return CorridorState((word % 2).astype(jnp.int32) * self.slippery, jnp.uint16(0))

    def advance(self, state, action, word, task):
        slip = jnp.int32(self.slippery) * (word >> 30 == 0)
        position = jnp.clip(state.position + jnp.where(action == 2, 0, 2 * action - 1) + slip, 0, LENGTH - 1)
        reward = jnp.where(position == task.goal, 1.0, -0.125)
        return CorridorState(position, state.steps), reward

    def terminated(self, state, task):
        return state.position == task.goal

    def observe(self, state, task):
        index = state.position.astype(jnp.uint8)
        cells = (jnp.arange(LENGTH) == state.position).astype(jnp.uint8)
        return {"index": index, "box": cells, "dict": {"index": index, "cells": cells}}[self.observation]

    def action_mask(self, state, task):
        legal = jnp.stack([state.position > 0, state.position < LENGTH - 1, jnp.bool_(False)])
        return legal | jnp.logical_or(*self.status(state, task))

    def state_key(self, state):
        return state.position.astype(jnp.uint32)[None]

    def success(self, state, task):
        return self.terminated(state, task)

    def info(self, state, task):
        return {**super().info(state, task), "goal": task.goal}

    def render_text(self, state, task):
        return "".join("@" if i == state.position else "G" if i == task.goal else "." for i in range(LENGTH))

    def render_rgb(self, state, task):
        picture = np.zeros((8, 8 * LENGTH, 3), np.uint8)
        picture[:, 8 * int(state.position) : 8 * int(state.position) + 8] = 255
        return picture


def corridors(*goals: int, time_limit: int = 12) -> TaskBank[Any]:
    return make_bank(CorridorTask(np.array(goals, np.int32), np.full(len(goals), time_limit, np.uint16)))
