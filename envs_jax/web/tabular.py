"""TabularWeb: a small random web, its pages joined by links, in which some (page, link) pairs are rewarded.

The multi-turn web task of ExpSeek rollouts in its smallest form. S = 20 pages, A = 5 links on each, T = 10 steps, 8
tasks. What the paper leaves open is fixed so: a link always leads to the same page, drawn uniformly, and all tasks
share the web; episodes start on page 0; each task rewards each pair with probability 0.15, independently; an episode
succeeds when it has used `required_pairs` different rewarded pairs; it returns 1 on success, else 0.1 for each pair.

The return is paid as it is earned: 0.1 for each new rewarded pair, and for the one that brings success what is missing
to 1. So the rewards up to any moment sum to what the episode would return if it ended there.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from envs_jax import bitboard as bb
from envs_jax import spaces
from envs_jax.arguments import check_choice, check_integer, check_number, check_seed
from envs_jax.bitboard import Board, Grid
from envs_jax.environment import Environment
from envs_jax.pytree import pytree_dataclass, static_field
from envs_jax.tasks import Task, TaskBank, make_bank
from envs_jax.web import tabular_render

ObservationName = Literal["index", "task_index", "tokens"]

PAIR_REWARD = 0.1
MAX_PAIRS = 4_096  # of a web: pages × links
MAX_SEARCH_STATES = 2_000_000  # of `optimum`, at one time step


@pytree_dataclass
class TabularWebState:
    """What changes within an episode; 19 bytes for 100 pairs."""

    page: jax.Array  # uint8[]
    found: Board  # uint32[] × num_words: the rewarded pairs used so far; pair = page × A + link
    steps: jax.Array  # uint16[]


@pytree_dataclass
class TabularWebTask(Task):
    """What one task rewards."""

    rewarded: Board  # uint32[] × num_words
    required_pairs: jax.Array  # uint8[]: different rewarded pairs that make a success
    task_id: jax.Array  # uint16[]: 0 … number of tasks - 1
    time_limit: jax.Array  # uint16[]
    made_for: str = static_field(default="")


@pytree_dataclass
class TabularWeb(Environment[TabularWebState, TabularWebTask]):
    """The web that all tasks share. Action a follows link a of the page.

    Episodes never terminate; they are truncated at the time limit. An action has an effect where it leads to another
    page or to a rewarded pair that is new.

    Observations:
      * `index`: int32[], the page.
      * `task_index`: int32[], task · S + page, for a table of its own for each task.
      * `tokens`: uint16[2], (page, S + task).
    """

    links: jax.Array  # uint8[S, A]: the page that each link leads to
    num_tasks: int = static_field()
    checksum: str = static_field()  # of the links, which the tasks belong to
    observation: ObservationName = static_field(default="index")

    task_type: ClassVar[type[Task]] = TabularWebTask
    state_type: ClassVar[type[Any]] = TabularWebState

    @property
    def num_pages(self) -> int:
        """S."""
        return self.links.shape[0]

    @property
    def num_actions(self) -> int:
        return self.links.shape[1]

    @property
    def action_names(self) -> tuple[str, ...]:
        return tuple(f"link {action}" for action in range(self.num_actions))

    @property
    def observation_space(self) -> spaces.Space:
        if self.observation == "tokens":
            return spaces.Box(0, self.num_pages + self.num_tasks - 1, (2,), np.uint16)
        return spaces.Discrete(self.num_pages * (self.num_tasks if self.observation == "task_index" else 1))

    @property
    def made_for(self) -> str:
        return f"web {self.catalogue_checksum}"

    @property
    def catalogue_checksum(self) -> str | None:
        return self.checksum

    @property
    def layout(self) -> Grid:
        """The pages × links table of pairs as a bitboard."""
        return Grid(self.num_pages, self.num_actions)

    def has_chance(self, tasks: TaskBank[TabularWebTask]) -> bool:
        del tasks
        return False

    def initial(self, word: jax.Array, task: TabularWebTask) -> TabularWebState:
        del word
        return TabularWebState(jnp.uint8(0), tuple(word & 0 for word in task.rewarded), jnp.uint16(0))

    def advance(
        self, state: TabularWebState, action: jax.Array, word: jax.Array, task: TabularWebTask
    ) -> tuple[TabularWebState, jax.Array]:
        del word
        valid = (action >= 0) & (action < self.num_actions)
        pair = state.page.astype(jnp.int32) * self.num_actions + jnp.where(valid, action, 0).astype(jnp.int32)
        hit = bb.intersection(bb.singleton(self.layout, pair), task.rewarded)
        found = bb.where(valid, bb.union(state.found, hit), state.found)
        page = jnp.where(valid, self.links.reshape(-1)[pair], state.page)
        reward = credit(bb.count(found), task.required_pairs) - credit(bb.count(state.found), task.required_pairs)
        return TabularWebState(page, found, state.steps), reward

    def terminated(self, state: TabularWebState, task: TabularWebTask) -> jax.Array:
        return jnp.zeros_like(state.page, bool)

    def success(self, state: TabularWebState, task: TabularWebTask) -> jax.Array:
        return bb.count(state.found) >= task.required_pairs

    def info(self, state: TabularWebState, task: TabularWebTask) -> dict[str, jax.Array]:
        """`success`, and `found`: int32[], the number of different rewarded pairs used."""
        return {**super().info(state, task), "found": bb.count(state.found)}

    def observe(self, state: TabularWebState, task: TabularWebTask) -> jax.Array:
        page = state.page.astype(jnp.int32)
        if self.observation == "index":
            return page
        if self.observation == "task_index":
            return task.task_id.astype(jnp.int32) * self.num_pages + page
        return jnp.stack([page, self.num_pages + task.task_id]).astype(jnp.uint16)

    def action_mask(self, state: TabularWebState, task: TabularWebTask) -> jax.Array:
        pairs = state.page.astype(jnp.int32) * self.num_actions + np.arange(self.num_actions)
        new = bb.contains(bb.difference(task.rewarded, state.found), pairs)
        effective = new | (self.links[state.page] != state.page)
        return effective | jnp.logical_or(*self.status(state, task))

    def state_key(self, state: TabularWebState) -> jax.Array:
        return jnp.stack([*state.found, state.page.astype(jnp.uint32)])

    def check_state(self, state: Any) -> None:
        super().check_state(state)
        if len(state.found) != self.layout.num_words:
            raise ValueError(
                f"state is of another web: state.found has {len(state.found)} words, that of {self.num_pages} pages × "
                f"{self.num_actions} links has {self.layout.num_words}; start an episode with this environment's reset"
            )

    def action_text(self, action: int, state: TabularWebState, task: TabularWebTask) -> str:
        return f"link {action} to page {int(self.links[int(state.page), action])}"

    def render_text(self, state: TabularWebState, task: TabularWebTask) -> str:
        return tabular_render.text(self._view(state, task))

    def render_rgb(self, state: TabularWebState, task: TabularWebTask) -> np.ndarray:
        return tabular_render.rgb(self._view(state, task))

    def _view(self, state: TabularWebState, task: TabularWebTask) -> tabular_render.View:
        return tabular_render.View(
            links=np.asarray(self.links),
            rewarded=self.layout.unpack(task.rewarded),
            found=self.layout.unpack(state.found),
            page=int(state.page),
            required_pairs=int(task.required_pairs),
            steps=int(state.steps),
            time_limit=int(task.time_limit),
        )


def credit(found: jax.Array, required_pairs: jax.Array) -> jax.Array:
    """float32[]: what an episode returns that has used `found` different rewarded pairs."""
    return jnp.where(found >= required_pairs, 1, np.float32(PAIR_REWARD) * found).astype(jnp.float32)


def coverage(pages: jax.Array, actions: jax.Array, num_pages: int, num_actions: int) -> jax.Array:
    """float32[]: the share of the S × A pairs that were used at least once.

    Args:
      pages: integers [...], the pages on which actions were taken, for example of all rollouts of an epoch.
      actions: integers of the same shape, the links followed.
      num_pages: S.
      num_actions: A.
    """
    if jnp.shape(pages) != jnp.shape(actions):
        raise ValueError(f"pages has shape {jnp.shape(pages)} and actions {jnp.shape(actions)}; they must be the same")
    pairs = (jnp.asarray(pages, jnp.int32) * num_actions + actions).reshape(-1)
    return jnp.mean(jnp.zeros(num_pages * num_actions).at[pairs].set(1))


def diversity(actions: jax.Array, num_actions: int) -> jax.Array:
    """float32[]: the mean, over all pairs of sequences, of the share of steps at which their actions differ.

    That is the mean pairwise normalised Hamming distance.

    Args:
      actions: integers [N, T], N ≥ 2 action sequences of one length.
      num_actions: A.
    """
    if jnp.ndim(actions) != 2 or actions.shape[0] < 2:
        raise ValueError(f"actions must be [N, T] with N ≥ 2 sequences; got shape {jnp.shape(actions)}")
    num_sequences = actions.shape[0]
    users = jnp.sum(jax.nn.one_hot(actions, num_actions), axis=0)  # [T, A]: sequences that take an action at a step
    # Of the N² ordered pairs at a step, Σ users² agree, those of a sequence with itself included.
    differing = num_sequences**2 - jnp.sum(users**2, axis=1)
    return jnp.mean(differing) / (num_sequences * (num_sequences - 1))


class Optimum(NamedTuple):
    """The best that can be done in a task."""

    pairs: int  # different rewarded pairs
    episode_return: float
    actions: tuple[int, ...]  # a plan that finds them


def optimum(env: TabularWeb, task: TabularWebTask) -> Optimum:
    """The exact optimum of a (concrete) task by search over (page, pairs found), on the host.

    Takes some hundredths of a second for the default sizes.

    Raises:
      ValueError: the reachable states are too many to enumerate (long episodes, many rewarded pairs).
    """
    links, rewarded = np.asarray(env.links), env.layout.unpack(task.rewarded)
    bits = {pair: 1 << i for i, pair in enumerate(zip(*np.nonzero(rewarded), strict=True))}
    successors = [
        [(int(links[page, a]), bits.get((page, a), 0)) for a in range(env.num_actions)] for page in range(env.num_pages)
    ]
    levels: list[dict[tuple[int, int], tuple[tuple[int, int], int]]] = []  # state → (state before, action)
    frontier: Sequence[tuple[int, int]] = [(0, 0)]
    for _ in range(int(task.time_limit)):
        reached: dict[tuple[int, int], tuple[tuple[int, int], int]] = {}
        for page, found in frontier:
            for action, (target, bit) in enumerate(successors[page]):
                reached.setdefault((target, found | bit), ((page, found), action))
        if len(reached) > MAX_SEARCH_STATES:
            raise ValueError(
                f"more than {MAX_SEARCH_STATES:,} states after {len(levels) + 1} of time_limit={int(task.time_limit)} "
                "steps; the exact optimum is for small webs"
            )
        levels.append(reached)
        frontier = list(reached)
    best = max(frontier, key=lambda state: state[1].bit_count())
    pairs, state, actions = best[1].bit_count(), best, []
    for level in reversed(levels):
        state, action = level[state]
        actions.append(action)
    return Optimum(pairs, float(credit(jnp.int32(pairs), task.required_pairs)), tuple(reversed(actions)))


def make(
    *,
    seed: int = 0,
    num_pages: int = 20,
    num_actions: int = 5,
    num_tasks: int = 8,
    reward_probability: float = 0.15,
    required_pairs: int = 4,
    time_limit: int = 10,
    observation: ObservationName = "index",
) -> tuple[TabularWeb, TaskBank[TabularWebTask]]:
    """A random web and its tasks.

    Args:
      seed: determines the links and the rewarded pairs.
      num_pages: S, 1 to 256.
      num_actions: A, the links on a page; at most 4,096 pairs in all.
      num_tasks: tasks on the web.
      reward_probability: of each pair to be rewarded in a task.
      required_pairs: different rewarded pairs that make a success, 1 to 10; at most the pairs of the web and the steps.
      time_limit: T, the steps of an episode.
      observation: "index", "task_index" or "tokens"; see `TabularWeb`.

    Returns:
      (env, tasks).

    Raises:
      TypeError, ValueError: naming the argument, its value and what is allowed.
    """
    seed = check_seed(seed)
    num_pages = check_integer("num_pages", num_pages, 1, 256)
    num_actions = check_integer("num_actions", num_actions, 1, MAX_PAIRS // num_pages)
    num_tasks = check_integer("num_tasks", num_tasks, 1, 65_536 - num_pages)
    reward_probability = check_number("reward_probability", reward_probability, 0, 1)
    required_pairs = check_integer("required_pairs", required_pairs, 1, math.floor(1 / PAIR_REWARD))
    time_limit = check_integer("time_limit", time_limit, 1, 65_535)
    check_choice("observation", observation, get_args(ObservationName))
    if required_pairs > min(num_pages * num_actions, time_limit):
        raise ValueError(
            f"required_pairs={required_pairs} cannot be reached: the web has {num_pages * num_actions} pairs and an "
            f"episode time_limit={time_limit} steps"
        )
    key_links, key_rewarded = jax.random.split(jax.random.key(seed))
    links = jax.random.randint(key_links, (num_pages, num_actions), 0, num_pages, jnp.int32).astype(jnp.uint8)
    checksum = hashlib.sha256(np.asarray(links).tobytes()).hexdigest()
    env = TabularWeb(links, num_tasks, checksum, observation)
    rewarded = jax.random.bernoulli(key_rewarded, jnp.float32(reward_probability), (num_tasks, num_pages, num_actions))
    return env, _tasks(env, np.asarray(rewarded), required_pairs, time_limit)


def _tasks(env: TabularWeb, rewarded: np.ndarray, required_pairs: int, time_limit: int) -> TaskBank[TabularWebTask]:
    """One task for each table of rewarded pairs, bool[num_tasks, S, A]."""
    tasks = TabularWebTask(
        rewarded=tuple(map(jnp.asarray, env.layout.pack_batch(rewarded))),
        required_pairs=jnp.full(env.num_tasks, required_pairs, jnp.uint8),
        task_id=jnp.arange(env.num_tasks, dtype=jnp.uint16),
        time_limit=jnp.full(env.num_tasks, time_limit, jnp.uint16),
        made_for=env.made_for,
    )
    return make_bank(tasks, checksum=env.checksum)
