"""Prices, goals and splits, as WebShop makes them (princeton-nlp/WebShop, `engine/goal.py`)."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from envs_jax import held_out
from envs_jax.tasks import TaskBank
from envs_jax.web.catalogue import MISSING_PRICE, Product

GoalKind = Literal["synthetic", "human"]
NO_PRICE_LIMIT = 1_000_000.0  # dollars

_PRICE_STEPS = [10.0 * i for i in range(1, 100)]
_SHUFFLE_SEED = 233  # WebShop's
_PRODUCTS_HELD_OUT = 0.2  # the share whose goals `hold_out` keeps from training
_TEST, _EVAL = 500, 1500  # WebShop's goals 0–499 are for testing, 500–1499 for evaluation, the rest for training


class Goal(NamedTuple):
    """What the customer wants."""

    product: int  # index of the product that the goal was made from
    instruction: str
    attributes: tuple[str, ...]
    price_upper: float  # dollars
    options: tuple[tuple[str, str], ...] | tuple[str, ...]  # (group, value) pairs of synthetic goals; values of human
    weight: float  # relative probability of being sampled


class GoalSplits(NamedTuple):
    """Disjoint parts of a bank."""

    test: TaskBank
    eval: TaskBank
    train: TaskBank


def draw_prices(products: Sequence[Product], rng: random.Random) -> list[float]:
    """The price of each product in dollars: uniform within a range, 100 where there is none."""
    return [
        rng.uniform(*product.pricing) if len(product.pricing) == 2 else (*product.pricing, MISSING_PRICE)[0]
        for product in products
    ]


def make_goals(products: Sequence[Product], prices: Sequence[float], kind: GoalKind, rng: random.Random) -> list[Goal]:
    """All goals in WebShop's order.

    A process that calls `random.seed(seed)` before it starts WebShop's server draws the same prices and price limits as
    `rng = random.Random(seed)` passed to `draw_prices` and then here; the order is always WebShop's.

    Args:
      products: the catalogue.
      prices: dollars, one for each product.
      kind: "synthetic": for each product with an instruction, one goal for every combination of its option values;
        "human": the instructions written by people, where they name an attribute.
      rng: draws the price limits.
    """
    maker = {"synthetic": _synthetic_goals, "human": _human_goals}[kind]
    goals = maker(products, prices, rng)
    if not goals:
        raise ValueError(f"goals={kind!r}: none of the {len(products)} products has such an instruction")
    random.Random(_SHUFFLE_SEED).shuffle(goals)
    return goals


def goal_splits(tasks: TaskBank) -> GoalSplits:
    """WebShop's splits by position: test 0–499, eval 500–1499, train 1500 onwards.

    Args:
      tasks: the bank that `make` returned, in its order.

    Raises:
      TypeError: `tasks` is not a bank of WebShop goals.
      ValueError: too few goals, or goals in another order, of which the positions say nothing.
    """
    _check_goals(tasks)
    if len(tasks) <= _EVAL:
        raise ValueError(f"tasks has {len(tasks)} goals; WebShop's splits need more than {_EVAL}. Use product_split")
    if (np.asarray(tasks.instances.goal) != np.arange(len(tasks))).any():
        raise ValueError("tasks is shuffled or a selection; WebShop's splits need the goals in the order of `make`")
    return GoalSplits(tasks[:_TEST], tasks[_TEST:_EVAL], tasks[_EVAL:])


def product_split(tasks: TaskBank, fraction: float, seed: int = 0) -> tuple[TaskBank, TaskBank]:
    """Two banks whose goals were made from different products.

    Args:
      tasks: a bank of WebShop goals.
      fraction: the share of the products (rounded) whose goals form the first bank.
      seed: determines which products.

    Raises:
      TypeError: `tasks` is not a bank of WebShop goals.
      ValueError: one of the banks would be empty.
    """
    _check_goals(tasks)
    goal_products = np.asarray(tasks.instances.product)
    products = np.unique(goal_products)
    size = round(fraction * len(products))
    if not 0 < size < len(products):
        raise ValueError(f"fraction={fraction} of {len(products)} products leaves one side empty")
    chosen = np.random.default_rng(seed).permutation(products)[:size]
    first = np.isin(goal_products, chosen)
    return tasks.filter(first), tasks.filter(~first)


def hold_out(tasks: TaskBank, num_held_out: int, seed: int) -> tuple[TaskBank, TaskBank]:
    """(goals to train on, goals held out): a fifth of the products is held out, and of their goals so many are drawn.

    Args:
      tasks: a bank of WebShop goals.
      num_held_out: goals that are held out.
      seed: determines which.

    Raises:
      TypeError, ValueError: no such number of goals can be held out.
    """
    held_out.check(tasks, num_held_out, seed)
    kept, others = product_split(tasks, 1 - _PRODUCTS_HELD_OUT, seed)
    if num_held_out > len(others):
        raise ValueError(
            f"num_held_out={num_held_out}: there are {len(others)} goals of the {_PRODUCTS_HELD_OUT:.0%} of the "
            "products that are held out; hold out fewer"
        )
    return kept, others.shuffle(jax.random.key(seed))[:num_held_out]


def _check_goals(tasks: Any) -> None:
    from envs_jax.web.webshop import WebShopTask  # here, since it imports this module

    if not (isinstance(tasks, TaskBank) and isinstance(tasks.instances, WebShopTask)):
        raise TypeError(f"tasks must be a TaskBank of WebShop goals; got {type(tasks).__name__}")


def _price_limit(price: float, rng: random.Random) -> tuple[float, str]:
    """(limit, the text that states it): the larger of two of the next four multiples of 10 above the price."""
    steps = [step for step in _PRICE_STEPS if step > price][:4]
    if len(steps) < 2:
        return NO_PRICE_LIMIT, ""
    upper = max(rng.sample(steps, 2))
    return upper, f", and price lower than {upper:.2f} dollars"


def _synthetic_goals(products: Sequence[Product], prices: Sequence[float], rng: random.Random) -> list[Goal]:
    goals = []
    for index, product in enumerate(products):
        if product.instruction is None:
            continue
        upper, price_text = _price_limit(prices[index], rng)
        groups = sorted(product.options)
        for values in itertools.product(*(product.options[group] for group in groups)):
            options = tuple(zip(groups, values, strict=True))
            option_text = ", and ".join(f"{group}: {value}" for group, value in options)
            instruction = product.instruction + (f" with {option_text}" if option_text else "") + price_text
            goals.append(Goal(index, instruction, product.instruction_attributes, upper, options, 1.0))
    counts = Counter(attribute for goal in goals for attribute in goal.attributes)
    mean_rarity = lambda goal: sum(1.0 / counts[name] for name in goal.attributes) / len(goal.attributes)
    return [goal._replace(weight=mean_rarity(goal)) for goal in goals]


def _human_goals(products: Sequence[Product], prices: Sequence[float], rng: random.Random) -> list[Goal]:
    goals = []
    for index, product in enumerate(products):
        for human in product.human_instructions:
            if not human.attributes:
                continue
            upper, price_text = _price_limit(prices[index], rng)
            instruction = human.text.strip(".") + price_text
            goals.append(Goal(index, instruction, human.attributes, upper, human.options, 1.0))
    return goals
