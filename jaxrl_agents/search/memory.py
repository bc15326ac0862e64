"""How much memory a search needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxrl_agents.search.arguments import unbanked
from jaxrl_agents.search.beam import beam_search
from jaxrl_agents.search.entropy_backtrack import entropy_backtrack
from jaxrl_agents.search.lookahead import lookahead
from jaxrl_agents.search.nodes import small_int
from jaxrl_agents.search.types import RootFnOutput, SearchOutput


def estimate_bytes(mode: Callable[..., SearchOutput], root: RootFnOutput, *, tasks: Any = None, **options: Any) -> int:
    """The bytes that `mode(…, root, …, tasks=tasks, **options)` keeps live, in closed form; not the model's own.

    With E bytes of embedding and A actions a node, W slots, K turns and M candidates, per root:
      * the arguments: embedding, 4 A + 4 for logits and value, tasks;
      * the history and the tree made from it, 2 K W (12 + p + l + a L + c) + K W: parents, lengths, actions and
        candidates in the smallest integers (p, l, a and c bytes), reward, log-probability and score in 4 each;
      * the frontier, W (E + 4 A + 21);
      * the candidates, C (E + 9), with C = W M;
      * for `lookahead` instead (C + P) (E + 29), with the simulated nodes of the last level, C, and their parents, P;
      * for `entropy_backtrack` also 10 a node of the tree, and (E + 4 A + 9) (I + 1) W to step back to, I being the
        iterations.

    Args:
      mode: `beam_search`, `best_of_n`, `lookahead` or `entropy_backtrack`.
      root: with the batch size that is meant; only shapes and dtypes are used (jax.ShapeDtypeStruct will do).
      tasks: as for the mode.
      **options: as for the mode.
    """
    batch_size, num_actions = root.prior_logits.shape
    node = _row_bytes(root.embedding)
    width = options.get("beam_width", 1) if mode in (beam_search, lookahead) else options.get("num_rollouts", 1)
    turns, length = options["num_turns"], options.get("max_turn_actions", 1)
    if mode is entropy_backtrack and options.get("free_backtrack", False):
        turns += options.get("max_retries", 3) * min(options.get("steps_back", 3), turns)
    parent = small_int(turns if mode is entropy_backtrack else width).itemsize
    number = (options.get("num_candidates") or num_actions) if mode in (beam_search, lookahead) else 1
    candidate = 0 if mode is entropy_backtrack else small_int(width * number).itemsize
    entry = 12 + parent + small_int(length).itemsize + length * small_int(num_actions).itemsize + candidate
    per_root = node + 4 * num_actions + 4 + _row_bytes(unbanked(tasks))
    per_root += (2 * entry + 1) * turns * width
    per_root += width * (node + 4 * num_actions + 21)
    per_root += _candidate_bytes(mode, width, num_actions, node, options)
    if mode is entropy_backtrack:
        per_root += width * (10 * turns + (node + 4 * num_actions + 9) * (turns + 1))
    return batch_size * per_root


def _candidate_bytes(
    mode: Callable[..., SearchOutput], width: int, num_actions: int, node: int, options: dict[str, Any]
) -> int:
    """Bytes of the candidates of a root that exist at once."""
    number = options.get("num_candidates") or num_actions
    if mode is lookahead:
        full = options.get("continuation") == "full"
        leaves = width * number ** (options["depth"] if full else 1)
        return (leaves + (leaves // number if full else leaves)) * (node + 29)
    return width * (number if mode is beam_search else 1) * (node + 9)


def _row_bytes(tree: Any) -> int:
    """Bytes of one root's row of every leaf."""
    return sum(int(np.prod(leaf.shape[1:])) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def compiled_bytes(
    mode: Callable[..., SearchOutput], params: Any, rng_key: jax.Array, root: RootFnOutput, model: Any, **options: Any
) -> int:
    """The compiler's own figure for `mode(params, rng_key, root, model, **options)`: arguments, outputs, temporaries.

    Compiles the search without running it. `model` must be a pytree (`from_env`, `Model`) or a function.
    """
    tasks = unbanked(options.pop("tasks", None))
    run = lambda params, rng_key, root, tasks: mode(params, rng_key, root, model, tasks=tasks, **options)
    analysis: Any = jax.jit(run).lower(params, rng_key, root, tasks).compile().memory_analysis()
    return analysis.argument_size_in_bytes + analysis.output_size_in_bytes + analysis.temp_size_in_bytes
