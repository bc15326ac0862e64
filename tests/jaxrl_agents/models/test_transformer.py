"""The transformer against NumPy, its symmetries, and the cache against the full forward."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_agents.models import Tokens, Transformer, TransformerConfig
from jaxrl_agents.models.attention import rotary_angles, rotate
from tests.jaxrl_agents.models import reference

pytestmark = pytest.mark.usefixtures("quick_compilation")

SMALL = TransformerConfig(
    num_actions=3, num_words=9, num_segments=3, num_slots=4, num_places=5,
    d_model=16, num_layers=3, num_heads=4, num_kv_heads=2, pointer=True, end_of_turn=True,
)  # fmt: skip
MODEL = Transformer(SMALL)
apply = jax.jit(MODEL.apply)


@functools.cache
def parameters():
    """Random everywhere, also where `init` has zeros and ones; about as large as `init` makes them."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(MODEL.init, jax.random.key(0))
    random = lambda shape: (0.4 * rng.normal(size=shape)).astype(np.float32)
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: random(leaf.shape) + float(path[-1].key == "scale"), shapes
    )


def random_tokens(seed=0, batch=3, length=12, readouts=2, padding=0.3):
    rng = np.random.default_rng(seed)
    draw = lambda high: rng.integers(0, high, (batch, length))
    mask = rng.random((batch, length)) >= padding
    readout = np.array([rng.choice(np.flatnonzero(row), readouts, replace=False) for row in mask])
    block = np.cumsum(rng.random((batch, length)) < 0.25, axis=1)
    return Tokens(draw(12), readout, draw(3), draw(4), draw(5), block, mask)


def row(tokens, b):
    fields = {field.name: getattr(tokens, field.name) for field in dataclasses.fields(tokens)}
    return {name: np.asarray(leaf[b]) for name, leaf in fields.items()}


def sliced(tokens, start, stop):
    """A part of a stream, every token of it read out."""
    part = jax.tree.map(lambda leaf: leaf[:, start:stop], tokens.replace(readout=tokens.word))
    return part.replace(readout=np.broadcast_to(np.arange(stop - start), part.word.shape))


def test_equals_numpy():
    tokens, params = random_tokens(), parameters()
    logits, value, cache = apply(params, tokens)
    assert cache is None and logits.dtype == value.dtype == jnp.float32
    wide = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    for b in range(3):
        expected_logits, expected_value = reference.forward(SMALL, wide, row(tokens, b))
        np.testing.assert_allclose(logits[b], expected_logits, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(value[b], expected_value, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("branches", [False, True], ids=["one-cache", "branch"])
def test_cache_equals_full_forward_of_ragged_rows_also_after_gathers(branches):
    params, tokens = parameters(), random_tokens(seed=3, length=12)
    tokens = tokens.replace(block=np.repeat(np.arange(4), 3)[None].repeat(3, 0))
    parents = np.array([2, 0, 2])
    cache = MODEL.init_cache(3, 12)
    stream = tokens
    for turn in range(4):
        if turn == 2:  # rows continue other rows' past
            gathered = jax.tree.map(lambda leaf: leaf[parents], tokens)
            splice = lambda old, new: np.concatenate([old[:, :6], new[:, 6:]], axis=1)
            stream = jax.tree.map(splice, gathered.replace(readout=gathered.word), tokens.replace(readout=tokens.word))
            cache = cache.rows(parents)
            cache = MODEL.init_cache(3, 6).after(cache) if branches else cache
        part = sliced(stream, 3 * turn, 3 * turn + 3)
        logits, value, cache = apply(params, part, cache)
        full_logits, full_value, _ = apply(params, sliced(stream, 0, 12))
        there = stream.mask[:, 3 * turn : 3 * turn + 3]
        at = slice(3 * turn, 3 * turn + 3)
        np.testing.assert_allclose(logits[there], full_logits[:, at][there], rtol=2e-4, atol=2e-4)
        np.testing.assert_allclose(value[there], full_value[:, at][there], rtol=2e-4, atol=2e-4)
    np.testing.assert_array_equal(cache.seen, stream.mask.sum(1))
    assert len(set(np.asarray(cache.seen).tolist())) > 1, "rows must be ragged for this test to mean anything"


def test_amount_and_side_of_padding_do_not_matter():
    params, tokens = parameters(), random_tokens(padding=0)
    base = apply(params, tokens)
    for before, after in ((3, 1), (0, 4), (4, 0)):
        pad = lambda leaf, before=before, after=after: np.pad(leaf, [(0, 0), (before, after)], mode="edge")
        padded = jax.tree.map(pad, tokens.replace(readout=tokens.word)).replace(
            readout=tokens.readout + before, mask=np.pad(tokens.mask, [(0, 0), (before, after)])
        )
        for a, b in zip(apply(params, padded)[:2], base[:2], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_a_row_that_overflows_is_nan_and_others_are_not():
    tokens = random_tokens(padding=0)
    tokens = tokens.replace(mask=np.arange(12) < np.array([[12], [7], [8]]), readout=np.zeros((3, 1), int))
    logits, value, cache = apply(parameters(), tokens, MODEL.init_cache(3, 8))
    np.testing.assert_array_equal(np.isnan(value[:, 0]), [True, False, False])
    np.testing.assert_array_equal(np.isnan(logits).all((1, 2)), [True, False, False])
    np.testing.assert_array_equal(cache.overflowed, [True, False, False])
    np.testing.assert_array_equal(MODEL.init_cache(3, 4).after(cache).overflowed, [True, False, False])


def test_blocks_are_causal_outside_and_bidirectional_inside():
    tokens = random_tokens(batch=1, padding=0).replace(block=np.repeat(np.arange(4), 3)[None])
    tokens = sliced(tokens, 0, 12)
    base = apply(parameters(), tokens)[1][0]
    for t in range(12):
        word = tokens.word.copy()
        word[0, t] = (word[0, t] + 1) % 12
        changed = np.abs(apply(parameters(), tokens.replace(word=word))[1][0] - base) > 1e-6
        np.testing.assert_array_equal(changed, np.arange(12) // 3 >= t // 3)


def test_rotary_products_depend_on_the_distance_alone():
    q, k = np.random.default_rng(0).normal(size=(2, 1, 1, 1, 8)).astype(np.float32)
    rotated = jax.jit(lambda x, position: rotate(x, rotary_angles(position[None, None], 8, 100.0)))
    at = lambda x, position: np.asarray(rotated(x, np.int32(position)))
    product = lambda a, b: (at(q, a) * at(k, b)).sum()
    assert product(3, 7) == pytest.approx(product(53, 57), rel=1e-4)
    assert product(3, 7) != pytest.approx(product(7, 3), rel=1e-3)
    assert (at(q, 9) ** 2).sum() == pytest.approx((q**2).sum(), rel=1e-5)


def test_grouped_heads_equal_repeated_heads():
    def repeated(path, leaf):
        if path[-1].key not in ("qkv", "out"):
            return leaf
        axis = leaf.ndim - (3 if path[-1].key == "qkv" else 4)
        if path[-1].key == "out":  # [kv, group, h, d] -> [kv · group, 1, h, d]
            return leaf.reshape(*leaf.shape[:axis], 4, 1, *leaf.shape[axis + 2 :])
        queries, shared = leaf[..., :2, :], leaf[..., 2:, :]
        queries = queries.reshape(*leaf.shape[:axis], 4, 1, leaf.shape[-1])
        return np.concatenate([queries, np.repeat(shared, 2, axis=axis)], axis=-2)

    many = Transformer(dataclasses.replace(SMALL, num_kv_heads=None))
    params = jax.tree_util.tree_map_with_path(repeated, parameters())
    assert jax.tree.map(np.shape, params) == jax.tree.map(np.shape, jax.eval_shape(many.init, jax.random.key(0)))
    same = apply(parameters(), random_tokens())[:2]
    for a, b in zip(jax.jit(many.apply)(params, random_tokens())[:2], same, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_unrolled_equals_scanned_and_bfloat16_is_close():
    base = apply(parameters(), random_tokens())
    for fields, tolerance in (({"unroll": True}, 1e-5), ({"dtype": "bfloat16"}, 0.05)):
        other = Transformer(dataclasses.replace(SMALL, **fields))
        logits, value, _ = jax.jit(other.apply)(parameters(), random_tokens())
        assert logits.dtype == value.dtype == jnp.float32
        np.testing.assert_allclose(logits, base[0], atol=tolerance * 3 * np.std(base[0]))
    assert (np.asarray(logits) != base[0]).any(), "bfloat16 must be in use"
    assert other.init_cache(1, 2).keys.dtype == jnp.bfloat16


def test_lengths_do_not_retrace():
    traces = []
    counted = jax.jit(lambda *args: traces.append(1) or MODEL.apply(*args))
    cache = MODEL.init_cache(3, 12)
    for seed in range(3):
        _, _, cache = counted(parameters(), random_tokens(seed, length=4, readouts=1), cache)
    assert len(traces) == 1


@pytest.mark.parametrize(
    "fields", [{}, {"pointer": False, "num_slots": 0}, {"num_layers": 1, "d_ff": 20, "head_dim": 6}]
)
def test_parameters_are_counted(fields):
    config = dataclasses.replace(SMALL, **fields)
    shapes = jax.eval_shape(Transformer(config).init, jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == config.num_parameters


def matrix_operations(jaxpr):
    """Two for each multiplication with addition of all matrix products, as often as loops run them."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            sizes = [equation.invars[0].aval.shape[axis] for axis in contracted]
            total += 2 * equation.outvars[0].aval.size * math.prod(sizes)
        inner = jax.tree.leaves([equation.params.get(name) for name in ("jaxpr", "call_jaxpr")])
        total += equation.params.get("length", 1) * sum(matrix_operations(part) for part in inner)
    return total


@pytest.mark.parametrize("fields", [{}, {"pointer": False, "num_slots": 0, "num_layers": 1}])
@pytest.mark.parametrize("capacity", [0, 14])
def test_operations_are_counted(fields, capacity):
    model = Transformer(dataclasses.replace(SMALL, **fields))
    params = jax.eval_shape(model.init, jax.random.key(0))
    cache = model.init_cache(3, capacity) if capacity else None
    tokens = random_tokens() if model.config.pointer else random_tokens().replace(slot=None)
    traced = jax.make_jaxpr(model.apply)(params, tokens, cache)
    assert matrix_operations(traced.jaxpr) == 3 * model.config.forward_flops(12, 2, capacity)


def test_gradients_are_finite_and_reach_every_parameter():
    tokens = random_tokens(seed=5)
    loss = lambda params: sum(jnp.sum(jnp.sin(leaf)) for leaf in MODEL.apply(params, tokens)[:2])
    for path, leaf in jax.tree_util.tree_leaves_with_path(jax.jit(jax.grad(loss))(parameters())):
        assert np.isfinite(leaf).all() and np.any(leaf != 0), jax.tree_util.keystr(path)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"d_model": 18}, "num_heads=4 does not divide d_model=18"),
        ({"num_kv_heads": 3}, "num_kv_heads=3 does not divide num_heads=4"),
        ({"head_dim": 5}, "head_dim=5 is odd"),
        ({"d_model": 20}, "d_model=20 over num_heads=4: a width of 5 is odd"),
        ({"num_layers": 0}, "num_layers=0 must be an integer of at least 1"),
        ({"num_slots": -1}, "num_slots=-1 must be an integer of at least 0"),
        ({"dtype": "float16"}, "dtype='float16'"),
        ({"rope_theta": 0.0}, "rope_theta=0.0 must be a positive number"),
        ({"num_slots": 0}, "pointer=True needs num_slots = num_actions"),
    ],
)
def test_bad_configurations(fields, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **fields)


def test_bad_tokens():
    tokens = random_tokens()
    with pytest.raises(ValueError, match="num_segments=3, but tokens.segment is None"):
        MODEL.apply(parameters(), tokens.replace(segment=None))
    with pytest.raises(ValueError, match=r"tokens.mask has shape \(3, 2\)"):
        MODEL.apply(parameters(), tokens.replace(mask=tokens.mask[:, :2]))
    with pytest.raises(ValueError, match="the cache has 2 rows, the tokens have 3"):
        MODEL.apply(parameters(), tokens, MODEL.init_cache(2, 20))
    with pytest.raises(ValueError, match="capacity=0"):
        MODEL.init_cache(2, 0)
