"""Sokoban as an environment."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np

from envs_jax import spaces
from envs_jax.environment import Environment
from envs_jax.pytree import pytree_dataclass, static_field
from envs_jax.sokoban import rules
from envs_jax.sokoban.board import Board, Layout
from envs_jax.tasks import Task

Reward = Literal["dense", "sparse"]


@pytree_dataclass
class SokobanState:
    """What changes within an episode; 12 bytes for a 10×10 board."""

    boxes: Board  # uint32[] × num_words
    player: jax.Array  # uint8[] (uint16[] on boards of more than 256 interior cells): the player's cell
    steps: jax.Array  # uint16[]


@pytree_dataclass
class SokobanTask(Task):
    """One level; 28 bytes for a 10×10 board."""

    walls: Board  # uint32[] × num_words
    targets: Board  # uint32[] × num_words
    boxes: Board  # uint32[] × num_words: where the boxes start
    player: jax.Array  # uint8[] or uint16[]: where the player starts
    time_limit: jax.Array  # uint16[]


@pytree_dataclass
class Sokoban(Environment[SokobanState, SokobanTask]):
    layout: Layout = static_field()
    reward: Reward = static_field(default="dense")

    task_type: ClassVar[type[Task]] = SokobanTask

    @property
    def num_actions(self) -> int:
        return 4

    def initial(self, word, task):
        del word
        return SokobanState(task.boxes, task.player, jnp.uint16(0))

    def advance(self, state, action, word, task):
        del word
        move = rules.plan_move(self.layout, task.walls, state.boxes, state.player, action)
        boxes, player = rules.apply_move(self.layout, state.boxes, state.player, move)
        solved = rules.is_solved(task.targets, boxes)
        if self.reward == "sparse":
            reward = jnp.where(solved, jnp.float32(rules.SOLVED_REWARD), 0)
        else:
            reward = rules.dense_reward(task.targets, move, solved)
        return SokobanState(boxes, player, state.steps), reward

    def terminated(self, state, task):
        return rules.is_solved(task.targets, state.boxes)

    def success(self, state, task):
        return rules.is_solved(task.targets, state.boxes)

    def action_mask(self, state, task):
        legal = [
            rules.plan_move(self.layout, task.walls, state.boxes, state.player, jnp.int32(a)).legal for a in range(4)
        ]
        return jnp.stack(legal) | jnp.logical_or(*self.status(state, task))

    def state_key(self, state):
        return jnp.stack([*state.boxes, state.player.astype(jnp.uint32)])

    def observe(self, state, task):
        return jnp.zeros(())

    @property
    def observation_space(self):
        return spaces.Box(0, 6, (self.layout.height, self.layout.width), np.uint8)
    render_text = render_rgb = None
    action_names = ("up", "down", "left", "right")
