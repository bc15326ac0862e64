"""Sokoban in plain Python: rules, rewards and two optimal solvers, independent of the package under test.

Cells are integers of a board that has one ring of walls more than its text, so that a neighbour never leaves it:
text row `r`, column `c` is cell `(r + 1) * stride + c + 1`. Missing ends of ragged lines are walls.
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
from collections import deque
from functools import cached_property

UP, DOWN, LEFT, RIGHT = range(4)
INFINITE = 10**9


class NodeLimit(Exception):
    """The search took more nodes than allowed, so nothing is known."""


@dataclasses.dataclass(frozen=True)
class State:
    """What changes: the player's cell and the boxes' cells."""

    player: int
    boxes: frozenset[int]


@dataclasses.dataclass(frozen=True)
class Level:
    """A level; everything that is not `floor` is wall."""

    height: int  # of the text
    width: int
    floor: frozenset[int]
    targets: frozenset[int]
    start: State

    @property
    def stride(self) -> int:
        return self.width + 2

    @property
    def steps(self) -> tuple[int, int, int, int]:
        """What up, down, left, right add to a cell."""
        return (-self.stride, self.stride, -1, 1)

    def cell(self, row: int, column: int) -> int:
        return (row + 1) * self.stride + column + 1

    def row_column(self, cell: int) -> tuple[int, int]:
        return cell // self.stride - 1, cell % self.stride - 1

    @cached_property
    def push_distances(self) -> dict[int, int]:
        """For each live cell the fewest pushes that take a lone box to a target, the player's way ignored."""
        distance = dict.fromkeys(self.targets, 0)
        queue = deque(self.targets)
        while queue:
            cell = queue.popleft()
            for step in self.steps:  # pull a box from `cell` to `cell + step`: the player ends on `cell + 2 * step`
                before, player = cell + step, cell + 2 * step
                if before in self.floor and player in self.floor and before not in distance:
                    distance[before] = distance[cell] + 1
                    queue.append(before)
        return distance

    @property
    def dead_squares(self) -> frozenset[int]:
        """Floor from which a box can reach no target."""
        return frozenset(self.floor - self.push_distances.keys())


def parse_level(text: str) -> Level:
    """One level of `#` wall, space/`-`/`_` floor, `.` target, `$` box, `*` box on target, `@` player, `+` on target."""
    rows = [row for row in text.splitlines() if row.strip() and not row.startswith(";")]
    width = max(len(row) for row in rows)
    stride = width + 2
    cells: dict[str, set[int]] = {glyph: set() for glyph in "# .$*@+"}
    for r, row in enumerate(rows):
        for c, glyph in enumerate(row.ljust(width, "#")):
            cells[" " if glyph in "-_" else glyph].add((r + 1) * stride + c + 1)
    floor = set().union(*(cells[glyph] for glyph in " .$*@+"))
    (player,) = cells["@"] | cells["+"]
    boxes, targets = cells["$"] | cells["*"], cells["."] | cells["*"] | cells["+"]
    return Level(len(rows), width, frozenset(floor), frozenset(targets), State(player, frozenset(boxes)))


def to_text(level: Level, state: State | None = None) -> str:
    """The text of a state (the level's start by default), `height` lines of `width` glyphs."""
    state = state or level.start

    def glyph(cell: int) -> str:
        if cell not in level.floor:
            return "#"
        kind = 2 if cell == state.player else 1 if cell in state.boxes else 0
        return (".*+" if cell in level.targets else " $@")[kind]

    rows = range(level.height)
    return "\n".join("".join(glyph(level.cell(r, c)) for c in range(level.width)) for r in rows)


def is_solved(level: Level, state: State) -> bool:
    return level.targets <= state.boxes


def step(level: Level, state: State, action: int) -> State:
    """The state after a move; the same one where the move is blocked."""
    delta = level.steps[action]
    ahead, beyond = state.player + delta, state.player + 2 * delta
    if ahead not in level.floor:
        return state
    if ahead not in state.boxes:
        return State(ahead, state.boxes)
    if beyond not in level.floor or beyond in state.boxes:
        return state
    return State(ahead, state.boxes - {ahead} | {beyond})


def legal_actions(level: Level, state: State) -> list[int]:
    return [action for action in range(4) if step(level, state, action) != state]


def predecessors(level: Level, state: State) -> set[State]:
    """Every state from which one move leads to `state`, found by trying."""
    near = [state.player + delta for delta in level.steps]
    candidates = {State(cell, state.boxes) for cell in near if cell in level.floor - state.boxes}
    for delta in level.steps:  # a box may have been pushed from the player's cell to the one next to it
        if state.player + delta in state.boxes:
            boxes = state.boxes - {state.player + delta} | {state.player}
            candidates |= {State(cell, boxes) for cell in near if cell in level.floor - boxes}
    candidates.discard(state)
    return {before for before in candidates if any(step(level, before, action) == state for action in range(4))}


def reward(level: Level, before: State, after: State) -> float:
    """gym-sokoban's reward for a step that led from `before` to `after`."""
    gained = len(after.boxes & level.targets) - len(before.boxes & level.targets)
    return -0.1 + gained + (10.0 if is_solved(level, after) else 0.0)


def play(level: Level, moves: list[int]) -> list[State]:
    """All states of a plan, the start included."""
    states = [level.start]
    for action in moves:
        states.append(step(level, states[-1], action))
    return states


def count_pushes(level: Level, moves: list[int]) -> int:
    states = play(level, moves)
    return sum(a.boxes != b.boxes for a, b in itertools.pairwise(states))


def solve_pushes(level: Level, max_nodes: int = 1_000_000) -> list[int] | None:
    """A plan with the fewest pushes, walks included; None where there is none. Raises NodeLimit."""
    return _plan_of_pushes(level, _a_star(level, max_nodes, _normalised(level, level.start), _push_successors))


def solve_moves(level: Level, max_nodes: int = 1_000_000) -> list[int] | None:
    """A plan with the fewest moves; None where there is none. Raises NodeLimit."""
    return _a_star(level, max_nodes, level.start, _move_successors)


def _bound(level: Level, boxes: frozenset[int]) -> int:
    """Pushes that are needed at least: each box goes to its nearest target."""
    return sum(level.push_distances.get(box, INFINITE) for box in boxes)


def _a_star(level: Level, max_nodes: int, start: State, successors) -> list | None:
    """The labels of a cheapest path from `start` to a solved state; every edge costs 1."""
    best, parent, closed = {start: 0}, {start: None}, set()
    queue = [(_bound(level, start.boxes), 0, 0, start)]
    pushed = 0
    while queue:
        estimate, _, _, state = heapq.heappop(queue)
        if estimate >= INFINITE:
            return None
        if state in closed:
            continue
        closed.add(state)
        if is_solved(level, state):
            return _labels(parent, state)
        if len(closed) > max_nodes:
            raise NodeLimit(f"no answer after {max_nodes} nodes")
        cost = best[state] + 1
        for label, after in successors(level, state):
            if cost < best.get(after, INFINITE):
                bound = _bound(level, after.boxes)
                if bound < INFINITE:
                    best[after], parent[after] = cost, (state, label)
                    pushed += 1
                    heapq.heappush(queue, (cost + bound, bound, pushed, after))
    return None


def _labels(parent: dict, state: State) -> list:
    labels = []
    while parent[state] is not None:
        state, label = parent[state]
        labels.append(label)
    return labels[::-1]


def _move_successors(level: Level, state: State):
    for action in range(4):
        after = step(level, state, action)
        if after != state:
            yield action, after


def _push_successors(level: Level, state: State):
    reached = walks(level, state)
    for box in state.boxes:
        for action, delta in enumerate(level.steps):
            beyond = box + delta
            if box - delta in reached and beyond in level.floor and beyond not in state.boxes:
                pushed = State(box, state.boxes - {box} | {beyond})
                yield (box, action), _normalised(level, pushed)


def _normalised(level: Level, state: State) -> State:
    return State(min(walks(level, state)), state.boxes)


def walks(level: Level, state: State) -> dict[int, tuple[int, int] | None]:
    """The cells that the player reaches without a push, each with the (cell, action) it is entered from."""
    came: dict[int, tuple[int, int] | None] = {state.player: None}
    queue = deque(came)
    while queue:
        cell = queue.popleft()
        for action, delta in enumerate(level.steps):
            after = cell + delta
            if after in level.floor and after not in state.boxes and after not in came:
                came[after] = (cell, action)
                queue.append(after)
    return came


def _plan_of_pushes(level: Level, pushes: list[tuple[int, int]] | None) -> list[int] | None:
    if pushes is None:
        return None
    moves: list[int] = []
    state = level.start
    for box, action in pushes:
        came = walks(level, state)
        walk, cell = [action], box - level.steps[action]
        while came[cell] is not None:
            cell, move = came[cell]
            walk.append(move)
        for move in reversed(walk):
            state = step(level, state, move)
            moves.append(move)
    return moves
