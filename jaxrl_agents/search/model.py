"""Models: what a search steps and evaluates.

A model sees exactly B rows, in root order; the candidates of a search are vmapped over leading axes. Its functions
receive one typed key per row, [B], so that a row's draws do not depend on the others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import mctx
import numpy as np

from envs_jax.barriers import once
from envs_jax.environment import Environment
from envs_jax.pytree import pytree_dataclass, static_field
from jaxrl_agents.search import returned, rng
from jaxrl_agents.search.proposals import float32_logits, legal_actions
from jaxrl_agents.search.types import RootFnOutput

Params = Any
Embedding = Any
Step = Callable[[Params, jax.Array, jax.Array, Embedding], tuple[jax.Array, jax.Array, Embedding]]
Evaluate = Callable[[Params, jax.Array, Embedding], tuple[jax.Array, jax.Array, Embedding]]
Policy = Callable[[Params, Any], tuple[jax.Array, jax.Array]]


class SearchModel(Protocol):
    """What the modes of search call."""

    # A model may also have `ended(params, embedding) -> bool[B]`: episodes that are over, which roots do not tell.

    @property
    def state_key(self) -> Any:
        """`embedding -> uint32[B, n]`, equal where two nodes have the same future; None without deduplication."""

    def step(
        self, params: Params, key: jax.Array, action: jax.Array, embedding: Embedding
    ) -> tuple[jax.Array, jax.Array, Embedding]:
        """(reward [B], discount [B], child's embedding) of an action [B]; `key` is one key per row, [B]."""

    def evaluate(self, params: Params, key: jax.Array, embedding: Embedding) -> tuple[jax.Array, jax.Array, Embedding]:
        """(logits [B, A], value [B], embedding) of nodes; `key` is one key per row, [B]."""


class _Recurrent:
    """Makes a model callable as mctx's recurrent_fn."""

    def __call__(
        self: SearchModel, params: Params, rng_key: jax.Array, action: jax.Array, embedding: Embedding
    ) -> tuple[mctx.RecurrentFnOutput, Embedding]:
        """Mctx's recurrent_fn: `(params, rng_key, action[B], embedding[B, …]) -> (RecurrentFnOutput, embedding)`."""
        words = jax.random.bits(rng_key, action.shape[:1], jnp.uint32)
        with jax.named_scope("step"):
            reward, discount, embedding = self.step(params, rng.row_keys(words, rng.STEP), action, embedding)
        with jax.named_scope("evaluate"):
            logits, value, embedding = self.evaluate(params, rng.row_keys(words, rng.EVALUATE), embedding)
        logits = float32_logits(logits)
        logits = jnp.where(legal_actions(logits), logits, jnp.finfo(logits.dtype).min)  # −inf can make NaN in mctx
        reward, discount, value = (number.astype(jnp.float32) for number in (reward, discount, value))
        return mctx.RecurrentFnOutput(reward=reward, discount=discount, prior_logits=logits, value=value), embedding


@pytree_dataclass
class Model(_Recurrent):
    """A model of two functions, so that only the nodes that a search keeps cost an evaluation.

    `discount` 0 ends an episode; logits of −1e9 or less (−inf, or the lowest finite number) mark illegal actions.
    Functions that draw use the keys, one a row: `jax.vmap(jax.random.…)(key, …)`.
    """

    step: Step = static_field()  # (params, key [B], action [B], embedding) -> reward [B], discount [B], embedding
    evaluate: Evaluate = static_field()  # (params, key [B], embedding) -> logits [B, A], value [B], embedding
    state_key: Callable[[Embedding], jax.Array] | None = static_field(default=None)  # -> uint32[B, n], for dedup


class Evaluated(NamedTuple):
    """A node of a recurrent_fn: its embedding together with what the function said of it."""

    embedding: Embedding
    logits: jax.Array  # [B, A]
    value: jax.Array  # [B]


@pytree_dataclass
class RecurrentModel:
    """A plain recurrent_fn as a model: every candidate is evaluated as it is stepped.

    The function draws for the whole batch from one key, that of row 0.
    """

    function: Callable[..., Any] = static_field()
    num_actions: int = static_field()

    def recurrent_fn(
        self, params: Params, rng_key: jax.Array, action: jax.Array, embedding: Embedding
    ) -> tuple[mctx.RecurrentFnOutput, Embedding]:
        """The function, with its results checked."""
        found = self.function(params, rng_key, action, embedding)
        returned.check_recurrent("recurrent_fn", found, embedding, (len(action), self.num_actions))
        return found

    def step(
        self, params: Params, key: jax.Array, action: jax.Array, embedding: Evaluated
    ) -> tuple[jax.Array, jax.Array, Evaluated]:
        output, child = self.recurrent_fn(params, key[0], action, embedding.embedding)
        logits, value = float32_logits(output.prior_logits), output.value.astype(jnp.float32)
        return output.reward, output.discount, Evaluated(child, logits, value)

    def evaluate(self, params: Params, key: jax.Array, embedding: Evaluated) -> tuple[jax.Array, jax.Array, Evaluated]:
        del params, key
        return embedding.logits, embedding.value, embedding

    state_key = None


@pytree_dataclass
class CheckedModel(_Recurrent):
    """A caller's model, with the results of its functions checked."""

    model: Any
    num_actions: int = static_field()

    def step(
        self, params: Params, key: jax.Array, action: jax.Array, embedding: Embedding
    ) -> tuple[jax.Array, jax.Array, Embedding]:
        found = self.model.step(params, key, action, embedding)
        returned.check_step("model.step", found, embedding, len(action))
        return found

    def evaluate(self, params: Params, key: jax.Array, embedding: Embedding) -> tuple[jax.Array, jax.Array, Embedding]:
        found = self.model.evaluate(params, key, embedding)
        returned.check_evaluate("model.evaluate", found, embedding, (len(key), self.num_actions))
        return found

    @property
    def state_key(self) -> Callable[[Embedding], jax.Array] | None:
        return None if getattr(self.model, "state_key", None) is None else self._state_key

    def _state_key(self, embedding: Embedding) -> jax.Array:
        found = self.model.state_key(embedding)
        returned.check_state_key("model.state_key", found, len(jax.tree.leaves(embedding)[0]))
        return found

    @property
    def ended(self) -> Callable[[Params, Embedding], jax.Array] | None:
        """The model's own, where it has one."""
        return getattr(self.model, "ended", None)


@pytree_dataclass
class EnvModel(_Recurrent):
    """One of our environments as a model; its nodes are environment states. Made by `from_env`."""

    env: Environment[Any, Any]
    policy: Policy | None = static_field(default=None)
    discount: float = static_field(default=1.0)
    use_action_mask: bool = static_field(default=True)

    def step(
        self, params: Params, key: jax.Array, action: jax.Array, embedding: Embedding
    ) -> tuple[jax.Array, jax.Array, Embedding]:
        _, tasks = params
        state, reward, terminated, truncated = jax.vmap(self.env.transition)(
            embedding, action.astype(jnp.int32), rng.word_of(key), tasks
        )
        return reward, jnp.where(terminated | truncated, 0.0, jnp.float32(self.discount)), state

    def evaluate(self, params: Params, key: jax.Array, embedding: Embedding) -> tuple[jax.Array, jax.Array, Embedding]:
        del key
        params, tasks = params
        shape = (len(embedding.steps), self.env.num_actions)
        mask = jax.vmap(self.env.action_mask)(embedding, tasks) if self.use_action_mask else jnp.ones(shape, bool)
        if self.policy is None:
            uniform = jnp.where(mask, np.float32(0), np.float32(-np.inf))
            return uniform, jnp.zeros(shape[:1], jnp.float32), embedding
        # Once: a policy's one-hot code or convolution would otherwise observe anew for each number that it makes of it.
        observe = jax.vmap(self.env.observe)
        found = self.policy(params, once(tasks.time_limit[0].astype(jnp.int32), observe, embedding, tasks))
        returned.check_policy("policy", found, shape)
        logits, value = found
        ended = self.ended((params, tasks), embedding)
        return jnp.where(mask, logits, -jnp.inf), jnp.where(ended, 0, value), embedding

    def ended(self, params: Params, embedding: Embedding) -> jax.Array:
        """bool[B]: episodes that are over: solved, failed, or out of time."""
        _, tasks = params
        return jnp.logical_or(*jax.vmap(self.env.status)(embedding, tasks))

    def state_key(self, embedding: Embedding) -> jax.Array:
        return jax.vmap(self.env.state_key)(embedding)

    def root(self, params: Params, states: Any, tasks: Any) -> RootFnOutput:
        """The root of a search from environment states; no action is legal where the episode has ended.

        Args:
          params: of the policy; None without one.
          states: environment states, every leaf [B, …].
          tasks: their task instances, every leaf [B, …], or a TaskBank of B.
        """
        from jaxrl_agents.search.arguments import instances

        tasks = instances(self.env, "states", states, tasks)
        batch_size = len(states.steps)
        keys = rng.row_keys(jnp.zeros(batch_size, jnp.uint32), rng.EVALUATE)
        params = (params, tasks)
        logits, value, states = self.evaluate(params, keys, states)
        logits = without_actions(logits, self.ended(params, states))
        return RootFnOutput(prior_logits=logits, value=value, embedding=states)


def from_env(
    env: Environment[Any, Any], policy: Policy | None = None, discount: float = 1.0, *, use_action_mask: bool = True
) -> EnvModel:
    """A model that searches in an environment; pass the roots' task instances as `tasks`.

    Args:
      env: the environment.
      policy: `(params, observation [B, …]) -> (logits [B, A], value [B])`; without one all actions are equally likely
        and values are 0.
      discount: what a step of a running episode is discounted by, in (0, 1]; the end of an episode, by success,
        failure or the time limit, discounts by 0.
      use_action_mask: whether actions that `env.action_mask` rules out are illegal: those that leave the state as it
        is. False: they are searched too, take a step of the episode and get its reward, and no node is a dead end.

    Returns:
      A model; `model.root(params, states, tasks)` makes the root, which is for this model: its logits hold the mask.
      It is also a recurrent_fn for mctx's policies, with `(params, tasks)` as their `params`.
    """
    if not isinstance(env, Environment):
        got = f"the class {env.__name__}" if isinstance(env, type) else type(env).__name__
        raise TypeError(f"env must be an Environment, as in env, tasks = envs_jax.make(id); got {got}")
    if policy is not None and not callable(policy):
        raise TypeError(f"policy={policy!r} is not a function (params, observation) -> (logits, value)")
    if isinstance(discount, bool | np.bool_) or not isinstance(discount, float | int | np.number):
        raise TypeError(f"discount={discount!r} is not a number; it is part of what is compiled")
    if not 0 < discount <= 1:
        raise ValueError(f"discount={discount} is not in (0, 1]; an episode's end discounts by 0 without it")
    if not isinstance(use_action_mask, bool | np.bool_):
        raise TypeError(f"use_action_mask={use_action_mask!r} is neither True nor False")
    return EnvModel(env, policy, float(discount), bool(use_action_mask))


def without_actions(logits: jax.Array, rows: jax.Array) -> jax.Array:
    """`logits` [B, A] that leave the `rows` (bool[B]) no legal action."""
    return jnp.where(rows[:, None], -jnp.inf, logits)


def replayed(model: SearchModel) -> bool:
    """Whether a beam plays the candidates that it keeps anew: cheaper than keeping the embeddings of all of them."""
    return isinstance(model, EnvModel)


def as_model(model: Any, num_actions: int) -> SearchModel:
    """What a search calls: an EnvModel itself, or a caller's model or recurrent_fn with its results checked.

    Raises:
      TypeError: `model` is neither.
    """
    if isinstance(model, EnvModel):
        return model
    if isinstance(model, Environment):
        raise TypeError(f"model is an environment, {type(model).__name__}; wrap it: search.from_env(env)")
    if isinstance(model, type) or not (hasattr(model, "step") and hasattr(model, "evaluate")):
        if isinstance(model, type) or not callable(model):
            got = repr(model) if model is None or isinstance(model, type) else type(model).__name__
            raise TypeError(
                "model must be made by search.from_env(env) or search.Model(step, evaluate), or be a recurrent_fn "
                f"(params, rng_key, action, embedding) -> (mctx.RecurrentFnOutput, embedding); got {got}"
            )
        return RecurrentModel(model, num_actions)
    for name in ("step", "evaluate"):
        if not callable(getattr(model, name)):
            raise TypeError(f"model.{name}={getattr(model, name)!r} is not a function")
    if jax.tree_util.all_leaves([model]):
        raise TypeError(f"model is a {type(model).__name__}, which is no pytree; use search.Model(step, evaluate)")
    return CheckedModel(model, num_actions)
