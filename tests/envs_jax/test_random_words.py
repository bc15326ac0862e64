"""The written-out threefry gives JAX's bits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs_jax.random_words import check_key, random_words, word_pairs


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_words_are_those_of_jax(impl, size):
    for seed in (0, 1, 2**31 - 1):
        key = jax.random.key(seed, impl=impl)
        words = jax.jit(random_words, static_argnums=1)(key, size)
        np.testing.assert_array_equal(words, jax.random.bits(key, (size,), jnp.uint32))


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_pairs_are_the_data_of_derived_keys(impl):
    key = jax.random.key(3, impl=impl)
    index = np.array([0, 1, 5, 2**32 - 1], np.uint32)
    pairs = jax.jit(word_pairs)(key, index)
    derived = [jax.random.key_data(jax.random.fold_in(key, i)) for i in index]
    np.testing.assert_array_equal(np.stack(pairs, axis=1), np.stack(derived)[:, :2])


def test_raw_keys_are_refused():
    with pytest.raises(TypeError, match=r"typed key, jax.random.key\(seed\); got uint32\[2\]"):
        random_words(jax.random.PRNGKey(0), 4)


def test_numbers_of_words_are_integers():
    with pytest.raises(TypeError, match=r"num_words=2\.5 is not an integer"):
        random_words(jax.random.key(0), 2.5)
    with pytest.raises(ValueError, match=r"num_words=-1 is not in 0 …"):
        random_words(jax.random.key(0), -1)


def test_only_one_typed_key_is_a_key():
    check_key(jax.random.key(0))
    jax.jit(check_key)(jax.random.key(0))
    jax.vmap(check_key)(jax.random.split(jax.random.key(0), 3))
    for value in (0, None, "key", np.uint32(3), jnp.float32(0), np.zeros(2, np.uint32)):
        with pytest.raises(TypeError, match="key must be a typed key"):
            check_key(value)
    with pytest.raises(ValueError, match=r"got an array of keys of shape \(3,\)"):
        check_key(jax.random.split(jax.random.key(0), 3))
