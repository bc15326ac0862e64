"""Random parameters: the numbers of JAX's initialisers, without their programs."""

import jax
import numpy as np
import pytest

from jaxrl_agents.models import initializers

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
@pytest.mark.parametrize("name", ["normal", "truncated_normal"])
def test_numbers_are_those_of_jax(name, impl):
    key, std = jax.random.key(3, impl=impl), 0.3
    draw = jax.jit(lambda key: getattr(initializers, name)(std)(key, (4, 5, 6)))
    expected = jax.jit(lambda key: getattr(jax.nn.initializers, name)(std)(key, (4, 5, 6)))(key)
    np.testing.assert_allclose(draw(key), expected, rtol=1e-6, atol=1e-7)


def test_truncated_numbers_are_within_two_deviations():
    drawn = np.asarray(jax.jit(lambda key: initializers.truncated_normal(1.0)(key, (100, 1000)))(jax.random.key(0)))
    assert 1.99 < np.abs(drawn).max() < 2 and abs(drawn.mean()) < 0.01
    assert drawn.std() == pytest.approx(0.8796, abs=0.005)  # of the normal distribution cut at ±2
