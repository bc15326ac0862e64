"""Rollouts: how the episodes that a policy learns from are collected, one strategy a file.

policy = Policy(env, model)                                        # env made with observation="tokens"
trajectory = Beam(beam_width=2, num_candidates=4)(params, key, policy, tasks, group_size=8, num_turns=10)
"""

from jaxrl_agents.rollouts.beam import Beam
from jaxrl_agents.rollouts.best_of_n import BestOfN
from jaxrl_agents.rollouts.collect import demonstrated
from jaxrl_agents.rollouts.entropy_backtrack import EntropyBacktrack
from jaxrl_agents.rollouts.filtering import FILTERS, Filter, Informative, MinP, Top, TopK, TopP
from jaxrl_agents.rollouts.lookahead import Lookahead
from jaxrl_agents.rollouts.performed import performed
from jaxrl_agents.rollouts.policy import Decided, Policy
from jaxrl_agents.rollouts.replay import Replay, replay
from jaxrl_agents.rollouts.standard import Standard
from jaxrl_agents.rollouts.types import EXPERT, HINT, POLICY, Counts, Strategy, Trajectory

STRATEGIES = {
    "standard": Standard,
    "best_of_n": BestOfN,
    "beam": Beam,
    "lookahead": Lookahead,
    "entropy_backtrack": EntropyBacktrack,
}

__all__ = [
    "EXPERT",
    "FILTERS",
    "HINT",
    "POLICY",
    "STRATEGIES",
    "Beam",
    "BestOfN",
    "Counts",
    "Decided",
    "EntropyBacktrack",
    "Filter",
    "Informative",
    "Lookahead",
    "MinP",
    "Policy",
    "Replay",
    "Standard",
    "Strategy",
    "Top",
    "TopK",
    "TopP",
    "Trajectory",
    "demonstrated",
    "performed",
    "replay",
]
