"""What compiled programs compute and move, against counts made by hand."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from benchmarks import hlo
from benchmarks.hlo_costs import Work, work

pytestmark = pytest.mark.usefixtures("optimized_programs")

F32 = 4  # bytes


def module_of(function, *arguments):
    return hlo.parse(jax.jit(function).lower(*arguments).compile().as_text())


def executed(function, *arguments):
    """The work of a compiled program, and of one round of its outermost loop, loops counted as often as they run."""
    module = module_of(function, *arguments)
    rounds = []
    whole = _executed(module, list(module.computations)[-1], rounds)  # the last is where the program starts
    return whole, rounds[-1] if rounds else None


def _executed(module, computation, rounds):
    found = Work()
    for each in module.inside(computation):
        called = dict(re.findall(r"(\w+)=%([\w.\-]+)", each.attributes))
        if each.opcode == "while":
            (trips,) = re.findall(r'known_trip_count":\{"n":"(\d+)"', each.attributes)
            once = _executed(module, called["body"], rounds)
            rounds.append(once)
            found += sum([once] * int(trips), Work())
        elif each.opcode == "call":
            found += _executed(module, called["to_apply"], rounds)
        else:
            found += work(module, each)
    return found


def test_a_matrix_product_in_a_scan():
    """[16, 32] × [32, 32] is 16 · 32 multiply-adds of 32 terms a round; tanh is one operation an element."""
    step = lambda x, weights: lax.scan(lambda x, _: (jnp.tanh(x @ weights), None), x, length=5)[0]
    whole, found = executed(step, jnp.ones((16, 32)), jnp.ones((32, 32)))
    assert whole.flops == 5 * found.flops == 5 * 2 * 16 * 32 * 32 and whole.uncounted == ()
    assert 16 * 32 <= found.operations <= 16 * 32 + 4  # and the loop's counter
    once, weights = 16 * 32 * F32, 32 * 32 * F32  # x @ w: reads both, writes; tanh: reads, writes
    assert 3 * once + weights <= found.bytes <= 5 * once + weights + 64


def test_batched_products_and_convolutions():
    products, _ = executed(lambda a, b: jnp.einsum("bij,bkj->bik", a, b), jnp.ones((4, 8, 16)), jnp.ones((4, 6, 16)))
    assert products.flops == 2 * 4 * 8 * 6 * 16
    vector, _ = executed(lambda a, b: a @ b, jnp.ones((64, 32)), jnp.ones(32))
    assert vector.flops + vector.operations in (2 * 64 * 32, 2 * 64 * 32 + 64)  # as a product, or element by element
    convolve = lambda x, kernel: lax.conv_general_dilated(x, kernel, (1, 1), "SAME")
    convolved, _ = executed(convolve, jnp.ones((2, 3, 16, 16)), jnp.ones((8, 3, 3, 3)))
    assert convolved.flops == 2 * (2 * 8 * 16 * 16) * (3 * 3 * 3)


def test_rows_changed_in_place_are_all_that_moves():
    """A loop that writes one row of 4,096 a round; 131,072 bytes would be the whole table."""
    write = lambda table, row: lax.fori_loop(
        0, 7, lambda i, t: lax.dynamic_update_index_in_dim(t, row * i, i, 0), table
    )
    _, found = executed(write, jnp.zeros((4_096, 8)), jnp.ones(8))
    assert 2 * 8 * F32 <= found.bytes <= 2 * 8 * F32 + 64
    assert found.operations < 32


@pytest.mark.parametrize("put", ["add", "set"])
def test_a_scatter_in_a_loop_touches_its_rows(put):
    """16 rows of 8: read and written where they lie, and read from the updates; 16 indices, made and read.

    Compilers scatter at once, or with a loop over the updates that changes a row in place.
    """
    change = lambda i, table, at, rows: getattr(table.at[at + i], put)(rows)
    loop = lambda table, at, rows: lax.fori_loop(0, 7, lambda i, table: change(i, table, at, rows), table)
    _, found = executed(loop, jnp.zeros((4_096, 8)), jnp.arange(16), jnp.ones((16, 8)))
    rows, indices = 16 * 8 * F32, 16 * 4
    assert 3 * rows <= found.bytes <= 3 * rows + 24 * indices  # the whole table would be 128 KiB
    assert 16 * 8 <= found.operations <= 2 * 16 * 8 + 16 * 16  # the updates, and what makes the indices


def test_a_sort_compares():
    x = jnp.asarray(np.random.default_rng(0).random((10, 128)), jnp.float32)
    found, _ = executed(lambda x: jnp.sort(x, axis=-1), x)
    assert found.operations == 10 * 128 * 7  # log2 128
    assert found.bytes == 2 * 10 * 128 * F32
    best, _ = executed(lambda x: lax.top_k(x, 8), x)
    assert best.operations >= 10 * 128 * 3 and best.uncounted == ()


def test_gathers_and_slices_read_what_they_fetch():
    table, index = jnp.zeros(1 << 20), jnp.arange(128)
    found, _ = executed(lambda table, index: table[index] * 2, table, index)
    assert found.bytes == 3 * 128 * 4  # the indices, what is fetched, the result
    part, _ = executed(lambda table, at: lax.dynamic_slice(table, (at,), (128,)) + 1, table, 5)
    assert 2 * 128 * F32 <= part.bytes <= 2 * 128 * F32 + 16
    reshaped = lambda table, index: table.reshape(1 << 10, 1 << 10)[index] + 1  # read under another name
    rows, _ = executed(reshaped, table, index[:4])
    assert rows.bytes == (4 + 2 * 4 * 1_024) * 4


CUSTOM = """
ENTRY %main (a: f32[8,16], b: f32[24,16]) -> f32[8,24] {
  %a = f32[8,16]{1,0} parameter(0)
  %b = f32[24,16]{1,0} parameter(1)
  %solved = (f32[8,16]{1,0}, s32[]) custom-call(%a), custom_call_target="lapack_spotrf_ffi"
  %best = (f32[8,4]{1,0}, s32[8,4]{1,0}) custom-call(%a), custom_call_target="TopK"
  %gemm = (f32[8,24]{1,0}, s8[4096]{0}) custom-call(%a, %b), custom_call_target="__cublas$gemm"
  ROOT %product = f32[8,24]{1,0} custom-call(%a, %b), custom_call_target="__onednn$matmul"
}
"""


def test_custom_calls_are_counted_or_named():
    module = hlo.parse(CUSTOM)
    of = {name: work(module, each) for name, each in module.instructions.items()}
    assert of["product"].flops == of["gemm"].flops == 2 * 8 * 24 * 16  # b is transposed
    assert of["best"].operations == 8 * 16 * 2 and of["best"].uncounted == ()
    assert of["solved"] == Work(0, 0, 2 * 8 * 16 * F32 + 4, ("lapack_spotrf_ffi",))
    assert sum(of.values(), Work()).uncounted == ("lapack_spotrf_ffi",)


RESULTS = """
%several (p: f32[100,8], q: f32[8], i: s32[]) -> (f32[100,8], f32[8]) {
  %p = f32[100,8]{1,0} parameter(0)
  %q = f32[8]{0} parameter(1)
  %i = s32[] parameter(2)
  %zero = s32[] constant(0)
  %twice = f32[8]{0} add(%q, %q)
  %row = f32[1,8]{1,0} bitcast(%twice)
  %put = f32[100,8]{1,0} dynamic-update-slice(%p, %row, %i, %zero)
  ROOT %both = (f32[100,8]{1,0}, f32[8]{0}) tuple(%put, %twice)
}

ENTRY %main (p: f32[100,8], q: f32[8], i: s32[]) -> (f32[100,8], f32[8]) {
  %p.1 = f32[100,8]{1,0} parameter(0)
  %q.1 = f32[8]{0} parameter(1)
  %i.1 = s32[] parameter(2)
  ROOT %fusion = (f32[100,8]{1,0}, f32[8]{0}) fusion(%p.1, %q.1, %i.1), kind=kLoop, calls=%several
}
"""


def test_a_fusion_with_several_results_writes_each():
    module = hlo.parse(RESULTS)
    found = work(module, module.instructions["fusion"])
    assert found == Work(operations=8, bytes=8 * F32 + 4 + 2 * 8 * F32)  # reads q and i; writes a row, and the doubles
