"""The plain A* in C++ that the solver is compared with: compiled when it is wanted, run in a process of its own."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from pathlib import Path

import numpy as np

from benchmarks.measure import Unavailable

SOURCE = Path(__file__).parent / "native" / "astar.cpp"
COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-std=c++20", "-O3", "-march=native")
NAME = "C++ A*"
UNSOLVABLE, GIVEN_UP = -1, -2  # in place of a number of pushes


@dataclasses.dataclass(frozen=True)
class Answers:
    """What the program found for T levels."""

    pushes: np.ndarray  # int[T]: the fewest, or UNSOLVABLE or GIVEN_UP
    expanded: np.ndarray  # int[T]: states
    seconds: float  # of all searches, reading not included


def build(folder: Path) -> Path:
    """Compiles the program into a folder.

    Raises:
      Unavailable: there is no compiler, or it does not take the program.
    """
    compiler = next((path for path in map(shutil.which, COMPILERS) if path), None)
    if compiler is None:
        raise Unavailable(f"no C++ compiler: none of {', '.join(COMPILERS)} is on the PATH; install one, such as g++")
    program = folder / "astar"
    command = [compiler, *FLAGS, "-o", str(program), str(SOURCE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Unavailable(f"{compiler} does not compile {SOURCE.name} (it needs C++20): {done.stderr.strip()[:300]}")
    return program


def solve(program: Path, levels: Path, max_nodes: int) -> Answers:
    """The fewest pushes of every level of a file, with at most `max_nodes` expansions each.

    Raises:
      RuntimeError: with the last words of a program that fails.
    """
    command = [str(program), str(max_nodes), str(levels)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{program.name} ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    *lines, totals = done.stdout.splitlines()
    table = np.array([line.split() for line in lines], np.int64).reshape(-1, 2)
    return Answers(table[:, 0], table[:, 1], float(totals.split()[-1]))
