"""Random Sokoban positions for property tests, and the bridge between the plain-Python reference and the package."""

import jax
import numpy as np
from hypothesis import strategies as st

from envs_jax.sokoban import levels
from envs_jax.sokoban.board import Layout
from envs_jax.tasks import TaskBank
from tests.reference import sokoban as reference

# One to nine words, one and two bytes for the player's cell.
LAYOUTS = (Layout(5, 6), Layout(10, 10), Layout(5, 40), Layout(18, 20))


@st.composite
def texts(draw, layout: Layout, max_boxes: int = 4) -> str:
    """A random position of `layout` in XSB glyphs: any walls, boxes and targets, none of it sensible."""
    num_cells = layout.num_cells
    seed = draw(st.integers(0, 2**32 - 1))
    num_boxes = draw(st.integers(1, min(max_boxes, (num_cells - 1) // 2)))
    walls = draw(st.sampled_from((0.0, 0.15, 0.35)))
    return random_text(layout, np.random.default_rng(seed), num_boxes, walls)


def random_text(layout: Layout, rng: np.random.Generator, num_boxes: int, walls: float = 0.2) -> str:
    """A random unsolved position with boxes and targets anywhere, one on the other too."""
    inside = np.where(rng.random((layout.rows, layout.columns)) < walls, "#", " ").astype(object)
    player, *boxes = rng.permutation(layout.num_cells)[: num_boxes + 1]
    targets = rng.permutation(layout.num_cells)[:num_boxes]
    while set(targets) == set(boxes):
        targets = rng.permutation(layout.num_cells)[:num_boxes]
    flat = inside.reshape(-1)
    flat[targets] = "."
    for cell, plain, on_target in [(player, "@", "+"), *((box, "$", "*") for box in boxes)]:
        flat[cell] = on_target if flat[cell] == "." else plain
    ring = "#" * layout.width
    return "\n".join([ring, *("#" + "".join(row) + "#" for row in inside), ring])


def bank_of(layout: Layout, texts: list[str]) -> TaskBank:
    """The positions as the starts of tasks."""
    return levels.parse("\n\n".join(texts)).bank(layout)


def state_of(layout: Layout, level: reference.Level, boxes, player) -> reference.State:
    """The package's boards (concrete) as a state of the reference."""
    cells = {level.cell(row + 1, column + 1) for row, column in np.argwhere(layout.unpack(boxes))}
    row, column = divmod(int(player), layout.columns)
    return reference.State(level.cell(row + 1, column + 1), frozenset(cells))


def boards_of(layout: Layout, level: reference.Level, state: reference.State):
    """(boxes, player) of a state of the reference, as NumPy scalars."""
    cells = np.zeros((layout.rows, layout.columns), bool)
    for box in state.boxes:
        row, column = level.row_column(box)
        cells[row - 1, column - 1] = True
    row, column = level.row_column(state.player)
    player = layout.cell_dtype.type((row - 1) * layout.columns + column - 1)
    return tuple(np.uint32(word) for word in layout.pack(cells)), player


def stack(trees: list):
    """Pytrees of scalars as one pytree of arrays."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)
