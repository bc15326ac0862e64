"""WebShop's pages as text for a terminal, as text for a language model, and as pictures."""

from __future__ import annotations

import colorsys
import functools
import textwrap
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from envs_jax.web.pages import Element, Segment
from envs_jax.web.state_machine import Actions, Page, Session, chosen

if TYPE_CHECKING:
    from envs_jax.web.webshop import WebShop, WebShopTask

_TEXT_WIDTH = 80  # columns of a usual terminal
_WIDTH, _HEIGHT, _MARGIN = 960, 720, 24
_INK, _FAINT, _LINE, _PAPER, _BACKDROP = "#1c2733", "#6b7785", "#d9dee4", "#ffffff", "#f2f4f7"
_BRAND, _LINK, _ACCENT, _BUY = "#12343b", "#0b6e8a", "#e6f2f5", "#f0a020"


def page_text(env: WebShop, state: Session, task: WebShopTask) -> str:
    """The texts of the open page, separated by " [SEP] " as in WebShop's `text` observation mode."""
    heading = ["Instruction:", env.instruction(task)]
    if state.page == Page.DONE:
        return " [SEP] ".join(
            ["Thank you for shopping with us!", "Your score (min 0.0, max 1.0)", _score(env, state, task)]
        )
    if state.page == Page.INDEX:
        return " [SEP] ".join(["WebShop", *heading, "Search"])
    texts = []
    for element in env.page(state, task):
        if element.segment == Segment.TITLE and element.command is not None:
            texts.append(_argument(element).upper())
        texts.append(element.text)
    return " [SEP] ".join([*heading, *texts])


def text(env: WebShop, state: Session, task: WebShopTask) -> str:
    """The open page for a terminal: what can be clicked stands in brackets, chosen options are starred."""
    lines = textwrap.wrap(f"Instruction: {env.instruction(task)}", _TEXT_WIDTH)
    lines.append("─" * _TEXT_WIDTH)
    if state.page == Page.DONE:
        return "\n".join([*lines, "Thank you for shopping with us!", f"Your score: {_score(env, state, task)}"])
    picked = _chosen_actions(env.actions, state)
    row: list[str] = []  # buttons and options that share a line
    for element in env.page(state, task):
        if element.segment in (Segment.BUTTON, Segment.OPTION):
            row.append(f"[*{element.text}]" if element.action in picked else f"[{element.text}]")
            continue
        lines += textwrap.wrap(" ".join(row), _TEXT_WIDTH)
        row = [f"{element.text}:"] if element.segment == Segment.OPTION_GROUP else []
        if element.segment != Segment.OPTION_GROUP:
            lines += _block(element)
    return "\n".join([*lines, *textwrap.wrap(" ".join(row), _TEXT_WIDTH)])


def rgb(env: WebShop, state: Session, task: WebShopTask) -> np.ndarray:
    """The open page as a picture, uint8[720, 960, 3]. Needs pillow."""
    try:
        from PIL import Image, ImageDraw
    except ImportError as error:
        raise ImportError('pictures need pillow: pip install "envs-jax[render]"') from error
    image = Image.new("RGB", (_WIDTH, _HEIGHT), _BACKDROP)
    canvas = _Canvas(ImageDraw.Draw(image))
    top = _draw_head(canvas, env.instruction(task))
    elements = env.page(state, task)
    match Page(int(state.page)):
        case Page.INDEX:
            _draw_index(canvas, elements, env.shop.searches[int(task.goal)], top)
        case Page.RESULTS:
            _draw_results(canvas, elements, env.actions, top)
        case Page.ITEM:
            _draw_item(canvas, elements, _chosen_actions(env.actions, state), top)
        case Page.DONE:
            _draw_done(canvas, float(_score(env, state, task)), top)
        case page:
            _draw_sub_page(canvas, elements, page, top)
    return np.asarray(image)


def _block(element: Element) -> list[str]:
    """A text of its own lines."""
    if element.segment == Segment.TITLE and element.command is not None:
        return ["", *textwrap.wrap(f"[{_argument(element).upper()}] {element.text}", _TEXT_WIDTH)]
    if element.segment == Segment.SEARCH:
        return textwrap.wrap(f"[search: {element.text}]", _TEXT_WIDTH, subsequent_indent="  ")
    bullet = "• " if element.segment in (Segment.FEATURE, Segment.ATTRIBUTE) else ""
    return textwrap.wrap(bullet + element.text, _TEXT_WIDTH) if element.text.strip() else []


def _argument(element: Element) -> str:
    """What stands in the brackets of an element's command."""
    return (element.command or "")[len("click[") : -1]


def _score(env: WebShop, state: Session, task: WebShopTask) -> str:
    return f"{float(env.info(state, task)['score']):.4g}"


def _chosen_actions(actions: Actions, state: Session) -> set[int]:
    return {actions.options + int(option) for option in np.flatnonzero(np.asarray(chosen(actions, state)))}


# Pictures -------------------------------------------------------------------------------------------------------------


class _Canvas:
    """Boxes and wrapped text on a picture."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw

    def box(self, x: float, y: float, width: float, height: float, fill: str, line: str | None = _LINE) -> None:
        self.draw.rounded_rectangle((x, y, x + width, y + height), 6, fill=fill, outline=line)

    def width(self, string: str, size: int) -> float:
        return float(self.draw.textlength(string, font=_font(size)))

    def write(self, x: float, y: float, string: str, size: int = 15, color: str = _INK) -> None:
        self.draw.text((x, y), string, font=_font(size), fill=color)

    def paragraph(
        self, x: float, y: float, string: str, width: float, lines: int, size: int = 15, color: str = _INK
    ) -> float:
        """Writes at most `lines` lines, the last one ending in "…" where the text is longer; returns where it ends."""
        wrapped = self.wrap(string, width, size)
        if len(wrapped) > lines:
            wrapped = wrapped[: max(lines, 1)]
            wrapped[-1] = self.shorten(wrapped[-1] + " …", width, size)
        for line in wrapped:
            self.write(x, y, line, size, color)
            y += round(1.35 * size)
        return y

    def wrap(self, string: str, width: float, size: int) -> list[str]:
        lines: list[str] = []
        for word in string.split():
            if lines and self.width(f"{lines[-1]} {word}", size) <= width:
                lines[-1] += f" {word}"
            else:
                lines.append(self.shorten(word, width, size))
        return lines

    def shorten(self, string: str, width: float, size: int) -> str:
        if self.width(string, size) <= width:
            return string
        while string and self.width(string + "…", size) > width:
            string = string[:-1]
        return string.rstrip() + "…"

    def button(self, x: float, y: float, string: str, fill: str = _PAPER, color: str = _LINK, size: int = 15) -> float:
        """Draws a button and returns its width."""
        width = self.width(string, size) + 22
        self.box(x, y, width, 2 * size, fill, None if fill != _PAPER else _LINK)
        self.write(x + 11, y + 0.38 * size, string, size, color)
        return width

    def picture(self, x: float, y: float, side: float, title: str) -> None:
        """A stand-in for a product's photo: its initial on a colour of its own."""
        hue = zlib.crc32(title.encode()) % 360 / 360
        shade = lambda light: "#" + "".join(f"{round(255 * c):02x}" for c in colorsys.hls_to_rgb(hue, light, 0.35))
        self.box(x, y, side, side, shade(0.88), None)
        size = round(side / 2)
        initial = next((character for character in title if character.isalnum()), "?").upper()
        self.write(x + (side - self.width(initial, size)) / 2, y + side / 2 - 0.62 * size, initial, size, shade(0.42))


@functools.cache
def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _draw_head(canvas: _Canvas, instruction: str) -> float:
    """The bar and the instruction of every page; returns where the page itself starts."""
    canvas.draw.rectangle((0, 0, _WIDTH, 44), fill=_BRAND)
    canvas.write(_MARGIN, 10, "WebShop", 22, _PAPER)
    wrapped = min(len(canvas.wrap(instruction, _WIDTH - 4 * _MARGIN, 16)), 3)
    height = 38 + 22 * wrapped
    canvas.box(_MARGIN, 58, _WIDTH - 2 * _MARGIN, height, _ACCENT, None)
    canvas.write(2 * _MARGIN, 65, "Instruction", 13, _LINK)
    canvas.paragraph(2 * _MARGIN, 84, instruction, _WIDTH - 4 * _MARGIN, 3, 16)
    return 58 + height + 14


def _draw_buttons(canvas: _Canvas, elements: Sequence[Element], y: float) -> float:
    """The navigation buttons and the page header in one row; returns where the rest starts."""
    x: float = _MARGIN
    for element in elements:
        if element.segment == Segment.BUTTON:
            x += canvas.button(x, y, element.text) + 10
        else:
            canvas.write(x + 4, y + 6, element.text, 15, _FAINT)
            x += canvas.width(element.text, 15) + 18
    return y + 44


def _draw_index(canvas: _Canvas, elements: Sequence[Element], searches: Sequence[str], y: float) -> None:
    canvas.box(_MARGIN, y, _WIDTH - 2 * _MARGIN, _HEIGHT - y - _MARGIN, _PAPER)
    canvas.write(2 * _MARGIN, y + 16, "Search for …", 18)
    y += 52
    step = min(42, (_HEIGHT - _MARGIN - y - 8) / len(elements))
    for search in searches:
        canvas.box(2 * _MARGIN, y, _WIDTH - 4 * _MARGIN, step - 6, _PAPER)
        canvas.write(2 * _MARGIN + 12, y + step / 2 - 12, canvas.shorten(search, _WIDTH - 6 * _MARGIN, 15), 15, _LINK)
        y += step


def _draw_results(canvas: _Canvas, elements: Sequence[Element], actions: Actions, y: float) -> None:
    first = next((i for i, element in enumerate(elements) if element.segment == Segment.TITLE), len(elements))
    top = _draw_buttons(canvas, elements[:first], y)
    entries = list(zip(elements[first::2], elements[first + 1 :: 2], strict=True))
    columns = 2 if actions.page_size > 4 else 1
    rows = -(-actions.page_size // columns)
    width = (_WIDTH - 2 * _MARGIN - 12 * (columns - 1)) / columns
    height = (_HEIGHT - top - _MARGIN - 8 * (rows - 1)) / rows
    if not entries:
        canvas.write(_MARGIN, top + 10, "No products on this page.", 17, _FAINT)
    for i, (title, price) in enumerate(entries):
        x, y = _MARGIN + i % columns * (width + 12), top + i // columns * (height + 8)
        canvas.box(x, y, width, height, _PAPER)
        side = min(height - 16, 150)
        if side < 24:  # many small cards: one line each
            canvas.write(x + 8, y + 2, canvas.shorten(f"{price.text}  {title.text}", width - 16, 12), 12)
            continue
        canvas.picture(x + 8, y + 8, side, title.text)
        inner = x + side + 20
        canvas.write(inner, y + 7, _argument(title).upper(), 12, _LINK)
        size = 13 if columns == 2 else 16
        lines = int((height - 46) // round(1.35 * size))
        below = canvas.paragraph(inner, y + 24, title.text, x + width - inner - 10, lines, size)
        canvas.write(inner, below + 1, price.text, size + 1, _FAINT)


def _draw_item(canvas: _Canvas, elements: Sequence[Element], picked: set[int], y: float) -> None:
    buttons = [element for element in elements if element.segment == Segment.BUTTON]
    title, price = (next(e for e in elements if e.segment == s) for s in (Segment.TITLE, Segment.PRICE))
    y = _draw_buttons(canvas, buttons[:2], y)
    canvas.box(_MARGIN, y, _WIDTH - 2 * _MARGIN, _HEIGHT - y - _MARGIN, _PAPER)
    canvas.picture(2 * _MARGIN, y + 18, 150, title.text)
    right = 2 * _MARGIN + 172
    below = canvas.paragraph(right, y + 16, title.text, _WIDTH - right - 2 * _MARGIN, 4, 19)
    canvas.write(right, below + 4, price.text, 17)
    x = float(right)
    for element in buttons[2:-1]:
        x += canvas.button(x, below + 36, element.text) + 10
    canvas.button(x + 8, below + 36, buttons[-1].text, _BUY, _INK)
    _draw_options(canvas, elements, picked, max(y + 186, below + 84))


def _draw_options(canvas: _Canvas, elements: Sequence[Element], picked: set[int], y: float) -> None:
    """Option values as chips, row after row as far as the page goes."""
    x, limit = 2.0 * _MARGIN, _WIDTH - 2 * _MARGIN
    options = [element for element in elements if element.segment in (Segment.OPTION_GROUP, Segment.OPTION)]
    for i, element in enumerate(options):
        is_group = element.segment == Segment.OPTION_GROUP
        width = canvas.width(element.text, 13) + 18
        if is_group:
            x, y = 2.0 * _MARGIN, y + (34 if i else 0)
        elif x + width > limit:
            x, y = 2.0 * _MARGIN, y + 30
        if y > _HEIGHT - _MARGIN - 34:
            canvas.write(2 * _MARGIN, y, f"… and {len(options) - i} more", 13, _FAINT)
            return
        if is_group:
            canvas.write(x, y, element.text, 14, _FAINT)
            y += 22
        else:
            marked = element.action in picked
            canvas.box(x, y, width, 24, _LINK if marked else _PAPER)
            canvas.write(x + 9, y + 4, element.text, 13, _PAPER if marked else _INK)
            x += width + 8


def _draw_sub_page(canvas: _Canvas, elements: Sequence[Element], page: Page, y: float) -> None:
    y = _draw_buttons(canvas, elements[:2], y)
    canvas.box(_MARGIN, y, _WIDTH - 2 * _MARGIN, _HEIGHT - y - _MARGIN, _PAPER)
    canvas.write(2 * _MARGIN, y + 14, page.name.capitalize(), 19)
    y += 50
    texts = [element.text for element in elements[2:] if element.text.strip()]
    if not texts:
        canvas.write(2 * _MARGIN, y, "Nothing is written here.", 15, _FAINT)
    for string in texts:
        lines = int((_HEIGHT - _MARGIN - 12 - y) // 20)
        if lines < 1:
            return
        indent = 0 if page == Page.DESCRIPTION else 18
        if indent:
            canvas.box(2 * _MARGIN + 3, y + 7, 6, 6, _LINK, None)
        y = canvas.paragraph(2 * _MARGIN + indent, y, string, _WIDTH - 4 * _MARGIN - indent, lines, 15) + 8


def _draw_done(canvas: _Canvas, score: float, y: float) -> None:
    canvas.box(_MARGIN, y, _WIDTH - 2 * _MARGIN, 190, _PAPER)
    canvas.write(2 * _MARGIN, y + 24, "Thank you for shopping with us!", 26)
    canvas.write(2 * _MARGIN, y + 78, f"Your score: {score:.3g}", 20)
    width = _WIDTH - 4 * _MARGIN
    canvas.box(2 * _MARGIN, y + 120, width, 28, _ACCENT, None)
    if score > 0:
        canvas.box(2 * _MARGIN, y + 120, max(width * score, 12), 28, _LINK, None)
