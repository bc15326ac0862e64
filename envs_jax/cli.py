"""The command line: `python -m envs_jax list | play ID | data boxoban`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import envs_jax
from envs_jax import download, play
from envs_jax.registration import describe, make, registered_ids


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status: 0, 1 after an error, 2 for wrong arguments, 130 after Ctrl-C."""
    arguments = _parser().parse_args(argv)
    try:
        return arguments.run(arguments)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m envs_jax", description="Environments in JAX: play them, get their data."
    )
    parser.add_argument("--version", action="version", version=f"envs_jax {envs_jax.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("list", help="print the ids of all environments, each with a line about it")
    command.set_defaults(run=_list)

    command = commands.add_parser("play", help="play an environment in this terminal")
    command.add_argument("id", metavar="ID", help="an id that `list` prints, such as Sokoban-v0")
    command.add_argument("--seed", type=int, default=0, help="determines the levels and all chance (default 0)")
    command.add_argument("--levels", metavar="PATH", help="Sokoban only: a file or folder of levels as text")
    command.set_defaults(run=_play)

    command = commands.add_parser("data", help="download public data")
    sources = command.add_subparsers(required=True, metavar="SOURCE")
    command = sources.add_parser("boxoban", help="Boxoban levels (Apache-2.0), from their official repository")
    command.add_argument("--out", type=Path, default=Path("data/boxoban"), help="folder (default %(default)s)")
    command.add_argument(
        "--split", nargs="+", choices=download.BOXOBAN_SPLITS, default=download.BOXOBAN_SPLITS, help="default: all"
    )
    command.set_defaults(run=_data_boxoban)
    return parser


def _list(arguments: argparse.Namespace) -> int:
    del arguments
    ids = registered_ids()
    width = max(map(len, ids))
    print("\n".join(f"{id:{width}}  {describe(id)}".rstrip() for id in ids))
    return 0


def _play(arguments: argparse.Namespace) -> int:
    try:
        play.check_terminal()
        settings = {} if arguments.levels is None else _level_settings(arguments.id, arguments.levels)
        print(f"making {arguments.id} …", flush=True)
        env, tasks = make(arguments.id, seed=arguments.seed, **settings)
    except (ValueError, OSError) as error:
        return _fail(error)
    play.play(play.Game(env, tasks, arguments.seed), arguments.id)
    return 0


def _level_settings(id: str, path: str) -> dict[str, object]:
    """Arguments of `make` for the levels of `path`, on the smallest board that holds them all."""
    if not id.startswith("Sokoban"):
        raise ValueError(f"--levels {path} needs a Sokoban id; {id} has no level files")
    from envs_jax.sokoban import levels

    layout = levels.read(path).layout
    return {"levels": path, "size": (layout.height, layout.width)}


def _data_boxoban(arguments: argparse.Namespace) -> int:
    if arguments.out.is_file():
        return _fail(NotADirectoryError(f"--out {arguments.out} is a file; name the folder for the levels"))
    files = download.boxoban_files(arguments.split)
    try:
        with download.Progress(sys.stderr) as progress:
            fetched = download.download(files, download.BOXOBAN_URL, arguments.out, progress)
    except download.DownloadError as error:
        return _fail(error)
    print(f"{arguments.out}: {len(files):,} files, all checksums right; {fetched:,} downloaded now")
    return 0


def _fail(error: Exception) -> int:
    print(f"error: {error}", file=sys.stderr)
    return 1
