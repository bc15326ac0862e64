"""The products of a shop: WebShop's own product files, read strictly.

The files and the meaning of their fields are those of princeton-nlp/WebShop (`web_agent_site/engine/engine.py`).
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

MISSING_PRICE = 100.0  # dollars; what WebShop charges for a product without a price
_ASIN_LENGTH = 10
_PRICES = re.compile(r"\$(?:[0-9][0-9,]*\.?[0-9]*|\.[0-9]+)(?:(?: to | ?[-–] ?| )?(?=\$)|$)")  # one, and what parts it


class HumanInstruction(NamedTuple):
    """An instruction that a person wrote for a product."""

    text: str
    attributes: tuple[str, ...]
    options: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Product:
    """One product, its texts as the shop shows them."""

    asin: str
    title: str
    category: str
    query: str  # lower case; the search under which the product was collected
    product_category: str  # a path, `Home & Kitchen › Furniture › …`
    description: str
    bullets: tuple[str, ...]
    pricing: tuple[float, ...]  # dollars: none, one, or the two ends of a range
    options: Mapping[str, tuple[str, ...]]  # group name to values, all lower case
    attributes: tuple[str, ...]
    instruction: str | None  # of the synthetic goals; None where the product has none
    instruction_attributes: tuple[str, ...]
    human_instructions: tuple[HumanInstruction, ...]

    @property
    def price_tag(self) -> str:
        """The price as the pages show it."""
        return " to ".join(f"${price}" for price in self.pricing or (MISSING_PRICE,))

    @property
    def document(self) -> str:
        """The text that the search engine indexes."""
        options = ", and ".join(f"{name}: {', '.join(values)}" for name, values in self.options.items())
        return " ".join([self.title, self.description, self.bullets[0], options]).lower()


class ProductFiles(NamedTuple):
    """WebShop's data files."""

    products: Path  # items_shuffle*.json
    attributes: Path  # items_ins_v2*.json
    human: Path | None = None  # items_human_ins.json


def find_files(path: str | os.PathLike[str] | ProductFiles) -> ProductFiles:
    """The data files of a folder, or those that belong to a product file.

    Args:
      path: a folder that holds exactly one `items_shuffle*.json`, or such a file. `items_ins_v2*.json` with the same
        ending lies beside it, and so may `items_human_ins.json`. A `ProductFiles` is returned as it is.
    """
    if isinstance(path, ProductFiles):
        return path
    path = Path(path)
    if path.is_dir():
        found = sorted(path.glob("items_shuffle*.json"))
        if len(found) != 1:
            names = ", ".join(file.name for file in found) or "none"
            raise ValueError(
                f"products={path}: the folder must hold one items_shuffle*.json; found {names}. Name the file"
            )
        path = found[0]
    elif not path.is_file():
        raise FileNotFoundError(
            f"products={path}: no such file or folder; give the folder with WebShop's items_shuffle*.json"
        )
    if not path.name.startswith("items_shuffle"):
        raise ValueError(f"products={path}: the name must be items_shuffle*.json; for other names pass a ProductFiles")
    attributes = path.with_name(path.name.replace("items_shuffle", "items_ins_v2", 1))
    if not attributes.is_file():
        raise FileNotFoundError(f"{attributes}: not found; it holds the attributes and instructions of {path.name}")
    human = path.with_name("items_human_ins.json")
    return ProductFiles(path, attributes, human if human.is_file() else None)


def load_products(path: str | os.PathLike[str] | ProductFiles, num_products: int | None = None) -> list[Product]:
    """Reads WebShop's product files.

    As in WebShop, entries whose `asin` is "nan", longer than 10 characters or a repetition are left out (a warning
    tells how many). Everything else that is not as it should be is an error.

    Args:
      path: what `find_files` accepts.
      num_products: read only the first so many entries; None for all.

    Raises:
      ValueError: names the file, the product and the field that is malformed.
    """
    files = find_files(path)
    items = _read_json(files.products, list, "a list of products")
    attributes = _read_json(files.attributes, dict, "an object from asin to attributes")
    human = {} if files.human is None else _read_json(files.human, dict, "an object from asin to instructions")
    if num_products is not None:
        if not 1 <= num_products <= len(items):
            raise ValueError(f"num_products={num_products}: {files.products} holds {len(items)} products")
        items = items[:num_products]
    return parse_products(items, attributes, human, files)


def parse_products(
    items: Sequence[Any], attributes: Mapping[str, Any], human: Mapping[str, Any], files: ProductFiles
) -> list[Product]:
    """Checks the content of the files and turns it into products; `files` names the sources in errors."""
    products: dict[str, Product] = {}
    for index, item in enumerate(items):
        where = _Place(files.products, f"product {index}")
        if not isinstance(item, Mapping):
            where.fail(f"expected an object, got {type(item).__name__}")
        asin = where.words(item, "asin")
        if asin == "nan" or len(asin) > _ASIN_LENGTH or asin in products:
            continue
        products[asin] = _parse_product(asin, item, attributes, human, files, index)
    if not products:
        raise ValueError(f"{files.products}: holds no product")
    if len(products) < len(items):
        skipped = len(items) - len(products)
        warnings.warn(
            f"{files.products}: left out {skipped} of {len(items)} entries, as WebShop does: their asin is repeated, "
            f"longer than {_ASIN_LENGTH} characters, or 'nan'",
            stacklevel=3,
        )
    return list(products.values())


def _parse_product(
    asin: str,
    item: Mapping[str, Any],
    attributes: Mapping[str, Any],
    human: Mapping[str, Any],
    files: ProductFiles,
    index: int,
) -> Product:
    where = _Place(files.products, f"product {index} ({asin})")
    notes = _Place(files.attributes, asin)
    if not isinstance(attributes.get(asin), Mapping):
        notes.fail(f"no entry for product {index} of {files.products.name}")
    instruction, instruction_attributes = _parse_instruction(attributes[asin], notes)
    bullets = item.get("small_description")
    return Product(
        asin=asin,
        title=where.text(item, "name"),
        category=where.words(item, "category"),
        query=where.words(item, "query").lower().strip(),
        product_category=where.text(item, "product_category"),
        description=where.text(item, "full_description"),
        bullets=(bullets,) if isinstance(bullets, str) else where.texts(item, "small_description", minimum=1),
        pricing=_parse_pricing(item.get("pricing"), where),
        options=_parse_options(item, where),
        attributes=notes.texts(attributes[asin], "attributes"),
        instruction=instruction,
        instruction_attributes=instruction_attributes,
        human_instructions=_parse_human(human.get(asin, []), _Place(files.human or Path(), asin)),
    )


def _parse_instruction(entry: Mapping[str, Any], where: _Place) -> tuple[str | None, tuple[str, ...]]:
    if entry.get("instruction") is None:
        return None, ()
    return where.words(entry, "instruction"), where.texts(entry, "instruction_attributes", minimum=1)


def _parse_pricing(pricing: Any, where: _Place) -> tuple[float, ...]:
    """Dollars from WebShop's text ("$9.99", "$10.00 to $20.00") or from a list of numbers; at most two count."""
    if pricing is None or pricing == "" or pricing == []:
        return ()
    if isinstance(pricing, str):
        found = [price.group() for price in _PRICES.finditer(pricing.strip())]
        if not found or "".join(found) != pricing.strip():
            where.fail(f"field 'pricing': expected amounts such as '$9.99' or '$9.99 to $20', got {pricing!r}")
        return tuple(float(re.sub(r"[^0-9.]", "", price)) for price in found[:2])
    if not isinstance(pricing, list) or not all(_is_price(price) for price in pricing):
        where.fail(f"field 'pricing': expected a text such as '$9.99' or a list of amounts, got {pricing!r}")
    return tuple(float(price) for price in pricing[:2])


def _is_price(price: Any) -> bool:
    return isinstance(price, int | float) and not isinstance(price, bool) and math.isfinite(price) and price >= 0


def _parse_options(item: Mapping[str, Any], where: _Place) -> dict[str, tuple[str, ...]]:
    """Group names and values as WebShop shows them; a group that is null is not shown."""
    if "customization_options" not in item:
        where.fail("field 'customization_options': expected an object or '', got nothing")
    groups = item["customization_options"]
    if groups is None or groups == "":
        return {}
    if not isinstance(groups, Mapping):
        where.fail(f"field 'customization_options': expected an object or '', got {type(groups).__name__}")
    options: dict[str, tuple[str, ...]] = {}
    for name, contents in groups.items():
        if contents is None:
            continue
        field = f"customization_options.{name}"
        if not name.strip() or name.lower() in options:
            where.fail(f"field {field!r}: a group's name must be a text, and no other's in upper or lower case")
        if not isinstance(contents, list) or not all(isinstance(content, Mapping) for content in contents):
            where.fail(f"field {field!r}: expected a list of objects with 'value', or null")
        if not contents:
            where.fail(f"field {field!r}: the group has no values; WebShop makes no goal for such a product")
        values = [where.words(content, "value", f"{field}[{i}].value") for i, content in enumerate(contents)]
        options[name.lower()] = tuple(value.strip().replace("/", " | ").lower() for value in values)
    return options


def _parse_human(entries: Any, where: _Place) -> tuple[HumanInstruction, ...]:
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        where.fail("expected a list of instructions (objects)")
    return tuple(
        HumanInstruction(
            where.words(entry, "instruction"),
            where.texts(entry, "instruction_attributes"),
            where.texts(entry, "instruction_options"),
        )
        for entry in entries
    )


class _Place(NamedTuple):
    """Where in the files a value stands, for errors."""

    file: Path
    entry: str

    def fail(self, message: str) -> NoReturn:
        raise ValueError(f"{self.file}: {self.entry}: {message}")

    def text(self, entry: Mapping[str, Any], field: str, label: str | None = None) -> str:
        value = entry.get(field)
        if not isinstance(value, str):
            found = type(value).__name__ if field in entry else "nothing"
            self.fail(f"field {label or field!r}: expected a text, got {found}")
        return value

    def words(self, entry: Mapping[str, Any], field: str, label: str | None = None) -> str:
        """A text that is more than white space."""
        value = self.text(entry, field, label)
        if not value.strip():
            self.fail(f"field {label or field!r}: expected a text, got an empty one")
        return value

    def texts(self, entry: Mapping[str, Any], field: str, minimum: int = 0) -> tuple[str, ...]:
        values = entry.get(field)
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values) or len(values) < minimum:
            found = repr(values)[:60] if field in entry else "nothing"
            self.fail(f"field {field!r}: expected a list of {'one or more ' * (minimum > 0)}texts, got {found}")
        if not all(value.strip() for value in values) and field != "small_description":
            self.fail(f"field {field!r}: one of the texts is empty")
        return tuple(values)


def _read_json(path: Path, form: type, description: str) -> Any:
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except _Refused as error:
        raise ValueError(f"{path}: {error}") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}:{error.lineno}:{error.colno}: malformed JSON ({error.msg})") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text (byte {error.start})") from error
    if not isinstance(content, form):
        raise ValueError(f"{path}: expected {description}, got {type(content).__name__}")
    return content


class _Refused(ValueError):
    """What JSON's reader would let pass."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys differ; of equal ones Python's reader keeps the last."""
    content = dict(pairs)
    if len(content) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        key, asin = next(key for key in counts if counts[key] > 1), content.get("asin")
        place = f"the product {asin}" if isinstance(asin, str) else "an object"
        raise _Refused(f"{place} holds the key {key!r} {counts[key]} times")
    return content


def _refuse_constant(name: str) -> float:
    raise _Refused(f"{name} is no number of JSON")
