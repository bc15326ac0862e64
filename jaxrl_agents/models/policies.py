"""A transformer as the plain functions that searches and rollouts call, with context of one turn or of an episode."""

from __future__ import annotations

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
    env: Environment[Any, Any], model: Transformer
) -> Callable[[Params, Any], tuple[jax.Array, jax.Array]]:
    """`(params, observation [B, …]) -> (logits [B, A], value [B])`: a policy that sees the present alone.

    It is the `policy` of `search.from_env`. The end of a turn, which only turns of several actions have, is left out.
    """
    adapter = adapter_for(env)

    def policy(params: Params, observation: Any) -> tuple[jax.Array, jax.Array]:
        logits, value, _ = model.apply(params, adapter(observation))
        return logits[:, 0, : model.config.num_actions], value[:, 0]

    return policy


def one_turn_proposer(
    env: Environment[Any, Any],
    model: Transformer,
    *,
    max_turn_actions: int,
    temperature: float = 1.0,
    use_action_mask: bool = True,
) -> Callable[[Any, jax.Array, Any], Turn]:
    """`((params, tasks), key [B], states) -> Turn`: draws turns of up to L actions, seeing the present alone.

    It is the `propose` of the modes of search, for a model of `search.from_env`. Candidates of one node share the
    forward over its observation.
    """
    check_turns(model.config, max_turn_actions)
    adapter = adapter_for(env)

    def propose(params: Any, key: jax.Array, states: Any) -> Turn:
        params, tasks = params
        tokens = adapter(jax.vmap(env.observe)(states, tasks))
        cache = model.init_cache(key.shape[0], adapter.num_tokens + max_turn_actions - 1)
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
) -> EpisodeFunctions:
    """A model that sees every observation and action of the episode, each computed once.

    functions = episode_functions(env, model, num_turns=15)
    search_model = search.Model(step=functions.step, evaluate=functions.evaluate)
    logits, value, node = functions.start((params, tasks), states)
    root = search.RootFnOutput(prior_logits=logits, value=value, embedding=node)

    Args:
      env: made with `observation="tokens"`.
      model: a transformer of `config_for(env)`.
      num_turns: K: observations that fit in the cache; a node of a later turn gives NaN.
      max_turn_actions: L: actions between two observations.
      discount: of a step of a running episode, in (0, 1]; its end discounts by 0.
      temperature: divides the logits that `propose` draws from.
      use_action_mask: False leaves the actions without effect in.
    """
    adapter = adapter_for(env)
    if num_turns < 1:
        raise ValueError(f"num_turns={num_turns} must be at least 1")
    if not 0 < discount <= 1:
        raise ValueError(f"discount={discount} is not in (0, 1]; an episode's end discounts by 0 without it")
    check_turns(model.config, max_turn_actions)
    capacity = num_turns * (adapter.num_tokens + max_turn_actions)

    def start(params: Any, states: Any) -> tuple[jax.Array, jax.Array, EpisodeNode]:
        batch_size = jax.tree.leaves(states)[0].shape[0]
        logits = jnp.zeros((batch_size, model.config.num_logits))
        none = jnp.full((batch_size, max_turn_actions), -1, jnp.int32)
        return evaluate(params, None, EpisodeNode(states, model.init_cache(batch_size, capacity), none, logits))

    def step(params: Any, key: jax.Array, action: jax.Array, node: EpisodeNode) -> tuple[jax.Array, ...]:
        _, tasks = params
        words = jax.random.key_data(key)[..., -1]
        transition = jax.vmap(env.transition)
        state, reward, terminated, truncated = transition(node.state, action.astype(jnp.int32), words, tasks)
        free = jnp.sum(node.pending >= 0, axis=-1, keepdims=True) == jnp.arange(max_turn_actions)
        pending = jnp.where(free, action[:, None].astype(jnp.int32), node.pending)
        child = EpisodeNode(state, node.cache, pending, node.logits)
        return reward, jnp.where(terminated | truncated, 0.0, jnp.float32(discount)), child  # type: ignore[return-value]

    def evaluate(params: Any, key: jax.Array | None, node: EpisodeNode) -> tuple[jax.Array, jax.Array, EpisodeNode]:
        del key
        params, tasks = params
        tokens = _since_last_turn(model, adapter, node.pending, jax.vmap(env.observe)(node.state, tasks))
        logits, value, cache = model.apply(params, tokens, node.cache)
        logits, value = logits[:, 0], value[:, 0]
        node = EpisodeNode(node.state, cache, jnp.full_like(node.pending, -1), logits)  # type: ignore[arg-type]
        ended = jnp.logical_or(*jax.vmap(env.status)(node.state, tasks))
        logits, value = logits[:, : env.num_actions], jnp.where(ended, 0, value)
        if use_action_mask:
            logits = jnp.where(jax.vmap(env.action_mask)(node.state, tasks), logits, -jnp.inf)
        return logits, value, node

    def propose(params: Any, key: jax.Array, node: EpisodeNode) -> Turn:
        params, tasks = params
        mask = jax.vmap(env.action_mask)(node.state, tasks) if use_action_mask else None
        return decode_turn(
            model, params, key, node.logits, node.cache, action_mask=mask,
            max_turn_actions=max_turn_actions, temperature=temperature,
        )  # fmt: skip

    return EpisodeFunctions(step, evaluate, propose, start)


def _since_last_turn(model: Transformer, adapter: Adapter, pending: jax.Array, observation: Any) -> Tokens:
    """The actions taken since the last observation, and the observation that they led to, which is read out."""
    observed = adapter(observation).filled()
    max_actions = pending.shape[-1]
    observed = observed.replace(block=jnp.full_like(observed.word, max_actions))
    tokens = joined([action_tokens(model.config, pending), observed])
    return tokens.replace(readout=tokens.readout[:, max_actions:])
