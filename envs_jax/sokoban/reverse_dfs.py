"""Sokoban played backwards by depth-first search, as RAGEN's version of gym-sokoban's generator does it.

Every lane of a batch searches its own room; lanes advance together, one attempt to step a trip. Boards and scalars have
the axes [N], arrays over boxes [boxes, N].

What is found is what the recursive original finds, room for room, up to two limits: the search of a room ends after
`MAX_STATES` states (300,000 in the original, whose 6×6 rooms have up to about 1,000), and states are told apart by 32
bits of hash and a slot.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs_jax import bitboard as bb
from envs_jax.bitboard import Board, Cell
from envs_jax.sokoban.board import Layout
from envs_jax.sokoban.sampling import lowest_cells, random_cell

SLOTS = 4096  # of a room's table of visited states; a power of two
MAX_STATES = SLOTS * 3 // 4


class Room(NamedTuple):
    """What does not change while a room is searched."""

    floor: Board
    targets: Board
    origins: Cell  # [boxes, N]: the targets' cells


class Node(NamedTuple):
    """A position of the backward game."""

    player: Cell
    boxes: Cell  # [boxes, N], box i came from target i
    moved: jax.Array  # bool[boxes, N]: the box has been pulled; the original tells such a box from one never moved


class Attempt(NamedTuple):
    """A step from the current node, and where the table of visited states is to be asked for its result."""

    legal: jax.Array  # bool: the cell ahead is free
    child: Node
    pulled: jax.Array  # int32: the box dragged along, −1 for none
    slot: jax.Array  # int32
    tag: jax.Array  # uint32: never 0, which marks an empty slot


class Search(NamedTuple):
    """The state of the search; `stack[d]` says how the node at depth d + 1 was reached."""

    node: Node
    depth: jax.Array
    action: jax.Array  # the next action to try at the node; 4 when all have been
    probe: jax.Array  # slots of the table already found taken by other states
    last: jax.Array  # the box pulled last, −1 for none
    swaps: jax.Array  # how often another box than the one before was pulled
    states: jax.Array  # states visited
    best: Node
    best_score: jax.Array
    stack: jax.Array  # int32[depth, N]
    table: jax.Array  # uint32[SLOTS, N]
    seen: jax.Array  # uint32: what the table holds for the current attempt
    above: jax.Array  # int32: the topmost entry of the stack


def make_room(floor: Board, targets: Board, num_boxes: int) -> Room:
    """A room with `num_boxes` targets."""
    return Room(floor, targets, lowest_cells(targets, num_boxes))


def deepest(layout: Layout, room: Room, player: Cell, search_depth: int) -> tuple[Node, jax.Array]:
    """Plays backwards from the solved position and keeps the position of the greatest score.

    The score is box swaps × the boxes' total Manhattan distance from where each came from, 0 while the player or a box
    stands on a target; among equals the first in the order of a search that tries up, down, left, right wins. The
    player pulls the box behind it whenever it steps.

    Args:
      layout: the size of the board.
      room: N rooms.
      player: int32[N], where the player stands in the solved position.
      search_depth: the original's `ttl`: positions up to `search_depth − 2` steps from the solved one are visited.

    Returns:
      (the best node, its score: int32[N]; a score of 0 means that the room is of no use).
    """
    depth_limit = min(search_depth - 2, MAX_STATES)
    lanes = np.arange(player.shape[0])
    start = _start(layout, room, player, depth_limit, lanes)
    advance = partial(_advance, layout, room, depth_limit, lanes)
    result = jax.lax.while_loop(lambda search: jnp.any(search.depth >= 0), advance, start)
    return result.best, result.best_score


def stroll(layout: Layout, room: Room, node: Node, words: jax.Array) -> Cell:
    """int32[N]: where the player ends after the original's random walk of up to three steps.

    The player sets out with probability 0.8 where the boxes are one cell from their targets in total and 0.5 elsewhere,
    goes on with probability 0.5 after each step, and never enters a cell twice.

    Args:
      layout: the size of the board.
      room: N rooms.
      node: the position.
      words: uint32[6, N], random.
    """
    near = _distance(layout, node.boxes, room.origins) == 1
    going = words[0] < jnp.where(near, np.uint32(0.8 * 2**32), np.uint32(0.5 * 2**32))
    player, free = node.player, room.floor
    for box in node.boxes:
        free = bb.difference(free, bb.singleton(layout, box))
    for i in range(3):
        if i > 0:
            going &= words[2 * i] < np.uint32(2**31)
        here = bb.singleton(layout, player)
        free = bb.difference(free, here)
        around = bb.intersection(free, bb.union(*(bb.shift(layout, here, direction) for direction in bb.DIRECTIONS)))
        going &= ~bb.is_empty(around)
        player = jnp.where(going, random_cell(around, words[2 * i + 1]), player)
    return player


def _start(layout: Layout, room: Room, player: Cell, depth_limit: int, lanes: np.ndarray) -> Search:
    zero = jnp.zeros_like(player)
    root = Node(player, room.origins, jnp.zeros(room.origins.shape, bool))
    slot, tag = _hash(root)
    table = jnp.zeros((SLOTS, *player.shape), jnp.uint32).at[slot, lanes].set(tag)
    stack = jnp.zeros((depth_limit, *player.shape), jnp.int32)
    search = Search(root, zero, zero, zero, zero - 1, zero, zero + 1, root, zero, stack, table, tag, zero)
    return _look(layout, room, lanes, search)


def _look(layout: Layout, room: Room, lanes: np.ndarray, search: Search) -> Search:
    """Reads what the next trip needs; reading after writing spares XLA copies of the table and the stack."""
    seen = search.table.at[_attempt(layout, room, search).slot, lanes].get(mode="promise_in_bounds")
    above = search.stack.at[jnp.maximum(search.depth - 1, 0), lanes].get(mode="promise_in_bounds")
    return search._replace(seen=seen, above=above)


def _advance(layout: Layout, room: Room, depth_limit: int, lanes: np.ndarray, search: Search) -> Search:
    """One attempt to step: descend into a new state, or try the next slot or action, or go back."""
    attempt = _attempt(layout, room, search)
    running = search.depth >= 0
    back = running & (search.action == 4)
    open_ = attempt.legal & (search.depth < depth_limit) & (search.states < MAX_STATES)
    trying = running & ~back & open_
    descend = trying & (search.seen == 0)
    collide = trying & (search.seen != 0) & (search.seen != attempt.tag)

    swap = (attempt.pulled >= 0) & (attempt.pulled != search.last)
    was_moved = jnp.any(search.node.moved & _is_box(search.node, attempt.pulled), axis=0)
    entry = search.action | swap.astype(jnp.int32) << 2 | was_moved.astype(jnp.int32) << 3
    entry |= (attempt.pulled + 1) << 4 | (search.last + 1) << 18
    parent, parent_last, parent_swaps, parent_action = _undo(layout, search)
    pick = lambda down, up, stay: jnp.where(descend, down, jnp.where(back, up, stay))
    node = jax.tree.map(pick, attempt.child, parent, search.node)
    after = search._replace(
        node=node,
        depth=search.depth + jnp.where(descend, 1, jnp.where(back, -1, 0)),
        action=pick(0, parent_action + 1, search.action + jnp.where(collide, 0, 1)),
        probe=jnp.where(collide, search.probe + 1, 0),
        last=pick(jnp.where(attempt.pulled >= 0, attempt.pulled, search.last), parent_last, search.last),
        swaps=pick(search.swaps + swap, parent_swaps, search.swaps),
        states=search.states + descend,
        # An index out of bounds drops the write of a lane that does not descend.
        stack=search.stack.at[jnp.where(descend, search.depth, depth_limit), lanes].set(entry, mode="drop"),
        table=search.table.at[jnp.where(descend, attempt.slot, SLOTS), lanes].set(attempt.tag, mode="drop"),
    )
    score = jnp.where(_covered(room, node), 0, after.swaps * _distance(layout, node.boxes, room.origins))
    better = descend & (score > search.best_score)
    best = jax.tree.map(lambda new, old: jnp.where(better, new, old), node, search.best)
    after = after._replace(best=best, best_score=jnp.where(better, score, search.best_score))
    return _look(layout, room, lanes, after)


def _attempt(layout: Layout, room: Room, search: Search) -> Attempt:
    """The step that `search.action` takes."""
    player, boxes, moved = search.node
    row, column = player // layout.columns, player % layout.columns
    vertical, forward = search.action < 2, search.action & 1 == 1
    delta = jnp.where(vertical, layout.columns, 1) * jnp.where(forward, 1, -1)
    position, size = jnp.where(vertical, row, column), jnp.where(vertical, layout.rows, layout.columns)
    inside = jnp.where(forward, position < size - 1, position > 0)
    not_at_edge = jnp.where(forward, position > 0, position < size - 1)
    ahead = player + delta
    legal = inside & bb.contains(room.floor, ahead) & ~jnp.any(boxes == ahead, axis=0)
    dragged = (boxes == player - delta) & not_at_edge
    child = Node(ahead, jnp.where(dragged, player, boxes), moved | dragged)
    numbers = np.arange(1, boxes.shape[0] + 1, dtype=np.int32)[:, None]
    pulled = jnp.sum(jnp.where(dragged, numbers, 0), axis=0, dtype=jnp.int32) - 1
    slot, tag = _hash(child)
    return Attempt(legal, child, pulled, (slot + search.probe) % SLOTS, tag)


def _undo(layout: Layout, search: Search) -> tuple[Node, jax.Array, jax.Array, jax.Array]:
    """(parent, its `last`, its `swaps`, the action that was taken there), from the topmost entry of the stack."""
    player, boxes, moved = search.node
    entry = search.above
    action, pulled, last = entry & 3, (entry >> 4 & 0x3FFF) - 1, (entry >> 18 & 0x3FFF) - 1
    delta = jnp.where(action < 2, layout.columns, 1) * jnp.where(action & 1 == 1, 1, -1)
    dragged = _is_box(search.node, pulled)
    boxes = jnp.where(dragged, boxes - delta, boxes)
    moved = jnp.where(dragged, (entry >> 3 & 1).astype(bool), moved)
    return Node(player - delta, boxes, moved), last, search.swaps - (entry >> 2 & 1), action


def _is_box(node: Node, box: jax.Array) -> jax.Array:
    """bool[boxes, N]: marks the box of that number."""
    return np.arange(node.boxes.shape[0])[:, None] == box


def _distance(layout: Layout, boxes: Cell, origins: Cell) -> jax.Array:
    """int32[N]: the total Manhattan distance of the boxes from where they came from."""
    rows = jnp.abs(boxes // layout.columns - origins // layout.columns)
    columns = jnp.abs(boxes % layout.columns - origins % layout.columns)
    return jnp.sum(rows + columns, axis=0, dtype=jnp.int32)


def _covered(room: Room, node: Node) -> jax.Array:
    """bool[N]: the player or a box stands on a target."""
    covered = bb.contains(room.targets, node.player)
    for box in node.boxes:
        covered |= bb.contains(room.targets, box)
    return covered


def _hash(node: Node) -> tuple[jax.Array, jax.Array]:
    """(slot, tag) of a node; the same for every order of the boxes."""
    codes = (2 * node.boxes + node.moved).astype(jnp.uint32)
    player = node.player.astype(jnp.uint32)
    sums = [
        jnp.sum(_mix(codes + np.uint32(salt)), axis=0, dtype=jnp.uint32) + _mix(player + np.uint32(~salt & 0xFFFFFFFF))
        for salt in (0x9E3779B9, 0x7F4A7C15)
    ]
    return (_mix(sums[0]) % SLOTS).astype(jnp.int32), _mix(sums[1]) | 1


def _mix(word: jax.Array) -> jax.Array:
    """A bijection of uint32 that changes about half the bits for any change of one (MurmurHash3's finaliser)."""
    word = (word ^ (word >> 16)) * np.uint32(0x85EBCA6B)
    word = (word ^ (word >> 13)) * np.uint32(0xC2B2AE35)
    return word ^ (word >> 16)
