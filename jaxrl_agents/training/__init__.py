"""Training: sharding over a mesh, runs of several processes, and checkpoints that are verified before they are used."""

from jaxrl_agents.training.checkpoint import Checkpoint, Checkpointer, CheckpointError
from jaxrl_agents.training.distributed import initialize
from jaxrl_agents.training.preemption import StopOnSigterm
from jaxrl_agents.training.sharding import (
    Placement,
    Plan,
    Rules,
    init_sharded,
    logical_rules,
    make_mesh,
    plan,
    shard_batch,
)

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "Checkpointer",
    "Placement",
    "Plan",
    "Rules",
    "StopOnSigterm",
    "init_sharded",
    "initialize",
    "logical_rules",
    "make_mesh",
    "plan",
    "shard_batch",
]
