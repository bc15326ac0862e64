"""Random words: one uint32 for each candidate, from which all its draws are derived.

Candidate i at turn t of a root uses word i of `bits(fold_in(root_key, t))`. The word itself drives the transition; a
proposal and an evaluation draw from hashes of it, so one threefry word a candidate is all that a search pays.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from envs_jax.barriers import once
from envs_jax.random_words import word_pairs

# What a word is used for: the first half of the key data that a model is handed, and an offset of the hash.
STEP, PROPOSE, EVALUATE = range(3)

_LATER_ACTIONS = 16  # offset of the hashes for the second and later actions of a turn
_GOLDEN = np.uint32(0x9E3779B9)  # 2**32 / golden ratio: consecutive multiples are far apart


def root_keys(rng_key: jax.Array, batch_size: int) -> jax.Array:
    """One key per root, [B]: `rng_key` itself where it is a batch of keys, else split from it."""
    return rng_key if rng_key.ndim == 1 else jax.random.split(rng_key, batch_size)


def hashed(keys: jax.Array) -> jax.Array:
    """uint32[B]: a hash of each key [B]."""
    data = jax.random.key_data(keys)
    found = jnp.zeros(keys.shape, jnp.uint32)
    for column in range(data.shape[-1]):
        found = mix(found ^ data[:, column], 1 + column)
    return found


@jax.named_scope("propose")
def turn_words(keys: jax.Array, turn: jax.Array, num_words: int) -> jax.Array:
    """uint32[C, B]: word i of `bits(fold_in(root_key, turn))` for every root; `turn` int32[]."""
    if str(jax.random.key_impl(keys)) != "threefry2x32":
        draw = lambda key: jax.random.bits(jax.random.fold_in(key, turn), (num_words,), jnp.uint32)
        return jax.vmap(draw, out_axes=1)(keys)

    def folded(keys: jax.Array) -> jax.Array:
        pairs = jax.vmap(lambda key: word_pairs(key, turn.astype(jnp.uint32)[None]))(keys)
        return jnp.concatenate(pairs, axis=-1)

    def word(key: jax.Array, number: jax.Array) -> jax.Array:
        first, second = word_pairs(key, number[None])
        return (first ^ second)[0]

    # Word by word over all roots: drawn root by root, they would have to be transposed.
    turn_keys = jax.random.wrap_key_data(once(turn, folded, keys), impl="threefry2x32")
    return jax.vmap(jax.vmap(word, (0, None)), (None, 0))(turn_keys, jnp.arange(num_words, dtype=jnp.uint32))


def words_at(keys: jax.Array, index: jax.Array, num_words: int) -> jax.Array:
    """uint32[B, …]: the words (t, i) of each root, those that `Trajectories.words` names; 0 for negative indices.

    Args:
      keys: the keys of the search, one per root, [B].
      index: int32[B, …, 2].
      num_words: more than the largest i.
    """

    def word(key: jax.Array, index: jax.Array) -> jax.Array:
        drawn = turn_words(key[None], jnp.maximum(index[0], 0), num_words)[:, 0]
        return jnp.where(index[1] < 0, 0, drawn[jnp.maximum(index[1], 0)])

    flat = index.reshape(index.shape[0], -1, 2)
    words = jax.vmap(lambda key, rows: jax.vmap(lambda row: word(key, row))(rows))(keys, flat)
    return words.reshape(index.shape[:-1])


def action_words(words: jax.Array, number: int | jax.Array) -> jax.Array:
    """The words that drive the `number`-th action of turns with these words: the first action has the turn's own."""
    return jnp.where(number == 0, words, mix(words, _LATER_ACTIONS + number))


def mix(words: jax.Array, offset: int | np.ndarray | jax.Array) -> jax.Array:
    """A hash of each word and an offset: the 32-bit finaliser of MurmurHash3 (Appleby, public domain)."""
    words = words + _GOLDEN * jnp.asarray(offset, jnp.uint32)
    words = (words ^ (words >> 16)) * np.uint32(0x85EBCA6B)
    words = (words ^ (words >> 13)) * np.uint32(0xC2B2AE35)
    return words ^ (words >> 16)


def uniform(words: jax.Array) -> jax.Array:
    """float32 in [0, 1), from the upper 23 bits, so that `uniform · x < x` holds in float32 for every x > 0."""
    return (words >> 9).astype(jnp.float32) * np.float32(2**-23)


def gumbel(words: jax.Array) -> jax.Array:
    """Standard Gumbel noise, float32."""
    return -jnp.log(-jnp.log(uniform(words) + np.float32(2**-24)))


def row_keys(words: jax.Array, purpose: int) -> jax.Array:
    """A typed key for each word: what the functions of a model draw from."""
    data = jnp.stack([jnp.full_like(words, purpose), words], axis=-1)
    return jax.random.wrap_key_data(data, impl="threefry2x32")


def word_of(keys: jax.Array) -> jax.Array:
    """uint32[…]: the word of keys that `row_keys` made, and 32 of the bits of any other key."""
    return jax.random.key_data(keys)[..., -1]
