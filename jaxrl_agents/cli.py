"""The command line: `python -m jaxrl_agents solve LEVELS`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

import envs_jax
from jaxrl_agents import solve_command


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status: 0, 1 after an error, 2 for wrong arguments, 130 after Ctrl-C."""
    arguments = _parser().parse_args(argv)
    try:
        return arguments.run(arguments)
    except argparse.ArgumentError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        reason = f"{error.filename}: {error.strerror}" if error.filename and error.strerror else error
        print(f"error: {reason}", file=sys.stderr)
        return 1
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser("python -m jaxrl_agents", description="Agents and search in JAX.")
    parser.add_argument("--version", action="version", version=f"jaxrl_agents {envs_jax.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    solve_command.add_parser(commands)
    return parser
