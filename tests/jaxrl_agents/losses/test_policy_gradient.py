"""What must hold for every policy loss: masks, padding, order, micro-batches, corners of the clip, old policies."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrl_agents import losses
from jaxrl_agents.losses import PolicyLoss, presets
from tests.jaxrl_agents.losses.cases import batch, call, numeric_gradient

pytestmark = pytest.mark.usefixtures("quick_compilation")

EXTRAS = {"kl_coefficient": 0.1, "entropy_coefficient": 0.01, "max_length": 9}
LOSSES = {
    "grpo": losses.grpo(**EXTRAS).loss,
    "dr_grpo": losses.dr_grpo(**EXTRAS).loss,
    "gspo": losses.gspo(clip_low=0.1, clip_high=0.1, **EXTRAS).loss,
    "cispo": losses.cispo(clip_high=0.2, **EXTRAS).loss,
    "rloo": losses.rloo(**EXTRAS).loss,
    "verl": presets.verl(use_kl_loss=True, entropy_coeff=0.01, loss_scale_factor=9).loss,
}
TOKEN_ARRAYS = ("lp", "old", "ref", "ent")


@pytest.fixture(params=LOSSES, scope="module")
def evaluate(request):
    """A loss, its metrics and its gradient, of a case."""
    loss = LOSSES[request.param]
    graded = jax.jit(
        lambda lp, case, counts: jax.value_and_grad(lambda lp: call(loss, case, lp, counts=counts), has_aux=True)(lp)
    )
    return lambda case, counts=None: graded(jnp.asarray(case["lp"], jnp.float32), _float32(case), counts)


def _float32(case):
    return {key: value.astype(np.float32) if value.dtype == float else value for key, value in case.items()}


def _close(actual, expected, atol=2e-6):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=atol), actual, expected)


def test_nothing_leaks_from_masked_positions(evaluate):
    case = batch(7)
    clean = evaluate(case)
    for bad in (np.nan, np.inf, -np.inf, 1e30):
        dirty = {key: np.where(case["mask"], case[key], bad) for key in TOKEN_ARRAYS}
        advantages = np.where(case["mask"], case["adv"][:, None], bad)
        (loss, metrics), gradient = evaluate({**case, **dirty, "adv": advantages})
        _close(((loss, metrics), gradient), clean)
        assert not np.any(np.asarray(gradient)[~case["mask"]])


def test_empty_masks_are_safe(evaluate):
    case = batch(7)
    (loss, metrics), gradient = evaluate({**case, "mask": np.zeros_like(case["mask"])})
    assert loss == 0 and not np.any(gradient)
    assert all(value == 0 for value in metrics.values())


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_amount_and_side_do_not_matter(evaluate, side):
    case = batch(8)
    width = ((0, 0), (2, 0) if side == "left" else (0, 2))
    padded = {key: np.pad(case[key], width, constant_values=-9.0) for key in TOKEN_ARRAYS}
    padded["mask"], padded["adv"] = np.pad(case["mask"], width), case["adv"]
    (expected, metrics), gradient = evaluate(case)
    (loss, padded_metrics), padded_gradient = evaluate(padded)
    _close((loss, padded_metrics), (expected, metrics))
    inner = padded_gradient[:, 2:] if side == "left" else padded_gradient[:, :-2]
    _close(inner, gradient)


def test_row_order_does_not_matter(evaluate):
    case, order = batch(9), np.array([4, 2, 0, 5, 1, 3])
    (loss, metrics), gradient = evaluate(case)
    (shuffled, shuffled_metrics), shuffled_gradient = evaluate({key: value[order] for key, value in case.items()})
    _close((shuffled, shuffled_metrics), (loss, metrics))
    _close(shuffled_gradient, gradient[order])


def test_micro_batches_add_up(evaluate):
    case = batch(10)
    (loss, metrics), gradient = evaluate(case)
    counts = losses.count(case["mask"])
    halves = slice(0, 3), slice(3, 6)
    parts = [evaluate({key: value[rows] for key, value in case.items()}, counts) for rows in halves]
    _close(parts[0][0][0] + parts[1][0][0], loss)
    _close(jax.tree.map(jnp.add, parts[0][0][1], parts[1][0][1]), metrics)
    _close(np.concatenate([part[1] for part in parts]), gradient)
    partial = [losses.count(case["mask"][rows]) for rows in halves]
    assert jax.tree.map(int, jax.tree.map(jnp.add, *partial)) == jax.tree.map(int, counts)


@pytest.mark.parametrize("aggregation", ["token_mean", "sequence_mean_token_mean", "row_mean_token_sum"])
def test_the_first_update_is_the_policy_gradient(aggregation):
    """With old = new, clipped, truncated, sequence-level and REINFORCE losses have one gradient: −A·∇log π."""
    case = batch(11)
    policy_gradient = lambda lp: losses.aggregate(-jnp.asarray(case["adv"])[:, None] * lp, case["mask"], aggregation)
    expected = jax.jit(jax.grad(policy_gradient))(jnp.asarray(case["lp"]))
    makers = (losses.grpo, losses.gspo, losses.cispo, losses.rloo)
    for make in makers:
        loss = make(aggregation=aggregation).loss
        graded = jax.jit(jax.grad(lambda lp, loss=loss: loss(lp, None, case["adv"], case["mask"])[0]))
        gradient = graded(jnp.asarray(case["lp"]))
        np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-7)


def test_an_exact_policy_gradient():
    """A bandit: the loss over all actions, weighted by their probabilities, has the gradient of minus the value."""
    logits, rewards = jnp.array([0.3, -1.0, 0.8]), jnp.array([1.0, 0.0, 3.0])

    def loss(logits):
        old = jax.lax.stop_gradient(jax.nn.softmax(logits))
        log_probs = losses.log_prob(jnp.broadcast_to(logits, (3, 1, 3)), jnp.arange(3)[:, None])
        advantages = (rewards - old @ rewards) * old
        return losses.rloo().loss(log_probs, None, advantages, jnp.ones((3, 1), bool))[0] * 3

    expected = jax.jit(jax.grad(lambda logits: -jax.nn.softmax(logits) @ rewards))(logits)
    np.testing.assert_allclose(jax.jit(jax.grad(loss))(logits), expected, rtol=1e-5)


@pytest.mark.parametrize(
    "ratio, advantage, loss, gradient",
    [
        (1.0, 2.0, -2.0, -2.0),
        (1.28, 1.0, -1.28, -1.28),  # on the upper bound: as inside
        (1.3, 1.0, -1.28, 0.0),
        (0.5, 1.0, -0.5, -0.5),  # a bad ratio for a good token is free to rise
        (0.8, -1.0, 0.8, 0.8),  # on the lower bound
        (0.7, -1.0, 0.8, 0.0),
        (1.3, -1.0, 1.3, 1.3),  # a bad token that became likelier is free to fall
        (3.0, -1.0, 3.0, 3.0),  # on the dual clip
        (5.0, -2.0, 6.0, 0.0),
        (5.0, 0.0, 0.0, 0.0),
    ],
)
def test_corners_of_the_clip(ratio, advantage, loss, gradient):
    def token(log_ratio):
        with_bounds = {"clip_low": 0.2, "clip_high": 0.28, "dual_clip": 3.0}
        return losses.clipped_surrogate(jnp.exp(log_ratio), jnp.float64(advantage), **with_bounds).losses

    with jax.enable_x64(True):
        exact = jnp.float64(ratio)
        value = losses.clipped_surrogate(exact, jnp.float64(advantage), clip_low=0.2, clip_high=0.28, dual_clip=3.0)
        slope = jax.grad(
            lambda r: losses.clipped_surrogate(r, advantage, clip_low=0.2, clip_high=0.28, dual_clip=3.0).losses
        )(exact)
        np.testing.assert_allclose(value.losses, loss, rtol=1e-12)
        np.testing.assert_allclose(slope * exact, gradient, rtol=1e-12)
        np.testing.assert_allclose(token(jnp.log(exact)), loss, rtol=1e-12)


@settings(max_examples=200, deadline=None)
@given(
    ratio=st.floats(0.01, 20),
    advantage=st.floats(-5, 5),
    low=st.floats(0, 0.9),
    high=st.floats(0, 2),
    dual=st.none() | st.floats(1, 10),
)
def test_the_surrogate_is_the_published_formula(ratio, advantage, low, high, dual):
    expected = -min(ratio * advantage, min(max(ratio, 1 - low), 1 + high) * advantage)
    if dual is not None and advantage < 0:
        expected = min(-dual * advantage, expected)
    with jax.enable_x64(True):
        actual = losses.clipped_surrogate(
            jnp.float64(ratio), jnp.float64(advantage), clip_low=low, clip_high=high, dual_clip=dual
        )
    if dual is None or dual >= 1 - low:
        np.testing.assert_allclose(actual.losses, expected, rtol=1e-9, atol=1e-12)


def test_later_epochs_use_the_frozen_old_policy():
    """μ = 2: after a step the ratio is off 1, and the gradient is that of the definition at the new point."""
    case = batch(12)
    with jax.enable_x64(True):
        loss = losses.grpo(clip_high=0.3).loss
        old = jnp.asarray(case["lp"])
        value = lambda lp: loss(lp, old, jnp.asarray(case["adv"]), jnp.asarray(case["mask"]))
        first = jax.grad(lambda lp: value(lp)[0])(old)
        second = old - 0.5 * first
        assert value(old)[1]["old_kl"] == 0 < value(second)[1]["old_kl"]
        np.testing.assert_allclose(
            jax.grad(lambda lp: value(lp)[0])(second),
            numeric_gradient(lambda lp: float(value(jnp.asarray(lp))[0]), np.asarray(second)),
            atol=1e-8,
        )
        blocked = jax.grad(lambda old: loss(second, old, jnp.asarray(case["adv"]), jnp.asarray(case["mask"]))[0])(old)
        assert not np.any(blocked)


def test_advantages_of_tokens():
    case = batch(13)
    loss = losses.grpo().loss
    rows = np.broadcast_to(case["adv"][:, None], case["mask"].shape)
    np.testing.assert_allclose(call(loss, {**case, "adv": rows})[0], call(loss, case)[0], rtol=1e-6)


def test_metrics():
    mask = jnp.array([[True, True, True, False]])
    old = jnp.zeros((1, 4))
    lp = jnp.log(jnp.array([[1.5, 0.5, 1.0, 9.0]]))
    loss, metrics = PolicyLoss()(lp, old, jnp.array([1.0]), mask, reference_log_probs=lp, entropies=jnp.ones((1, 4)))
    np.testing.assert_allclose(loss, -(1.2 + 0.5 + 1.0) / 3, rtol=1e-6)
    np.testing.assert_allclose(metrics["clip_fraction"], 1 / 3)
    ratio = np.array([1.5, 0.5, 1.0])
    np.testing.assert_allclose(metrics["old_kl"], np.mean(ratio - 1 - np.log(ratio)), rtol=1e-6)
    assert metrics["reference_kl"] == 0 and metrics["entropy"] == 1
    assert set(PolicyLoss()(lp, old, jnp.array([1.0]), mask)[1]) == {"policy_loss", "clip_fraction", "old_kl"}


def test_half_precision_is_computed_in_float32():
    case = batch(14)
    half = {key: jnp.asarray(value, jnp.bfloat16) if value.dtype == float else value for key, value in case.items()}
    full = {key: value.astype(jnp.float32) if value.dtype != bool else value for key, value in half.items()}
    loss = LOSSES["grpo"]
    assert call(loss, half)[0].dtype == jnp.float32
    assert call(loss, half)[0] == call(loss, full)[0]


@pytest.mark.parametrize("clip", [None, 0.2])
def test_value_loss(clip):
    case = batch(15)
    values, old, returns, mask = case["lp"], case["old"], case["ref"], case["mask"]

    def expected(values):
        total = 0.0
        for index in zip(*np.nonzero(mask), strict=True):
            error = (values[index] - returns[index]) ** 2
            if clip is not None:
                held = min(max(values[index], old[index] - clip), old[index] + clip)
                error = max(error, (held - returns[index]) ** 2)
            total += 0.5 * error
        return total / mask.sum()

    with jax.enable_x64(True):
        arrays = [jnp.where(mask, x, jnp.nan) for x in (values, returns, old)]
        function = lambda v: losses.value_loss(v, arrays[1], mask, old_values=arrays[2], clip=clip)
        value, gradient = jax.value_and_grad(function)(arrays[0])
    np.testing.assert_allclose(value, expected(values), rtol=1e-12)
    np.testing.assert_allclose(gradient, numeric_gradient(expected, values), atol=1e-8)


def test_errors_come_before_tracing():
    case = batch(1)
    lp, old, adv, mask = (jnp.asarray(case[key]) for key in ("lp", "old", "adv", "mask"))
    loss = losses.grpo().loss
    for error, message, arguments in [
        (TypeError, "mask has dtype int32; it must be bool", (lp, old, adv, mask.astype(jnp.int32))),
        (ValueError, r"mask has shape \(6,\); it must be \[B, T\]", (lp, old, adv, mask[:, 0])),
        (ValueError, r"log_probs has shape \(6, 6\); it must be \(6, 7\)", (lp[:, 1:], old, adv, mask)),
        (ValueError, r"old_log_probs has shape \(5, 7\)", (lp, old[1:], adv, mask)),
        (ValueError, r"advantages has shape \(7,\); it must be \(6,\) or \(6, 7\)", (lp, old, adv[:1].repeat(7), mask)),
        (TypeError, "log_probs has dtype int32; it must be floating point", (lp.astype(int), old, adv, mask)),
    ]:
        with pytest.raises(error, match=message):
            loss(*arguments)
        with pytest.raises(error, match=message):
            jax.eval_shape(loss, *arguments)
    with pytest.raises(ValueError, match=r"kl_coefficient=0.1 needs reference_log_probs"):
        losses.grpo(kl_coefficient=0.1).loss(lp, old, adv, mask)
    with pytest.raises(ValueError, match=r"entropy_coefficient=0.1 needs entropies"):
        losses.grpo(entropy_coefficient=0.1).loss(lp, old, adv, mask)
    with pytest.raises(ValueError, match=r"clip=0.2 needs old_values"):
        losses.value_loss(lp, old, mask, clip=0.2)


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("surrogate", "clip", "surrogate='clip' must be one of 'clipped', 'truncated', 'reinforce'"),
        ("ratio", "turn", "ratio='turn' must be one of"),
        ("aggregation", "mean", "aggregation='mean' must be one of 'token_mean'"),
        ("kl_aggregation", "mean", "kl_aggregation='mean'"),
        ("kl_estimator", "k4", "kl_estimator='k4' must be one of 'k1', 'k2', 'k3'"),
        ("clip_low", 1.5, "clip_low=1.5 must be from 0 to 1"),
        ("clip_high", -2.0, "clip_high=-2.0 must be from -1"),
        ("dual_clip", 0.5, "dual_clip=0.5 must be from 1"),
        ("kl_coefficient", -1.0, "kl_coefficient=-1.0 must be from 0"),
        ("kl_coefficient", float("nan"), "kl_coefficient=nan"),
        ("max_length", 0, "max_length=0 must be at least 1"),
    ],
)
def test_fields_are_checked(field, value, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(PolicyLoss(), **{field: value})


def test_fields_have_types():
    with pytest.raises(TypeError, match="clip_low='0.2' must be a number"):
        PolicyLoss(clip_low="0.2")
    with pytest.raises(TypeError, match=r"max_length=1.5 is not an integer"):
        PolicyLoss(max_length=1.5)
