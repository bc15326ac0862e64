"""Rollouts by lookahead."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax

from jaxrl_agents import search
from jaxrl_agents.arguments import count
from jaxrl_agents.rollouts.collect import check_candidates, searched
from jaxrl_agents.rollouts.policy import Policy
from jaxrl_agents.rollouts.types import Trajectory
from jaxrl_agents.search.arguments import check_score
from jaxrl_agents.search.nodes import ScoreFn
from jaxrl_agents.search.proposals import Candidates


@dataclasses.dataclass(frozen=True)
class Lookahead:
    """Each turn is the candidate whose simulated continuation scores best (TSR, arXiv 2602.11767).

    The turn is then played with a word that the simulation has not seen, so its outcome is a fair draw. A turn of
    several actions is played as it was drawn, wherever its first ones lead.

    Attributes:
      depth: D, turns of the policy that follow a candidate in its simulation.
      num_candidates: M.
      candidates: how they are drawn, "sample", "gumbel" or "enumerate" (then M is the number of actions).
      score: of the last simulated node, see `search.lookahead`.
      bootstrap: add the value head's estimate of the last simulated node; for algorithms that train it.
    """

    depth: int = 2
    num_candidates: int = 4
    candidates: Candidates = "sample"
    score: str | ScoreFn = "return"
    bootstrap: bool = False

    def __post_init__(self) -> None:
        count("depth", self.depth)
        count("num_candidates", self.num_candidates)
        check_score(self.score)

    def check(self, policy: Policy, group_size: int) -> None:
        """See `Strategy`."""
        check_candidates(self.candidates, self.num_candidates, policy)

    def __call__(
        self, params: Any, key: jax.Array, policy: Policy, tasks: Any, *, group_size: int, num_turns: int
    ) -> Trajectory:
        """See `Strategy`."""
        self.check(policy, group_size)
        number = policy.env.num_actions if self.candidates == "enumerate" else self.num_candidates
        propose = policy.propose(num_turns + self.depth)
        return searched(
            search.lookahead, params, key, policy, tasks, group_size=group_size, num_turns=num_turns,
            num_words=number, turns_ahead=self.depth, depth=self.depth, num_candidates=number,
            candidates=self.candidates, score=self.score, bootstrap=self.bootstrap, propose=propose,
        )  # fmt: skip
