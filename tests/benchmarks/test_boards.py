"""Levels as plain arrays, against the text that the level writer gives."""

import dataclasses

import jax
import numpy as np
import pytest

import envs_jax
from benchmarks.boards import Grids, canonical, grids
from envs_jax.sokoban.levels import to_text

pytestmark = pytest.mark.usefixtures("quick_compilation")

FIELDS = [field.name for field in dataclasses.fields(Grids)]


@pytest.fixture(scope="module")
def levels():
    env, tasks = envs_jax.make("Sokoban-v0", num_levels=64)
    return env, tasks, grids(tasks, env.layout)


def test_grids_are_the_levels(levels):
    env, tasks, arrays = levels
    for i in range(len(tasks)):
        glyphs = np.array([list(line) for line in to_text(env.layout, tasks[i]).split("\n")])
        np.testing.assert_array_equal(arrays.walls[i], glyphs == "#")
        np.testing.assert_array_equal(arrays.targets[i], np.isin(glyphs, list(".*+")))
        np.testing.assert_array_equal(arrays.boxes[i], np.isin(glyphs, list("$*")))
        np.testing.assert_array_equal(arrays.player[i], np.isin(glyphs, list("@+")))
    assert len(arrays) == 64


def _turned(arrays, times, mirror):
    turn = lambda grid: np.rot90(grid[:, :, ::-1] if mirror else grid, times, axes=(1, 2))
    return Grids(*(turn(getattr(arrays, name)) for name in FIELDS))


def test_the_eight_images_of_a_level_are_one(levels):
    *_, arrays = levels
    plain = canonical(arrays)
    assert len(plain) > 60
    for times in range(4):
        for mirror in (False, True):
            assert canonical(_turned(arrays, times, mirror)) == plain


def test_levels_that_differ_in_one_field_are_two(levels):
    *_, arrays = levels
    one = Grids(*(getattr(arrays, name)[:1] for name in FIELDS))
    for name in FIELDS:
        changed = getattr(one, name).copy()
        changed[0, 4, 5] ^= True
        assert canonical(dataclasses.replace(one, **{name: changed})) != canonical(one)


def test_a_rectangle_has_four_images():
    rng = np.random.default_rng(0)
    arrays = Grids(*(rng.random((5, 4, 7)) < 0.5 for _ in FIELDS))
    flipped = Grids(*(getattr(arrays, name)[:, ::-1, ::-1] for name in FIELDS))
    assert canonical(flipped) == canonical(arrays) and len(canonical(arrays)) == 5


def test_jax_is_not_needed_for_arrays(levels):
    *_, arrays = levels
    assert not any(isinstance(getattr(arrays, name), jax.Array) for name in FIELDS)
