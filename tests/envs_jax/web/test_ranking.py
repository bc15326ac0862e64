"""BM25 against a dense NumPy computation, ties included."""

import numpy as np
import pytest

from envs_jax.web.ranking import rank, terms
from tests.envs_jax.web import shops
from tests.reference import webshop as reference


def listed(ranking):
    return [row[:count].tolist() for row, count in zip(ranking.documents, ranking.counts, strict=True)]


def shop_rankings(env, tasks):
    """{query: products found} as the environment's tables hold it."""
    results, counts = np.asarray(env.links.results), np.asarray(env.links.num_results)
    rows = np.asarray(tasks.instances.queries)
    found = {}
    for texts, numbers in zip(env.shop.searches, rows, strict=True):
        assert (numbers[len(texts) :] == -1).all() and (numbers[: len(texts)] >= 0).all()
        for text, row in zip(texts, numbers, strict=False):
            found[text] = results[row, : counts[row]].tolist()
    return found


def test_terms():
    assert terms("The Women's BOXES, shelves & buses of 4-day trolleys") == [
        "women", "boxe", "shelve", "buse", "4", "day", "trolley",
    ]  # fmt: skip
    for text in ("glasses", "kies eies", "shoes", "bus", "boss", "x_y ties’s"):
        assert terms(text) == reference.analyze(text)


def test_random_documents_with_ties():
    rng = np.random.default_rng(0)
    words = np.array([f"w{i}" for i in range(12)])
    documents = [" ".join(rng.choice(words, rng.integers(1, 5))) for _ in range(300)]
    documents[40] = ""
    queries = [" ".join(rng.choice(words, rng.integers(1, 4))) for _ in range(50)] + ["", "unknown", "the"]
    found = listed(rank(documents, queries))
    assert found == reference.rankings(documents, queries)
    assert found[-3:] == [[], [], []]
    assert max(map(len, found)) == 50
    # Equal documents tie, and the lower index comes first.
    assert listed(rank(["y x", "x", "x", "y"], ["x"])) == [[1, 2, 0]]


def test_few_documents():
    assert listed(rank(["x", "y x", "z"], ["x", "q"])) == [[0, 1], []]


@pytest.mark.parametrize("name", ["synthetic", "real"])
def test_lists_of_a_shop(name, request):
    if name == "real":
        folder = request.getfixturevalue("data_dir") / "webshop"
        (env, tasks), products = shops.real(folder), shops.real_reference(folder)
    else:
        (env, tasks), products = shops.synthetic(), shops.synthetic_reference()
    found = shop_rankings(env, tasks)
    expected = reference.rankings([reference.document(product) for product in products], list(found))
    assert list(found.values()) == expected


def test_search_templates():
    env, _ = shops.synthetic(num_distractors=3)
    everything = {name for goal in env.shop.goals for name in goal.attributes}
    of_source, positions = {}, set()
    for goal, (query, instruction, *mixed) in zip(env.shop.goals, env.shop.searches, strict=True):
        assert query == env.shop.products[goal.product].query
        assert instruction == goal.instruction.lower()
        own = {f"{name} {query}" for name in goal.attributes}
        others = {f"{name} {query}" for name in everything} - own
        assert own <= set(mixed) and len(set(mixed) & others) == 3 and len(mixed) == len(goal.attributes) + 3
        assert of_source.setdefault((goal.product, goal.attributes), mixed) == mixed
        positions.add(mixed.index(f"{goal.attributes[0]} {query}"))
    assert len(positions) > 3  # the place of an attribute does not tell whether it is wanted
