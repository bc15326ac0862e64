"""Task instances and banks of them: the level, map or goal that an episode is played on."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import json
import os
from collections.abc import Sequence
from typing import Any, ClassVar, Generic, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from envs_jax.arguments import as_integer, check_number
from envs_jax.files import replaced
from envs_jax.pytree import pytree_dataclass, static_field
from envs_jax.random_words import check_key

TaskT = TypeVar("TaskT", bound="Task")

FORMAT = 1  # of the files of task banks


class Task:
    """One task instance: a frozen pytree of arrays, every leaf per-instance.

    Subclasses are pytree dataclasses with at least `time_limit`: uint16[], the number of steps after which an episode
    is truncated (1 … 65,535). A subclass is known to `TaskBank.load` by its class name.

    A subclass whose arrays mean nothing elsewhere has a static field `made_for`: str, the size or catalogue that they
    were made for, which environments compare with their own; empty where that is not known.
    """

    time_limit: jax.Array
    made_for: str = ""
    incidental: ClassVar[tuple[str, ...]] = ("time_limit",)  # fields that do not make it another board

    _types: ClassVar[dict[str, type[Task]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        Task._types[cls.__name__] = cls


@pytree_dataclass
class TaskBank(Generic[TaskT]):
    """T task instances of one kind, stored together (axis 0 of every leaf).

    `len(bank)`, `bank[i]` (one instance; `i` may be traced), `bank[1:5]`, `bank[index_array]` (smaller banks) and the
    methods below are all there is to it. A bank is a pytree: pass it to jitted functions as an argument.
    """

    instances: TaskT  # every leaf [T, …]
    cumulative_weights: jax.Array | None = None  # float32[T], ending at 1; None where all tasks are equally likely
    checksum: str | None = static_field(default=None)  # of the catalogue that the tasks belong to; None without one

    def __len__(self) -> int:
        return jax.tree.leaves(self.instances)[0].shape[0]

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self._take(np.arange(len(self))[index])
        if np.ndim(index) == 0:
            return _rows(self.instances, self._checked(index))
        if isinstance(index, jax.core.Tracer):
            raise TypeError("a traced array of indices cannot select a bank; jax.vmap(lambda i: bank[i])(indices) can")
        index = np.asarray(index)
        if index.dtype == np.bool_:
            return self.filter(index)
        if index.ndim != 1 or (index.size and not np.issubdtype(index.dtype, np.integer)):
            raise TypeError(
                f"an array of indices must be integers [N] or bool[T]; got {index.dtype}{list(index.shape)}"
            )
        return self._take(index)

    def _checked(self, index: Any) -> Any:
        if isinstance(index, jax.core.Tracer) and jnp.issubdtype(index.dtype, jnp.integer):
            return index
        index = as_integer("index", index)
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} is out of range for a TaskBank of {len(self)} tasks")
        return index

    def _take(self, index: np.ndarray) -> TaskBank[TaskT]:
        if index.size == 0:
            raise ValueError("the selection leaves no task; a TaskBank holds at least one")
        if index.min() < -len(self) or index.max() >= len(self):
            raise IndexError(f"index {index.min()} … {index.max()} is out of range for a TaskBank of {len(self)} tasks")
        instances = _rows(self.instances, index)
        weights = None if self.cumulative_weights is None else self.weights[index]
        return make_bank(instances, weights=weights, checksum=self.checksum)

    @property
    def weights(self) -> np.ndarray:
        """float64[T]: the probability of each task under `sample`."""
        if self.cumulative_weights is None:
            return np.full(len(self), 1 / len(self))
        return np.diff(np.asarray(self.cumulative_weights, np.float64), prepend=0.0)

    def sample_index(self, word: jax.Array) -> jax.Array:
        """int32[]: the task that the random `word` (uint32[]) selects."""
        if self.cumulative_weights is None:
            return (word % np.uint32(len(self))).astype(jnp.int32)
        # 24 bits: what a float32 in [0, 1) can hold exactly.
        uniform = (word >> 8).astype(jnp.float32) * np.float32(2**-24)
        index = jnp.searchsorted(self.cumulative_weights, uniform, side="right")
        return jnp.minimum(index, len(self) - 1).astype(jnp.int32)

    def sample(self, key: jax.Array) -> TaskT:
        """One task, drawn uniformly or with the bank's weights."""
        check_key(key)
        return self[self.sample_index(jax.random.bits(key, dtype=jnp.uint32))]

    def split(self, fraction: float) -> tuple[TaskBank[TaskT], TaskBank[TaskT]]:
        """The first `fraction` of the tasks and the rest, both non-empty; `shuffle` first for a random split."""
        size = round(check_number("fraction", fraction, 0, 1) * len(self))
        if not 0 < size < len(self):
            raise ValueError(f"fraction={fraction} of {len(self)} tasks leaves one side empty")
        return self[:size], self[size:]

    def shuffle(self, key: jax.Array) -> TaskBank[TaskT]:
        """The same tasks in random order."""
        check_key(key)
        return self._take(np.asarray(jax.random.permutation(key, len(self))))

    def filter(self, mask: Any) -> TaskBank[TaskT]:
        """The tasks where `mask` (bool[T]) is True, in order."""
        mask = np.asarray(mask)
        if mask.shape != (len(self),) or mask.dtype != np.bool_:
            raise ValueError(f"mask must be bool[{len(self)}]; got {mask.dtype}{list(mask.shape)}")
        return self._take(np.flatnonzero(mask))

    @staticmethod
    def concatenate(banks: Sequence[TaskBank[TaskT]]) -> TaskBank[TaskT]:
        """One bank with the tasks of all `banks`, in order.

        The banks must hold the same kind and shape of task and belong to the same catalogue. Where any bank has
        weights, each bank keeps a share of the probability that is proportional to its size.
        """
        if isinstance(banks, TaskBank) or not all(isinstance(bank, TaskBank) for bank in banks):
            raise TypeError("banks must be a list of TaskBanks")
        if not banks:
            raise ValueError("banks is empty; concatenate needs at least one TaskBank")
        if len({bank.checksum for bank in banks}) != 1:
            raise ValueError("the banks belong to different catalogues; tasks of one catalogue mean nothing in another")
        layouts = [[(leaf.shape[1:], leaf.dtype) for leaf in jax.tree.leaves(bank.instances)] for bank in banks]
        kinds = {(type(bank.instances), bank.instances.made_for) for bank in banks}
        if len(kinds) != 1 or any(layout != layouts[0] for layout in layouts):
            raise ValueError("the banks hold tasks of different kinds or sizes; make them with the same environment")
        instances = _joined(*[bank.instances for bank in banks])
        weights = None
        if any(bank.cumulative_weights is not None for bank in banks):
            weights = np.concatenate([bank.weights * len(bank) for bank in banks])
        return make_bank(instances, weights=weights, checksum=banks[0].checksum)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the bank to one `.npz` file, replacing it only when the new one is complete (see `files.replaced`)."""
        header: dict[str, Any] = {"format": FORMAT, "type": type(self.instances).__name__, "checksum": self.checksum}
        header["made_for"] = self.instances.made_for
        arrays = _leaves_by_path(self.instances)
        header["dtypes"] = {name: str(array.dtype) for name, array in arrays.items()}
        if self.cumulative_weights is not None:
            arrays["cumulative_weights"] = np.asarray(self.cumulative_weights)
        with replaced(path) as partial, open(partial, "wb") as file:
            np.savez_compressed(file, header=np.array(json.dumps(header)), **arrays)  # type: ignore[arg-type]

    @staticmethod
    def load(path: str | os.PathLike[str]) -> TaskBank[Any]:
        """Reads a bank that `save` wrote; raises ValueError, naming the file, where it is not one."""
        try:
            return _read(path)
        except FileNotFoundError:
            raise
        except Exception as error:  # whatever a damaged archive makes zipfile, zlib, json or NumPy say
            raise ValueError(f"{os.fspath(path)}: not a TaskBank file ({type(error).__name__}: {error})") from error


# One program for all leaves: outside jit, every leaf would take several.
@functools.partial(jax.jit, inline=True)
def _rows(instances: TaskT, index: Any) -> TaskT:
    return jax.tree.map(lambda leaf: leaf[index], instances)


@jax.jit
def _joined(*instances: TaskT) -> TaskT:
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *instances)


def make_bank(instances: TaskT, *, weights: Any = None, checksum: str | None = None) -> TaskBank[TaskT]:
    """Makes a TaskBank.

    Args:
      instances: T tasks in one, every leaf [T, …].
      weights: T numbers ≥ 0, how often `sample` draws each task; None: equally often.
      checksum: of the catalogue that the tasks belong to, if any.

    Raises:
      TypeError, ValueError: `instances` are no tasks, or not T of them; a time limit is no uint16 or 0; bad weights.
    """
    _check_tasks(instances)
    sizes = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(instances)}
    if len(sizes) != 1 or sizes & {(), (0,)}:
        raise ValueError(f"every leaf of `instances` needs the same first axis of length ≥ 1; got {sorted(sizes)}")
    instances = jax.tree.map(jnp.asarray, instances)
    cumulative = None
    if weights is not None:
        weights = np.asarray(weights, np.float64)
        if weights.shape != next(iter(sizes)) or not np.isfinite(weights).all():
            raise ValueError(f"weights must be {next(iter(sizes))[0]} finite numbers; got shape {weights.shape}")
        if (weights < 0).any() or weights.sum() <= 0:
            raise ValueError("weights must be ≥ 0 and have a positive sum")
        cumulative = jnp.asarray(np.cumsum(weights) / weights.sum(), jnp.float32)
    return TaskBank(instances, cumulative, checksum)


def _check_tasks(instances: Any) -> None:
    if not isinstance(instances, Task):
        raise TypeError(f"instances must be a Task with stacked leaves; got {type(instances).__name__}")
    limit = instances.time_limit
    if not isinstance(limit, jax.Array | np.ndarray) or limit.dtype != np.uint16:
        raise TypeError(f"time_limit must be uint16[T]; got {getattr(limit, 'dtype', type(limit).__name__)}")
    if not isinstance(limit, jax.core.Tracer) and not np.all(limit):
        raise ValueError("a time_limit is 0; an episode has at least one step")


def stack_tasks(tasks: Sequence[TaskT]) -> TaskBank[TaskT]:
    """A TaskBank of single `tasks`."""
    if not tasks:
        raise ValueError("tasks is empty; a TaskBank holds at least one task")
    if len({(type(task), getattr(task, "made_for", "")) for task in tasks}) != 1:
        raise ValueError("tasks are of different kinds or sizes; make them with the same environment")
    return make_bank(jax.tree.map(lambda *leaves: np.stack([np.asarray(x) for x in leaves]), *tasks))


def _read(path: str | os.PathLike[str]) -> TaskBank[Any]:
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    header = json.loads(str(arrays.pop("header")))
    if header["format"] != FORMAT:
        raise ValueError(f"format {header['format']}; this version reads {FORMAT}")
    cumulative = arrays.pop("cumulative_weights", None)
    _check_dtypes(arrays, header["dtypes"])
    instances = _from_leaves(_task_type(header["type"]), arrays, header["made_for"])
    weights = None
    if cumulative is not None:
        weights = np.diff(cumulative.astype(np.float64), prepend=0.0)
    return make_bank(instances, weights=weights, checksum=header["checksum"])


def _task_type(name: str) -> type[Task]:
    """The class of that name. Environments are imported at their first use, which may be to come."""
    from envs_jax import registration  # here, since it imports this module

    for module in registration.modules():
        if name in Task._types:
            break
        importlib.import_module(module)
    if name not in Task._types:
        raise ValueError(f"no registered environment has tasks of type {name}; import the module that defines it first")
    return Task._types[name]


def _check_dtypes(arrays: dict[str, np.ndarray], expected: dict[str, str]) -> None:
    for name in expected.keys() | arrays.keys():
        if name not in arrays:
            raise ValueError(f"the array {name!r} is missing")
        if name not in expected:
            raise ValueError(f"the array {name!r} does not belong there")
        if str(arrays[name].dtype) != expected[name]:
            raise ValueError(f"the array {name!r} is {arrays[name].dtype}, not {expected[name]}")


def _leaves_by_path(tree: Any) -> dict[str, np.ndarray]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {f"task{jax.tree_util.keystr(path)}": np.asarray(leaf) for path, leaf in leaves}


def _from_leaves(task_type: type[TaskT], arrays: dict[str, np.ndarray], made_for: str) -> TaskT:
    """Rebuilds a task from the arrays of `_leaves_by_path`; tuples are the only nesting a task may have."""
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(task_type):  # type: ignore[arg-type]
        prefix = f"task.{field.name}"
        if prefix in arrays:
            fields[field.name] = arrays[prefix]
            continue
        count = sum(name.startswith(f"{prefix}[") for name in arrays)
        if count == 0 and field.default is not dataclasses.MISSING:
            continue
        if count == 0:
            raise KeyError(field.name)
        fields[field.name] = tuple(arrays[f"{prefix}[{i}]"] for i in range(count))
    if len(_leaves_by_path(task_type(**fields))) != len(arrays):
        raise KeyError("unexpected arrays")
    return task_type(**fields, **({"made_for": made_for} if made_for else {}))
