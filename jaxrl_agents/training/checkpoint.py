"""Checkpoints that are verified before they are trusted.

Orbax writes the arrays, in the background and from all processes. This class adds what Orbax lacks: digests of all
files, written when a save is complete; a check of them before a restore; and the way back to the newest checkpoint that
is whole. Orbax alone restores a flipped bit as if it were data.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import shutil
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import jax

from jaxrl_agents.training import manifest, state_leaves
from jaxrl_agents.training.distributed import agree

_LOG = logging.getLogger(__name__)
_UNFINISHED = ".orbax-checkpoint-tmp"  # in the names of folders that Orbax is writing
_CAUSES = {errno.ENOSPC: "no space is left", errno.EDQUOT: "the quota is used up", errno.EFBIG: "a file got too large"}
_CAUSES |= {errno.EACCES: "access is denied", errno.EROFS: "the file system is read-only"}


class CheckpointError(OSError):
    """A checkpoint could not be written, or none could be restored."""


@dataclass(frozen=True)
class Checkpoint:
    """A restored checkpoint."""

    step: int  # the step it was saved with
    state: Any  # with the target's structure and shardings
    metadata: dict[str, Any]  # what was passed to `save`


class Checkpointer:
    """Saves and restores training states below one folder, a subfolder a step.

    With several processes all of them make the same calls in the same order, and the folder is one that all can reach.
    """

    def __init__(self, directory: str | os.PathLike[str], *, keep_last: int = 3, keep_every: int | None = None) -> None:
        """Writes nothing yet.

        Args:
          directory: a path of a mounted file system; it is made by the first save.
          keep_last: how many of the newest checkpoints stay.
          keep_every: checkpoints whose step is a multiple of it stay too; None keeps no others.

        Raises:
          ValueError: an argument is out of range, or `directory` is a URL.
        """
        if "://" in os.fspath(directory):
            raise ValueError(f"directory must be a path of a mounted file system, got the URL {os.fspath(directory)!r}")
        if keep_last < 1:
            raise ValueError(f"keep_last must be at least 1, got {keep_last}")
        if keep_every is not None and keep_every < 1:
            raise ValueError(f"keep_every must be at least 1 or None, got {keep_every}")
        self.directory = Path(directory).absolute()
        self._keep_last, self._keep_every = keep_last, keep_every
        self._orbax = _orbax_checkpointer()
        self._background = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: tuple[int, Future[None]] | None = None
        self._damaged: set[int] = set()

    def __enter__(self) -> Checkpointer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Waits for the save that is under way and frees the threads.

        Raises:
          CheckpointError: that save failed.
        """
        try:
            self.wait()
        finally:
            self._background.shutdown()
            self._orbax.close()

    def save(self, step: int, state: Any, metadata: Mapping[str, Any] | None = None) -> None:
        """Copies `state` from the devices and returns; files are written in the background.

        The arrays may be donated or overwritten at once. The save before must be complete, so this waits for it.

        Args:
          step: number of the checkpoint, ≥ 0.
          state: a pytree of JAX arrays (sharded or not), typed keys, NumPy arrays and Python numbers.
          metadata: anything that JSON can hold, such as the configuration and the metrics.

        Raises:
          CheckpointError: this save could not start, or the save before failed.
          TypeError: a leaf of `state`, or `metadata`, is of a type that cannot be saved.
          ValueError: a whole checkpoint of this step is there already, or an argument is out of range.
        """
        import orbax.checkpoint as ocp

        if step < 0:
            raise ValueError(f"step must be at least 0, got {step}")
        arrays, record = state_leaves.encode(state)
        document = {"leaves": record, "metadata": _plain_json(metadata or {})}
        self.wait()
        replace = agree(lambda: self._prepare(step))
        try:
            items = ocp.args.Composite(state=ocp.args.StandardSave(arrays), document=ocp.args.JsonSave(document))
            self._orbax.save(self._folder(step), args=items, force=replace)
        except Exception as error:
            raise self._failure(step, error) from error
        self._pending = step, self._background.submit(self._complete, step)

    def wait(self) -> None:
        """Waits until the last save is complete.

        Raises:
          CheckpointError: it failed; earlier checkpoints are as they were.
        """
        if self._pending is None:
            return
        (step, future), self._pending = self._pending, None
        try:
            future.result()
        except Exception as error:
            raise self._failure(step, error) from error

    def steps(self) -> list[int]:
        """The steps of all complete checkpoints, increasing; whether their files are whole is not looked at."""
        return [step for step in self._folders() if manifest.exists(self._folder(step))]

    def damage(self, step: int) -> str | None:
        """One line naming the step and the file that is not as it was written, or None when all are."""
        if not self._folder(step).is_dir():
            return f"checkpoint {step} is not in {self.directory}"
        problem = manifest.damage(self._folder(step))
        return f"checkpoint {step} in {self.directory} is damaged: {problem}" if problem else None

    def newest_good(self) -> int | None:
        """The newest step whose files are all as they were written; None without one. Warns of each newer one."""
        self.wait()
        good, warnings = agree(self._find_newest_good)
        for line in warnings:
            _LOG.warning(line)
        return good

    def metadata(self, step: int) -> dict[str, Any]:
        """What `save` was given as metadata at `step`.

        Raises:
          CheckpointError: the checkpoint is missing or damaged.
        """
        self._require_good(step)
        return self._document(step)["metadata"]

    def restore(self, target: Any, step: int | None = None) -> Checkpoint:
        """Reads a checkpoint after checking its digests.

        Args:
          target: the state's structure: arrays, or `jax.ShapeDtypeStruct`s (`jax.eval_shape`), with the shardings that
            the restored arrays are to have, on any mesh; without sharding they go to the first device.
          step: the checkpoint to read; None is the newest one whose files are whole, with a warning of one line for
            each newer one that is damaged.

        Raises:
          CheckpointError: the checkpoint of `step` is missing or damaged, or no whole one is left.
          ValueError: `target` does not fit what was saved; the leaves are named.
        """
        if step is None:
            step = self.newest_good()
            if step is None:
                raise CheckpointError(
                    f"no whole checkpoint is in {self.directory}: start a new run, or name its folder"
                )
        else:
            self._require_good(step)
        document = self._document(step)
        state_leaves.check(target, document["leaves"])
        arrays = self._read(step, target, document["leaves"])
        return Checkpoint(step, state_leaves.decode(arrays, document["leaves"], target), document["metadata"])

    def _folder(self, step: int) -> Path:
        return self.directory / str(step)

    def _folders(self) -> list[int]:
        if not self.directory.is_dir():
            return []
        names = (path.name for path in self.directory.iterdir() if path.is_dir())
        return sorted(int(name) for name in names if name.isdecimal() and name == str(int(name)))

    def _interrupted(self) -> list[Path]:
        """Folders of saves that were cut short."""
        found = self.directory.glob(f"*{_UNFINISHED}*") if self.directory.is_dir() else ()
        return sorted(path for path in found if path.name.split(".")[0].isdecimal())

    def _remove_interrupted(self) -> None:
        for path in self._interrupted():
            shutil.rmtree(path)

    def _prepare(self, step: int) -> bool:
        """Makes room for a save; returns whether a damaged checkpoint of the same step is to be replaced."""
        folder = self._folder(step)
        if manifest.exists(folder) and manifest.damage(folder) is None:
            raise ValueError(
                f"checkpoint {step} is in {self.directory} already: use another folder, or remove it first"
            )
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._remove_interrupted()
        except OSError as error:
            raise self._failure(step, error) from error
        return folder.exists()

    def _complete(self, step: int) -> None:
        """In the background: waits for Orbax on all processes, then seals the checkpoint and removes old ones."""
        try:
            self._orbax.wait_until_finished()
        except Exception:
            if jax.process_index() == 0:
                with contextlib.suppress(OSError):  # the next save tries again
                    self._remove_interrupted()  # a full disk gets its space back
            raise
        if jax.process_index() != 0:
            return
        manifest.write(self._folder(step))
        self._damaged.discard(step)
        good = [other for other in self.steps() if other not in self._damaged]
        newest = {*good[-self._keep_last :], step}
        for other in good:
            if other not in newest and (self._keep_every is None or other % self._keep_every):
                self._remove(other)

    def _remove(self, step: int) -> None:
        """Removes an old checkpoint; where that fails, the save that it makes room for is good all the same."""
        try:
            shutil.rmtree(self._folder(step))
        except OSError as error:
            cause = _cause(error) or _first_line(error)
            _LOG.warning(f"old checkpoint {step} could not be removed: {self._folder(step)}: {cause}")

    def _find_newest_good(self) -> tuple[int | None, list[str]]:
        found: list[tuple[int, str]] = []  # step and what is wrong with it
        good = None
        for step in reversed(self._folders()):
            problem = self.damage(step)
            if problem is None:
                good = step
                break
            self._damaged.add(step)
            found.append((step, f"{problem}; the newest good one before it is used"))
        for path in self._interrupted():
            step = int(path.name.split(".")[0])
            found.append((step, f"checkpoint {step} was cut short while it was saved: {path}"))
        return good, [line for step, line in sorted(found, reverse=True) if good is None or step > good]

    def _require_good(self, step: int) -> None:
        self.wait()
        problem = agree(lambda: self.damage(step))
        if problem is not None:
            raise CheckpointError(f"{problem}; checkpoints here: {agree(self.steps)}")

    def _document(self, step: int) -> dict[str, Any]:
        import orbax.checkpoint as ocp

        return self._orbax.restore(
            self._folder(step), args=ocp.args.Composite(document=ocp.args.JsonRestore())
        ).document

    def _read(self, step: int, target: Any, record: dict[str, dict[str, Any]]) -> dict[str, Any]:
        import orbax.checkpoint as ocp

        arrays = ocp.args.StandardRestore(state_leaves.abstract_arrays(target, record))
        try:
            return self._orbax.restore(self._folder(step), args=ocp.args.Composite(state=arrays)).state
        except Exception as error:
            raise CheckpointError(
                f"checkpoint {step} in {self.directory} is whole but could not be read: {_first_line(error)}"
            ) from error

    def _failure(self, step: int, error: Exception) -> CheckpointError:
        cause = _cause(error)
        known = cause or getattr(error, "errno", None)
        advice = ". Free space or permit writing there, or name another folder" if known else ""
        return CheckpointError(
            f"checkpoint {step} was not saved to {self.directory}: {cause or _first_line(error)}; earlier checkpoints "
            f"are as they were{advice}"
        )


def _orbax_checkpointer() -> Any:
    try:
        import orbax.checkpoint as ocp
    except ImportError as error:
        raise ImportError('checkpoints need Orbax: pip install "envs-jax[agents]"') from error
    logging.getLogger("absl").addFilter(_is_news)
    return ocp.AsyncCheckpointer(ocp.CompositeCheckpointHandler())


def _is_news(record: logging.LogRecord) -> bool:
    """False for the tracebacks that Orbax prints of errors which it also raises, and `Checkpointer` reports."""
    return not (record.exc_info and "orbax" in record.pathname)


def _plain_json(metadata: Mapping[str, Any]) -> Any:
    try:
        return json.loads(json.dumps(metadata))
    except (TypeError, ValueError) as error:
        raise TypeError(f"metadata must be what JSON can hold: {error}") from error


def _cause(error: Exception) -> str | None:
    """What went wrong on the disk, where it is one of the usual things."""
    number = getattr(error, "errno", None)
    return next((text for code, text in _CAUSES.items() if number == code or os.strerror(code) in str(error)), None)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
