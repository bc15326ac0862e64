"""The reward against plain Python, and its quirks one by one."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs_jax.web import reward
from envs_jax.web.fuzzy import normalized
from envs_jax.web.nouns import spacy_nouns, word_list_nouns
from envs_jax.web.state_machine import Page
from tests.envs_jax.web import shops
from tests.reference import webshop as reference

pytestmark = pytest.mark.usefixtures("quick_compilation")


@jax.jit
def buy(env, task, products, chosen):
    """(rewards, whether they end the episode, successes) of purchases from item pages, for a batch."""

    def one(task, product, options):
        first = env.initial(jnp.uint32(0), task)
        state = dataclasses.replace(
            first,
            page=jnp.uint8(Page.ITEM),
            number=jnp.uint16(1),
            product=product.astype(first.product.dtype),
            options=options.astype(first.options.dtype),
        )
        after, reward, terminated, _ = env.transition(state, jnp.int32(env.actions.buy), jnp.uint32(0), task)
        return reward, terminated, env.success(after, task)

    return jax.vmap(one)(task, products, chosen)


def random_purchases(env, tasks, count, seed):
    """(goal indices, products, option indices [count, G] with 0 for none): often near the goal."""
    rng = np.random.default_rng(seed)
    goals = rng.integers(len(tasks), size=count)
    products = rng.integers(len(env.shop.products), size=count)
    chosen = np.zeros((count, len(env.actions.group_sizes)), int)
    for i, goal_index in enumerate(goals):
        goal = env.shop.goals[goal_index]
        if rng.random() < 0.5:
            products[i] = goal.product
        elif rng.random() < 0.5:
            kind = [
                p
                for p, product in enumerate(env.shop.products)
                if product.query == env.shop.products[goal.product].query
            ]
            products[i] = rng.choice(kind)
        wanted = {option[1] if isinstance(option, tuple) else option for option in goal.options}
        for g, values in enumerate(env.shop.products[products[i]].options.values()):
            if rng.random() < 0.8:
                hits = [v for v, value in enumerate(values) if value in wanted]
                chosen[i, g] = 1 + (hits[0] if hits and rng.random() < 0.7 else rng.integers(len(values)))
    return goals, products, chosen


def outcomes(env, tasks, goals, products, chosen):
    """(rewards, successes) of purchases."""
    rewards, terminated, successes = jax.device_get(buy(env, tasks[goals].instances, products, chosen))
    assert terminated.all()
    return rewards, successes


def check_against_reference(env, tasks, products, human, count, ratio, seed=0):
    goals, bought, chosen = random_purchases(env, tasks, count, seed)
    rewards, successes = outcomes(env, tasks, goals, bought, chosen)
    prices, wanted = reference.prices_and_goals(products, shops.SEED, human)
    expected = []
    for goal, product, picks in zip(goals, bought, chosen, strict=True):
        groups = products[product]["options"].items()
        options = {name: values[pick - 1] for (name, values), pick in zip(groups, picks, strict=False) if pick}
        expected.append(
            reference.reward(wanted[goal], products, product, prices[product], options, word_list_nouns, ratio)
        )
    np.testing.assert_allclose(rewards, expected, atol=1e-6)
    assert (successes == (np.array(expected) == 1.0)).all()
    assert 0.02 < np.mean(successes) < 0.9 and len(np.unique(rewards)) > 10


def test_synthetic_purchases_equal_the_reference():
    check_against_reference(*shops.synthetic(), shops.synthetic_reference(), False, 1000, reference.token_set_ratio)


def test_asked_product_with_the_wanted_options_is_best():
    """It earns exactly 1, except where a colour word hidden in an option's text spoils the match, as in WebShop."""
    env, tasks = shops.synthetic()
    chosen = np.zeros((len(tasks), len(env.actions.group_sizes)), int)
    hidden = np.zeros(len(tasks), bool)
    for i, goal in enumerate(env.shop.goals):
        wanted = dict(goal.options)
        for g, (name, values) in enumerate(env.shop.products[goal.product].options.items()):
            chosen[i, g] = 1 + values.index(wanted[name])
        said = [(reward.normalize_color(value), normalized(f"{name} {value}").split()) for name, value in goal.options]
        hidden[i] = any(text in reference.COLORS and text not in words for text, words in said)
    goals, products = np.arange(len(tasks)), np.asarray(tasks.instances.product)
    rewards, successes = outcomes(env, tasks, goals, products, chosen)
    assert (successes == ~hidden).all() and ((rewards == 1) == successes).all()
    assert 0 < np.mean(hidden) < 0.1
    rewards, successes = outcomes(env, tasks, goals, products, np.zeros_like(chosen))
    assert (successes == [not goal.options for goal in env.shop.goals]).all()


def test_reward_modes():
    raw, tasks = shops.synthetic()
    purchases = random_purchases(raw, tasks, 1000, 1)
    rewards, successes = outcomes(raw, tasks, *purchases)
    for mode, best in (("binary", 1.0), ("harsh", 10.0)):
        env = dataclasses.replace(raw, reward_mode=mode)
        values, wins = outcomes(env, tasks, *purchases)
        assert (values == np.where(rewards == 1, best, 0)).all() and (wins == successes).all()
        assert shops.synthetic(reward=mode)[0].reward_mode == mode


def shop_of(tmp_path, products, wanted):
    """A shop whose only goal is made from product 0; `products` are changes to one plain product."""
    plain = {
        "name": "Quiet Kettle",
        "category": "garden",
        "query": "kettles",
        "product_category": "Home › Kitchen",
        "full_description": "",
        "small_description": ["A kettle."],
        "pricing": "$12.00",
        "customization_options": "",
    }
    items = [{**plain, "asin": f"P{i}", **product} for i, product in enumerate(products)]
    notes = {item["asin"]: {"attributes": item.pop("attributes", [])} for item in items}
    notes["P0"] |= {"instruction": "Find me a kettle", "instruction_attributes": wanted}
    return shops.from_content(tmp_path, items, notes)


def bought(env, tasks, product, chosen=()):
    options = np.zeros((1, len(env.actions.group_sizes)), int)
    options[0, : len(chosen)] = chosen
    return outcomes(env, tasks, np.array([0]), np.array([product]), options)[0].item()


def test_attributes_match_fuzzily_or_in_any_text(tmp_path):
    products = [
        {},
        {"attributes": ["ceramic inside"]},  # the words of the wish, and more
        {"attributes": ["insides ceramics"]},  # close enough
        {"full_description": "CERAMIC within"},
        {"small_description": ["none", "of ceramic, here"]},
        {"name": "Quiet Kettle Ceramics"},
        {"attributes": ["copper"]},
    ]
    env, tasks = shop_of(tmp_path, products, ["ceramic"])
    matched = [bought(env, tasks, p) for p in range(len(products))]
    assert matched == [0.5, 1.0, 0.5, 1.0, 1.0, 1.0, 0.5]


def test_kinds_of_product(tmp_path):
    long_title = "Kettle Lid Stove Stone Bowl Spoon Fork Knife Plate Cup Dish Tray"
    products = [
        {"name": long_title},
        {"name": "Garden Hose"},  # no noun in common: nothing, though the query is the same
        {"name": "Kettle", "query": "pots", "product_category": "Home"},  # 1 of 12 nouns is below a tenth
        {"name": "Kettle Lid", "query": "pots", "product_category": "Home"},  # 2 of 12: not the same kind
        {"name": "Kettle Lid", "query": "pots", "product_category": "Kitchen › Home › Pots"},  # two parts in common
        {"name": "Kettle Lid Stove", "query": "pots", "product_category": "Home"},  # 3 of 12
        {"name": "Kettle Lid", "product_category": "Home"},  # the same query
    ]
    env, tasks = shop_of(tmp_path, products, ["kettle"])
    rewards = [bought(env, tasks, p) for p in range(len(products))]  # all hold "kettle" and are cheap enough
    np.testing.assert_allclose(rewards, np.array([1, 0, 0.1, 0.5, 1, 1, 1]), atol=1e-6)


def test_options_and_colours(tmp_path):
    values = lambda *texts: [{"value": text} for text in texts]
    products = [
        {"customization_options": {"Color": values("navy blue"), "Size": values("x-small")}},
        {
            "customization_options": {
                "Color": values("navy blue", "dark blue", "black"),
                "Size": values("small", "x-small"),
            }
        },
    ]
    env, tasks = shop_of(tmp_path, products, ["kettle"])
    # Criteria: attribute, two options, price. Options are stated as pairs, which keep their colour words apart.
    assert bought(env, tasks, 1) == pytest.approx(2 / 4)
    assert bought(env, tasks, 1, (1, 0)) == pytest.approx(3 / 4)  # navy blue, normalised to blue, is in the pair
    assert bought(env, tasks, 1, (2, 0)) == pytest.approx(3 / 4)  # and so is dark blue: blue comes first in the list
    assert bought(env, tasks, 1, (3, 0)) == pytest.approx(2 / 4)
    assert bought(env, tasks, 1, (1, 1)) == pytest.approx(4 / 4)  # small is part of x-small
    assert bought(env, tasks, 1, (1, 2)) == pytest.approx(4 / 4)


def test_price_limits(tmp_path):
    products = [{}, {"pricing": "$9999.00"}, {"pricing": None}]
    env, tasks = shop_of(tmp_path, products, ["kettle"])
    limit = env.shop.goals[0].price_upper
    assert limit in (30.0, 40.0, 50.0) and env.shop.prices[2] == 100.0
    assert [bought(env, tasks, p) for p in range(3)] == [1.0, 0.5, 0.5]


def test_normalize_color():
    known = {
        "navy blue": "blue",
        "standard": "tan",
        "washed": "ash",
        "layered": "red",
        "dark grey": "dark",
        "rose gold": "gold",
        "plaid": "plaid",
    }
    assert {text: reward.normalize_color(text) for text in known} == known
    assert len(reward.COLORS) == 102 and list(reward.COLORS) == reference.COLORS


def test_word_list_nouns():
    title = "Vhome's 2-Pack Soft Cotton Pillow Covers, 18 x 18 Inch for the Sofa, cotton"
    assert word_list_nouns(title) == ["vhome", "pack", "cotton", "pillow", "covers", "sofa", "cotton"]
    assert word_list_nouns("") == []


def test_noun_fn_is_used():
    env, _ = shops.synthetic(noun_fn=lambda title: [])
    kinds = np.asarray(env.rewards.kind) & 3
    assert set(np.unique(kinds)) <= {2, 3}  # without nouns the title score is 0.2: never "nothing in common"


def test_spacy_is_optional():
    try:
        import spacy  # noqa: F401
    except ImportError:
        with pytest.raises(ImportError, match=r"envs-jax\[nouns\]"):
            spacy_nouns()
    else:
        with pytest.raises(ImportError, match="python -m spacy download no_such_model"):
            spacy_nouns("no_such_model")
