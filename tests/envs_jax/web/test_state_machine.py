"""The pages against plain Python: the same commands, the same places."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs_jax.web import pages, state_machine
from envs_jax.web.state_machine import Actions, Page
from envs_jax.web.synthetic import generate_files
from tests.envs_jax.web import shops
from tests.reference import webshop as reference

pytestmark = pytest.mark.usefixtures("quick_compilation")

STEPS = 12
GARBAGE = ("", "click[]", "search[]", "buy now", "click[nothing]", "search[nothing at all]", "click[search]", "open[x]")


@jax.jit
def advance(env, state, action, task):
    """One step of a batch."""
    return jax.vmap(lambda s, a, t: env.live_transition(s, a, jnp.uint32(0), t))(state, action, task)


def make_reference(env, products):
    """(a new session, its templates) for a goal."""
    texts = list(dict.fromkeys(text for searches in env.shop.searches for text in searches))
    found = dict(zip(texts, reference.rankings([reference.document(p) for p in products], texts), strict=True))

    def begin(goal):
        templates = list(env.shop.searches[goal])
        searches = {text: found[text] for text in templates}
        return reference.Shopper(products, searches, env.actions.page_size, env.actions.num_sub_pages == 4), templates

    return begin


def random_command(rng, shopper, templates):
    """Mostly something that the page offers, else any text."""
    offered = [f"search[{text}]" for text in templates] if shopper.page == "index" else []
    offered += [f"click[{text}]" for text in shopper.clickables()]
    if shopper.page == "item" and rng.random() < 0.6:  # buying ends the session: not too soon
        offered = [text for text in offered if text != "click[buy now]"]
    draw = rng.random()
    if offered and draw < 0.8:
        command = offered[rng.integers(len(offered))]
        return command.upper().replace("CLICK", "click").replace("SEARCH", "search") if draw < 0.1 else command
    if draw < 0.9:
        return GARBAGE[rng.integers(len(GARBAGE))]
    buttons = ("next >", "< prev", "back to search", "buy now", "description", "attributes", templates[0])
    verb = "search" if rng.random() < 0.3 else "click"
    return f"{verb}[{buttons[rng.integers(len(buttons))]}]"


def check_place(env, row, shopper, templates):
    """The packed session `row` (of NumPy values) is where the reference is."""
    assert Page(row.page).name.lower() == shopper.page
    expected_options = [0] * len(env.actions.group_sizes)
    if shopper.page == "index":
        assert (row.search, row.number, row.product) == (0, 0, 0)
    else:
        assert templates[row.search] == shopper.query and row.number == shopper.number
    if shopper.product is not None:
        assert row.product == shopper.product
        for g, (name, values) in enumerate(shopper.products[shopper.product]["options"].items()):
            if name in shopper.options:
                assert values[row.options[g] - 1] == shopper.options[name]
                expected_options[g] = row.options[g]
                assert row.options[g] > 0
    assert row.options.tolist() == expected_options


def play_both(env, tasks, products, num_sessions, seed):
    """Plays random commands and action numbers in both, compares every state, counts how often each page is seen."""
    rng = np.random.default_rng(seed)
    begin, on_host = make_reference(env, products), jax.device_get(env)
    goals = rng.integers(len(tasks), size=num_sessions)
    task = tasks[goals].instances
    task_rows = unstacked(task, num_sessions)
    state = jax.vmap(env.initial)(jnp.zeros(num_sessions, jnp.uint32), task)
    sessions = [begin(goal) for goal in goals]
    seen = dict.fromkeys(Page, 0)
    rows = unstacked(state, num_sessions)
    for _ in range(STEPS):
        actions = np.zeros(num_sessions, np.int32)
        for i, (shopper, templates) in enumerate(sessions):
            if shopper.page == "done":
                continue
            if rng.random() < 0.25:
                actions[i] = rng.integers(-3, env.num_actions + 3)
                layout = env.actions.group_sizes, env.actions.num_searches
                shopper.do(reference.command_of(shopper, actions[i], templates, *layout))
            else:
                command = random_command(rng, shopper, templates)
                actions[i] = on_host.parse_action(command, rows[i], task_rows[i])
                shopper.do(command)
        ended = np.asarray(state.page) == Page.DONE
        outcome = advance(env, state, jnp.asarray(actions), task)
        bought = np.asarray(outcome.terminated) & ~ended
        assert (np.asarray(outcome.reward)[~bought & ~ended] == 0).all()
        state = jax.tree.map(
            lambda old, new, ended=ended: np.where(ended.reshape(-1, *[1] * (new.ndim - 1)), old, new),
            state,
            outcome.state,
        )
        rows = unstacked(state, num_sessions)
        for row, (shopper, templates) in zip(rows, sessions, strict=True):
            check_place(env, row, shopper, templates)
            seen[Page(row.page)] += 1
    return seen


def unstacked(tree, size):
    """The elements of a batch, with NumPy leaves."""
    leaves, structure = jax.tree.flatten(jax.tree.map(np.asarray, tree))
    return [jax.tree.unflatten(structure, [leaf[i] for leaf in leaves]) for i in range(size)]


def test_sessions_equal_the_reference():
    env, tasks = shops.synthetic(page_size=3, show_attributes=True)
    seen = play_both(env, tasks, shops.synthetic_reference(), 400, seed=0)
    assert min(seen.values()) > 20


@pytest.mark.slow
def test_ten_thousand_real_sessions_equal_the_reference(data_dir):
    env, tasks = shops.real(data_dir / "webshop")
    seen = play_both(env, tasks, shops.real_reference(data_dir / "webshop"), 10_000, seed=1)
    assert min(count for page, count in seen.items() if page != Page.ATTRIBUTES) > 1000


def walk(env, task, *commands):
    """The states along a list of commands; −1 (no such command) has no effect."""
    state = env.initial(jnp.uint32(0), task)
    states = [state]
    for command in commands:
        action = env.parse_action(command, state, task) if isinstance(command, str) else command
        state = one_step(env, state, jnp.int32(action), task)
        states.append(state)
    return states


def test_next_is_offered_beyond_the_last_page():
    env, tasks = shops.synthetic()
    task = tasks[0]
    query = env.shop.searches[0][0]
    states = walk(env, task, f"search[{query}]", *["click[next >]"] * 8, "click[< prev]")
    assert [int(state.number) for state in states] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 8]
    mask = np.asarray(env.action_mask(states[-2], task))
    assert np.flatnonzero(mask).tolist() == [env.actions.next, env.actions.prev, env.actions.back]


def test_search_is_offered_on_the_search_page_only():
    env, tasks = shops.synthetic()
    task = tasks[0]
    search = f"search[{env.shop.searches[0][0]}]"
    _, results, same = walk(env, task, search, 1)
    assert env.parse_action(search, results, task) == -1
    assert (env.state_key(results) == env.state_key(same)).all()


def test_equal_values_and_values_called_like_buttons(tmp_path):
    """A click is known by its text: the last of equal values counts, and a button goes before a value."""
    items, attributes = generate_files(shops.SEED, 60)
    values = lambda *texts: [{"value": text} for text in texts]
    for item in items:
        item["customization_options"] = {
            "Color": values("Plain", "red", "buy now", "red"),
            "Style": values("plain", "Description", "search", "next >"),
        }
    env, tasks = shops.from_content(tmp_path, items, attributes)
    clicks = pages.option_clicks(env.actions, env.shop.products[0])
    base = env.actions.options
    assert clicks == {"plain": base + 4, "red": base + 3, "next >": base + 7}
    seen = play_both(env, tasks, reference.combine(items, attributes, {}), 200, seed=2)
    assert seen[Page.ITEM] > 100


def test_numbering_of_the_actions():
    actions = Actions(num_searches=4, page_size=3, group_sizes=(2, 3), num_sub_pages=4)
    assert (actions.next, actions.prev, actions.back, actions.products, actions.options) == (4, 5, 6, 7, 10)
    assert (actions.group_starts, actions.num_options, actions.sub_pages, actions.buy, actions.total) == (
        (0, 2),
        5,
        15,
        19,
        20,
    )
    assert actions.names[4:7] == ("next", "prev", "back") and actions.names[10:13] == (
        "option 0.0",
        "option 0.1",
        "option 1.0",
    )
    assert actions.names[15:] == ("description", "features", "reviews", "attributes", "buy")


def test_more_searches_than_a_byte_counts():
    with pytest.raises(ValueError, match="a goal has 256 searches"):
        Actions(num_searches=256, page_size=3, group_sizes=(), num_sub_pages=3)


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_mask_marks_exactly_the_actions_with_an_effect(data):
    env, tasks = shops.synthetic()
    task = tasks[data.draw(st.integers(0, len(tasks) - 1))]
    state = env.initial(jnp.uint32(0), task)
    for _ in range(data.draw(st.integers(0, 6))):
        offered = np.flatnonzero(np.asarray(mask_of(env, state, task)))
        state = one_step(env, state, jnp.int32(offered[data.draw(st.integers(0, 10**6)) % len(offered)]), task)
        if state.page == Page.DONE:
            break
    mask, changes = effects(env, state, task)
    assert (np.asarray(mask) == (np.asarray(changes) | (state.page == Page.DONE))).all()


@jax.jit
def mask_of(env, state, task):
    return env.action_mask(state, task)


@jax.jit
def one_step(env, state, action, task):
    return env.live_transition(state, action, jnp.uint32(0), task).state


@jax.jit
def effects(env, state, task):
    """(mask, whether each action changes the state key)."""
    after = jax.vmap(lambda action: env.transition(state, action, jnp.uint32(0), task).state)(
        jnp.arange(env.num_actions)
    )
    keys = jax.vmap(env.state_key)(after)
    return env.action_mask(state, task), jnp.any(keys != env.state_key(state), axis=1)


def test_different_places_have_different_keys():
    env, _ = shops.synthetic()
    product = max(range(len(env.shop.products)), key=lambda p: len(env.shop.products[p].options))
    base = state_machine.first_session(env.actions, env.links)
    places = [
        base,
        dataclasses.replace(base, page=jnp.uint8(1), number=jnp.uint16(1)),
        dataclasses.replace(base, page=jnp.uint8(1), number=jnp.uint16(256)),
        dataclasses.replace(base, page=jnp.uint8(1), number=jnp.uint16(1), search=jnp.uint8(1)),
        dataclasses.replace(
            base, page=jnp.uint8(2), number=jnp.uint16(1), product=jnp.asarray(product, base.product.dtype)
        ),
    ]
    places += [dataclasses.replace(places[-1], options=base.options.at[g].set(1)) for g in range(len(base.options))]
    keys = {tuple(np.asarray(env.state_key(place)).tolist()) for place in places}
    assert len(keys) == len(places)
    later = dataclasses.replace(places[2], steps=jnp.uint16(9))
    assert (env.state_key(later) == env.state_key(places[2])).all()


def test_catalogue_without_options():
    actions = Actions(num_searches=2, page_size=2, group_sizes=(), num_sub_pages=3)
    links = state_machine.Links(jnp.zeros((1, 50), jnp.uint8), jnp.full(1, 2, jnp.uint8), jnp.zeros((2, 1), jnp.uint32))
    session, queries = state_machine.first_session(actions, links), jnp.array([0, -1], jnp.int16)
    for action in (0, actions.products):
        session = state_machine.advance(actions, links, session, jnp.int32(action), queries)
    assert session.page == Page.ITEM and session.options.shape == (0,)
    expected = [actions.prev, actions.back, *range(actions.sub_pages, actions.total)]
    assert np.flatnonzero(state_machine.mask(actions, links, session, queries)).tolist() == expected
