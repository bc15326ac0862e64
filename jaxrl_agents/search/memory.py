"""How much memory a search needs."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxrl_agents.search import arguments
from jaxrl_agents.search.beam import beam_search
from jaxrl_agents.search.best_of_n import best_of_n
from jaxrl_agents.search.entropy_backtrack import entropy_backtrack
from jaxrl_agents.search.lookahead import lookahead
from jaxrl_agents.search.mcts import POLICIES, mcts
from jaxrl_agents.search.nodes import small_int
from jaxrl_agents.search.types import RootFnOutput, SearchOutput

_MODES = (best_of_n, beam_search, lookahead, entropy_backtrack, mcts)
_COUNTS = (
    "num_turns", "beam_width", "num_rollouts", "num_candidates", "max_turn_actions", "depth", "steps_back",
    "max_retries", "num_simulations",
)  # fmt: skip


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
        iterations;
      * for `mcts`, beside the arguments, (S + 1) (E + 24 A + 20) for mctx's tree, (S + 1) (8 A + 8) to search it, and
        12 A + 32 for masks, noise and the output. (With two actions the compiler keeps up to a third more.)

    Args:
      mode: `beam_search`, `best_of_n`, `lookahead`, `entropy_backtrack` or `mcts`.
      root: with the batch size that is meant; only shapes and dtypes are used (jax.ShapeDtypeStruct will do).
      tasks: as for the mode.
      **options: as for the mode.

    Raises:
      TypeError: an option that the mode does not have, or one is missing.
      ValueError: another mode, or a number that is out of range.
    """
    arguments.check_root(root)
    options = _options(mode, options)
    batch_size, num_actions = root.prior_logits.shape
    node = _row_bytes(root.embedding)
    per_root = node + 4 * num_actions + 4 + _row_bytes(arguments.unbanked(tasks))
    if mode is mcts:
        per_root += (options["num_simulations"] + 1) * (node + 32 * num_actions + 28) + 12 * num_actions + 32
    else:
        per_root += _search_bytes(mode, num_actions, node, options)
    return batch_size * per_root


def _options(mode: Callable[..., SearchOutput], given: dict[str, Any]) -> dict[str, Any]:
    """The options of a mode with its defaults, checked as far as memory depends on them."""
    if mode not in _MODES:
        names = ", ".join(known.__name__ for known in _MODES)
        raise ValueError(f"mode must be one of {names}; got {getattr(mode, '__name__', repr(mode))}")
    parameters = inspect.signature(mode).parameters.values()
    known = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.name != "tasks"}
    options = known | given
    unknown = {name: value for name, value in given.items() if name not in known}
    if mode is mcts:
        arguments.check_policy_options(options["policy"], POLICIES, unknown)
    elif unknown:
        raise TypeError(f"{mode.__name__} has no option {next(iter(unknown))!r}; it has {', '.join(known)}")
    missing = [name for name, value in options.items() if value is inspect.Parameter.empty]
    if missing:
        raise TypeError(f"{mode.__name__} needs {', '.join(missing)}")
    for name in _COUNTS:
        if options.get(name) is not None:
            arguments.count(name, options[name])
    return options


def _search_bytes(mode: Callable[..., SearchOutput], num_actions: int, node: int, options: dict[str, Any]) -> int:
    """Bytes of the history, the frontier and the candidates of a root; `node` is E."""
    width = options["beam_width" if mode in (beam_search, lookahead) else "num_rollouts"]
    turns, length = options["num_turns"], options["max_turn_actions"]
    if mode is entropy_backtrack and options["free_backtrack"]:
        turns += options["max_retries"] * min(options["steps_back"], turns)
    parent = small_int(turns if mode is entropy_backtrack else width).itemsize
    number = (options["num_candidates"] or num_actions) if mode in (beam_search, lookahead) else 1
    candidate = 0 if mode is entropy_backtrack else small_int(width * number).itemsize
    entry = 12 + parent + small_int(length).itemsize + length * small_int(num_actions).itemsize + candidate
    total = (2 * entry + 1) * turns * width
    total += width * (node + 4 * num_actions + 21)
    if mode is entropy_backtrack:
        total += width * (10 * turns + (node + 4 * num_actions + 9) * (turns + 1))
    if mode is lookahead:
        full = options["continuation"] == "full"
        leaves = width * number ** (options["depth"] if full else 1)
        return total + (leaves + (leaves // number if full else leaves)) * (node + 29)
    return total + width * number * (node + 9)


def _row_bytes(tree: Any) -> int:
    """Bytes of one root's row of every leaf."""
    return sum(int(np.prod(leaf.shape[1:])) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def compiled_bytes(
    mode: Callable[..., SearchOutput], params: Any, rng_key: jax.Array, root: RootFnOutput, model: Any, **options: Any
) -> int:
    """The compiler's own figure for `mode(params, rng_key, root, model, **options)`: arguments, outputs, temporaries.

    Compiles the search without running it. `model` must be a pytree (`from_env`, `Model`) or a function.
    """
    tasks = arguments.unbanked(options.pop("tasks", None))
    run = lambda params, rng_key, root, tasks: mode(params, rng_key, root, model, tasks=tasks, **options)
    analysis: Any = jax.jit(run).lower(params, rng_key, root, tasks).compile().memory_analysis()
    return analysis.argument_size_in_bytes + analysis.output_size_in_bytes + analysis.temp_size_in_bytes
