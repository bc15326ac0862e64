"""Other packages' environments, driven as their documentation says, with random actions and their own auto-reset.

Each function imports its package when called and raises `Unavailable` where it is not installed. The JAX packages run
in the same compiled loop, at the same batch size and with the same draw of actions as ours; the others run in a Python
loop with NumPy's actions, which is how they are used.
"""

from __future__ import annotations

import importlib
import random
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.boards import Grids
from benchmarks.measure import Arm, Program, Unavailable
from benchmarks.stepping import Tally, draw_actions


def require(module: str) -> ModuleType:
    """The module, imported; raises Unavailable where its package is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.split(".")[0].replace("_", "-")
        advice = 'install it with `pip install "envs-jax[peers]"`'
        raise Unavailable(f"{package} cannot be imported ({error}); {advice}") from error


def jumanji_generator(levels: Grids) -> Any:
    """A generator for Jumanji's Sokoban that draws one of the given levels, as its own generators do."""
    kinds = require("jumanji.environments.routing.sokoban.constants")
    state_type = require("jumanji.environments.routing.sokoban.types").State
    fixed = np.select([levels.walls, levels.targets], [kinds.WALL, kinds.TARGET], kinds.EMPTY).astype(np.uint8)
    variable = np.select([levels.player, levels.boxes], [kinds.AGENT, kinds.BOX], kinds.EMPTY).astype(np.uint8)

    class Bank(require("jumanji.environments.routing.sokoban.generator").Generator):  # type: ignore[misc]
        def __init__(self) -> None:
            self._fixed_grids, self._variable_grids = jnp.asarray(fixed), jnp.asarray(variable)

        def __call__(self, rng_key: jax.Array) -> Any:
            key, key_index = jax.random.split(rng_key)
            index = jax.random.randint(key_index, (), 0, len(levels))
            grid = self._variable_grids.take(index, axis=0)
            walls, place = self._fixed_grids.take(index, axis=0), self.get_agent_coordinates(grid)
            fields = {"fixed_grid": walls, "variable_grid": grid, "agent_location": place}
            return state_type(key=key, step_count=jnp.array(0, jnp.int32), **fields)

    return Bank()


def jumanji_sokoban(levels: Grids, batch_size: int, *, observe: bool = False) -> Program:
    """Jumanji's Sokoban-v0 (10×10, 4 boxes, 120 steps) under its VmapAutoResetWrapper, on the given levels.

    Raises Unavailable for levels that it would take for another game.
    """
    size, counts = levels.boxes.shape[1:], np.unique(levels.boxes.sum((1, 2))).tolist()
    if size != (10, 10) or counts != [4]:
        raise Unavailable(
            "Jumanji plays 10×10 levels and calls one solved when 4 boxes are on targets; "
            f"these are {size[0]}×{size[1]} and have {', '.join(map(str, counts))} boxes"
        )
    wrappers, sokoban = require("jumanji.wrappers"), require("jumanji.environments.routing.sokoban")
    env = wrappers.VmapAutoResetWrapper(sokoban.Sokoban(generator=jumanji_generator(levels)))

    def body(constants: None, carry: Any, key: jax.Array) -> Any:
        del constants  # the levels are the environment's own, as with Jumanji's generators
        state, tally, _ = carry
        state, step = env.step(state, draw_actions(key, batch_size, 4))
        return state, tally.add(step.reward, step.last()), step.observation if observe else None

    state, step = jax.jit(env.reset)(jax.random.split(jax.random.PRNGKey(0), batch_size))
    clocks = jax.random.randint(jax.random.key(1), (batch_size,), 0, 120, jnp.int32)  # as `stagger=True` does for ours
    carry = (state.replace(step_count=clocks), Tally.zero(batch_size), step.observation if observe else None)
    return Program(body, None, carry, batch_size, lambda carry: carry[1].summary())


def gymnax_frozen_lake(batch_size: int) -> Program:
    """Gymnax's FrozenLake-misc, the 4×4 map, `vmap(env.step)` with a key for each environment (its interface)."""
    env, params = require("gymnax").make("FrozenLake-misc")

    def body(params: Any, carry: Any, key: jax.Array) -> Any:
        state, tally, _ = carry
        key_action, key_step = jax.random.split(key)
        action = draw_actions(key_action, batch_size, 4)
        keys = jax.random.split(key_step, batch_size)
        step = jax.vmap(env.step, in_axes=(0, 0, 0, None))
        observation, state, reward, terminated, truncated, _ = step(keys, state, action, params)
        return state, tally.add(reward, terminated | truncated), observation

    keys = jax.random.split(jax.random.key(0), batch_size)
    observation, state = jax.vmap(env.reset, in_axes=(0, None))(keys, params)
    state = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.int32), state)
    carry = (state, Tally.zero(batch_size), observation)
    return Program(body, params, carry, batch_size, lambda carry: carry[1].summary())


def envpool(id: str, batch_size: int) -> Arm:
    """An environment of EnvPool, in synchronous mode with its default number of threads."""
    env = require("envpool").make(id, env_type="gymnasium", num_envs=batch_size, seed=0)
    env.reset()
    return Arm(_host_loop(env, batch_size), batch_size)


def gymnasium_frozen_lake(batch_size: int) -> Arm:
    """Gymnasium's FrozenLake-v1 in its SyncVectorEnv."""
    env = require("gymnasium").make_vec("FrozenLake-v1", num_envs=batch_size, vectorization_mode="sync")
    env.reset(seed=0)
    return Arm(_host_loop(env, batch_size), batch_size)


def gym_sokoban_step(levels: Grids) -> Arm:
    """One gym-sokoban environment, stepped in Python with its smallest observation, on the given levels in turn."""
    env_type = require("gym_sokoban.envs.sokoban_env").SokobanEnv
    env = env_type(dim_room=levels.walls.shape[1:], num_boxes=int(levels.boxes[0].sum()), reset=False)
    fixed = np.select([levels.walls, levels.targets], [0, 2], 1)
    state = np.select([levels.player, levels.boxes & levels.targets, levels.boxes], [5, 3, 4], fixed)
    rng = np.random.default_rng(0)

    def enter(index: int) -> None:
        env.room_fixed, env.room_state = fixed[index].copy(), state[index].copy()
        env.player_position = np.argwhere(levels.player[index])[0]
        env.num_env_steps = env.reward_last = env.boxes_on_target = 0

    def run(num_steps: int) -> None:
        for action in rng.integers(1, 5, num_steps):
            if env.step(int(action), observation_mode="tiny_rgb_array")[2]:
                enter(int(rng.integers(len(levels))))

    enter(0)
    return Arm(run, 1)


def gym_sokoban_generate(size: tuple[int, int] = (10, 10), num_boxes: int = 4) -> Arm:
    """gym-sokoban's generator; rooms that it gives up on are tried again, as its reset does."""
    room_utils = require("gym_sokoban.envs.room_utils")
    random.seed(0)  # its generator draws from the global generators
    np.random.seed(0)  # noqa: NPY002

    def generate() -> None:
        while True:
            try:
                room_utils.generate_room(dim=size, num_steps=int(1.7 * sum(size)), num_boxes=num_boxes)
            except (RuntimeError, RuntimeWarning):
                continue
            return

    def run(num_steps: int) -> None:
        for _ in range(num_steps):
            generate()

    return Arm(run, 1)


def _host_loop(env: Any, batch_size: int) -> Any:
    rng = np.random.default_rng(0)

    def run(num_steps: int) -> None:
        for _ in range(num_steps):
            env.step(rng.integers(0, 4, batch_size, dtype=np.int32))

    return run
