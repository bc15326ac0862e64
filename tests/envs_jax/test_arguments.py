"""Arguments of `make`: what is wrong is named with its value, for every environment in one form."""

import re

import numpy as np
import pytest

import envs_jax
from envs_jax import arguments

pytestmark = pytest.mark.usefixtures("quick_compilation")

WRONG_TYPES = [
    ("WebShop-v0", {"page_size": 2.5}, "page_size=2.5 is not an integer"),
    ("WebShop-v0", {"num_products": 2.5}, "num_products=2.5 is not an integer"),
    ("WebShop-v0", {"seed": 1.5}, "seed=1.5 is not an integer"),
    ("WebShop-v0", {"noun_fn": "x"}, "noun_fn='x' is not a function from a title to its nouns"),
    ("WebShop-v0", {"products": 5}, "products=5 is neither a path nor ProductFiles nor None"),
    ("WebShop-v0", {"show_attributes": "no"}, "show_attributes='no' is not a bool"),
    ("FrozenLake-v0", {"is_slippery": "no"}, "is_slippery='no' is not a bool: True or False"),
    ("FrozenLake-v0", {"is_slippery": 0.5}, "is_slippery=0.5 is not a bool"),
    ("FrozenLake-v0", {"success_rate": "a"}, "success_rate='a' is not a number"),
    ("FrozenLake-v0", {"reward_schedule": 1}, "reward_schedule=1 must be three finite numbers: goal, hole, frozen"),
    ("FrozenLake-v0", {"reward_schedule": "abc"}, "reward_schedule='abc' must be three finite numbers"),
    ("FrozenLake-v0", {"map": 5}, "map=5 is neither a name, the text of a map nor a sequence of its rows"),
    ("FrozenLake-v0", {"map": [1, 2]}, "map=[1, 2] is neither a name"),
    ("FrozenLake-v0", {"time_limit": 2.5}, "time_limit=2.5 is not an integer"),
    ("FrozenLake-Random-v0", {"num_maps": 1.5}, "num_maps=1.5 is not an integer"),
    ("FrozenLake-Random-v0", {"frozen_probability": "a"}, "frozen_probability='a' is not a number"),
    ("TabularWeb-v0", {"num_pages": "20"}, "num_pages='20' is not an integer"),
    ("TabularWeb-v0", {"num_tasks": 2.5}, "num_tasks=2.5 is not an integer"),
    ("TabularWeb-v0", {"reward_probability": True}, "reward_probability=True is not a number"),
    ("Sokoban-v0", {"deadlock_termination": "no"}, "deadlock_termination='no' is not a bool"),
    ("Sokoban-v0", {"time_limit": True}, "time_limit=True is not an integer"),
    ("Sokoban-v0", {"seed": None}, "seed=None is not an integer"),
    ("Sokoban-v0", {"levels": 5}, "levels=5 must be the path of a level file or of a folder"),
    ("Sokoban-v0", {"num_boxes": 2.5}, "num_boxes=2.5 is not an integer"),
    ("Sokoban-v0", {"size": "10"}, "size='10' is not an integer"),
]

WRONG_VALUES = [
    ("FrozenLake-v0", {"success_rate": 10**400}, "success_rate is an integer of 1329 bits, beyond all floats"),
    ("WebShop-v0", {"num_products": 0}, "num_products=0; a synthetic catalogue has at least 2 products"),
    ("WebShop-v0", {"seed": -1}, "seed=-1 is not in 0 … 4,294,967,295"),
    ("FrozenLake-v0", {"seed": -1}, "seed=-1 is not in 0 … 4,294,967,295"),
    ("FrozenLake-Random-v0", {"size": (True, 4)}, "size=(True, 4) is neither an integer nor (rows, columns)"),
    ("FrozenLake-Random-v0", {"num_maps": -2}, "num_maps=-2; at least one"),
    ("FrozenLake-Random-v0", {"map": "4x4", "num_maps": 3}, "num_maps=3 is for random maps; the map is given"),
    (
        "FrozenLake-RAGEN-v0",
        {"map": ["SF", "FG"], "frozen_probability": 0.8},
        "frozen_probability=0.8 is for random maps; the map is given",
    ),
    ("Sokoban-v0", {"preset": None}, "preset=None is not one of standard, small, large, ragen, ragen_2box"),
    ("FrozenLake-v0", {"size": 2.5}, "size=2.5 is neither an integer nor (rows, columns)"),
    (
        "FrozenLake-v0",
        {"is_slippery": False, "success_rate": 0.5},
        "success_rate=0.5 contradicts is_slippery=False, which makes it 1; leave one out",
    ),
    ("TabularWeb-v0", {"seed": -5}, "seed=-5 is not in 0 … 4,294,967,295"),
    ("TabularWeb-v0", {"seed": 2**32}, "seed=4294967296 is not in 0 … 4,294,967,295"),
    (
        "TabularWeb-v0",
        {"num_pages": 1, "num_actions": 3},
        "required_pairs=4 cannot be reached: the web has 3 pairs and an episode time_limit=10 steps",
    ),
    (
        "TabularWeb-v0",
        {"required_pairs": 5, "time_limit": 4},
        "required_pairs=5 cannot be reached: the web has 100 pairs and an episode time_limit=4 steps",
    ),
    ("Sokoban-v0", {"seed": -1}, "seed=-1 is not in 0 … 4,294,967,295"),
    ("Sokoban-v0", {"reward": 5}, "reward=5 is not one of dense, sparse"),
    ("Sokoban-v0", {"size": 3, "num_boxes": 1}, "size=(3, 3) is too small: a level needs 3 cells inside the walls"),
    ("Sokoban-RAGEN-v0", {"levels": "a.txt"}, "Sokoban-RAGEN-v0 and Sokoban-RAGEN-2box-v0 (preset='ragen' of Sokoban)"),
]


@pytest.mark.parametrize(("id", "kwargs", "message"), WRONG_TYPES)
def test_wrong_types(id, kwargs, message):
    with pytest.raises(TypeError, match=f"^{re.escape(message)}"):
        envs_jax.make(id, **kwargs)


@pytest.mark.parametrize(("id", "kwargs", "message"), WRONG_VALUES)
def test_wrong_values(id, kwargs, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        envs_jax.make(id, **kwargs)


def test_legal_extremes():
    env, tasks = envs_jax.make("TabularWeb-v0", reward_probability=0, num_tasks=2, seed=2**32 - 1)
    assert not any(env.layout.unpack(tasks[i].rewarded).any() for i in range(2))
    env, tasks = envs_jax.make("TabularWeb-v0", reward_probability=1, num_tasks=1, required_pairs=4, time_limit=4)
    assert env.layout.unpack(tasks[0].rewarded).all()
    for rate in (None, 1):  # neither contradicts
        _, tasks = envs_jax.make("FrozenLake-v0", is_slippery=False, success_rate=rate)
        _, never = envs_jax.make("FrozenLake-v0", success_rate=1.0)
        assert tasks[0].slip == never[0].slip
    _, tasks = envs_jax.make("WebShop-v0", num_products=np.int64(2), page_size=np.int32(3))
    assert int(np.max(tasks.instances.product)) < 2


def test_checks_return_plain_values():
    for value in (arguments.as_integer("n", np.uint8(3)), arguments.check_integer("n", np.int64(3), 3, 3)):
        assert type(value) is int and value == 3
    assert type(arguments.check_number("p", np.float32(0.5), 0, 1)) is float
    assert arguments.check_bool("b", np.bool_(True)) is True
    for value in (float("nan"), -0.1, 1.1):
        with pytest.raises(ValueError, match=re.escape(f"p={value} is not in [0, 1]")):
            arguments.check_number("p", value, 0, 1)
    with pytest.raises(ValueError, match="c=None is not one of a, b"):
        arguments.check_choice("c", None, ("a", "b"))
    arguments.check_choice("c", None, ("a", None))


def test_unknown_argument_names():
    message = (
        "id='FrozenLake-v0' has no argument 'is_slipery'. Did you mean 'is_slippery'? Arguments: seed, preset, map, "
    )
    with pytest.raises(TypeError, match=re.escape(message)):
        envs_jax.make("FrozenLake-v0", is_slipery=False)
    with pytest.raises(TypeError, match=r"id='Sokoban-v0' has no argument 'colour'\. Arguments: seed, preset, size"):
        envs_jax.make("Sokoban-v0", colour="blue")


@pytest.mark.parametrize("answer", ["abc", None, [3]])
def test_what_a_noun_function_returns_is_checked(answer):
    with pytest.raises(TypeError, match=rf"noun_fn\('.+'\) returned {re.escape(repr(answer))}; it must return a list"):
        envs_jax.make("WebShop-v0", num_products=5, noun_fn=lambda title: answer)


def test_ids():
    with pytest.raises(TypeError, match="id=5 is not a string"):
        envs_jax.make(5)
    with pytest.raises(ValueError, match="id='CartPole-v1' is not registered. Known ids"):
        envs_jax.make("CartPole-v1")
