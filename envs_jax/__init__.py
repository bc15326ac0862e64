"""Accelerated environments for agents: Sokoban, FrozenLake and web tasks as pure, jit-compiled functions.

    env, tasks = envs_jax.make("Sokoban-v0")
    task = tasks.sample(key)
    obs, state = env.reset(key, task)
    obs, state, reward, terminated, truncated, info = env.step(key, state, action, task)

Every function maps over a batch with `jax.vmap`; `AutoReset` is a batch that restarts by itself.
"""

from envs_jax import spaces
from envs_jax.autoreset import AutoReset, AutoResetState
from envs_jax.environment import Environment, Transition
from envs_jax.pytree import pytree_dataclass, static_field
from envs_jax.random_words import random_words
from envs_jax.registration import make, register, registered_ids
from envs_jax.rollout import Rollout, random_policy, rollout
from envs_jax.tasks import Task, TaskBank, make_bank, stack_tasks

__version__ = "0.1.0"

__all__ = [
    "AutoReset",
    "AutoResetState",
    "Environment",
    "Rollout",
    "Task",
    "TaskBank",
    "Transition",
    "make",
    "make_bank",
    "pytree_dataclass",
    "random_policy",
    "random_words",
    "register",
    "registered_ids",
    "rollout",
    "spaces",
    "stack_tasks",
    "static_field",
]

register("Sokoban-v0", "envs_jax.sokoban.env:make", size=(10, 10), num_boxes=4)
register("Sokoban-8x8-v0", "envs_jax.sokoban.env:make", size=(8, 8), num_boxes=2)
register("Sokoban-Large-v0", "envs_jax.sokoban.env:make", size=(17, 20), num_boxes=6)
register("Sokoban-RAGEN-v0", "envs_jax.sokoban.env:make", size=(6, 6), num_boxes=1, preset="ragen")
register(
    "Sokoban-RAGEN-2box-v0", "envs_jax.sokoban.env:make", size=(6, 6), num_boxes=2, preset="ragen", search_depth=100
)
register("FrozenLake-v0", "envs_jax.frozen_lake.env:make", preset="4x4")
register("FrozenLake-8x8-v0", "envs_jax.frozen_lake.env:make", preset="8x8")
register("FrozenLake-Random-v0", "envs_jax.frozen_lake.env:make", preset="random")
register("FrozenLake-RAGEN-v0", "envs_jax.frozen_lake.env:make", preset="ragen_v1")
register("FrozenLake-RAGEN2-v0", "envs_jax.frozen_lake.env:make", preset="ragen_v2")
register("TabularWeb-v0", "envs_jax.web.tabular:make")
register("WebShop-v0", "envs_jax.web.webshop:make")
