"""Searching more roots than fit in memory, a chunk at a time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_agents.search import arguments
from jaxrl_agents.search.types import BacktrackTree, RootFnOutput, SearchOutput, SearchTree

_PER_ROOT = ("invalid_actions", "node_budget")  # the options that may have a leading axis B


def chunked(
    mode: Callable[..., SearchOutput],
    params: Any,
    rng_key: jax.Array,
    root: RootFnOutput,
    model: Any,
    *,
    chunk_size: int,
    tasks: Any = None,
    **options: Any,
) -> SearchOutput:
    """`mode(params, rng_key, root, model, tasks=tasks, **options)` for `chunk_size` roots at a time.

    The output is that of one call with a key per root; only counts of rows spent on roots that had already finished
    differ. All chunks run one compiled program: the last is filled up with copies of the last root.

    Args:
      mode: `beam_search`, `best_of_n`, `lookahead`, `entropy_backtrack` or `mcts`. Under `mcts` each chunk draws from
        the key of its first root.
      params: as for the mode.
      rng_key: a typed key, or one per root, [B].
      root: leading axis B.
      model: as for the mode.
      chunk_size: the most roots searched at once; see `memory.estimate_bytes`.
      tasks: as for the mode.
      **options: the mode's own.
    """
    arguments.check_mode(mode)
    size = arguments.count("chunk_size", chunk_size)
    _, keys, _, _ = arguments.inputs(params, rng_key, root, model, tasks, options.get("invalid_actions"))
    arguments.node_budget(options.get("node_budget"), len(keys))
    tasks = arguments.unbanked(tasks)
    batch_size = len(keys)
    size = min(size, batch_size)
    shared = {name: value for name, value in options.items() if name not in _PER_ROOT or jnp.ndim(value) == 0}
    split = {name: jnp.asarray(value) for name, value in options.items() if name not in shared}
    whole = (keys, root, tasks, split)
    outputs = []
    for start in range(0, batch_size, size):
        rows = np.minimum(np.arange(start, start + size), batch_size - 1)
        keys, part, tasks_part, split_part = _rows_of(whole, rows)
        outputs.append(mode(params, keys, part, model, tasks=tasks_part, **shared, **split_part))
    return _joined(outputs, batch_size)


@jax.jit  # one program, where its operations alone would be as many as there are leaves
def _rows_of(tree: Any, rows: jax.Array) -> Any:
    return jax.tree.map(lambda leaf: leaf[rows], tree)


@partial(jax.jit, static_argnames=("batch_size",))
def _joined(outputs: list[SearchOutput], batch_size: int) -> SearchOutput:
    def join(path: Any, *leaves: jax.Array) -> jax.Array:
        axis = 1 if _is_time_major(outputs[0].search_tree, path) else 0
        joined = jnp.concatenate(leaves, axis=axis)
        return jax.lax.slice_in_dim(joined, 0, batch_size, axis=axis)

    return jax.tree_util.tree_map_with_path(join, *outputs)


def _is_time_major(tree: Any, path: Any) -> bool:
    """Whether a leaf of a SearchOutput is [K, B, …]."""
    names = [getattr(entry, "name", None) for entry in path]
    ours = isinstance(tree, SearchTree | BacktrackTree) and names[0] == "search_tree"
    return ours and names[1] not in ("final_values", "final_returns", "final_nodes", "path_lengths")
