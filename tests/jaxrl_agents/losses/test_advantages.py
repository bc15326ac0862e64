"""Advantages against plain Python, worked examples, and what must hold for all of them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrl_agents import losses
from tests.jaxrl_agents.losses.libraries import group_z

pytestmark = pytest.mark.usefixtures("quick_compilation")


def gae_reference(rewards, values, mask, discount, decay, bootstrap=None, ends=None):
    """The definition, over the list of each row's own positions: A_t = Σ (γλ)^k δ_{t+k}."""
    advantages = np.zeros(rewards.shape)
    for b, row in enumerate(mask):
        positions = list(np.nonzero(row)[0])
        spans, span = [], []
        for position in positions:
            span.append(position)
            if ends is not None and ends[b, position]:
                spans.append(span)
                span = []
        spans.append(span)
        for span in filter(None, spans):
            after = bootstrap[b] if bootstrap is not None and span is spans[-1] else 0.0
            next_values = [values[b, t] for t in span[1:]] + [after]
            deltas = [rewards[b, t] + discount * v - values[b, t] for t, v in zip(span, next_values, strict=True)]
            for i, t in enumerate(span):
                advantages[b, t] = sum((discount * decay) ** k * delta for k, delta in enumerate(deltas[i:]))
    return advantages, np.where(mask, advantages + values, 0.0)


def bi_level_reference(rewards, values, mask, ends, discount, turn_discount, decay):
    _, returns = gae_reference(rewards, values, ends, turn_discount, decay)
    return gae_reference(np.where(ends, returns, rewards), values, mask, discount, decay, ends=ends)


def gigpo_reference(rewards, anchors, groups, mask, learned, discount, weight, scale, singleton, baseline, eps=1e-6):
    """Dictionaries of lists, as the authors' code, of the steps that are learned from; returns are of all."""
    steps = [(b, t) for b in range(mask.shape[0]) for t in range(mask.shape[1]) if mask[b, t]]
    totals = [sum(rewards[b, t] for b_, t in steps if b_ == b) for b in range(mask.shape[0])]
    episodes, states, returns = {}, {}, {}
    for b in range(mask.shape[0]):
        running = 0.0
        for t in reversed([t for b_, t in steps if b_ == b]):
            running = rewards[b, t] + discount * running
            returns[b, t] = running
            if not learned[b, t]:
                continue
            states.setdefault((groups[b], tuple(np.ravel(anchors[b, t]))), []).append(running)
            if baseline == "step":
                episodes.setdefault(groups[b], []).append(totals[b])
        if baseline == "episode" and learned[b].any():
            episodes.setdefault(groups[b], []).append(totals[b])

    def relative(value, peers, alone):
        if len(peers) == 1:
            return (value / (1 + eps) if scale == "group" else value) if alone == "reward" else 0.0
        return (value - np.mean(peers)) / (np.std(peers, ddof=1) + eps if scale == "group" else 1.0)

    advantages = np.zeros(mask.shape)
    for b, t in zip(*np.nonzero(learned), strict=True):
        state = states[groups[b], tuple(np.ravel(anchors[b, t]))]
        episode = relative(totals[b], episodes[groups[b]], singleton)
        advantages[b, t] = episode + weight * relative(returns[b, t], state, "zero")
    return advantages


def test_equal_rewards_give_exact_zeros():
    for value in (0.1, -0.9, 10.0, 1e6 + 1 / 3):
        rewards = np.full(7, value, np.float32)
        groups = np.array([3, 3, 3, 0, 0, 3, 3])
        assert not np.any(losses.group_advantages(rewards, groups))
        assert not np.any(losses.leave_one_out_advantages(rewards, groups))
        assert not np.any(losses.informative(rewards, groups))


def eight(elements):
    return st.lists(elements, min_size=8, max_size=8).map(np.array)


rows = st.tuples(eight(st.sampled_from([-1.0, 0.0, 0.1, 0.5, 3.0])), eight(st.integers(0, 7)), eight(st.booleans()))


@settings(max_examples=30, deadline=None)
@given(rows, st.sampled_from(["zero", "reward"]), st.booleans())
def test_groups_in_any_order_and_of_any_size(row, singleton, std):
    rewards, groups, valid = row
    expected = np.zeros(len(rewards))
    expected[valid] = group_z(rewards[valid], groups[valid], 1e-6 if std else 0.0, singleton=singleton, std=std)
    with jax.enable_x64(True):
        dirty = np.where(valid, rewards, np.nan)
        options = {"valid": valid, "singleton": singleton}
        actual = losses.group_advantages(dirty, groups, scale="group" if std else "none", **options)
        loo = losses.leave_one_out_advantages(dirty, groups, **options)
        informative = losses.informative(dirty, groups, valid=valid)
    np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-9)
    for i in range(len(rewards)):
        others = [rewards[j] for j in range(len(rewards)) if j != i and valid[j] and groups[j] == groups[i]]
        alone = rewards[i] if singleton == "reward" else 0.0
        baseline = rewards[i] - np.mean(others) if others else alone
        np.testing.assert_allclose(loo[i], baseline if valid[i] else 0.0, atol=1e-9)
        assert informative[i] == (valid[i] and any(other != rewards[i] for other in others))


def test_large_rewards_keep_their_digits():
    rewards = np.array([100000.0, 100000.5, 100001.0], np.float32)
    np.testing.assert_allclose(losses.group_advantages(rewards, np.zeros(3, int)), [-1, 0, 1], atol=1e-5)


def test_dynamic_sampling_takes_whole_groups_in_order():
    rewards = np.array([1, 1, 0, 1, 0, 0, 1, 0], np.float32)
    groups = np.array([5, 5, 2, 2, 7, 7, 0, 0])
    sample = jax.jit(losses.dynamic_sampling, static_argnums=2)
    picked = sample(rewards, groups, 4)
    assert picked.rows.tolist() == [2, 3, 6, 7] and picked.kept.all()
    picked = sample(rewards, groups, 6)
    assert picked.rows.tolist()[:4] == [2, 3, 6, 7] and picked.kept.tolist() == [True] * 4 + [False] * 2
    interleaved = losses.dynamic_sampling(rewards[[2, 6, 3, 7]], np.array([0, 1, 0, 1]), 2)
    assert interleaved.rows.tolist() == [0, 2]
    with pytest.raises(ValueError, match="num_rows=9 is more than the 8 rows"):
        losses.dynamic_sampling(rewards, groups, 9)


def test_overlong_penalty():
    """DAPO's setting, 20480 tokens with a buffer of 4096: verl's min(−excess/buffer·factor, 0) up to the limit."""
    lengths = np.array([0, 16384, 16385, 18432, 20480, 30000])
    verl = [min(-(n - 16384) / 4096 * 1.0, 0.0) for n in lengths[:-1]]
    actual = losses.overlong_penalty(lengths, max_length=20480, buffer=4096)
    np.testing.assert_allclose(actual, [*verl, -1.0], rtol=1e-6)
    assert losses.overlong_penalty(20480, max_length=20480, buffer=4096, penalty=0.5) == -0.5
    with pytest.raises(ValueError, match="buffer=10 must be at most max_length=5"):
        losses.overlong_penalty(3, max_length=5, buffer=10)


@pytest.mark.parametrize("discount, decay", [(1.0, 1.0), (0.9, 0.8), (0.99, 0.0)])
def test_gae(discount, decay):
    rng = np.random.default_rng(0)
    rewards, values, mask = rng.normal(size=(5, 9)), rng.normal(size=(5, 9)), rng.random((5, 9)) < 0.6
    bootstrap = rng.normal(size=5)
    mask[3] = False
    for after in (None, bootstrap):
        expected = gae_reference(rewards, values, mask, discount, decay, after)
        with jax.enable_x64(True):
            dirty = [np.where(mask, x, np.nan) for x in (rewards, values)]
            actual = jax.jit(partial(losses.gae, discount=discount, decay=decay))(*dirty, mask, bootstrap=after)
        np.testing.assert_allclose(actual, expected, rtol=1e-10, atol=1e-12)


def test_gae_of_a_worked_example():
    """γ = 0.5, λ = 0.5: δ = (1 + 0 − 2, 0 + 2 − 0, 3 − 4) = (−1, 2, −1); A = (−1 + ¼·1.75, 2 − ¼, −1)."""
    rewards, values = jnp.array([[1.0, 0.0, 9.0, 3.0]]), jnp.array([[2.0, 0.0, 9.0, 4.0]])
    mask = jnp.array([[True, True, False, True]])
    advantages, returns = losses.gae(rewards, values, mask, discount=0.5, decay=0.5)
    np.testing.assert_allclose(advantages, [[-1 + 1.75 / 4, 1.75, 0, -1]])
    np.testing.assert_allclose(returns, [[1 + 1.75 / 4, 1.75, 0, 3]])


def test_bi_level_gae_of_ragens_example():
    """Rewards at tokens 4 and 9, γ = λ = 1, turn γ = 0.95: turn returns 1 and 1 + 0.95, less the values."""
    rewards = jnp.zeros((1, 10)).at[0, 4].set(1.0).at[0, 9].set(1.0)
    values = jnp.arange(1, 11, dtype=jnp.float32)[None] / 10
    ones = jnp.ones((1, 10), bool)
    advantages, returns = losses.bi_level_gae(rewards, values, ones, rewards != 0, turn_discount=0.95)
    np.testing.assert_allclose(returns, [[1.95] * 5 + [1.0] * 5], rtol=1e-6)
    np.testing.assert_allclose(advantages, returns - values, atol=1e-6)


@pytest.mark.parametrize("discount, turn_discount, decay", [(1.0, 0.95, 1.0), (0.97, 0.9, 0.7)])
def test_bi_level_gae(discount, turn_discount, decay):
    rng = np.random.default_rng(1)
    rewards, values, mask = rng.normal(size=(6, 11)), rng.normal(size=(6, 11)), rng.random((6, 11)) < 0.7
    ends = mask & (rng.random((6, 11)) < 0.4)
    ends[0] = False
    expected = bi_level_reference(rewards, values, mask, ends, discount, turn_discount, decay)
    with jax.enable_x64(True):
        dirty = [np.where(mask, x, np.nan) for x in (rewards, values)]
        options = {"discount": discount, "turn_discount": turn_discount, "decay": decay}
        actual = jax.jit(partial(losses.bi_level_gae, **options))(*dirty, mask, ends)
    np.testing.assert_allclose(actual, expected, rtol=1e-10, atol=1e-12)
    with pytest.raises(ValueError, match="turn_ends is True where the mask is False"):
        losses.bi_level_gae(rewards, values, ends, np.ones_like(mask))


def test_one_token_turns_make_bi_level_gae_plain():
    rng = np.random.default_rng(2)
    rewards, values = rng.normal(size=(3, 6)).astype(np.float32), rng.normal(size=(3, 6)).astype(np.float32)
    mask = np.ones((3, 6), bool)
    plain = losses.gae(rewards, values, mask, discount=0.9, decay=0.5)
    np.testing.assert_allclose(
        losses.bi_level_gae(rewards, values, mask, mask, turn_discount=0.9, decay=0.5), plain, atol=1e-5
    )


def test_whiten():
    rng = np.random.default_rng(3)
    values, mask = rng.normal(3, 2, (4, 5)), rng.random((4, 5)) < 0.6
    kept = values[mask]
    expected = np.zeros((4, 5))
    expected[mask] = (kept - kept.mean()) / np.sqrt(kept.var(ddof=1) + 1e-8)
    with jax.enable_x64(True):
        actual = losses.whiten(np.where(mask, values, np.inf), mask)
    np.testing.assert_allclose(actual, expected, atol=1e-12)
    for size in (0, 1):
        few = np.zeros((4, 5), bool)
        few[0, :size] = True
        assert not np.any(losses.whiten(values.astype(np.float32), few))


@pytest.mark.parametrize(
    "scale, baseline, singleton, words",
    [
        ("none", "episode", "zero", None),
        ("group", "episode", "reward", 2),
        ("none", "step", "reward", 2),
        ("group", "step", "zero", None),
    ],
)
def test_gigpo_against_dictionaries(scale, baseline, singleton, words):
    rng = np.random.default_rng(4)
    rewards = rng.choice([-0.1, 0.9, 10.0], (9, 6))
    anchors = rng.integers(0, 3, (9, 6) if words is None else (9, 6, words)).astype(np.uint32)
    groups = np.array([0, 0, 0, 0, 4, 4, 4, 8, 1])
    mask = np.arange(6) < rng.integers(1, 7, 9)[:, None]
    mask[3] = False
    learned = mask if words is None else mask & (rng.random(mask.shape) < 0.7)
    expected = gigpo_reference(rewards, anchors, groups, mask, learned, 0.95, 0.7, scale, singleton, baseline)
    options = {"step_weight": 0.7, "scale": scale, "singleton": singleton, "baseline": baseline}
    options |= {} if words is None else {"learned": learned}
    with jax.enable_x64(True):
        dirty = np.where(mask, rewards, np.nan)
        actual = jax.jit(partial(losses.gigpo_advantages, **options))(dirty, anchors, groups, mask)
    np.testing.assert_allclose(actual, expected, rtol=1e-8, atol=1e-8)


def test_gigpo_rewards_the_better_action_in_a_shared_state():
    """Two episodes with equal returns pass through state 7; only the step term tells their actions apart."""
    rewards = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]], np.float32)
    anchors = np.array([[1, 7, 2], [3, 7, 4]])
    advantages = jax.jit(partial(losses.gigpo_advantages, discount=1.0))(
        rewards, anchors, np.zeros(2, int), np.ones((2, 3), bool)
    )
    np.testing.assert_allclose(advantages, [[0, 0.5, 0], [0, -0.5, 0]])


def test_errors_name_the_argument():
    rewards, groups, mask = np.zeros(4, np.float32), np.zeros(4, int), np.ones((4, 3), bool)
    steps = np.zeros((4, 3), np.float32)
    for error, message, function in [
        (ValueError, "groups holds 4; ids must be from 0 to 3", lambda: losses.group_advantages(rewards, groups + 4)),
        (ValueError, "groups holds -1", lambda: losses.group_advantages(rewards, groups - 1)),
        (ValueError, r"groups has dtype float32", lambda: losses.group_advantages(rewards, rewards)),
        (TypeError, "rewards has dtype int", lambda: losses.group_advantages(groups, groups)),
        (ValueError, r"rewards has shape \(4, 3\); it must be \[B\]", lambda: losses.group_advantages(steps, groups)),
        (ValueError, "singleton='raw'", lambda: losses.group_advantages(rewards, groups, singleton="raw")),
        (ValueError, r"valid has shape \(3,\)", lambda: losses.group_advantages(rewards, groups, valid=mask[0])),
        (ValueError, "anchors has dtype float32", lambda: losses.gigpo_advantages(steps, steps, groups, mask)),
        (ValueError, "baseline='row'", lambda: losses.gigpo_advantages(steps, mask + 0, groups, mask, baseline="row")),
        (ValueError, r"values has shape \(4,\)", lambda: losses.gae(steps, rewards, mask)),
        (ValueError, r"bootstrap has shape", lambda: losses.gae(steps, steps, mask, bootstrap=steps)),
        (ValueError, r"turn_ends has shape", lambda: losses.bi_level_gae(steps, steps, mask, mask[:, :2])),
    ]:
        with pytest.raises(error, match=message):
            function()
