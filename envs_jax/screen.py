"""What the player of `play` sees: a game as at most so many lines of at most so many columns."""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from envs_jax.play import Controls, Game

KEYS = ("u undo", "r restart", "n/p next/previous level", "q quit")
MIN_WIDTH, MIN_HEIGHT = 30, 14  # for a game in words: leaves three lines a page to its state
_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


def screen(game: Game, controls: Controls, title: str, width: int = 80, height: int = 24) -> str:
    """The state of the game, what can be done in it, and the keys.

    A board is shown whole or not at all: in a terminal that is too small for it the screen says what is needed. A state
    in words is set in pages instead, which `controls.page` turns, below each of which the actions are offered.
    """
    now, env = game.now, game.env
    header = (
        f"{title}   level {game.level + 1:,} / {len(game.tasks):,}   step {int(now.state.steps)} / "
        f"{int(game.task.time_limit)}   return {now.episode_return:g}"
    )
    state = env.render_ansi(now.state, game.task).split("\n")
    if controls.directed:
        keys = _set_in_lines(["arrows or WASD move", *KEYS], width)
        blocks = [[_clipped(header, width)], state, _wrapped([game.outcome], width, height), keys]
        columns, rows = max(len(_ESCAPE.sub("", line)) for line in [*state, *keys]), sum(map(len, blocks))
        if columns > width or rows > height:
            return _too_small(title, (width, height), (columns, rows))
        return _set_in_blocks(blocks, height)
    if width < MIN_WIDTH or height < MIN_HEIGHT:
        return _too_small(title, (width, height), (MIN_WIDTH, MIN_HEIGHT))
    return _text_screen(game, controls, _clipped(header, width), state, width, height)


def _text_screen(game: Game, controls: Controls, header: str, state: list[str], width: int, height: int) -> str:
    enter = " and Enter" if game.env.num_actions > 10 else ""
    keys = [*_set_in_lines([f"a number{enter} acts", *KEYS], width), f"> {controls.typed}"]
    choices = _set_in_pages(_choices(game, width, height // 3), height // 3)
    room = height - 2 - max(map(len, choices)) - len(keys)
    pages = _set_in_pages(_wrapped(state, width, room), room)
    number = max(len(pages), len(choices))
    page = controls.page % number
    note = f"page {page + 1} of {number} (space: next)   " if number > 1 else ""
    text, offered = (sheets[min(page, len(sheets) - 1)] for sheets in (pages, choices))
    return _set_in_blocks([[header], text, [_clipped((note + game.outcome).rstrip(), width), *offered], keys], height)


def _choices(game: Game, width: int, height: int) -> list[str]:
    """The offered actions with their numbers, shortened until they fit in `height` lines or become hard to tell."""
    now = game.now
    offered = [] if now.ended else np.flatnonzero(now.action_mask).tolist()
    items = [f"{action} {game.env.action_text(action, now.state, game.task)}" for action in offered]
    for columns in (1, 2, 3):
        lines = _set_in_lines([_clipped(item, (width + 3) // columns - 3) for item in items], width)
        if len(lines) <= height:
            break
    return lines


def _wrapped(lines: list[str], width: int, height: int) -> list[str]:
    """The lines, wrapped where they are longer than `width`; without blank ones where they are more than `height`."""
    wrapped = [part for line in lines for part in (textwrap.wrap(line, width) if len(line) > width else [line])]
    return wrapped if len(wrapped) <= height else [line for line in wrapped if line.strip()]


def _clipped(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _set_in_lines(items: list[str], width: int) -> list[str]:
    lines: list[str] = []
    for item in items:
        if lines and len(lines[-1]) + 3 + len(item) <= width:
            lines[-1] += f"   {item}"
        else:
            lines.append(item)
    return lines


def _set_in_pages(lines: list[str], height: int) -> list[list[str]]:
    return [lines[start : start + height] for start in range(0, max(len(lines), 1), max(height, 1))]


def _set_in_blocks(blocks: list[list[str]], height: int) -> str:
    """All lines, with a blank one between blocks where there is room for that."""
    has_room = sum(map(len, blocks)) + len(blocks) - 1 <= height
    return ("\n\n" if has_room else "\n").join("\n".join(block) for block in blocks if block)


def _too_small(title: str, size: tuple[int, int], needed: tuple[int, int]) -> str:
    columns, rows = (max(pair) for pair in zip(size, needed, strict=True))
    text = (
        f"This terminal of {size[0]} columns and {size[1]} rows is too small for {title}, which needs {columns} and "
        f"{rows} here. Enlarge it and press Enter, or q to quit."
    )
    return "\n".join(textwrap.wrap(text, max(size[0], 1))[: size[1]])
