"""Episodes of a policy with all their states, and pictures of them: an animation, a film strip or text."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs_jax.animation import save_gif
from envs_jax.files import replaced
from jaxrl_agents.rollouts.policy import Policy
from jaxrl_agents.training.evaluation import GREEDY

FORMATS = (".gif", ".png", ".txt")
_STRIP_COLUMNS = 11  # pictures in a row of a film strip: an episode of 10 steps has its row


class Episode(NamedTuple):
    """One episode, on the host."""

    task: Any
    states: list[Any]  # the first one, and one after each action
    actions: list[int]
    rewards: list[float]
    success: bool


def play(
    params: Any, key: jax.Array, policy: Policy, tasks: Any, *, num_turns: int, greedy: bool = True
) -> list[Episode]:
    """Plays one episode of each task, with all its states.

    Where anything is left to chance they are others than those of `evaluate` with the same key, which keeps no states.

    Args:
      params: of the policy's model.
      key: a typed key; the same key gives the same episodes.
      policy: environment and model.
      tasks: task instances, leaves [B, …].
      num_turns: K, turns of an episode.
      greedy: take the likeliest action; False draws at the policy's temperature.
    """
    policy = policy.replace(temperature=GREEDY) if greedy else policy
    tasks, (first, states, actions, rewards) = jax.device_get((tasks, _play(policy, params, key, tasks, num_turns)))
    return [
        _episode(
            policy.env, _at(tasks, row), _at(first, row), _at(states, np.s_[:, row]), actions[:, row], rewards[:, row]
        )
        for row in range(actions.shape[1])
    ]


def save(episodes: list[Episode], env: Any, path: str | os.PathLike[str]) -> None:
    """Writes episodes to a file, replacing it only when the new one is complete.

    Args:
      episodes: of `play`.
      env: their environment.
      path: ".gif" for an animation, ".png" for a film strip, ".txt" for text.

    Raises:
      ImportError: Pillow is not installed; text needs nothing.
      ValueError: the name ends otherwise, or there is no episode.
    """
    check_path(path)
    if not episodes:
        raise ValueError("episodes is empty; there is nothing to write")
    suffix = Path(path).suffix.lower()
    if suffix == ".txt":
        with replaced(path) as partial:
            partial.write_text("\n".join(as_text(episode, env) for episode in episodes), encoding="utf-8", newline="")
        return
    frames = [[env.render_rgb(state, episode.task) for state in episode.states] for episode in episodes]
    if suffix == ".gif":
        save_gif(_padded([frame for shown in frames for frame in shown]), path)
    else:
        _save_png(_strip(frames), Path(path))


def check_path(path: str | os.PathLike[str]) -> None:
    """Raises ValueError where `path` has no suffix of `FORMATS`, FileNotFoundError where its folder is not there."""
    if Path(path).suffix.lower() not in FORMATS:
        raise ValueError(f"{os.fspath(path)} must end in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    if not Path(path).parent.is_dir():
        raise FileNotFoundError(f"{os.fspath(path)}: there is no folder {os.fspath(Path(path).parent)}; make it first")


def as_text(episode: Episode, env: Any) -> str:
    """All states as text, with the actions between them, and the outcome."""
    lines = [env.render_text(episode.states[0], episode.task).rstrip("\n")]
    steps = zip(episode.actions, episode.rewards, episode.states[:-1], episode.states[1:], strict=True)
    for number, (action, reward, before, after) in enumerate(steps, start=1):
        lines.append(f"{number}. {env.action_text(action, before, episode.task)}, reward {reward:g}")
        lines.append(env.render_text(after, episode.task).rstrip("\n"))
    outcome = "success" if episode.success else "no success"
    return "\n".join([*lines, f"{outcome}, return {sum(episode.rewards):g}", ""])


@partial(jax.jit, static_argnames="num_turns")
def _play(policy: Policy, params: Any, key: jax.Array, tasks: Any, num_turns: int) -> tuple[Any, ...]:
    """(first states [B, …], states after each action [K · L, B, …], actions and rewards [K · L, B])."""
    env, propose = policy.env, policy.propose(num_turns)
    model: Any = policy.search_model(num_turns)
    batch_size = jax.tree.leaves(tasks)[0].shape[0]
    given = (params, tasks)
    state_of = lambda node: node.state if policy.context == "episode" else node
    ended = lambda node: jnp.logical_or(*jax.vmap(env.status)(state_of(node), tasks))

    def act(node: Any, made: tuple[jax.Array, jax.Array]) -> tuple[Any, tuple[Any, ...]]:
        action, keys = made
        going = (action >= 0) & ~ended(node)
        reward, _, after = model.step(given, keys, jnp.maximum(action, 0), node)
        keep = lambda old, new: jnp.where(going.reshape(-1, *[1] * (new.ndim - 1)), new, old)
        node = jax.tree.map(keep, node, after)
        return node, (state_of(node), jnp.where(going, action, -1), jnp.where(going, reward, 0))

    def turn(carry: tuple[Any, jax.Array], key: jax.Array) -> tuple[tuple[Any, jax.Array], Any]:
        node, logits = carry
        key_choice, key_steps = jax.random.split(key)
        if propose is None:
            actions = jax.random.categorical(key_choice, logits / policy.temperature)[None]
        else:
            actions = propose(given, jax.random.split(key_choice, batch_size), node).action.T
        node, record = jax.lax.scan(act, node, (actions, jax.random.split(key_steps, actions.shape)))
        logits, _, node = model.evaluate(given, None, node)
        return (node, logits), record

    key_start, key_turns = jax.random.split(key)
    words = jax.random.bits(key_start, (batch_size,), jnp.uint32)
    first = jax.vmap(env.initial)(words, tasks)
    root = model.root(params, first, tasks)
    start = (root.embedding, root.prior_logits)
    _, record = jax.lax.scan(turn, start, jax.random.split(key_turns, num_turns))
    return first, *jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), record)


def _episode(env: Any, task: Any, first: Any, states: Any, actions: np.ndarray, rewards: np.ndarray) -> Episode:
    taken = np.flatnonzero(actions >= 0)
    played = [first, *(_at(states, i) for i in taken)]
    return Episode(task, played, actions[taken].tolist(), rewards[taken].tolist(), bool(env.success(played[-1], task)))


def _at(tree: Any, index: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf[index], tree)


def _strip(frames: list[list[np.ndarray]]) -> np.ndarray:
    """Rows of pictures; an episode begins a row, and a long one goes on in the next."""
    rows = [shown[i : i + _STRIP_COLUMNS] for shown in frames for i in range(0, len(shown), _STRIP_COLUMNS)]
    columns = max(map(len, rows))
    flat = _padded([frame for row in rows for frame in row])
    height, width, _ = flat[0].shape
    picture = np.full((len(rows) * (height + 4) - 4, columns * (width + 4) - 4, 3), 255, np.uint8)
    tiles: Iterator[np.ndarray] = iter(flat)
    for y, row in enumerate(rows):
        for x in range(len(row)):
            top, left = y * (height + 4), x * (width + 4)
            picture[top : top + height, left : left + width] = next(tiles)
    return picture


def _padded(frames: list[np.ndarray]) -> list[np.ndarray]:
    """The pictures with white below and to the right, so that all have the size of the largest."""
    height, width = (max(frame.shape[axis] for frame in frames) for axis in (0, 1))
    fill = lambda frame: [(0, height - frame.shape[0]), (0, width - frame.shape[1]), (0, 0)]
    return [np.pad(frame, fill(frame), constant_values=255) for frame in frames]


def _save_png(picture: np.ndarray, path: Path) -> None:
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError('pictures need Pillow: pip install "envs-jax[render]"') from error
    with replaced(path) as partial:
        Image.fromarray(picture).save(partial, format="PNG")
