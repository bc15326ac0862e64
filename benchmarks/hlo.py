"""Reads the text of a compiled XLA program: its instructions, what they compute and where they come from."""

from __future__ import annotations

import dataclasses
import math
import re
from collections import Counter
from pathlib import PurePath

BYTES = {"pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "f16": 2, "bf16": 2, "s32": 4, "u32": 4, "f32": 4,
         "s64": 8, "u64": 8, "f64": 8, "c64": 8, "c128": 16}  # fmt: skip
REST = "rest_of_mctx"  # a scope round a whole search by a package that names no phases of its own
SCOPES = frozenset(
    {"propose", "step", "settle", "evaluate", "select", "gather", "record", "output"}  # of searches
    | {"pop", "push", "closed", "children", "push_masks", "new_states", "class", "solved", "goals", "count"}  # solving
    | {"rows_of", "matching", "child_bound"}
    | {"rollout", "update", "replay"}  # training
)
_BARRIER = "envs_jax/barriers.py:"  # its functions only pass on what their callers ask for

_INSTRUCTION = re.compile(r"^\s*(ROOT )?%([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*)$")
_COMPUTATION = re.compile(r"^(?:ENTRY )?%([\w.\-]+) \(.*\{$")
_ARRAY = re.compile(r"([a-z]+\d*)\[([\d,]*)\]")
_CALLS = re.compile(r"\b(?:calls|to_apply)=%([\w.\-]+)")
_FRAME = re.compile(r"^(\d+) \{?(.*?)\}?$")


@dataclasses.dataclass(frozen=True)
class Array:
    """The type and shape of an array."""

    kind: str  # "f32", "s32", "pred", …
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """How many there are."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Their size."""
        return self.elements * BYTES.get(self.kind, 4)


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One instruction."""

    name: str
    opcode: str
    arrays: tuple[Array, ...] = ()  # of its result: several where that is a tuple
    operands: tuple[str, ...] = ()
    calls: str | None = None  # the computation that a fusion, a reduction, a sort or a scatter applies
    attributes: str = ""  # what else its line says, as it stands there
    scope: str = ""  # the outermost `jax.named_scope` around it, of the SCOPES; "" where there is none
    source: str = ""  # `file:function` that asked for it; "" where the compiler made the instruction

    @property
    def elements(self) -> int:
        """Of the result."""
        return sum(array.elements for array in self.arrays)

    @property
    def bytes(self) -> int:
        """Of the result."""
        return sum(array.bytes for array in self.arrays)

    def numbers(self, attribute: str) -> tuple[int, ...]:
        """The whole numbers of an attribute such as `lhs_contracting_dims={1,2}` or `window={size=3x3}`."""
        found = re.search(rf"\b{attribute}=\{{?([\dx,]*)", self.attributes)
        return tuple(int(number) for number in re.findall(r"\d+", found.group(1))) if found else ()


@dataclasses.dataclass(frozen=True)
class Module:
    """A compiled program."""

    instructions: dict[str, Instruction]
    computations: dict[str, list[str]]  # the names of the instructions of each, its root last

    def inside(self, computation: str | None) -> list[Instruction]:
        """The instructions of a computation."""
        return [self.instructions[name] for name in self.computations.get(computation or "", ())]

    def opcodes(self) -> Counter[str]:
        """How many instructions of each kind there are, the insides of fusions left out."""
        fused = {i.calls for i in self.instructions.values() if i.opcode == "fusion" and i.calls}
        inside = {name for computation in fused for name in self.computations.get(computation, ())}
        return Counter(i.opcode for name, i in self.instructions.items() if name not in inside)


def parse(text: str) -> Module:
    """The module in `text`, as `compiled.as_text()` gives it."""
    frames = _frames(text)
    instructions: dict[str, Instruction] = {}
    computations: dict[str, list[str]] = {}
    roots: dict[str, str] = {}
    current = ""
    for line in text.splitlines():
        opening = _COMPUTATION.match(line)
        if opening:
            current = opening.group(1)
            computations[current] = []
            continue
        match = _INSTRUCTION.match(line)
        if match:
            root, name, shape, opcode, rest = match.groups()
            instructions[name] = _instruction(name, shape, opcode, rest, frames)
            names = computations.setdefault(current, [])
            names.append(name)
            roots[current] = name if root else roots.get(current, name)
    for computation, root in roots.items():
        names = computations[computation]
        names.append(names.pop(names.index(root)))
    return Module(instructions, computations)


def _instruction(name: str, shape: str, opcode: str, rest: str, frames: dict[int, str]) -> Instruction:
    arrays = (
        Array(kind, tuple(int(size) for size in sizes.split(",") if size)) for kind, sizes in _ARRAY.findall(shape)
    )
    operands, _, attributes = rest.partition(")")
    calls = _CALLS.search(attributes)
    frame = re.search(r"stack_frame_id=(\d+)", attributes)
    path = re.search(r'op_name="([^"]*)"', attributes)
    return Instruction(
        name,
        opcode,
        tuple(arrays),
        tuple(re.findall(r"%([\w.\-]+)", operands)),
        calls.group(1) if calls else None,
        attributes,
        scope(path.group(1)) if path else "",
        frames.get(int(frame.group(1)), "") if frame else "",
    )


def scope(path: str) -> str:
    """The outermost of the `SCOPES` in the path of an operation, `REST` only where there is none; "" without either.

    The path names control flow and functions too, and functions not only as `jit(function)`.
    """
    rest = ""
    for part in path.split("/")[:-1]:  # the last part is the operation itself
        name = part
        while match := re.fullmatch(r"(\w+)\((.*)\)", name):
            name = "" if match.group(1) in ("jit", "pjit") else match.group(2)
        if name in SCOPES:
            return name
        rest = REST if name == REST else rest
    return rest


def _frames(text: str) -> dict[int, str]:
    """The function of each stack frame, or the one that called a barrier (JAX leaves its own frames out)."""
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
    found: dict[int, str] = {}
    for frame, fields in sorted(tables.get("StackFrames", {}).items()):  # callers before those that they call
        location, parent = (int(number) for number in re.findall(r"=(\d+)", fields)[:2])
        name, caller = _location(tables, location), found.get(parent - 1)  # XLA writes 1 where there is none
        found[frame] = caller if caller and name.startswith(_BARRIER) else name
    return found


def _location(tables: dict[str, dict[int, str]], location: int) -> str:
    file, function = (int(number) for number in re.findall(r"=(\d+)", tables["FileLocations"][location])[:2])
    path = PurePath(tables["FileNames"][file])
    return f"{path.parent.name}/{path.name}:{tables['FunctionNames'][function].rsplit('.', 1)[-1]}"
