"""FrozenLake in plain Python, written from the description of its rules: outcomes, draws, search, planning."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

STEPS = {0: (0, -1), 1: (1, 0), 2: (0, 1), 3: (-1, 0)}


@dataclasses.dataclass(frozen=True)
class PythonLake:
    rows: Sequence[str]
    success_rate: float = 1 / 3
    rewards: tuple[float, float, float] = (1, 0, 0)

    @property
    def cells(self):
        return [(r, c) for r in range(len(self.rows)) for c in range(len(self.rows[0]))]

    @property
    def starts(self):
        return [cell for cell in self.cells if self.tile(cell) == "S"]

    def tile(self, cell):
        return self.rows[cell[0]][cell[1]]

    def go(self, cell, direction):
        row, column = cell[0] + STEPS[direction][0], cell[1] + STEPS[direction][1]
        return (row, column) if 0 <= row < len(self.rows) and 0 <= column < len(self.rows[0]) else cell

    def outcomes(self, cell, action):
        """[(probability, next cell, reward)], the three directions in Gymnasium's order."""
        fail = (1 - self.success_rate) / 2
        targets = [self.go(cell, (action + turn) % 4) for turn in (-1, 0, 1)]
        return [
            (p, target, self.rewards["GH".find(self.tile(target)) if self.tile(target) in "GH" else 2])
            for p, target in zip((fail, self.success_rate, fail), targets, strict=True)
        ]

    def step(self, cell, action, u):
        """(next cell, reward) for the uniform draw u: the first outcome whose cumulative probability exceeds it."""
        outcomes = self.outcomes(cell, action)
        cumulative = np.cumsum([p for p, _, _ in outcomes])
        return outcomes[int(np.argmax(cumulative > u))][1:]

    def start(self, u):
        share = np.full(len(self.starts), 1 / len(self.starts))
        return self.starts[int(np.argmax(np.cumsum(share) > u))]

    def reaches_goal(self, start):
        seen, queue = {start}, [start]
        for cell in queue:
            if self.tile(cell) == "G":
                return True
            for target in (self.go(cell, d) for d in range(4)):
                if self.tile(target) != "H" and target not in seen:
                    seen.add(target)
                    queue.append(target)
        return False

    def action_values(self, values, discount=1.0):
        """{cell: [value of each action]} from the values of cells after the step."""
        return {
            cell: [
                sum(
                    p * (r + discount * (values[target] if self.tile(target) in "SF" else 0))
                    for p, target, r in self.outcomes(cell, action)
                )
                if self.tile(cell) in "SF"
                else 0.0
                for action in range(4)
            ]
            for cell in self.cells
        }

    def values(self, horizon, discount=1.0, policy=None):
        """[values before each step, …, 0], each {cell: value}; `policy`: {cell: probabilities}, None for the best."""
        values = [dict.fromkeys(self.cells, 0.0)]
        for _ in range(horizon):
            actions = self.action_values(values[0], discount)
            best = lambda cell, q: max(q) if policy is None else float(np.dot(policy[cell], q))
            values.insert(0, {cell: best(cell, q) for cell, q in actions.items()})
        return values


def as_grid(lake, values):
    return np.array([values[cell] for cell in lake.cells]).reshape(len(lake.rows), -1)


@st.composite
def lake_maps(draw, max_side=6):
    """Maps of any shape with at least one start and one goal, solvable or not."""
    rows = draw(st.integers(1, max_side))
    columns = draw(st.integers(2 if rows == 1 else 1, max_side))
    tiles = draw(st.lists(st.sampled_from("FFFHHSG"), min_size=rows * columns, max_size=rows * columns))
    start, goal = draw(st.permutations(range(rows * columns)))[:2]
    tiles[start], tiles[goal] = "S", "G"
    return tuple("".join(tiles[r * columns : (r + 1) * columns]) for r in range(rows))
