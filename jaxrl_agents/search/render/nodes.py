"""The nodes of one root's tree as plain Python, whatever the mode of search."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import mctx
import numpy as np

from envs_jax.arguments import as_integer
from jaxrl_agents.search.types import BacktrackTree, SearchOutput, SearchTree

ROOT = -1  # the number of the root; nodes count from 0, parents before their children


class Node(NamedTuple):
    """What a picture tells of a node."""

    parent: int
    action: tuple[int, ...]  # the primitive actions of the turn that led to it
    score: float
    reward: float  # of the turn
    word: tuple[int, int]  # as in `Trajectories.words`; −1 where the tree does not tell
    visits: int | None = None  # under mcts
    left: int | None = None  # the node that a rollout stepped back from, just before it made this one


def check(name: str, output: Any, index: Any) -> int:
    """The number of a root, `index`, of a concrete output.

    Raises:
      TypeError: `output` is not a concrete SearchOutput, or `index` not an integer.
      ValueError: there is no such root.
    """
    if not isinstance(output, SearchOutput):
        raise TypeError(f"output must be a SearchOutput, what a search returns; got {type(output).__name__}")
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(output)):
        raise TypeError("output is traced; a picture needs its values: return it from the jitted function and draw it")
    number = as_integer(name, index)
    if not 0 <= number < len(output.value):
        raise ValueError(f"{name}={number} is not one of the roots 0 … {len(output.value) - 1}")
    return number


def of_root(output: SearchOutput, root: int) -> dict[int, Node]:
    """The nodes of a root; copies of ended nodes, and what mctx simulates below such, are left out."""
    tree = output.search_tree
    if isinstance(tree, mctx.Tree):
        return _of_simulations(tree, root)
    return _of_iterations(tree, root) if isinstance(tree, BacktrackTree) else _of_turns(tree, root)


def num_paths(output: SearchOutput) -> int:
    """The most that `output.trajectories` can be asked for."""
    tree = output.search_tree
    return tree.num_actions if isinstance(tree, mctx.Tree) else tree.width


def best_paths(output: SearchOutput, root: int, nodes: dict[int, Node], k: int) -> list[list[int]]:
    """The nodes of the paths that `output.trajectories(k)` holds, best first; those that do not exist are empty.

    A path is told by its actions and words. Where a rollout repeats a turn with the same word (`clairvoyant`), the
    path goes through the last of the repetitions, for the others it has discarded.
    """
    below = {(node.parent, node.action, node.word): number for number, node in nodes.items()}
    found = output.trajectories(k)
    actions, lengths, words = (np.asarray(leaf[root]) for leaf in (found.actions, found.lengths, found.words))
    paths = []
    for rank in range(k):
        path = [ROOT]
        for turn in np.flatnonzero(lengths[rank]):
            action = tuple(np.atleast_1d(actions[rank, turn])[: lengths[rank, turn]].tolist())
            path.append(below[path[-1], action, tuple(words[rank, turn].tolist())])
        paths.append(path[1:])
    return paths


def children(nodes: dict[int, Node]) -> dict[int, list[int]]:
    """The children of each node that has some, in their order."""
    found: dict[int, list[int]] = {}
    for number, node in nodes.items():
        found.setdefault(node.parent, []).append(number)
    return found


def _of_simulations(tree: mctx.Tree, root: int) -> dict[int, Node]:
    names = ("parents", "action_from_parent", "node_values", "node_visits", "children_rewards", "children_discounts")
    parents, actions, values, visits, rewards, discounts = (np.asarray(getattr(tree, name)[root]) for name in names)
    nodes: dict[int, Node] = {}
    ended: set[int] = set()
    for index in range(1, len(parents)):
        parent, action = int(parents[index]), int(actions[index])
        if not visits[index] or parent in ended:
            ended.add(index)
            continue
        if discounts[parent, action] == 0:
            ended.add(index)
        reward, score = float(rewards[parent, action]), float(values[index])
        nodes[index - 1] = Node(parent - 1, (action,), score, reward, (-1, -1), int(visits[index]))
    return nodes


def _columns(tree: SearchTree | BacktrackTree, root: int) -> tuple[np.ndarray, ...]:
    names = ("parents", "lengths", "node_values", "rewards")
    parents, lengths, scores, rewards = (np.asarray(getattr(tree, name)[:, root]) for name in names)
    actions = np.asarray(tree.action_from_parent[:, root]).reshape(*parents.shape, -1)
    return parents, lengths, scores, rewards, actions


def _of_turns(tree: SearchTree, root: int) -> dict[int, Node]:
    parents, lengths, scores, rewards, actions = _columns(tree, root)
    candidates = np.asarray(tree.candidates[:, root])
    nodes = {}
    above = [ROOT] * tree.width  # the nodes that the slots of the turn before hold, themselves or as copies
    for turn in range(tree.num_turns):
        held = [above[max(int(parent), 0)] for parent in parents[turn]]
        for slot in np.flatnonzero(lengths[turn]).tolist():
            at, number = (turn, slot), turn * tree.width + slot
            word = (turn, int(candidates[at]))
            action = tuple(actions[at][: lengths[at]].tolist())
            nodes[number] = Node(held[slot], action, float(scores[at]), float(rewards[at]), word)
            held[slot] = number
        above = held
    return nodes


def _of_iterations(tree: BacktrackTree, root: int) -> dict[int, Node]:
    parents, lengths, scores, rewards, actions = _columns(tree, root)
    steps_back = np.asarray(tree.steps_back[:, root])
    nodes = {}
    depths = {ROOT: 0}
    last = [ROOT] * tree.width
    for iteration, slot in np.argwhere(lengths).tolist():
        at = iteration, slot
        number = iteration * tree.width + slot
        parent = int(parents[at]) * tree.width + slot if parents[at] >= 0 else ROOT
        depths[number] = depths[parent] + 1
        word = (depths[parent] if tree.clairvoyant else iteration, slot)
        action = tuple(actions[at][: lengths[at]].tolist())
        left = last[slot] if steps_back[at] else None
        nodes[number] = Node(parent, action, float(scores[at]), float(rewards[at]), word, left=left)
        last[slot] = number
    return nodes
