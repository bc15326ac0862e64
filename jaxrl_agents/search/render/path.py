"""The best path of one root as a strip of the environment's frames."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from envs_jax.animation import frames
from envs_jax.environment import Environment
from jaxrl_agents.arguments import count
from jaxrl_agents.search.render import nodes as tree_nodes
from jaxrl_agents.search.render.replay import replay
from jaxrl_agents.search.types import RootFnOutput, SearchOutput


def path_image(
    env: Environment[Any, Any],
    output: SearchOutput,
    root: RootFnOutput,
    model: Any,
    tasks: Any,
    *,
    index: int = 0,
    rng_key: jax.Array | None = None,
    columns: int = 8,
) -> np.ndarray:
    """The frames of one root's best path, `output.trajectories(1)`, row by row, one for each primitive action.

    Which outcomes it shows of a stochastic environment: as `tree_image`, the search's own with `rng_key`, else
    fresh ones, and the strip ends where these end the episode.

    Args:
      env: the environment of the model, whose `render_rgb` draws the frames.
      output: a search's result (concrete).
      root: the roots of the search.
      model: the model of the search, made by `from_env`.
      tasks: as in the search.
      index: which root, 0 … B − 1.
      rng_key: that of the search.
      columns: frames a row.

    Returns:
      uint8[height, width, 3]; the first frame is the root's, the last row is filled up with white.

    Raises:
      TypeError: `output` is no concrete SearchOutput, or the model was not made by `from_env`.
      ValueError: there is no such root, or the arguments are not those of the search.
    """
    index = tree_nodes.check("index", output, index)
    columns = count("columns", columns)
    nodes = tree_nodes.of_root(output, index)
    (path,) = tree_nodes.best_paths(output, index, nodes, 1)
    played = replay(output, root, model, tasks, index, {number: nodes[number] for number in path}, rng_key)
    shown = played.taken.copy()
    shown[0, 0] = True  # the root
    tiles = frames(env, jax.tree.map(lambda leaf: leaf[shown], played.states), played.task)
    columns = min(columns, len(tiles))
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % columns)
    return np.concatenate([np.concatenate(tiles[i : i + columns], axis=1) for i in range(0, len(tiles), columns)])
