"""A list of SHA-256 digests beside a folder's files, to tell later whether any of them was changed, cut off or lost.

The list is in the format of coreutils, so that `sha256sum -c SHA256SUMS` checks a folder without this package. Its last
line is a comment with the digest of the lines before it, which guards the list itself.
"""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

NAME = "SHA256SUMS"
_SEAL = "# sha256 of the lines above: "
_READERS = 8  # hashing releases the interpreter lock, and network file systems like several readers


def write(folder: Path) -> None:
    """Writes the digests of all files below `folder` to `folder/SHA256SUMS`: whole or not at all, also if power fails.

    Raises:
      OSError: a file cannot be read, or the list cannot be written.
    """
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    names = [name for name in names if name != NAME]
    with ThreadPoolExecutor(_READERS) as pool:
        digests = list(pool.map(lambda name: _digest(folder / name), names))
    lines = "".join(f"{digest}  {name}\n" for digest, name in zip(digests, names, strict=True))
    unfinished = folder / f"{NAME}.tmp"
    with unfinished.open("w", encoding="utf-8", newline="\n") as file:
        file.write(f"{lines}{_SEAL}{_text_digest(lines)}\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(unfinished, folder / NAME)
    _sync_folder(folder)


def exists(folder: Path) -> bool:
    """Whether `write` has finished for this folder."""
    return (folder / NAME).is_file()


def damage(folder: Path) -> str | None:
    """One line naming what is wrong below `folder`, or None when every listed file is as it was written.

    Files that the list does not name are not looked at.
    """
    try:
        text = (folder / NAME).read_bytes().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return f"{NAME}: missing, so the save did not finish"
    except OSError as error:
        return f"{NAME}: cannot be read ({error.strerror})"
    lines, _, seal = text.rpartition(_SEAL)
    if seal != f"{_text_digest(lines)}\n":
        return f"{NAME}: contents were changed or cut off"
    entries = [line.split("  ", 1) for line in lines.splitlines()]
    with ThreadPoolExecutor(_READERS) as pool:
        found = list(pool.map(lambda entry: _file_damage(folder, entry[1], entry[0]), entries))
    problems = [problem for problem in found if problem]
    if not problems:
        return None
    return problems[0] if len(problems) == 1 else f"{problems[0]} (and {len(problems) - 1} more files)"


def _file_damage(folder: Path, name: str, expected: str) -> str | None:
    try:
        actual = _digest(folder / name)
    except FileNotFoundError:
        return f"{name}: missing"
    except OSError as error:
        return f"{name}: cannot be read ({error.strerror})"
    return None if actual == expected else f"{name}: contents were changed or cut off"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _text_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
