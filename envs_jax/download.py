"""Downloads of public data: files of known size and SHA-256, resumed where an earlier run stopped."""

from __future__ import annotations

import concurrent.futures
import errno
import hashlib
import http.client
import os
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import NamedTuple, TextIO

BOXOBAN_COMMIT = "78011d8c86ad423bfb2e1005012393b4c3c24409"
BOXOBAN_URL = f"https://raw.githubusercontent.com/google-deepmind/boxoban-levels/{BOXOBAN_COMMIT}"
BOXOBAN_SPLITS = ("unfiltered/train", "unfiltered/valid", "unfiltered/test", "medium/train", "medium/valid", "hard")

ATTEMPTS = 4
PAUSE = 1.0  # seconds before the second attempt; doubles with each further one
TIMEOUT = 30.0  # seconds without an answer
WORKERS = 8  # files at a time: each is small, and most of its time is latency
CHUNK = 1 << 16
TRANSIENT = (urllib.error.URLError, http.client.HTTPException, ssl.SSLError, ConnectionError, TimeoutError)


class DownloadError(RuntimeError):
    """A download that cannot be completed; the message names the file or address and the way out."""


class RemoteFile(NamedTuple):
    """A file as its publisher has it."""

    path: str  # relative to the address and to the folder, with forward slashes
    size: int  # bytes
    sha256: str  # hexadecimal


class Progress:
    """Counts what has arrived and shows it, on one line that is rewritten, where `stream` is a terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._shown = stream.isatty()
        self._lock = threading.Lock()
        self._bytes = self._total_bytes = self._files = self._total_files = 0
        self._next = 0.0

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown and self._total_files:
            self._show()
            self._stream.write("\n")

    def start(self, files: Iterable[RemoteFile]) -> None:
        """Says what is to come."""
        sizes = [file.size for file in files]
        self._total_bytes, self._total_files = sum(sizes), len(sizes)

    def advance(self, num_bytes: int, num_files: int = 0) -> None:
        """Says that bytes have arrived (or, negative, must come again) or files are complete; from any thread."""
        with self._lock:
            self._bytes += num_bytes
            self._files += num_files
            if self._shown and time.monotonic() >= self._next:
                self._next = time.monotonic() + 0.1
                self._show()

    def warn(self, message: str) -> None:
        """Shows a message on a line of its own."""
        with self._lock:
            self._stream.write(("\r\x1b[K" if self._shown else "") + f"{message}\n")

    def _show(self) -> None:
        self._stream.write(
            f"\r\x1b[K{self._bytes / 1e6:,.1f} / {self._total_bytes / 1e6:,.1f} MB"
            f"   {self._files:,} / {self._total_files:,} files"
        )
        self._stream.flush()


def boxoban_files(splits: Sequence[str]) -> list[RemoteFile]:
    """The level files of `splits` (of BOXOBAN_SPLITS) at BOXOBAN_COMMIT, with the licence and the README."""
    unknown = [split for split in splits if split not in BOXOBAN_SPLITS]
    if unknown:
        raise ValueError(f"split={unknown[0]!r} is not one of {', '.join(BOXOBAN_SPLITS)}")
    lines = resources.files("envs_jax").joinpath("boxoban_files.txt").read_text().splitlines()
    files = [RemoteFile(path, int(size), sha256) for sha256, size, path in map(str.split, lines)]
    return [file for file in files if "/" not in file.path or os.path.dirname(file.path) in splits]


def download(files: Sequence[RemoteFile], url: str, folder: Path, progress: Progress) -> int:
    """Brings `files` from `url` into `folder` and returns how many had to be fetched.

    A file that is there and has its checksum is left alone. Others arrive as `<name>.partial`, which a later run
    resumes, are checked, and then take their place at once.

    Raises:
      DownloadError: the server cannot be reached or refuses, what it sends has another checksum, or the folder
        cannot be written. Files completed so far stay.
    """
    missing = [file for file in files if not _is_complete(folder / file.path, file, progress)]
    progress.start(missing)
    pool = concurrent.futures.ThreadPoolExecutor(WORKERS)
    try:
        for task in [pool.submit(_fetch, file, url, folder, progress) for file in missing]:
            task.result()
    finally:
        pool.shutdown(cancel_futures=True)
    return len(missing)


def _is_complete(path: Path, file: RemoteFile, progress: Progress) -> bool:
    if not path.exists():
        return False
    if path.stat().st_size == file.size and _sha256(path) == file.sha256:
        return True
    progress.warn(f"{path} differs from the official file and will be replaced")
    return False


def _fetch(file: RemoteFile, url: str, folder: Path, progress: Progress) -> None:
    path = folder / file.path
    partial = path.with_name(f"{path.name}.partial")
    address = f"{url}/{file.path}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _transfer_persistently(address, partial, file, progress)
        actual = _sha256(partial)
        if actual != file.sha256:
            partial.unlink()
            raise DownloadError(
                f"{address}: the checksum is wrong (SHA-256 {actual}, expected {file.sha256}). The file was deleted; "
                "run the command again, and if that does not help, the server or a proxy changes the data"
            )
        os.replace(partial, path)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise DownloadError(f"{path}: the disk is full. Free some space and run the command again") from error
        raise DownloadError(f"{path}: cannot be written ({error})") from error
    progress.advance(0, num_files=1)


def _transfer_persistently(address: str, partial: Path, file: RemoteFile, progress: Progress) -> None:
    """Transfers, and tries again after failures that may pass."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _transfer(address, partial, file, progress)
        except urllib.error.HTTPError as error:
            problem: Exception = error
            if error.code != 429 and error.code < 500:
                raise DownloadError(f"{address}: the server answers {error.code} {error.reason}") from error
        except TRANSIENT as error:
            problem = error
        if attempt < ATTEMPTS:
            time.sleep(PAUSE * 2 ** (attempt - 1))
    raise DownloadError(
        f"{address}: no download after {ATTEMPTS} attempts ({problem}). Check the network connection and run the "
        "command again: it resumes where it stopped"
    ) from problem


def _transfer(address: str, partial: Path, file: RemoteFile, progress: Progress) -> None:
    """Appends to `partial` what it lacks."""
    start = partial.stat().st_size if partial.exists() else 0
    if start >= file.size:
        if start > file.size:
            partial.unlink()
            return _transfer(address, partial, file, progress)
        return progress.advance(file.size)
    request = urllib.request.Request(address, headers={"Range": f"bytes={start}-"} if start else {})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
        # A server may ignore the range and send everything.
        resumed = response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        size = start if resumed else 0
        progress.advance(size)
        try:
            with open(partial, "ab" if resumed else "wb") as output:
                while size <= file.size and (chunk := response.read(CHUNK)):
                    output.write(chunk)
                    size += len(chunk)
                    progress.advance(len(chunk))
            if size < file.size:
                raise ConnectionError(f"the connection broke after {size:,} of {file.size:,} bytes")
        except Exception:
            progress.advance(-size)
            raise


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
