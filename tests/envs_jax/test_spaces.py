"""Spaces: samples belong, near misses do not."""

import jax
import numpy as np
import pytest

from envs_jax import spaces

EXAMPLES = [
    spaces.Discrete(5),
    spaces.Box(0, 6, (3, 4), np.uint8),
    spaces.Box(-1.5, 2.0, (2,), np.float32),
    spaces.Box(0, 1, (6,), np.bool_),
    spaces.Dict({"grid": spaces.Box(0, 255, (2, 2), np.uint8), "index": spaces.Discrete(3)}),
]


@pytest.mark.parametrize("space", EXAMPLES, ids=lambda space: type(space).__name__)
def test_samples_belong(space):
    samples = [jax.tree.map(np.asarray, space.sample(jax.random.key(i))) for i in range(8)]
    assert all(space.contains(sample) for sample in samples)
    assert any(
        not np.array_equal(a, b)
        for sample in samples[1:]
        for a, b in zip(jax.tree.leaves(samples[0]), jax.tree.leaves(sample), strict=True)
    )


def test_what_does_not_belong():
    discrete, box = spaces.Discrete(5), spaces.Box(0, 6, (2,), np.uint8)
    assert discrete.contains(4)
    for wrong in (5, -1, 1.0, [1]):
        assert not discrete.contains(wrong)
    assert box.contains(np.array([0, 6], np.uint8))
    for wrong in (np.array([0, 7], np.uint8), np.zeros(3, np.uint8), np.zeros(2, np.int32)):
        assert not box.contains(wrong)
    both = spaces.Dict({"a": discrete})
    assert both.contains({"a": 1}) and not both.contains({"b": 1}) and not both.contains({"a": 9})
