"""Files that are replaced at once, by complete ones."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replaced(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields where to write the new content of `path`, which takes its place at the end of the block.

    After an error in the block the file is as before, and nothing else is left in its folder. A file that is there
    keeps its mode, and a link to it stays a link. What is no regular file, such as a pipe or a device, cannot be
    replaced: the block writes to it itself.

    Raises:
      IsADirectoryError: `path` is a folder.
      FileNotFoundError: its folder does not exist.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"path={str(path)!r} is a folder; give the name of a file in it")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path={str(path)!r}: there is no folder {str(path.parent)!r}; make it first")
    if path.exists() and not path.is_file():
        yield path
        return
    path = path.resolve() if path.is_symlink() else path
    mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else None
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}.partial")
    # Nobody may read the new content who could not read the old.
    os.close(os.open(partial, os.O_CREAT | os.O_EXCL, 0o666 if mode is None else 0o600))
    try:
        yield partial
        if mode is not None:
            os.chmod(partial, mode)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
