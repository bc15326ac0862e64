"""Search over batches of roots: best-of-N, beam, lookahead, entropy-triggered backtracking and MCTS.

model = search.from_env(env)                     # or a Model of your own, or mctx's recurrent_fn
root = model.root(params, states, tasks)
output = search.beam_search(params, key, root, model, tasks=tasks, num_turns=16, beam_width=8, num_candidates=4)
best = output.trajectories(1)
"""

from jaxrl_agents.search.beam import beam_search
from jaxrl_agents.search.best_of_n import best_of_n
from jaxrl_agents.search.chunking import chunked
from jaxrl_agents.search.entropy_backtrack import entropy_backtrack
from jaxrl_agents.search.lookahead import lookahead
from jaxrl_agents.search.mcts import mcts
from jaxrl_agents.search.memory import compiled_bytes, estimate_bytes
from jaxrl_agents.search.model import EnvModel, Model, from_env
from jaxrl_agents.search.render import path_image, tree_image, tree_text
from jaxrl_agents.search.trajectory import Execution, execute, next_root
from jaxrl_agents.search.types import (
    BacktrackTree,
    Candidate,
    Counts,
    Proposal,
    RootFnOutput,
    SearchOutput,
    SearchTree,
    Trajectories,
)

__all__ = [
    "BacktrackTree",
    "Candidate",
    "Counts",
    "EnvModel",
    "Execution",
    "Model",
    "Proposal",
    "RootFnOutput",
    "SearchOutput",
    "SearchTree",
    "Trajectories",
    "beam_search",
    "best_of_n",
    "chunked",
    "compiled_bytes",
    "entropy_backtrack",
    "estimate_bytes",
    "execute",
    "from_env",
    "lookahead",
    "mcts",
    "next_root",
    "path_image",
    "tree_image",
    "tree_text",
]
