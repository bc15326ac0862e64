"""The search itself: one jitted program that expands batches of nodes of all levels until everything is decided."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from envs_jax import bitboard as bb
from envs_jax.barriers import once
from envs_jax.bitboard import Board
from envs_jax.sokoban import deadlocks, pushes, rules
from jaxrl_agents.search.best_first import bounds, closed, frontier
from jaxrl_agents.search.best_first.lanes import compact, nth_set_bit, prefix_sum
from jaxrl_agents.search.best_first.types import (
    DIRECTION_SHIFT,
    LEVEL_SHIFT,
    NO_NODE,
    Config,
    Levels,
    Log,
    Nodes,
    Pages,
    Search,
    Starts,
    Status,
    Tables,
)


def blank_tables(config: Config) -> Tables:
    """The tables of L levels, in which nothing is filled in yet."""
    layout, levels = config.layout, config.num_levels
    board = lambda: bb.from_words(layout, lambda *words: jnp.zeros((levels, *words), jnp.uint32))
    by_cell = lambda number: jnp.zeros(levels * (layout.num_cells + 1) * number, jnp.uint32)
    return Tables(
        walls=board(),
        live=board(),
        targets=board(),
        distances=tuple(by_cell(4) for _ in range(bounds.distance_words(config))),
        sides=(by_cell(layout.num_words), by_cell(layout.num_words)),
        joined=jnp.zeros((levels, layout.num_cells), jnp.uint8),
        bound=jnp.zeros(levels, jnp.int32),
    )


def prepare(config: Config, starts: Starts, tables: Tables, part: jax.Array) -> Tables:
    """Fills in one of the `bounds.num_parts` parts of the tables; they come in order, a level's last one completes it.

    A part is little work whatever the board, so that whoever waits can end the preparation between two of them.
    """
    levels, cells = bounds.part_of(config)
    parts = bounds.num_parts(config, levels)
    level = part // parts * levels
    cell = jnp.minimum(part % parts * cells, config.layout.num_cells - cells)  # the last parts of a level may overlap
    own = lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, level, levels)
    size_of = lambda leaf: leaf.size // config.num_levels
    flat = lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, level * size_of(leaf), levels * size_of(leaf))

    def put(leaf: jax.Array, new: jax.Array, at: Any = 0) -> jax.Array:
        # Flat, and so in place: what a part makes has no gaps in between.
        begin = level * size_of(leaf) + at
        return jax.lax.dynamic_update_slice_in_dim(leaf.reshape(-1), new.reshape(-1), begin, 0).reshape(leaf.shape)

    here = jax.tree.map(own, starts)
    planes, joined = bounds.make_sides(config.layout, here.walls, cell + jnp.arange(cells, dtype=jnp.int32), part)
    if parts == 1:  # the place for the boxes that a level lacks
        planes = jax.tree.map(lambda plane: jnp.pad(plane, ((0, 0), (0, 1), (0, 0))), planes)
    low, high = (put(old, new, cell * config.layout.num_words) for old, new in zip(tables.sides, planes, strict=True))
    tables = dataclasses.replace(tables, sides=(low, high), joined=put(tables.joined, joined, cell))

    some = dataclasses.replace(config, num_levels=levels)
    complete = lambda: _completed(some, here, (flat(low), flat(high)), own(tables.joined))
    as_before = lambda: (jax.tree.map(own, tables.live), tuple(map(flat, tables.distances)), own(tables.bound))
    rest = complete() if parts == 1 else jax.lax.cond(part % parts == parts - 1, complete, as_before)
    old = tables.walls, tables.targets, (tables.live, tables.distances, tables.bound)
    walls, targets, (live, distances, bound) = jax.tree.map(put, old, (here.walls, here.targets, rest))
    return dataclasses.replace(tables, walls=walls, targets=targets, live=live, distances=distances, bound=bound)


def _completed(
    config: Config, starts: Starts, sides: tuple[jax.Array, jax.Array], joined: jax.Array
) -> tuple[Board, tuple[jax.Array, ...], jax.Array]:
    """(`live`, `distances`, `bound`) of `Tables`."""
    distances = bounds.make_distances(config, starts.walls, starts.targets, joined)
    floor = bb.complement(config.layout, starts.walls)
    live = bb.difference(floor, deadlocks.dead_squares(config.layout, starts.walls, starts.targets))
    unknown = jnp.zeros(config.num_levels, jnp.int32)
    tables = Tables(starts.walls, live, starts.targets, distances, sides, joined, unknown)
    return live, distances, bounds.start_bound(config, tables, starts.boxes, starts.player.astype(jnp.uint32))


def start(config: Config, tables: Tables, starts: Starts, wanted: jax.Array) -> Search:
    """A search of the levels of `wanted` (bool[L])."""
    count = config.num_levels
    solved = rules.is_solved(starts.targets, starts.boxes)
    hopeless = (tables.bound >= bounds.INFINITE) | ~wanted
    too_long = (tables.bound == bounds.TOO_LONG) & wanted
    conditions = [solved & ~hopeless, too_long, hopeless]
    status = jnp.select(conditions, [Status.SOLVED, Status.LENGTH_LIMIT, Status.UNSOLVABLE], Status.OPEN)
    place = jnp.arange(count, dtype=jnp.uint32) << LEVEL_SHIFT | starts.player.astype(jnp.uint32)
    nowhere = jnp.full(count, NO_NODE)
    zeros = jnp.zeros(count, jnp.int32)
    roots = Nodes(starts.boxes, place, nowhere, tables.bound.astype(jnp.uint32))
    pool, pages = frontier.begin(config, roots, _class(config, tables, roots))
    # The first round has nothing to expand yet and takes its nodes at its end.
    blank = jax.tree.map(lambda words: jnp.zeros((config.num_lanes, *words.shape[1:]), jnp.uint32), roots)
    log_words = jnp.zeros(config.log_size + config.num_lanes, jnp.uint32)
    log = Log(log_words, log_words, jnp.int32(0))
    levels = Levels(status.astype(jnp.uint8), nowhere, place, zeros, zeros, jnp.zeros(count, bool))
    return Search(pool, pages, closed.empty_table(config), log, levels, blank, jnp.int32(0), pages.overflow)


def advance(config: Config, tables: Tables, search: Search, max_nodes: jax.Array, rounds: jax.Array) -> Search:
    """Goes on for at most `rounds` rounds, or until no node is left or something is full."""

    def unfinished(carry: tuple[Search, jax.Array]) -> jax.Array:
        search, done = carry
        return jnp.any(search.levels.status == Status.OPEN) & ~search.overflow & (done < rounds)

    def body(carry: tuple[Search, jax.Array]) -> tuple[Search, jax.Array]:
        search, done = carry
        return _round(config, tables, search, max_nodes), done + 1

    return jax.lax.while_loop(unfinished, body, (search, jnp.int32(0)))[0]


def _round(config: Config, tables: Tables, search: Search, max_nodes: jax.Array) -> Search:
    table, nodes, reached, number = _new_states(config, tables, search)
    log = search.log
    parent = (log.size + jnp.arange(config.num_lanes)).astype(jnp.uint32)
    write = lambda words, new: jax.lax.dynamic_update_slice(words, new, (log.size,))
    log = Log(write(log.parent, nodes.parent), write(log.place, nodes.place), log.size + number)

    masks = _pushes(config, tables, nodes, reached, number)
    levels = _count_work(search.levels, nodes, masks, number)
    nodes = dataclasses.replace(nodes, parent=parent)
    pool, pages, levels = _expand(config, tables, search.pool, search.pages, levels, nodes, masks)

    overflow = pages.overflow | pages.classless | (log.size > config.log_size)
    is_open = levels.status == Status.OPEN
    status = jnp.where(is_open & (levels.expanded >= max_nodes), Status.NODE_LIMIT, levels.status)
    batch, count, pages, exhausted = frontier.pop(config, pool, pages, status == Status.OPEN)
    without = jnp.where(levels.too_long, Status.LENGTH_LIMIT, Status.UNSOLVABLE)
    status = jnp.where(exhausted & ~overflow, without, status).astype(jnp.uint8)
    return Search(pool, pages, table, log, dataclasses.replace(levels, status=status), batch, count, overflow)


@jax.named_scope("new_states")
def _new_states(config: Config, tables: Tables, search: Search) -> tuple[closed.Table, Nodes, Board, jax.Array]:
    """(table, states of the batch that are expanded for the first time, where their player can walk, how many)."""
    batch = search.batch
    walls = _taken(tables.walls, batch.level)
    reached = pushes.reachable(config.layout, bb.union(walls, batch.boxes), batch.player)
    place = (batch.place >> LEVEL_SHIFT << LEVEL_SHIFT) | bb.first_cell(reached).astype(jnp.uint32)
    valid = jnp.arange(config.num_lanes) < search.count
    table, new = closed.insert(config, search.table, batch.boxes, place, valid)
    chosen, number = compact(new)
    nodes, reached = _taken((batch, reached), chosen)
    return table, nodes, reached, number


@jax.named_scope("push_masks")
def _pushes(config: Config, tables: Tables, nodes: Nodes, reached: Board, number: jax.Array) -> Board:
    """The pushes of each node: uint32[num_lanes] words, num_words for each direction.

    None onto dead squares, none from states with a frozen box off its target, none in lanes from `number`.
    """
    layout, boxes = config.layout, nodes.boxes
    walls, live, targets = (_taken(board, nodes.level) for board in (tables.walls, tables.live, tables.targets))
    dead = bb.complement(layout, bb.union(walls, live))
    lost = once(number, lambda: deadlocks.is_frozen_deadlock(layout, walls, targets, boxes, dead))
    tried = (jnp.arange(config.num_lanes) < number) & ~lost
    masks = pushes.pushable(layout, boxes, reached, bb.difference(live, boxes))
    return bb.join(*(bb.keep(tried, mask) for mask in masks))


def _taken(tree: Any, index: jax.Array) -> Any:
    """The entries `index` of every leaf: boards of levels, or nodes of a batch."""
    return jax.tree.map(lambda words: words[index], tree)


@jax.named_scope("count")
def _count_work(levels: Levels, nodes: Nodes, masks: Board, number: jax.Array) -> Levels:
    size = levels.status.shape[0]
    level = jnp.where(jnp.arange(nodes.place.shape[0]) < number, nodes.level, size)
    return dataclasses.replace(
        levels,
        expanded=levels.expanded.at[level].add(1, mode="drop"),
        generated=levels.generated.at[level].add(bb.count(masks), mode="drop"),
    )


def _expand(
    config: Config,
    tables: Tables,
    pool: Nodes,
    pages: Pages,
    levels: Levels,
    nodes: Nodes,
    masks: Board,
) -> tuple[Nodes, Pages, Levels]:
    """Makes all children of `nodes`, `num_children` at a time, and puts them into the frontier."""
    number = bb.count(masks)
    ends = prefix_sum(number)
    begins = ends - number
    rows = bounds.rows_of(config, tables, nodes.level, nodes.boxes, nodes.player)

    def make_some(carry: tuple[Nodes, Pages, Levels, jax.Array]) -> tuple:
        pool, pages, levels, first = carry
        children = once(first, lambda: _children(config, tables, nodes, rows, masks, begins, first))
        bound = children.cost & 0xFFFF
        valid = (first + jnp.arange(config.num_children) < ends[-1]) & (bound < bounds.INFINITE)
        solved = valid & (bound == 0) & _is_solved(tables, children)
        # What a cost has no room for is left out: all that is kept comes before it.
        too_long = valid & ~solved & ((bound == bounds.TOO_LONG) | (children.cost >> 16 >= bounds.TOO_LONG))
        levels = jax.lax.cond(
            jnp.any(solved | too_long), _record, lambda levels, *_: levels, levels, children, solved, too_long
        )
        classes = _class(config, tables, children)
        pool, pages = frontier.push(config, pool, pages, children, classes, valid & ~solved & ~too_long)
        return pool, pages, levels, first + config.num_children

    unfinished = lambda carry: carry[3] < ends[-1]
    return jax.lax.while_loop(unfinished, make_some, (pool, pages, levels, jnp.int32(0)))[:3]


@jax.named_scope("children")
def _children(
    config: Config,
    tables: Tables,
    nodes: Nodes,
    rows: list[bounds.Row],
    masks: Board,
    begins: jax.Array,
    first: jax.Array,
) -> Nodes:
    """Children number `first` … of all, in the order of their parents."""
    size = config.num_children
    begins_here = jnp.where(begins < first + size, jnp.maximum(begins - first, 0), size)
    owner = prefix_sum(jnp.zeros(size, jnp.int32).at[begins_here].add(1, mode="drop")) - 1
    index = first + jnp.arange(size, dtype=jnp.int32)
    box, direction = once(first, lambda: _nth_push(config, _taken(masks, owner), index - begins[owner]))
    parent, rows = _taken((nodes, rows), owner)
    boxes, target = pushes.apply_push(config.layout, parent.boxes, box, direction)
    g = (parent.cost >> 16) + 1
    h = bounds.child_bound(config, tables, parent, rows, box, target, direction)
    place = (parent.place >> LEVEL_SHIFT << LEVEL_SHIFT) | direction.astype(jnp.uint32) << DIRECTION_SHIFT
    place |= box.astype(jnp.uint32)
    return Nodes(boxes, place, parent.parent, g << 16 | h.astype(jnp.uint32))


def _nth_push(config: Config, masks: Board, n: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(box, direction) of the n-th push that is set in the words of `masks`."""
    zeros = jnp.zeros_like(n)
    first = masks.words[..., 0] if isinstance(masks, bb.Stacked) else masks[0]

    def look(found: tuple[jax.Array, ...], mask: jax.Array) -> tuple[jax.Array, ...]:
        i, total, *last = found
        inside = n >= total
        latest = (jnp.where(inside, a, b) for a, b in zip((i, mask, total), last, strict=True))
        return i + 1, total + jax.lax.population_count(mask).astype(jnp.int32), *latest

    nothing: tuple[jax.Array, ...] = (jnp.int32(0), zeros, zeros, first, zeros)
    _, _, number, word, begin = bb.fold(look, nothing, masks)
    words = config.layout.num_words
    return number % words * 32 + nth_set_bit(word, n - begin), number // words


@jax.named_scope("class")
def _class(config: Config, tables: Tables, nodes: Nodes) -> jax.Array:
    """int32[n]: the class of each node; lower ones are expanded first."""
    g, h = (nodes.cost >> 16).astype(jnp.int32), (nodes.cost & 0xFFFF).astype(jnp.int32)
    start = tables.bound[nodes.level]
    if config.mode == "optimal":
        # f − h₀, halved where every push changes f by an even number.
        return (g + h - start) >> (1 if config.num_slots else 0)
    # A quarter of g + 2h, counted from the start.
    greedy = (g + 2 * (h - start)) >> 2
    return jnp.clip(config.num_classes // 2 + greedy, 0, config.num_classes - 1)


@jax.named_scope("solved")
def _is_solved(tables: Tables, nodes: Nodes) -> jax.Array:
    level = nodes.level
    return rules.is_solved(_taken(tables.targets, level), nodes.boxes)


@jax.named_scope("goals")
def _record(levels: Levels, nodes: Nodes, solved: jax.Array, too_long: jax.Array) -> Levels:
    """Marks the levels that `solved` nodes belong to, one node for each, and those that `too_long` ones do."""
    size = levels.status.shape[0]
    lanes = jnp.arange(solved.shape[0], dtype=jnp.int32)
    level = jnp.where(solved & (levels.status[nodes.level] == Status.OPEN), nodes.level, size)
    winner = jnp.full(size, -1, jnp.int32).at[level].max(lanes, mode="drop")
    level = jnp.where(winner[nodes.level] == lanes, nodes.level, size)
    return dataclasses.replace(
        levels,
        status=levels.status.at[level].set(np.uint8(Status.SOLVED), mode="drop"),
        goal_parent=levels.goal_parent.at[level].set(nodes.parent, mode="drop"),
        goal_place=levels.goal_place.at[level].set(nodes.place, mode="drop"),
        too_long=levels.too_long.at[jnp.where(too_long, nodes.level, size)].set(True, mode="drop"),
    )
