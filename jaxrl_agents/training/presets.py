"""Where a configuration starts for each environment, and how files change it."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import envs_jax
from jaxrl_agents import losses
from jaxrl_agents.training import fields
from jaxrl_agents.training.config import DEFAULT_ENV, ObjectiveConfig, TrainConfig

# What differs from the defaults of `TrainConfig`, as a configuration file would say it.
PRESETS: dict[str, dict[str, Any]] = {
    # All episodes start in one state, and GiGPO compares actions within each state; the entropy bonus keeps them alive
    # until they are told apart.
    "FrozenLake-v0": {
        "loss": "gigpo",
        "num_steps": 80,
        "model": {"d_model": 16, "num_layers": 1, "num_heads": 2},
        "batch": {"num_groups": 1, "group_size": 256, "num_epochs": 4, "num_micro_batches": 32},
        "objective": {"discount": 0.99, "entropy_coefficient": 0.01},
        "optimizer": {"learning_rate": 1e-2, "schedule": "linear"},
        "evaluation": {"every": 20, "num_episodes": 2048},
        "checkpoint": {"every": 20},
    },
    # Advantages are not divided by the group's deviation: where all solve the room it is small, and would make the
    # length of their paths matter as much as whether a room is solved. What is left of them is up to 11, hence the size
    # of the entropy coefficient.
    "Sokoban-RAGEN-v0": {
        "env_arguments": {"num_levels": 16384 + 256},
        "loss": "dr_grpo",
        "num_steps": 2800,
        "model": {"num_heads": 2},
        "batch": {"num_groups": 32, "group_size": 8, "num_micro_batches": 32},
        "objective": {"credit": "step", "discount": 0.95, "entropy_coefficient": 0.1},
        "optimizer": {"learning_rate": 3e-3, "schedule": "linear"},
        "evaluation": {"every": 200, "num_episodes": 256, "num_held_out": 256},
        "checkpoint": {"every": 200},
    },
    # A page and the instruction above it say what to do next, so the policy sees the present turn alone; one layer is
    # enough to compare their words, and its cost grows with the page, not with the page squared. A click on a wrong
    # option costs nothing but a turn: advantages in units of the reward let the entropy bonus keep such clicks alive,
    # where those divided by a group's deviation settle on buying at once.
    "WebShop-v0": {
        "loss": "dr_grpo",
        "num_steps": 150,
        "model": {"num_layers": 1, "num_heads": 2},
        "policy": {"action_mask": True},
        "batch": {"num_groups": 16, "group_size": 8, "num_turns": 8, "num_micro_batches": 4},
        "objective": {"entropy_coefficient": 0.03},
        "optimizer": {"learning_rate": 5e-3, "schedule": "linear"},
        "warm_start": {"num_steps": 40},
        "evaluation": {"every": 50, "num_episodes": 500, "num_turns": 9, "num_held_out": 500},
        "checkpoint": {"every": 50},
    },
}


def preset(env: str = DEFAULT_ENV, loss: str | None = None) -> TrainConfig:
    """The configuration that training on an environment starts from.

    Args:
      env: its id.
      loss: replaces that of the preset, and its `objective`, which belongs to it.

    Raises:
      ValueError: `env` is not registered; the known ids are listed.
    """
    if env not in envs_jax.registered_ids():
        envs_jax.make(env)  # says which there are
    return with_loss(fields.updated(TrainConfig(env=env), PRESETS.get(env, {})), loss)


def with_loss(config: TrainConfig, loss: str | None) -> TrainConfig:
    """The configuration with another loss, and without `objective`, which belongs to the loss it had.

    Where the loss has no ratio, a step updates once.

    Raises:
      ValueError: there is no such loss.
    """
    if loss is None or loss == config.loss:
        return config
    config = fields.updated(dataclasses.replace(config, objective=ObjectiveConfig()), {"loss": loss})
    if losses.ALGORITHMS[loss]().loss.surrogate != "reinforce":
        return config
    return fields.updated(config, {"batch": {"num_epochs": 1, "num_minibatches": 1}})


def read_config(path: str | os.PathLike[str], env: str | None = None, loss: str | None = None) -> TrainConfig:
    """The configuration in a JSON file; what it leaves out is as in the preset of its environment.

    Its `env_arguments` are added to the preset's, unless the file is complete, as the config.json of a run is.

    Args:
      path: the file, such as the config.json of a run, or a few fields only.
      env: replaces the file's.
      loss: replaces the file's, and its `objective`, which belongs to it.

    Raises:
      ValueError: no JSON, an unknown field or a wrong value; the message begins with the file.
      OSError: the file cannot be read.
    """
    document = fields.read_json(path)
    try:
        if not isinstance(document, dict):
            raise ValueError(f"{document!r} must be an object of fields")
        document = {**document, **({"env": env} if env else {})}
        chosen = document.get("env", DEFAULT_ENV)
        start = preset(chosen if isinstance(chosen, str) else DEFAULT_ENV, document.get("loss"))
        if all(field.name in document for field in dataclasses.fields(TrainConfig)):
            start = dataclasses.replace(start, env_arguments={})
        return with_loss(fields.updated(start, document), loss)
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from error
