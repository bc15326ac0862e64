"""Search over batches of roots: best-of-N, beam, lookahead, entropy-triggered backtracking and MCTS."""

from jaxrl_agents.search.beam import beam_search
from jaxrl_agents.search.best_of_n import best_of_n
from jaxrl_agents.search.lookahead import lookahead
from jaxrl_agents.search.model import EnvModel, Model, from_env
from jaxrl_agents.search.types import (
    Candidate,
    Counts,
    Proposal,
    RootFnOutput,
    SearchOutput,
    SearchTree,
    Trajectories,
)

__all__ = [
    "Candidate",
    "Counts",
    "EnvModel",
    "Model",
    "Proposal",
    "RootFnOutput",
    "SearchOutput",
    "SearchTree",
    "Trajectories",
    "beam_search",
    "best_of_n",
    "from_env",
    "lookahead",
]
