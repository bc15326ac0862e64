"""Sokoban on bitboards: rules, levels, generator, deadlocks, the environment and its pictures."""

from envs_jax.sokoban.board import Layout
from envs_jax.sokoban.env import Sokoban, make
from envs_jax.sokoban.fitting import fit
from envs_jax.sokoban.types import SokobanState, SokobanTask

__all__ = ["Layout", "Sokoban", "SokobanState", "SokobanTask", "fit", "make"]
