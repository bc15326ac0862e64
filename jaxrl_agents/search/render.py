"""Pictures of a search: the tree of one root as text, and its best path with the environment's frames."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import mctx
import numpy as np

from envs_jax.environment import Environment
from jaxrl_agents.search.trajectory import execute
from jaxrl_agents.search.types import BacktrackTree, RootFnOutput, SearchOutput


def tree_text(output: SearchOutput, root: int = 0, *, names: Any = None, max_nodes: int = 200) -> str:
    """The tree of one root, one line a node: its action, score and, under mcts, visits; the best path is marked `*`.

    Args:
      output: a search's result (concrete).
      root: which root.
      names: names of the actions, for example `env.action_names`.
      max_nodes: how many nodes to show, in depth-first order.
    """
    nodes = _nodes(output.search_tree, root)
    children: dict[int, list[int]] = {}
    for index, (parent, *_) in nodes.items():
        children.setdefault(parent, []).append(index)
    best = _best_path(output.search_tree, nodes, root)
    lines = [f"root {root}  value {float(output.value[root]):.3f}"]

    def show(parent: int, indent: str) -> None:
        below = children.get(parent, [])
        for number, index in enumerate(below):
            _, action, score, note = nodes[index]
            last = number == len(below) - 1
            mark = " *" if index in best else ""
            lines.append(f"{indent}{'└─' if last else '├─'} {_action_text(action, names)}  {score:.3f}{note}{mark}")
            show(index, indent + ("   " if last else "│  "))

    show(-1, "")
    shown = lines[: max_nodes + 1]
    if len(lines) > len(shown):
        shown.append(f"… {len(lines) - len(shown)} more nodes")
    return "\n".join(shown)


def _nodes(tree: Any, root: int) -> dict[int, tuple[int, tuple[int, ...], float, str]]:
    """Of each node its parent (−1: the root), action, score and a note; copies of ended nodes are left out."""
    if isinstance(tree, mctx.Tree):
        parents, actions = np.asarray(tree.parents[root]), np.asarray(tree.action_from_parent[root])
        values, visits = np.asarray(tree.node_values[root]), np.asarray(tree.node_visits[root])
        made = [i for i in range(1, len(parents)) if visits[i]]
        parent_of = lambda i: int(parents[i]) if parents[i] else -1
        return {i: (parent_of(i), (int(actions[i]),), float(values[i]), f"  {visits[i]} visits") for i in made}
    parents, actions = np.asarray(tree.parents[:, root]), np.asarray(tree.action_from_parent[:, root])
    lengths, values = np.asarray(tree.lengths[:, root]), np.asarray(tree.node_values[:, root])
    turns, width = parents.shape
    origin: dict[tuple[int, int], int] = {(-1, slot): -1 for slot in range(width)}
    nodes = {}
    for turn in range(turns):
        for slot in range(width):
            parent = parents[turn, slot]
            above = (int(parent), slot) if isinstance(tree, BacktrackTree) else (turn - 1, max(int(parent), 0))
            origin[turn, slot] = origin[above]
            if lengths[turn, slot]:
                index = turn * width + slot
                action = tuple(np.atleast_1d(actions[turn, slot])[: lengths[turn, slot]].tolist())
                nodes[index] = (origin[above], action, float(values[turn, slot]), "")
                origin[turn, slot] = index
    return nodes


def _best_path(tree: Any, nodes: dict[int, Any], root: int) -> set[int]:
    """The nodes that the best path of a root goes through."""
    if isinstance(tree, mctx.Tree):
        below = lambda node: [i for i, (parent, *_) in nodes.items() if parent == node]
        path, node = set(), -1
        while below(node):
            node = max(below(node), key=lambda i: (int(tree.node_visits[root, i]), -nodes[i][1][0]))
            path.add(node)
        return path
    slot = int(np.argmax(np.asarray(tree.final_values[root])))
    turn = int(tree.final_nodes[root, slot]) if isinstance(tree, BacktrackTree) else tree.num_turns - 1
    path = set()
    while turn >= 0:
        if int(tree.lengths[turn, root, slot]):
            path.add(turn * tree.width + slot)
        parent = int(tree.parents[turn, root, slot])
        turn, slot = (parent, slot) if isinstance(tree, BacktrackTree) else (turn - 1, max(parent, 0))
    return path


def _action_text(action: tuple[int, ...], names: Any) -> str:
    return " ".join(names[a] if names else str(a) for a in action)


def path_image(
    env: Environment[Any, Any],
    output: SearchOutput,
    root: RootFnOutput,
    model: Any,
    tasks: Any,
    *,
    index: int = 0,
    columns: int = 8,
) -> np.ndarray:
    """The frames of one root's best path, row by row, as a picture uint8[height, width, 3].

    The plan is replayed with fresh words, so in a stochastic environment the frames are one of its outcomes.

    Args:
      env: the environment of the model.
      output: a search's result (concrete).
      root: the roots of the search.
      model: made by `from_env`.
      tasks: as in the search.
      index: which root.
      columns: frames a row.
    """
    plan = output.trajectories(1).plan()
    played = execute(None, jax.random.key(0), root, model, plan, tasks=tasks)
    states, taken = jax.tree.map(lambda leaf: np.asarray(leaf[index]), (played.embeddings, played.mask))
    task = jax.tree.map(lambda leaf: jnp.asarray(leaf)[index], getattr(tasks, "instances", tasks))
    moments = [0, *(int(step) + 1 for step in np.flatnonzero(taken))]
    frames = [env.render_rgb(jax.tree.map(lambda leaf, i=i: leaf[i], states), task) for i in moments]
    columns = min(columns, len(frames))
    frames += [np.zeros_like(frames[0])] * (-len(frames) % columns)
    return np.concatenate([np.concatenate(frames[i : i + columns], axis=1) for i in range(0, len(frames), columns)])
