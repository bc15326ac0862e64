"""Reads the text of a compiled XLA program: its instructions, what they compute and where they come from."""

from __future__ import annotations

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePath

BYTES = {"pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "f16": 2, "bf16": 2, "s32": 4, "u32": 4, "f32": 4,
         "s64": 8, "u64": 8, "f64": 8, "c64": 8, "c128": 16}  # fmt: skip
# Instructions that move or name data without computing anything.
FREE = frozenset(
    {"parameter", "constant", "iota", "tuple", "get-tuple-element", "bitcast", "reshape", "broadcast", "transpose"}
    | {"copy", "slice", "concatenate", "pad", "reverse", "convert", "gather", "scatter", "sort"}
    | {"dynamic-slice", "dynamic-update-slice", "fusion", "while", "call", "conditional", "custom-call", "opt-barrier"}
)

_NO_TRAFFIC = frozenset(("while", "call", "conditional", "tuple", "get-tuple-element", "bitcast", "parameter"))
FETCHES = frozenset(("gather", "dynamic-slice"))
PUTS = frozenset(("scatter", "dynamic-update-slice"))

REST = "rest_of_mctx"  # a scope round a whole search by a package that names no phases of its own
_CONTROL = frozenset(("while", "body", "cond", "loop", "scan", "closed_call", "eval_jaxpr", "checkpoint", "shard_map"))

_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*)$")
_COMPUTATION = re.compile(r"^(?:ENTRY )?%([\w.\-]+) \(.*\{$")
_ARRAY = re.compile(r"([a-z]+\d*)\[([\d,]*)\]")
_FRAME = re.compile(r"^(\d+) \{?(.*?)\}?$")


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One instruction; sizes are of its result."""

    name: str
    opcode: str
    elements: int
    bytes: int
    operands: tuple[str, ...]
    calls: str | None  # the computation that a fusion runs
    scope: str  # the outermost `jax.named_scope` around it; "" where there is none
    source: str  # `file:function` that asked for it; "" where the compiler made the instruction


@dataclasses.dataclass(frozen=True)
class Module:
    """A compiled program."""

    instructions: dict[str, Instruction]
    computations: dict[str, list[str]]  # the names of the instructions of each

    def opcodes(self) -> Counter[str]:
        """How many instructions of each kind there are, the insides of fusions left out."""
        fused = {i.calls for i in self.instructions.values() if i.opcode == "fusion" and i.calls}
        inside = {name for computation in fused for name in self.computations.get(computation, ())}
        return Counter(i.opcode for name, i in self.instructions.items() if name not in inside)

    def operations(self, instruction: Instruction) -> int:
        """Arithmetic operations of one execution, an element of an array counting one."""
        if instruction.opcode == "fusion" and instruction.calls:
            return sum(self.operations(self.instructions[name]) for name in self.computations[instruction.calls])
        if instruction.opcode in FREE:
            return 0
        if instruction.opcode.startswith("reduce") and instruction.operands:
            return self._size(instruction.operands[0]).elements
        return instruction.elements

    def traffic(self, instruction: Instruction) -> int:
        """Bytes that one execution reads and writes; of a table that is only indexed, what it fetches or puts."""
        if instruction.opcode in _NO_TRAFFIC:
            return 0
        inside = [instruction]
        reads = {name: self._size(name).bytes for name in instruction.operands}
        if instruction.opcode == "fusion" and instruction.calls:
            inside = [self.instructions[name] for name in self.computations[instruction.calls]]
            reads = {i.name: i.bytes for i in inside if i.opcode == "parameter"}
        read = sum(self._read(name, size, inside) for name, size in reads.items())
        last = inside[-1]
        return read + (self._put(last) if last.opcode in PUTS else instruction.bytes)

    def _read(self, name: str, size: int, inside: Sequence[Instruction]) -> int:
        """Bytes that the instructions `inside` read of an array of `size` bytes."""
        users = [i for i in inside if name in i.operands]
        if users and all(i.opcode in FETCHES and i.operands[0] == name for i in users):
            return sum(i.bytes for i in users)
        if users and all(i.opcode in PUTS and i.operands[0] == name for i in users):
            return 0
        return size

    def _put(self, instruction: Instruction) -> int:
        """Bytes that a scatter or an update in place writes."""
        position = 1 if instruction.opcode == "dynamic-update-slice" else -1
        return self._size(instruction.operands[position]).bytes

    def _size(self, name: str) -> Instruction:
        return self.instructions.get(name, _NOTHING)


_NOTHING = Instruction("", "", 0, 0, (), None, "", "")


def parse(text: str) -> Module:
    """The module in `text`, as `compiled.as_text()` gives it."""
    frames = _frames(text)
    instructions: dict[str, Instruction] = {}
    computations: dict[str, list[str]] = {}
    current = ""
    for line in text.splitlines():
        opening = _COMPUTATION.match(line)
        if opening:
            current = opening.group(1)
            computations[current] = []
            continue
        match = _INSTRUCTION.match(line)
        if match:
            name, shape, opcode, rest = match.groups()
            instructions[name] = _instruction(name, shape, opcode, rest, frames)
            computations.setdefault(current, []).append(name)
    return Module(instructions, computations)


def _instruction(name: str, shape: str, opcode: str, rest: str, frames: dict[int, str]) -> Instruction:
    arrays = [
        (kind, math.prod(int(size) for size in sizes.split(",") if size)) for kind, sizes in _ARRAY.findall(shape)
    ]
    calls = re.search(r"calls=%([\w.\-]+)", rest)
    frame = re.search(r"stack_frame_id=(\d+)", rest)
    path = re.search(r'op_name="([^"]*)"', rest)
    return Instruction(
        name,
        opcode,
        sum(size for _, size in arrays),
        sum(size * BYTES.get(kind, 4) for kind, size in arrays),
        tuple(re.findall(r"%([\w.\-]+)", rest.partition(")")[0])),
        calls.group(1) if calls else None,
        scope(path.group(1)) if path else "",
        frames.get(int(frame.group(1)), "") if frame else "",
    )


def scope(path: str) -> str:
    """The outermost `jax.named_scope` in the path of an operation, `REST` only where there is no other; "" for none."""
    rest = ""
    for part in path.split("/")[:-1]:  # the last part is the operation itself
        name = part
        while match := re.fullmatch(r"(\w+)\((.*)\)", name):
            name = "" if match.group(1) in ("jit", "pjit") else match.group(2)
        named = name and name not in _CONTROL and not name.startswith("branch_")
        if name == REST:
            rest = REST
        elif named and "<" not in name:  # a function's own name, `outer.<locals>.inner`, is no scope
            return name
    return rest


def _frames(text: str) -> dict[int, str]:
    """The function of each stack frame (JAX leaves its own frames out)."""
    tables: dict[str, dict[int, str]] = {}
    table: dict[int, str] = {}
    for line in text.splitlines():
        if line in ("FileNames", "FunctionNames", "FileLocations", "StackFrames"):
            table = tables.setdefault(line, {})
        elif line.startswith(("%", "ENTRY")):
            break
        else:
            entry = _FRAME.match(line)
            if entry:
                table[int(entry.group(1))] = entry.group(2).strip('"')
    location_of = {
        frame: int(re.findall(r"=(\d+)", fields)[0]) for frame, fields in tables.get("StackFrames", {}).items()
    }
    return {frame: _location(tables, location) for frame, location in location_of.items()}


def _location(tables: dict[str, dict[int, str]], location: int) -> str:
    file, function = (int(number) for number in re.findall(r"=(\d+)", tables["FileLocations"][location])[:2])
    path = PurePath(tables["FileNames"][file])
    return f"{path.parent.name}/{path.name}:{tables['FunctionNames'][function].rsplit('.', 1)[-1]}"
