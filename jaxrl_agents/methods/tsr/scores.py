"""What TSR's searches rank turns by: the proxy scores of the paper's appendix D.2.

A score is a frozen dataclass of its weights, called as `score(env, params, candidate)`; `Guided` binds it to the
environment of a policy, and then it is the `score` of any mode of `jaxrl_agents.search`. The paper leaves the weights
open; the defaults here are ours. Sokoban needs no proxy: its search ranks by the accumulated reward, `"return"`.
"""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from envs_jax.arguments import as_float
from envs_jax.frozen_lake.env import FrozenLake
from envs_jax.web.pages import Segment
from envs_jax.web.state_machine import Page
from envs_jax.web.webshop import WebShop
from jaxrl_agents.rollouts import Beam, Lookahead, Policy, Trajectory
from jaxrl_agents.search.types import Candidate

_FAR = np.int32(2**15)  # further than any two cells of a map are apart


class Score(Protocol):
    """A score of candidate turns that looks at the environment."""

    def __call__(self, env: Any, params: Any, candidate: Candidate) -> jax.Array:
        """float32[B], from `(parameters, tasks)` and the candidates of B roots."""


def _check_weights(score: Any) -> None:
    """Raises TypeError or ValueError for the first field that is no finite number of at least 0."""
    for field in dataclasses.fields(score):
        weight = getattr(score, field.name)
        if not 0 <= as_float(field.name, weight) < math.inf:
            raise ValueError(f"{field.name}={weight} must be a finite number of at least 0")


@dataclasses.dataclass(frozen=True)
class LakeScore:
    """FrozenLake (equation 14): −d(s', g) − λ·1[s' is a hole], d the Manhattan distance to the (nearest) goal.

    Attributes:
      hole_penalty: λ. The default is more than the largest distance on a 4×4 map, so that a hole is worse than any
        other tile.
    """

    hole_penalty: float = 10.0

    def __post_init__(self) -> None:
        _check_weights(self)

    def __call__(self, env: FrozenLake, params: Any, candidate: Candidate) -> jax.Array:
        return jax.vmap(partial(self._of_state, env))(environment_state(candidate.embedding), params[1])

    def _of_state(self, env: FrozenLake, state: Any, task: Any) -> jax.Array:
        rows, columns = np.indices((env.layout.rows, env.layout.columns))
        distance = jnp.abs(rows - state.row.astype(jnp.int32)) + jnp.abs(columns - state.column.astype(jnp.int32))
        nearest = jnp.min(jnp.where(env.cells(task.goals) == 1, distance, _FAR))
        in_hole = env.cells(task.holes)[state.row, state.column]
        return -(nearest + self.hole_penalty * in_hole).astype(jnp.float32)


@dataclasses.dataclass(frozen=True)
class ShopScore:
    """WebShop (equation 15): α · milestones + β · similarity of the instruction and the page.

    Milestones are counted, 0 … 3: a product's pages are open, an option of it is chosen, it is bought (which counts as
    3, chosen options or not). So the score of a path is as high as the paper's indicator summed over its new
    milestones. The similarity is the share of the instruction's distinct words that the page shows; a purchase keeps
    that of the page where it was made, because the last page of the shop shows no product.

    Attributes:
      milestone_weight: α.
      similarity_weight: β.
    """

    milestone_weight: float = 1.0
    similarity_weight: float = 1.0

    def __post_init__(self) -> None:
        _check_weights(self)

    def __call__(self, env: WebShop, params: Any, candidate: Candidate) -> jax.Array:
        return jax.vmap(partial(self._of_state, env))(environment_state(candidate.embedding), params[1])

    def _of_state(self, env: WebShop, state: Any, task: Any) -> jax.Array:
        bought = state.page == Page.DONE
        milestones = jnp.where(bought, 3, (state.page >= Page.ITEM) * (1 + (state.options > 0).any()))
        shown = dataclasses.replace(state, page=jnp.where(bought, jnp.uint8(Page.ITEM), state.page))
        observation = env.observe(shown, task)
        similarity = overlap(observation["word"], observation["segment"])
        return (self.milestone_weight * milestones + self.similarity_weight * similarity).astype(jnp.float32)


def overlap(word: jax.Array, segment: jax.Array) -> jax.Array:
    """float32[]: the share of the instruction's distinct words that the page shows, from tokens [T] of a page."""
    asked = segment == Segment.INSTRUCTION
    there = (segment != Segment.PADDING) & ~asked
    same = word[:, None] == word[None, :]
    number = jnp.arange(len(word))
    first = asked & ~jnp.any(same & asked[None, :] & (number[None, :] < number[:, None]), axis=1)
    found = first & jnp.any(same & there[None, :], axis=1)
    return jnp.sum(found) / jnp.maximum(jnp.sum(first), 1).astype(jnp.float32)


def environment_state(embedding: Any) -> Any:
    """The environment's state in a node of a policy's search, with context of one turn or of the episode."""
    return getattr(embedding, "state", embedding)


@dataclasses.dataclass(frozen=True)
class Guided:
    """A search strategy that ranks by a score of the environment.

    The score is bound to the policy's environment when the strategy is called, so that the arrays of the environment
    are arguments of a jitted program and not constants in it.
    """

    search: Beam | Lookahead
    score: Score

    def check(self, policy: Policy, group_size: int) -> None:
        """See `rollouts.Strategy`."""
        self.search.check(policy, group_size)

    def __call__(
        self, params: Any, key: jax.Array, policy: Policy, tasks: Any, *, group_size: int, num_turns: int
    ) -> Trajectory:
        """See `rollouts.Strategy`."""
        search = dataclasses.replace(self.search, score=partial(self.score, policy.env))
        return search(params, key, policy, tasks, group_size=group_size, num_turns=num_turns)
