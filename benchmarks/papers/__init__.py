"""The studies: each repeats the experiments of a paper and shows the paper's tables beside ours.

A study is a module with one `Paper` object, listed in `PAPERS`.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from pathlib import Path

from benchmarks.papers.progress import Progress
from benchmarks.papers.study import Study

PAPERS = {
    "expseek-rollouts": "benchmarks.papers.expseek_rollouts:PAPER",
    "tsr": "benchmarks.papers.tsr:PAPER",
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the user asked for."""

    budget: str  # a key of the paper's budgets
    num_seeds: int
    seed: int  # all seeds of the study derive from it
    levels: str | None = None  # of Boxoban, a file or a folder


@dataclasses.dataclass(frozen=True)
class Budget:
    """How much of a study is run."""

    summary: str
    num_seeds: int  # unless the user names another number


@dataclasses.dataclass(frozen=True)
class Paper:
    """A paper and the study that repeats it.

    `study` prints nothing itself: it tells `progress` how far it is, draws its plots into the folder, and returns what
    is to be shown. The same settings give the same Study, its `timings` and `time_tables` apart. It keeps finished runs
    in the folder (see `store`): after an interruption the same settings and folder go on from there.
    """

    name: str
    title: str
    budgets: dict[str, Budget]
    default_budget: str
    study: Callable[[Settings, Path, Progress], Study]
    takes_levels: bool = False  # it can play Boxoban's levels


def load(name: str) -> Paper:
    """The paper of that name; raises ValueError where there is none."""
    if name not in PAPERS:
        raise ValueError(f"paper {name!r} is unknown; there are: {', '.join(PAPERS)}")
    module, _, attribute = PAPERS[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def settings(
    paper: Paper, budget: str | None, num_seeds: int | None, seed: int, levels: Path | None = None
) -> Settings:
    """The settings that the options of the command stand for.

    Raises:
      ValueError: naming the option, its value and what is allowed.
      FileNotFoundError: there are no such levels.
    """
    budget = paper.default_budget if budget is None else budget
    if budget not in paper.budgets:
        known = "; ".join(f"{name} ({budget.summary})" for name, budget in paper.budgets.items())
        raise ValueError(f"--budget {budget}: {paper.name} has the budgets {known}")
    num_seeds = paper.budgets[budget].num_seeds if num_seeds is None else num_seeds
    if num_seeds < 2:
        raise ValueError(f"--seeds {num_seeds}: an interval needs at least 2 seeds")
    if not 0 <= seed < 2**32:
        raise ValueError(f"--seed {seed} is not in 0 … {2**32 - 1}")
    if levels is not None and not paper.takes_levels:
        raise ValueError(f"--levels {levels}: {paper.name} plays no levels; leave it out")
    if levels is not None and not levels.exists():
        raise FileNotFoundError(f"--levels {levels}: there is no such file or folder")
    return Settings(budget, num_seeds, seed, None if levels is None else str(levels))
