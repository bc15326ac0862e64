"""The tree of one root as text."""

from __future__ import annotations

from collections.abc import Sequence

from jaxrl_agents.arguments import count
from jaxrl_agents.search.render import nodes as tree_nodes
from jaxrl_agents.search.render.nodes import ROOT, Node
from jaxrl_agents.search.types import SearchOutput


def tree_text(output: SearchOutput, root: int = 0, *, names: Sequence[str] | None = None, max_nodes: int = 200) -> str:
    """The tree of one root, one line a node: its action, score and, under mcts, visits.

    The nodes of `output.trajectories(1)` are marked `*`.

    Args:
      output: a search's result (concrete).
      root: which root, 0 … B − 1.
      names: names of the actions, for example `env.action_names`; their numbers by default.
      max_nodes: how many nodes to show, in depth-first order; a last line tells how many more there are.

    Raises:
      TypeError: `output` is no concrete SearchOutput, or an argument of another type than it must be.
      ValueError: there is no such root, `max_nodes` is below 1, or an action has no name.
    """
    root = tree_nodes.check("root", output, root)
    max_nodes = count("max_nodes", max_nodes)
    nodes = tree_nodes.of_root(output, root)
    _check_names(names, nodes)
    best = set(tree_nodes.best_paths(output, root, nodes, 1)[0])
    below = tree_nodes.children(nodes)
    lines = [f"root {root}  value {float(output.value[root]):.3f}"]
    left = [(number, "") for number in reversed(below.get(ROOT, []))]  # an explicit stack: paths can be long
    while left and len(lines) <= max_nodes:
        number, indent = left.pop()
        is_last = number == below[nodes[number].parent][-1]
        mark = " *" if number in best else ""
        lines.append(f"{indent}{'└─' if is_last else '├─'} {_line(nodes[number], names)}{mark}")
        deeper = indent + ("   " if is_last else "│  ")
        left += [(child, deeper) for child in reversed(below.get(number, []))]
    hidden = len(nodes) + 1 - len(lines)
    return "\n".join([*lines, f"… {hidden} more node{'s' * (hidden > 1)}"] if hidden else lines)


def _line(node: Node, names: Sequence[str] | None) -> str:
    action = " ".join(names[a] if names else str(a) for a in node.action)
    visits = "" if node.visits is None else f"  {node.visits} visit{'s' * (node.visits != 1)}"
    return f"{action}  {node.score:.3f}{visits}"


def _check_names(names: Sequence[str] | None, nodes: dict[int, Node]) -> None:
    if names is None:
        return
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise TypeError(f"names must be a sequence of names, one for each action; got {type(names).__name__}")
    largest = max((action for node in nodes.values() for action in node.action), default=-1)
    if len(names) <= largest:
        raise ValueError(f"names has {len(names)} entries; the tree holds action {largest}")
