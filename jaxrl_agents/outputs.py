"""What commands write: the files and folders that flags name, standard output, and lines of progress."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from jaxrl_agents.arguments import told

READER_LEFT = 141  # the status of what SIGPIPE ends
_SECONDS_A_LINE = 5.0  # of progress without rich


def check_file(flag: str, path: Path) -> None:
    """Raises ArgumentError for a file that could not be written, before there is anything to write."""
    try:
        if not path.absolute().parent.is_dir():
            raise argparse.ArgumentError(None, f"{flag} {path}: there is no folder {path.parent}")
        if path.is_dir():
            raise argparse.ArgumentError(None, f"{flag} {path} is a folder; name a file")
        if path.exists() and not path.is_file():  # a pipe, say: opening it might wait for its reader
            writable = os.access(path, os.W_OK)
        else:  # as `replaced` will do it
            target, writable = path.resolve(), True
            tempfile.NamedTemporaryFile(dir=target.parent, prefix=f"{target.name}.", suffix=".partial").close()
    except OSError as error:
        raise argparse.ArgumentError(None, f"{flag} {path}: {error.strerror}; name another file") from None
    if not writable:
        raise argparse.ArgumentError(None, f"{flag} {path}: no permission to write there; name another file")


def check_folder(flag: str, path: Path) -> None:
    """Raises ArgumentError for a folder that is none, or that could not be made and written to; it is not made."""
    try:
        if path.exists() and not path.is_dir():
            raise argparse.ArgumentError(None, f"{flag} {path} is a file; name a folder")
        there = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())
        tempfile.NamedTemporaryFile(dir=there, suffix=".partial").close()
    except OSError as error:
        raise argparse.ArgumentError(None, f"{flag} {path}: {error.strerror}; name another folder") from None


def guarded(run: Callable[[], int], *, failed: int = 1) -> int:
    """Calls a command and returns its exit status.

    It is 141 where nobody reads the output any more, as in `… | head`, and `failed` after another error of the system,
    which is told in one line.
    """
    try:
        try:
            return run()
        finally:
            print(end="", flush=True)
    except BrokenPipeError:
        _unwritable_output()
        return READER_LEFT
    except OSError as error:
        output = _unwritable_output()
        print(f"error: {told(error) if output is None else f'standard output: {output.strerror}'}", file=sys.stderr)
        return failed


def _unwritable_output() -> OSError | None:
    """The error with which the output cannot be written; it is dropped then, as Python would try again at its end."""
    try:
        print(end="", flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return error
    return None


def counts_on_terminal(total: int, what: str) -> Callable[[int], None] | None:
    """What shows on a terminal how many of `total` are done, `what` being "levels generated", say; None elsewhere."""
    if not sys.stderr.isatty():
        return None
    show = lines_of_progress()
    return lambda done: show(f"{done:,} of {total:,} {what}")


def lines_of_progress() -> Callable[[str], None]:
    """A function that prints a line on how far the work is, every few seconds."""
    printed = time.monotonic()

    def show(text: str) -> None:
        nonlocal printed
        if time.monotonic() >= printed + _SECONDS_A_LINE:
            printed = time.monotonic()
            print(text, file=sys.stderr, flush=True)

    return show
