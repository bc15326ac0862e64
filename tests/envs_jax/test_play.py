"""The terminal player: its logic, and the whole program driven through a pseudo-terminal."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from pathlib import Path

import jax.numpy as jnp
import pytest

from envs_jax import pytree_dataclass
from envs_jax.play import Controls, Game, screen
from tests.envs_jax.interop.corridor import Corridor, corridors

pty = pytest.importorskip("pty", reason="no pseudo-terminals on this system")
termios = pytest.importorskip("termios")

LEVELS = """\
######
#@ $.#
######

#####
#   #
# $ #
# .@#
#####
"""


def corridor(*goals: int, time_limit: int = 12) -> tuple[Game, Controls]:
    game = Game(Corridor("index"), corridors(*goals, time_limit=time_limit), seed=0)
    return game, Controls(game)


def press(controls: Controls, keys: str) -> None:
    for key in keys:
        controls.press(key)


def test_steps_add_up_and_an_end_ends() -> None:
    game, controls = corridor(2)
    press(controls, "111")  # the third comes after the end
    assert int(game.now.state.position) == 2 and len(game.history) == 3
    assert game.now.episode_return == 0.875 and game.outcome == "Success!"
    assert "step 2 / 12   return 0.875" in screen(game, controls, "Corridor")


def test_the_time_limit_ends_without_success() -> None:
    game, controls = corridor(7, time_limit=2)
    press(controls, "11")
    assert game.outcome == "The time limit is reached." and game.now.ended


def test_undo_takes_back_steps_to_the_start_and_after_the_end() -> None:
    game, controls = corridor(2)
    press(controls, "11uu")
    assert int(game.now.state.position) == 0 and game.now.episode_return == 0 and game.outcome == ""
    press(controls, "u1")
    assert int(game.now.state.position) == 1


def test_restart_and_levels() -> None:
    game, controls = corridor(2, 3, 4)
    press(controls, "1r")
    assert (game.level, len(game.history)) == (0, 1)
    press(controls, "p")
    assert game.level == 2 and int(game.task.goal) == 4
    press(controls, "n1n")
    assert (game.level, len(game.history)) == (1, 1)


def test_actions_without_an_effect_are_not_taken_and_offered() -> None:
    game, controls = corridor(3)
    press(controls, "02x9\x1b")
    assert len(game.history) == 1
    shown = screen(game, controls, "Corridor")
    assert "\n1 right\n" in shown and "left" not in shown and "stay" not in shown
    assert "@..G" in shown


def test_offered_actions_fill_the_lines() -> None:
    game = Game(Wide("index"), corridors(3), seed=0)
    shown = screen(game, Controls(game), "", width=30)
    assert "\n1 right   2 stay 2   3 stay 3\n4 stay 4" in shown


@pytree_dataclass
class Wide(Corridor):
    """A corridor with more actions than digits; those above 2 have no effect."""

    num_actions = 12
    action_names = ("left", "right", *(f"stay {i}" for i in range(2, 12)))

    def action_mask(self, state, task):
        return jnp.concatenate([super().action_mask(state, task)[:2], jnp.ones(10, bool)])


def test_long_numbers_are_typed_and_confirmed() -> None:
    game = Game(Wide("index"), corridors(3), seed=0)
    controls = Controls(game)
    press(controls, "1")
    assert controls.typed == "1" and len(game.history) == 1 and screen(game, controls, "").endswith("> 1")
    press(controls, "1\x7f\r")
    assert int(game.now.state.position) == 1 and controls.typed == ""
    press(controls, "99\r\r")
    assert len(game.history) == 2


class Terminal:
    """`python -m envs_jax` in a pseudo-terminal."""

    def __init__(self, *arguments: str) -> None:
        self._master, self._slave = pty.openpty()
        self.before = termios.tcgetattr(self._slave)
        # The terminal must control the process, so that Ctrl-C becomes a signal, and one that is not ignored, as it is
        # in what a script starts in the background.
        control = (
            "import fcntl, os, signal, sys, termios as t; fcntl.ioctl(0, t.TIOCSCTTY, 0); "
            "signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
        )
        command = [sys.executable, "-c", control, sys.executable, "-m", "envs_jax", *arguments]
        self._process = subprocess.Popen(
            command, stdin=self._slave, stdout=self._slave, stderr=subprocess.STDOUT, start_new_session=True
        )
        self._unread = ""

    def wait_for(self, text: str, seconds: float = 60.0) -> str:
        """Reads on until `text` has come; returns what came before it, and it."""
        end = time.monotonic() + seconds
        while text not in self._unread:
            assert time.monotonic() < end, f"no {text!r} in {self._unread!r}"
            if select.select([self._master], [], [], 0.1)[0]:
                self._unread += os.read(self._master, 65536).decode()
        before, _, self._unread = self._unread.partition(text)
        return before + text

    def press(self, keys: str, text: str) -> str:
        os.write(self._master, keys.encode())
        return self.wait_for(text)

    def close(self) -> int:
        code = self._process.wait(30)
        self.after = termios.tcgetattr(self._slave)
        os.close(self._master)
        os.close(self._slave)
        return code


def test_a_game_in_a_terminal(tmp_path: Path) -> None:
    levels = tmp_path / "two.xsb"
    levels.write_text(LEVELS)
    terminal = Terminal("play", "Sokoban-v0", "--levels", str(levels))
    first = terminal.wait_for("q quit")
    assert "level 1 / 2   step 0 / 120   return 0" in first and "arrows or WASD" in first
    terminal.press("\x1b[C", "step 1 / 120   return -0.1")  # the right arrow
    terminal.press("u", "step 0 / 120   return 0")
    terminal.press("d", "step 1 / 120")
    solved = terminal.press("\x1bOC", "Success!")  # as terminals in application mode send it
    assert "step 2 / 120   return 10.8" in solved
    terminal.press("n", "level 2 / 2   step 0")
    terminal.press("w", "step 1 / 120")
    terminal.press("\x1b[5~", "step 1 / 120")  # page up: no meaning
    terminal.press("r", "step 0 / 120")
    end = terminal.press("q", "\x1b[?1049l")
    assert "\x1b[?25h" in end  # the cursor and the screen are back
    assert terminal.close() == 0 and terminal.after == terminal.before


def test_control_c_leaves_the_terminal_as_it_was() -> None:
    terminal = Terminal("play", "FrozenLake-v0")
    terminal.wait_for("q quit")
    terminal.press("\x03", "\x1b[?1049l")
    assert terminal.close() == 130 and terminal.after == terminal.before
