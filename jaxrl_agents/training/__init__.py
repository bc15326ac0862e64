"""Training: the learner, its evaluation and the loop around it, sharding over a mesh, runs of several processes, and
checkpoints that are verified before they are used.
"""

from jaxrl_agents.training.checkpoint import Checkpoint, Checkpointer, CheckpointError
from jaxrl_agents.training.config import TrainConfig
from jaxrl_agents.training.distributed import initialize
from jaxrl_agents.training.evaluation import Evaluation, evaluate
from jaxrl_agents.training.fields import updated
from jaxrl_agents.training.learner import Learner, TrainState
from jaxrl_agents.training.loop import Diverged, Outcome, train
from jaxrl_agents.training.memory import OutOfMemory
from jaxrl_agents.training.preemption import CtrlCAsSigterm, StopOnSigterm
from jaxrl_agents.training.presets import preset, read_config
from jaxrl_agents.training.run_folder import RunFolder
from jaxrl_agents.training.setup import Setup, build
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
    "CtrlCAsSigterm",
    "Diverged",
    "Evaluation",
    "Learner",
    "OutOfMemory",
    "Outcome",
    "Placement",
    "Plan",
    "Rules",
    "RunFolder",
    "Setup",
    "StopOnSigterm",
    "TrainConfig",
    "TrainState",
    "build",
    "evaluate",
    "init_sharded",
    "initialize",
    "logical_rules",
    "make_mesh",
    "plan",
    "preset",
    "read_config",
    "shard_batch",
    "train",
    "updated",
]
