"""WebShop: what training reaches on goals of products that it never met, beside scripts that play the same goals."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from benchmarks.training_curves import Curve, follow
from jaxrl_agents.training import Evaluation, Setup, build, fields, preset
from jaxrl_agents.training.baselines import baselines, measure

ID = "WebShop-v0"
RULE = "rule"  # WebShop's own: searches the instruction, buys the first product

VARIANTS: dict[str, dict[str, Any]] = {  # how the preset's runs differ
    "from scratch": {"warm_start": {"num_steps": 0}},
    "after a warm start": {},
}


def scripts(products: Path | None, document: Mapping[str, Any]) -> dict[str, Evaluation]:
    """What random actions and the scripts reach on the held-out goals."""
    setup = _setup(products, document)
    return {
        name: measure(script, jax.random.key(1), setup.policy, setup.evaluation_tasks, num_turns=setup.evaluation_turns)
        for name, script in baselines(setup.policy).items()
    }


def run(products: Path | None, document: Mapping[str, Any], num_points: int) -> Curve:
    """A run of the preset with the fields of `document`.

    Args:
      products: WebShop's files; None for the synthetic catalogue.
      document: as a configuration file.
      num_points: evaluations on the way.
    """
    setup = _setup(products, document)
    marks = {setup.config.total_steps * number // num_points for number in range(1, num_points + 1)}
    return follow(setup, setup.config.seed, marks, lambda params: setup.evaluate(params, jax.random.key(1)))


def _setup(products: Path | None, document: Mapping[str, Any]) -> Setup:
    config = fields.updated(preset(ID), document)
    given = {} if products is None else {"products": str(products)}
    return build(dataclasses.replace(config, env_arguments={**config.env_arguments, **given}))
