"""Games fit in the terminal that they are played in."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs_jax import pytree_dataclass
from envs_jax.play import Controls, Game, Moment
from envs_jax.screen import MIN_HEIGHT, MIN_WIDTH, screen
from envs_jax.sokoban import Layout, Sokoban, levels
from envs_jax.web.state_machine import Page
from tests.envs_jax.interop.corridor import Corridor, corridors
from tests.envs_jax.web import shops
from tests.envs_jax.web.test_tokens import places

SIZES = [(80, 24), (120, 40), (MIN_WIDTH, MIN_HEIGHT)]


def pages_of(game: Game, width: int, height: int) -> list[str]:
    """Every page of the screen, each checked to fit."""
    controls = Controls(game)
    pages = [screen(game, controls, "Game", width, height)]
    while True:
        lines = pages[-1].split("\n")
        assert len(lines) <= height and max(map(len, lines)) <= width
        assert lines[-1] == "> " and lines[0].startswith("Game   level 1 / ")
        controls.press(" ")
        page = screen(game, controls, "Game", width, height)
        if page == pages[0]:
            return pages
        pages.append(page)


@pytest.fixture(scope="module")
def shop() -> Game:
    env, tasks = shops.synthetic(page_size=3, show_attributes=True)
    return Game(env, tasks, seed=0)


@pytest.mark.parametrize("width, height", SIZES)
def test_all_of_a_shop_can_be_read_and_clicked(shop: Game, width: int, height: int) -> None:
    env, task, mask_of = shop.env, shop.task, jax.jit(shop.env.action_mask)
    flat = lambda text: re.sub(r"[\s─]", "", text)
    for state in places(env, task, int(task.product)):
        ended = int(state.page) == Page.DONE
        mask = np.asarray(mask_of(state, task)) & (not ended)
        shop.history = [Moment(state, mask, terminated=ended)]
        pages = pages_of(shop, width, height)
        shown = ["\n".join(page.split("\n")[1:]) for page in pages]
        for line in env.render_text(state, task).split("\n"):
            for word in line.split():
                assert any(flat(word)[: width - 1] in flat(text) for text in shown)
        for action in np.flatnonzero(mask).tolist():
            number = re.compile(rf"(^|   ){action} \S", re.MULTILINE)
            listed = [bool(number.search(text)) for text in shown]
            assert any(listed) if width == MIN_WIDTH else all(listed)


@pytree_dataclass
class Maze(Corridor):
    """A corridor with more actions than fit on a screen."""

    num_actions = 400
    action_names = ("left", "right", *(f"stay for a long while {i}" for i in range(2, 400)))

    def action_mask(self, state, task):
        return jnp.ones(400, bool)


def test_many_actions_are_set_in_pages_that_an_action_turns_back() -> None:
    game = Game(Maze("index"), corridors(3), seed=0)
    controls, pages = Controls(game), pages_of(game, 80, 24)
    for number, page in enumerate(pages, 1):
        assert f"page {number} of {len(pages)} (space: next)" in page and "@..G" in page
    numbers = [int(n) for page in pages for n in re.findall(r"(?:^|   )(\d+) (?:left|right|stay)", page, re.MULTILINE)]
    assert numbers == list(range(400))
    for key in " 1\r":
        controls.press(key)
    assert "page 1 of" in screen(game, controls, "Game") and len(game.history) == 2


def test_boards_are_shown_whole_or_not_at_all() -> None:
    layout = Layout(17, 20)
    game = Game(Sokoban(layout), levels.parse("#####\n#@$.#\n#####").bank(layout), seed=0)
    shown = screen(game, Controls(game), "Sokoban-Large-v0").split("\n")
    assert len(shown) <= 24
    assert game.env.render_ansi(game.now.state, game.task) in "\n".join(shown)
    for width, height in [(39, 24), (80, 18)]:
        small = screen(game, Controls(game), "Sokoban-Large-v0", width, height)
        assert f"This terminal of {width} columns and {height} rows is too small" in small.replace("\n", " ")
        assert f"needs {max(width, 40)} and {max(height, 20)} here" in small.replace("\n", " ")
        assert max(map(len, small.split("\n"))) <= width


def test_no_line_beside_a_board_is_wider_than_the_terminal() -> None:
    layout = Layout(8, 8)
    game = Game(Sokoban(layout), levels.parse("#####\n#@$.#\n#####").bank(layout), seed=0)
    game.history = [Moment(game.now.state, game.now.action_mask, terminated=True)]
    for width in (10, 20, 30, 80):
        text = screen(game, Controls(game), "Sokoban", width, 30)
        assert max(len(re.sub(r"\x1b\[[0-9;]*m", "", line)) for line in text.split("\n")) <= width
        assert (game.outcome if width >= 30 else "is too small for") in " ".join(text.split())


def test_a_terminal_too_small_for_words_says_so() -> None:
    game = Game(Corridor("index"), corridors(3), seed=0)
    for width, height in [(MIN_WIDTH - 1, 24), (80, MIN_HEIGHT - 1), (5, 3)]:
        lines = screen(game, Controls(game), "Corridor", width, height).split("\n")
        assert lines[0].startswith("This") and len(lines) <= height and max(map(len, lines)) <= width
