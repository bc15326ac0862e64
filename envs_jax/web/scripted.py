"""WebShop's scripted policies: the rule, the rule with matching options, and an oracle that knows the reward.

The rule is the baseline of Yao et al., "WebShop" (2022), section 4: search with the instruction, buy the first product.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs_jax.web.pages import Segment
from envs_jax.web.reward import TYPE_FACTORS
from envs_jax.web.state_machine import INSTRUCTION, Page, Session
from envs_jax.web.webshop import WebShop, WebShopTask

_FACTORS = np.array([10 * factor for factor in TYPE_FACTORS], np.int32)  # integers, so that rewards compare exactly
_BARE_STEPS = 3  # search, open, buy: what a purchase takes without options and further pages of results


@dataclasses.dataclass(frozen=True)
class Rule:
    """Searches the instruction, opens the first product, and buys it.

    With `options` it first chooses, in each option group, the value whose words match the instruction best: that of
    the largest share of words that the instruction holds, then of the most words, then the first; none of share 0.
    """

    options: bool = False

    def plan(self, env: WebShop, task: WebShopTask) -> None:
        del env, task

    def act(self, env: WebShop, plan: None, state: Session, task: WebShopTask, word: jax.Array) -> jax.Array:
        del plan, word
        wanted = matching_options(env, state, task) if self.options else jnp.zeros_like(state.options, jnp.int32)
        first = jnp.int32(env.actions.products)
        return _act(env, state, search=jnp.int32(INSTRUCTION), on_results=first, wanted=wanted)


@dataclasses.dataclass(frozen=True)
class Oracle:
    """Makes the purchase of the highest reward that the task's searches and its time limit allow.

    Of several such purchases it makes the one of the fewest steps, then the one that the instruction finds, then the
    one that stands first. It stays with one search, and goes through its pages of results.
    """

    def plan(self, env: WebShop, task: WebShopTask) -> Plan:
        return best_purchase(env, task)

    def act(self, env: WebShop, plan: Plan, state: Session, task: WebShopTask, word: jax.Array) -> jax.Array:
        del task, word
        actions, number = env.actions, state.number.astype(jnp.int32)
        here = jnp.where(number == plan.number, actions.products + plan.slot, actions.next)
        here = jnp.where(number > plan.number, actions.prev, here)
        on_results = jnp.where(state.search.astype(jnp.int32) == plan.search, here, actions.back)
        wrong = (state.page == Page.ITEM) & (state.product.astype(jnp.int32) != plan.product)
        action = _act(env, state, search=plan.search, on_results=on_results, wanted=plan.options)
        return jnp.where(wrong, actions.prev, action).astype(jnp.int32)


class Plan(NamedTuple):
    """A purchase; int32 all of it."""

    search: jax.Array  # []: which of the task's searches
    number: jax.Array  # []: of the results page, from 1
    slot: jax.Array  # []: the product's place on it
    product: jax.Array  # []
    options: jax.Array  # [G]: per group 1 + the value to choose, 0 for none


def _act(env: WebShop, state: Session, search: jax.Array, on_results: jax.Array, wanted: jax.Array) -> jax.Array:
    """The action on any page of one who searches, picks, chooses the `wanted` options (int32[G]) and buys."""
    actions = env.actions
    on_item = jnp.int32(actions.buy)
    for group in reversed(range(len(actions.group_sizes))):
        click = actions.options + actions.group_starts[group] + wanted[group] - 1
        missing = (wanted[group] > 0) & (wanted[group] != state.options[group].astype(jnp.int32))
        on_item = jnp.where(missing, click, on_item)
    pages = [(Page.INDEX, search), (Page.RESULTS, on_results), (Page.ITEM, on_item)]
    conditions, choices = [state.page == page for page, _ in pages], [action for _, action in pages]
    return jnp.select(conditions, choices, jnp.int32(actions.prev)).astype(jnp.int32)


def matching_options(env: WebShop, state: Session, task: WebShopTask) -> jax.Array:
    """int32[G]: for each option group of the open product 1 + the value whose text matches the instruction best, or 0.

    It compares what the page shows, see `Rule`; on other pages than a product's it is 0.
    """
    shown, instruction = env.observe(state, task), env.tokens.instructions[task.goal]
    option = (shown["segment"] == Segment.OPTION) | (shown["segment"] == Segment.CHOSEN_OPTION)
    slot = jnp.where(option, shown["slot"].astype(jnp.int32), 0)
    found = jnp.any(shown["word"][:, None] == instruction, axis=1) & option
    total = lambda of: jnp.zeros(env.num_actions + 1, jnp.float32).at[slot].add(of.astype(jnp.float32))
    num_found, num_words = total(found), total(option)
    # Two shares of at most 1,000 words differ by at least 1e-6, which is more than what a word adds here.
    score = jnp.where(num_found > 0, num_found / jnp.maximum(num_words, 1) + num_words * np.float32(1e-7), 0)
    start, best = env.actions.options + 1, []
    for size in env.actions.group_sizes:
        group = score[start : start + size]
        best.append(jnp.where(jnp.max(group) > 0, 1 + jnp.argmax(group), 0))
        start += size
    return jnp.stack([*best, jnp.int32(0)])[:-1].astype(jnp.int32)


def best_purchase(env: WebShop, task: WebShopTask) -> Plan:
    """The purchase of the highest reward within the task's time limit, see `Oracle`."""
    actions, page_size = env.actions, env.actions.page_size
    choices = _choices(env, task)
    # The instruction's results come first, so that of equal purchases its own is taken.
    order = np.array([INSTRUCTION, *(k for k in range(actions.num_searches) if k != INSTRUCTION)], np.int32)
    rows = task.queries[order].astype(jnp.int32)
    products = env.links.results[jnp.maximum(rows, 0)].astype(jnp.int32)  # [K, 50]
    rank = jnp.arange(products.shape[1], dtype=jnp.int32)
    found = (rows >= 0)[:, None] & (rank < env.links.num_results[jnp.maximum(rows, 0)][:, None])
    left = task.time_limit.astype(jnp.int32) - _BARE_STEPS - rank // page_size  # steps that options may take
    budget = jnp.broadcast_to(jnp.clip(left, 0, len(actions.group_sizes)), products.shape)
    mask = choices.best[budget, products]
    met = (env.rewards.kind[task.source] >> 2).astype(jnp.int32) + (env.rewards.price_rank <= task.price_limit)
    factor = jnp.asarray(_FACTORS)[env.rewards.kind[task.source] & 3]
    reward = factor[products] * (met[products] + jax.lax.population_count(mask))
    steps = rank // page_size + choices.clicks[-1][mask, products]
    ranking = jnp.where(found & (left >= 0), 256 * reward - steps, jnp.iinfo(jnp.int32).min)
    place = jnp.argmax(ranking).astype(jnp.int32)
    search, rank = jnp.asarray(order)[place // len(rank)], place % len(rank)
    product = products.reshape(-1)[place]
    options = _chosen(env, choices, product, mask.reshape(-1)[place])
    return Plan(search, rank // page_size + 1, rank % page_size, product, options)


class _Choices(NamedTuple):
    """What the options of each of the P products can fulfil; a set of the J wanted options is a number of J bits."""

    fulfilled: jax.Array  # int32[P, options]: the set that a click fulfils; 0 where it cannot be clicked
    clicks: jax.Array  # int32[G + 1, 2^J, P]: fewest clicks in the first g groups that fulfil exactly a set
    best: jax.Array  # int32[G + 1, P]: the largest set for so many clicks; of equal ones that of the fewest clicks


def _choices(env: WebShop, task: WebShopTask) -> _Choices:
    """Groups one after the other, over the sets that the clicks so far fulfil."""
    actions, num_wanted = env.actions, task.options.shape[0]
    num_groups, sets = len(actions.group_sizes), range(2**num_wanted)
    fulfilled = _fulfilled(env, task)
    never = jnp.full(len(fulfilled), num_groups + 1, jnp.int32)

    def group(before: jax.Array, offered: jax.Array) -> tuple[jax.Array, jax.Array]:
        """`before` int32[2^J, P]; bit c of `offered` uint32[P]: some value fulfils the set c."""
        after = list(before)
        for clicked in sets[1:]:
            there = (offered >> np.uint32(clicked)) & 1 == 1
            for held in sets:
                cost = jnp.where(there, before[held] + 1, never)
                after[held | clicked] = jnp.minimum(after[held | clicked], cost)
        return jnp.stack(after), before

    values = [fulfilled[:, s : s + n] for s, n in zip(actions.group_starts, actions.group_sizes, strict=True)]
    union = lambda bits: jax.lax.reduce(bits, np.uint32(0), jax.lax.bitwise_or, (1,))
    offered = jnp.stack([union(np.uint32(1) << of.astype(jnp.uint32)) for of in values])
    first = jnp.stack([jnp.zeros_like(never), *[never for _ in sets[1:]]])
    last, clicks = jax.lax.scan(group, first, offered)
    count = np.array([held.bit_count() for held in sets], np.int32)[:, None]
    worth = lambda budget: jnp.where(last <= budget, count * (num_groups + 2) - last, -1)
    best = [jnp.argmax(worth(budget), axis=0).astype(jnp.int32) for budget in range(num_groups + 1)]
    return _Choices(fulfilled, jnp.concatenate([clicks, last[None]]), jnp.stack(best))


def _fulfilled(env: WebShop, task: WebShopTask) -> jax.Array:
    """int32[P, options]: the wanted options that a click on a value fulfils, bit j for the j-th; 0 without a link."""
    matches = env.rewards.option_match[task.options].astype(jnp.int32)  # [J, V + 1]
    by_value = jnp.sum(matches << np.arange(len(matches), dtype=np.int32)[:, None], axis=0, dtype=jnp.int32)
    bits = (env.links.offered[:, :, None] >> np.arange(32, dtype=np.uint32)) & 1
    num_options = env.actions.num_options
    offered = bits.reshape(len(bits), -1)[:, :num_options] == 1
    return jnp.where(offered, by_value[env.rewards.option_values[:, :num_options]], 0)


def _chosen(env: WebShop, choices: _Choices, product: jax.Array, wanted: jax.Array) -> jax.Array:
    """int32[G]: the values to click, 1 + value or 0, that fulfil the set `wanted` in the fewest clicks."""
    sizes, starts = env.actions.group_sizes, env.actions.group_starts
    num_sets = choices.clicks.shape[1]
    sets = jnp.arange(num_sets, dtype=jnp.int32)
    picked = []
    for group in reversed(range(len(sizes))):
        before, after = choices.clicks[group][:, product], choices.clicks[group + 1][:, product]
        values = choices.fulfilled[product, starts[group] : starts[group] + sizes[group]]
        completes = ((sets[:, None] | values) == wanted) & (before[:, None] + 1 == after[wanted])  # [before, value]
        place = jnp.argmax(completes).astype(jnp.int32)
        clicks = before[wanted] > after[wanted]
        picked.append(jnp.where(clicks, 1 + place % sizes[group], 0))
        wanted = jnp.where(clicks, place // sizes[group], wanted)
    return jnp.stack([jnp.int32(0), *picked])[:0:-1].astype(jnp.int32)
