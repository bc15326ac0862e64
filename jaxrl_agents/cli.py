"""The command line: `python -m jaxrl_agents solve LEVELS`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import envs_jax
from jaxrl_agents import solve_command


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status: 0, 1 after an error, 2 for wrong arguments, 130 after Ctrl-C."""
    arguments = _parser().parse_args(argv)
    try:
        return arguments.run(arguments)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m jaxrl_agents", description="Agents and search in JAX.")
    parser.add_argument("--version", action="version", version=f"jaxrl_agents {envs_jax.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    solve_command.add_parser(commands)
    return parser
