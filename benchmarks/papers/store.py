"""The finished runs of a study, kept in a folder: an interrupted study goes on from there."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.machine import fingerprint, versions
from envs_jax.files import replaced

T = TypeVar("T")

PACKAGES = ("jax", "jaxlib", "numpy", "flax", "optax")  # whose versions may change numbers


class Store:
    """A file for every finished run, in the folder `runs`.

    A file is written at once, with the digest of its content and all that its numbers depend on: the paper, `study`,
    which all runs have in common, the versions of `PACKAGES`, the backend, the number of cores, and the run's own
    settings.

    Raises:
      ValueError: the folder has what another paper's study left there; it says what to do.
    """

    def __init__(self, folder: Path, paper: str, **study: Any) -> None:
        self.folder = folder / "runs"
        if self.folder.exists() and not self.folder.is_dir():
            raise NotADirectoryError(f"{self.folder}: a file is where the runs are kept; give --out another folder")
        for path in (folder / "results.json", *sorted(self.folder.glob("*.json"))[:1]):
            if (other := _paper_of(path)) not in (None, paper):
                raise ValueError(f"{path} is of another study, {other}; give --out another folder")
        self.folder.mkdir(exist_ok=True)
        machine, installed = fingerprint(), versions()
        self.study = {"paper": paper, **study, "backend": machine["backend"], "cores": machine["cores"]}
        self.study |= {name: installed.get(name) for name in PACKAGES}

    def load(self, name: str, settings: Mapping[str, Any], unpack: Callable[[Any], T]) -> T | None:
        """What `unpack` makes of the run that was kept under that name, or None where there is none.

        `unpack` raises KeyError, TypeError or ValueError where it does not find all that it looks for.

        Raises:
          ValueError: the file is damaged, or of a study with other settings or of another version; it says what to do.
        """
        path = self._path(name)
        if not path.exists():
            return None
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            content, expected = document["content"], document["sha256"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is no file of a run ({error}); remove it, and it will be run again") from error
        if digest(content) != expected:
            raise ValueError(f"{path} is damaged: its digest is wrong; remove it, and it will be run again")
        asked, found = {**self.study, **settings}, content.get("settings", {})
        if set(found) != set(asked):
            raise ValueError(f"{path} was written by another version of the study; give --out another folder")
        others = [f"{key} {found[key]}, not {value}" for key, value in asked.items() if found[key] != value]
        if others:
            raise ValueError(
                f"{path} is of a study with other settings: {'; '.join(others)}; give --out another folder"
            )
        try:
            return unpack(content["run"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path} was written by another version of the study ({error}); give --out another folder"
            ) from error

    def save(self, name: str, settings: Mapping[str, Any], run: Any) -> None:
        """Keeps a finished run, as JSON holds it."""
        content = {"settings": {**self.study, **settings}, "run": run}
        with replaced(self._path(name)) as partial:
            document = {"sha256": digest(content), "content": content}
            partial.write_text(json.dumps(document, allow_nan=False) + "\n", encoding="utf-8")

    def _path(self, name: str) -> Path:
        return self.folder / (re.sub(r"[^\w.+-]+", "-", name.replace("=", "")) + ".json")


def _paper_of(path: Path) -> str | None:
    """Whose results or run a file holds; None where there is none, or nothing that says it."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return document["paper"] if "paper" in document else document["content"]["settings"]["paper"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def digest(content: Any) -> str:
    """SHA-256 of what JSON holds, in hexadecimal; the order of keys does not matter."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
