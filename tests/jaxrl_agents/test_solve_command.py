"""`python -m jaxrl_agents solve`, run as users run it."""

import itertools
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import jax
import numpy as np
import pytest

from envs_jax.host_cores import available_cores
from envs_jax.sokoban import levels
from jaxrl_agents import cli, outputs, solve_command
from tests.reference import sokoban as reference

pytestmark = pytest.mark.usefixtures("quick_compilation")

ROWS = "#     #\n#     #\n#######\n"
# Of the size and number of boxes of the generated levels below: one program for all of them.
EASY = f"#######\n#@ $ .#\n#     #\n#  *  #\n{ROWS}"
HARDER = f"#######\n#@$  .#\n#     #\n# $  .#\n{ROWS}"
STUCK = f"; 1\n\n#######\n#@  $ #\n#     #\n# $ ..#\n{ROWS}"  # a box on a wall without a target
# On a board that held both, EASY would take more than twice the words that it needs: searched apart.
LONG = f"""{"#" * 24}
#@ ${" " * 18}.#
#{" " * 22}#
{"#" * 24}
"""


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
    assert f"pushes     {19 + 2 * 2}; median 2, most 19 a level" in output
    moves = sum(map(len, plans))
    assert f"moves      {moves}; median" in output
    assert re.search(r"nodes +[\d,]+ expanded, [\d,]+ generated\n", output)
    assert re.search(r"time +\d+\.\d\d s and \d+\.\d s for compilation; [\d,]+ levels/s\n", output)
    assert not (folder / "plans.lurd.partial").exists()


def test_levels_given_up_are_named_with_the_reason(capsys, tmp_path):
    file = tmp_path / "levels.xsb"
    file.write_text(f"{EASY}\n{STUCK}\n{HARDER}\n")
    status, output, _ = solve(capsys, file, "--out", tmp_path / "plans", "--mode", "satisficing", "--max-nodes", 5)
    plans = (tmp_path / "plans").read_text().splitlines()
    assert status == 0 and "solved     1 of 3 levels" in output
    assert f"gave up on {file}:11: proven unsolvable\n" in output
    assert f"gave up on {file}:19: 5 nodes expanded (--max-nodes)\n" in output
    assert replay(EASY, plans[0])
    assert plans[1:] == [f"; {file}:11: proven unsolvable", f"; {file}:19: 5 nodes expanded (--max-nodes)"]


def test_generated_levels(capsys):
    status, output, _ = solve(capsys, "--generate", 5, "--size", 7, 7, "--boxes", 2, "--seed", 3)
    assert status == 0 and "solved     5 of 5 levels" in output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("#####\n#@$?#\n#####\n", "levels.txt:2: the glyph in column 4"),
        ("#####\n#@$ #\n#####\n", "levels.txt:1: the level has 1 boxes ($ or *) and 0 targets"),
        ("nothing", "levels.txt: the file holds no level"),
        ("", "levels.txt: the file holds no level"),
        ("; 0\n", "levels.txt: the file holds no level"),
        ("#" * 20_000 + "\n#@$." + " " * 19_995 + "#\n" + ("#" + " " * 19_998 + "#\n") + "#" * 20_000,
         "levels.txt:1: the level is 4×20000, too large to be searched: more than 32,000 cells inside"),
    ],
)  # fmt: skip
def test_bad_levels_are_one_clear_line(capsys, tmp_path, text, message):
    file = tmp_path / "levels.txt"
    file.write_text(text)
    status, output, errors = solve(capsys, file)
    assert status == 1 and output == ""
    assert errors.startswith("error: ") and message in errors and errors.count("\n") == 1


def test_missing_files_are_one_clear_line(capsys, tmp_path):
    status, _, errors = solve(capsys, tmp_path / "missing.txt")
    assert status == 1 and errors.startswith(f"error: levels='{tmp_path / 'missing.txt'}': no such file or folder")
    assert errors.count("\n") == 1
    status, _, errors = solve(capsys, tmp_path)
    assert status == 1 and errors == f"error: {tmp_path}: the folder holds no .txt or .xsb file\n"
    status, _, errors = solve(capsys, "")
    assert status == 1 and errors.startswith("error: levels=[''] has an empty path")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "missing/plans"], "--out missing/plans: there is no folder missing"),
        (["--out", "."], "--out . is a folder; name a file"),
        (["--out", "levels.txt"], "--out levels.txt is one of the level files; name another file"),
        (["--generate", "5"], "name level files or folders, or give --generate N, but not both"),
        (["--size", "7", "7"], "--size is for generated levels: give --generate N too"),
        (["--seed", "0"], "--seed is for generated levels: give --generate N too"),
        (["--devices", "4096"], "--devices 4096: there "),
        (["--devices", "0"], "argument --devices: '0' is not a whole number from 1"),
        (["--max-nodes", "0"], "argument --max-nodes: '0' is not a whole number from 1"),
        (["--max-nodes", "1e6"], "argument --max-nodes: '1e6' is not a whole number from 1"),
        (["--time-limit", "-1"], "argument --time-limit: '-1' is not a positive number"),
        (["--time-limit", "nan"], "argument --time-limit: 'nan' is not a positive number"),
        (["--memory", "inf"], "argument --memory: 'inf' is not a positive number"),
        (["--memory", "1e-10"], "argument --memory: '1e-10' is not from 1e-9 to 1e9; give GiB, such as 4"),
        (["--memory", "1e300"], "argument --memory: '1e300' is not from 1e-9 to 1e9; give GiB"),
        (["--out", "x" * 250], "xxx: File name too long; name another file"),
        (["-"], "LEVELS: there is no file named -; to read from a pipe, name /dev/stdin"),
        (["--seed", str(2**32)], f"argument --seed: '{2**32}' is not a whole number from 0 to 4,294,967,295"),
        (["--mode", "best"], "argument --mode: invalid choice: 'best'"),
        (["--fast"], "unrecognized arguments: --fast"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_wrong_arguments_are_one_clear_line(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    Path("levels.txt").write_text(EASY)
    try:
        status = cli.main(["solve", "levels.txt", *arguments])
    except SystemExit as error:
        status = error.code
    output, errors = capsys.readouterr()
    assert status == 2 and output == "" and Path("levels.txt").read_text() == EASY
    assert errors.startswith("error: ") and message in errors and errors.count("\n") == 1


def test_no_levels_or_too_many(capsys):
    status, _, errors = solve(capsys)
    assert status == 2 and errors.startswith("error: name level files or folders, or give --generate N")
    status, output, errors = solve(capsys, "--generate", 2_000_000_000)
    assert status == 2 and output == "" and errors.count("\n") == 1
    assert errors.startswith(
        "error: --generate 2000000000: the levels and their plans would take 3,815 GiB or more, and "
    )


def test_sizes_that_cannot_be_generated(capsys):
    for arguments in (["--size", 3, 3], ["--size", 2, 5], ["--size", 7, 7, "--boxes", 60]):
        status, output, errors = solve(capsys, "--generate", 2, *arguments)
        assert status == 1 and output == "" and errors.startswith("error: ") and errors.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--time-limit", "1e-9"], "more than 1e-09 seconds (--time-limit)"),
        (["--memory", "1e-5"], "more than 1e-05 GiB of memory (--memory)"),
    ],
)
def test_tiny_limits_are_reported(capsys, folder, arguments, reason):
    out = folder / "plans.lurd"
    status, output, errors = solve(capsys, folder, "--out", out, *arguments)
    assert status == 0 and errors == "" and "solved     0 of 3 levels" in output
    assert output.count("gave up on ") == output.count(reason) == 3
    assert all(line.startswith("; ") and line.endswith(reason) for line in out.read_text().splitlines())


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_keeps_what_is_solved(capsys, monkeypatch, folder):
    """Pressed while the first of two batches is searched and something is compiled, which nobody waits for."""
    search, left = solve_command.solve, []

    def interrupted(*arguments, **options):
        signal.raise_signal(signal.SIGINT)
        monkeypatch.setattr(solve_command, "solve", search)
        stop = iter([False, False, True])
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL  # for the second time
        return search(*arguments, **{**options, "stop": lambda: next(stop, True) and options["stop"]()})

    monkeypatch.setattr(solve_command, "solve", interrupted)
    monkeypatch.setattr(solve_command, "is_compiling", lambda: True)
    monkeypatch.setattr(os, "_exit", left.append)
    out = folder / "plans.lurd"
    status, output, errors = solve(capsys, folder, "--out", out)
    assert status == 130 and left == [130] and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert errors == "\nstopping with what is solved; press Ctrl-C again to quit at once\n"
    plans = out.read_text().splitlines()
    assert replay(EASY, plans[0]) and plans[0] == plans[2]
    assert plans[1] == f"; {folder / 'a.xsb'}:9: interrupted"
    assert "solved     2 of 3 levels" in output and "open       1 level: interrupted\n" in output


def test_plans_go_into_a_pipe(capsys, tmp_path):
    """What is no regular file, such as /dev/stdout, is written to and not replaced."""
    (tmp_path / "levels.txt").write_text(EASY)
    pipe, received = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: received.append(pipe.read_text()))
    reader.start()
    status, _, _ = solve(capsys, tmp_path / "levels.txt", "--out", pipe)
    reader.join(timeout=60)
    assert status == 0 and pipe.is_fifo() and replay(EASY, received[0].strip())


@pytest.mark.parametrize("lines_read", [0, 1])
def test_who_reads_the_output_may_leave(capsys, monkeypatch, folder, lines_read):
    """As `| true` and `| head -1` do: the plans are written all the same, and nothing is complained of."""
    reading, writing = os.pipe()
    leave = lambda: (os.read(reading, 100) if lines_read else None, os.close(reading))
    leaving = threading.Thread(target=leave)
    leaving.start()
    if not lines_read:
        leaving.join(timeout=60)
    with open(writing, "w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        status, _, errors = solve(capsys, folder, "--out", folder / "plans.lurd")
    leaving.join(timeout=60)
    assert status == 141 and errors == ""
    assert replay(EASY, (folder / "plans.lurd").read_text().splitlines()[0])


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
def test_a_full_disk_is_one_clear_line(capsys, monkeypatch, folder):
    status, output, errors = solve(capsys, folder, "--out", "/dev/full")
    assert status == 1 and "solved     3 of 3 levels" in output and "plans " not in output
    assert errors == "error: --out /dev/full: No space left on device; the plans are not saved\n"
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        status, _, errors = solve(capsys, folder)
    assert status == 1 and errors == "error: standard output: No space left on device\n"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_file_names_that_are_no_text(capsys, folder):
    file = os.fsencode(folder) + b"/\xff.xsb"
    with open(file, "w") as levels_file:
        levels_file.write(STUCK)
    status, output, errors = solve(capsys, os.fsdecode(file), "--out", folder / "plans.lurd")
    assert status == 0 and errors == "" and r"\udcff.xsb:3: proven unsolvable" in output
    assert r"\udcff.xsb:3: proven unsolvable" in (folder / "plans.lurd").read_text()


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


def test_progress_without_rich_is_plain_lines(capsys, monkeypatch, folder):
    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(outputs, "_SECONDS_A_LINE", 0.0)
    status, _, errors = solve(capsys, "--generate", 3, "--size", 7, 7, "--boxes", 2)
    assert status == 0 and errors.startswith("3 of 3 levels generated\n")
    assert re.fullmatch(r"3 of 3 solved, 0 given up, [\d,]+ nodes, [\d,]+ levels/s", errors.splitlines()[-1])


@pytest.mark.skipif(available_cores() < 2, reason="a CPU is as many devices as it has cores, and here it has one")
def test_devices_change_no_number(capsys, tmp_path):
    """Two in a process of its own: the number of CPU devices is fixed when JAX starts."""
    from envs_jax.sokoban.board import Layout
    from envs_jax.sokoban.generator import generate

    layout = Layout(7, 7)
    file = tmp_path / "levels.txt"
    levels.write(file, layout, generate(jax.random.key(0), 70, layout=layout, num_boxes=2))
    status, said, _ = solve(capsys, file, "--devices", 1, "--out", tmp_path / "plans1")
    assert status == 0 and "70 levels, 1 cpu device" in said
    command = [sys.executable, "-m", "jaxrl_agents", "solve", file, "--devices", "2", "--out", tmp_path / "plans2"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2], env=_environment()
    )
    assert "70 levels, 2 cpu device" in done.stdout
    plans = [(tmp_path / name).read_text().splitlines() for name in ("plans1", "plans2")]
    one, two = ([sum(map(str.isupper, plan)) for plan in lines] for lines in plans)
    assert one == two and min(one) >= 4 and len(one) == 70


def _environment():
    cache = {"JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir or ""}
    quick = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3"}
    return {**os.environ, **cache, **quick, "JAX_PLATFORMS": "cpu"}


def test_sizes_are_searched_apart():
    found = levels.parse(f"{EASY}\n{LONG}\n{EASY}")
    names, batches = solve_command.batches_of(found)
    assert names == ["text:1", "text:9", "text:14"]
    assert [batch.index.tolist() for batch in batches] == [[0, 2], [1]]
    assert [(batch.layout.height, batch.layout.width) for batch in batches] == [(7, 7), (4, 24)]
    assert np.asarray(batches[0].tasks.instances.player).tolist() == [0, 0]


def test_every_file_fits_some_boards():
    """Also tall and wide levels together, whose common board would be too large; levels of a kind share one."""
    wide, tall = [4, 200], [200, 4]
    groups = solve_command._groups(np.array([wide, tall, [9, 9], wide, tall, [10, 8], [8, 10], [100, 200]]))
    assert [group.tolist() for group in groups] == [[2, 5, 6], [1, 4], [0, 3], [7]]
    rng = np.random.default_rng(0)
    sizes = rng.integers(3, 60, (500, 2))
    groups = solve_command._groups(sizes)
    assert sorted(np.concatenate(groups)) == list(range(500)) and len(groups) < 45
    for group in groups:
        words = -(-np.prod(sizes[group] - 2, axis=1) // 32)
        assert -(-np.prod(sizes[group].max(axis=0) - 2) // 32) <= 2 * words.min()
