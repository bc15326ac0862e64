"""Training on WebShop: goals that are held out, scripts beside the policy, and the preset."""

from functools import partial

import jax
import numpy as np
import pytest

from envs_jax.scripted import Uniform
from envs_jax.web.scripted import Oracle, Rule
from jaxrl_agents.models import Transformer, config_for
from jaxrl_agents.rollouts import Policy, performed
from jaxrl_agents.training import build, preset, updated
from jaxrl_agents.training.baselines import baselines, measure
from tests.envs_jax.web import shops

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_scripts_are_measured_as_policies_are():
    env, tasks = shops.synthetic()
    policy = Policy(env, Transformer(config_for(env, d_model=8, num_layers=1, num_heads=2)))
    assert list(baselines(policy).values()) == [Uniform(), Rule(), Rule(options=True), Oracle()]
    some = tasks[np.arange(10)]
    played: list[int] = []
    measured = partial(measure, Rule(), jax.random.key(0), policy, some, batch_size=4)
    result = measured(num_turns=3, num_episodes=15, on_progress=played.append)
    assert played == [4, 8]
    play = jax.jit(lambda policy, tasks: performed(policy, jax.random.key(1), tasks, Rule(), num_turns=3))
    shown = play(policy, some)
    returns = np.asarray(shown.returns)
    assert result.episode_return.mean == pytest.approx(returns.mean(), rel=1e-6) and returns.std() > 0
    assert (result.length.mean, result.num_episodes, result.optimum) == (3, 10, None)  # the rule draws nothing
    assert measured(num_turns=2).episode_return.mean == 0


def test_the_preset_starts_warm():
    small = {"env_arguments": {"num_products": 150}, "evaluation": {"num_held_out": 20, "num_episodes": 20}}
    setup = build(updated(preset("WebShop-v0"), small))
    assert setup.warm_start.expert == Oracle() and setup.policy.context == "turn" and setup.policy.use_action_mask
    assert f"{setup.config.warm_start.num_steps} supervised steps, then standard rollouts" in setup.summary
    assert len(setup.evaluation_tasks) == 20 and setup.config.total_steps > setup.config.num_steps
