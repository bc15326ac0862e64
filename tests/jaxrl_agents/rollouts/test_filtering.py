"""Filters against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_agents.rollouts import Informative, MinP, Top, TopK, TopP

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


@pytest.mark.parametrize("seed", range(4))
def test_filters_keep_what_numpy_keeps(seed):
    returns = returns_of(seed)
    deviation = returns.std(axis=1, ddof=1)
    valid = np.ones(returns.shape, bool)
    ask = lambda chosen: np.asarray(jax.jit(chosen)(returns, valid))
    best = np.argsort(-deviation, kind="stable")
    for share, number in ((0.25, 2), (0.7, 5), (1.0, 8)):
        expected = np.isin(np.arange(GROUPS), best[:number])
        np.testing.assert_array_equal(ask(Top(share)), expected)
        np.testing.assert_array_equal(ask(TopK(number)), expected)
        np.testing.assert_array_equal(ask(TopK(number, include_zero=False)), expected & (deviation > 0))
    for p in (0.3, 0.9):
        for weighting in ("linear", "softmax"):
            for include_zero in (False, True):
                expected = top_p(deviation, p, weighting, include_zero)
                np.testing.assert_array_equal(ask(TopP(p, weighting, include_zero)), expected)
        np.testing.assert_array_equal(ask(MinP(p)), (deviation >= np.float32(p) * deviation.max()) & (deviation > 0))
    differ = np.flatnonzero(deviation > 0)[:3]
    np.testing.assert_array_equal(ask(Informative(3)), np.isin(np.arange(GROUPS), differ))


def test_no_group_differs():
    returns, valid = jnp.ones((GROUPS, SIZE)), jnp.ones((GROUPS, SIZE), bool)
    assert not any(chosen(returns, valid).any() for chosen in (TopP(), MinP(), Informative(2), Top(include_zero=False)))
    assert MinP(include_zero=True)(returns, valid).all() and Top(0.5)(returns, valid).sum() == 4


def test_rows_that_are_no_episodes_do_not_count():
    returns = jnp.array([[1.0, 1, 1, 50], [0, 1, 0, 0]])
    valid = jnp.array([[True, True, True, False], [True] * 4])
    assert TopK(1)(returns, valid).tolist() == [False, True]


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
