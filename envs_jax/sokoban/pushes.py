"""What the player can reach and push: the view of Sokoban in which one step is one push."""

from __future__ import annotations

import jax

from envs_jax.sokoban import board as bb
from envs_jax.sokoban.board import Board, Cell, Layout


def reachable(layout: Layout, blocked: Board, player: Cell) -> Board:
    """The cells that the player can walk to without pushing.

    Args:
      layout: the size of the board.
      blocked: walls and boxes.
      player: the player's cell.
    """
    free = bb.complement(layout, blocked)

    def grow(carry: tuple[Board, Board]) -> tuple[Board, Board]:
        reached, _ = carry
        neighbours = [bb.shift(layout, reached, direction) for direction in bb.DIRECTIONS]
        return bb.union(reached, bb.intersection(bb.union(*neighbours), free)), reached

    start = bb.singleton(layout, player)
    none = tuple(word & 0 for word in start)
    reached, _ = jax.lax.while_loop(lambda carry: ~bb.equal(*carry), grow, (start, none))
    return reached
