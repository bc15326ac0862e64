"""Policies that see an environment through an adapter of the caller's."""

import functools

import jax
import jax.numpy as jnp
import pytest

import envs_jax
from envs_jax import pytree_dataclass, static_field
from jaxrl_agents.models import Tokens, Transformer, config_for, one_turn_policy
from jaxrl_agents.rollouts import Policy, Standard
from tests.jaxrl_agents.rollouts import cases


@pytree_dataclass
class Cell:
    """The number of a cell, which none of our adapters takes, as one token."""

    num_cells: int = static_field()
    num_tokens: int = static_field(default=1)

    @property
    def sizes(self):
        return {"num_words": self.num_cells}

    def __call__(self, observation):
        return Tokens(observation.astype(jnp.int32)[..., None], jnp.zeros((*observation.shape, 1), jnp.int32))


@functools.cache
def lake():
    return envs_jax.make("FrozenLake-v0", observation="index")


def policy(context="turn"):
    env, adapter = lake()[0], Cell(16)
    model = Transformer(config_for(env, adapter=adapter, **cases.SIZES, end_of_turn=True))
    return Policy(env, model, adapter=adapter, context=context, max_turn_actions=2)


def played(policy, params, key, tasks):
    """A trajectory, and what the policy makes of its decisions in one forward."""
    trajectory = Standard()(params, key, policy, tasks, group_size=2, num_turns=3)
    return trajectory, policy.decided(params, trajectory.observations, trajectory.actions, trajectory.action_mask)


@pytest.mark.parametrize("context", ["turn", "episode"])
def test_a_policy_sees_through_the_adapter_that_it_is_given(context):
    """Rollouts and the forward of the loss can be traced only so: no adapter of ours takes these observations."""
    _, tasks = lake()
    seeing = policy(context)
    params = jax.eval_shape(seeing.model.init, jax.random.key(0))
    trajectory, decided = jax.eval_shape(played, seeing, params, jax.random.key(0), cases.batch(tasks, 3))
    assert trajectory.observations.shape == (6, 3) and decided.log_probs.shape == (6, 3, 2)


def test_errors():
    env, _ = lake()
    with pytest.raises(ValueError, match="observation='index' has no adapter"):
        Policy(env, policy().model, max_turn_actions=2)
    with pytest.raises(ValueError, match="observation='index' has no adapter"):
        one_turn_policy(env, policy().model)
    with pytest.raises(TypeError, match="must be a pytree with the members of jaxrl_agents.models.Adapter"):
        Policy(env, policy().model, max_turn_actions=2, adapter=lambda observation: observation)
