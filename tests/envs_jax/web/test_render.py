"""Pages as text and as pictures."""

import dataclasses
import re
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from envs_jax.web.state_machine import Page
from tests.envs_jax.web import shops
from tests.envs_jax.web.test_tokens import places

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_text_holds_what_the_page_shows():
    env, tasks = shops.synthetic(page_size=3, show_attributes=True)
    task = tasks[0]
    flat = lambda text: "".join(text.split())
    for state in places(env, task, int(task.product)):
        text = env.render_text(state, task)
        assert flat(env.instruction(task)) in flat(text)
        for element in env.page(state, task):
            assert flat(element.text) in flat(text).replace("*", "")
        assert max(map(len, text.splitlines())) <= 100


def test_chosen_options_are_starred():
    env, tasks = shops.synthetic()
    product = next(p for p, item in enumerate(env.shop.products) if len(item.options) == 2)
    (first, *_), (_, second, *_) = env.shop.products[product].options.values()
    state = env.initial(jnp.uint32(0), tasks[0])
    state = dataclasses.replace(
        state, page=jnp.uint8(Page.ITEM), product=jnp.asarray(product, state.product.dtype),
        options=jnp.zeros_like(state.options).at[:2].set(jnp.array([1, 2], jnp.uint8)),
    )  # fmt: skip
    text = env.render_text(state, tasks[0])
    assert f"[*{first}]" in text and f"[*{second}]" in text and text.count("[*") == 2


def test_searches_may_have_outer_blanks_and_must_be_text():
    env, tasks = shops.synthetic()
    state = env.initial(jnp.uint32(0), tasks[0])
    for action in range(len(env.shop.searches[0])):
        command = env.action_text(action, state, tasks[0])
        assert env.parse_action(command.replace("[", "[ ").replace("]", "\t ]"), state, tasks[0]) == action
    for wrong in (None, 3, b"search[x]"):
        with pytest.raises(TypeError, match=re.escape(f"text={wrong!r} is not a str, such as 'search[")):
            env.parse_action(wrong, state, tasks[0])


def test_page_text_is_webshops():
    env, tasks = shops.synthetic()
    task = tasks[0]
    goal, product = env.shop.goals[0], env.shop.products[int(task.product)]
    index, *results, item, _, description, _, _, done = places(env, task, int(task.product))
    assert env.page_text(index, task) == f"WebShop [SEP] Instruction: [SEP] {goal.instruction} [SEP] Search"
    first_page = env.page_text(results[0], task).split(" [SEP] ")
    found = env.shop.products[int(env.links.results[int(task.queries[0]), 0])]
    assert first_page[:2] == ["Instruction:", goal.instruction]
    assert first_page[2] == "Back to Search" and first_page[4] == "Next >"
    assert first_page[5:8] == [found.asin, found.title, found.price_tag]
    options = [text for name, values in product.options.items() for text in (name, *values)]
    buttons = ["Description", "Features", "Reviews", "Buy Now"]
    assert env.page_text(item, task).split(" [SEP] ")[2:] == [
        "Back to Search", "< Prev", *options, product.title, f"Price: {product.price_tag}", "Rating: N.A.", *buttons,
    ]  # fmt: skip
    assert env.page_text(description, task).endswith(f"< Prev [SEP] {product.description}")
    assert env.page_text(done, task).startswith("Thank you for shopping with us! [SEP] Your score")


def test_pictures():
    env, tasks = shops.synthetic(page_size=3, show_attributes=True)
    task = tasks[0]
    pictures = [env.render_rgb(state, task) for state in places(env, task, int(task.product))]
    assert all(picture.shape == (720, 960, 3) and picture.dtype == np.uint8 for picture in pictures)
    kinds = [picture.tobytes() for picture in pictures]
    assert len(set(kinds)) >= 10  # pages look different (only results beyond the end may look alike)
    ten, tasks = shops.synthetic()
    assert ten.render_rgb(list(places(ten, tasks[1], 0))[1], tasks[1]).std() > 5


def test_pictures_of_crowded_pages():
    env, tasks = shops.synthetic(page_size=50)
    busy = max(range(len(env.shop.products)), key=lambda p: sum(map(len, env.shop.products[p].options.values())))
    for state in places(env, tasks[0], busy):
        assert env.render_rgb(state, tasks[0]).shape == (720, 960, 3)


def test_pictures_need_pillow(monkeypatch):
    env, tasks = shops.synthetic()
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"envs-jax\[render\]"):
        env.render_rgb(env.initial(jnp.uint32(0), tasks[0]), tasks[0])
