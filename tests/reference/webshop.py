"""WebShop in plain Python: goals, pages, reward and ranking, independent of the package under test.

Written from the behaviour of princeton-nlp/WebShop. Products are dictionaries with the fields of its product files.
"""

from __future__ import annotations

import json
import math
import random
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = 50
_COLOR_TEXT = """
alabaster apricot aqua ash asphalt azure banana beige black blue blush bordeaux bronze brown burgundy camel camo
caramel champagne charcoal cheetah chestnut chocolate christmas coffee cognac copper coral cranberry cream crystal
dark denim eggplant elephant espresso fuchsia gold granite grape graphite grass gray green grey heather indigo ivory
ivy khaki lavender lemon leopard light lilac lime magenta maroon mauve merlot midnight mint mocha multicolor mushroom
mustard natural navy nude olive orange peach pewter pink plum purple rainbow red rose royal rust sand sapphire
seashell silver skull slate steel stone stonewash sunflower tan taupe teal tiger turquoise violet walnut wheat white
wine yellow
"""
COLORS = _COLOR_TEXT.split()
BUTTONS = ("buy now", "back to search", "< prev", "description", "features", "reviews", "attributes", "search")


# Catalogue and goals --------------------------------------------------------------------------------------------------


def read(folder: Path) -> list[dict[str, Any]]:
    """The products of a data folder."""
    content = lambda name: json.loads((folder / name).read_text(encoding="utf-8"))
    return combine(
        content("items_shuffle_1000.json"), content("items_ins_v2_1000.json"), content("items_human_ins.json")
    )


def combine(items: list, attributes: dict, human: dict) -> list[dict[str, Any]]:
    """The products of the contents of the three files."""
    products = []
    for item in items:
        bullets, pricing = item["small_description"], item["pricing"]
        if isinstance(pricing, str):
            pricing = [float(re.sub(r"[^\d.]", "", part)) for part in pricing.split("$")[1:]]
        options = {}
        for name, contents in (item["customization_options"] or {}).items():
            if contents is not None:
                options[name.lower()] = [c["value"].strip().replace("/", " | ").lower() for c in contents]
        products.append(
            {
                **item,
                **attributes[item["asin"]],
                "query": item["query"].lower().strip(),
                "bullets": [bullets] if isinstance(bullets, str) else bullets,
                "pricing": (pricing or [100.0])[:2],
                "options": options,
                "human": human.get(item["asin"], []),
            }
        )
    return products


def prices_and_goals(products: list[dict], seed: int, human: bool = False) -> tuple[list[float], list[dict]]:
    """What a server draws that is started right after `random.seed(seed)`."""
    generator = random.Random(seed)
    prices = [p["pricing"][0] if len(p["pricing"]) == 1 else generator.uniform(*p["pricing"]) for p in products]
    goals = []
    for i, product in enumerate(products):
        if human:
            for entry in product["human"]:
                if entry["instruction_attributes"]:
                    upper, text = _limit(prices[i], generator)
                    goals.append(
                        {
                            "product": i,
                            "attributes": entry["instruction_attributes"],
                            "options": entry["instruction_options"],
                            "upper": upper,
                            "instruction": entry["instruction"].strip(".") + text,
                        }
                    )
        elif product.get("instruction"):
            upper, text = _limit(prices[i], generator)
            for options in _combinations(sorted(product["options"].items())):
                listed = ", and ".join(f"{name}: {value}" for name, value in options.items())
                goals.append(
                    {
                        "product": i,
                        "attributes": product["instruction_attributes"],
                        "options": options,
                        "upper": upper,
                        "instruction": product["instruction"] + (" with " + listed if listed else "") + text,
                    }
                )
    counts: dict[str, int] = defaultdict(int)
    for goal in goals:
        for name in goal["attributes"]:
            counts[name] += 1
    for goal in goals:
        rarity = [1 / counts[name] for name in goal["attributes"]]
        goal["weight"] = 1.0 if human else sum(rarity) / len(rarity)
    shuffler = random.Random(233)
    shuffler.shuffle(goals)
    return prices, goals


def _limit(price: float, generator: random.Random) -> tuple[float, str]:
    above = [10.0 * i for i in range(1, 100) if 10.0 * i > price][:4]
    if len(above) < 2:
        return 1000000, ""
    upper = sorted(generator.sample(above, 2))[1]
    return upper, f", and price lower than {upper:.2f} dollars"


def _combinations(groups: list[tuple[str, list[str]]]) -> list[dict[str, str]]:
    if not groups:
        return [{}]
    (name, values), *rest = groups
    return [{name: value, **others} for value in values for others in _combinations(rest)]


# Pages ----------------------------------------------------------------------------------------------------------------


class Shopper:
    """One customer's session.

    `searches` maps every text that may be searched, on the search page only, to the products found (indices).
    """

    def __init__(self, products: list[dict], searches: dict[str, list[int]], page_size: int, show_attributes: bool):
        self.products, self.searches, self.page_size = products, searches, page_size
        self.sub_pages = ["description", "features", "reviews"] + ["attributes"] * show_attributes
        self.page, self.query, self.number, self.product, self.options = "index", None, None, None, {}

    def clickables(self) -> list[str]:
        """The texts that can be clicked on the open page."""
        if self.page in ("index", "done"):
            return []
        if self.page == "results":
            shown = [self.products[i]["asin"].lower() for i in self.shown()]
            return ["back to search", "next >"] + ["< prev"] * (self.number > 1) + shown
        if self.page != "item":
            return ["back to search", "< prev"]
        values = [value for group in self.products[self.product]["options"].values() for value in group]
        buttons = ["back to search", "< prev", *self.sub_pages, "buy now"]
        return buttons + [value for value in values if value not in BUTTONS]

    def shown(self) -> list[int]:
        """The products on the open results page."""
        start = (self.number - 1) * self.page_size
        return self.searches[self.query][start : start + self.page_size]

    def do(self, command: str) -> None:
        """Performs "search[…]" or "click[…]"; anything that the page does not offer changes nothing."""
        match = re.match(r"(.+?)\[(.+)\]", command)
        if match is None:
            return
        verb, argument = match[1], match[2].lower()
        if verb == "search" and self.page == "index" and argument in self.searches:
            self.page, self.query, self.number = "results", argument, 1
        elif verb == "click" and argument in self.clickables():
            self._click(argument)

    def _click(self, text: str) -> None:
        if text == "back to search":
            self.page, self.query, self.number, self.product, self.options = "index", None, None, None, {}
        elif self.page == "results":
            if text in ("next >", "< prev"):
                self.number += 1 if text == "next >" else -1
            else:
                self.product = next(i for i in self.shown() if self.products[i]["asin"].lower() == text)
                self.page = "item"
        elif text == "< prev":
            if self.page == "item":
                self.page, self.product, self.options = "results", None, {}
            else:
                self.page = "item"
        elif text == "buy now":
            self.page = "done"
        elif text in self.sub_pages:
            self.page = text
        else:
            groups = [name for name, values in self.products[self.product]["options"].items() if text in values]
            self.options[groups[-1]] = text


def command_of(
    shopper: Shopper, action: int, templates: list[str], group_sizes: tuple[int, ...], num_searches: int
) -> str:
    """The command behind an action number on the open page, "" where the page has none.

    Counts through the documented numbering: searches, next, prev, back, products, option values, sub-pages, buy.
    """
    numbered = [f"search[{text}]" for text in templates] + [""] * (num_searches - len(templates))
    numbered += ["click[next >]" if shopper.page == "results" else "", "click[< prev]", "click[back to search]"]
    shown = [shopper.products[i]["asin"] for i in shopper.shown()] if shopper.page == "results" else []
    numbered += [f"click[{asin}]" for asin in shown] + [""] * (shopper.page_size - len(shown))
    on_item = shopper.page == "item"
    groups = list(shopper.products[shopper.product]["options"].values()) if on_item else []
    everything = [value for group in groups for value in group]
    before = 0
    for group, size in zip(groups + [[]] * len(group_sizes), group_sizes, strict=False):
        for i in range(size):
            last = i < len(group) and group[i] not in everything[before + i + 1 :]  # of equal texts the last counts
            numbered.append(f"click[{group[i]}]" if last and group[i] not in BUTTONS else "")
        before += len(group)
    numbered += [f"click[{name}]" for name in [*shopper.sub_pages, "buy now"]]
    return numbered[action] if 0 <= action < len(numbered) else ""


# Reward ---------------------------------------------------------------------------------------------------------------


def reward(
    goal: dict, products: list[dict], product: int, price: float, options: dict[str, str], nouns, ratio
) -> float:
    """The reward for buying a product with chosen options.

    Args:
      nouns: title to list of nouns.
      ratio: a token_set_ratio of two texts, 0 … 100; it receives (group, value) pairs as they are.
    """
    bought, wanted = products[product], products[goal["product"]]
    attributes = 0
    for name in goal["attributes"]:
        texts = bought["name"].lower(), " ".join(bought["bullets"]).lower(), bought["full_description"].lower()
        if any(ratio(own, name) > 85 for own in bought["attributes"]) or any(name in text for text in texts):
            attributes += 1
    chosen = [_color(value) for value in options.values()]
    targets = list(goal["options"].items()) if isinstance(goal["options"], dict) else list(goal["options"])
    fulfilled = sum(any(ratio(value, _color(target)) > 85 for value in chosen) for target in targets)
    met = attributes + fulfilled + (price <= goal["upper"])
    return met / (len(goal["attributes"]) + len(targets) + 1) * _type(bought, wanted, nouns)


def _color(text):
    for color in COLORS:
        if color in text:
            return color
    return text


def _type(bought: dict, wanted: dict, nouns) -> float:
    path = lambda product: {part.strip() for part in product["product_category"].split("›")}
    have, want = nouns(bought["name"]), nouns(wanted["name"])
    title = len(set(have) & set(want)) / len(want) if want else 0.2
    if title == 0:
        return 0.0
    if title < 0.1:
        return 0.1
    if bought["query"] == wanted["query"] or len(path(bought) & path(wanted)) >= 2 or title > 0.2:
        return 1.0
    return 0.5


def token_set_ratio(a: Any, b: Any) -> int:
    """fuzzywuzzy's token_set_ratio, by its definition, the slow way."""
    left, right = (set(_process(str(x)).split()) for x in (a, b))
    if not left or not right:
        return 0
    both = " ".join(sorted(left & right))
    first, second = (" ".join(sorted(x)) for x in (left - right, right - left))
    if both and (not first or not second):
        return 100
    join = lambda rest: f"{both} {rest}" if both and rest else both or rest
    pairs = [(join(first), join(second))]
    if both:
        pairs += [(both, join(first)), (both, join(second))]
    return round(max(_similarity(x, y) for x, y in pairs))


def _process(text: str) -> str:
    kept = "".join(c for c in text.replace("\u0130", "i") if not 128 <= ord(c) < 256)
    return "".join(c if c.isalnum() else " " for c in kept).lower().strip()


def _similarity(a: str, b: str) -> float:
    row = [0] * (len(b) + 1)  # longest common subsequence
    for x in a:
        previous = row[:]
        for j, y in enumerate(b, 1):
            row[j] = previous[j - 1] + 1 if x == y else max(previous[j], row[j - 1])
    return 100 - 100 * (len(a) + len(b) - 2 * row[-1]) / (len(a) + len(b))


# Ranking --------------------------------------------------------------------------------------------------------------


def analyze(text: str) -> list[str]:
    """Index terms: words without possessive endings, stop words and plural endings."""
    stop = "a an and are as at be but by for if in into is it no not of on or such that the their then there these they"
    stop_words = {*stop.split(" "), "this", "to", "was", "will", "with"}
    words = [word for word in re.split(r"[\W_]+", re.sub(r"(['’])s\b", "", text.lower())) if word]
    return [_singular(word) for word in words if word not in stop_words]


def _singular(word: str) -> str:
    if word[-3:] == "ies" and word[-4:] not in ("eies", "aies"):
        return f"{word[:-3]}y"
    if word[-2:] == "es" and word[-3:] not in ("aes", "ees", "oes"):
        return word[:-1]
    if word[-1:] == "s" and word[-2:] not in ("us", "ss"):
        return word[:-1]
    return word


def document(product: dict) -> str:
    """The indexed text of a product."""
    options = ", and ".join(f"{name}: {', '.join(values)}" for name, values in product["options"].items())
    return f"{product['name']} {product['full_description']} {product['bullets'][0]} {options}".lower()


def rankings(documents: list[str], queries: list[str]) -> list[list[int]]:
    """For each query the best 50 documents by BM25 (k1 = 0.9, b = 0.4), ties by index, with a dense weight matrix."""
    texts = [analyze(text) for text in documents]
    vocabulary = {term: i for i, term in enumerate(dict.fromkeys(term for text in texts for term in text))}
    counts = np.zeros((len(vocabulary), len(texts)))
    for d, text in enumerate(texts):
        for term in text:
            counts[vocabulary[term], d] += 1
    length = counts.sum(axis=0)
    held = (counts > 0).sum(axis=1)
    idf = np.array([math.log(1 + (len(texts) - n + 0.5) / (n + 0.5)) for n in held])
    weights = idf[:, None] * counts / (counts + 0.9 * (0.6 + 0.4 * length / length.mean()))
    found = []
    for query in queries:
        scores = np.zeros(len(texts))
        for term in analyze(query):
            if term in vocabulary:
                scores = scores + weights[vocabulary[term]]
        scores = scores.astype(np.float32)
        order = np.argsort(-scores, kind="stable").tolist()
        found.append([d for d in order[:RESULTS] if scores[d] > 0])
    return found
