"""Sokoban against the published ones: gym-sokoban and EnvPool, step by step."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs_jax
from envs_jax import bitboard as bb
from envs_jax.sokoban import levels
from envs_jax.sokoban.board import Layout
from envs_jax.sokoban.env import Sokoban
from envs_jax.sokoban.grid import Code
from tests.envs_jax.sokoban.positions import random_text

STEPS = 50
LIMIT = STEPS  # so that every episode that is not solved is seen to run out of time
ENVPOOL_LIMIT = 25


@partial(jax.jit, static_argnums=0)
def play(env, tasks, actions):
    """(first observations [N, …], observations, rewards, terminated, truncated [N, K, …]) of N episodes."""

    def episode(task, actions):
        first = env.initial(jnp.uint32(0), task)

        def step(state, action):
            after, reward, terminated, truncated = env.transition(state, action, jnp.uint32(0), task)
            return after, (env.observe(after, task), reward, terminated, truncated)

        return env.observe(first, task), *jax.lax.scan(step, first, actions)[1]

    return jax.vmap(episode)(tasks, actions)


# gym-sokoban ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gym_sokoban():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("gym_sokoban")
        from gym_sokoban.envs.sokoban_env import SokobanEnv

    class Room(SokobanEnv):
        """gym-sokoban on a given room, without its picture."""

        def __init__(self, codes, time_limit=LIMIT):
            num_targets = int(np.isin(codes, (Code.TARGET, Code.BOX_ON_TARGET, Code.PLAYER_ON_TARGET)).sum())
            super().__init__(codes.shape, time_limit, num_targets, reset=False)
            is_target = np.isin(codes, (Code.TARGET, Code.BOX_ON_TARGET, Code.PLAYER_ON_TARGET))
            self.room_fixed = np.where(codes == Code.WALL, 0, np.where(is_target, 2, 1))
            self.room_state = np.where(codes == Code.PLAYER_ON_TARGET, Code.PLAYER, codes).astype(int)
            self.player_position = np.argwhere(self.room_state == Code.PLAYER)[0]
            self.num_env_steps = self.reward_last = 0
            # Its reset puts 0 here, whatever the room: see test_a_box_that_starts_on_a_target.
            self.boxes_on_target = int((codes == Code.BOX_ON_TARGET).sum())

        def render(self, mode="human", close=None, scale=1):
            return None

        def codes(self):
            on_target = (self.room_state == Code.PLAYER) & (self.room_fixed == 2)
            return np.where(on_target, Code.PLAYER_ON_TARGET, self.room_state)

    return Room


def rooms_of(kind: str, request) -> levels.Levels:
    rng = np.random.default_rng(0)
    if kind == "boxoban":
        return levels.read(request.getfixturevalue("data_dir") / "boxoban" / "unfiltered" / "test" / "000.txt")
    if kind == "generated":
        env, tasks = envs_jax.make("Sokoban-v0", num_levels=600)
        return levels.parse("\n\n".join(levels.to_text(env.layout, tasks[i]) for i in range(len(tasks))))
    size, count, boxes = {"one box": (5, 500, (1, 2)), "two boxes": (7, 700, (2, 3)), "crowded": (8, 800, (4, 12))}[
        kind
    ]
    texts = [random_text(Layout(size, size + 1), rng, int(rng.integers(*boxes)), 0.1) for _ in range(count)]
    return levels.parse("\n\n".join(texts))


@pytest.mark.parametrize("kind", ["one box", "two boxes", "crowded", "generated", "boxoban"])
def test_equals_gym_sokoban(gym_sokoban, kind, request):
    """2,600 rooms (3,600 with the Boxoban levels) × 50 random actions: grid, reward and done, until done."""
    rooms = rooms_of(kind, request)
    actions = np.random.default_rng(1).integers(0, 4, (len(rooms), STEPS)).astype(np.int32)
    tasks = rooms.bank(time_limit=LIMIT).instances
    first, *outcome = jax.tree.map(np.asarray, play(Sokoban(rooms.layout), tasks, actions))
    seen: set[str] = set()
    for i, codes in enumerate(rooms.codes):
        theirs = gym_sokoban(codes)
        before = theirs.codes()
        assert (first[i] == before).all()
        for t, action in enumerate(actions[i]):
            observation, reward, terminated, truncated = (leaf[i, t] for leaf in outcome)
            _, their_reward, done, _ = theirs.step(int(action) + 1)
            after = theirs.codes()
            assert (observation == after).all()
            assert abs(reward - their_reward) < 1e-6
            assert (terminated or truncated) == done
            seen |= events(before, after, terminated, truncated)
            before = after
            if done:
                break
    assert seen >= EXPECTED_EVENTS[kind]


COMMON = {"blocked", "box on", "player on target", "out of time"}
EXPECTED_EVENTS = {
    "one box": COMMON - {"box on"} | {"solved"},
    "two boxes": COMMON | {"box off", "solved"},
    "crowded": COMMON | {"box off", "from target to target"},
    "generated": COMMON,
    "boxoban": COMMON,
}


def events(before, after, terminated, truncated) -> set[str]:
    on_target = lambda codes: codes == Code.BOX_ON_TARGET
    gained = on_target(after) & ~on_target(before)
    lost = on_target(before) & ~on_target(after)
    names = {
        "blocked": (before == after).all(),
        "box on": gained.any() and not lost.any(),
        "box off": lost.any() and not gained.any(),
        "from target to target": gained.any() and lost.any(),
        "player on target": (after == Code.PLAYER_ON_TARGET).any(),
        "solved": terminated,
        "out of time": truncated and not terminated,
    }
    return {name for name, happened in names.items() if happened}


def test_a_box_that_starts_on_a_target(gym_sokoban):
    """gym-sokoban forgets at reset that a box is on a target and pays +1 for it at the first step; ours does not."""
    rooms = levels.parse("#######\n#*@$. #\n#######")
    env, task = Sokoban(rooms.layout), rooms.bank().instances
    for action, expected in ((bb.LEFT, -0.1), (bb.RIGHT, 10.9)):  # blocked, solved
        _, _, reward, *_ = play(env, task, np.array([[action]], np.int32))
        assert reward[0, 0] == pytest.approx(expected)
        assert gym_sokoban(rooms.codes[0]).step(action + 1)[1] == pytest.approx(expected)
    forgetful = gym_sokoban(rooms.codes[0])
    forgetful.boxes_on_target = 0
    assert forgetful.step(bb.LEFT + 1)[1] == pytest.approx(0.9)


# EnvPool --------------------------------------------------------------------------------------------------------------

ENVPOOL_ACTIONS = np.array([0, 2, 3, 1], np.int32)  # of up, down, left, right: it counts up, right, down, left


@pytest.fixture(scope="module")
def envpool_sokoban():
    """A function from a level's index to a pool that plays this one of the 1,000 levels in the package."""
    envpool = pytest.importorskip("envpool")
    # The wheel looks for its levels elsewhere and, not finding them, plays one built-in level.
    folder = Path(envpool.__file__).parent

    def make(index):
        return envpool.make_gymnasium(
            "Jumanji/Sokoban-v0",
            num_envs=1,
            num_threads=1,
            base_path=str(folder),
            sokoban_level_index=index,
            max_episode_steps=ENVPOOL_LIMIT,
        )

    return make


def codes_of(planes: np.ndarray) -> np.ndarray:
    """EnvPool's (variable, fixed) cells [10, 10, 2] as our codes."""
    variable, fixed = planes[..., 0], planes[..., 1]
    codes = np.select([fixed == 1, fixed == 2], [Code.WALL, Code.TARGET], Code.FLOOR)
    player = np.where(fixed == 2, Code.PLAYER_ON_TARGET, Code.PLAYER)
    box = np.where(fixed == 2, Code.BOX_ON_TARGET, Code.BOX)
    return np.select([variable == 3, variable == 4], [player, box], codes)


@pytest.mark.slow
def test_equals_envpool_on_its_levels(envpool_sokoban):
    """1,000 levels × 25 random actions: grid, reward, terminated, truncated."""
    rng = np.random.default_rng(2)
    pools = [envpool_sokoban(index) for index in range(1000)]
    starts = [codes_of(pool.reset()[0]["grid"][0]) for pool in pools]
    assert len({codes.tobytes() for codes in starts}) == 999  # one of Boxoban's 1,000 is missing, one is there twice
    rooms = levels.parse("\n\n".join(levels.codes_to_text(codes) for codes in starts))
    actions = rng.integers(0, 4, (1000, ENVPOOL_LIMIT)).astype(np.int32)
    env = Sokoban(Layout(10, 10))
    first, *outcome = jax.tree.map(np.asarray, play(env, rooms.bank(time_limit=ENVPOOL_LIMIT).instances, actions))
    assert (first == np.stack(starts)).all()
    for i, pool in enumerate(pools):
        for t, action in enumerate(ENVPOOL_ACTIONS[actions[i]]):
            observation, reward, terminated, truncated = (leaf[i, t] for leaf in outcome)
            theirs, their_reward, their_terminated, their_truncated, _ = pool.step(action[None])
            assert (observation == codes_of(theirs["grid"][0])).all()
            assert abs(reward - their_reward[0]) < 1e-6
            assert (terminated, truncated) == (their_terminated[0], their_truncated[0])
            if terminated:
                break
        assert terminated or truncated
