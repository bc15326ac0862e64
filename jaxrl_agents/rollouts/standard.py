"""Plain rollouts."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax

from jaxrl_agents import search
from jaxrl_agents.rollouts.collect import searched
from jaxrl_agents.rollouts.policy import Policy
from jaxrl_agents.rollouts.types import Trajectory


@dataclasses.dataclass(frozen=True)
class Standard:
    """Every member of a group samples its turns from the policy."""

    def check(self, policy: Policy, group_size: int) -> None:
        """See `Strategy`; it fits all."""

    def __call__(
        self, params: Any, key: jax.Array, policy: Policy, tasks: Any, *, group_size: int, num_turns: int
    ) -> Trajectory:
        """See `Strategy`."""
        return searched(
            search.best_of_n, params, key, policy, tasks, group_size=group_size, num_turns=num_turns,
            num_words=1, num_rollouts=1, propose=policy.propose(num_turns),
        )  # fmt: skip
