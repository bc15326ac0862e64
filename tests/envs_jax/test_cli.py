"""The command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import envs_jax
from envs_jax import cli


def test_list_prints_every_id_with_a_line_about_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(envs_jax.registered_ids())
    start = max(map(len, envs_jax.registered_ids())) + 2
    assert all(line[:start].endswith("  ") and len(line[start:]) > 20 and len(line) <= 100 for line in lines)
    assert f"{'Sokoban-v0':{start}}10×10 boards, 4 boxes, generated levels" in lines


def test_it_runs_as_a_module() -> None:
    run = subprocess.run([sys.executable, "-m", "envs_jax", "--version"], capture_output=True, text=True, check=True)
    assert run.stdout == f"envs_jax {envs_jax.__version__}\n"


def test_play_says_that_it_needs_a_terminal() -> None:
    command = [sys.executable, "-m", "envs_jax", "play", "Sokoban-v0"]
    run = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert run.returncode == 1 and run.stdout == ""
    assert run.stderr == "error: play needs an interactive terminal; standard input or output is redirected\n"


@pytest.mark.parametrize("arguments", [[], ["dance"], ["play"], ["data"], ["play", "Sokoban-v0", "--seed", "x"]])
def test_wrong_arguments_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(arguments)
    assert "usage: python -m envs_jax" in capsys.readouterr().err


def test_data_needs_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("mine")
    assert cli.main(["data", "boxoban", "--out", str(tmp_path / "file")]) == 1
    assert capsys.readouterr().err == f"error: --out {tmp_path / 'file'} is a file; name the folder for the levels\n"
    assert (tmp_path / "file").read_text() == "mine"


def test_play_names_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # As if in a terminal: the errors come before it is used.
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    broken = tmp_path / "broken.xsb"
    broken.write_text("#####\n#@$ #\n#####\n")
    for arguments, message in (
        (["Sokobane-v0"], "id='Sokobane-v0' is not registered. Did you mean 'Sokoban-v0'?"),
        (["Sokoban-v0", "--levels", str(tmp_path / "none.txt")], "none.txt"),
        (["Sokoban-v0", "--levels", str(broken)], "broken.xsb:1"),
        (["Sokoban-v0", "--levels", ""], "levels='' has an empty path; name a level file or a folder"),
        (["FrozenLake-v0", "--levels", str(broken)], "needs a Sokoban id; FrozenLake-v0 has no level files"),
    ):
        assert cli.main(["play", *arguments]) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: ") and message in error and error.count("\n") == 1
