"""`python -m benchmarks run | compare | profile | list | papers`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.commands import COMMANDS
from benchmarks.measure import BUDGETS
from benchmarks.papers import PAPERS
from jaxrl_agents.outputs import guarded


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m benchmarks", description="Measures the environments and search.")
    subparsers = top.add_subparsers(dest="command", required=True)
    run = subparsers.add_parser("run", help="measure; write results.json, report.md and plots")
    run.add_argument("suites", nargs="*", metavar="SUITE", help="a suite, or suite/case (default: every suite)")
    _add_settings(run)
    run.add_argument("--out", type=_path, metavar="DIR", help="default: results/<date>-<time>-<budget>; an interrupted "
                     "run in DIR goes on where it stopped")  # fmt: skip
    compare = subparsers.add_parser("compare", help="compare two results")
    compare.add_argument("a", type=Path, metavar="A", help="results.json, or the folder that holds it")
    compare.add_argument("b", type=Path, metavar="B")
    profile = subparsers.add_parser("profile", help="where the time of a program, or of each of several, goes")
    profile.add_argument("programs", nargs="+", metavar="PROGRAM", help="suite/case/program, or suite/case for all of "
                         "its programs; `list` names them; of several there is a report in common")  # fmt: skip
    _add_settings(profile)
    profile.add_argument("--out", type=_path, metavar="DIR", help="default: results/<date>-<time>-profile; interrupted "
                         "profiles of several programs go on where they stopped")  # fmt: skip
    _add_settings(subparsers.add_parser("list", help="name the suites, cases and programs"))
    papers = subparsers.add_parser("papers", help="repeat a paper's experiments; its tables beside ours")
    papers.add_argument("paper", metavar="NAME", help=", ".join(PAPERS))
    papers.add_argument("--budget", metavar="NAME", help="how much is run; each paper has a default")
    papers.add_argument("--seeds", type=int, metavar="N", help="seeds of every setting (default: that of the budget)")
    papers.add_argument("--seed", type=int, default=0, metavar="SEED", help="all seeds derive from it (default: 0)")
    papers.add_argument(
        "--levels", type=_path, metavar="PATH", help="Boxoban levels for tsr: a file or a folder of files"
    )
    papers.add_argument("--out", type=_path, metavar="DIR", help="default: results/<date>-<time>-<NAME>")
    return top


def _add_settings(command: argparse.ArgumentParser) -> None:
    command.add_argument("--budget", choices=sorted(BUDGETS), default="quick", help="default: %(default)s")
    command.add_argument("--peers", action="store_true", help="measure other packages beside ours")
    command.add_argument("--levels", type=_path, metavar="PATH", help="Boxoban levels: a file or a folder of files")
    command.add_argument("--products", type=_path, metavar="PATH", help="the folder of WebShop's product files")


def _path(text: str) -> Path:
    if not text:  # which Path would take for the current folder
        raise argparse.ArgumentTypeError("an empty path")
    return Path(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit status: 1 where a case failed, 2 for wrong arguments, 130 after Ctrl-C.

    It is 141 where nobody reads the output any more.
    """
    return guarded(lambda: _run(parser().parse_args(arguments)), failed=2)


def _run(options: argparse.Namespace) -> int:
    try:
        return COMMANDS[options.command](options)
    except (ValueError, ImportError, argparse.ArgumentError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
