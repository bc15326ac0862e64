"""Draws the pictures of the README and the docs: `python docs/gallery.py` (needs the extras `agents` and `render`)."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
from PIL import Image

import envs_jax
from envs_jax.animation import frames, save_gif
from jaxrl_agents import search

IMAGES = Path(__file__).parent / "images"
IDS = ("Sokoban-v0", "FrozenLake-Random-v0", "TabularWeb-v0")
HEIGHT = 320


def played(id: str, num_steps: int) -> list[np.ndarray]:
    """The frames of an episode under random effective actions, seed 0."""
    env, tasks = envs_jax.make(id)
    key = jax.random.key(3)
    task = tasks[0]
    trajectory = envs_jax.rollout(env, envs_jax.random_policy, task, key, num_steps)
    return frames(env, trajectory.state, task)


def shopped() -> np.ndarray:
    """The page of the first product with three groups of options that a goal asks for, with the wanted ones chosen."""
    env, tasks = envs_jax.make("WebShop-v0")
    index = next(i for i, goal in enumerate(env.shop.goals) if len(goal.options) >= 3)
    task, goal = tasks[index], env.shop.goals[index]
    asin = env.shop.products[goal.product].asin
    values = [value for _, value in goal.options]
    commands = [f"search[{goal.instruction}]", f"click[{asin}]", *(f"click[{value}]" for value in values)]
    _, state = env.reset(jax.random.key(0), task)
    for command in commands:
        action = env.parse_action(command, state, task)
        if action < 0:
            raise ValueError(f"the page does not offer {command!r}")
        _, state, *_ = env.step(jax.random.key(0), state, action, task)
    return env.render_rgb(state, task)


def searched() -> np.ndarray:
    """The beam of width 3 that solves a level of Sokoban in five turns."""
    env, bank = envs_jax.make("Sokoban-RAGEN-v0", num_levels=64)
    tasks = bank[np.arange(15, 16)]
    _, states = jax.vmap(env.reset)(jax.random.split(jax.random.key(0), 1), tasks.instances)
    model, key = search.from_env(env), jax.random.key(1)
    root = model.root(None, states, tasks)
    options = {"num_turns": 7, "beam_width": 3, "candidates": "enumerate", "deduplicate": True}
    output = search.beam_search(None, key, root, model, tasks=tasks, **options)
    return search.tree_image(env, output, root, model, tasks, rng_key=key)


def scaled(picture: np.ndarray) -> np.ndarray:
    """The picture at the gallery's height."""
    width = round(picture.shape[1] * HEIGHT / picture.shape[0])
    return np.asarray(Image.fromarray(picture).resize((width, HEIGHT), Image.Resampling.LANCZOS))


def main() -> None:
    """Writes `environments.png` (one state of each), `sokoban.gif` and `beam.png`."""
    IMAGES.mkdir(exist_ok=True)
    gap = np.full((HEIGHT, 12, 3), 255, np.uint8)
    states = [*(played(id, 4)[2] for id in IDS), shopped()]
    pictures = [part for state in states for part in (scaled(state), gap)][:-1]
    Image.fromarray(np.concatenate(pictures, axis=1)).save(IMAGES / "environments.png", optimize=True)
    save_gif(
        [np.asarray(Image.fromarray(frame).resize((240, 240))) for frame in played("Sokoban-v0", 60)],
        IMAGES / "sokoban.gif",
        fps=8,
    )
    Image.fromarray(searched()).save(IMAGES / "beam.png", optimize=True)


if __name__ == "__main__":
    main()
