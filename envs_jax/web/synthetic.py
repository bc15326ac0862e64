"""A synthetic catalogue in WebShop's own file format, calibrated to WebShop's 1,000 real products.

What is matched, and how well, is printed by `python -m envs_jax.web.calibration` (docs/webshop.md).
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from envs_jax.web import wordlists
from envs_jax.web.catalogue import Product, ProductFiles, parse_products
from envs_jax.web.wordlists import Department

# Frequencies among WebShop's 1,000 products.
_NUM_VALUES = {
    2: 190,
    3: 150,
    4: 130,
    5: 110,
    6: 70,
    7: 45,
    8: 35,
    9: 30,
    10: 60,
    12: 25,
    14: 20,
    18: 15,
    24: 10,
    31: 8,
    45: 6,
}
_NUM_ATTRIBUTES = {
    2: 66,
    3: 90,
    4: 94,
    5: 58,
    6: 29,
    7: 25,
    8: 16,
    9: 7,
    10: 10,
    12: 6,
    16: 9,
    19: 3,
    27: 2,
}  # with a goal
_NUM_OTHER_ATTRIBUTES = {0: 185, 1: 191, 2: 123, 3: 44, 4: 26, 5: 7, 6: 7, 7: 2}  # without
_NUM_WANTED = {2: 110, 3: 115, 4: 110, 5: 30, 6: 35, 7: 25, 8: 15, 10: 8, 15: 5}
_NUM_BULLETS = {1: 90, 3: 60, 4: 80, 5: 640, 6: 70, 7: 60}
_NO_PRICE, _NO_DESCRIPTION = 0.085, 0.3

_SOURCE = ProductFiles(Path("synthetic products"), Path("synthetic attributes"))


def generate_products(seed: int, num_products: int) -> list[Product]:
    """`num_products` products, the same for the same `seed` on every machine."""
    if num_products < 2:
        raise ValueError(f"num_products={num_products}; a synthetic catalogue has at least 2 products")
    items, attributes = generate_files(seed, num_products)
    return parse_products(items, attributes, {}, _SOURCE)


def generate_files(seed: int, num_products: int) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
    """The contents of `items_shuffle*.json` and `items_ins_v2*.json` for a synthetic catalogue."""
    rng = random.Random(f"catalogue {seed}")
    items, attributes = [], {}
    shares = {department: department.share for department in wordlists.DEPARTMENTS}
    for index in range(num_products):
        # The first product always has a goal, so that the smallest catalogue has one too.
        item, notes = _product(rng, index, _pick(rng, shares), with_goal=index == 0)
        items.append(item)
        attributes[item["asin"]] = notes
    return items, attributes


def _product(
    rng: random.Random, index: int, department: Department, with_goal: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    aisle = rng.choice(list(department.aisles))
    kind = _skewed(rng, department.aisles[aisle])
    query = _plural(kind)
    has_goal = with_goal or rng.random() < department.instructed
    names = _distinct(rng, department.attributes, _pick(rng, _NUM_ATTRIBUTES if has_goal else _NUM_OTHER_ATTRIBUTES))
    material = rng.choice(department.materials)
    called = _called(rng, kind)
    bullet_length = min(max(14 * math.exp(rng.gauss(0, 0.75)), 3), 90)
    item = {
        "asin": f"S{index:09d}",
        "name": _title(rng, department, called, names, material),
        "category": department.name,
        "query": query,
        "product_category": _path(rng, department, aisle, query),
        "full_description": ""
        if rng.random() < _NO_DESCRIPTION
        else _prose(rng, department, called, names, min(80 * math.exp(rng.gauss(0, 0.95)), 600)),
        "small_description": [
            _prose(rng, department, called, names, bullet_length) for _ in range(_pick(rng, _NUM_BULLETS))
        ],
        "pricing": _pricing(rng, department),
        "customization_options": _options(rng, department),
    }
    notes: dict[str, Any] = {"attributes": names}
    if has_goal:
        wanted = rng.sample(names, min(_pick(rng, _NUM_WANTED), len(names)))
        notes |= {"instruction": _instruction(query, wanted), "instruction_attributes": wanted}
    return item, notes


def _called(rng: random.Random, kind: str) -> str:
    """What a product's own texts call it: its kind, a part of that, or something else."""
    draw = rng.random()
    if draw < 0.48:
        return kind
    return kind.split()[-1] if draw < 0.86 else rng.choice(wordlists.PIECES)


def _title(rng: random.Random, department: Department, kind: str, names: Sequence[str], material: str) -> str:
    """Brand and kind, then as many details and names as a title of random length has room for."""
    length = round(min(max(rng.gauss(18, 8), 6), 36))
    words = f"{_name(rng)} {rng.choice(wordlists.ADJECTIVES)} {kind}".title().split()
    details = [*names[:4], f"for {rng.choice(department.uses)}", material, rng.choice(wordlists.COLORS)]
    details += [f"{_name(rng)} {_name(rng)[:2]}{rng.randint(10, 999)}" for _ in range(3)]
    details += [f"{rng.choice(wordlists.ADJECTIVES)} {_name(rng)}" for _ in range(4)] + [_any_kind(rng, department)]
    rng.shuffle(details)
    for detail in details:
        more = detail.title().split()
        words += more if len(words) + len(more) <= length else []
    return " ".join(words).replace("'S", "'s")


def _prose(rng: random.Random, department: Department, kind: str, names: Sequence[str], length: float) -> str:
    """Sentences about the product, `length` words or a few more, that name its attributes now and then."""
    sentences: list[str] = []
    while sum(len(sentence.split()) for sentence in sentences) < length:
        about = rng.choice(names) if names and rng.random() < 0.6 else rng.choice(wordlists.ADJECTIVES)
        forms = (
            f"This {about} {kind} is {rng.choice(wordlists.BENEFITS)}.",
            f"{about.capitalize()}: {rng.choice(wordlists.BENEFITS)}.",
            f"With its {rng.choice(department.materials)} and {about} it suits {rng.choice(department.uses)}.",
            f"Our {kind} comes {about} and {rng.choice(wordlists.BENEFITS)}.",
            f"Goes well with any {_any_kind(rng, department)}.",
        )
        sentences.append(rng.choice(forms))
    return " ".join(sentences)


def _any_kind(rng: random.Random, department: Department) -> str:
    return rng.choice([kind for kinds in department.aisles.values() for kind in kinds])


def _options(rng: random.Random, department: Department) -> Any:
    """Option groups in WebShop's form; "" where there are none."""
    count = _pick(rng, department.num_groups)
    groups: dict[str, list[dict[str, str]]] = {}
    while len(groups) < min(count, len(department.option_groups)):
        name = _pick(rng, {name: share for name, share in department.option_groups.items() if name not in groups})
        values = _values(rng, department, name)
        groups[name] = [{"value": value} for value in values[: _pick(rng, _NUM_VALUES)]]
    return groups or ""


def _values(rng: random.Random, department: Department, group: str) -> list[str]:
    """All values that a group of this name can have, in the order in which a product lists them."""
    fixed = {
        "Style": wordlists.STYLES,
        "Scent": wordlists.SCENTS,
        "Flavor Name": wordlists.FLAVORS,
        "Fit Type": wordlists.FITS,
        "Item Shape": wordlists.SHAPES,
        "Item Package Quantity": tuple(map(str, range(1, 13))),
    }
    if group == "Color":
        return _colors(rng)
    if group != "Size":
        return rng.sample(fixed[group], len(fixed[group]))
    if department.name == "fashion":
        shoes = [f"{size / 2:g}" for size in range(10, 28)]
        return list(rng.choice((wordlists.CLOTHING_SIZES, wordlists.CLOTHING_SIZES[1:7], shoes)))
    if department.name == "garden":
        step = rng.randint(5, 20)
        return [f"{width} x {height} in" for width in range(step, 97, step) for height in range(width, 97, step)]
    if department.name == "electronics":
        return (
            [f"{2**i} gb" for i in range(3, 11)]
            if rng.random() < 0.4
            else [f"{rng.randint(1, 3) * i} ft" for i in range(3, 100, 2)]
        )
    ounces = rng.randint(3, 64) / 2
    return [f"{ounces:g} ounce (pack of {i})" for i in range(1, 25)]


def _colors(rng: random.Random) -> list[str]:
    """Every colour, plain or in one of the forms that shops give them."""
    colors = rng.sample(wordlists.COLORS, len(wordlists.COLORS))
    number = rng.randint(1, 99)
    forms = (
        colors,
        [f"{chr(ord('a') + i % 26)}-{color}" for i, color in enumerate(colors)],
        [f"{color} {number:02d}" for color in colors],
        [f"{color} | {colors[i - 1]}" for i, color in enumerate(colors)],
        [f"{rng.choice(wordlists.SYLLABLES)}{rng.choice(wordlists.SYLLABLES)} {color}" for color in colors],
    )
    return rng.choice((colors, colors, colors, *forms))


def _pricing(rng: random.Random, department: Department) -> str | None:
    draw = rng.random()
    if draw < _NO_PRICE:
        return None
    price = max(department.median_price * math.exp(rng.gauss(0, department.price_spread)), 1.0)
    cents = lambda dollars: f"${math.floor(dollars) + rng.choice((0.99, 0.99, 0.95, 0.49, 0.0)):.2f}"
    if draw < _NO_PRICE + department.price_range:
        return f"{cents(price)} to {cents(price * rng.uniform(1.1, 1.8) + 1)}"
    return cents(price)


def _instruction(query: str, wanted: Sequence[str]) -> str:
    """WebShop's form of words for a synthetic instruction."""
    split = (len(wanted) + 1) // 2
    return f"Find me {', '.join(wanted[:split])} {query} with {', '.join(wanted[split:])}"


def _path(rng: random.Random, department: Department, aisle: str, query: str) -> str:
    """A category path of one to six parts."""
    shelf = "Essentials" if rng.random() < 0.5 else "Favorites"
    material = rng.choice(department.materials[:3])
    parts = department.root, f"{aisle} {shelf}", query.title(), f"{material} {query}".title(), material.title()
    return " › ".join(parts[: _pick(rng, {1: 2, 2: 12, 3: 46, 4: 28, 5: 12})])


def _name(rng: random.Random) -> str:
    """A made-up name of a brand or a series."""
    return "".join(rng.choice(wordlists.SYLLABLES) for _ in range(rng.randint(2, 3))).capitalize()


def _plural(noun: str) -> str:
    if noun.endswith(("s", "sh", "ch", "x")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


def _pick(rng: random.Random, weights: Mapping[Any, float]) -> Any:
    return rng.choices(list(weights), list(weights.values()))[0]


def _skewed(rng: random.Random, items: Sequence[str]) -> str:
    """One of the items, the first ones more often."""
    return items[min(int(len(items) * rng.random() ** 1.3), len(items) - 1)]


def _distinct(rng: random.Random, items: Sequence[str], count: int) -> list[str]:
    """`count` different items (fewer where there are not so many), the first ones more often."""
    drawn: dict[str, None] = {}
    while len(drawn) < min(count, len(items)):
        drawn[_skewed(rng, items)] = None
    return list(drawn)
