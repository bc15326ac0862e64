"""Trajectories as pictures and as animated GIFs."""

import builtins

import jax
import numpy as np
import pytest

import envs_jax
from envs_jax import animation
from envs_jax.animation import save_gif

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.mark.parametrize(
    ("id", "size"),
    [
        ("Sokoban-RAGEN-v0", {"num_levels": 4}),
        ("FrozenLake-v0", {}),
        ("TabularWeb-v0", {}),
        ("WebShop-v0", {"num_products": 20}),
    ],
)
def test_trajectories_are_animated(id, size, tmp_path):
    image = pytest.importorskip("PIL.Image")
    env, tasks = envs_jax.make(id, **size)
    task = jax.device_get(tasks[0])
    play = jax.jit(lambda env, task, key: envs_jax.rollout(env, envs_jax.random_policy, task, key, 4))
    trajectory = jax.device_get(play(env, task, jax.random.key(0)))
    animation.animate(env, trajectory.state, task, tmp_path / "play.gif", fps=4)
    expected = env.render_rgb(jax.tree.map(lambda leaf: leaf[-1], trajectory.state), task)
    with image.open(tmp_path / "play.gif") as gif:
        assert gif.n_frames <= 5 and gif.size == expected.shape[1::-1]  # equal frames become one
        gif.seek(gif.n_frames - 1)
        last = np.asarray(gif.convert("RGB"), int)
    assert np.abs(last - expected).mean() < 4  # 256 colours
    assert len(animation.frames(env, trajectory.state, task)) == 5


def frames(count, height=8, width=12):
    return [np.full((height, width, 3), 20 * i, np.uint8) for i in range(count)]


def test_frames_and_times(tmp_path):
    image = pytest.importorskip("PIL.Image")
    save_gif(frames(4), tmp_path / "a.gif", fps=10)
    with image.open(tmp_path / "a.gif") as gif:
        assert gif.n_frames == 4 and gif.size == (12, 8) and gif.info["loop"] == 0
        durations, greys = [], []
        for i in range(4):
            gif.seek(i)
            durations.append(gif.info["duration"])
            greys.append(np.asarray(gif.convert("RGB"))[0, 0, 0])
    assert durations == [100, 100, 100, 1100]
    assert greys == [0, 20, 40, 60]


@pytest.mark.parametrize(
    ("bad", "fps", "message"),
    [
        ([], 5, "frames is empty"),
        ([np.zeros((2, 2, 3))], 5, r"frames\[0\] is float64\[2, 2, 3\]"),
        ([np.zeros((2, 2), np.uint8)], 5, r"frames\[0\] is uint8\[2, 2\]"),
        ([*frames(1), *frames(1, width=3)], 5, r"frames\[1\] is uint8\[8, 3, 3\]"),
        (frames(2), 0, r"fps=0 is not in \(0, 50\]"),
        (frames(2), 51, "fps=51"),
    ],
)
def test_bad_frames_are_refused(bad, fps, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        save_gif(bad, tmp_path / "a.gif", fps=fps)
    assert not list(tmp_path.iterdir())


def test_without_pillow_the_error_says_what_to_install(monkeypatch, tmp_path):
    genuine = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.split(".")[0] == "PIL":
            raise ImportError(name)
        return genuine(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match=r"envs-jax\[render\]"):
        save_gif(frames(1), tmp_path / "a.gif")
