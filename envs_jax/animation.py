"""Episodes as pictures that move."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from envs_jax.environment import Environment
from envs_jax.files import replaced


def frames(env: Environment[Any, Any], states: Any, task: Any) -> list[np.ndarray]:
    """The pictures of a trajectory, uint8[height, width, 3] each.

    Args:
      env: the environment.
      states: every leaf [K, …], as `envs_jax.rollout(…).state` holds them.
      task: the task that they belong to.
    """
    states = jax.device_get(states)
    (length,) = {len(leaf) for leaf in jax.tree.leaves(states)}
    return [env.render_rgb(jax.tree.map(lambda leaf, k=k: leaf[k], states), task) for k in range(length)]


def animate(
    env: Environment[Any, Any], states: Any, task: Any, path: str | os.PathLike[str], *, fps: float = 5.0
) -> None:
    """Writes a trajectory as an animated GIF: `save_gif(frames(env, states, task), path, fps)`."""
    save_gif(frames(env, states, task), path, fps)


def save_gif(frames: Sequence[np.ndarray], path: str | os.PathLike[str], fps: float = 5.0) -> None:
    """Writes `frames` as an animated GIF that loops for ever; the last frame is shown for a second longer.

    Args:
      frames: pictures uint8[height, width, 3], all of one size, such as `env.render_rgb` returns.
      path: the file to write; it is replaced only when the new one is complete.
      fps: frames a second, 0 < fps ≤ 50 (what GIF viewers honour).

    Raises:
      ImportError: Pillow is not installed.
      ValueError: there is no frame, they differ in shape or dtype, or `fps` is out of range.
    """
    frames = [np.asarray(frame) for frame in frames]
    if not frames:
        raise ValueError("frames is empty; an animation has at least one frame")
    for i, frame in enumerate(frames):
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[-1] != 3 or frame.shape != frames[0].shape:
            raise ValueError(
                f"frames[{i}] is {frame.dtype}{list(frame.shape)}; every frame must be uint8[height, width, 3] "
                f"with the shape of the first, {list(frames[0].shape)}"
            )
    if not 0 < fps <= 50:
        raise ValueError(f"fps={fps} is not in (0, 50]")
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError('animations need Pillow: pip install "envs-jax[render]"') from error
    # One palette for all frames: no flicker, and frames that differ little compress to little.
    chosen = np.unique(np.linspace(0, len(frames) - 1, num=min(len(frames), 8)).round().astype(int))
    palette = Image.fromarray(np.concatenate([frames[i] for i in chosen])).quantize(256)
    images = [Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    duration = round(1000 / fps)
    durations = [duration] * (len(images) - 1) + [duration + 1000]
    settings = {"append_images": images[1:], "duration": durations, "loop": 0, "optimize": False}
    with replaced(path) as partial:
        images[0].save(partial, format="GIF", save_all=True, **settings)
