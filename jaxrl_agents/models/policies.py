"""A transformer as the plain functions that searches and rollouts call, with context of one turn or of an episode."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from envs_jax.environment import Environment
from envs_jax.pytree import pytree_dataclass
from jaxrl_agents.models.cache import Cache
from jaxrl_agents.models.observations import Adapter, adapter_for
from jaxrl_agents.models.tokens import Tokens, action_tokens, joined
from jaxrl_agents.models.transformer import Params, Transformer
from jaxrl_agents.models.turns import Turn, check_turns, decode_turn


def one_turn_policy(
    env: Environment[Any, Any], model: Transformer, *, adapter: Adapter | None = None
) -> Callable[[Params, Any], tuple[jax.Array, jax.Array]]:
    """`(params, observation [B, …]) -> (logits [B, A], value [B])`: a policy that sees the present alone.

    It is the `policy` of `search.from_env`. The end of a turn, which only turns of several actions have, is left out.
    `adapter` makes tokens of observations, by default `adapter_for(env)`.
    """
    tokens_of = adapter_for(env, adapter)

    def policy(params: Params, observation: Any) -> tuple[jax.Array, jax.Array]:
        logits, value, _ = model.apply(params, tokens_of(observation))
        return logits[:, 0, : model.config.num_actions], value[:, 0]

    return policy


def one_turn_proposer(
    env: Environment[Any, Any],
    model: Transformer,
    *,
    max_turn_actions: int,
    temperature: float = 1.0,
    use_action_mask: bool = True,
    adapter: Adapter | None = None,
) -> Callable[[Any, jax.Array, Any], Turn]:
    """`((params, tasks), key [B], states) -> Turn`: draws turns of up to L actions, seeing the present alone.

    It is the `propose` of the modes of search, for a model of `search.from_env`. Candidates of one node share the
    forward over its observation. `adapter` makes tokens of observations, by default `adapter_for(env)`.
    """
    check_turns(model.config, max_turn_actions)
    tokens_of = adapter_for(env, adapter)

    def propose(params: Any, key: jax.Array, states: Any) -> Turn:
        params, tasks = params
        tokens = tokens_of(jax.vmap(env.observe)(states, tasks))
        cache = model.init_cache(key.shape[0], tokens_of.num_tokens)
        logits, _, cache = model.apply(params, tokens, cache)  # type: ignore[assignment]
        mask = jax.vmap(env.action_mask)(states, tasks) if use_action_mask else None
        return decode_turn(
            model, params, key, logits[:, 0], cache, action_mask=mask,
            max_turn_actions=max_turn_actions, temperature=temperature,
        )  # fmt: skip

    return propose


@pytree_dataclass
class EpisodeNode:
    """A node of a search whose model remembers the episode."""

    state: Any  # of the environment, leaves [B, …]
    cache: Cache  # of all that was seen and done before `pending`
    pending: jax.Array  # int8 or wider[B, L]: actions taken since, −1 for none
    logits: jax.Array  # float32[B, A or A + 1]: where the next turn's first action is decided


class EpisodeFunctions(NamedTuple):
    """What a search needs of a model that remembers the episode; made by `episode_functions`."""

    step: Callable[..., Any]  # ((params, tasks), key [B], action [B], node) -> reward [B], discount [B], node
    evaluate: Callable[..., Any]  # ((params, tasks), key [B], node) -> logits [B, A], value [B], node
    propose: Callable[..., Turn]  # ((params, tasks), key [B], node) -> Turn: draws one
    start: Callable[..., Any]  # ((params, tasks), states) -> logits [B, A], value [B], node: the first turn


def episode_functions(
    env: Environment[Any, Any],
    model: Transformer,
    *,
    num_turns: int,
    max_turn_actions: int = 1,
    discount: float = 1.0,
    temperature: float = 1.0,
    use_action_mask: bool = True,
    adapter: Adapter | None = None,
) -> EpisodeFunctions:
    """A model that sees every observation and action of the episode, each computed once.

    functions = episode_functions(env, model, num_turns=15)
    search_model = search.Model(step=functions.step, evaluate=functions.evaluate)
    logits, value, node = functions.start((params, tasks), states)
    root = search.RootFnOutput(prior_logits=logits, value=value, embedding=node)

    Args:
      env: made with `observation="tokens"`, or with what `adapter` takes.
      model: a transformer of `config_for(env)`.
      num_turns: K: observations that fit in the cache; a node of a later turn gives NaN.
      max_turn_actions: L: actions between two observations.
      discount: of a step of a running episode, in (0, 1]; its end discounts by 0.
      temperature: divides the logits that `propose` draws from.
      use_action_mask: False leaves the actions without effect in.
      adapter: makes tokens of observations; None: `adapter_for(env)`.
    """
    if num_turns < 1:
        raise ValueError(f"num_turns={num_turns} must be at least 1")
    if not 0 < discount <= 1:
        raise ValueError(f"discount={discount} is not in (0, 1]; an episode's end discounts by 0 without it")
    check_turns(model.config, max_turn_actions)
    adapter = adapter_for(env, adapter)
    episode = _Episode(env, model, adapter, num_turns, max_turn_actions, discount, temperature, use_action_mask)
    return EpisodeFunctions(episode.step, episode.evaluate, episode.propose, episode.start)


@dataclasses.dataclass(frozen=True, eq=False)
class _Episode:
    """What `episode_functions` was given, and the functions made of it."""

    env: Environment[Any, Any]
    model: Transformer
    adapter: Adapter
    num_turns: int
    max_turn_actions: int
    discount: float
    temperature: float
    use_action_mask: bool

    def start(self, params: Any, states: Any) -> tuple[jax.Array, jax.Array, EpisodeNode]:
        batch_size = jax.tree.leaves(states)[0].shape[0]
        cache = self.model.init_cache(batch_size, self.num_turns * (self.adapter.num_tokens + self.max_turn_actions))
        none = jnp.full((batch_size, self.max_turn_actions), -1, jnp.int32)
        logits = jnp.zeros((batch_size, self.model.config.num_logits))
        return self.evaluate(params, None, EpisodeNode(states, cache, none, logits))

    def step(
        self, params: Any, key: jax.Array, action: jax.Array, node: EpisodeNode
    ) -> tuple[jax.Array, jax.Array, EpisodeNode]:
        _, tasks = params
        words, action = jax.random.key_data(key)[..., -1], action.astype(jnp.int32)
        state, reward, terminated, truncated = jax.vmap(self.env.transition)(node.state, action, words, tasks)
        free = jnp.sum(node.pending >= 0, axis=-1, keepdims=True) == jnp.arange(self.max_turn_actions)
        pending = jnp.where(free, action[:, None], node.pending)
        discount = jnp.where(terminated | truncated, 0.0, jnp.float32(self.discount))
        return reward, discount, EpisodeNode(state, node.cache, pending, node.logits)

    def evaluate(
        self, params: Any, key: jax.Array | None, node: EpisodeNode
    ) -> tuple[jax.Array, jax.Array, EpisodeNode]:
        del key
        params, tasks = params
        observation = jax.vmap(self.env.observe)(node.state, tasks)
        tokens = _since_last_turn(self.model, self.adapter, node.pending, observation)
        logits, value, cache = self.model.apply(params, tokens, node.cache)
        logits, value = logits[:, 0], value[:, 0]
        node = EpisodeNode(node.state, cache, jnp.full_like(node.pending, -1), logits)  # type: ignore[arg-type]
        ended = jnp.logical_or(*jax.vmap(self.env.status)(node.state, tasks))
        logits, mask = logits[:, : self.env.num_actions], self._action_mask(node, tasks)
        logits = logits if mask is None else jnp.where(mask, logits, -jnp.inf)
        return logits, jnp.where(ended, 0, value), node

    def propose(self, params: Any, key: jax.Array, node: EpisodeNode) -> Turn:
        params, tasks = params
        return decode_turn(
            self.model, params, key, node.logits, node.cache, action_mask=self._action_mask(node, tasks),
            max_turn_actions=self.max_turn_actions, temperature=self.temperature,
        )  # fmt: skip

    def _action_mask(self, node: EpisodeNode, tasks: Any) -> jax.Array | None:
        return jax.vmap(self.env.action_mask)(node.state, tasks) if self.use_action_mask else None


def _since_last_turn(model: Transformer, adapter: Adapter, pending: jax.Array, observation: Any) -> Tokens:
    """The actions taken since the last observation, and the observation that they led to, which is read out."""
    observed = adapter(observation).filled()
    max_actions = pending.shape[-1]
    observed = observed.replace(block=jnp.full_like(observed.word, max_actions))
    tokens = joined([action_tokens(model.config, pending), observed])
    return tokens.replace(readout=tokens.readout[:, max_actions:])
