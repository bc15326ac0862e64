"""Evaluation: intervals, the optimum, and episodes that do not depend on how they are batched."""

from functools import partial

import jax
import numpy as np
import pytest

import envs_jax
from envs_jax.frozen_lake.scripted import Optimal
from jaxrl_agents.models import Transformer, config_for
from jaxrl_agents.rollouts import Policy
from jaxrl_agents.training.baselines import measure
from jaxrl_agents.training.evaluation import Evaluation, evaluate, normal, num_played, optimum, wilson
from jaxrl_agents.training.progress import evaluation_lines, evaluation_text
from tests.jaxrl_agents.rollouts import cases

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_wilson_intervals():
    # Newcombe 1998, Statistics in Medicine 17, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
    for successes, number, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611),
                                         (1, 29, 0.0061, 0.1718)):  # fmt: skip
        found = wilson(successes, number)
        assert found.mean == successes / number
        assert (round(found.low, 4), round(found.high, 4)) == (low, high)
    assert wilson(20, 20).high == 1.0


def test_normal_intervals():
    found = normal([1.0, 2.0, 3.0, 4.0])
    error = 1.959964 * np.std([1, 2, 3, 4], ddof=1) / 2
    assert found.mean == 2.5 and found.low == pytest.approx(2.5 - error) and found.high == pytest.approx(2.5 + error)
    assert normal([7.0]).mean == 7 and np.isnan(normal([7.0]).low)


def test_a_single_episode_has_no_interval_of_its_means():
    one = Evaluation(wilson(1, 1), normal([1.0]), normal([3.0]), 1, None)
    assert evaluation_text(one) == "success 1.000 [0.207, 1.000]  return 1.000  length 3.0"
    assert evaluation_lines(one)[1:3] == ["return     1.0000", "length     3.0000"]


def test_episodes_do_not_depend_on_the_batch_size():
    (policy, params), tasks = cases.lake()
    played: list[int] = []
    measured = partial(evaluate, params, jax.random.key(0), policy, tasks, num_turns=20, num_episodes=20, greedy=False)
    found = [measured(batch_size=size, on_progress=played.append) for size in (20, 8)]
    assert played == [8, 16]  # of the three batches, while the next one is played
    assert found[0] == found[1] and found[0].num_episodes == 20
    assert found[0].length.low < found[0].length.mean < found[0].length.high
    assert found[0].optimum == optimum(policy, tasks, 20, 20) > found[0].episode_return.mean


def test_the_optimum_is_that_of_planning():
    (policy, _), tasks = cases.lake()
    assert optimum(policy, tasks, num_turns=100, num_episodes=4) == pytest.approx(0.744, abs=5e-4)
    assert optimum(policy, tasks, num_turns=1, num_episodes=1) == 0
    (policy, _), tasks = cases.rooms()
    assert optimum(policy, tasks, num_turns=2, num_episodes=1) is None


def test_greedy_takes_the_likeliest_action():
    (policy, params), tasks = cases.lake(is_slippery=False)
    found = {evaluate(params, jax.random.key(seed), policy, tasks, num_turns=10).length.mean for seed in range(8)}
    assert len(found) == 1  # nothing is left to chance
    measured = partial(evaluate, params, jax.random.key(0), policy, tasks, num_turns=10, num_episodes=20)
    sampled = measured(greedy=False)
    assert sampled.length.low < sampled.length.high and sampled.num_episodes == 20
    assert measured().num_episodes == len(tasks) == 1  # the others would be the same


def test_episodes_that_may_differ_are_all_played():
    counted = lambda given, draws=False: num_played(given[0][0].env, given[1], 100, draws=draws)
    assert counted(cases.lake()) == counted(cases.rooms(), draws=True) == 100
    assert (counted(cases.rooms()), counted(cases.lake(is_slippery=False))) == (6, 1)
    assert num_played(cases.rooms()[0][0].env, cases.rooms()[1], 4, draws=False) == 4


def test_scripts_have_as_many_actions_as_the_policy():
    env, tasks = envs_jax.make("FrozenLake-v0", map="SFFFG", is_slippery=False, observation="tokens")
    policy = Policy(env, Transformer(config_for(env, **cases.SIZES, end_of_turn=True)), max_turn_actions=2)
    found = measure(Optimal(), jax.random.key(0), policy, tasks, num_turns=2)
    assert (found.success.mean, found.length.mean, found.optimum) == (1, 4, 1)


def test_errors_name_the_argument():
    (policy, params), tasks = cases.lake()
    with pytest.raises(ValueError, match="num_episodes=0"):
        evaluate(params, jax.random.key(0), policy, tasks, num_turns=5, num_episodes=0)
    with pytest.raises(TypeError, match="TaskBank"):
        evaluate(params, jax.random.key(0), policy, tasks[0], num_turns=5)
