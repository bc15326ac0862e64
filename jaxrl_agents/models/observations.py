"""Adapters: the `tokens` observation of each environment as the tokens of a transformer."""

from __future__ import annotations

import math
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from envs_jax.environment import Environment
from envs_jax.frozen_lake.env import NUM_CODES, PLAYER, FrozenLake
from envs_jax.pytree import pytree_dataclass, static_field
from envs_jax.sokoban.env import Sokoban
from envs_jax.sokoban.grid import Code
from envs_jax.web.pages import Segment
from envs_jax.web.state_machine import Actions
from envs_jax.web.tabular import TabularWeb
from envs_jax.web.webshop import WebShop
from jaxrl_agents.models.config import TransformerConfig
from jaxrl_agents.models.tokens import Tokens

_READOUT, _SETTLED = max(Segment) + 1, max(Segment) + 2  # segments of WebShop's that only models know


class Adapter(Protocol):
    """Observations of one environment as tokens: a pytree, such as a `pytree_dataclass`."""

    @property
    def sizes(self) -> dict[str, Any]:
        """The fields of `TransformerConfig` that the observations determine, `num_words` at least."""

    @property
    def num_tokens(self) -> int:
        """T: tokens of an observation."""

    def __call__(self, observation: Any) -> Tokens:
        """Tokens [B, T], read out once, of observations [B, …]; B may be several axes."""


@pytree_dataclass
class GridAdapter:
    """Cells row by row; the read-out is the cell where the player stands.

    A ring of wall around every board says nothing, and is left out.
    """

    num_codes: int = static_field()
    size: tuple[int, int] = static_field()  # of the observation
    player: int = static_field()  # codes from here on are cells with the player
    ring: int = static_field(default=0)  # width of the wall around every board

    @property
    def num_tokens(self) -> int:
        return math.prod(length - 2 * self.ring for length in self.size)

    @property
    def sizes(self) -> dict[str, Any]:
        return {"num_words": self.num_codes, "num_places": self.num_tokens}

    def __call__(self, observation: jax.Array) -> Tokens:
        rows, columns = (slice(self.ring, length - self.ring) for length in self.size)
        batch = observation.shape[:-1]
        cells = observation.reshape(*batch, *self.size)[..., rows, columns].reshape(*batch, self.num_tokens)
        place = jnp.broadcast_to(jnp.arange(self.num_tokens, dtype=jnp.int32), cells.shape)
        readout = jnp.argmax(cells >= self.player, axis=-1).astype(jnp.int32)[..., None]
        return Tokens(cells.astype(jnp.int32), readout, place=place)


@pytree_dataclass
class TabularWebAdapter:
    """Two tokens, page and task; the read-out is the page."""

    num_words: int = static_field()  # pages and tasks
    num_tokens: int = static_field(default=2)

    @property
    def sizes(self) -> dict[str, Any]:
        return {"num_words": self.num_words}

    def __call__(self, observation: jax.Array) -> Tokens:
        return Tokens(observation.astype(jnp.int32), jnp.zeros((*observation.shape[:-1], 1), jnp.int32))


@pytree_dataclass
class WebShopAdapter:
    """A token of its own for the read-out, then the words of the page, with segment, slot and place in their text.

    Of a word the model sees whether the instruction holds it, the exact match of Chen et al. 2017 (arXiv:1704.00051),
    and not which word it is: a table of words is trained on those of the training goals' pages alone. Of an option it
    sees whether a value of its group is chosen already, which it would need a layer more for.
    """

    actions: Actions = static_field()
    num_words_shown: int = static_field()
    num_instruction: int = static_field()  # of these the first, which are the instruction

    @property
    def num_tokens(self) -> int:
        return self.num_words_shown + 1

    @property
    def sizes(self) -> dict[str, Any]:
        return {
            "num_words": 2,
            "num_segments": _SETTLED + 1,
            "num_slots": self.actions.total + 1,
            "num_places": self.num_words_shown,
            "pointer": True,
        }

    def __call__(self, observation: dict[str, jax.Array]) -> Tokens:
        first = lambda leaf, value=0: jnp.pad(
            leaf.astype(jnp.int32), [(0, 0)] * (leaf.ndim - 1) + [(1, 0)], constant_values=value
        )
        word, segment = observation["word"], first(self._segment(observation), _READOUT)
        instruction = word[..., : self.num_instruction]
        found = jnp.any(word[..., :, None] == instruction[..., None, :], axis=-1)
        return Tokens(
            word=first(found),
            readout=jnp.zeros((*segment.shape[:-1], 1), jnp.int32),
            segment=segment,
            slot=first(observation["slot"]),
            place=first(observation["position"]),
            mask=segment != Segment.PADDING,
        )

    def _segment(self, observation: dict[str, jax.Array]) -> jax.Array:
        """int32[B, T]: the segments, with options apart whose group has a value that is chosen."""
        segment, slot = observation["segment"].astype(jnp.int32), observation["slot"].astype(jnp.int32)
        settled = jnp.zeros(segment.shape, bool)
        start = self.actions.options + 1
        for size in self.actions.group_sizes:
            own = (slot >= start) & (slot < start + size)
            settled |= own & jnp.any(own & (segment == Segment.CHOSEN_OPTION), axis=-1, keepdims=True)
            start += size
        return jnp.where(settled & (segment == Segment.OPTION), _SETTLED, segment)


def adapter_for(env: Environment[Any, Any], adapter: Adapter | None = None) -> Adapter:
    """`adapter`, or where none is given that of an environment of this package.

    Such an environment is made with `observation="tokens"`; WebShop has but one observation.

    Raises:
      TypeError: there is none for such an environment, or the one that is given is not a pytree.
      ValueError: the environment was made with other observations.
    """
    if adapter is not None:
        if jax.tree_util.all_leaves([adapter]):
            raise TypeError(
                f"adapter={adapter!r} must be a pytree with the members of jaxrl_agents.models.Adapter: decorate its "
                "class with envs_jax.pytree_dataclass"
            )
        return adapter
    if isinstance(env, WebShop):
        num_instruction = env.tokens.instructions.shape[1]
        return WebShopAdapter(env.actions, num_instruction + env.tokens.bodies.word.shape[1], num_instruction)
    if not isinstance(env, Sokoban | FrozenLake | TabularWeb):
        raise TypeError(
            f"no adapter for {type(env).__name__}: give adapter=, a jaxrl_agents.models.Adapter that makes Tokens of "
            "its observations"
        )
    if env.observation != "tokens":
        raise ValueError(
            f"observation={env.observation!r} has no adapter; make the environment with observation='tokens', or give "
            "adapter="
        )
    if isinstance(env, TabularWeb):
        return TabularWebAdapter(env.num_pages + env.num_tasks)
    if isinstance(env, FrozenLake):
        return GridAdapter(NUM_CODES, (env.layout.rows, env.layout.columns), PLAYER + 1)
    return GridAdapter(len(Code), env.layout.size, Code.PLAYER, ring=1)


def config_for(env: Environment[Any, Any], *, adapter: Adapter | None = None, **fields: Any) -> TransformerConfig:
    """A configuration that fits an environment; `fields` are those of `TransformerConfig` that are chosen freely.

    `adapter` is that of the policy, `adapter_for(env)` by default.
    """
    sizes = {"num_actions": env.num_actions, **adapter_for(env, adapter).sizes}
    given = sorted(set(sizes) & set(fields) - {"pointer"})
    if given:
        raise ValueError(f"{given[0]}={fields[given[0]]!r} follows from the environment; leave it out")
    return TransformerConfig(**{**sizes, **fields})
