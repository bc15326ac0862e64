"""`python -m jaxrl_agents evaluate`: measures a trained policy, and shows episodes of it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxrl_agents.argument_types import count, seed
from jaxrl_agents.outputs import check_file, counts_on_terminal

MOST_RENDERED = 100


def add_parser(commands: Any) -> None:
    """Adds the command to an argparse subparser collection."""
    command = commands.add_parser(
        "evaluate",
        help="measure a trained policy and render its episodes",
        description="Measures the policy of a training run on its held-out tasks, with 95 % intervals.",
    )
    command.add_argument("run_folder", type=Path, metavar="RUN", help="the folder of the run")
    command.add_argument("--step", type=count, metavar="N", help="of the checkpoint (default: the newest)")
    command.add_argument("--episodes", type=count, metavar="N", help="(default: as the run is configured)")
    command.add_argument(
        "--tasks", choices=("held-out", "training"), default="held-out", help="which to play (default %(default)s)"
    )
    command.add_argument("--baselines", action="store_true", help="play random actions and scripted experts too")
    command.add_argument("--sample", action="store_true", help="draw actions instead of taking the likeliest")
    command.add_argument("--seed", type=seed, default=0, metavar="N", help="of the episodes (default 0)")
    command.add_argument(
        "--render", type=Path, metavar="FILE", help="show episodes, played for it, in a .gif, .png or .txt file"
    )
    command.add_argument(
        "--num-rendered",
        type=count,
        default=4,
        metavar="N",
        help=f"episodes in it, at most {MOST_RENDERED} (default %(default)s)",
    )
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    from jaxrl_agents.training import episodes, memory
    from jaxrl_agents.training.run_folder import RunFolder
    from jaxrl_agents.training.setup import build

    folder = RunFolder(arguments.run_folder)
    if arguments.num_rendered > MOST_RENDERED:  # all their pictures are in memory at once
        wanted = f"--num-rendered {arguments.num_rendered}"
        raise argparse.ArgumentError(None, f"{wanted}: at most {MOST_RENDERED} can be shown")
    try:
        if arguments.render is not None:
            check_file("--render", arguments.render)
            episodes.check_path(arguments.render)
        setup = build(folder.read_config(), spread=False)  # whatever the devices that it was trained on
    except (ValueError, TypeError) as error:
        raise argparse.ArgumentError(None, str(error)) from error
    with memory.told(lambda: f"{setup.size}; lower --episodes or --num-rendered"):
        _measure(arguments, folder, setup)
    return 0


def _measure(arguments: argparse.Namespace, folder: Any, setup: Any) -> None:
    """Plays, prints and draws what the arguments ask for."""
    from jaxrl_agents.training import baselines, episodes
    from jaxrl_agents.training.evaluation import evaluate, num_played
    from jaxrl_agents.training.progress import evaluation_lines, evaluation_text
    from jaxrl_agents.training.sharding import make_mesh

    mesh = make_mesh()
    params, step = _policy(folder, setup, mesh, arguments.step)
    tasks = setup.tasks if arguments.tasks == "training" else setup.evaluation_tasks
    greedy, num_turns = not arguments.sample, setup.evaluation_turns
    asked = arguments.episodes or setup.config.evaluation.num_episodes
    number = num_played(setup.env, tasks, asked, draws=not greedy)
    key = jax.random.key(arguments.seed)
    result = evaluate(
        params, key, setup.policy, tasks, num_turns=num_turns, num_episodes=number, greedy=greedy,
        mesh=mesh, on_progress=counts_on_terminal(number, "episodes of the policy played"),
    )  # fmt: skip
    held_out = arguments.tasks == "held-out" and setup.config.evaluation.num_held_out > 0
    print(f"policy     step {step} of {folder.path}, {'the likeliest actions' if greedy else 'sampled actions'}")
    played = f"the first {number:,} of {len(tasks):,}" if number < len(tasks) else f"{len(tasks):,}"
    once = ", each once: nothing is left to chance" if number < asked else ""
    print(f"tasks      {played} of {setup.config.env}, {'held out' if held_out else 'trained on'}{once}")
    print("\n".join(evaluation_lines(result)))
    if arguments.baselines:
        for name, script in baselines.baselines(setup.policy).items():
            reached = baselines.measure(
                script, key, setup.policy, tasks, num_turns=num_turns, num_episodes=asked,
                on_progress=counts_on_terminal(asked, f"episodes of {name} played"),
            )  # fmt: skip
            print(f"{name:17} {evaluation_text(reached)}")
    if arguments.render is not None:
        some = jax.tree.map(lambda leaf: leaf[np.arange(arguments.num_rendered) % len(tasks)], tasks.instances)
        shown = episodes.play(params, key, setup.policy, some, num_turns=num_turns, greedy=greedy)
        episodes.save(shown, setup.env, arguments.render)
        print(f"rendered   {len(shown)} episodes: {arguments.render}")


def _policy(folder: Any, setup: Any, mesh: Mesh, step: int | None) -> tuple[Any, int]:
    """(parameters on every device of the mesh, step) of a checkpoint."""
    from jaxrl_agents.training.checkpoint import Checkpointer

    with Checkpointer(folder.checkpoints) as checkpointer:
        checkpoint = checkpointer.restore(setup.learner.abstract_state(), step)
    return jax.device_put(checkpoint.state.params, NamedSharding(mesh, PartitionSpec())), checkpoint.step
