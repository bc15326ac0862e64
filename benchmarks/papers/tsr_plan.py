"""What the study of TSR runs: its cells, by budget."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping

from benchmarks.papers import Budget
from jaxrl_agents.methods import tsr
from jaxrl_agents.rollouts import Beam, Strategy

BASELINE = "filtering"
METHODS = tuple(tsr.METHODS)  # from the least to the best, as the paper ranks them
FIRST_BUDGETS = ("beam M=2 W=1", "beam M=2 W=2", "beam M=6 W=2")  # those of the paper's Table 4
SHARED = "shared beam"
STRATEGIES: dict[str, Strategy] = {
    **tsr.METHODS,
    **{
        f"beam M={m} W={w}": Beam(beam_width=w, num_candidates=m) for w in (1, 2) for m in (2, 4, 6) if (m, w) != (4, 2)
    },
    SHARED: Beam(beam_width=tsr.GROUP_SIZE, num_candidates=4, per="group"),
}


@dataclasses.dataclass(frozen=True)
class Cell:
    """One setting of the study; it is run with every seed."""

    domain: str  # a key of the plan's presets
    method: str  # a key of STRATEGIES
    num_updates: int  # after which methods are compared
    total_updates: int  # more than that where the method is cheap, to compare it at the cost of the others
    every: int  # updates between two evaluations

    @property
    def name(self) -> str:
        """What runs and tables call it."""
        return f"{self.domain}/{self.method}"

    @property
    def evaluations(self) -> list[int]:
        """The updates after which the policy is evaluated, in order; 0 is the base model."""
        return sorted({*range(0, self.total_updates + 1, self.every), self.num_updates})


@dataclasses.dataclass(frozen=True)
class Plan:
    """How much of the study a budget runs.

    Attributes:
      domains: in this order, the methods of each one.
      budgets: of the beam, beside the main one, for each domain.
      num_updates: after which methods are compared.
      longer: how many times as many the baseline goes on for.
      every: updates between two evaluations.
      sizes: of the policy.
      methods: of the main comparison.
      presets: what the names of domains stand for.
    """

    domains: tuple[str, ...]
    budgets: dict[str, tuple[str, ...]]
    num_updates: int
    longer: int
    every: int
    sizes: tsr.Sizes = tsr.Sizes()
    methods: tuple[str, ...] = METHODS
    presets: Mapping[str, tsr.Domain] = dataclasses.field(default_factory=lambda: tsr.DOMAINS)

    def with_levels(self, levels: str | os.PathLike[str]) -> Plan:
        """The same, and the main comparison on Boxoban's levels from a file or folder."""
        domain = tsr.boxoban(levels)
        presets = {**self.presets, domain.name: domain}
        return dataclasses.replace(self, domains=(*self.domains, domain.name), presets=presets)

    def cells(self) -> Iterator[Cell]:
        """All settings, the main comparison of each domain first."""
        for domain in self.domains:
            for method in self.methods:
                times = self.longer if method == BASELINE else 1
                yield self._cell(domain, method, times)
        for domain, methods in self.budgets.items():
            for method in methods:
                yield self._cell(domain, method, 1)

    def _cell(self, domain: str, method: str, times: int) -> Cell:
        return Cell(domain, method, self.num_updates, times * self.num_updates, self.every)


_ALL_BUDGETS = tuple(method for method in STRATEGIES if method not in METHODS)
_LARGE = tsr.Sizes(d_model=256, num_layers=4, num_heads=4, base_learning_rate=1e-3, learning_rate=3e-4)

PLANS = {
    "quick": Plan(("sokoban", "frozen-lake"), {"sokoban": FIRST_BUDGETS}, 40, 2, 5),
    "standard": Plan(
        ("sokoban", "sokoban-2box", "frozen-lake"),
        {"sokoban": (*FIRST_BUDGETS, SHARED), "frozen-lake": FIRST_BUDGETS}, 100, 3, 5,
    ),
    "full": Plan(
        tuple(tsr.DOMAINS), dict.fromkeys(tsr.DOMAINS, _ALL_BUDGETS), 200, 4, 10, _LARGE
    ),
}  # fmt: skip

BUDGETS = {
    "quick": Budget("Sokoban and FrozenLake, 40 updates; with its 2 seeds at most 20 minutes on 2 cores", 2),
    "standard": Budget(
        "Sokoban with one and two boxes, FrozenLake, 100 updates; with its 5 seeds at most 150 minutes on 2 cores", 5
    ),
    "full": Budget("all domains with WebShop, 200 updates; for an accelerator", 5),
}
