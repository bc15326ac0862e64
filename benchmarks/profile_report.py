"""What `profile` prints and writes."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import console
from benchmarks.hlo import Instruction
from benchmarks.profiling import LIMITS, PHASES, Cost, Profile
from benchmarks.report import markdown_table

SHOWN = 15  # rows of a table
NO_SCOPE = "(outside named scopes)"
COPIES = "(copies made by the compiler)"

Table = tuple[str, Sequence[str], list[list[str]]]  # title, header, rows


def tables(profile: Profile) -> list[Table]:
    """Everything that was found, as tables."""
    scopes = [_costs("By named scope", "scope", profile, lambda cost: _scope(profile, cost))]
    return [
        _summary(profile),
        _limits(profile),
        *(scopes if phases(profile) else []),
        _costs(
            "By the function that asked for it (for an item)", "function", profile, lambda cost: _source(profile, cost)
        ),
        _costs("By kind of operation", "kind", profile, lambda cost: kind(cost.name)),
        _costs("The longest operations", "operation", profile, lambda cost: f"{cost.name} {_source(profile, cost)}"),
        ("Instructions in the program", ("opcode", "number"), _instructions(profile)),
    ]


def show(profile: Profile, out: Any) -> None:
    """Prints the tables on a rich console."""
    show_tables(tables(profile), out)
    out.print(_where(profile), highlight=False)


def show_tables(tables: Iterable[Table], out: Any) -> None:
    """Prints tables on a rich console."""
    for title, header, rows in tables:
        options = {"title_justify": "left", "title_style": "bold", "header_style": "dim", "box": None}
        view = console.rich("table").Table(title=title, **options)
        for i, name in enumerate(header):
            width = max((len(row[i]) for row in rows), default=1)
            heading = textwrap.fill(name, max(1, width), break_long_words=False)
            first = {"min_width": min(width, 24), "overflow": "fold"}  # readable however much room the others take
            view.add_column(heading, **(first if i == 0 else {"justify": "right", "no_wrap": True}))
        for row in rows:
            view.add_row(*row)
        out.print(view)
        out.print()


def write(profile: Profile, folder: Path) -> Path:
    """Writes the tables as a document; its path."""
    path = folder / "profile.md"
    path.write_text(markdown(profile), encoding="utf-8")
    return path


def markdown(profile: Profile) -> str:
    """The same as a document."""
    lines = [f"# Profile of {profile.name}", "", _where(profile), ""]
    for title, header, rows in tables(profile):
        lines += [f"## {title}", "", *markdown_table(header, rows), ""]
    return "\n".join(lines)


def phases(profile: Profile) -> dict[str, float]:
    """The share of the traced time of each named scope, and of what is in none; empty where nothing is in any."""
    groups = profile.grouped(lambda cost: _scope(profile, cost))
    if all(group.name in (NO_SCOPE, COPIES) for group in groups):
        return {}
    return {group.name: group.seconds / profile.seconds for group in groups}


def kind(operation: str) -> str:
    """The kind of an operation from its name: `add_select_fusion.12` is a fusion, `while.3` a while."""
    stem = re.sub(r"(\.\d+|\.clone)+$", "", operation)
    return "fusion" if stem.endswith("fusion") else stem.removeprefix("wrapped_")


def _summary(profile: Profile) -> Table:
    memory = ", ".join(f"{name} {console.number(size / 1e6)} MB" for name, size in profile.memory.items())
    items = console.number(1 / profile.item_seconds, "/s")
    traced = 1e9 * profile.per_item(profile.seconds)
    rows = [
        ["time of an item, untraced", f"{1e9 * profile.item_seconds:.1f} ns ({items} items/s)"],
        ["items a step", f"{profile.items:,.0f}"],
        ["compile time", f"{profile.compile_seconds:.2f} s"],
        ["memory", memory],
        ["the compiler's count, a step", f"{profile.flops:,.0f} operations, {profile.bytes_accessed:,.0f} bytes"],
        ["traced", f"{profile.steps} steps; {traced:.1f} ns an item with tracing"],
        ["not counted below", ", ".join(profile.uncounted) or "nothing"],
    ]
    return ("Summary (the compiler counts inner loops once)", ("", ""), rows)


def _limits(profile: Profile) -> Table:
    """What an item does, as executed, beside what the machine could do in the same time."""
    rows = []
    for name, share in profile.shares().items():
        limit = LIMITS[name]
        each = profile.work_of(name)
        rates = each / profile.item_seconds, float(np.median(profile.rates[name]))
        rows.append([name, f"{each:,.0f}", *(rate(value, limit.unit) for value in rates), f"{100 * share:.0f} %"])
    header = ("as executed", "an item", "achieved", "machine's limit", "share")
    shares = profile.shares()
    near = nearest(shares)
    title = f"nearest is that of {near}, {100 * shares[near]:.0f} %" if near else "none that bounds it was measured"
    return (f"Distance from the machine's limits: {title}", header, rows)


def rate(value: float, unit: str) -> str:
    """Three digits with an SI prefix: "40.2 GB/s" for the unit "B/s"."""
    number = console.number(value, "/s")
    return f"{number}{unit}" if number[-1].isalpha() else f"{number} {unit}"


def nearest(shares: Mapping[str, float]) -> str:
    """Which limit the program is nearest to; "" where none was measured that bounds it.

    One that it exceeds does not: more bytes than memory gives come from caches, and more operations than the machine
    does on words of 32 bits are on narrower ones.
    """
    bounding = {name: share for name, share in shares.items() if share <= 1}
    return max(bounding, key=lambda name: bounding[name], default="")


def _costs(title: str, column: str, profile: Profile, group: Any) -> Table:
    groups = profile.grouped(group)
    whole = max(profile.seconds, 1e-12)
    rows = [_cost_cells(profile, cost, whole) for cost in groups[:SHOWN]]
    header = (column, "share", "ns", "runs a step", "ops", "flop", "bytes")
    return (title, header, rows)


def _cost_cells(profile: Profile, cost: Cost, whole: float) -> list[str]:
    return [
        cost.name,
        f"{100 * cost.seconds / whole:.1f} %",
        f"{1e9 * profile.per_item(cost.seconds):.2f}",
        f"{cost.runs / profile.steps:.1f}",
        f"{profile.per_item(cost.operations):.1f}",
        f"{profile.per_item(cost.flops):.1f}",
        f"{profile.per_item(cost.bytes):.1f}",
    ]


def _instructions(profile: Profile) -> list[list[str]]:
    return [[opcode, f"{number:,}"] for opcode, number in list(profile.opcodes.items())[:SHOWN]]


def _source(profile: Profile, cost: Cost) -> str:
    instruction = profile.instructions.get(cost.name)
    if instruction and instruction.source:
        return instruction.source
    return COPIES if _is_copy(instruction) else "(made by the compiler)"


def _scope(profile: Profile, cost: Cost) -> str:
    instruction = profile.instructions.get(cost.name)
    if instruction and instruction.scope:
        return instruction.scope
    return COPIES if _is_copy(instruction) else NO_SCOPE


def _is_copy(instruction: Instruction | None) -> bool:
    """Whether nobody asked for the copy: the compiler needs it, for example in another layout."""
    return instruction is not None and instruction.opcode == "copy" and not instruction.source


def _where(profile: Profile) -> str:
    return (
        f"Trace: {profile.trace}/{PHASES}, each operation with its phase (open it with https://ui.perfetto.dev); "
        f"{profile.trace}/plugins/profile for TensorBoard"
    )
