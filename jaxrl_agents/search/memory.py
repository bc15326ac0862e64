"""How much memory a search needs."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxrl_agents.search import arguments
from jaxrl_agents.search.arrays import leading_axis
from jaxrl_agents.search.beam import beam_options, beam_search
from jaxrl_agents.search.best_of_n import best_of_n, best_of_n_options
from jaxrl_agents.search.entropy_backtrack import backtrack_options, entropy_backtrack
from jaxrl_agents.search.lookahead import lookahead, lookahead_options
from jaxrl_agents.search.mcts import POLICIES, mcts, mcts_options
from jaxrl_agents.search.nodes import small_int
from jaxrl_agents.search.proposals import SMALL
from jaxrl_agents.search.types import RootFnOutput, SearchOutput

_CHECKS: dict[Callable[..., SearchOutput], Callable[..., Any]] = {  # of the options of each mode but `mcts`
    best_of_n: best_of_n_options,
    beam_search: beam_options,
    lookahead: lookahead_options,
    entropy_backtrack: backtrack_options,
}


def estimate_bytes(mode: Callable[..., SearchOutput], root: RootFnOutput, *, tasks: Any = None, **options: Any) -> int:
    """The bytes that `mode(…, root, …, tasks=tasks, **options)` keeps live, in closed form; not the model's own.

    With E bytes of embedding and A actions a node, W slots (N rollouts), K turns, M candidates and L actions a turn,
    per root:
      * the arguments: embedding, 4 A + 4 for logits and value, tasks;
      * the history, K W r with r = 12 + p + l + a L + c: reward, log-probability and score, and parents, lengths,
        actions and candidates in the smallest integers (p, l, a and c bytes);
      * beside it the larger of the tree made from it, K W (r + 5) + 8 W, and of what a turn works on:
          - the frontier, W (E + 4 A + 21), and unless actions are proposed 12 A W for their probabilities, 4 A W where
            they are enumerated; with more than 16 actions, enumerated or not, the larger of 8 A W and the next line;
          - the candidates, W M c(1) with c(1) = 2 E + 17, and 4 ⌈E/4⌉ each to compare their state keys; for turns of
            several actions, which are played one by one, c(L) = 2 E + 7 A + 50 + 5 L, without 7 A where they come
            from `propose`.
    `lookahead` works instead on
          - continuation="policy": W M (c(L) + E + 16 D); where L is 1, 11 A − 12 more each, and 3 E is 36 at least;
          - continuation="full", with the C simulated nodes of the last level and their P parents: with the bootstrap
            C (5 A + 2 E) + P (E + 36), where 2 E is 24 at least; else P (E + 12 A + 24) + 14 C (4 A where
            actions are enumerated) and E for each of the C with a function as score, of the P without. For turns of
            several actions C c(L).
    `entropy_backtrack`, with I iterations in place of K, has c = 0 but 5 more in r, keeps (E + 4 A + 8 + b) (I + 1) W
    to step back to, b being the bytes of `steps_back` rows, and E + 4 A + 8 + b a slot where it does.
    `mcts` has, beside the arguments, (S + 1) (E + 24 A + 20) for mctx's tree, (S + 1) max(8 A + 8, 60) to search it,
    and 12 A + 32 for masks, noise and the output.

    On CPUs the compiler's own figure is at most 1.2 times as much, and seldom less than 0.75 times. A plain
    recurrent_fn keeps logits and value with a node, so its E is 4 A + 4 larger than that of `root.embedding`.

    Args:
      mode: `beam_search`, `best_of_n`, `lookahead`, `entropy_backtrack` or `mcts`.
      root: with the batch size that is meant; only shapes and dtypes are used (jax.ShapeDtypeStruct will do).
      tasks: as for the mode; () for a model of your own that searches states of an environment without them.
      **options: as for the mode.

    Raises:
      TypeError: an option that the mode does not have, or one is missing.
      ValueError: another mode, or no `tasks` although the root is made of states of an environment.
      Both: what the mode refuses of its options, as it does itself.
    """
    arguments.check_root(root)
    tasks = _tasks(root, tasks)
    options = _options(mode, root, options)
    batch_size, num_actions = root.prior_logits.shape
    node = _row_bytes(root.embedding)
    per_root = node + 4 * num_actions + 4 + _row_bytes(tasks)
    if mode is mcts:
        of_node = node + 24 * num_actions + 20 + max(8 * num_actions + 8, 60)
        per_root += (options["num_simulations"] + 1) * of_node + 12 * num_actions + 32
    else:
        per_root += _search_bytes(mode, num_actions, node, options)
    return batch_size * per_root


def _tasks(root: RootFnOutput, tasks: Any) -> Any:
    """The task instances [B, …], without which `from_env` does not search; a root does not tell its model."""
    state = root.embedding
    if tasks is None and dataclasses.is_dataclass(state) and hasattr(state, "steps"):
        raise ValueError(
            f"tasks is None, and root.embedding is a {type(state).__name__}: a model made by from_env keeps its tasks "
            "too; give tasks as for the search, or tasks=() for a model of your own that takes none"
        )
    tasks = arguments.unbanked(tasks)
    leading_axis("tasks", tasks, len(root.prior_logits))
    return tasks


def _options(mode: Callable[..., SearchOutput], root: RootFnOutput, given: dict[str, Any]) -> dict[str, Any]:
    """The options of a mode with its defaults, checked as the mode checks them."""
    if mode not in (*_CHECKS, mcts):
        names = ", ".join(known.__name__ for known in (*_CHECKS, mcts))
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
    if options["invalid_actions"] is not None:
        arguments.check_mask(options["invalid_actions"], root.prior_logits.shape)
    if mode is mcts:
        mcts_options(**{name: value for name, value in options.items() if name != "invalid_actions"})
    else:
        _CHECKS[mode](root, **options)
    return options


def _search_bytes(mode: Callable[..., SearchOutput], num_actions: int, node: int, options: dict[str, Any]) -> int:
    """Bytes of the history, and of the larger of the tree and a turn's work, for a root; `node` is E."""
    width = options["beam_width" if mode in (beam_search, lookahead) else "num_rollouts"]
    turns, length = options["num_turns"], options["max_turn_actions"]
    backtracks = mode is entropy_backtrack
    if backtracks and options["free_backtrack"]:
        turns += options["max_retries"] * min(options["steps_back"], turns)
    parent = small_int(turns if backtracks else width).itemsize
    number = (options["num_candidates"] or num_actions) if mode in (beam_search, lookahead) else 1
    more = 5 if backtracks else small_int(width * number).itemsize  # steps back and entropies, or candidates
    record = 12 + parent + small_int(length).itemsize + length * small_int(num_actions).itemsize + more
    work = width * (node + 4 * num_actions + 21)
    logits = 0 if options.get("propose") else width * num_actions
    below = _lookahead_bytes(num_actions, node, width, number, options) if mode is lookahead else 0
    if mode is not lookahead:
        key = 4 * -(-node // 4) if options.get("deduplicate") else 0
        below = width * number * (_candidate_bytes(num_actions, node, options) + key)
    work += max(8 * logits, below) if num_actions > SMALL else (4 if _enumerates(options) else 12) * logits + below
    if backtracks:
        saved = node + 4 * num_actions + 8 + parent * min(options["steps_back"], turns)
        work += width * saved * (turns + 2)
    return turns * width * record + max(turns * width * (record + 5) + 8 * width, work)


def _candidate_bytes(num_actions: int, node: int, options: dict[str, Any]) -> int:
    """c(L): of a candidate while its turn is played."""
    length = options["max_turn_actions"]
    if length == 1:
        return 2 * node + 17
    return 2 * node + 50 + 5 * length + (0 if options.get("propose") else 7 * num_actions)


def _lookahead_bytes(num_actions: int, node: int, width: int, number: int, options: dict[str, Any]) -> int:
    """Bytes of the candidates and what is simulated below them."""
    candidate = _candidate_bytes(num_actions, node, options)
    if options["continuation"] != "full":
        levels = node + 16 * options["depth"]
        if options["max_turn_actions"] == 1:
            levels += 11 * num_actions - 12 + max(36 - 3 * node, 0)
        return width * number * (candidate + levels)
    leaves = width * number ** options["depth"]
    if options["max_turn_actions"] > 1:
        return leaves * candidate
    parents = leaves // number
    if options["score"] == "return" and options["bootstrap"]:
        return leaves * (5 * num_actions + max(2 * node, 24)) + parents * (node + 36)
    drawn = (4 if _enumerates(options) else 12) * num_actions
    embeddings = parents + (leaves if callable(options["score"]) else parents)
    return parents * (drawn + 24) + 14 * leaves + embeddings * node


def _enumerates(options: dict[str, Any]) -> bool:
    return options.get("candidates") == "enumerate"


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
