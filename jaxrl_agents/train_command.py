"""`python -m jaxrl_agents train` and `resume`: flags made from the configuration, then the training loop."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import json
import operator
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_origin

import jax

from jaxrl_agents.arguments import told
from jaxrl_agents.outputs import check_folder
from jaxrl_agents.training import distributed, fields, plots, records
from jaxrl_agents.training.config import DEFAULT_ENV, TrainConfig
from jaxrl_agents.training.loop import Outcome, train
from jaxrl_agents.training.presets import preset, read_config, with_loss
from jaxrl_agents.training.progress import Console, evaluation_text
from jaxrl_agents.training.run_folder import RunFolder
from jaxrl_agents.training.setup import Setup, build, choices

_PROGRAM = "python -m jaxrl_agents"
# What a run keeps: where its warm start ends, and what decides on its tasks; with others it would be measured on tasks
# that it was trained on.
_KEPT = ("env", "env_arguments", "warm_start.num_steps", "seed", "evaluation.num_held_out")


@dataclasses.dataclass(frozen=True)
class ResumeArguments(TrainConfig):
    """Goes on with a run: resume RUN. Flags change its configuration; without any, it goes on as if never stopped.

    Attributes:
      tensorboard: write event files for TensorBoard too.
      print_config: print the configuration as JSON and do nothing.
      print_plan: print how each array of the state is split over the devices, with its bytes, and do nothing.
      distributed: train with the other processes of a cluster that JAX knows: Slurm, Open MPI, Kubernetes, a TPU pod.
      coordinator_address: train with other processes elsewhere: HOST:PORT of process 0, which all can reach.
      num_processes: elsewhere: how many there are.
      process_id: elsewhere: the number of this one, from 0.
    """

    tensorboard: bool = False
    print_config: bool = False
    print_plan: bool = False
    distributed: bool = False
    coordinator_address: str | None = None
    num_processes: int | None = None
    process_id: int | None = None


@dataclasses.dataclass(frozen=True)
class TrainArguments(ResumeArguments):
    """Trains a policy. The defaults are those of the environment's preset, or of the file --config.

    Attributes:
      config: a JSON file with fields to start from, such as the config.json of another run.
      out: the folder of the run; none: runs/ENV-ROLLOUT-LOSS-SEED.
    """

    config: Path | None = None
    out: Path | None = None


ArgumentsT = TypeVar("ArgumentsT", bound=ResumeArguments)


def run_train(flags: Sequence[str]) -> int:
    """Runs `train`; returns the exit status."""
    with _wrong_arguments("train"):
        given = _first_flags(flags)
        if given.out == "":
            raise ValueError("--out '' names no folder")
        start = preset(given.env or DEFAULT_ENV, given.loss)
        if given.config is not None:
            start = read_config(given.config, given.env, given.loss)
        arguments = _parse(TrainArguments, start, "train", flags)
        config = _config_of(arguments)
        if _printed(arguments, config):
            return 0
        name = f"{config.env}-{config.rollout}-{config.loss}-seed{config.seed}"
        folder = RunFolder(arguments.out or Path("runs") / name)
        _join(arguments)
        distributed.agree(lambda: _check_new(folder))
        setup = build(config)
    return _run(setup, folder, resume=False, tensorboard=arguments.tensorboard)


def _check_new(folder: RunFolder) -> None:
    folder.check_new()
    check_folder("--out", folder.path)


def run_resume(flags: Sequence[str]) -> int:
    """Runs `resume`; returns the exit status."""
    with _wrong_arguments("resume"):
        if flags and flags[0] and not flags[0].startswith("-"):
            folder, flags = RunFolder(Path(flags[0])), flags[1:]
        elif {"-h", "--help"} & set(flags):
            folder = None
        else:
            raise ValueError("name the folder of the run first: resume RUN")
        before = folder.read_config() if folder else preset()
        arguments = _parse(ResumeArguments, with_loss(before, _first_flags(flags).loss), "resume RUN", flags)
        config = _config_of(arguments)
        _check_change(before, config)
        if _printed(arguments, config) or folder is None:
            return 0
        _join(arguments)
        setup = build(config)
    if jax.process_index() == 0:
        for line in fields.differences(before, config):
            print(f"changed    {line}")
    return _run(setup, folder, resume=True, tensorboard=arguments.tensorboard)


def _check_change(before: TrainConfig, after: TrainConfig) -> None:
    """Raises ValueError where a run cannot go on so."""
    for field in _KEPT:
        old, new = (operator.attrgetter(field)(config) for config in (before, after))
        if old != new:
            raise ValueError(
                f"{field}={new} cannot differ from the {old} that the run began with: leave it out, or start another "
                "run with train" + ("; files have to stay where they were" if field == "env_arguments" else "")
            )


def _printed(arguments: ResumeArguments, config: TrainConfig) -> bool:
    """Prints what was asked for in place of training; whether there was such a thing."""
    if arguments.print_config:
        choices(config)  # raises where fields do not go together
        print(fields.to_json(config))
    if arguments.print_plan:
        _join(arguments)
        layout = build(config).layout
        if jax.process_index() == 0:
            print(layout)
    return arguments.print_config or arguments.print_plan


def _run(setup: Setup, folder: RunFolder, *, resume: bool, tensorboard: bool) -> int:
    outcome = train(setup, folder, resume=resume, tensorboard=tensorboard, display=Console())
    if jax.process_index() == 0:
        _draw(folder, setup.config)
        print("\n".join(_ending(outcome, folder)))
    return 130 if outcome.interrupted and not outcome.finished else 0


def _ending(outcome: Outcome, folder: RunFolder) -> list[str]:
    if not outcome.finished:
        cause = "Ctrl-C" if outcome.interrupted else "SIGTERM"
        return [f"stopped    after step {outcome.step} by {cause}; go on with {_PROGRAM} resume {folder.path}"]
    if outcome.evaluation is not None:
        end = f"finished   step {outcome.step}: {evaluation_text(outcome.evaluation)}"
    else:
        end = f"finished   step {outcome.step} was reached before; --num-steps says where to stop"
    return [end, f"run        {folder.path}; episodes: {_PROGRAM} evaluate {folder.path} --render episodes.gif"]


def _join(arguments: ResumeArguments) -> None:
    """Makes this process one of several, where flags say so."""
    where = (arguments.coordinator_address, arguments.num_processes, arguments.process_id)
    if not arguments.distributed and where == (None, None, None):
        return
    try:
        distributed.initialize(*where)
    except RuntimeError as error:
        raise ConnectionError(str(error)) from error


def _draw(folder: RunFolder, config: TrainConfig) -> None:
    title = f"{config.env}, {config.rollout}, {config.loss}, seed {config.seed}"
    try:
        plots.plot_curves(records.read_rows(folder.metrics), folder.curves, title=title)
    except ImportError as error:
        print(f"no picture of the learning curves: {error}", file=sys.stderr)


def _first_flags(flags: Sequence[str]) -> argparse.Namespace:
    """What decides on the defaults of all other flags."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--env")
    parser.add_argument("--loss")
    parser.add_argument("--config", type=Path)
    parser.add_argument("--out")
    return parser.parse_known_args(flags)[0]


def _parse(kind: type[ArgumentsT], start: TrainConfig, command: str, flags: Sequence[str]) -> ArgumentsT:
    """The arguments, from flags that tyro makes of their fields; a wrong flag is an error of one line."""
    try:
        import tyro
    except ImportError as error:
        raise ImportError('flags are read with tyro: pip install "envs-jax[train]"') from error
    values = {field.name: getattr(start, field.name) for field in dataclasses.fields(TrainConfig)}
    pairs = _pairs_rule(tyro, start.env_arguments)
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(
                kind, prog=f"{_PROGRAM} {command}", args=list(flags), default=kind(**values), registry=pairs
            )
    except SystemExit as end:
        if not end.code:
            raise
        raise ValueError(_one_line(complaint.getvalue(), kind)) from None


def _pairs_rule(tyro: Any, start: dict[str, Any]) -> Any:
    """Makes tyro read dicts as NAME=VALUE, where values are JSON, and else text; they are added to `start`."""
    registry = tyro.constructors.ConstructorRegistry()

    @registry.primitive_rule
    def rule(info: Any) -> Any:
        if get_origin(info.type) is not dict:
            return None
        return tyro.constructors.PrimitiveConstructorSpec(
            nargs="*",
            metavar="NAME=VALUE ...",
            instance_from_str=lambda texts: fields.merged(start, dict(map(_pair, texts))),
            is_instance=lambda value: isinstance(value, dict),
            str_from_instance=lambda pairs: [f"{name}={json.dumps(value)}" for name, value in pairs.items()],
        )

    return registry


def _pair(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise ValueError(f"{text!r} is not NAME=VALUE")
    with contextlib.suppress(ValueError):
        return name, json.loads(value)
    return name, value


def _one_line(box: str, kind: type) -> str:
    """The first paragraph of what tyro says below a title, in a box of lines or of dashes."""
    paragraph: list[str] = []
    for line in re.sub(r"\x1b\[[0-9;]*m", "", box).splitlines()[1:]:
        text = line.strip("│| ")
        if paragraph and not text.strip("─-"):
            break
        if text.strip("─-"):
            paragraph.append(text)
    text = " ".join(paragraph).removeprefix("Error parsing ").removeprefix(f"{kind.__name__}: ")
    return text[:1].lower() + text[1:] if text[1:2].islower() else text


def _config_of(arguments: ResumeArguments) -> TrainConfig:
    return TrainConfig(**{field.name: getattr(arguments, field.name) for field in dataclasses.fields(TrainConfig)})


@contextlib.contextmanager
def _wrong_arguments(command: str) -> Iterator[None]:
    """Makes what is wrong before anything runs an error of arguments, which ends the program with status 2."""
    try:
        yield
    except ConnectionError:
        raise
    except OSError as error:
        raise argparse.ArgumentError(None, told(error)) from error
    except (ValueError, TypeError, argparse.ArgumentError) as error:
        raise argparse.ArgumentError(None, f"{error}; see {_PROGRAM} {command} --help") from error
