"""What each page shows: the elements of WebShop's page templates, in their order.

Text, pictures, tokens and the parsing of action texts are all made from these lists, so they agree.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from typing import NamedTuple

from envs_jax.web.catalogue import Product
from envs_jax.web.state_machine import INSTRUCTION, SUB_PAGES, Actions, Page

MAX_NUMBER = 99  # the largest page number that is a word; it stands for all larger ones
_BACK, _PREV, _NEXT, _BUY = "Back to Search", "< Prev", "Next >", "Buy Now"
_RATING, _INSTRUCTION_SEARCH = "Rating: N.A.", "instruction"
_WORD = re.compile(r"[^\W_]+")
# Texts that WebShop's server takes for a button, also where an option value is called so.
_RESERVED = frozenset(
    ["search", *(text.lower() for text in (_BACK, _PREV, _BUY)), *(p.name.lower() for p in SUB_PAGES)]
)


class Segment(enum.IntEnum):
    """What a piece of text on a page is."""

    PADDING = 0
    INSTRUCTION = 1
    BUTTON = 2
    HEADER = 3
    SEARCH = 4
    TITLE = 5
    PRICE = 6
    OPTION_GROUP = 7
    OPTION = 8
    CHOSEN_OPTION = 9
    DESCRIPTION = 10
    FEATURE = 11
    ATTRIBUTE = 12


class Element(NamedTuple):
    """A piece of text on a page."""

    text: str
    segment: Segment
    action: int | None = None  # what a click on it does; None where it cannot be clicked
    command: str | None = None  # the action as text


def words(text: str) -> list[str]:
    """The words of a text: its lower-case runs of letters and digits."""
    return _WORD.findall(text.lower())


def fixed_words() -> set[str]:
    """The words that pages show whatever the shop sells."""
    sub_pages = [page.name for page in SUB_PAGES]
    numbers = map(str, range(MAX_NUMBER + 1))
    texts = _BACK, _PREV, _NEXT, _BUY, _RATING, _header(0, 0), "Price: $", _INSTRUCTION_SEARCH, *sub_pages, *numbers
    return {word for text in texts for word in words(text)}


def index_page(searches: Sequence[str]) -> list[Element]:
    """The search page. The instruction stands above every page, so its search is shown as one word."""
    texts = [_INSTRUCTION_SEARCH if i == INSTRUCTION else text for i, text in enumerate(searches)]
    return [
        Element(text, Segment.SEARCH, i, f"search[{search.strip()}]")
        for i, (text, search) in enumerate(zip(texts, searches, strict=True))
    ]


def results_page(actions: Actions, products: Sequence[Product], number: int, total: int) -> list[Element]:
    """Page `number` of `total` results, which shows `products`."""
    elements = [_button(_BACK, actions.back), Element(_header(number, total), Segment.HEADER)]
    if number > 1:
        elements.append(_button(_PREV, actions.prev))
    elements.append(_button(_NEXT, actions.next))
    for slot, product in enumerate(products):
        elements += product_entry(product, actions.products + slot)
    return elements


def product_entry(product: Product, action: int | None) -> list[Element]:
    """What a results page shows of a product. WebShop's link text is the asin, which is never an observation."""
    command = f"click[{product.asin.lower()}]"
    return [Element(product.title, Segment.TITLE, action, command), Element(product.price_tag, Segment.PRICE)]


def item_page(actions: Actions, product: Product) -> list[Element]:
    """A product's own page."""
    clicks = option_clicks(actions, product)
    elements = [_button(_BACK, actions.back), _button(_PREV, actions.prev)]
    for name, values in product.options.items():
        elements.append(Element(name, Segment.OPTION_GROUP))
        for value in values:
            command = f"click[{value}]" if value in clicks else None
            elements.append(Element(value, Segment.OPTION, clicks.get(value), command))
    elements += [
        Element(product.title, Segment.TITLE),
        Element(f"Price: {product.price_tag}", Segment.PRICE),
        Element(_RATING, Segment.HEADER),
    ]
    for i, page in enumerate(SUB_PAGES[: actions.num_sub_pages]):
        elements.append(_button(page.name.capitalize(), actions.sub_pages + i))
    return [*elements, _button(_BUY, actions.buy)]


def sub_page(actions: Actions, product: Product, page: Page) -> list[Element]:
    """The description, the features (bullet points), the reviews (the data has none) or the attributes."""
    elements = [_button(_BACK, actions.back), _button(_PREV, actions.prev)]
    if page == Page.DESCRIPTION:
        elements.append(Element(product.description, Segment.DESCRIPTION))
    elif page == Page.FEATURES:
        elements += [Element(bullet, Segment.FEATURE) for bullet in product.bullets]
    elif page == Page.ATTRIBUTES:
        texts = *product.attributes, product.category, product.query, product.product_category
        elements += [Element(text, Segment.ATTRIBUTE) for text in texts]
    return elements


def option_clicks(actions: Actions, product: Product) -> dict[str, int]:
    """The action behind the text of each option value.

    A click is known by its text alone, so of equal values the last is meant, and a value that is called like a button
    cannot be chosen.
    """
    clicks: dict[str, int] = {}
    for start, values in zip(actions.group_starts, product.options.values(), strict=False):
        clicks |= {value: actions.options + start + i for i, value in enumerate(values) if value not in _RESERVED}
    return clicks


def _header(number: int, total: int) -> str:
    return f"Page {number} (Total results: {total})"


def _button(text: str, action: int) -> Element:
    return Element(text, Segment.BUTTON, action, f"click[{text.lower()}]")
