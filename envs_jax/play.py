"""A player for the terminal: any environment, with undo, level by level."""

from __future__ import annotations

import dataclasses
import os
import select
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from envs_jax.environment import Environment
from envs_jax.interop import episodes
from envs_jax.screen import screen
from envs_jax.tasks import TaskBank

DIRECTIONS = {"w": "up", "s": "down", "a": "left", "d": "right"}
ARROWS = {b"A": "w", b"B": "s", b"D": "a", b"C": "d"}  # the last byte of what a terminal sends
END_OF_INPUT = ("", "q", "\x04")  # closed, q, Ctrl-D


@dataclasses.dataclass(frozen=True)
class Moment:
    """One point of an episode."""

    state: Any
    action_mask: np.ndarray  # bool[A]
    episode_return: float = 0.0
    terminated: bool = False
    truncated: bool = False
    success: bool = False

    @property
    def ended(self) -> bool:
        return self.terminated or self.truncated


class Game:
    """A player's session: a level of the bank and the history of its episode. It knows nothing of terminals."""

    def __init__(self, env: Environment[Any, Any], tasks: TaskBank[Any], seed: int) -> None:
        env.check_tasks(tasks)
        self.env = env
        self.tasks = tasks
        self._rng = np.random.default_rng(seed)
        self.open_level(0)

    @property
    def now(self) -> Moment:
        """Where the episode stands."""
        return self.history[-1]

    def open_level(self, level: int) -> None:
        """Starts an episode of level `level`, counted round the bank."""
        self.level = level % len(self.tasks)
        self.task = self.tasks[self.level]
        state, view = episodes.begin(self.env, self.task, episodes.random_words(self._rng))
        self.history = [Moment(state, np.asarray(view.action_mask))]

    def undo(self) -> None:
        """Takes the last step back."""
        if len(self.history) > 1:
            self.history.pop()

    def act(self, action: int) -> None:
        """Takes a step; none after the end of the episode."""
        if self.now.ended:
            return
        word = episodes.random_words(self._rng)
        transition, view = episodes.advance(self.env, self.task, self.now.state, np.int32(action), word)
        self.history.append(
            Moment(
                transition.state,
                np.asarray(view.action_mask),
                self.now.episode_return + float(transition.reward),
                bool(transition.terminated),
                bool(transition.truncated),
                bool(view.info["success"]),
            )
        )

    @property
    def outcome(self) -> str:
        """How the episode has ended; empty while it goes on."""
        if self.now.terminated:
            return "Success!" if self.now.success else "The episode is over, without success."
        return "The time limit is reached." if self.now.truncated else ""


class Controls:
    """What keys mean: arrows or WASD where the actions are directions, else an action's number.

    With more than ten actions a number is typed and confirmed with Enter. The space bar turns the page of a long text.
    """

    def __init__(self, game: Game) -> None:
        self._game = game
        self.typed = ""
        self.page = 0
        names = game.env.action_names
        self.directed = set(DIRECTIONS.values()) <= set(names)
        self._actions = {key: names.index(name) for key, name in DIRECTIONS.items()} if self.directed else {}

    def press(self, key: str) -> None:
        """Does what a key says; keys without a meaning do nothing."""
        game, before = self._game, self._game.now
        if key == " ":
            self.page += 1
        elif key in self._actions:
            game.act(self._actions[key])
        elif key == "u":
            game.undo()
        elif key == "r":
            game.open_level(game.level)
        elif key in ("n", "p"):
            game.open_level(game.level + (1 if key == "n" else -1))
        elif not self.directed:
            self._type(key)
        if game.now is not before:
            self.page = 0

    def _type(self, key: str) -> None:
        if key in ("\x7f", "\b"):
            self.typed = self.typed[:-1]
        elif key.isdecimal() and key.isascii():
            self.typed = (self.typed + key)[-len(str(self._game.env.num_actions)) :]
        if key in ("\r", "\n") or (self.typed and self._game.env.num_actions <= 10):
            self._choose()

    def _choose(self) -> None:
        action, self.typed = int(self.typed or -1), ""
        if 0 <= action < self._game.env.num_actions and self._game.now.action_mask[action]:
            self._game.act(action)


def check_terminal() -> None:
    """Raises OSError, saying why, where there is no terminal to play in."""
    try:
        import termios  # noqa: F401
    except ImportError as error:
        raise OSError("play needs a Unix terminal; this system has none (on Windows: use WSL)") from error
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise OSError("play needs an interactive terminal; standard input or output is redirected")


def play(game: Game, title: str) -> None:
    """Plays in the terminal until the player quits."""
    controls = Controls(game)
    with _whole_screen():
        while True:
            size = shutil.get_terminal_size()
            sys.stdout.write("\x1b[H\x1b[J" + screen(game, controls, title, size.columns, size.lines))
            sys.stdout.flush()
            key = _read_key(sys.stdin.fileno())
            if key in END_OF_INPUT:
                return
            controls.press(key)


@contextmanager
def _whole_screen() -> Iterator[None]:
    """Keys one by one and unechoed, and a screen that disappears afterwards."""
    import termios
    import tty

    stdin = sys.stdin.fileno()
    before = termios.tcgetattr(stdin)
    try:
        tty.setcbreak(stdin)
        sys.stdout.write("\x1b[?1049h\x1b[?25l")
        yield
    finally:
        termios.tcsetattr(stdin, termios.TCSADRAIN, before)
        sys.stdout.write("\x1b[?25h\x1b[?1049l")
        sys.stdout.flush()


def _read_key(stdin: int) -> str:
    """The next key: a character in lower case, an arrow as its WASD key, "" at the end of the input."""
    while not select.select([stdin], [], [], 0.2)[0]:
        pass  # wait in short turns: a signal that comes just before a blocking read would not end it
    first = os.read(stdin, 1)
    if first != b"\x1b":
        return first.decode(errors="replace").lower()
    sequence = b""  # what follows ESC at once: [A or OA for an arrow, more for other special keys
    while select.select([stdin], [], [], 0.02)[0] and (byte := os.read(stdin, 1)):
        sequence += byte
        if sequence != b"O" and (byte.isalpha() or byte == b"~"):
            break
    return ARROWS.get(sequence[-1:], "\x1b") if len(sequence) == 2 else "\x1b"
