"""Filters against NumPy."""

import jax
import numpy as np
import pytest

from jaxrl_agents.rollouts import Informative, MinP, Top, TopK, TopP

pytestmark = pytest.mark.usefixtures("quick_compilation")

GROUPS, SIZE = 8, 4


def returns_of(seed):
    """Few different values, so that deviations tie; groups 2 and 5 are of equal returns."""
    drawn = np.random.default_rng(seed).integers(0, 3, (GROUPS, SIZE)).astype(np.float32)
    drawn[[2, 5]] = drawn[[2, 5], :1]
    return drawn


def top_p(deviation, p, weighting, include_zero):
    """RAGEN's rule, group by group."""
    order = [g for g in np.argsort(-deviation, kind="stable") if deviation[g] > 0 or include_zero]
    if weighting == "linear":
        weights, needed = deviation, p * deviation.sum() - 0.01
    else:
        raised = np.exp(deviation[order] - deviation.max())
        weights, needed = np.zeros(GROUPS), p
        weights[order] = raised / raised.sum()
    kept, total = np.zeros(GROUPS, bool), 0.0
    for group in order:
        kept[group] = True
        total += weights[group]
        if total >= needed:
            break
    return kept


SHARES = ((0.25, 2), (0.7, 5), (1.0, 8))
TOP_P = [(p, weighting, zero) for p in (0.3, 0.9) for weighting in ("linear", "softmax") for zero in (False, True)]
FILTERS = [
    *[made for share, number in SHARES for made in (Top(share), TopK(number), TopK(number, include_zero=False))],
    *[TopP(*options) for options in TOP_P],
    MinP(0.3), MinP(0.9), MinP(include_zero=True), Informative(3), Top(include_zero=False),
]  # fmt: skip


@pytest.fixture(scope="module")
def kept():
    """What each filter keeps of returns by seed, bool[4, GROUPS]; and last where no group differs, bool[GROUPS]."""
    returns = np.stack([*map(returns_of, range(4)), np.ones((GROUPS, SIZE), np.float32)])
    ask = lambda returns: [chosen(returns, np.ones((GROUPS, SIZE), bool)) for chosen in FILTERS]
    return dict(zip(FILTERS, map(np.asarray, jax.jit(jax.vmap(ask))(returns)), strict=True))


@pytest.mark.parametrize("seed", range(4))
def test_filters_keep_what_numpy_keeps(seed, kept):
    deviation = returns_of(seed).std(axis=1, ddof=1)
    best = np.argsort(-deviation, kind="stable")
    for share, number in SHARES:
        expected = np.isin(np.arange(GROUPS), best[:number])
        np.testing.assert_array_equal(kept[Top(share)][seed], expected)
        np.testing.assert_array_equal(kept[TopK(number)][seed], expected)
        np.testing.assert_array_equal(kept[TopK(number, include_zero=False)][seed], expected & (deviation > 0))
    for options in TOP_P:
        np.testing.assert_array_equal(kept[TopP(*options)][seed], top_p(deviation, *options))
    for p in (0.3, 0.9):
        expected = (deviation >= np.float32(p) * deviation.max()) & (deviation > 0)
        np.testing.assert_array_equal(kept[MinP(p)][seed], expected)
    differ = np.flatnonzero(deviation > 0)[:3]
    np.testing.assert_array_equal(kept[Informative(3)][seed], np.isin(np.arange(GROUPS), differ))


def test_no_group_differs(kept):
    without_zero = (TopP(), TopP(weighting="softmax"), MinP(0.9), Informative(3), Top(include_zero=False))
    assert not any(kept[chosen][-1].any() for chosen in without_zero)
    assert kept[MinP(include_zero=True)][-1].all() and kept[Top(0.25)][-1].sum() == 2


def test_rows_that_are_no_episodes_do_not_count():
    returns = np.array([[1, 1, 1, 50], [0, 1, 0, 0]], np.float32)
    valid = np.array([[True, True, True, False], [True] * 4])
    assert jax.jit(TopK(1))(returns, valid).tolist() == [False, True]


def test_numbers_of_groups_and_errors():
    assert Top(0.25).most(10) == 2 and TopK(3).most(10) == 3 and TopP().most(10) == MinP().most(10) == 10
    for make, message in (
        (lambda: Top(0.25).most(3), "share=0.25 of 3 groups"),
        (lambda: TopK(4).most(3), "number=4"),
        (lambda: Informative(4).most(3), "number=4"),
        (lambda: Top(1.5), "share=1.5"),
        (lambda: TopP(0), "p=0"),
        (lambda: TopP(weighting="equal"), "weighting='equal'"),
        (lambda: TopK(0), "number=0"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
