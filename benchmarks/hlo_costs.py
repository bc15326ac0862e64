"""What one execution of an instruction computes and moves, from the text of the compiled program."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator, Sequence

from benchmarks.hlo import Instruction, Module

# Instructions that move or name data without computing anything.
_FREE = frozenset(
    {"parameter", "constant", "iota", "tuple", "get-tuple-element", "bitcast", "reshape", "broadcast", "transpose"}
    | {"copy", "slice", "concatenate", "pad", "reverse", "convert", "gather", "dynamic-slice", "dynamic-update-slice"}
    | {"while", "call", "conditional", "opt-barrier", "after-all", "bitcast-convert", "copy-start", "copy-done"}
)
_NO_TRAFFIC = frozenset(("while", "call", "conditional", "tuple", "get-tuple-element", "bitcast", "parameter"))
_FETCHES = frozenset(("gather", "dynamic-slice", "slice"))  # read of their first operand what they give
_PUTS = frozenset(("scatter", "dynamic-update-slice"))  # change some rows of their first operand in place
_SAME = frozenset(("bitcast", "reshape"))  # the same bytes by another name
_UNKNOWN = frozenset(("custom-call", "fft", "cholesky", "triangular-solve"))  # unless a custom call is one of:
_PRODUCTS = re.compile("matmul|gemm", re.IGNORECASE)  # oneDNN's, Eigen's, cuBLAS's
_TOP_K = "TopK"


@dataclasses.dataclass(frozen=True)
class Work:
    """What one execution of an instruction takes."""

    operations: int = 0  # arithmetic on elements, comparisons of a sort, updates of a scatter: one each
    flops: int = 0  # of matrix products and convolutions: a multiplication and an addition count two
    bytes: int = 0  # read and written
    uncounted: tuple[str, ...] = ()  # what it computes that is not known: targets of custom calls

    def __add__(self, other: Work) -> Work:
        return Work(
            self.operations + other.operations,
            self.flops + other.flops,
            self.bytes + other.bytes,
            self.uncounted + other.uncounted,
        )


def work(module: Module, instruction: Instruction) -> Work:
    """What one execution takes; the insides of a loop are instructions of their own."""
    inside = module.inside(instruction.calls) if instruction.opcode == "fusion" else [instruction]
    computed = sum((_computed(module, each) for each in inside), Work())
    return dataclasses.replace(computed, bytes=_traffic(module, instruction, inside))


# Arithmetic ---------------------------------------------------------------------------------------------------------


def _computed(module: Module, instruction: Instruction) -> Work:
    """The arithmetic of one instruction."""
    operands = [module.instructions[name] for name in instruction.operands if name in module.instructions]
    opcode = instruction.opcode
    if opcode in _FREE or not instruction.arrays:
        return Work()
    if opcode == "dot":
        left = operands[0].arrays[0].shape
        contracted = math.prod(left[axis] for axis in instruction.numbers("lhs_contracting_dims"))
        return Work(flops=2 * contracted * instruction.elements)
    if opcode == "convolution":
        return Work(flops=2 * instruction.elements * _taps(instruction, operands[1]))
    if opcode == "sort":
        shape = instruction.arrays[0].shape
        return Work(_comparisons(math.prod(shape), shape[instruction.numbers("dimensions")[0]]))
    if opcode == "topk" or _target(instruction) == _TOP_K:
        return Work(_comparisons(operands[0].elements, instruction.arrays[0].shape[-1]))
    if opcode == "custom-call" and _PRODUCTS.search(_target(instruction)):
        return Work(flops=_product_flops(instruction, operands))
    if opcode in _UNKNOWN:
        return Work(uncounted=(_target(instruction) or opcode,))
    if opcode == "scatter":
        return Work(operands[-1].elements)
    if opcode == "reduce-window":
        return Work(instruction.elements * math.prod(instruction.numbers("size")))
    if opcode == "reduce":
        return Work(operands[0].elements)
    return Work(instruction.elements)


def _comparisons(elements: int, ranked: int) -> int:
    """Of sorting rows of `elements` in all, when `ranked` of each row are put in order: log2 for each element."""
    return elements * max(1, math.ceil(math.log2(max(2, ranked))))


def _taps(instruction: Instruction, kernel: Instruction) -> int:
    """Multiplications for one element of a convolution's result: the kernel's size for one feature of the output."""
    labels = re.search(r"dim_labels=\w+_(\w+)->", instruction.attributes)
    shape = kernel.arrays[0].shape
    return math.prod(shape) // shape[labels.group(1).index("o")] if labels else math.prod(shape)


def _product_flops(instruction: Instruction, operands: Sequence[Instruction]) -> int:
    """Of [b, m, k] × [b, k, n], whichever way the operands are transposed: their sizes multiply to b² m n k²."""
    result = instruction.arrays[0]
    batch = math.prod(result.shape[:-2])
    contracted = math.isqrt(operands[0].elements * operands[1].elements // max(1, result.elements * batch))
    return 2 * contracted * result.elements


def _target(instruction: Instruction) -> str:
    found = re.search(r'custom_call_target="([^"]*)"', instruction.attributes)
    return found.group(1) if found else ""


# Traffic ------------------------------------------------------------------------------------------------------------


def _traffic(module: Module, instruction: Instruction, inside: Sequence[Instruction]) -> int:
    """Bytes read and written; of an array that is only indexed or updated in place, the rows that are touched."""
    if instruction.opcode in _NO_TRAFFIC or not inside:
        return 0
    if instruction.opcode == "fusion":
        reads = {each.name: each.bytes for each in inside if each.opcode == "parameter"}
    else:
        reads = {name: module.instructions[name].bytes for name in instruction.operands if name in module.instructions}
    by_name = {each.name: each for each in inside}
    read = sum(_read(module, name, size, inside) for name, size in reads.items())
    return read + sum(_written(module, result, by_name) for result in _results(inside[-1], by_name))


def _read(module: Module, name: str, size: int, inside: Sequence[Instruction]) -> int:
    """Bytes that the instructions `inside` read of an array of `size` bytes."""
    users = [each for each in inside if name in each.operands]
    return min(size, sum(_read_by(module, user, name, size, inside) for user in users))


def _read_by(module: Module, user: Instruction, name: str, size: int, inside: Sequence[Instruction]) -> int:
    first_only = user.operands[0] == name and name not in user.operands[1:]
    if user.opcode in _FETCHES and first_only:
        return user.bytes
    if user.opcode == "dynamic-update-slice" and first_only:
        return 0
    if user.opcode == "scatter" and first_only:
        return _updated(module, user)  # what is put there may be added to what was
    if user.opcode in _SAME and user is not inside[-1]:
        return _read(module, user.name, size, inside)
    return 0 if user.opcode == "tuple" else size


def _results(root: Instruction, by_name: dict[str, Instruction]) -> Iterator[Instruction]:
    """The instructions that compute what a fusion gives: one, or several for a tuple."""
    if root.opcode == "tuple":
        for name in root.operands:
            yield from _results(by_name[name], by_name)
    else:
        yield root


def _written(module: Module, result: Instruction, by_name: dict[str, Instruction]) -> int:
    """Bytes that one result writes: where it is a changed operand, those of the change."""
    source = _named(result, by_name)
    if source.opcode == "parameter" and len(by_name) > 1:
        return 0  # an operand passed on
    if source.opcode not in _PUTS:
        return result.bytes
    before = by_name.get(source.operands[0])
    in_place = before is None or _named(before, by_name).opcode in ("parameter", *_PUTS)
    return _updated(module, source) if in_place else result.bytes


def _named(instruction: Instruction, by_name: dict[str, Instruction]) -> Instruction:
    """What an instruction is another name of."""
    while instruction.opcode in _SAME and instruction.operands[0] in by_name:
        instruction = by_name[instruction.operands[0]]
    return instruction


def _updated(module: Module, put: Instruction) -> int:
    """Bytes of the rows that a scatter or an update in place changes."""
    position = 1 if put.opcode == "dynamic-update-slice" else -1
    return module.instructions[put.operands[position]].bytes
