"""How a synthetic catalogue compares with WebShop's real products.

python -m envs_jax.web.calibration [--seed N] PRODUCTS
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import jax
import numpy as np

from envs_jax.web.pages import words
from envs_jax.web.webshop import make


def measure(**arguments: object) -> dict[str, str]:
    """Figures of the catalogue that `make(**arguments)` builds."""
    env, tasks = make(**arguments)  # type: ignore[arg-type]
    shop = env.shop
    products, goals = shop.products, shop.goals
    groups = [len(values) for product in products for values in product.options.values()]
    num_groups = np.array([len(product.options) for product in products])
    instructed = [product for product in products if product.instruction is not None]
    kinds = np.asarray(env.rewards.kind) & 3
    observation, _ = env.reset(jax.random.key(0), tasks[0])
    rank = lambda column, limit: np.mean(_ranks(env, tasks, column) < limit)
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
        "asked product among the first 10 / 50 of its query": _shares([rank(0, 10), rank(0, 50)]),
        "… of its instruction": _shares([rank(1, 10), rank(1, 50)]),
        "words of the vocabulary": f"{len(env.vocabulary) - 1:,}",
        "tokens of an observation": f"{observation['word'].shape[0]}",
    }


def _ranks(env: object, tasks: object, search: int) -> np.ndarray:
    """int[T]: the position of each goal's product in the results of a search template; 50 where it is not found."""
    results = np.asarray(env.links.results)  # type: ignore[attr-defined]
    counts = np.asarray(env.links.num_results)  # type: ignore[attr-defined]
    rows = np.asarray(tasks.instances.queries)[:, search]  # type: ignore[attr-defined]
    products = np.asarray(tasks.instances.product)  # type: ignore[attr-defined]
    hits = (results[rows] == products[:, None]) & (np.arange(results.shape[1]) < counts[rows][:, None])
    return np.where(hits.any(axis=1), hits.argmax(axis=1), results.shape[1])


def _shares(values: Sequence[float]) -> str:
    return " / ".join(f"{value:.3f}" for value in values)


def _quantiles(values: Sequence[float], *percents: int) -> str:
    return " / ".join(f"{np.percentile(values, percent):.4g}" for percent in percents)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description="Compares the synthetic catalogue with WebShop's product files.")
    parser.add_argument("products", help="the folder with WebShop's product files")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    real = measure(seed=arguments.seed, products=arguments.products)
    synthetic = measure(seed=arguments.seed)
    print("| figure | real | synthetic |\n|---|---|---|")
    for name, value in real.items():
        print(f"| {name} | {value} | {synthetic[name]} |")


if __name__ == "__main__":
    main()
