"""The command line: `python -m jaxrl_agents solve|train|resume|evaluate`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

import envs_jax
from jaxrl_agents import evaluate_command, solve_command
from jaxrl_agents.outputs import guarded


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status: 0, 1 after an error, 2 for wrong arguments, 130 after Ctrl-C.

    It is 141 where nobody reads the output any more, as in `… | head`.
    """
    return guarded(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int:
    parser = _parser()
    arguments, flags = parser.parse_known_args(argv)
    if flags and not hasattr(arguments, "run_with_flags"):
        parser.error(f"unrecognized arguments: {' '.join(flags)}")
    try:
        return arguments.run_with_flags(flags) if hasattr(arguments, "run_with_flags") else arguments.run(arguments)
    except argparse.ArgumentError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (ValueError, FloatingPointError, MemoryError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except ImportError as error:
        if error.name is not None:  # not one of this package's own, which say what to install
            raise
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
    for name, run, text in (("train", _train, "train a policy"), ("resume", _resume, "go on with a training run")):
        commands.add_parser(name, help=text, add_help=False).set_defaults(run_with_flags=run)
    evaluate_command.add_parser(commands)
    return parser


def _train(flags: Sequence[str]) -> int:
    from jaxrl_agents import train_command  # here, as it loads all of training

    return train_command.run_train(flags)


def _resume(flags: Sequence[str]) -> int:
    from jaxrl_agents import train_command

    return train_command.run_resume(flags)
