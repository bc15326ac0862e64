"""What a run produces: rows, and the `results.json` that holds them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Literal

import numpy as np

from envs_jax.files import replaced

SCHEMA_VERSION = 1

Status = Literal["ok", "failed", "unavailable"]
Better = Literal["higher", "lower", ""]
Scalar = str | int | float | bool


@dataclasses.dataclass(frozen=True)
class Target:
    """The figure that a value has to reach, or to match: `≥ value`, `≤ value` or `value ± tolerance`."""

    op: Literal[">=", "<=", "±"]
    value: float
    tolerance: float = 0.0

    def met_by(self, value: float) -> bool:
        """Whether `value` reaches it."""
        if self.op == "±":
            return abs(value - self.value) <= self.tolerance
        return value >= self.value if self.op == ">=" else value <= self.value


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One measured value; `results.json` holds a list of them, with these names."""

    suite: str
    case: str  # what was measured, `<subject>/<aspect>`
    metric: str
    unit: str
    value: float | None = None  # the median over the repeats; None where the status is not "ok"
    p10: float | None = None
    p90: float | None = None
    repeats: int = 0
    batch_size: int | None = None
    compile_seconds: float | None = None  # tracing, lowering and compiling, apart from the time of the value
    parameters: dict[str, Scalar] = dataclasses.field(default_factory=dict)  # what tells rows of one case apart
    better: Better = ""  # the direction of improvement; "" for a plain fact
    target: Target | None = None
    histogram: dict[str, list[float]] | None = (
        None  # {"values": […], "counts": […]} where the value is a median of many
    )
    status: Status = "ok"
    note: str = ""  # why a row has no value, or what a reader must know about it

    @property
    def key(self) -> tuple[Any, ...]:
        """What identifies the row among those of another run."""
        return (self.suite, self.case, self.metric, self.unit, self.batch_size, tuple(sorted(self.parameters.items())))

    @property
    def verdict(self) -> Literal["pass", "miss", ""]:
        """Whether the target is met; "" without a target or a value."""
        if self.target is None or self.value is None:
            return ""
        return "pass" if self.target.met_by(self.value) else "miss"


def spread(values: Any) -> dict[str, Any]:
    """The fields `value`, `p10`, `p90`, `repeats` of a Row, from the values of the repeats."""
    values = np.asarray(values, np.float64)
    p10, median, p90 = np.percentile(values, [10, 50, 90])
    return {"value": float(median), "p10": float(p10), "p90": float(p90), "repeats": int(values.size)}


@dataclasses.dataclass
class Results:
    """The rows of one run, with what it ran on; `save` after each case keeps what is done."""

    machine: dict[str, Any]
    versions: dict[str, str]
    settings: dict[str, Any]  # what was asked for: suites, budget, peers; what lay at levels and products
    rows: list[Row] = dataclasses.field(default_factory=list)
    finished: list[str] = dataclasses.field(default_factory=list)  # cases whose rows are complete, as "suite/case"
    running: str | None = None  # the case that was under way when the file was written
    complete: bool = False
    seconds: float = 0.0  # wall time of the run so far

    def save(self, path: Path) -> None:
        """Writes the file, replacing the old one only when the new one is complete."""
        document = {"schema_version": SCHEMA_VERSION, **dataclasses.asdict(self)}
        with replaced(path) as partial:
            partial.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")

    @staticmethod
    def load(path: Path) -> Results:
        """Reads what `save` wrote; `path` is the file or the folder it lies in.

        Raises:
          FileNotFoundError: there is no such file.
          ValueError: the file is not the results of a benchmark, or of another schema version.
        """
        file = path / "results.json" if path.is_dir() else path
        if not file.exists():
            there = "the folder holds no results.json" if path.is_dir() else "there is no such file or folder"
            raise FileNotFoundError(f"{path}: {there}; name what `run` wrote")
        try:
            return _from_document(json.loads(file.read_text(encoding="utf-8"), parse_constant=_refuse_constant))
        except json.JSONDecodeError as error:
            raise ValueError(f"{file}:{error.lineno}:{error.colno}: malformed JSON ({error.msg})") from error
        except KeyError as error:
            raise ValueError(f"{file}: not benchmark results (field {error} is missing)") from error
        except (ValueError, TypeError) as error:
            raise ValueError(f"{file}: not benchmark results ({error})") from error


def _from_document(document: Any) -> Results:
    document = _expect("the document", document, dict)
    version = document.pop("schema_version")
    if version != SCHEMA_VERSION:
        raise ValueError(f"schema_version is {version!r}; this program reads {SCHEMA_VERSION}")
    for name, form in (("machine", dict), ("versions", dict), ("settings", dict), ("finished", list)):
        _expect(f"field {name!r}", document[name], form)
    rows = [_row(i, fields) for i, fields in enumerate(_expect("field 'rows'", document.pop("rows"), list))]
    return Results(rows=rows, **document)


def _row(index: int, fields: Any) -> Row:
    fields = _expect(f"row {index}", fields, dict)
    for name in ("value", "p10", "p90"):
        value = fields.get(name)
        if value is not None:
            _expect(f"row {index}: field {name!r}", value, (int, float))
    _expect(f"row {index}: field 'parameters'", fields.get("parameters", {}), dict)
    target = fields.pop("target", None)
    return Row(**fields, target=None if target is None else Target(**target))


def _expect(what: str, value: Any, form: type | tuple[type, ...]) -> Any:
    if not isinstance(value, form):
        expected = " or ".join(one.__name__ for one in (form if isinstance(form, tuple) else (form,)))
        raise TypeError(f"{what} is {type(value).__name__} and not {expected}")
    return value


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")
