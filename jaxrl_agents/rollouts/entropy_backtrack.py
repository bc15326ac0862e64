"""Rollouts that step back where the policy is unsure; with several for each member, the best of them."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax

from jaxrl_agents import search
from jaxrl_agents.arguments import count
from jaxrl_agents.rollouts.collect import searched
from jaxrl_agents.rollouts.policy import Policy
from jaxrl_agents.rollouts.types import Trajectory
from jaxrl_agents.search.arguments import check_score, finite, number
from jaxrl_agents.search.entropy_backtrack import Distance
from jaxrl_agents.search.nodes import ScoreFn


@dataclasses.dataclass(frozen=True)
class EntropyBacktrack:
    """Entropy-triggered backtracking, and with `num_rollouts` above 1 its combination with best-of-N.

    Where the policy's entropy is above the threshold, the rollout steps back and takes its turn at a higher
    temperature; `Trajectory.log_probs` are those of the temperature used. Turns of several actions are judged by the
    entropies of their decisions, summed, once they are drawn: what triggers is then left out by what it is. Turns that
    were discarded are not in the trajectory, but in its counts. `Trajectory.simulated` is True with several rollouts:
    one alone is not compared with any, though it leaves the states where the policy is unsure.

    Attributes:
      entropy_threshold: η, nats.
      steps_back: the most turns that a retry goes back.
      distance: "uniform" draws how far, "fixed" goes as far as it may.
      max_retries: retries of a rollout.
      retry_temperature: divides the logits of a retried turn.
      free_backtrack: discarded turns do not count as turns of the episode.
      num_rollouts: for each member, of which the best is kept.
      score: what they are ranked by, see `search.best_of_n`.
    """

    entropy_threshold: float = 0.3
    steps_back: int = 3
    distance: Distance = "uniform"
    max_retries: int = 3
    retry_temperature: float = 1.5
    free_backtrack: bool = False
    num_rollouts: int = 1
    score: str | ScoreFn = "return"

    def __post_init__(self) -> None:
        number("entropy_threshold", self.entropy_threshold)
        finite("retry_temperature", self.retry_temperature, low=0.0)
        for name in ("steps_back", "max_retries", "num_rollouts"):
            count(name, getattr(self, name))
        check_score(self.score)

    def check(self, policy: Policy, group_size: int) -> None:
        """See `Strategy`."""

    def __call__(
        self, params: Any, key: jax.Array, policy: Policy, tasks: Any, *, group_size: int, num_turns: int
    ) -> Trajectory:
        """See `Strategy`."""
        self.check(policy, group_size)
        options = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        if policy.max_turn_actions > 1:
            hotter = policy.replace(temperature=options.pop("retry_temperature"))
            options |= {"propose": policy.propose(num_turns), "retry_propose": hotter.propose(num_turns)}
        return searched(
            search.entropy_backtrack, params, key, policy, tasks, group_size=group_size, num_turns=num_turns,
            num_words=self.num_rollouts, **options,
        )  # fmt: skip
