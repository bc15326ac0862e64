"""Observations against the pages they are made of."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs_jax.web import tokens
from envs_jax.web.pages import MAX_NUMBER, Segment, words
from envs_jax.web.state_machine import Page
from tests.envs_jax.web import shops

pytestmark = pytest.mark.usefixtures("quick_compilation")

observe = jax.jit(lambda env, state, task: env.observe(state, task))


def places(env, task, product):
    """A state on every kind of page."""
    first = env.initial(jnp.uint32(0), task)
    at = lambda page, number, **changes: dataclasses.replace(
        first, page=jnp.uint8(page), number=jnp.uint16(number), **changes
    )
    opened = {"product": jnp.asarray(product, first.product.dtype)}
    chosen = jnp.asarray([min(1, size) for size in env.actions.group_sizes], first.options.dtype)
    yield first
    for number in (1, 2, 5, 6, 98, 200):
        yield at(Page.RESULTS, number)
    yield at(Page.ITEM, 1, **opened)
    yield at(Page.ITEM, 1, **opened, options=chosen)
    for i in range(env.actions.num_sub_pages):
        yield at(Page.DESCRIPTION + i, 2, **opened, options=chosen)
    yield at(Page.DONE, 1, **opened)


def expected_tokens(env, state, task):
    """(word, segment, slot, position) of all words that the page shows, without padding."""
    rows = [(word, Segment.INSTRUCTION, 0, i) for i, word in enumerate(words(env.instruction(task)))]
    starts = [env.actions.options + start for start in env.actions.group_starts]
    chosen = {start + int(pick) - 1 for start, pick in zip(starts, state.options, strict=True) if pick}
    for element in env.page(state, task):
        segment = element.segment
        if segment == Segment.OPTION and element.action in chosen:
            segment = Segment.CHOSEN_OPTION
        slot = 0 if element.action is None else element.action + 1
        rows += [(word, segment, slot, i) for i, word in enumerate(words(element.text))]
    return rows


def shown_tokens(env, observation):
    fields = [np.asarray(observation[name]).tolist() for name in ("word", "segment", "slot", "position")]
    rows = list(zip(*fields, strict=True))
    assert all(row == (0, 0, 0, 0) for row in rows if row[0] == 0 or row[1] == 0)
    return [(env.vocabulary[word], *rest) for word, *rest in rows if word]


@pytest.mark.parametrize("name", ["synthetic", "small pages", "real"])
def test_observations_show_what_the_pages_show(name, request):
    if name == "real":
        env, tasks = shops.real(request.getfixturevalue("data_dir") / "webshop")
    else:
        env, tasks = shops.synthetic(**({"page_size": 3, "show_attributes": True} if name == "small pages" else {}))
    many_options = max(
        range(len(env.shop.products)), key=lambda p: sum(map(len, env.shop.products[p].options.values()))
    )
    for index in (0, 1, len(tasks) - 1):
        task = tasks[index]
        for state in places(env, task, many_options if index == 0 else index % len(env.shop.products)):
            observation = observe(env, state, task)
            assert env.observation_space.contains(jax.tree.map(np.asarray, observation))
            expected = expected_tokens(env, state, task)
            shown = shown_tokens(env, observation)
            if state.number > MAX_NUMBER:
                expected = [(str(MAX_NUMBER) if row[0] == "200" else row[0], *row[1:]) for row in expected]
            below = Page.ITEM < state.page < Page.DONE
            assert shown == (expected[: len(shown)] if below else expected)
            body = np.asarray(observation["word"])[env.tokens.instructions.shape[1] :]
            assert len(shown) == len(expected) or body.all()  # sub-pages alone are cut, and only where they are full


def test_tokens_do_not_depend_on_what_is_hidden():
    """Two products that differ only in what their pages do not show look the same; so do the goals made of them."""
    env, tasks = shops.synthetic()
    product = int(tasks[0].product)
    swapped = dataclasses.replace(env.shop.products[product], asin="Z", attributes=(), category="?", query="elsewhere")
    shop = dataclasses.replace(
        env.shop, products=(*env.shop.products[:product], swapped, *env.shop.products[product + 1 :])
    )
    sources = np.asarray(tasks.instances.source)
    for made in (tokens.build_tables(shop, env.actions, sources),):
        before, after = (
            [env.vocabulary[w] for w in np.asarray(bodies.word).ravel()]
            if names is None
            else [names[w] for w in np.asarray(bodies.word).ravel()]
            for bodies, names in ((env.tokens.bodies, None), (made.bodies, shop.vocabulary))
        )
        assert before == after


def test_vocabulary_is_sorted_and_unique():
    env, _ = shops.synthetic()
    assert env.vocabulary[0] == "" and list(env.vocabulary) == sorted(set(env.vocabulary))


def test_every_slot_is_an_offered_action():
    """The slots of an observation are exactly the actions that have an effect, and those of chosen options."""
    env, tasks = shops.synthetic()
    task = tasks[2]
    for state in places(env, task, int(task.product)):
        if state.page == Page.DONE:
            continue
        observation = observe(env, state, task)
        slots = set(np.unique(observation["slot"])[1:].tolist())
        chosen = np.asarray(observation["slot"])[np.asarray(observation["segment"]) == Segment.CHOSEN_OPTION]
        assert slots - set(chosen.tolist()) == set((np.flatnonzero(env.action_mask(state, task)) + 1).tolist())
