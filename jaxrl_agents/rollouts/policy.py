"""A policy as rollouts and learners use it: an environment, a transformer, and how the one sees the other."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp

from envs_jax.environment import Environment
from envs_jax.pytree import pytree_dataclass, static_field
from jaxrl_agents import models, search
from jaxrl_agents.search import rng
from jaxrl_agents.search.model import without_actions

Context = Literal["turn", "episode"]

LOWEST_TEMPERATURE = 1e-6  # the likeliest action is all but certain, and divided logits are finite in float32


class Decided(NamedTuple):
    """The decisions of given turns under a policy: entry i of a turn is which action comes i-th, or that it ends."""

    log_probs: jax.Array  # float32[B, K, L], at the policy's temperature; 0 where nothing was decided
    entropies: jax.Array  # float32[B, K, L], nats; 0 where nothing was decided
    values: jax.Array  # float32[B, K, L]: where it was decided


@pytree_dataclass
class Policy:
    """How a model plays an environment: the same for rollouts, search, updates and evaluation.

    It is a pytree: jitted functions take it as an argument, so that the environment's arrays are no constants.
    """

    env: Environment[Any, Any]  # made with observation="tokens", or with what `adapter` takes
    model: models.Transformer = static_field()  # of `models.config_for(env)`
    context: Context = static_field(default="turn")  # it sees the present turn alone, or the episode so far
    max_turn_actions: int = static_field(default=1)  # L
    use_action_mask: bool = static_field(default=True)  # False: actions without effect may be chosen too
    temperature: float = static_field(default=1.0)  # divides the logits, in rollouts as in losses
    adapter: models.Adapter | None = None  # makes tokens of observations; None: `models.adapter_for(env)`

    def __post_init__(self) -> None:
        if self.context not in get_args(Context):
            raise ValueError(f"context={self.context!r} is neither 'turn' nor 'episode'")
        if not (math.isfinite(self.temperature) and self.temperature >= LOWEST_TEMPERATURE):
            raise ValueError(f"temperature={self.temperature} must be a finite number of at least {LOWEST_TEMPERATURE}")
        models.check_turns(self.model.config, self.max_turn_actions)
        models.adapter_for(self.env, self.adapter)

    def replace(self, **fields: Any) -> Policy:
        """The policy with other `fields`."""
        return dataclasses.replace(self, **fields)

    def search_model(self, num_turns: int, reads: bool = True) -> PolicyModel:
        """What the modes of search take as `model`, for searches of `num_turns` turns.

        `reads` may be False where turns come from `propose`, which reads observations itself, and no values are used.
        """
        return PolicyModel(self, num_turns, reads or self.context == "episode")

    def propose(self, num_turns: int) -> Callable[..., Any] | None:
        """What the modes of search take as `propose`: turns of several actions are drawn as a whole."""
        if self.max_turn_actions == 1:
            return None
        if self.context == "episode":
            return _episode(self, num_turns).propose
        return models.one_turn_proposer(
            self.env,
            self.model,
            max_turn_actions=self.max_turn_actions,
            temperature=self.temperature,
            use_action_mask=self.use_action_mask,
            adapter=self.adapter,
        )

    def decided(self, params: Any, observations: Any, actions: jax.Array, action_mask: jax.Array | None) -> Decided:
        """What the model makes of the decisions of whole episodes, in one forward.

        Args:
          params: of the model.
          observations: leaves [B, K, …].
          actions: int32[B, K, L], −1 for what was not taken.
          action_mask: bool[B, K, A], see `Trajectory`.
        """
        config, shape = self.model.config, actions.shape
        tokens = models.adapter_for(self.env, self.adapter)(observations)
        if self.context == "turn":  # every turn is an episode of its own
            tokens = jax.tree.map(lambda leaf: leaf.reshape(-1, 1, *leaf.shape[2:]), tokens)
            actions = actions.reshape(-1, 1, shape[-1])
        if actions.shape[1:] == (1, 1):  # nothing follows the observation that anyone would see
            stream = jax.tree.map(lambda leaf: leaf[:, 0], tokens)
        else:
            stream = models.turns(config, tokens, actions)
        logits, values, _ = self.model.apply(params, stream)
        made = models.decisions(
            config, logits.reshape(*shape, -1), actions.reshape(shape), action_mask, self.temperature
        )
        return Decided(made.log_prob, made.entropy, values.reshape(shape))


@pytree_dataclass
class PolicyModel:
    """A policy as a model to search with; nodes are environment states, with a cache where the episode is seen."""

    policy: Policy
    num_turns: int = static_field()
    reads: bool = static_field(default=True)  # False: logits only say what is legal, and values are 0

    def step(self, params: Any, key: jax.Array, action: jax.Array, embedding: Any) -> tuple[jax.Array, jax.Array, Any]:
        if self.policy.context == "episode":
            return _episode(self.policy, self.num_turns).step(params, key, action, embedding)
        _, tasks = params
        state, reward, terminated, truncated = jax.vmap(self.policy.env.transition)(
            embedding, action.astype(jnp.int32), rng.word_of(key), tasks
        )
        return reward, jnp.where(terminated | truncated, 0.0, 1.0), state

    def evaluate(self, params: Any, key: jax.Array | None, embedding: Any) -> tuple[jax.Array, jax.Array, Any]:
        policy = self.policy
        if policy.context == "episode":
            return _episode(policy, self.num_turns).evaluate(params, key, embedding)
        params, tasks = params
        if self.reads:
            observed = jax.vmap(policy.env.observe)(embedding, tasks)
            logits, value = models.one_turn_policy(policy.env, policy.model, adapter=policy.adapter)(params, observed)
        else:
            batch_size = len(embedding.steps)
            logits, value = jnp.zeros((batch_size, policy.env.num_actions)), jnp.zeros(batch_size)
        if policy.use_action_mask:
            logits = jnp.where(jax.vmap(policy.env.action_mask)(embedding, tasks), logits, -jnp.inf)
        ended = self.ended((params, tasks), embedding)
        return logits, jnp.where(ended, 0, value), embedding

    def ended(self, params: Any, embedding: Any) -> jax.Array:
        """bool[B]: episodes that are over."""
        _, tasks = params
        return jnp.logical_or(*jax.vmap(self.policy.env.status)(self._states(embedding), tasks))

    def state_key(self, embedding: Any) -> jax.Array:
        return jax.vmap(self.policy.env.state_key)(self._states(embedding))

    def _states(self, embedding: Any) -> Any:
        """The environment's states in nodes."""
        return embedding.state if self.policy.context == "episode" else embedding

    def root(self, params: Any, states: Any, tasks: Any) -> search.RootFnOutput:
        """The root of a search from environment states, leaves [B, …], of `tasks`, leaves [B, …].

        No action is legal where the episode has ended.
        """
        if self.policy.context == "episode":
            logits, value, states = _episode(self.policy, self.num_turns).start((params, tasks), states)
        else:
            logits, value, states = self.evaluate((params, tasks), None, states)
        logits = without_actions(logits, self.ended((params, tasks), states))
        return search.RootFnOutput(prior_logits=logits, value=value, embedding=states)


def _episode(policy: Policy, num_turns: int) -> models.EpisodeFunctions:
    return models.episode_functions(
        policy.env,
        policy.model,
        num_turns=num_turns + 1,  # a search evaluates the nodes that its last turn reaches too
        max_turn_actions=policy.max_turn_actions,
        temperature=policy.temperature,
        use_action_mask=policy.use_action_mask,
        adapter=policy.adapter,
    )
