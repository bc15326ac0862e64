"""Batched best-first search: solves thousands of Sokoban levels at once, push-optimally or fast."""

from jaxrl_agents.search.best_first.programs import is_compiling
from jaxrl_agents.search.best_first.solver import Progress, SolveResult, solve
from jaxrl_agents.search.best_first.types import Mode, Status

__all__ = ["Mode", "Progress", "SolveResult", "Status", "is_compiling", "solve"]
