"""Aggregation, supervised and preference losses, log-probabilities and entropies."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrl_agents import losses
from tests.jaxrl_agents.losses.cases import batch, numeric_gradient

pytestmark = pytest.mark.usefixtures("quick_compilation")

LOSSES = np.arange(12.0).reshape(4, 3)
MASK = np.array([[1, 1, 0], [0, 0, 0], [0, 1, 0], [1, 1, 1]], bool)
# Row sums 1, 0, 7, 30; means 0.5, 0, 7, 10; 6 tokens, 3 rows with tokens, 4 rows, length 3.
EXPECTED = {
    "token_mean": 38 / 6,
    "sequence_mean_token_mean": 17.5 / 3,
    "sequence_mean_token_sum": 38 / 3,
    "sequence_mean_token_scale": 38 / 3 / 3,
    "row_mean_token_mean": 17.5 / 4,
    "row_mean_token_sum": 38 / 4,
    "row_mean_token_scale": 38 / 4 / 3,
    "row_sum_token_scale": 38 / 3,
}


@pytest.mark.parametrize("rule", losses.RULES)
def test_every_rule(rule):
    assert set(EXPECTED) == set(losses.RULES)
    arrays = jnp.where(MASK, LOSSES, jnp.nan), MASK
    np.testing.assert_allclose(losses.aggregate(*arrays, rule), EXPECTED[rule], rtol=1e-6)
    scaled = EXPECTED[rule] * (3 / 5 if rule.endswith("scale") else 1)
    np.testing.assert_allclose(losses.aggregate(*arrays, rule, max_length=5), scaled, rtol=1e-6)
    assert losses.aggregate(arrays[0], np.zeros_like(MASK), rule) == 0


def test_aggregate_errors():
    with pytest.raises(ValueError, match="rule='mean' must be one of 'token_mean'"):
        losses.aggregate(LOSSES, MASK, "mean")
    with pytest.raises(ValueError, match="max_length=0 must be at least 1"):
        losses.aggregate(LOSSES, MASK, "row_mean_token_scale", max_length=0)
    with pytest.raises(TypeError, match="mask has dtype float"):
        losses.aggregate(LOSSES, MASK.astype(float))


def test_log_probabilities_and_cross_entropy_are_optax_s():
    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.normal(size=(4, 3, 5)), jnp.float32)
    actions, mask = jnp.asarray(rng.integers(0, 5, (4, 3))), jnp.asarray(MASK)
    each = lambda x: optax.softmax_cross_entropy_with_integer_labels(x, actions)
    np.testing.assert_allclose(-losses.log_prob(logits, actions), each(logits), rtol=1e-5, atol=1e-6)
    graded = lambda loss: jax.jit(jax.value_and_grad(loss))(logits)
    ours = graded(lambda x: losses.negative_log_likelihood(losses.log_prob(x, actions), mask))
    theirs = graded(lambda x: (each(x) * mask).sum() / mask.sum())
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), ours, theirs)


def test_illegal_actions():
    """Legal actions have the probabilities of the smaller policy, and gradients stay finite."""
    logits, legal = jnp.array([[0.5, -jnp.inf, 2.0, -jnp.inf]]), jnp.array([[0.5, 2.0]])
    np.testing.assert_allclose(losses.entropy(logits), losses.entropy(legal), rtol=1e-6)
    np.testing.assert_allclose(
        losses.log_prob(logits, jnp.array([2])), losses.log_prob(legal, jnp.array([1])), rtol=1e-6
    )
    assert losses.log_prob(logits, jnp.array([1])) == -jnp.inf
    probabilities = jax.nn.softmax(legal[0])
    np.testing.assert_allclose(losses.entropy(legal)[0], -(probabilities * jnp.log(probabilities)).sum(), rtol=1e-6)
    for function in (lambda x: losses.entropy(x).sum(), lambda x: losses.log_prob(x, jnp.array([2])).sum()):
        gradient = jax.jit(jax.grad(function))(logits)
        assert np.all(np.isfinite(gradient)) and not np.any(np.asarray(gradient)[0, [1, 3]])
    with pytest.raises(ValueError, match="actions has dtype float32"):
        losses.log_prob(logits, jnp.array([1.0]))


def test_entropy_bounds():
    assert losses.entropy(jnp.array([0.0, -jnp.inf])) == 0
    np.testing.assert_allclose(losses.entropy(jnp.zeros(8)), np.log(8), rtol=1e-6)
    assert losses.entropy(jnp.array([0.0, 200.0])) == 0


def test_negative_log_likelihood_weights():
    case = batch(2)
    weights = np.array([0.0, 1.0, 2.0, 1.0, 0.5, 1.0])
    expected = sum(-case["lp"][i, t] * weights[i] for i, t in zip(*np.nonzero(case["mask"]), strict=True))
    with jax.enable_x64(True):
        dirty = jnp.where(case["mask"], case["lp"], jnp.nan)
        value = losses.negative_log_likelihood(dirty, case["mask"], weights=weights)
        gradient = jax.grad(lambda lp: losses.negative_log_likelihood(lp, case["mask"], weights=weights))(dirty)
    np.testing.assert_allclose(value, expected / case["mask"].sum(), rtol=1e-12)
    np.testing.assert_allclose(gradient, -weights[:, None] * case["mask"] / case["mask"].sum(), rtol=1e-12)


def pairs(seed=0, num_pairs=5):
    rng = np.random.default_rng(seed)
    shapes = [(num_pairs, 6), (num_pairs, 4)]
    arrays = [rng.normal(-1, 1, shape) for shape in (*shapes, *shapes)]
    return arrays, [rng.random(shape) < 0.7 for shape in shapes]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_dpo(smoothing):
    """TRL's "sigmoid" and tunix's smoothed form of it, from the definition; ε = 0 makes them one."""
    (chosen, rejected, ref_chosen, ref_rejected), masks = pairs()
    beta = 0.3

    def expected(chosen):
        total = 0.0
        for p in range(len(chosen)):
            log_ratio = lambda lp, ref, mask, p=p: sum(lp[p, t] - ref[p, t] for t in np.nonzero(mask[p])[0])
            margin = beta * (log_ratio(chosen, ref_chosen, masks[0]) - log_ratio(rejected, ref_rejected, masks[1]))
            total += (1 - smoothing) * np.log1p(np.exp(-margin)) + smoothing * np.log1p(np.exp(margin))
        return total / len(chosen)

    with jax.enable_x64(True):
        dirty = [
            jnp.where(masks[i % 2], x, jnp.nan) for i, x in enumerate((chosen, rejected, ref_chosen, ref_rejected))
        ]
        function = lambda x: losses.dpo_loss(x, *dirty[1:], *masks, beta=beta, label_smoothing=smoothing)[0]
        value, gradient = jax.value_and_grad(function)(dirty[0])
    np.testing.assert_allclose(value, expected(chosen), rtol=1e-12)
    np.testing.assert_allclose(gradient, numeric_gradient(expected, chosen), atol=1e-8)


def test_dpo_pairs_that_do_not_count_and_micro_batches():
    arrays, masks = pairs(1)
    arrays = [x.astype(np.float32) for x in arrays]
    valid = np.array([True, False, True, True, False])
    whole = losses.dpo_loss(*arrays, *masks, valid=valid)
    alone = losses.dpo_loss(*(x[valid] for x in arrays), *(m[valid] for m in masks))
    part = lambda rows: losses.dpo_loss(
        *(x[rows] for x in arrays), *(m[rows] for m in masks), valid=valid[rows], num_pairs=3
    )
    halves = jax.tree.map(jnp.add, part(slice(0, 2)), part(slice(2, 5)))
    for other in (alone, halves):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), whole, other)
    assert losses.dpo_loss(*arrays, *masks, valid=np.zeros(5, bool))[0] == 0


def test_dpo_starts_at_log_two_and_its_metrics():
    arrays, masks = pairs(2)
    chosen, rejected = (x.astype(np.float32) for x in arrays[:2])
    loss, metrics = losses.dpo_loss(chosen, rejected, chosen, rejected, *masks)
    np.testing.assert_allclose(loss, np.log(2), rtol=1e-6)
    assert metrics["margin"] == 0 and metrics["accuracy"] == 0
    _, metrics = losses.dpo_loss(chosen + 1, rejected, chosen, rejected, *masks, beta=0.5)
    np.testing.assert_allclose(metrics["chosen_reward"], 0.5 * masks[0].sum(axis=1).mean(), rtol=1e-5)
    assert metrics["rejected_reward"] == 0
    np.testing.assert_allclose(metrics["accuracy"], masks[0].any(axis=1).mean())


def test_dpo_errors():
    arrays, masks = pairs(3)
    arrays = [x.astype(np.float32) for x in arrays]
    with pytest.raises(ValueError, match=r"label_smoothing=0.7 must be from 0 to 0.5"):
        losses.dpo_loss(*arrays, *masks, label_smoothing=0.7)
    with pytest.raises(ValueError, match="rejected_mask has 4 rows; chosen_mask has 5"):
        losses.dpo_loss(*arrays, masks[0], masks[1][1:])
    with pytest.raises(ValueError, match=r"reference_rejected_log_probs has shape \(5, 6\)"):
        losses.dpo_loss(*arrays[:3], arrays[0], *masks)
