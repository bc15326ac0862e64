"""WebShop against `thefuzz` (which WebShop's own reward calls) on the real products."""

import random

import numpy as np
import pytest

from envs_jax.web.fuzzy import fuzzy_matches, normalized
from tests.envs_jax.web import shops
from tests.envs_jax.web.test_reward import check_against_reference
from tests.reference import webshop as reference

fuzz = pytest.importorskip("thefuzz.fuzz")


def test_rewards_of_ten_thousand_purchases(data_dir):
    env, tasks = shops.real(data_dir / "webshop")
    products = shops.real_reference(data_dir / "webshop")
    check_against_reference(env, tasks, products, False, 10_000, fuzz.token_set_ratio, seed=2)


def test_rewards_of_human_goals(data_dir):
    env, tasks = shops.real(data_dir / "webshop", goals="human")
    products = shops.real_reference(data_dir / "webshop")
    check_against_reference(env, tasks, products, True, 2_000, fuzz.token_set_ratio, seed=3)


def test_fuzzy_matches_of_the_real_texts(data_dir):
    products = shops.real_reference(data_dir / "webshop")
    attributes = sorted({name for product in products for name in product["attributes"]})
    pairs = sorted(
        {str(pair) for p in products for name, values in p["options"].items() for pair in [(name, v) for v in values]}
    )
    values = sorted({value for p in products for group in p["options"].values() for value in group})
    rng = random.Random(0)
    for left, right in ((attributes, attributes), (rng.sample(pairs, 300), rng.sample(values, 1000))):
        expected = [[fuzz.token_set_ratio(a, b) > 85 for b in right] for a in left]
        assert (fuzzy_matches(left, right) == np.array(expected)).all()


def test_fuzzy_matches_of_random_texts():
    rng = random.Random(1)
    alphabet = "aabbcd  -_.'é×\xa0\u0130ßш中1"
    texts = ["".join(rng.choices(alphabet, k=rng.randint(0, 14))) for _ in range(400)]
    expected = np.array([[fuzz.token_set_ratio(a, b) for b in texts] for a in texts])
    assert (fuzzy_matches(texts, texts) == (expected > 85)).all()
    assert ((expected > 85) & (expected < 100)).sum() > 20
    reference_ratios = [[reference.token_set_ratio(a, b) for b in texts[:60]] for a in texts[:60]]
    assert np.array(reference_ratios).tolist() == expected[:60, :60].tolist()


def test_normalized_text():
    utils = pytest.importorskip("thefuzz.utils")
    for text in ("Navy_Blue", "  3\xa0Pack (2×)  ", "ÉCRU-é", "İstanbul", "ﬁne Ⅳ ½", "x\ty\nz", "中文, ΑΒΓ"):
        assert normalized(text) == utils.full_process(text, force_ascii=True)
