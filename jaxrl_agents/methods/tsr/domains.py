"""The tasks that TSR is studied on, as data: environments, turns, algorithms, and what a search is guided by."""

from __future__ import annotations

import dataclasses
import os
from typing import Any, Literal

from jaxrl_agents.methods.tsr.scores import LakeScore, Score, ShopScore

NUM_HELD_OUT = 256  # tasks that success is measured on, never trained on


@dataclasses.dataclass(frozen=True)
class Domain:
    """An environment as the paper plays it.

    Attributes:
      name: of the domain.
      id: of the environment.
      arguments: of `envs_jax.make`, names and values; of the tasks `NUM_HELD_OUT` are held out.
      algorithm: PPO where rewards are dense, GRPO where they are sparse or late.
      num_turns: K.
      max_turn_actions: L, actions decided at one observation; the task's time limit bounds those of an episode.
      context: what the policy sees, the present observation or the episode.
      score: guides beams and lookaheads; None: the accumulated reward.
      base_steps: supervised updates that make the base model, few enough that much is left to be learned (with the
        default `Sizes` it succeeds in a third of the episodes on Sokoban and FrozenLake); 0: it is random.
      pace: learning rate over that of `Sizes`; smaller where the domain's few, noisy groups undo what was learned.
    """

    name: str
    id: str
    arguments: tuple[tuple[str, Any], ...] = ()
    algorithm: Literal["ppo", "grpo"] = "ppo"
    num_turns: int = 5
    max_turn_actions: int = 5
    context: Literal["turn", "episode"] = "turn"
    score: Score | None = None
    base_steps: int = 0
    pace: float = 1.0


_ROOMS = ("num_levels", 4096 + NUM_HELD_OUT)
_LAKES = ("num_maps", 4096 + NUM_HELD_OUT)

# WebShop has RAGEN's nine turns of one action: averages of 5.8 to 7.7 turns, as the paper's, do not come from five.
DOMAINS = {
    domain.name: domain
    for domain in (
        Domain("sokoban", "Sokoban-RAGEN-v0", (_ROOMS,), base_steps=30),
        Domain("sokoban-2box", "Sokoban-RAGEN-2box-v0", (_ROOMS,), base_steps=60),
        Domain(
            "sokoban-8x8", "Sokoban-8x8-v0", (_ROOMS, ("difficulty", "easy"), ("time_limit", 40)), num_turns=10,
            base_steps=60,
        ),
        Domain(
            "frozen-lake", "FrozenLake-RAGEN-v0", (_LAKES,), algorithm="grpo", score=LakeScore(), base_steps=90,
            pace=0.3,
        ),
        Domain(
            "webshop", "WebShop-v0", (("time_limit", 9),), algorithm="grpo", num_turns=9, max_turn_actions=1,
            context="episode", score=ShopScore(), base_steps=30,
        ),
    )
}  # fmt: skip


def boxoban(levels: str | os.PathLike[str]) -> Domain:
    """Boxoban's levels, 10×10 with four boxes: the hardest preset.

    Args:
      levels: a file or a folder of its text files, more than `NUM_HELD_OUT` levels.
    """
    arguments = (("levels", os.fspath(levels)), ("time_limit", 120))
    return Domain("boxoban", "Sokoban-v0", arguments, num_turns=24, base_steps=60)
