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

_SOKOBAN, _FROZEN_LAKE = "envs_jax.sokoban.env:make", "envs_jax.frozen_lake.env:make"

register("Sokoban-v0", _SOKOBAN, preset="standard", description="10×10 boards, 4 boxes, generated levels")
register("Sokoban-8x8-v0", _SOKOBAN, preset="small", description="8×8 boards, 2 boxes, generated levels")
register("Sokoban-Large-v0", _SOKOBAN, preset="large", description="17×20 boards, 6 boxes, generated levels")
register("Sokoban-RAGEN-v0", _SOKOBAN, preset="ragen", description="RAGEN's 6×6 rooms, 1 box, 10 steps")
register("Sokoban-RAGEN-2box-v0", _SOKOBAN, preset="ragen_2box", description="RAGEN's 6×6 rooms, 2 boxes, 10 steps")
register("FrozenLake-v0", _FROZEN_LAKE, preset="4x4", description="Gymnasium's FrozenLake-v1: its 4×4 map")
register("FrozenLake-8x8-v0", _FROZEN_LAKE, preset="8x8", description="Gymnasium's FrozenLake8x8-v1: its 8×8 map")
register("FrozenLake-Random-v0", _FROZEN_LAKE, preset="random", description="random 8×8 maps with a way to the goal")
register(
    "FrozenLake-RAGEN-v0", _FROZEN_LAKE, preset="ragen_v1", description="RAGEN's random 4×4 maps, version 1, 10 steps"
)
register(
    "FrozenLake-RAGEN2-v0", _FROZEN_LAKE, preset="ragen_v2", description="RAGEN's random 4×4 maps, version 2, 10 steps"
)
register("TabularWeb-v0", "envs_jax.web.tabular:make", description="random web of 20 pages with 5 links each, 8 tasks")
register("WebShop-v0", "envs_jax.web.webshop:make", description="WebShop: find the product that a shopper asks for")
