"""WebShop: shopping by an instruction, with WebShop's pages, search, options and reward, as pure functions.

Yao et al., "WebShop: Towards Scalable Real-World Web Interaction with Grounded Language Agents" (2022),
princeton-nlp/WebShop. What is simulated and what is not: docs/webshop.md.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from envs_jax.arguments import as_integer, check_bool, check_choice, check_integer, check_seed
from envs_jax.environment import Environment
from envs_jax.pytree import pytree_dataclass, static_field
from envs_jax.spaces import Box, Dict
from envs_jax.tasks import Task, TaskBank, make_bank
from envs_jax.web import goals as goals_of
from envs_jax.web import pages, ranking, render, state_machine, tokens
from envs_jax.web.catalogue import Product, ProductFiles, load_products
from envs_jax.web.goals import GoalKind
from envs_jax.web.nouns import NounFn, word_list_nouns
from envs_jax.web.pages import Element
from envs_jax.web.reward import GoalCodes, RewardTables, build_tables, compact, score
from envs_jax.web.shop import Shop, open_shop
from envs_jax.web.state_machine import Actions, Links, Page, Session
from envs_jax.web.synthetic import generate_products

RewardMode = Literal["raw", "binary", "harsh"]
HARSH_REWARD = 10.0
NUM_PRODUCTS = 1_000  # of a synthetic catalogue

_COMMAND = re.compile(r"(search|click)\[(.+)\]")


@pytree_dataclass
class WebShopTask(Task):
    """One goal; its numbers are those of the catalogue that the environment holds."""

    goal: jax.Array  # uint[]: index of the goal (its instruction)
    product: jax.Array  # uint[]: the product it was made from; not observable
    source: jax.Array  # uint[]: row of the tables that depend on the goal's product and attributes
    queries: jax.Array  # int16 or int32[K]: the distinct query behind each search template, −1 where there is none
    options: jax.Array  # uint[J]: the wanted options
    price_limit: jax.Array  # uint[]: rank of the price limit
    num_criteria: jax.Array  # uint[]: attributes + options + 1
    time_limit: jax.Array  # uint16[]
    made_for: str = static_field(default="")


@pytree_dataclass
class WebShop(Environment[Session, WebShopTask]):
    """The environment; `make` builds it. Its leaves are the tables of one catalogue."""

    task_type: ClassVar[type[Task]] = WebShopTask
    state_type: ClassVar[type[Any]] = Session

    links: Links
    rewards: RewardTables
    tokens: tokens.TokenTables
    actions: Actions = static_field()
    reward_mode: RewardMode = static_field()
    shop: Shop = static_field()  # the texts, for rendering and parsing

    @property
    def num_actions(self) -> int:
        return self.actions.total

    @property
    def action_names(self) -> tuple[str, ...]:
        return self.actions.names

    @property
    def made_for(self) -> str:
        return f"catalogue {self.catalogue_checksum}"

    @property
    def catalogue_checksum(self) -> str:
        return self.shop.checksum

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The word behind each word id of the observations; "" for padding."""
        return self.shop.vocabulary

    @property
    def observation_space(self) -> Dict:
        rows = self.tokens.bodies
        length = self.tokens.instructions.shape[1] + rows.word.shape[1]
        high = len(self.vocabulary) - 1, max(pages.Segment), self.num_actions, length - 1
        fields = {"word": rows.word, "segment": rows.segment, "slot": rows.slot, "position": rows.position}
        return Dict(
            {name: Box(0, top, (length,), field.dtype) for (name, field), top in zip(fields.items(), high, strict=True)}
        )

    def hold_out(
        self, tasks: TaskBank[WebShopTask], num_held_out: int, seed: int = 0
    ) -> tuple[TaskBank[WebShopTask], TaskBank[WebShopTask]]:
        """By products, see `Environment.hold_out`: a fifth of them is held out with all their goals."""
        self.check_tasks(tasks)
        return goals_of.hold_out(tasks, num_held_out, seed)

    def has_chance(self, tasks: TaskBank[WebShopTask]) -> bool:
        del tasks
        return False

    def initial(self, word: jax.Array, task: WebShopTask) -> Session:
        del word, task
        return state_machine.first_session(self.actions, self.links)

    def advance(
        self, state: Session, action: jax.Array, word: jax.Array, task: WebShopTask
    ) -> tuple[Session, jax.Array]:
        del word
        after = state_machine.advance(self.actions, self.links, state, action, task.queries)
        value, success = self._outcome(after, task)
        value = {"raw": value, "binary": jnp.float32(success), "harsh": HARSH_REWARD * success}[self.reward_mode]
        return after, value.astype(jnp.float32)

    def terminated(self, state: Session, task: WebShopTask) -> jax.Array:
        del task
        return state.page == Page.DONE

    def observe(self, state: Session, task: WebShopTask) -> dict[str, jax.Array]:
        return tokens.observe(self.tokens, self.actions, self.links, state, task.goal, task.source, task.queries)

    def action_mask(self, state: Session, task: WebShopTask) -> jax.Array:
        mask = state_machine.mask(self.actions, self.links, state, task.queries)
        return mask | jnp.logical_or(*self.status(state, task))

    def state_key(self, state: Session) -> jax.Array:
        return state_machine.packed(state)

    def success(self, state: Session, task: WebShopTask) -> jax.Array:
        return self._outcome(state, task)[1]

    def info(self, state: Session, task: WebShopTask) -> dict[str, jax.Array]:
        """`success`: bought at a reward of exactly 1. `score`: WebShop's reward of the purchase, 0 before one."""
        value, success = self._outcome(state, task)
        return {"success": success, "score": value}

    def _outcome(self, state: Session, task: WebShopTask) -> tuple[jax.Array, jax.Array]:
        """(WebShop's reward, success) of a purchase; (0, False) before one."""
        codes = GoalCodes(task.source, task.options, task.price_limit, task.num_criteria)
        value, best = score(self.rewards, self.actions, state, codes)
        bought = state.page == Page.DONE
        return jnp.where(bought, value, 0.0), bought & best

    # Text, on the host ------------------------------------------------------------------------------------------------

    def page(self, state: Session, task: WebShopTask) -> list[Element]:
        """What the open page (concrete) shows below the instruction; empty when the session is done."""
        product = self.shop.products[int(state.product)]
        match Page(int(state.page)):
            case Page.INDEX:
                return pages.index_page(self.shop.searches[int(task.goal)])
            case Page.RESULTS:
                row = int(task.queries[int(state.search)])
                total, first = int(self.links.num_results[row]), (int(state.number) - 1) * self.actions.page_size
                shown = np.asarray(self.links.results[row])[:total][first : first + self.actions.page_size]
                products = [self.shop.products[i] for i in shown]
                return pages.results_page(self.actions, products, int(state.number), total)
            case Page.ITEM:
                return pages.item_page(self.actions, product)
            case Page.DONE:
                return []
            case page:
                return pages.sub_page(self.actions, product, page)

    def instruction(self, task: WebShopTask) -> str:
        """The goal in words, as every page shows it."""
        return self.shop.goals[int(task.goal)].instruction

    def parse_action(self, text: str, state: Session, task: WebShopTask) -> int:
        """The action that a command means on the open page.

        Args:
          text: "search[…]" or "click[…]", the argument in any case. A search must be one of the task's templates;
            blanks around it do not count.
          state: the state, concrete.
          task: the task.

        Returns:
          The action, or −1 where the page does not offer it (WebShop then changes nothing).

        Raises:
          TypeError: `text` is not a str.
        """
        if not isinstance(text, str):
            raise TypeError(f"text={text!r} is not a str, such as 'search[…]' or 'click[…]'")
        command = _COMMAND.match(text)
        if command is None:
            return -1
        verb, argument = command[1], command[2].lower()
        if verb == "search":
            argument = argument.strip()  # the blanks mean nothing to the search engine
        return self._commands(state, task).get(f"{verb}[{argument}]", -1)

    def action_text(self, action: int, state: Session, task: WebShopTask) -> str:
        """The command for `action` on the open page; its plain name where the page does not offer it."""
        if not 0 <= action < self.num_actions:
            raise ValueError(f"action={action} is not one of 0 … {self.num_actions - 1}")
        commands = {number: command for command, number in self._commands(state, task).items()}
        return commands.get(action, self.action_names[action])

    def _commands(self, state: Session, task: WebShopTask) -> dict[str, int]:
        """The commands of the open page; of equal searches the first counts."""
        elements = reversed(self.page(state, task))
        return {e.command: e.action for e in elements if e.command is not None and e.action is not None}

    def page_text(self, state: Session, task: WebShopTask) -> str:
        """The texts of the open page, separated by " [SEP] ": WebShop's `text` observations for language models."""
        return render.page_text(self, state, task)

    def render_text(self, state: Session, task: WebShopTask) -> str:
        return render.text(self, state, task)

    def render_rgb(self, state: Session, task: WebShopTask) -> np.ndarray:
        return render.rgb(self, state, task)


def make(
    *,
    seed: int = 0,
    products: str | os.PathLike[str] | ProductFiles | None = None,
    num_products: int | None = None,
    goals: GoalKind = "synthetic",
    page_size: int = 10,
    time_limit: int = 15,
    reward: RewardMode = "raw",
    num_distractors: int = 2,
    show_attributes: bool = False,
    noun_fn: NounFn = word_list_nouns,
) -> tuple[WebShop, TaskBank[WebShopTask]]:
    """Makes WebShop and the bank of all its goals, in WebShop's order and with its sampling weights.

    Args:
      seed: draws prices within ranges, price limits and distractors, and the synthetic catalogue.
      products: a folder with WebShop's product files, or its `items_shuffle*.json` (see `catalogue.find_files`);
        None for a synthetic catalogue.
      num_products: how many products: the first of the file (default all), or of a synthetic catalogue (default 1,000).
      goals: "synthetic" or "human" (the latter from `items_human_ins.json`).
      page_size: products on a results page; WebShop has 10, AgentBoard 3.
      time_limit: steps until an episode is truncated, 1 … 65,535.
      reward: "raw", WebShop's reward in [0, 1]; "binary", 1 where that is 1, else 0; "harsh", 10 where it is 1, else 0.
      num_distractors: how many searches a task offers with an attribute that its goal does not have.
      show_attributes: whether items have WebShop's optional Attributes page.
      noun_fn: title to nouns, for the reward's comparison of products (`nouns.word_list_nouns`, `nouns.spacy_nouns()`).

    Returns:
      (env, tasks).

    Raises:
      TypeError, ValueError: naming the argument, its value and what is allowed.
    """
    seed = check_seed(seed)
    check_choice("goals", goals, get_args(GoalKind))
    check_choice("reward", reward, get_args(RewardMode))
    page_size = check_integer("page_size", page_size, 1, ranking.RESULTS_PER_QUERY)
    time_limit = check_integer("time_limit", time_limit, 1, 65_535)
    num_distractors = check_integer("num_distractors", num_distractors, 0, 100)
    show_attributes = check_bool("show_attributes", show_attributes)
    if not callable(noun_fn):
        raise TypeError(f"noun_fn={noun_fn!r} is not a function from a title to its nouns, as nouns.spacy_nouns() is")
    items = _products(seed, products, num_products)
    shop = open_shop(items, goals, seed, num_distractors)
    actions = _actions(items, shop, page_size, show_attributes)
    links, queries = _build_links(shop, actions)
    rewards, codes = build_tables(items, shop.prices, shop.goals, noun_fn, actions)
    env = WebShop(links, rewards, tokens.build_tables(shop, actions, np.asarray(codes.source)), actions, reward, shop)
    return env, _make_tasks(env, codes, queries, time_limit)


def _make_tasks(env: WebShop, codes: GoalCodes, queries: np.ndarray, time_limit: int) -> TaskBank[WebShopTask]:
    """All goals of the shop, with WebShop's weights; `codes` and `queries` have a leading axis of goals."""
    goals = env.shop.goals
    task = WebShopTask(
        goal=compact(np.arange(len(goals))),
        product=compact([goal.product for goal in goals]),
        source=codes.source,
        queries=jnp.asarray(queries),
        options=codes.options,
        price_limit=codes.price_limit,
        num_criteria=codes.num_criteria,
        time_limit=jnp.full(len(goals), time_limit, jnp.uint16),
        made_for=env.made_for,
    )
    return make_bank(task, weights=[goal.weight for goal in goals], checksum=env.shop.checksum)


def _products(seed: int, products: Any, num_products: int | None) -> list[Product]:
    if num_products is not None:
        num_products = as_integer("num_products", num_products)
    if products is None:
        return generate_products(seed, NUM_PRODUCTS if num_products is None else num_products)
    if not isinstance(products, str | os.PathLike | ProductFiles):
        raise TypeError(f"products={products!r} is neither a path nor ProductFiles nor None")
    return load_products(products, num_products)


def _actions(products: Sequence[Product], shop: Shop, page_size: int, show_attributes: bool) -> Actions:
    return Actions(
        num_searches=max(len(texts) for texts in shop.searches),
        page_size=page_size,
        group_sizes=_group_sizes(products),
        num_sub_pages=4 if show_attributes else 3,
    )


def _group_sizes(products: Sequence[Product]) -> tuple[int, ...]:
    """The most values in the first, second, … option group of any product."""
    groups = [[len(values) for values in product.options.values()] for product in products]
    return tuple(max(sizes) for sizes in itertools.zip_longest(*groups, fillvalue=0))


def _build_links(shop: Shop, actions: Actions) -> tuple[Links, np.ndarray]:
    """(the links of all pages, for each goal the row of each of its searches or −1)."""
    rows = {text: i for i, text in enumerate(dict.fromkeys(text for texts in shop.searches for text in texts))}
    found = ranking.rank([product.document for product in shop.products], list(rows))
    queries = np.full((len(shop.goals), actions.num_searches), -1, np.int16 if len(rows) < 2**15 else np.int32)
    for i, texts in enumerate(shop.searches):
        queries[i, : len(texts)] = [rows[text] for text in texts]
    offered = np.zeros((len(shop.products), max(-(-actions.num_options // 32), 1)), np.uint32)
    for p, product in enumerate(shop.products):
        for action in pages.option_clicks(actions, product).values():
            option = action - actions.options
            offered[p, option // 32] |= np.uint32(1 << option % 32)
    product_type = np.min_scalar_type(len(shop.products) - 1)
    links = Links(
        results=jnp.asarray(np.maximum(found.documents, 0).astype(product_type)),
        num_results=jnp.asarray(found.counts.astype(np.uint8)),
        offered=jnp.asarray(offered),
    )
    return links, queries
