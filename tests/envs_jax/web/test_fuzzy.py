"""The fuzzy comparison against the definition of token_set_ratio."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from envs_jax.web.fuzzy import fuzzy_matches, indel_distance
from tests.reference.webshop import token_set_ratio

WORDS = st.text(alphabet="abcx 1-_", max_size=12)
TEXTS = (
    WORDS
    | st.text(max_size=12)
    | st.lists(st.sampled_from(["navy blue", "x-large", "pack", "of", "3", "4"])).map(" ".join)
)


@given(st.lists(TEXTS, min_size=1, max_size=5), st.lists(TEXTS, min_size=1, max_size=5))
@settings(max_examples=300, deadline=None)
def test_matches_are_ratios_above_85(left, right):
    expected = [[token_set_ratio(a, b) > 85 for b in right] for a in left]
    assert fuzzy_matches(left, right).tolist() == expected


@given(WORDS, WORDS)
@settings(max_examples=300, deadline=None)
def test_indel_distance(a, b):
    table = np.zeros((len(a) + 1, len(b) + 1), int)
    table[:, 0], table[0, :] = range(len(a) + 1), range(len(b) + 1)
    for i, x in enumerate(a, 1):
        for j, y in enumerate(b, 1):
            table[i, j] = table[i - 1, j - 1] if x == y else 1 + min(table[i - 1, j], table[i, j - 1])
    assert indel_distance(a, b) == table[-1, -1]


def test_known_pairs():
    pairs = {
        ("small", "('size', 'x-small')"): True,
        ("large", "('size', 'x-large')"): True,
        ("x-large", "('size', 'large')"): False,
        ("blue", "navy blue"): True,
        ("3 pack", "2 pack"): False,
        ("", ""): False,
    }
    for (a, b), expected in pairs.items():
        assert fuzzy_matches([a], [b]).item() is expected


def test_more_rows_than_a_chunk():
    texts = [f"item {i % 40} of {i % 7}" for i in range(600)]
    matches = fuzzy_matches(texts, texts[:30])
    assert matches.shape == (600, 30)
    for i in range(0, 600, 37):
        assert matches[i].tolist() == [token_set_ratio(texts[i], other) > 85 for other in texts[:30]]
    assert fuzzy_matches([], ["a"]).shape == (0, 1) and fuzzy_matches(["a"], []).shape == (1, 0)
