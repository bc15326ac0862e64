"""Training on WebShop: goals that are held out, scripts beside the policy, and the preset."""

import jax
import numpy as np
import pytest

from envs_jax.scripted import Uniform
from envs_jax.web.scripted import Oracle, Rule
from jaxrl_agents.models import Transformer, config_for
from jaxrl_agents.rollouts import Policy, performed
from jaxrl_agents.training import build, preset, updated
from jaxrl_agents.training.baselines import baselines, measure
from jaxrl_agents.training.setup import split
from tests.envs_jax.web import shops

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_held_out_goals_are_of_products_that_are_not_trained_on():
    _, bank = shops.synthetic()
    training, held_out = split(bank, 20, seed=0)
    products = [set(np.asarray(tasks.instances.product).tolist()) for tasks in (training, held_out, bank)]
    assert len(held_out) == 20 and not products[0] & products[1]
    assert len(products[0]) == round(0.8 * len(products[2]))
    again = split(bank, 20, seed=0)[1].instances.goal
    assert (again == held_out.instances.goal).all() and (split(bank, 20, seed=1)[1].instances.goal != again).any()
    assert split(bank, 0, seed=0) == (bank, bank)
    with pytest.raises(ValueError, match=r"evaluation\.num_held_out=400: there are \d+ goals of the 20% of the prod"):
        split(bank, 400, seed=0)


def test_scripts_are_measured_as_policies_are():
    env, tasks = shops.synthetic()
    policy = Policy(env, Transformer(config_for(env, d_model=8, num_layers=1, num_heads=2)))
    assert list(baselines(policy).values()) == [Uniform(), Rule(), Rule(options=True), Oracle()]
    some = tasks[np.arange(10)]
    result = measure(Rule(), jax.random.key(0), policy, some, num_turns=3, num_episodes=15, batch_size=10)
    play = jax.jit(lambda policy, tasks: performed(policy, jax.random.key(1), tasks, Rule(), num_turns=3))
    shown = play(policy, some)
    returns = np.concatenate([shown.returns, shown.returns[:5]])  # the rule draws nothing
    assert result.episode_return.mean == pytest.approx(returns.mean(), rel=1e-6) and returns.std() > 0
    assert (result.length.mean, result.num_episodes, result.optimum) == (3, 15, None)
    assert measure(Rule(), jax.random.key(0), policy, some, num_turns=2, batch_size=10).episode_return.mean == 0


def test_the_preset_starts_warm():
    small = {"env_arguments": {"num_products": 150}, "evaluation": {"num_held_out": 20, "num_episodes": 20}}
    setup = build(updated(preset("WebShop-v0"), small))
    assert setup.warm_start.expert == Oracle() and setup.policy.context == "turn" and setup.policy.use_action_mask
    assert f"{setup.config.warm_start.num_steps} supervised steps, then standard rollouts" in setup.summary
    assert len(setup.evaluation_tasks) == 20 and setup.config.total_steps > setup.config.num_steps
