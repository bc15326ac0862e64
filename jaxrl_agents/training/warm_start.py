"""The warm start: supervised learning from an expert's episodes of training tasks, before the policy plays itself."""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp

from envs_jax.environment import Environment, check_playable
from envs_jax.scripted import Script
from envs_jax.tasks import TaskBank
from jaxrl_agents.arguments import count
from jaxrl_agents.rollouts.performed import performed
from jaxrl_agents.rollouts.types import Trajectory
from jaxrl_agents.training import sharding
from jaxrl_agents.training.learner import Learner, TrainState
from jaxrl_agents.training.metrics import Metrics


@dataclasses.dataclass(frozen=True, eq=False)
class WarmStart:
    """Steps that teach a policy what an expert does.

    state = learner.init(jax.random.key(0))
    warm_start = WarmStart(dataclasses.replace(learner, optimizer=optax.adam(1e-3)), Oracle())
    for _ in range(100):
        state, metrics = warm_start.step(state, tasks)
    state = restarted(learner, state)

    Attributes:
      learner: its policy, `num_turns` and optimizer are used; the optimizer's state must look as that of training.
      expert: a script, see `envs_jax.scripted`.
      num_episodes: episodes of a step, each of a task of its own.
    """

    learner: Learner
    expert: Script
    num_episodes: int = 64

    def __post_init__(self) -> None:
        count("num_episodes", self.num_episodes)
        parts = sharding.num_parts(self.learner.mesh)
        if self.num_episodes % parts:
            raise ValueError(f"num_episodes={self.num_episodes} must be a multiple of the mesh's data × fsdp = {parts}")

    def step(self, state: TrainState, tasks: TaskBank[Any]) -> tuple[TrainState, Metrics]:
        """Draws tasks, has the expert play them, and makes one update towards its actions. `state` is donated.

        Returns:
          The next state, and the numbers of `Learner.supervised_step`, "expert_return" and "expert_success".
        """
        check_playable(self.learner.policy.env, tasks)
        key, shown, metrics = self._program(self.learner.policy.env, state.key, tasks)
        state, learned = self.learner.supervised_step(state._replace(key=key), shown)
        return state, metrics | learned

    @cached_property
    def _program(self) -> Any:
        return jax.jit(self._show)

    def _show(
        self, env: Environment[Any, Any], key: jax.Array, tasks: TaskBank[Any]
    ) -> tuple[jax.Array, Trajectory, Metrics]:
        """(the next state's key, the expert's episodes, numbers about them)."""
        learner = self.learner
        key, tasks_key, play_key = jax.random.split(key, 3)
        index = jax.vmap(tasks.sample_index)(jax.random.bits(tasks_key, (self.num_episodes,), jnp.uint32))
        drawn = jax.tree.map(lambda leaf: leaf[index], tasks.instances)
        keys, drawn = sharding.split_rows((jax.random.split(play_key, self.num_episodes), drawn), learner.mesh)
        shown = performed(learner.policy.replace(env=env), keys, drawn, self.expert, num_turns=learner.num_turns)
        metrics = {"expert_return": jnp.mean(shown.returns), "expert_success": jnp.mean(shown.success)}
        return key, sharding.split_rows(shown, learner.mesh), metrics


def restarted(learner: Learner, state: TrainState) -> TrainState:
    """The state that training starts from: the parameters learned so far, with a fresh optimizer.

    With a KL penalty they are its reference.
    """
    fresh = learner.init(state.key)
    reference = None if fresh.reference is None else jax.tree.map(jnp.copy, state.params)
    return fresh._replace(params=state.params, reference=reference, key=state.key, step=state.step)
