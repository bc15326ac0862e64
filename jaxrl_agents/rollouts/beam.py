"""Rollouts by beam search."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax

from jaxrl_agents import search
from jaxrl_agents.arguments import count
from jaxrl_agents.rollouts.collect import Per, check_candidates, check_group, check_per, searched
from jaxrl_agents.rollouts.policy import Policy
from jaxrl_agents.rollouts.types import Trajectory
from jaxrl_agents.search.arguments import check_score
from jaxrl_agents.search.nodes import ScoreFn
from jaxrl_agents.search.proposals import Candidates


@dataclasses.dataclass(frozen=True)
class Beam:
    """The best paths of a beam search over turns (TSR, arXiv 2602.11767).

    Attributes:
      beam_width: W; per "group" at least the size of a group, whose rows are the N best paths of one beam.
      num_candidates: M, candidates of each node.
      candidates: how they are drawn, "sample", "gumbel" or "enumerate" (then M is the number of actions).
      score: what nodes are ranked by, see `search.beam_search`.
      deduplicate: keep one node of those in the same state.
      per: one beam for each "member", whose best path is the row, or one for the "group".
    """

    beam_width: int = 2
    num_candidates: int = 4
    candidates: Candidates = "sample"
    score: str | ScoreFn = "return"
    deduplicate: bool = False
    per: Per = "member"

    def __post_init__(self) -> None:
        count("beam_width", self.beam_width)
        count("num_candidates", self.num_candidates)
        check_per(self.per)
        check_score(self.score)

    def check(self, policy: Policy, group_size: int) -> None:
        """See `Strategy`."""
        check_group("beam_width", self.beam_width, self.per, group_size)
        check_candidates(self.candidates, self.num_candidates, policy)

    def __call__(
        self, params: Any, key: jax.Array, policy: Policy, tasks: Any, *, group_size: int, num_turns: int
    ) -> Trajectory:
        """See `Strategy`."""
        self.check(policy, group_size)
        number = policy.env.num_actions if self.candidates == "enumerate" else self.num_candidates
        return searched(
            search.beam_search, params, key, policy, tasks, group_size=group_size, num_turns=num_turns,
            num_words=self.beam_width * number, per=self.per, beam_width=self.beam_width, num_candidates=number,
            candidates=self.candidates, score=self.score, deduplicate=self.deduplicate,
            propose=policy.propose(num_turns),
        )  # fmt: skip
