"""Best-of-N rollouts."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax

from jaxrl_agents import search
from jaxrl_agents.arguments import count
from jaxrl_agents.rollouts.collect import Per, check_group, check_per, searched
from jaxrl_agents.rollouts.policy import Policy
from jaxrl_agents.rollouts.types import Trajectory
from jaxrl_agents.search.arguments import check_score
from jaxrl_agents.search.nodes import ScoreFn


@dataclasses.dataclass(frozen=True)
class BestOfN:
    """The best of several plain rollouts (TSR, arXiv 2602.11767).

    Attributes:
      num_rollouts: for each "member", of which the best is kept; or for each "group", of which the best N are, so that
        it is at least the size of a group (TSR: 28 for groups of 16).
      per: "member" or "group".
      score: what rollouts are ranked by, see `search.best_of_n`.
    """

    num_rollouts: int = 4
    per: Per = "member"
    score: str | ScoreFn = "return"

    def __post_init__(self) -> None:
        count("num_rollouts", self.num_rollouts)
        check_per(self.per)
        check_score(self.score)

    def check(self, policy: Policy, group_size: int) -> None:
        """See `Strategy`."""
        check_group("num_rollouts", self.num_rollouts, self.per, group_size)

    def __call__(
        self, params: Any, key: jax.Array, policy: Policy, tasks: Any, *, group_size: int, num_turns: int
    ) -> Trajectory:
        """See `Strategy`."""
        self.check(policy, group_size)
        return searched(
            search.best_of_n, params, key, policy, tasks, group_size=group_size, num_turns=num_turns,
            num_words=self.num_rollouts, per=self.per, num_rollouts=self.num_rollouts, score=self.score,
            propose=policy.propose(num_turns),
        )  # fmt: skip
