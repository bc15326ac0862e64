"""`python -m jaxrl_agents solve`, run as users run it."""

import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from envs_jax.sokoban import levels
from jaxrl_agents import cli, solve_command
from tests.reference import sokoban as reference

EASY = "#######\n#@ $ .#\n#     #\n#  *  #\n#######\n"
STUCK = "; 1\n\n#######\n#@    #\n#   $ #\n#    $#\n# ..  #\n#######\n"  # a box on a wall without a target
LONG = (
    "####################################\n#@ $                              .#\n#                                  #\n"
    + "#" * 36
    + "\n"
)


def solve(capsys, *arguments):
    """(exit status, output, errors) of the command."""
    status = cli.main(["solve", *map(str, arguments)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.fixture
def folder(tmp_path):
    """Levels of two sizes in two files."""
    (tmp_path / "a.xsb").write_text(EASY + "\n" + LONG + "\n")
    (tmp_path / "b.txt").write_text(EASY)
    return tmp_path


def replay(text, plan):
    """Whether a plan in LURD notation solves a level, capitals at the pushes."""
    level = reference.parse_level(text)
    actions = levels.lurd_to_actions(plan).tolist()
    states = reference.play(level, actions)
    pushes = [a.boxes != b.boxes for a, b in itertools.pairwise(states)]
    return reference.is_solved(level, states[-1]) and pushes == [letter.isupper() for letter in plan]


def test_plans_of_a_folder_replay(capsys, folder):
    out = folder / "plans.lurd"
    status, output, errors = solve(capsys, folder, "--out", out)
    assert status == 0 and errors == ""
    plans = out.read_text().splitlines()
    assert len(plans) == 3 and plans[0] == plans[2]
    assert all(replay(text, plan) for text, plan in zip((EASY, LONG, EASY), plans, strict=True))
    assert "3 levels" in output and "solved     3 of 3 levels with the fewest pushes" in output
    assert f"pushes     {31 + 2 * 2:,}; median 2, most 31 a level" in output
    moves = sum(map(len, plans))
    assert f"moves      {moves}; median" in output
    assert re.search(r"nodes +[\d,]+ expanded, [\d,]+ generated\n", output)
    assert re.search(r"time +\d+\.\d\d s and \d+\.\d s for compilation; [\d,]+ levels/s\n", output)
    assert not (folder / "plans.lurd.partial").exists()


def test_levels_given_up_are_named_with_the_reason(capsys, tmp_path):
    file = tmp_path / "levels.xsb"
    file.write_text(f"{EASY}\n{STUCK}\n{LONG}\n")
    status, output, _ = solve(capsys, file, "--out", tmp_path / "plans", "--mode", "satisficing", "--max-nodes", 5)
    plans = (tmp_path / "plans").read_text().splitlines()
    assert status == 0 and "solved     1 of 3 levels" in output
    assert f"gave up on {file}:9: proven unsolvable\n" in output
    assert f"gave up on {file}:16: more than 5 nodes (--max-nodes)\n" in output
    assert replay(EASY, plans[0])
    assert plans[1:] == [f"; {file}:9: proven unsolvable", f"; {file}:16: more than 5 nodes (--max-nodes)"]


def test_generated_levels(capsys):
    status, output, _ = solve(capsys, "--generate", 5, "--size", 7, 7, "--boxes", 2, "--seed", 3)
    assert status == 0 and "solved     5 of 5 levels" in output


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        ("#####\n#@$?#\n#####\n", [], "levels.txt:2: the glyph in column 4"),
        ("#####\n#@$ #\n#####\n", [], "levels.txt:1: the level has 1 boxes ($ or *) and 0 targets"),
        ("nothing", [], "levels.txt: the file holds no level"),
        (EASY, ["--out", "missing/plans"], "--out missing/plans: there is no folder missing"),
        (EASY, ["--generate", "5"], "name level files or folders, or give --generate N, but not both"),
        (EASY, ["--max-nodes", "0"], "max_nodes=0; it must be positive"),
        (EASY, ["--devices", "0"], "--devices 0: at least 1 is needed"),
        (EASY, ["--devices", "4096"], "--devices 4096: there are"),
    ],
)
def test_bad_input_is_one_clear_line(capsys, tmp_path, text, arguments, message):
    file = tmp_path / "levels.txt"
    file.write_text(text)
    status, output, errors = solve(capsys, file, *arguments)
    assert status == 1 and "solved" not in output
    assert errors.startswith("error: ") and message in errors and errors.count("\n") == 1


def test_missing_input(capsys, tmp_path):
    status, _, errors = solve(capsys, tmp_path / "missing.txt")
    assert status == 1 and "missing.txt" in errors and errors.count("\n") == 1
    status, _, errors = solve(capsys)
    assert status == 1 and "--generate N" in errors
    with pytest.raises(SystemExit) as error:
        solve(capsys, "x.txt", "--mode", "best")
    assert error.value.code == 2


def test_progress_is_shown_on_a_terminal(capsys, monkeypatch, folder):
    pytest.importorskip("rich")
    lines = []
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    from rich.progress import Progress

    update = Progress.update
    monkeypatch.setattr(
        Progress, "update", lambda self, task, **fields: lines.append(fields) or update(self, task, **fields)
    )
    status, _, _ = solve(capsys, folder)
    assert status == 0 and lines[-1]["completed"] == 3
    assert re.fullmatch(r"3 of 3 solved, 0 given up, [\d,]+ nodes, [\d,]+ levels/s", lines[-1]["description"])


def test_devices_change_no_number(tmp_path):
    """In a process of its own: the number of CPU devices is fixed when JAX starts."""
    from envs_jax.sokoban.board import Layout
    from envs_jax.sokoban.generator import generate

    layout = Layout(7, 7)
    file = tmp_path / "levels.txt"
    levels.write(file, layout, generate(jax.random.key(0), 130, layout=layout, num_boxes=2))
    pushes = {}
    for devices in (1, 2):
        out = tmp_path / f"plans{devices}"
        command = [
            sys.executable,
            "-m",
            "jaxrl_agents",
            "solve",
            str(file),
            "--devices",
            str(devices),
            "--out",
            str(out),
        ]
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2], env=_environment()
        )
        assert f"130 levels, {devices} cpu device" in done.stdout
        plans = out.read_text().splitlines()
        pushes[devices] = [sum(map(str.isupper, plan)) for plan in plans]
    assert pushes[1] == pushes[2] and min(pushes[1]) >= 4 and len(pushes[1]) == 130


def _environment():
    cache = {"JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir or ""}
    return {**os.environ, **cache, "JAX_PLATFORMS": "cpu", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3"}


def test_sizes_are_searched_apart():
    found = levels.parse(f"{EASY}\n{LONG}\n{EASY}")
    names, batches = solve_command.batches_of(found)
    assert names == ["text:1", "text:7", "text:12"]
    assert [batch.index.tolist() for batch in batches] == [[0, 2], [1]]
    assert [(batch.layout.height, batch.layout.width) for batch in batches] == [(5, 7), (4, 36)]
    assert np.asarray(batches[0].tasks.instances.player).tolist() == [0, 0]
