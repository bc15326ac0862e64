"""How a synthetic catalogue compares with WebShop's real products.

python -m envs_jax.web.calibration [--seed N] PRODUCTS
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from envs_jax.tasks import TaskBank
from envs_jax.web.pages import words
from envs_jax.web.state_machine import INSTRUCTION, QUERY, Page
from envs_jax.web.webshop import WebShop, WebShopTask, make


def measure(**arguments: Any) -> dict[str, str]:
    """Figures of the catalogue that `make(**arguments)` builds."""
    env, tasks = make(**arguments)
    shop = env.shop
    products, goals = shop.products, shop.goals
    groups = [len(values) for product in products for values in product.options.values()]
    num_groups = np.array([len(product.options) for product in products])
    instructed = [product for product in products if product.instruction is not None]
    kinds = np.asarray(env.rewards.kind) & 3
    observation, _ = jax.jit(env.reset)(jax.random.key(0), tasks[0])
    found = lambda search, limit: np.average(_ranks(env, tasks, search) < limit, weights=tasks.weights)
    return {
        "products, goals": f"{len(products):,}, {len(goals):,}",
        "products with 0 / 1 / 2 / 3+ option groups": _shares(
            [np.mean(np.minimum(num_groups, 3) == i) for i in range(4)]
        ),
        "values per group, 50 / 90 / 99 % / max": _quantiles(groups, 50, 90, 99, 100),
        "distinct option values": f"{len({v for p in products for values in p.options.values() for v in values}):,}",
        "attributes per product, 10 / 50 / 90 %": _quantiles([len(p.attributes) for p in products], 10, 50, 90),
        "distinct attributes": f"{len({name for p in products for name in p.attributes})}",
        "products with an instruction": f"{len(instructed) / len(products):.3f}",
        "attributes per instruction, mean": f"{np.mean([len(p.instruction_attributes) for p in instructed]):.2f}",
        "price, 10 / 50 / 90 / 99 % (dollars)": _quantiles(shop.prices, 10, 50, 90, 99),
        "products with a price range": f"{np.mean([len(p.pricing) == 2 for p in products]):.3f}",
        "categories, queries, category paths": ", ".join(
            str(len({getattr(p, name) for p in products})) for name in ("category", "query", "product_category")
        ),
        "words in a title, 10 / 50 / 90 %": _quantiles([len(words(p.title)) for p in products], 10, 50, 90),
        "words in a description, 10 / 50 / 90 %": _quantiles([len(words(p.description)) for p in products], 10, 50, 90),
        "words in all bullets, 10 / 50 / 90 %": _quantiles(
            [len(words(" ".join(p.bullets))) for p in products], 10, 50, 90
        ),
        "pairs of kind 0 / 0.1 / 0.5 / 1 (r_type)": _shares([np.mean(kinds == i) for i in range(4)]),
        "asked product among the first 10 / 50 for its query": _shares([found(QUERY, 10), found(QUERY, 50)]),
        "… for its instruction": _shares([found(INSTRUCTION, 10), found(INSTRUCTION, 50)]),
        "goals met by exactly what they ask for": f"{np.mean(_can_be_met(env, tasks)):.3f}",
        "words of the vocabulary": f"{len(env.vocabulary) - 1:,}",
        "tokens of an observation": f"{observation['word'].shape[0]}",
    }


def _ranks(env: WebShop, tasks: TaskBank, search: int) -> np.ndarray:
    """int[T]: the position of each goal's product in the results of a search template; 50 where it is not found."""
    rows = np.asarray(tasks.instances.queries)[:, search]
    results, counts = np.asarray(env.links.results)[rows], np.asarray(env.links.num_results)[rows]
    hits = results == np.asarray(tasks.instances.product)[:, None]
    hits &= np.arange(results.shape[1]) < counts[:, None]
    return np.where(hits.any(axis=1), hits.argmax(axis=1), results.shape[1])


def _can_be_met(env: WebShop, tasks: TaskBank) -> np.ndarray:
    """bool[T]: the asked product with the wanted options earns the full reward; hidden colour words may spoil it."""
    chosen = np.zeros((len(tasks), len(env.actions.group_sizes)), int)
    for i, goal in enumerate(env.shop.goals):
        wanted = dict(pair for pair in goal.options if isinstance(pair, tuple))
        groups = env.shop.products[goal.product].options.items()
        chosen[i, : len(wanted)] = [1 + values.index(wanted[name]) for name, values in groups]

    @jax.jit
    def buy(env: WebShop, task: WebShopTask, options: jax.Array) -> jax.Array:
        start = env.initial(jnp.uint32(0), task)
        bought = dataclasses.replace(
            start,
            page=jnp.uint8(Page.DONE),
            product=task.product.astype(start.product.dtype),
            options=options.astype(start.options.dtype),
        )
        return env.success(bought, task)

    return np.asarray(jax.vmap(buy, in_axes=(None, 0, 0))(env, tasks.instances, chosen))


def _shares(values: Sequence[float]) -> str:
    return " / ".join(f"{value:.3f}" for value in values)


def _quantiles(values: Sequence[float], *percents: int) -> str:
    return " / ".join(f"{np.percentile(values, percent):.4g}" for percent in percents)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table; returns the exit status, 2 where the arguments or the product files are wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m envs_jax.web.calibration",
        description="Compares the synthetic catalogue with WebShop's product files.",
    )
    parser.add_argument("products", metavar="PRODUCTS", help="the folder with WebShop's product files")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    options = parser.parse_args(arguments)
    try:
        real = measure(seed=options.seed, products=options.products)
        synthetic = measure(seed=options.seed)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("| figure | real | synthetic |\n|---|---|---|")
    for name, value in real.items():
        print(f"| {name} | {value} | {synthetic[name]} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
