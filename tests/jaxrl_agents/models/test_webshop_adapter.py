"""What a model sees of WebShop's pages."""

import jax
import numpy as np
import pytest

from envs_jax.web.pages import Segment, words
from jaxrl_agents.models import adapter_for
from tests.envs_jax.web import shops

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_it_sees_which_words_the_instruction_holds_and_which_options_are_settled():
    env, tasks = shops.synthetic()
    results, rows = np.asarray(env.links.results), np.asarray(tasks.instances.queries)[:, 1]
    goal = next(
        i for i, goal in enumerate(env.shop.goals) if len(goal.options) > 1 and goal.product in results[rows[i], :10]
    )
    product = env.shop.products[env.shop.goals[goal].product]
    task, step = tasks[goal], jax.jit(env.transition)
    wanted = dict(env.shop.goals[goal].options)
    group = next(iter(product.options))
    state = env.initial(np.uint32(0), task)
    for command in (f"search[{env.instruction(task)}]", f"click[{product.asin}]", f"click[{wanted[group]}]"):
        action = env.parse_action(command, state, task)
        state = step(state, np.int32(action), np.uint32(0), task)[0]
    observation = jax.device_get(env.observe(state, task))
    tokens = jax.device_get(adapter_for(env)(jax.tree.map(lambda leaf: leaf[None], observation)))

    asked, there = set(words(env.instruction(task))), observation["segment"] > 0
    found = np.array([env.vocabulary[word] in asked for word in observation["word"]])
    np.testing.assert_array_equal(tokens.word[0, 1:][there], found[there])
    np.testing.assert_array_equal(tokens.mask[0, 1:], there)
    first = env.actions.options + 1
    settled = (observation["segment"] == Segment.OPTION) & (observation["slot"] >= first)
    settled &= observation["slot"] < first + env.actions.group_sizes[0]
    changed = tokens.segment[0, 1:] != observation["segment"]
    np.testing.assert_array_equal(changed, settled)
    assert settled.any() and (observation["segment"] == Segment.CHOSEN_OPTION).any()
    assert ((observation["segment"] == Segment.OPTION) & ~settled).any()  # the other group is open
    assert len(set(tokens.segment[0, 1:][settled])) == 1 and set(tokens.segment[0, 1:][settled]).isdisjoint(Segment)
    assert tokens.readout.tolist() == [[0]] and tokens.segment[0, 0] not in tokens.segment[0, 1:]
