"""The compiled programs of a search: made in the background, so that nobody has to wait for XLA to the end."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from envs_jax import bitboard as bb
from jaxrl_agents.search.best_first import core
from jaxrl_agents.search.best_first.types import Config, Starts

AXIS = "levels"  # of the mesh
_THREAD = "compilation of a search"

Compilation = Future[Any]


def compile_programs(config: Config, mesh: Mesh) -> tuple[Compilation, Compilation, Compilation, Compilation]:
    """`core`'s (blank_tables, prepare, start, advance) for all devices; each searches its own levels at its own pace.

    Every array has a leading axis of devices but the numbers that `prepare` and `advance` take.
    """
    blank, prepare, _ = _compile_tables(_of_tables(config), mesh)
    return blank, prepare, *_compile_search(config, mesh)


def _of_tables(config: Config) -> Config:
    """Without what grows, on which the tables do not depend: their program, the largest, is made only once."""
    return dataclasses.replace(
        config, mode="optimal", num_lanes=0, num_children=0, num_classes=0, num_pages=0, log_size=0, num_sets=0
    )


@lru_cache(maxsize=16)
def _compile_tables(config: Config, mesh: Mesh) -> tuple[Compilation, Compilation, Any]:
    """(blank_tables, prepare, what they return)."""
    on_all = lambda leaf: jnp.broadcast_to(leaf, (mesh.size, *leaf.shape))
    blank = jax.jit(lambda: jax.tree.map(on_all, core.blank_tables(config)), out_shardings=split_over(mesh)).lower()
    tables, part = _results(blank, mesh), jax.ShapeDtypeStruct((), np.int32)
    prepare = _on_devices(partial(core.prepare, config), mesh, 2, 1, donate_argnums=1)
    return in_background(blank), in_background(prepare.lower(_starts(config, mesh), tables, part)), tables


@lru_cache(maxsize=16)
def _compile_search(config: Config, mesh: Mesh) -> tuple[Compilation, Compilation]:
    """(start, advance)."""
    starts, wanted = _starts(config, mesh), _levels(config, mesh, np.bool_)
    tables = _compile_tables(_of_tables(config), mesh)[-1]
    start = _on_devices(partial(core.start, config), mesh, 3).lower(tables, starts, wanted)
    advance = _on_devices(partial(core.advance, config), mesh, 2, 2, donate_argnums=1)
    number = jax.ShapeDtypeStruct((), np.int32)
    return in_background(start), in_background(advance.lower(tables, _results(start, mesh), number, number))


def _results(lowered: Any, mesh: Mesh) -> Any:
    """What a program on devices returns, as shapes and dtypes."""
    placed = lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=split_over(mesh))
    return jax.tree.map(placed, lowered.out_info)


def _on_devices(function: Callable[..., Any], mesh: Mesh, num_split: int, num_same: int = 0, **options: Any) -> Any:
    """The function on each device, jitted: `num_split` arguments are split over the devices, others are the same."""

    def on_one(*arguments: Any) -> Any:
        own = jax.tree.map(lambda leaf: leaf[0], arguments[:num_split])
        return jax.tree.map(lambda leaf: leaf[None], function(*own, *arguments[num_split:]))

    split, same = PartitionSpec(AXIS), PartitionSpec()
    specs = (split,) * num_split + (same,) * num_same
    return jax.jit(jax.shard_map(on_one, mesh=mesh, in_specs=specs, out_specs=split, check_vma=False), **options)


def split_over(mesh: Mesh) -> NamedSharding:
    """A leading axis of devices."""
    return NamedSharding(mesh, PartitionSpec(AXIS))


def _starts(config: Config, mesh: Mesh) -> Starts:
    board = bb.from_words(config.layout, partial(_levels, config, mesh, np.uint32))
    return Starts(board, board, board, _levels(config, mesh, config.layout.cell_dtype))


def _levels(config: Config, mesh: Mesh, dtype: Any, *words: int) -> Any:
    return jax.ShapeDtypeStruct((mesh.size, config.num_levels, *words), dtype, sharding=split_over(mesh))


def in_background(lowered: Any) -> Compilation:
    """Compiles in a thread, for which Python waits before it ends: to end under XLA might crash."""
    compilation: Compilation = Future()

    def compile_it() -> None:
        try:
            compilation.set_result(lowered.compile())
        except BaseException as error:
            compilation.set_exception(error)

    threading.Thread(target=compile_it, name=_THREAD).start()
    return compilation


def is_compiling() -> bool:
    """Whether some compilation still runs, wanted or not."""
    return any(thread.name == _THREAD for thread in threading.enumerate())
