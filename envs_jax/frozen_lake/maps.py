"""Maps of FrozenLake: the two of Gymnasium, their text form, and random ones that always have a way to the goal."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs_jax import bitboard as bb
from envs_jax.arguments import as_integer, check_number
from envs_jax.bitboard import Board, Cell, Grid

Rows = tuple[str, ...]  # a map: one string a row, of the letters S (start), F (frozen), H (hole), G (goal)
Placement = Literal["corners", "random"]

MAPS: dict[str, Rows] = {
    "4x4": ("SFFF", "FHFH", "FFFH", "HFFG"),
    "8x8": ("SFFFFFFF", "FFFFFFFF", "FFFHFFFF", "FFFFFHFF", "FFFHFFFF", "FHHFFFHF", "FHFFHFHF", "FFFHFFFG"),
}
MAX_SIDE = 64
MAX_DRAWS = 10_000


class Lake(NamedTuple):
    """The tiles of a map as bitboards; what is neither hole nor goal is frozen, the starts included."""

    holes: Board  # uint32[…] × num_words
    goals: Board  # uint32[…] × num_words
    starts: Board  # uint32[…] × num_words


def layout_of(size: int | Sequence[int]) -> Grid:
    """The layout of the bitboards for maps of up to `size` = (rows, columns), or of a square map's side."""
    sides = tuple(size) if isinstance(size, Sequence | np.ndarray) else (size, size)
    if len(sides) != 2 or not all(isinstance(side, int | np.integer) and not isinstance(side, bool) for side in sides):
        raise ValueError(f"size={size!r} is neither an integer nor (rows, columns)")
    if min(sides) < 1 or max(sides) > MAX_SIDE or max(sides) < 2:
        raise ValueError(f"size={size!r}; a map has 1 to {MAX_SIDE} rows and columns, and at least two cells")
    return Grid(int(sides[0]), int(sides[1]))


def parse_maps(text: str, source: str = "map") -> list[Rows]:
    """Reads maps from text: a line for each row, blank lines between maps.

    Args:
      text: the maps.
      source: the name of the text in errors, such as a file's.

    Raises:
      ValueError: naming source, line and reason: another letter than S, F, H, G; rows of different lengths; a map
        without start or without goal, too large, or no map at all. A map whose goal cannot be reached is accepted, as
        Gymnasium does: it is a valid decision problem; `is_solvable` tells.
    """
    maps: list[Rows] = []
    rows: list[str] = []
    for number, line in enumerate([*text.splitlines(), ""], start=1):
        row = line.strip()
        if row:
            _check_row(row, rows, f"{source}, line {number}")
            rows.append(row)
        elif rows:
            _check_map(rows, f"{source}, line {number - len(rows)}")
            maps.append(tuple(rows))
            rows = []
    if not maps:
        raise ValueError(f"{source}: there is no map")
    return maps


def _check_row(row: str, above: list[str], where: str) -> None:
    for column, letter in enumerate(row, start=1):
        if letter not in "SFHG":
            raise ValueError(f"{where}, column {column}: unknown tile {letter!r}; tiles are S, F, H and G")
    if above and len(row) != len(above[0]):
        raise ValueError(f"{where}: the row has {len(row)} tiles, the rows above have {len(above[0])}")


def _check_map(rows: list[str], where: str) -> None:
    for letter, name in (("S", "start"), ("G", "goal")):
        if not any(letter in row for row in rows):
            raise ValueError(f"{where}: the map has no {name} ({letter})")
    if max(len(rows), len(rows[0])) > MAX_SIDE:
        raise ValueError(f"{where}: the map has {len(rows)} × {len(rows[0])} tiles; at most {MAX_SIDE} × {MAX_SIDE}")


def format_maps(maps: Sequence[Rows]) -> str:
    """The text that `parse_maps` reads."""
    return "\n".join("".join(f"{row}\n" for row in rows) for rows in maps)


def to_lake(rows: Rows, layout: Grid) -> Lake:
    """The bitboards (NumPy) of a map, in the upper left corner of a layout that may be larger."""
    if len(rows) > layout.rows or len(rows[0]) > layout.columns:
        raise ValueError(
            f"size=({layout.rows}, {layout.columns}) is too small for a map of {len(rows)} × {len(rows[0])} tiles"
        )
    tiles = np.full((layout.rows, layout.columns), " ")
    tiles[: len(rows), : len(rows[0])] = [list(row) for row in rows]
    return Lake(*(bb.constant(layout.pack(tiles == letter)) for letter in "HGS"))


def to_rows(lake: Lake, layout: Grid, rows: int, columns: int) -> Rows:
    """The map of concrete bitboards, of which it takes the upper left rows × columns."""
    tiles = np.full((layout.rows, layout.columns), "F")
    for letter, board in zip("HGS", lake, strict=True):
        tiles[layout.unpack(board)] = letter
    return tuple("".join(row[:columns]) for row in tiles[:rows])


def is_solvable(rows: Rows) -> bool:
    """Whether the holes leave a way from every start to a goal."""
    layout = layout_of((len(rows), len(rows[0])))
    lake = to_lake(rows, layout)
    starts = np.flatnonzero(layout.unpack(lake.starts))
    blocked = tuple(jnp.full(len(starts), word) for word in lake.holes)
    return bool(jnp.all(_has_way(layout, blocked, jnp.asarray(starts), lake.goals)))


def _has_way(layout: Grid, blocked: Board, start: Cell, goals: Board) -> jax.Array:
    """bool: whether a way leads from `start` to one of the goals past the blocked cells."""
    reached = bb.flood(layout, bb.singleton(layout, start), bb.complement(layout, blocked))
    return ~bb.is_empty(bb.intersection(reached, goals))


def random_lakes(
    key: jax.Array,
    num_maps: int,
    *,
    layout: Grid,
    size: tuple[int, int],
    frozen_probability: float = 0.8,
    placement: Placement = "corners",
) -> Lake:
    """Random maps, each drawn again until there is a way from its start to its goal.

    So the maps have exactly the distribution of independent tiles given that the goal can be reached. It is that of
    Gymnasium's `generate_random_map` for "corners", and of RAGEN's for "random".

    Args:
      key: a random key.
      num_maps: T ≥ 1.
      layout: the layout of the bitboards.
      size: (rows, columns) of the maps, at most those of the layout.
      frozen_probability: of each tile but start and goal, in [0, 1]; the others are holes.
      placement: "corners": start upper left, goal lower right. "random": two different tiles, uniformly, drawn again
        together with the tiles.

    Returns:
      Lakes with leading axis T.

    Raises:
      TypeError: an argument is not a number.
      ValueError: an argument is out of range, or some map was refused 10,000 times in a row.
    """
    num_maps = as_integer("num_maps", num_maps)
    if num_maps < 1:
        raise ValueError(f"num_maps={num_maps}; at least one")
    frozen_probability = check_number("frozen_probability", frozen_probability, 0, 1)
    if placement not in ("corners", "random"):
        raise ValueError(f"placement={placement!r} is neither 'corners' nor 'random'")
    if size[0] > layout.rows or size[1] > layout.columns:
        raise ValueError(f"size={size} exceeds the environment's ({layout.rows}, {layout.columns})")
    lakes, solvable = _draw_until_solvable(
        key, jnp.float32(frozen_probability), num_maps=num_maps, layout=layout, size=size, placement=placement
    )
    if not bool(jnp.all(solvable)):
        raise ValueError(
            f"frozen_probability={frozen_probability} is too low for maps of {size[0]} × {size[1]} tiles: "
            f"{int(jnp.sum(~solvable))} of {num_maps} maps had no way to the goal in {MAX_DRAWS:,} draws"
        )
    return lakes


@functools.partial(jax.jit, static_argnames=("num_maps", "layout", "size", "placement"))
def _draw_until_solvable(
    key: jax.Array,
    frozen_probability: jax.Array,
    *,
    num_maps: int,
    layout: Grid,
    size: tuple[int, int],
    placement: Placement,
) -> tuple[Lake, jax.Array]:
    """(lakes, bool[T] solvable); all are, unless `MAX_DRAWS` draws did not do."""

    def draw(attempt: jax.Array) -> tuple[Lake, jax.Array]:
        key_tiles, key_ends = jax.random.split(jax.random.fold_in(key, attempt))
        frozen = jax.random.bernoulli(key_tiles, jnp.float32(frozen_probability), (num_maps, *size))
        start, goal = _ends(key_ends, num_maps, layout, size, placement)
        starts, goals = bb.singleton(layout, start), bb.singleton(layout, goal)
        holes = bb.difference(_pack(layout, ~frozen), bb.union(starts, goals))
        inside = np.zeros((layout.rows, layout.columns), bool)
        inside[: size[0], : size[1]] = True
        blocked = bb.union(holes, bb.complement(layout, bb.constant(layout.pack(inside))))
        return Lake(holes, goals, starts), _has_way(layout, blocked, start, goals)

    def redraw(carry: tuple[jax.Array, Lake, jax.Array]) -> tuple[jax.Array, Lake, jax.Array]:
        attempt, lakes, solvable = carry
        again, now_solvable = draw(attempt)
        lakes = jax.tree.map(lambda old, new: jnp.where(solvable, old, new), lakes, again)
        return attempt + 1, lakes, solvable | now_solvable

    unfinished = lambda carry: (carry[0] < MAX_DRAWS) & ~jnp.all(carry[2])
    nothing = tuple(jnp.zeros(num_maps, jnp.uint32) for _ in range(layout.num_words))
    first = (jnp.int32(0), Lake(nothing, nothing, nothing), jnp.zeros(num_maps, bool))
    return jax.lax.while_loop(unfinished, redraw, first)[1:]


def _ends(
    key: jax.Array, num_maps: int, layout: Grid, size: tuple[int, int], placement: Placement
) -> tuple[jax.Array, jax.Array]:
    """(start, goal), cells int32[T] of the layout."""
    num_cells = size[0] * size[1]
    if placement == "corners":
        start, goal = jnp.zeros(num_maps, jnp.int32), jnp.full(num_maps, num_cells - 1, jnp.int32)
    else:
        key_start, key_goal = jax.random.split(key)
        start = jax.random.randint(key_start, (num_maps,), 0, num_cells, jnp.int32)
        goal = jax.random.randint(key_goal, (num_maps,), 0, num_cells - 1, jnp.int32)
        goal += goal >= start  # uniform over the other cells
    to_layout = lambda cell: cell // size[1] * layout.columns + cell % size[1]
    return to_layout(start), to_layout(goal)


def _pack(layout: Grid, cells: jax.Array) -> Board:
    """bool[T, rows, columns] in the upper left corner of the layout → words uint32[T]."""
    num_maps, rows, columns = cells.shape
    padded = jnp.pad(cells, ((0, 0), (0, layout.rows - rows), (0, layout.columns - columns)))
    flat = jnp.pad(padded.reshape(num_maps, -1), ((0, 0), (0, 32 * layout.num_words - layout.num_cells)))
    bits = flat.reshape(num_maps, layout.num_words, 32).astype(jnp.uint32) << np.arange(32, dtype=np.uint32)
    words = jnp.sum(bits, axis=-1, dtype=jnp.uint32)
    return tuple(words[:, i] for i in range(layout.num_words))
