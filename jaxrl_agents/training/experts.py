"""The experts that a policy can start from: scripts, by environment and name."""

from __future__ import annotations

from typing import Any

from envs_jax.environment import Environment
from envs_jax.frozen_lake.env import FrozenLake
from envs_jax.frozen_lake.scripted import Optimal
from envs_jax.scripted import Script
from envs_jax.sokoban.env import Sokoban
from envs_jax.web.scripted import Oracle, Rule
from envs_jax.web.webshop import WebShop
from jaxrl_agents.training.planned import Planned

EXPERTS: dict[type[Environment[Any, Any]], dict[str, Script]] = {  # the best one first
    FrozenLake: {"optimal": Optimal()},
    Sokoban: {"beam": Planned()},
    WebShop: {"oracle": Oracle(), "rule_with_options": Rule(options=True), "rule": Rule()},
}


def expert_for(env: Environment[Any, Any], name: str | None = None) -> Script:
    """An expert of an environment; the best one where no name is given.

    Raises:
      ValueError: the environment has none, or none of that name.
    """
    known = EXPERTS.get(type(env), {})
    if not known:
        have = ", ".join(kind.__name__ for kind in EXPERTS)
        given = "" if name is None else f"expert={name!r}: "
        raise ValueError(f"{given}{type(env).__name__} has no expert to start from; {have} have")
    if name is not None and name not in known:
        raise ValueError(f"expert={name!r} is no expert of {type(env).__name__}; there are {', '.join(known)}")
    return known[next(iter(known)) if name is None else name]
