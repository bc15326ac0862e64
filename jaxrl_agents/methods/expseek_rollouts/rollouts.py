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

from envs_jax.barriers import once
from envs_jax.pytree import pytree_dataclass
from envs_jax.web import tabular
from jaxrl_agents.methods.expseek_rollouts.settings import INITIAL_TEMPERATURE, Config, Setting, Web
from jaxrl_agents.search import rng
from jaxrl_agents.search.entropy_backtrack import DISTANCE
from jaxrl_agents.search.nodes import small_int
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
    """Rollouts under way, [N, B]: N candidates for each of B. Integers are as small as sizes allow."""

    pages: jax.Array  # [T + 1, N, B]; from `position + 1` on without meaning
    actions: jax.Array  # [T, N, B]
    retried: jax.Array  # bool[T, N, B]
    position: jax.Array  # [N, B]: steps of the path
    retries: jax.Array  # [N, B]
    steps: jax.Array  # int32[]


class _Step(NamedTuple):
    """What rollouts do next, [N, B] each."""

    live: jax.Array  # bool: they act
    retried: jax.Array  # bool: after having stepped back
    position: jax.Array  # where
    action: jax.Array
    page: jax.Array  # to which that leads


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
    num_turns, num_iterations = config.num_turns, config.num_turns + config.free_steps
    dtype = small_int(max(*web.links.shape, num_iterations + 1))
    blank = lambda *turns: jnp.zeros((*turns, config.num_candidates, len(tasks)), dtype)
    start = _Paths(
        blank(num_turns + 1), blank(num_turns), blank(num_turns).astype(bool), blank(), blank(), jnp.int32(0)
    )
    entropies = distribution(logits.reshape(-1, logits.shape[-1]).T, INITIAL_TEMPERATURE).entropy

    def iteration(i: jax.Array, paths: _Paths) -> _Paths:
        words = rng.turn_words(keys, i, config.num_candidates)
        # Once: every row of the paths would otherwise draw the action anew.
        return _taken(paths, once(i, _step, paths, words, logits, entropies, tasks, web.links, setting))

    end = jax.lax.fori_loop(0, num_iterations, iteration, start)
    return _best(end, tasks, web, setting)


def _step(
    paths: _Paths,
    words: jax.Array,
    logits: jax.Array,
    entropies: jax.Array,
    tasks: jax.Array,
    links: jax.Array,
    setting: Setting,
) -> _Step:
    """Where the rollouts act, and how; `words` uint32[N, B]."""
    num_pages, num_actions = links.shape
    dtype = paths.pages.dtype
    live = paths.position < len(paths.actions)
    entropy = _looked_up(entropies, tasks * num_pages + _at(paths.pages, paths.position))
    back = jnp.where(live, _steps_back(entropy, words, paths, setting), 0)
    position = paths.position - back.astype(dtype)
    page = _at(paths.pages, position).astype(jnp.int32)
    temperature = jnp.where(back > 0, setting.retry_temperature, INITIAL_TEMPERATURE)
    columns = logits.reshape(-1, num_actions).T
    policy = distribution(jnp.stack([_looked_up(column, tasks * num_pages + page) for column in columns]), temperature)
    action = sample(policy, rng.mix(words, rng.PROPOSE))
    after = _looked_up(links.reshape(-1), page * num_actions + action)
    return _Step(live, back > 0, position, action.astype(dtype), after.astype(dtype))


def _looked_up(table: jax.Array, index: jax.Array) -> jax.Array:
    """Entries of a table [n] that are there for sure."""
    return table.at[index].get(mode="promise_in_bounds")


def _at(rows: jax.Array, position: jax.Array) -> jax.Array:
    """Entries [N, B] of [T, N, B] at `position` [N, B]; a sum over T vectorises, a gather does not."""
    return jnp.sum(jnp.where(_numbers(rows) == position, rows, 0), axis=0, dtype=rows.dtype)


def _numbers(rows: jax.Array) -> np.ndarray:
    """0 … T − 1, [T, 1, 1], for rows [T, N, B]."""
    return np.arange(len(rows), dtype=small_int(len(rows)))[:, None, None]


def _steps_back(entropy: jax.Array, words: jax.Array, paths: _Paths, setting: Setting) -> jax.Array:
    """int32[N, B]: how many steps to go back; 0 where nothing triggers."""
    position, used = paths.position.astype(jnp.int32), paths.retries.astype(jnp.int32)
    most = jnp.minimum(position, setting.steps_back)
    triggers = (entropy > setting.entropy_threshold) & (most > 0) & (used < setting.max_retries)
    drawn = rng.uniform(rng.mix(words, DISTANCE)) * most.astype(jnp.float32)
    uniform = 1 + jnp.minimum(drawn.astype(jnp.int32), most - 1)
    return jnp.where(triggers, jnp.where(setting.fixed_distance, most, uniform), 0)


def _taken(paths: _Paths, step: _Step) -> _Paths:
    """The paths after a step."""
    here = step.live & (_numbers(paths.actions) == step.position)
    after = step.live & (_numbers(paths.pages) == step.position + 1)
    return _Paths(
        pages=jnp.where(after, step.page, paths.pages),
        actions=jnp.where(here, step.action, paths.actions),
        retried=jnp.where(here, step.retried, paths.retried),
        position=step.position + step.live,
        retries=paths.retries + step.retried,
        steps=paths.steps + step.live.sum(dtype=jnp.int32),
    )


def _best(paths: _Paths, tasks: jax.Array, web: Web, setting: Setting) -> Rollouts:
    """The candidates of highest return; ties go to the first."""
    mask = jnp.asarray(_numbers(paths.actions)) < paths.position
    pages, actions = (jnp.where(mask, leaf, 0).astype(jnp.int32) for leaf in (paths.pages[: len(mask)], paths.actions))
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
        retries=of_rollouts(paths.retries).astype(jnp.int32),
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
