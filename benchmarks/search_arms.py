"""The programs of the search suite: searches, bare steps, mctx, and forwards of a network, each as an arm.

A search is compiled as a user's call is, and called with new keys; all of its output is written. Its rate is in roots a
second; `in_nodes` makes it nodes a second with the nodes that the search itself counted, so that ended nodes, empty
slots and illegal candidates do not count.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from benchmarks.hlo import REST
from benchmarks.measure import Arm, Measurement, Program
from benchmarks.search_problems import ROOTS, Problem, lean
from jaxrl_agents import search

Run = Callable[[Any, jax.Array, Any, Any], tuple[Any, dict[str, jax.Array]]]  # (params, key, root, tasks)

KEYS = 8  # different ones that the calls of an arm cycle through


@dataclasses.dataclass(frozen=True)
class Search:
    """One mode with its options; `options` as keyword arguments of the mode."""

    mode: Callable[..., Any]
    options: dict[str, Any]

    def __call__(self, params: Any, key: jax.Array, root: Any, model: Any, tasks: Any) -> Any:
        return self.mode(params, key, root, model, tasks=tasks, **self.options)


def searching(search_: Search, base: Problem) -> Arm:
    """The search from the roots of a problem, compiled; items are roots."""

    def run(params: Any, key: jax.Array, root: Any, tasks: Any) -> Any:
        output = search_(params, key, root, base.model, tasks)
        return output, counted(output)

    return _calls(run, base.root(), base)


def mctx_gumbel(base: Problem, num_simulations: int, *, keep_tree: bool = False) -> Arm:
    """`mctx.gumbel_muzero_policy` on the leanest form of the problem; items are roots.

    Without `keep_tree` only the action and its weights are outputs.
    """
    import mctx

    searched = lean(base)

    def run(params: Any, key: jax.Array, root: Any, tasks: Any) -> Any:
        found = mctx.gumbel_muzero_policy((params, tasks), key, root, searched.model, num_simulations)
        return (found if keep_tree else (found.action, found.action_weights)), {}

    return _calls(run, searched.root(), searched, {"generated": num_simulations})


def mcts(num_simulations: int, max_depth: int | None = None) -> Search:
    """`search.mcts`, which calls what `mctx_gumbel` calls."""
    return Search(search.mcts, {"num_simulations": num_simulations, "max_depth": max_depth})


def our_mcts(base: Problem, num_simulations: int, max_depth: int | None = None) -> Arm:
    """`search.mcts` on exactly what `mctx_gumbel` searches; all of its output is kept."""
    return searching(mcts(num_simulations, max_depth), lean(base))


def counted(output: Any) -> dict[str, jax.Array]:
    """What a search counted for each root: part of its output, so it costs the program that is timed nothing."""
    counts = output.counts
    found = {name: getattr(counts, name) for name in ("generated", "unique", "wasted", "policy_forwards")}
    if isinstance(output.search_tree, search.BacktrackTree):
        found["triggered"] = (output.search_tree.steps_back > 0).sum(axis=(0, 2), dtype=jnp.int32)
    return found


def _calls(run: Run, root: Any, base: Problem, known: dict[str, float] | None = None) -> Arm:
    """Calls of `run`, which returns its output and what it counted for each root; `known` is the same every time."""
    keys = base.place(list(jax.random.split(jax.random.key(2), KEYS)))
    arguments = (base.place(root, ROOTS), base.tasks)
    program = _apart(run, base.mesh) if base.apart and base.mesh is not None else run
    start = time.perf_counter()
    executable = jax.jit(program).lower(base.params, keys[0], *arguments).compile()
    seconds = time.perf_counter() - start
    counts: list[dict[str, jax.Array]] = []  # read at the end: to fetch them costs as much as a per cent of a call

    def repeat(num_steps: int) -> None:
        for _ in range(num_steps):
            _, found = jax.block_until_ready(executable(base.params, keys[len(counts) % KEYS], *arguments))
            counts.append(found)

    def finish() -> dict[str, float]:
        means = jax.tree.map(lambda *values: float(np.mean(values)), *jax.device_get(counts))
        num_devices = 1 if base.mesh is None else base.mesh.size
        return {**(known or {}), **means, "bytes": num_devices * _bytes(executable)}

    return Arm(repeat, base.batch_size, seconds, finish)


def _apart(run: Run, mesh: Mesh) -> Run:
    """`run` on each device by itself, from its share of the roots and with a key of its own.

    An output stays where it is made: the devices' lie end to end along the first axis, whichever the roots are on.
    """

    def own(params: Any, key: jax.Array, root: Any, tasks: Any) -> Any:
        return run(params, jax.random.fold_in(key, jax.lax.axis_index(ROOTS)), root, tasks)

    same, share = PartitionSpec(), PartitionSpec(ROOTS)
    return jax.shard_map(own, mesh=mesh, in_specs=(same, same, share, share), out_specs=share, check_vma=False)


def _bytes(executable: Any) -> float:
    """The live bytes of a compiled program on one of its devices, by the compiler."""
    analysis = executable.memory_analysis()
    parts = ("argument", "output", "temp")
    return float(sum(getattr(analysis, f"{part}_size_in_bytes", 0) for part in parts))


def in_nodes(measurement: Measurement, counted: str = "generated") -> Measurement:
    """The measurement of a search in what it counted for each root, in place of roots."""
    return measurement if measurement.rates is None else measurement.times(measurement.summary[counted])


# What searches are compared with ------------------------------------------------------------------------------------


def bare_steps(base: Problem, copies: int, *, words: bool) -> Program:
    """The step alone, on `copies` rows for each root; items are steps.

    Actions are enumerated, row by row and step by step; with `words` each step draws one random word for each row,
    from which its action is drawn too.
    """
    rows = (copies, base.batch_size)
    numbers = jnp.arange(copies, dtype=jnp.uint32)[:, None] + jnp.zeros(base.batch_size, jnp.uint32)
    states = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (copies, *leaf.shape)), base.states)

    def body(constants: Any, carry: Any, key: jax.Array) -> Any:
        env, tasks = constants
        states, reward, ended, step = carry
        drawn = jax.random.bits(key, rows, jnp.uint32) if words else jnp.zeros(rows, jnp.uint32)
        chosen = drawn if words else numbers + step
        action = (chosen % np.uint32(env.num_actions)).astype(jnp.int32)
        move = jax.vmap(jax.vmap(env.live_transition), in_axes=(0, 0, 0, None))
        after = move(states, action, drawn, tasks)
        ended += (after.terminated | after.truncated).astype(jnp.int32)
        return after.state, reward + after.reward, ended, step + 1

    spread = base.place((states, jnp.zeros(rows), jnp.zeros(rows, jnp.int32)), None, ROOTS)
    carry = (*spread, base.place(jnp.uint32(0)))
    return Program(body, (base.env, base.tasks), carry, copies * base.batch_size)


def forwards(base: Problem, width: int) -> Program:
    """Forwards of the problem's policy on `width` observations for each root; items are observations."""
    observation = jax.jit(jax.vmap(base.env.observe))(base.states, base.tasks)
    observations = jnp.broadcast_to(observation, (width, *observation.shape))
    policy = base.model.policy

    def body(params: Any, carry: Any, key: jax.Array) -> Any:
        observations, logits, value = carry
        found = jax.vmap(policy, in_axes=(None, 0))(params, observations)
        return jnp.roll(observations, 1, axis=1), logits + found[0], value + found[1]  # no two forwards alike

    rows = (width, base.batch_size)
    carry = (observations, jnp.zeros((*rows, base.env.num_actions)), jnp.zeros(rows))
    return Program(body, base.params, carry, width * base.batch_size)


def search_program(search_: Search, base: Problem) -> Program:
    """A search in a loop, for `profile`; items are the nodes that the first search generates.

    Each search starts from the roots of the last one shifted by one, so that none can be taken out of the loop.
    """

    def once(root: Any, tasks: Any, params: Any, key: jax.Array) -> Any:
        with jax.named_scope(REST) if search_.mode is search.mcts else contextlib.nullcontext():
            return search_(params, key, root, base.model, tasks)

    def body(params: Any, carry: Any, key: jax.Array) -> Any:
        root, tasks, _ = carry
        output = once(root, tasks, params, key)
        return (*jax.tree.map(lambda leaf: jnp.roll(leaf, 1, axis=0), (root, tasks)), output)

    root = base.root()
    output = jax.jit(once)(root, base.tasks, base.params, jax.random.key(3))
    nodes = float(np.asarray(output.counts.generated).sum())
    return Program(body, base.params, (root, base.tasks, output), nodes)
