"""Rollouts: how the episodes that a policy learns from are collected, one strategy a file."""

from jaxrl_agents.rollouts.policy import Decided, Policy
from jaxrl_agents.rollouts.types import EXPERT, HINT, POLICY, Counts, Strategy, Trajectory

__all__ = [
    "EXPERT",
    "HINT",
    "POLICY",
    "Counts",
    "Decided",
    "Policy",
    "Strategy",
    "Trajectory",
]
