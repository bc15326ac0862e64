"""The tree of one root as a picture with the environment's frames."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from envs_jax.animation import frames
from envs_jax.environment import Environment
from jaxrl_agents.arguments import count
from jaxrl_agents.search.render import drawing, layout
from jaxrl_agents.search.render import nodes as tree_nodes
from jaxrl_agents.search.render.nodes import ROOT, Node
from jaxrl_agents.search.render.replay import Replay, replay, states_of_turns
from jaxrl_agents.search.types import BacktrackTree, RootFnOutput, SearchOutput


def tree_image(
    env: Environment[Any, Any],
    output: SearchOutput,
    root: RootFnOutput,
    model: Any,
    tasks: Any,
    *,
    index: int = 0,
    rng_key: jax.Array | None = None,
    max_nodes: int = 40,
    frame_height: int | None = None,
) -> np.ndarray:
    """The tree or beam of one root, from left to right, with the environment's frame at each node.

    The score, visits (under mcts), and how an episode ended are below a frame, the turn's actions on the edge to it.
    The path of `output.trajectories(1)` is orange. Nodes that backtracking discarded are pale, and a dashed arrow
    goes from where a rollout stepped back to where it went on.

    A tree keeps no states: they are played again. With `rng_key` and the words that the tree tells, they are those
    that the search has seen. Without it, and always under `mcts` (mctx draws for the whole batch), each turn is
    played with a fresh word: in a stochastic environment the frames are one of the outcomes, and the title says so.

    Args:
      env: the environment of the model, whose `render_rgb` draws the frames.
      output: a search's result (concrete).
      root: the roots of the search.
      model: the model of the search, made by `from_env`.
      tasks: as in the search.
      index: which root, 0 … B − 1.
      rng_key: that of the search.
      max_nodes: how many nodes to draw: those of the best paths first, then in the order in which they were made;
        the title tells how many are not drawn.
      frame_height: of the frames, in pixels; they are never enlarged. By default at most 96, and smaller, but not
        below 40, where the picture would be wider than 1,600 pixels.

    Returns:
      uint8[height, width, 3].

    Raises:
      ImportError: Pillow is not installed.
      TypeError: `output` is no concrete SearchOutput, or the model was not made by `from_env`.
      ValueError: there is no such root, a number is below 1, or the arguments are not those of the search.
    """
    drawing.require_pillow()
    index = tree_nodes.check("index", output, index)
    max_nodes = count("max_nodes", max_nodes)
    frame_height = None if frame_height is None else count("frame_height", frame_height)
    every = tree_nodes.of_root(output, index)
    paths = tree_nodes.best_paths(output, index, every, tree_nodes.num_paths(output))
    nodes = layout.most_important(every, paths, max_nodes)
    played = replay(output, root, model, tasks, index, nodes, rng_key)
    kept = {number for path in paths for number in path}
    discarded = {*nodes} - kept if isinstance(output.search_tree, BacktrackTree) else set()
    boxes = _boxes(env, nodes, played, layout.places(nodes, paths), {ROOT, *paths[0]}, discarded)
    boxes[ROOT] = boxes[ROOT]._replace(caption=f"root {index}")
    title = [f"value {float(output.value[index]):.3f}", f"{len(nodes)} node{'s' * (len(nodes) != 1)}"]
    title += [f"{len(every) - len(nodes)} more not drawn"] * (len(nodes) < len(every))
    title += ["outcomes drawn anew"] * played.redrawn
    return drawing.picture(boxes, " · ".join(title), frame_height)


def _boxes(
    env: Environment[Any, Any],
    nodes: dict[int, Node],
    played: Replay,
    places: dict[int, tuple[int, int]],
    best: set[int],
    discarded: set[int],
) -> dict[int, drawing.Box]:
    """What to draw of the root and each node."""
    states = states_of_turns(played)
    tiles = frames(env, states, played.task)
    boxes = {ROOT: drawing.Box(places[ROOT], tiles[0], "root", _ending(played, 0), best=True)}
    rows = {ROOT: 0} | {number: row for row, number in enumerate(nodes, start=1)}
    for number, node in nodes.items():
        visits = "" if node.visits is None else f" · {node.visits} visit{'s' * (node.visits != 1)}"
        boxes[number] = drawing.Box(
            place=places[number],
            frame=tiles[rows[number]],
            caption=f"{node.score:.3f}{visits}",
            ending=_ending(played, rows[number]),
            parent=node.parent,
            label=_label(env, played, rows[node.parent], rows[number], node.action),
            best=number in best,
            pale=number in discarded,
            left=node.left if node.left in rows else None,
        )
    return boxes


def _label(env: Environment[Any, Any], played: Replay, above: int, row: int, action: tuple[int, ...]) -> str:
    """What the actions of a turn mean in the states in which they were taken."""
    at = lambda row, step: jax.tree.map(lambda leaf: leaf[row, step], played.states)
    before = [at(above, -1), *(at(row, step) for step in range(len(action) - 1))]
    return ", ".join(env.action_text(a, state, played.task) for a, state in zip(action, before, strict=True))


def _ending(played: Replay, row: int) -> drawing.Ending | None:
    if played.success[row]:
        return "success"
    if played.terminated[row]:
        return "ended"
    if played.truncated[row]:
        return "time limit"
    return "dead end" if played.stuck[row] else None
