"""Starting a run of several processes, and letting the first process decide for all."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

_Value = TypeVar("_Value")
_BLOCK = 1024  # bytes; messages are padded to a multiple, so that few shapes are compiled


def initialize(
    coordinator_address: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> None:
    """Joins this process to a run of several, through `jax.distributed.initialize`.

    Under Slurm, Open MPI, Kubernetes (JobSet or an indexed Job) and on TPU pods call it without arguments. Elsewhere
    give all three, on every process. Call it before anything that touches a device.

    Args:
      coordinator_address: "host:port" of process 0, which all processes can reach.
      num_processes: how many processes take part.
      process_id: 0 … num_processes - 1, another one on each process.

    Raises:
      ValueError: some arguments are given and others not, one is out of range, or no cluster was found.
      RuntimeError: called twice or after a device was used, or the other processes were not reached in time.
    """
    given = (coordinator_address, num_processes, process_id)
    if any(value is not None for value in given):
        _check_arguments(coordinator_address, num_processes, process_id)
    if jax.distributed.is_initialized():
        raise RuntimeError("distributed.initialize was already called in this process: call it once, at the start")
    try:
        jax.distributed.initialize(coordinator_address, num_processes, process_id)
    except ValueError as error:
        raise ValueError(
            "no cluster was found (Slurm, Open MPI, Kubernetes or a TPU pod): give coordinator_address='host:port', "
            f"num_processes and process_id, in commands --coordinator-address HOST:PORT --num-processes N --process-id "
            f"I, or start one process alone ({error})"
        ) from error
    except jax.errors.JaxRuntimeError as error:
        raise RuntimeError(
            f"process {process_id} of {num_processes} could not join the run at {coordinator_address}: check that "
            f"every process was started and reaches that address ({str(error).splitlines()[0]})"
        ) from error


def agree(decide: Callable[[], _Value]) -> _Value:
    """Calls `decide` on process 0 and returns its result, or raises its error, on every process.

    Every process must call it at the same place. The result is pickled when there are several processes.
    """
    if jax.process_count() == 1:
        return decide()
    outcome: tuple[_Value | None, Exception | None] = (None, None)
    if jax.process_index() == 0:
        try:
            outcome = (decide(), None)
        except Exception as error:
            outcome = (None, error)
    value, failure = pickle.loads(_broadcast(pickle.dumps(outcome)))
    if failure is not None:
        raise failure
    return value


def fetched(tree: Any) -> Any:
    """The values as NumPy arrays on every process, of arrays too that lie on devices of several."""
    whole = lambda leaf: leaf if leaf.is_fully_addressable else multihost_utils.process_allgather(leaf, tiled=True)
    return jax.tree.map(lambda leaf: np.asarray(whole(leaf)), tree)


def _broadcast(message: bytes) -> bytes:
    length = int(multihost_utils.broadcast_one_to_all(np.int32(len(message))))
    padded = np.zeros(-(-length // _BLOCK) * _BLOCK, np.uint8)
    if jax.process_index() == 0:
        padded[:length] = np.frombuffer(message, np.uint8)
    return bytes(np.asarray(multihost_utils.broadcast_one_to_all(padded), np.uint8)[:length])


def _check_arguments(coordinator_address: str | None, num_processes: int | None, process_id: int | None) -> None:
    named = {"coordinator_address": coordinator_address, "num_processes": num_processes, "process_id": process_id}
    missing = [name for name, value in named.items() if value is None]
    if missing or coordinator_address is None or num_processes is None or process_id is None:
        raise ValueError(f"{' and '.join(missing)} must be given too: pass all of {', '.join(named)}, or none of them")
    host, colon, port = coordinator_address.rpartition(":")
    if not (host and colon and port.isdigit()):
        raise ValueError(f"coordinator_address must be 'host:port', got {coordinator_address!r}")
    if num_processes < 1:
        raise ValueError(f"num_processes must be at least 1, got {num_processes}")
    if not 0 <= process_id < num_processes:
        raise ValueError(f"process_id must be from 0 to num_processes - 1 = {num_processes - 1}, got {process_id}")
