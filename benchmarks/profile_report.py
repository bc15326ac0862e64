"""What `profile` prints and writes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks import console
from benchmarks.profiling import FROM_MEMORY, LIMITS, PHASES, Cost, Profile
from benchmarks.report import markdown_table

SHOWN = 15  # rows of a table
NO_SCOPE = "(outside named scopes)"

Table = tuple[str, Sequence[str], list[list[str]]]  # title, header, rows


def tables(profile: Profile) -> list[Table]:
    """Everything that was found, as tables."""
    scopes = [_costs("By named scope", "scope", profile, lambda cost: _scope(profile, cost))]
    return [
        _summary(profile),
        _limits(profile),
        *(scopes if any(_scope(profile, cost) != NO_SCOPE for cost in profile.costs) else []),
        _costs(
            "By the function that asked for it (for an item)", "function", profile, lambda cost: _source(profile, cost)
        ),
        _costs("By kind of operation", "kind", profile, lambda cost: kind(cost.name)),
        _costs("The longest operations", "operation", profile, lambda cost: f"{cost.name} {_source(profile, cost)}"),
        ("Instructions in the program", ("opcode", "number"), _instructions(profile)),
    ]


def show(profile: Profile, out: Any) -> None:
    """Prints the tables on a rich console."""
    for title, header, rows in tables(profile):
        options = {"title_justify": "left", "title_style": "bold", "header_style": "dim", "box": None}
        view = console.rich("table").Table(title=title, **options)
        for i, name in enumerate(header):
            view.add_column(name, justify="left" if i == 0 else "right", no_wrap=i > 0, overflow="fold")
        for row in rows:
            view.add_row(*row)
        out.print(view)
        out.print()
    out.print(_where(profile), highlight=False)


def markdown(profile: Profile) -> str:
    """The same as a document."""
    lines = [f"# Profile of {profile.name}", "", _where(profile), ""]
    for title, header, rows in tables(profile):
        lines += [f"## {title}", "", *markdown_table(header, rows), ""]
    return "\n".join(lines)


def kind(operation: str) -> str:
    """The kind of an operation from its name: `add_select_fusion.12` is a fusion, `while.3` a while."""
    stem = re.sub(r"(\.\d+|\.clone)+$", "", operation)
    return "fusion" if stem.endswith("fusion") else stem.removeprefix("wrapped_")


def _summary(profile: Profile) -> Table:
    memory = ", ".join(f"{name} {console.number(size / 1e6)} MB" for name, size in profile.memory.items())
    rate = console.number(1 / profile.item_seconds, "/s")
    traced = 1e9 * profile.per_item(profile.seconds)
    rows = [
        ["time of an item, untraced", f"{1e9 * profile.item_seconds:.1f} ns ({rate} items/s)"],
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
        each = profile.per_item(sum(getattr(cost, limit.measure) for cost in profile.costs))
        rates = each / profile.item_seconds, float(np.median(profile.rates[name]))
        rows.append([name, f"{each:,.0f}", *(_rate(rate, limit.unit) for rate in rates), f"{100 * share:.0f} %"])
    header = ("as executed", "an item", "achieved", "machine's limit", "share")
    return (f"Distance from the machine's limits: {_nearest(profile.shares())}", header, rows)


def _rate(value: float, unit: str) -> str:
    number = console.number(value, "/s")
    return f"{number}{unit}" if number[-1].isalpha() else f"{number} {unit}"


def _nearest(shares: dict[str, float]) -> str:
    """Which limit the program is nearest to; more than memory gives comes from caches, whose limit counts then."""
    bounding = {name: share for name, share in shares.items() if not (name == FROM_MEMORY and share > 1)}
    if not bounding:
        return "none was measured"
    name = max(bounding, key=lambda name: bounding[name])
    return f"nearest is that of {name}, {100 * bounding[name]:.0f} %"


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
    return instruction.source if instruction and instruction.source else "(made by the compiler)"


def _scope(profile: Profile, cost: Cost) -> str:
    instruction = profile.instructions.get(cost.name)
    return instruction.scope if instruction and instruction.scope else NO_SCOPE


def _where(profile: Profile) -> str:
    return (
        f"Trace: {profile.trace}/{PHASES}, each operation with its phase (open it with https://ui.perfetto.dev); "
        f"{profile.trace}/plugins/profile for TensorBoard"
    )
