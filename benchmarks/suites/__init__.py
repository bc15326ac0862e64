"""The suites: each names its cases, and draws its plots.

A suite is a module with one `Suite` object, listed in `SUITES`. Its `cases` are made from the settings without doing
any work; a case does its work, imports included, when it runs.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from benchmarks.measure import BUDGETS, Budget, Program
from benchmarks.results import Row

SUITES = {
    "environments": "benchmarks.suites.environments:SUITE",
    "levels": "benchmarks.suites.levels:SUITE",
    "search": "benchmarks.suites.search:SUITE",
    "solving": "benchmarks.suites.solving:SUITE",
    "training": "benchmarks.suites.training:SUITE",
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the user asked for."""

    budget: Budget = BUDGETS["quick"]
    peers: bool = False
    levels: Path | None = None  # Boxoban text: a file, or a folder of files
    products: Path | None = None  # the folder with WebShop's product files

    @property
    def full(self) -> bool:
        """Whether time matters less than coverage."""
        return self.budget.name == "full"


@dataclasses.dataclass(frozen=True)
class Case:
    """One unit of a run: its rows are written when it ends, and it fails alone."""

    name: str  # `<subject>/<aspect>`
    run: Callable[[], Iterable[Row]]
    programs: dict[str, Callable[[], Program]] = dataclasses.field(default_factory=dict)  # what `profile` can look at

    @property
    def summary(self) -> str:
        """What it measures: the first line of the documentation of what it runs; "" where there is none."""
        function = self.run.func if isinstance(self.run, functools.partial) else self.run
        return (function.__doc__ or "").strip().partition("\n")[0]


@dataclasses.dataclass(frozen=True)
class Plot:
    """A picture for the report."""

    file: str  # its name in the folder of the report
    caption: str


@dataclasses.dataclass(frozen=True)
class Suite:
    """A named list of cases."""

    name: str
    title: str
    cases: Callable[[Settings], Iterable[Case]]
    plots: Callable[[Sequence[Row], Path], Iterator[Plot]]  # (rows of the suite, folder); draws what it has rows for


def load(name: str) -> Suite:
    """The suite of that name; raises ValueError where there is none."""
    if name not in SUITES:
        raise ValueError(f"suite {name!r} is unknown; there are: {', '.join(SUITES)}")
    module, _, attribute = SUITES[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def select(wanted: Sequence[str], settings: Settings) -> list[tuple[Suite, Case]]:
    """The cases that `wanted` names: suites, or the beginning of cases as `suite/case`; all where it is empty."""
    selected: list[tuple[Suite, Case]] = []
    for name in wanted or SUITES:
        suite, matching = _matching(name, settings)
        if not matching:
            raise ValueError(_nothing(name, suite, settings))
        chosen = {(suite.name, case.name) for suite, case in selected}
        selected += [(suite, case) for case in matching if (suite.name, case.name) not in chosen]
    return selected


def _nothing(name: str, suite: Suite, settings: Settings) -> str:
    """Why `name` names no case: there is none, or it takes other options."""
    options = options_with(settings, lambda other: _matching(name, other)[1])
    if options:
        return f"{name!r} is measured only with `{options}`"
    return f"{name!r} names no case of suite {suite.name!r}; see `python -m benchmarks list`"


def options_with(settings: Settings, found: Callable[[Settings], object]) -> str:
    """The options that `settings` lack for `found` to be true, as one gives them to the command; "" where none help."""
    full = dataclasses.replace(settings, budget=BUDGETS["full"])
    wider = {"--budget full": full, "--peers": dataclasses.replace(settings, peers=True)}
    wider["--budget full --peers"] = dataclasses.replace(full, peers=True)
    return next((options for options, other in wider.items() if found(other)), "")


def _matching(name: str, settings: Settings) -> tuple[Suite, list[Case]]:
    suite_name, _, prefix = name.partition("/")
    suite = load(suite_name)
    wanted = f"{prefix}/" if prefix else ""
    return suite, [case for case in suite.cases(settings) if f"{case.name}/".startswith(wanted)]
