"""Rules, plans, meshes and batches; numbers on eight devices are compared in test_checkpoint_processes."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AbstractMesh, AxisType
from jax.sharding import PartitionSpec as P

from jaxrl_agents import models
from jaxrl_agents.training import init_sharded, initialize, logical_rules, make_mesh, plan, shard_batch
from jaxrl_agents.training.distributed import agree

RULES = [
    (r"attention/(query|key|value)/kernel$", P(None, "fsdp", "tensor")),
    (r"embedding$", P("tensor", "fsdp")),
    (r"kernel$", P(None, "tensor", "fsdp")),
]


def abstract_mesh(data, fsdp, tensor):
    return AbstractMesh((data, fsdp, tensor), ("data", "fsdp", "tensor"))


def parameters():
    def array(*shape):
        return jax.ShapeDtypeStruct(shape, jnp.float32)

    return {
        "embedding": array(7, 8),
        "layers": {"attention": {"query": {"kernel": array(3, 8, 4)}, "out": {"kernel": array(3, 4, 8)}}},
        "scale": array(8),
    }


def by_path(layout):
    return {placement.path: placement for placement in layout.placements}


def test_first_match_wins_and_what_does_not_divide_is_noted():
    layout = plan(parameters(), abstract_mesh(1, 4, 2), RULES)
    placements = by_path(layout)
    query = placements["layers/attention/query/kernel"]
    assert query.spec == P(None, "fsdp", "tensor") and query.note == ""
    assert query.bytes_per_device == 3 * 2 * 2 * 4
    assert placements["layers/attention/out/kernel"].spec == P(None, "tensor", "fsdp")
    assert placements["embedding"].spec == P(None, "fsdp")
    assert placements["embedding"].note == "dimension 0 of 7 is not divisible by tensor=2: not split"
    assert placements["scale"].spec == P() and placements["scale"].note == "no rule matched: replicated"
    assert [placement.path for placement in layout.replicated] == ["embedding", "scale"]
    assert layout.shardings["embedding"].spec == P(None, "fsdp")


def test_table():
    text = plan(parameters(), abstract_mesh(1, 4, 2), RULES).table()
    lines = text.splitlines()
    assert len(lines) == 6 and lines[0].split() == ["parameter", "shape", "dtype", "spec", "bytes/device", "note"]
    assert lines[2].split()[:3] == ["layers/attention/out/kernel", "3×4×8", "float32"]
    assert "(·, tensor, fsdp)" in lines[2] and lines[2].endswith("48")
    per_device = 7 * 8 // 4 * 4 + 48 + 48 + 32
    assert lines[-1].split() == ["total", f"{per_device:,}", "of", f"{(56 + 96 + 96 + 8) * 4:,}", "in", "all"]


def test_the_same_rules_place_a_whole_training_state():
    def init():
        params = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), parameters())
        return {"params": params, "optimizer": optax.adamw(1e-3).init(params), "key": jax.random.key(0)}

    layout = plan(jax.eval_shape(init), abstract_mesh(1, 4, 2), RULES)
    placements = by_path(layout)
    for moment in ("mu", "nu"):
        (name,) = [path for path in placements if f"/{moment}/layers/attention/query" in path]
        assert placements[name].spec == P(None, "fsdp", "tensor")
    (count,) = [path for path in placements if path.endswith("count")]
    assert placements[count].note == "" and placements["key"].bytes_per_device == 8
    assert jax.tree.structure(layout.shardings) == jax.tree.structure(jax.eval_shape(init))


@settings(deadline=None, max_examples=60)
@given(
    st.tuples(*[st.sampled_from((1, 2, 3, 4))] * 3),
    st.lists(st.integers(1, 12), max_size=4),
    st.permutations((None, None, "data", ("fsdp", "tensor"))),
)
def test_bytes_are_those_of_a_shard(sizes, shape, spec):
    leaf = jax.ShapeDtypeStruct(tuple(shape), jnp.bfloat16)
    layout = plan({"x": leaf}, abstract_mesh(*sizes), [("x", P(*spec[: len(shape)]))])
    (placement,) = layout.placements
    assert placement.bytes_per_device == math.prod(layout.shardings["x"].shard_shape(leaf.shape)) * 2
    for dimension, entry in enumerate(spec[: len(shape)]):
        parts = {None: 1, "data": sizes[0], ("fsdp", "tensor"): sizes[1] * sizes[2]}[entry]
        assert (placement.spec[dimension] == entry) == (entry is None or shape[dimension] % parts == 0)


def test_rules_from_the_axes_of_the_transformer():
    sizes = {"num_actions": 4, "num_words": 10, "num_segments": 2, "num_slots": 5, "num_places": 3}
    model = models.Transformer(models.TransformerConfig(**sizes, num_layers=3, pointer=True))
    params = jax.eval_shape(model.init, jax.random.key(0))
    state = {"params": params, "optimizer": jax.eval_shape(optax.adamw(1e-3).init, params)}
    layout = plan(state, abstract_mesh(2, 2, 2), logical_rules(models.AXES))
    assert not layout.replicated, layout.table()
    layer = {
        "qkv": P("fsdp", "tensor", None, None), "out": P("tensor", None, None, "fsdp"),
        "gate_up": P("fsdp", None, "tensor"), "down": P("tensor", "fsdp"),
        "attention_norm/scale": P(None), "mlp_norm/scale": P(None),
    }  # fmt: skip
    expected = {f"embedding/{name}": P(None, "fsdp") for name in ("word", "segment", "slot", "place")}
    expected |= {f"layers/{name}": P(None, *spec) for name, spec in layer.items()}
    expected |= {f"last_layer/{name}": spec for name, spec in layer.items()}
    expected |= {f"heads/{name}": P("fsdp", None) for name in ("policy", "value", "pointer_query", "pointer_key")}
    expected |= {f"heads/{name}/scale": P(None) for name in ("norm", "pointer_norm")}
    found = {placement.path: placement.spec for placement in layout.placements}
    assert {name: found[f"params/{name}"] for name in expected} == expected
    assert sum(path.startswith("params/") for path in found) == len(expected)
    moments = layout.shardings["optimizer"][0]
    assert moments.mu == moments.nu == layout.shardings["params"]
    assert layout.bytes_per_device < 0.4 * sum(placement.bytes_total for placement in layout.placements)


def test_a_leaf_of_lower_rank_is_replicated():
    (placement,) = plan({"kernel": jnp.ones(4)}, abstract_mesh(1, 2, 2), RULES).placements
    assert placement.spec == P() and placement.note == "(·, tensor, fsdp) has more dimensions: replicated"


def test_rules_are_checked():
    mesh = abstract_mesh(1, 2, 2)
    with pytest.raises(ValueError, match="rule 'kernel' names 'model': the axes of the mesh are data, fsdp, tensor"):
        plan(parameters(), mesh, [("kernel", P("model"))])
    with pytest.raises(ValueError, match=r"rule '\(' is not a regular expression"):
        plan(parameters(), mesh, [("(", P("data"))])
    with pytest.raises(ValueError, match="rule 'kernel' names an axis twice"):
        plan(parameters(), mesh, [("kernel", (("data", "fsdp"), "data"))])


def test_meshes():
    mesh = make_mesh()
    assert mesh.axis_names == ("data", "fsdp", "tensor") and mesh.shape["data"] == jax.device_count()
    assert mesh.axis_types == (AxisType.Auto,) * 3
    one = jax.devices()[:1]
    with pytest.raises(ValueError, match="fsdp=2 × tensor=3 must divide the number of devices, 1"):
        make_mesh(fsdp=2, tensor=3, devices=one)
    with pytest.raises(ValueError, match=r"data=2 × fsdp=2 × tensor=1 = 4 must be the number of devices, 1"):
        make_mesh(2, 2, devices=one)
    with pytest.raises(ValueError, match="tensor must be at least 1, got 0"):
        make_mesh(tensor=0)


def test_batches_and_sharded_initialisation():
    mesh = make_mesh(devices=jax.devices()[:1])
    batch = {"tokens": np.arange(6).reshape(3, 2), "keys": jax.random.split(jax.random.key(0), 3)}
    placed = shard_batch(batch, mesh)
    assert placed["tokens"].sharding.spec == P(("data", "fsdp"))
    assert (placed["tokens"] == batch["tokens"]).all() and (placed["keys"] == batch["keys"]).all()
    with pytest.raises(ValueError, match="batch leaf 'size' is a scalar"):
        shard_batch({"size": np.int32(3)}, mesh)
    weights, layout = init_sharded(
        lambda key: {"kernel": jax.random.normal(key, (1, 2, 2))}, mesh, RULES, jax.random.key(0)
    )
    assert weights["kernel"].sharding == layout.shardings["kernel"]
    np.testing.assert_allclose(weights["kernel"], jax.random.normal(jax.random.key(0), (1, 2, 2)), rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("host:1", None, None), "num_processes and process_id must be given too"),
        ((None, 2, 0), "coordinator_address must be given too"),
        (("host", 2, 0), "coordinator_address must be 'host:port', got 'host'"),
        (("host:port", 2, 0), "coordinator_address must be 'host:port', got 'host:port'"),
        (("host:1", 0, 0), "num_processes must be at least 1, got 0"),
        (("host:1", 2, 2), "process_id must be from 0 to num_processes - 1 = 1, got 2"),
    ],
)
def test_arguments_of_initialize(arguments, message):
    with pytest.raises(ValueError, match=message):
        initialize(*arguments)


def test_agree_in_one_process_is_a_call():
    assert agree(lambda: [1, "a"]) == [1, "a"]
    with pytest.raises(KeyError):
        agree(lambda: {}["x"])
