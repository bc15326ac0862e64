"""KL estimators: exact values, gradients, and accuracy near 0 in float32."""

import math
from decimal import Decimal, localcontext

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_agents import losses

pytestmark = pytest.mark.usefixtures("quick_compilation")


def exact_k3(d):
    with localcontext() as context:
        context.prec = 60
        return float(Decimal(float(d)).exp() - 1 - Decimal(float(d)))


POINTS = np.concatenate(
    [[0.0], *([s * np.logspace(-8, 1.3, 120)] for s in (1, -1)), [0.3, -0.3, 5, 25, -80]], axis=None
)


@pytest.mark.parametrize("x64, tolerance", [(False, 2e-6), (True, 1e-14)])
def test_k3_is_accurate_everywhere(x64, tolerance):
    with jax.enable_x64(x64):
        points = np.asarray(jnp.asarray(POINTS))
        values, gradients = jax.jit(jax.vmap(jax.value_and_grad(losses.k3)))(points)
    np.testing.assert_allclose(values, [exact_k3(d) for d in points], rtol=tolerance)
    np.testing.assert_allclose(gradients, [math.expm1(d) for d in points], rtol=tolerance, atol=1e-45)
    assert np.all(np.asarray(values) >= 0)


def test_the_formula_as_written_is_not():
    d = jnp.float32(1e-4) * jnp.linspace(-1, 1, 1000)
    assert np.any(np.asarray(jnp.exp(d) - d - 1) < 0)
    assert np.all(np.asarray(losses.k3(d)) >= 0)


def test_k3_overflows_to_infinity_not_nan():
    value, gradient = jax.value_and_grad(losses.k3)(jnp.float32(1e5))
    assert value == jnp.inf and gradient == jnp.inf


def test_estimators_and_their_gradients_in_expectation():
    """Over all actions of a policy: k1 and k3 average to KL; gradients are 0, ∇KL(π‖ρ) and ∇KL(ρ‖π)."""
    logits, reference = jnp.array([0.2, -0.7, 1.1]), jax.nn.log_softmax(jnp.array([0.9, 0.1, -0.4]))
    kl = lambda p, q: (jnp.exp(p) * (p - q)).sum()
    forward = lambda x: kl(jax.nn.log_softmax(x), reference)
    backward = lambda x: kl(reference, jax.nn.log_softmax(x))

    def expectation(x, estimator):
        log_probs = jax.nn.log_softmax(x)[None]
        estimates = losses.kl_divergence(log_probs, reference[None], jnp.ones((1, 3), bool), estimator=estimator)
        return (jax.lax.stop_gradient(jnp.exp(log_probs)) * estimates).sum()

    for estimator, gradient in [
        ("k1", jnp.zeros(3)),
        ("k2", jax.jit(jax.grad(forward))(logits)),
        ("k3", jax.jit(jax.grad(backward))(logits)),
    ]:
        value, found = jax.jit(jax.value_and_grad(expectation), static_argnums=1)(logits, estimator)
        np.testing.assert_allclose(found, gradient, atol=1e-6)
        if estimator != "k2":
            np.testing.assert_allclose(value, forward(logits), rtol=1e-5)


def test_bounds_and_masks():
    log_probs = jnp.array([[0.0, 0.0, -30.0, jnp.nan]])
    reference = jnp.array([[25.0, 0.5, 0.0, 0.0]])
    mask = jnp.array([[True, True, True, False]])
    plain = losses.kl_divergence(log_probs, reference, mask)
    np.testing.assert_allclose(plain[0, :2], [exact_k3(25), exact_k3(0.5)], rtol=1e-6)
    held = losses.kl_divergence(log_probs, reference, mask, log_ratio_bound=20.0, bound=10.0)
    np.testing.assert_allclose(held, [[10, exact_k3(0.5), 10, 0]], rtol=1e-6)
    only_ratio = losses.kl_divergence(log_probs, reference, mask, log_ratio_bound=20.0)
    np.testing.assert_allclose(only_ratio[0, [0, 2]], exact_k3(20), rtol=1e-6)
    gradient = jax.grad(lambda r: losses.kl_divergence(log_probs, r, mask).sum())(reference)
    assert not np.any(gradient)
    with pytest.raises(ValueError, match="estimator='abs' must be one of 'k1', 'k2', 'k3'"):
        losses.kl_divergence(log_probs, reference, mask, estimator="abs")
