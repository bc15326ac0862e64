"""Text and pictures of positions."""

import re

import jax
import numpy as np
import pytest

from envs_jax.sokoban import levels, render
from envs_jax.sokoban.board import Layout
from envs_jax.sokoban.env import Sokoban
from envs_jax.sokoban.grid import Code

TEXT = "#######\n###. ##\n#@$ + #\n# * $ #\n#######".replace("@", " ")


@pytest.fixture(scope="module")
def position():
    """A position with every kind of cell: (env, state, task)."""
    bank = levels.parse(TEXT).bank(Layout(5, 7))
    env = Sokoban(Layout(5, 7))
    return env, env.reset(jax.random.key(0), bank[0])[1], bank[0]


@pytest.fixture(scope="module")
def codes(position):
    env, state, task = position
    return np.asarray(env.observe(state, task))


def test_text_styles(position, codes):
    env, state, task = position
    assert env.render_text(state, task) == TEXT
    assert render.text(codes, "unicode").split("\n")[2] == "██  □   ☺   ██"
    plain = re.sub("\x1b\\[[0-9;]*m", "", render.text(codes, "ansi"))
    assert [len(line) for line in plain.split("\n")] == [14] * 5
    with pytest.raises(ValueError, match="style='html' is not one of xsb, unicode, ansi"):
        render.text(codes, "html")


@pytest.mark.parametrize("size", [4, 16, 33, 64])
def test_every_kind_of_cell_has_its_own_tile(codes, size):
    picture = render.rgb(codes, size)
    assert picture.dtype == np.uint8 and picture.shape == (5 * size, 7 * size, 3)
    tiles = picture.reshape(5, size, 7, size, 3).transpose(0, 2, 1, 3, 4)
    assert set(codes.reshape(-1)) == set(Code) - {Code.PLAYER}
    means = {code: tiles[codes == code][0].astype(float) for code in set(codes.reshape(-1))}
    for a in means:
        for b in means:
            assert a == b or np.abs(means[a] - means[b]).mean() > 4


def test_the_picture_follows_the_position(position):
    env, state, task = position
    _, after, *_ = env.step(jax.random.key(0), state, 2, task)
    before, later = env.render_rgb(state, task), env.render_rgb(after, task)
    assert before.shape == (5 * 32, 7 * 32, 3)
    changed = (before != later).any(axis=-1).reshape(5, 32, 7, 32).any(axis=(1, 3))
    assert np.argwhere(changed).tolist() == [[2, 3], [2, 4]]  # the player's step, and nothing else


def test_bad_pictures_are_refused(codes):
    with pytest.raises(ValueError, match="tile_size=3"):
        render.rgb(codes, 3)
    with pytest.raises(ValueError, match=r"codes must be integers 0 … 6 of shape \[height, width\]; got uint8\[35\]"):
        render.rgb(codes.reshape(-1))
    with pytest.raises(ValueError, match="0 … 6"):
        render.text(codes + np.uint8(1))
