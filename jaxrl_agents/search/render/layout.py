"""Where the nodes of a tree go in a picture."""

from __future__ import annotations

from collections.abc import Sequence

from jaxrl_agents.search.render import nodes as tree_nodes
from jaxrl_agents.search.render.nodes import ROOT, Node


def most_important(nodes: dict[int, Node], paths: Sequence[Sequence[int]], most: int) -> dict[int, Node]:
    """At most `most` nodes: those of the paths, best path first, then the earliest; parents always come along."""
    wanted = dict.fromkeys([number for path in paths for number in path] + [*nodes])
    chosen = {*list(wanted)[:most]}
    return {number: node for number, node in nodes.items() if number in chosen}


def places(nodes: dict[int, Node], paths: Sequence[Sequence[int]]) -> dict[int, tuple[int, int]]:
    """The (column, row) of the root and each node, such that no two edges cross or share a line.

    The column is the depth. A node stands in the row of its first child, those on better paths first, and the
    others below, each as high as the columns that it and its line of first children need are free.
    """
    ranks: dict[int, int] = {}
    for rank, path in enumerate(paths):
        for number in path:
            ranks.setdefault(number, rank)
    by_rank = lambda child: (ranks.get(child, len(paths)), child)
    below = {parent: sorted(found, key=by_rank) for parent, found in tree_nodes.children(nodes).items()}
    found: dict[int, tuple[int, int]] = {}
    free: dict[int, int] = {}
    left = [ROOT]
    while left:
        line = [left.pop()]
        while line[-1] in below:
            line.append(below[line[-1]][0])
        start = found[nodes[line[0]].parent][0] + 1 if line[0] != ROOT else 0
        row = max(free.get(column, 0) for column in range(start, start + len(line)))
        for column, number in enumerate(line, start):
            found[number] = column, row
            free[column] = row + 1
            left += reversed(below.get(number, [])[1:])
    return found
