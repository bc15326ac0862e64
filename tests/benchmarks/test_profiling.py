"""Reading compiled programs and traces."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks import hlo
from benchmarks.profile_report import kind
from benchmarks.profiling import Cost, own_times

pytestmark = pytest.mark.usefixtures("optimized_programs")


def compiled(function, *arguments):
    return hlo.parse(jax.jit(function).lower(*arguments).compile().as_text())


def scaled_sum(x, y):
    return (x + y) * x - 3


def test_operations_and_traffic_of_elementwise_work():
    module = compiled(scaled_sum, jnp.ones(1024, jnp.int32), jnp.ones(1024, jnp.int32))
    top = [i for i in module.instructions.values() if i.opcode == "fusion"]
    (fusion,) = top
    assert module.operations(fusion) == 3 * 1024
    assert module.traffic(fusion) == 3 * 4 * 1024
    assert fusion.source.endswith("test_profiling.py:scaled_sum")


def test_a_gather_reads_what_it_fetches():
    table, index = jnp.zeros(1 << 20, jnp.float32), jnp.arange(128, dtype=jnp.int32)
    module = compiled(lambda table, index: table[index] * 2, table, index)
    total = sum(module.traffic(i) for i in module.instructions.values() if i.opcode in ("fusion", "gather"))
    assert 2 * 4 * 128 <= total <= 16 * 4 * 128


def test_opcodes_leave_out_what_is_inside_fusions():
    loop = lambda x: jax.lax.while_loop(lambda c: c[0] < 9, lambda c: (c[0] + 1, jnp.sin(c[1]) + c[1]), (0, x))
    counts = compiled(loop, jnp.ones(64)).opcodes()
    assert counts["while"] == 1
    assert counts["sine"] == 0 or counts["fusion"] == 0


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("jit(loop)/while/body/closed_call/propose/sin", "propose"),
        ("jit(loop)/while/body/eval_jaxpr/vmap(step)/inner/jit(_where)/select_n", "step"),
        ("jit(loop)/while/body/vmap(jit(_threefry_fold_in))/loop/while/body/closed_call/add", ""),
        ("jit(loop)/cond/branch_1_fun/vmap()/add", ""),
        ("Program.<locals>.loop/while/body/step/add", "step"),
        ("select", ""),
    ],
)
def test_scopes(path, expected):
    assert hlo.scope(path) == expected


def test_the_scopes_of_a_compiled_program():
    def step(x):
        with jax.named_scope("phase"):
            return jnp.cumsum(x)

    loop = lambda x: jax.lax.scan(lambda c, _: (jax.vmap(step)(c), None), x, length=3)[0]
    scopes = {i.scope for i in compiled(loop, jnp.ones((4, 64))).instructions.values()}
    assert scopes == {"", "phase"}


def test_what_a_package_does_beside_the_named_phases_has_a_name():
    def step(x):
        with jax.named_scope("step"):
            return jnp.cumsum(x)

    def search(x):
        with jax.named_scope(hlo.REST):
            return jax.lax.scan(lambda c, _: (jnp.sort(step(c)), None), x, length=3)[0]

    scopes = {i.scope for i in compiled(search, jnp.ones(64)).instructions.values()}
    assert scopes == {"", "step", hlo.REST}


def event(name, start, duration, thread=1):
    return {"pid": 1, "tid": thread, "ts": start, "dur": duration, "args": {"hlo_op": name}}


def test_own_times_leave_out_what_lies_within():
    events = [
        event("while", 0, 100),
        event("a", 10, 20),
        event("a", 40, 20),
        event("inner", 70, 20),
        event("b", 75, 5),
        event("a", 200, 7),
        event("b", 0, 50, thread=2),
    ]
    found = {name: (round(seconds * 1e6, 6), runs) for name, (seconds, runs) in own_times(events[::-1]).items()}
    assert found == {"while": (40, 1), "a": (47, 3), "inner": (15, 1), "b": (55, 2)}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("add_select_fusion.12", "fusion"),
        ("while.3.clone.1", "while"),
        ("wrapped_scatter.2", "scatter"),
        ("copy", "copy"),
    ],
)
def test_kinds(name, expected):
    assert kind(name) == expected


def test_groups_add_up():
    from pathlib import Path

    from benchmarks.profiling import Profile

    costs = [Cost("a.1", 3.0, 2, 10, 20), Cost("b", 2.0, 1, 5, 5), Cost("a.2", 1.0, 4, 1, 2)]
    profile = Profile("p", 1.0, 2.0, 1.0, 0.0, 0.0, {}, {}, 5, costs, {}, {}, Path())
    groups = profile.grouped(lambda cost: kind(cost.name))
    assert groups == [Cost("a", 4.0, 6, 11, 22), Cost("b", 2.0, 1, 5, 5)]
    assert profile.seconds == 6.0 and profile.per_item(20.0) == 2.0
