"""Rollouts of a tabular policy that step back where it is unsure, and the best of several.

The same as `search.entropy_backtrack` followed by `trajectories(1)`, action for action (a test compares them), for
policies that see the page alone. A path is then all there is to save of a rollout, so that stepping back is a smaller
position, and the numbers that the search holds static may differ between the rollouts of one program.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs_jax.pytree import pytree_dataclass
from envs_jax.web import tabular
from jaxrl_agents.methods.expseek_rollouts.settings import INITIAL_TEMPERATURE, Config, Setting, Web
from jaxrl_agents.search import rng
from jaxrl_agents.search.entropy_backtrack import DISTANCE
from jaxrl_agents.search.proposals import distribution, sample


@pytree_dataclass
class Rollouts:
    """Rollouts that were kept, [B] of T steps; steps that were not taken have mask False, page and action 0."""

    pages: jax.Array  # int32[B, T]
    actions: jax.Array  # int32[B, T]
    retried: jax.Array  # bool[B, T]: drawn at the temperature of retries
    mask: jax.Array  # bool[B, T]
    returns: jax.Array  # float32[B]
    success: jax.Array  # bool[B]
    retries: jax.Array  # int32[B]: used
    steps: jax.Array  # int32[]: of the environment, for all candidates, discarded ones included


class _Paths(NamedTuple):
    """Rollouts under way, [N, B]: N candidates for each of B."""

    pages: jax.Array  # int32[T + 1, N, B]; from `position + 1` on without meaning
    actions: jax.Array  # int32[T, N, B]
    retried: jax.Array  # bool[T, N, B]
    position: jax.Array  # int32[N, B]: steps of the path
    retries: jax.Array  # int32[N, B]
    steps: jax.Array  # int32[]


def generate(
    logits: jax.Array, keys: jax.Array, tasks: jax.Array, web: Web, setting: Setting, config: Config
) -> Rollouts:
    """One rollout for each key: the best of its candidates.

    Args:
      logits: float32[tasks, S, A], the policy.
      keys: typed keys [B], one for each rollout; its candidates differ by the words that they draw.
      tasks: int32[B].
      web: the environment.
      setting: when and how far to step back.
      config: sizes.
    """
    num_pages = web.links.shape[0]
    shape = (config.num_candidates, len(tasks))
    table = logits.reshape(-1, logits.shape[-1])
    entropies = distribution(table.T, INITIAL_TEMPERATURE).entropy
    turns = jnp.zeros((config.num_turns, *shape), jnp.int32)
    start = _Paths(
        pages=jnp.zeros((config.num_turns + 1, *shape), jnp.int32),
        actions=turns,
        retried=turns.astype(bool),
        position=turns[0],
        retries=turns[0],
        steps=jnp.int32(0),
    )

    def iteration(i: jax.Array, paths: _Paths) -> _Paths:
        words = rng.turn_words(keys, i, config.num_candidates)
        rows = tasks * num_pages
        entropy = _looked_up(entropies, rows + _at(paths.pages, paths.position))
        back = _steps_back(entropy, words, paths, setting)
        live = paths.position < config.num_turns
        position = jnp.where(live, paths.position - back, paths.position)
        retried = live & (back > 0)
        page = _at(paths.pages, position)
        temperature = jnp.where(retried, setting.retry_temperature, INITIAL_TEMPERATURE)
        policy = distribution(jnp.stack([_looked_up(column, rows + page) for column in table.T]), temperature)
        action = sample(policy, rng.mix(words, rng.PROPOSE))
        return _taken(paths, web.links, page, action, retried, position, live)

    end = jax.lax.fori_loop(0, config.num_turns + config.free_retries, iteration, start)
    return _best(end, tasks, web, setting)


def _looked_up(table: jax.Array, index: jax.Array) -> jax.Array:
    """Entries of a table [n] that are there for sure."""
    return table.at[index].get(mode="promise_in_bounds")


def _at(rows: jax.Array, position: jax.Array) -> jax.Array:
    """Entries [N, B] of [T, N, B] at `position` [N, B]; a sum over T vectorises, a gather does not."""
    numbers = np.arange(len(rows), dtype=np.int32)[:, None, None]
    return jnp.sum(jnp.where(numbers == position, rows, 0), axis=0)


def _steps_back(entropy: jax.Array, words: jax.Array, paths: _Paths, setting: Setting) -> jax.Array:
    """int32[N, B]: how many steps to go back; 0 where nothing triggers."""
    most = jnp.minimum(paths.position, setting.steps_back)
    triggers = (entropy > setting.entropy_threshold) & (most > 0) & (paths.retries < setting.max_retries)
    drawn = rng.uniform(rng.mix(words, DISTANCE)) * most.astype(jnp.float32)
    uniform = 1 + jnp.minimum(drawn.astype(jnp.int32), most - 1)
    return jnp.where(triggers, jnp.where(setting.fixed_distance, most, uniform), 0)


def _taken(
    paths: _Paths,
    links: jax.Array,
    page: jax.Array,
    action: jax.Array,
    retried: jax.Array,
    position: jax.Array,
    live: jax.Array,
) -> _Paths:
    """The paths after the `live` ones have taken `action` on `page` at `position`."""
    numbers = np.arange(len(paths.pages), dtype=np.int32)[:, None, None]
    here, after = live & (numbers[:-1] == position), live & (numbers == position + 1)
    return _Paths(
        pages=jnp.where(after, _looked_up(links.reshape(-1), page * links.shape[1] + action), paths.pages),
        actions=jnp.where(here, action, paths.actions),
        retried=jnp.where(here, retried, paths.retried),
        position=position + live,
        retries=paths.retries + retried,
        steps=paths.steps + live.sum(dtype=jnp.int32),
    )


def _best(paths: _Paths, tasks: jax.Array, web: Web, setting: Setting) -> Rollouts:
    """The candidates of highest return; ties go to the first."""
    mask = jnp.arange(len(paths.actions))[:, None, None] < paths.position
    pages, actions = jnp.where(mask, paths.pages[:-1], 0), jnp.where(mask, paths.actions, 0)
    found = rewarded_pairs(pages, actions, mask, tasks, web)
    returns = tabular.credit(found, jnp.asarray(setting.required_pairs))
    best = jnp.argmax(returns, axis=0)[None]
    of_rollouts = lambda leaf: jnp.take_along_axis(leaf, best, axis=0)[0]
    of_steps = lambda leaf: jnp.take_along_axis(leaf, best[None], axis=1)[:, 0].T
    return Rollouts(
        pages=of_steps(pages),
        actions=of_steps(actions),
        retried=of_steps(paths.retried & mask),
        mask=of_steps(mask),
        returns=of_rollouts(returns),
        success=of_rollouts(found) >= setting.required_pairs,
        retries=of_rollouts(paths.retries),
        steps=paths.steps,
    )


def rewarded_pairs(pages: jax.Array, actions: jax.Array, mask: jax.Array, tasks: jax.Array, web: Web) -> jax.Array:
    """int32[N, B]: the different rewarded pairs on paths [T, N, B] of `tasks` [B]."""
    num_pages, num_actions = web.links.shape
    pairs = pages * num_actions + actions
    rewarded = _looked_up(web.rewarded.reshape(-1), tasks * (num_pages * num_actions) + pairs) & mask
    found = rewarded[0].astype(jnp.int32)
    for t in range(1, len(pairs)):  # taken apart, the comparisons with earlier steps fuse
        again = (pairs[:t] == pairs[t]).any(axis=0)
        found += rewarded[t] & ~again
    return found
