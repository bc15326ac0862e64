"""Reading compiled programs and traces."""

import gzip
import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl_agents
from benchmarks import hlo, profiles, profiling
from benchmarks.hlo_costs import Work, work
from benchmarks.measure import Budget, Program
from benchmarks.profile_report import kind, markdown, nearest, tables
from benchmarks.profiling import Cost, own_times
from envs_jax.barriers import once

pytestmark = pytest.mark.usefixtures("optimized_programs")


def compiled(function, *arguments):
    return hlo.parse(jax.jit(function).lower(*arguments).compile().as_text())


def scaled_sum(x, y):
    return (x + y) * x - 3


def test_operations_and_traffic_of_elementwise_work():
    module = compiled(scaled_sum, jnp.ones(1024, jnp.int32), jnp.ones(1024, jnp.int32))
    top = [i for i in module.instructions.values() if i.opcode == "fusion"]
    (fusion,) = top
    assert work(module, fusion) == Work(operations=3 * 1024, bytes=3 * 4 * 1024)
    assert fusion.source.endswith("test_profiling.py:scaled_sum")


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
        ("jit(loop)/while/body/jit(_threefry_split)/root_keys/while/body/closed_call/add", ""),
        ("jit(loop)/while/body/jit(_search)/_output/output/reduce", "output"),
        ("select", ""),
    ],
)
def test_scopes(path, expected):
    assert hlo.scope(path) == expected


def test_the_scopes_of_a_compiled_program():
    def inner(x):
        with jax.named_scope("settle"):
            return jnp.cumsum(x)

    loop = lambda x: jax.lax.scan(lambda c, _: (jax.vmap(inner)(c), None), x, length=3)[0]
    scopes = {i.scope for i in compiled(loop, jnp.ones((4, 96))).instructions.values()}
    assert scopes == {"", "settle"}


def test_every_scope_in_use_is_known():
    sources = [path.read_text() for path in Path(jaxrl_agents.__file__).parent.rglob("*.py")]
    used = {name for text in sources for name in re.findall(r'named_scope\("(\w+)"\)', text)}
    assert used == hlo.SCOPES


def test_what_is_behind_a_barrier_is_its_callers():
    def caller(x):
        return once(jnp.int32(0) + (x[0] > 0), lambda x: jnp.sin(x) * 2, x)

    sources = {i.source.rpartition(":")[2] for i in compiled(caller, jnp.ones(64)).instructions.values()}
    assert "caller" in sources and not sources & {"once", "behind_conditional"}


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


def profile_of(costs, name="p", phases=None, **rates):
    rates = {name: np.array(values) for name, values in rates.items()}
    instructions = {of: hlo.Instruction(of, "fusion", scope=phase) for of, phase in (phases or {}).items()}
    return profiling.Profile(name, 1.0, 2.0, 0.0, 0.0, {}, {}, 5, costs, instructions, rates, Path())


def test_groups_add_up():
    costs = [
        Cost("a.1", 3.0, 2, 10, 7, 20, ("x",)), Cost("b", 2.0, 1, 5, 0, 5), Cost("a.2", 1.0, 4, 1, 1, 2, ("y", "x")),
    ]  # fmt: skip
    profile = profile_of(costs)
    groups = profile.grouped(lambda cost: kind(cost.name))
    assert groups == [Cost("a", 4.0, 6, 11, 8, 22, ("x", "y")), Cost("b", 2.0, 1, 5, 0, 5)]
    assert profile.seconds == 6.0 and profile.per_item(20.0) == 2.0 and profile.uncounted == ["x", "y"]


def test_shares_are_medians_over_the_repeats_and_the_nearest_limit_is_named():
    """10 items traced: 4 operations, 200 bytes, no matrix products for each; the load changed from repeat to repeat."""
    rates = {"program": [10.0, 20.0, 40.0], "arithmetic on integers": [100.0, 200.0, 100.0],
             "bytes, from memory": [1e3, 2e3, 4e3], "bytes, from caches": [1e4, 2e4, 4e4]}  # fmt: skip
    profile = profile_of([Cost("a", 1.0, 10, 40, 0, 2_000)], **rates)
    expected = {"arithmetic on integers": 0.4, "bytes, from memory": 2.0, "bytes, from caches": 0.2}
    assert profile.shares() == pytest.approx(expected)
    ((title, _, rows),) = [table for table in tables(profile) if table[0].startswith("Distance")]
    assert title.endswith("nearest is that of arithmetic on integers, 40 %")  # memory gives less: the data is in caches
    assert {row[0]: row[-1] for row in rows} == {name: f"{100 * share:.0f} %" for name, share in expected.items()}


def test_a_limit_that_is_exceeded_is_not_the_nearest():
    shares = {"bytes, from caches": 0.3, "arithmetic on integers": 1.2}  # on narrow words
    assert nearest(shares) == "bytes, from caches" and nearest({"arithmetic on integers": 1.2}) == ""


def test_the_report_of_several_programs():
    """10 items are traced; all take 400 bytes and 4 operations each, against limits measured beside each program."""
    costs = [Cost("a", 3.0, 10, 40, 0, 4_000), Cost("b", 1.0, 10, 0, 0, 0, ("fft",)), Cost("c", 0.01)]
    limits = {"bytes, from memory": [2e9, 2e9], "bytes, from caches": [4e9, 4e9], "matrix products": [1.0, 1.0]}
    fast = {"program": [4e6, 6e6], "arithmetic on integers": [1e8, 1e8], **limits}
    slow = {"program": [1e6, 1e6], "arithmetic on integers": [1e7, 5e7], **limits}
    found = [
        *profiles.rows(profile_of(costs, "search/X/nodes/one", {"a": "step", "b": "select", "c": "too short"}, **fast)),
        *profiles.rows(profile_of(costs, "search/X/nodes/two, so", {"a": "step"}, **slow)),
        *profiles.rows(profile_of(costs[:1], "env/Y/z", **slow)),
    ]
    first, phases, last = profiles.tables(found)
    limits = ("bytes, from memory", "bytes, from caches", "arithmetic on integers")
    assert first[1] == ("program", "items/s", "p10 – p90", *limits, "nearest limit")
    assert first[2] == [
        ["one", "5 M", "4.2 – 5.8 M", "400 (100 %)", "400 (50 %)", "4 (20 %)", "bytes, from memory"],
        ["two, so", "1 M", "1 – 1 M", "400 (20 %)", "400 (10 %)", "4 (24 %)", "arithmetic on integers"],
        ["limit", "", "", "2 GB/s", "4 GB/s", "30 – 100 M/s", ""],
    ]
    assert phases[1] == ("program", "step", "select", "(outside named scopes)")
    assert phases[2] == [["one", "75 %", "25 %", "–"], ["two, so", "75 %", "–", "25 %"]]
    assert last[0].startswith("env/Y: work an item") and last[2][0][0] == "z"  # no phases, so no table of them
    assert found[0].note == "not counted: fft"


def test_a_profile_counts_what_ran(tmp_path):
    """Five products of 64 × 64 matrices and a sort a step, found again in the trace of many steps."""

    def body(weights, carry, key):
        x, order = carry
        with jax.named_scope("evaluate"):
            x = jax.lax.fori_loop(0, 5, lambda i, x: jnp.clip(x @ weights, -1, 1), x)
        with jax.named_scope("select"):
            return x, jnp.sort(-order)

    program = Program(body, jnp.ones((64, 64)) / 64, (jnp.ones((64, 64)), jnp.arange(256.0)), items=64)
    found = profiling.profile("toys/products", program, Budget("tiny", 2, 0.005), tmp_path)
    phases = {cost.name: cost for cost in found.grouped(lambda cost: found.instructions[cost.name].scope)}
    assert found.per_item(phases["evaluate"].flops) == 5 * 2 * 64 * 64
    assert found.per_item(phases["select"].operations) == pytest.approx(256 * 8 / 64, rel=0.2)  # and the negations
    assert set(found.shares()) == set(profiling.LIMITS) and all(share > 0 for share in found.shares().values())
    assert found.uncounted == [] and found.item_seconds > 0
    text = markdown(found)
    for part in ("nearest is that of", "By named scope", "evaluate", "| not counted below | nothing |"):
        assert part in text
    with gzip.open(tmp_path / profiling.PHASES) as file:
        names = {event.get("name", "") for event in json.load(file)["traceEvents"]}
    assert any(name.startswith("evaluate: ") for name in names) and any(name.startswith("select: ") for name in names)
