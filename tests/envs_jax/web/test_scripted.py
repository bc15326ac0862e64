"""WebShop's scripted policies against plain Python."""

import dataclasses
import itertools
from fractions import Fraction
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs_jax import scripted
from envs_jax.web import pages
from envs_jax.web.scripted import Oracle, Rule
from tests.envs_jax.web import shops

pytestmark = pytest.mark.usefixtures("quick_compilation")

STEPS = 8
FACTORS = (Fraction(0), Fraction(1, 10), Fraction(1, 2), Fraction(1))
GOALS = 40


@partial(jax.jit, static_argnums=1)
def play(env, script, tasks, words):
    """(actions [P, K], returns [P]) of one episode of each task."""

    def episode(task, words):
        start = env.initial(words[0], task)
        actions = scripted.perform(env, script, start, task, words, words)

        def step(state, played):
            action, word = played
            state, reward, *_ = env.transition(state, jnp.maximum(action, 0), word, task)
            return state, jnp.where(action >= 0, reward, 0)

        return actions, jnp.sum(jax.lax.scan(step, start, (actions, words))[1])

    return jax.vmap(episode)(tasks, words)


def played(script, limit=STEPS):
    """(env, task instances, actions without −1, returns) of the first goals, with this time limit."""
    env, bank = shops.synthetic()
    tasks = bank[np.arange(GOALS)].instances
    tasks = dataclasses.replace(tasks, time_limit=jnp.full(GOALS, limit, jnp.uint16))
    words = jax.random.bits(jax.random.key(0), (GOALS, STEPS), jnp.uint32)
    actions, returns = jax.device_get(play(env, script, tasks, words))
    return env, jax.device_get(tasks), [row[row >= 0].tolist() for row in actions], returns, np.asarray(words)


def found(env, tasks, goal, search):
    """The products that a search of a goal finds."""
    row = int(tasks.queries[goal, search])
    return np.asarray(env.links.results[row])[: int(env.links.num_results[row])].tolist() if row >= 0 else []


def matching(env, product, instruction):
    """For each group with a match the action of the value that matches best, the first of equals."""
    asked, clicks, actions = set(pages.words(instruction)), pages.option_clicks(env.actions, product), []
    for start, values in zip(env.actions.group_starts, product.options.values(), strict=False):
        scores = {}
        for number, value in enumerate(values):
            action, words = env.actions.options + start + number, pages.words(value)
            if clicks.get(value) == action and set(words) & asked:
                scores[action] = Fraction(sum(word in asked for word in words), len(words)), len(words)
        if scores:
            actions.append(max(scores, key=scores.get))
    return actions


@pytest.mark.parametrize("options", [False, True])
def test_the_rule_searches_the_instruction_and_buys_the_first_product(options):
    env, tasks, actions, _, _ = played(Rule(options=options))
    clicked = 0
    for goal in range(GOALS):
        product = env.shop.products[found(env, tasks, goal, 1)[0]]
        chosen = matching(env, product, env.shop.goals[goal].instruction) if options else []
        assert actions[goal] == [1, env.actions.products, *chosen, env.actions.buy]
        clicked += len(chosen)
    assert clicked > GOALS / 2 or not options


def purchases(env, tasks, goal, limit):
    """(reward, −steps) of every purchase that the searches of a goal lead to within the time limit.

    Of option values that fulfil the same wanted options one stands for all.
    """
    rewards, codes = jax.device_get(env.rewards), [int(code) for code in tasks.options[goal]]
    for search in range(env.actions.num_searches):
        for rank, product in enumerate(found(env, tasks, goal, search)):
            kind = int(rewards.kind[tasks.source[goal], product])
            clicks = pages.option_clicks(env.actions, env.shop.products[product])
            groups = []
            for start, size in zip(env.actions.group_starts, env.actions.group_sizes, strict=True):
                offered = {a - env.actions.options for a in clicks.values()} & set(range(start, start + size))
                sets = {
                    frozenset(j for j, code in enumerate(codes) if rewards.option_match[code, value])
                    for value in rewards.option_values[product, list(offered)]
                }
                groups.append([None, *sets])
            for choice in itertools.product(*groups):
                clicked = [fulfilled for fulfilled in choice if fulfilled is not None]
                steps = 3 + rank // env.actions.page_size + len(clicked)
                if steps <= limit:
                    met = (kind >> 2) + len(frozenset().union(*clicked))
                    met += int(rewards.price_rank[product]) <= int(tasks.price_limit[goal])
                    yield FACTORS[kind & 3] * Fraction(met, int(tasks.num_criteria[goal])), -steps


@pytest.mark.parametrize("limit", [4, STEPS])
def test_the_oracle_makes_the_best_purchase_in_the_fewest_steps(limit):
    env, tasks, actions, returns, _ = played(Oracle(), limit)
    for goal in range(GOALS // 2):
        reward, steps = max(purchases(env, tasks, goal, limit))
        assert returns[goal] == pytest.approx(float(reward), rel=1e-6)
        assert len(actions[goal]) == -steps and actions[goal][-1] == env.actions.buy


def test_the_oracle_finds_its_way_from_anywhere():
    env, tasks, _, returns, words = played(Oracle())
    wander = jax.jit(partial(_from_elsewhere, env))
    for goal in range(4):
        task = jax.tree.map(lambda leaf, goal=goal: leaf[goal], tasks)
        assert wander(task, words[goal]) == returns[goal]


def _from_elsewhere(env, task, words):
    """The oracle's return after random steps that buy nothing, without a time limit to speak of."""
    task = dataclasses.replace(task, time_limit=jnp.uint16(1_000))
    uniform, oracle = scripted.Uniform(), Oracle()
    plan = oracle.plan(env, dataclasses.replace(task, time_limit=jnp.uint16(STEPS)))

    def stray(state, word):
        action = uniform.act(env, None, state, task, word)
        return env.transition(state, jnp.where(action == env.actions.buy, env.actions.back, action), word, task)[
            0
        ], None

    def shop(state, word):
        state, reward, *_ = env.transition(state, oracle.act(env, plan, state, task, word), word, task)
        return state, jnp.where(state.steps > 0, reward, 0)

    state, _ = jax.lax.scan(stray, env.initial(words[0], task), jnp.tile(words, 4))
    return jnp.max(jax.lax.scan(shop, state, jnp.tile(words, 4))[1])


def test_a_uniform_action_is_the_one_of_that_rank():
    env, tasks, actions, _, words = played(scripted.Uniform())
    step = jax.jit(env.transition)
    for goal in range(2):
        task = jax.tree.map(lambda leaf, goal=goal: leaf[goal], tasks)
        state = env.initial(words[goal, 0], task)
        for action, word in zip(actions[goal], words[goal], strict=False):
            legal = np.flatnonzero(env.action_mask(state, task))
            assert action == legal[word % len(legal)]
            state = step(state, jnp.int32(action), word, task)[0]
