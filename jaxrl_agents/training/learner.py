"""The learner: rollouts with search, filtering, advantages and updates as one jitted program."""

from __future__ import annotations

import dataclasses
import math
from functools import cached_property
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from envs_jax.environment import Environment, check_playable
from envs_jax.random_words import check_key
from envs_jax.tasks import TaskBank
from jaxrl_agents import models
from jaxrl_agents.arguments import count
from jaxrl_agents.losses import Algorithm
from jaxrl_agents.rollouts.filtering import Filter
from jaxrl_agents.rollouts.policy import Policy
from jaxrl_agents.rollouts.types import Strategy, Trajectory
from jaxrl_agents.training import credit as crediting
from jaxrl_agents.training import metrics as metrics_of
from jaxrl_agents.training import sharding, update
from jaxrl_agents.training.metrics import Metrics
from jaxrl_agents.training.update import Batch

_VALUE_COEFFICIENT = 0.5


class TrainState(NamedTuple):
    """All that a training run remembers: what a checkpoint saves."""

    params: Any
    opt_state: Any
    reference: Any  # parameters of the KL penalty's reference; None without one
    key: jax.Array  # typed key, split by every step
    step: jax.Array  # int32[]: steps taken


class _Keys(NamedTuple):
    """The random keys of one step."""

    next: jax.Array  # the next state's
    collect: jax.Array
    order: jax.Array


def _keys(state: TrainState) -> _Keys:
    return _Keys(*jax.random.split(state.key, 3))


@dataclasses.dataclass(frozen=True, eq=False)
class Learner:
    """One training step as one jitted, donated program.

    learner = Learner(Policy(env, model), Standard(), losses.grpo(), optax.adam(1e-3), num_turns=10)
    state = learner.init(jax.random.key(0))
    for _ in range(100):
        state, metrics = learner.step(state, tasks)

    Attributes:
      policy: environment, model, context, turn length, temperature and action mask.
      rollout: a strategy of `jaxrl_agents.rollouts`.
      algorithm: advantages and loss, of `jaxrl_agents.losses`; with `algorithm.loss.kl_coefficient` above 0 the first
        parameters are kept as its reference.
      optimizer: an optax transformation; clipping, schedules and weight decay belong into it.
      num_turns: K, turns of an episode.
      num_groups: P, tasks a step.
      group_size: N, episodes of each.
      num_epochs: passes over the trajectories; log-probabilities of the behaviour, advantages and targets are frozen.
      num_minibatches: updates in each pass, with rows in random order.
      num_micro_batches: parts that an update's gradient is summed from; they change memory, not the result. Where the
        policy sees one turn, they are made of turns, and the turns after an episode's end are left out.
      filter: picks the groups that are learned from, see `rollouts.filtering`; None: all.
      credit: see `credit.assign`.
      discount: see `credit.assign`.
      value_coefficient: of the value loss, for algorithms whose advantages take values; None: 0.5.
      reference_step_size: how far the reference follows the parameters after each step, 0 … 1; 0 freezes it.
      mesh: from `training.make_mesh`: episodes are split over `data` and `fsdp`, parameters as `rules` say.
      rules: see `training.sharding`; None: those of the model's logical axes.
    """

    policy: Policy
    rollout: Strategy
    algorithm: Algorithm
    optimizer: optax.GradientTransformation
    num_turns: int
    num_groups: int = 8
    group_size: int = 8
    num_epochs: int = 1
    num_minibatches: int = 1
    num_micro_batches: int = 1
    filter: Filter | None = None
    credit: crediting.Credit | None = None
    discount: float | None = None
    value_coefficient: float | None = None
    reference_step_size: float = 0.0
    mesh: Mesh | None = None
    rules: sharding.Rules | None = None

    def __post_init__(self) -> None:
        for name in ("num_turns", "num_groups", "group_size", "num_epochs", "num_minibatches", "num_micro_batches"):
            count(name, getattr(self, name))
        if self.credit not in (None, *get_args(crediting.Credit)):
            raise ValueError(f"credit={self.credit!r} is neither 'episode' nor 'step'")
        if self.discount is not None and not 0 < self.discount <= 1:
            raise ValueError(f"discount={self.discount} is not in (0, 1]")
        coefficient = self.value_coefficient
        if coefficient is not None and not (math.isfinite(coefficient) and coefficient >= 0):
            raise ValueError(f"value_coefficient={coefficient} must be a finite number of at least 0")
        if not 0 <= self.reference_step_size <= 1:
            raise ValueError(f"reference_step_size={self.reference_step_size} is not in [0, 1]")
        crediting.check(
            self.algorithm, group_size=self.group_size, credit=self.credit, discount=self.discount,
            value_coefficient=coefficient, reference_step_size=self.reference_step_size,
        )  # fmt: skip
        self._check_on_policy()
        self.rollout.check(self.policy, self.group_size)
        if self.num_rows % self.num_minibatches:
            raise ValueError(
                f"num_minibatches={self.num_minibatches} must divide the {self.num_rows} episodes of an update pass"
            )
        parts = sharding.num_parts(self.mesh)
        if self.num_groups * self.group_size % parts:
            unit = parts // math.gcd(parts, self.num_groups)  # of group_size
            fitting = -(-self.group_size // unit) * unit
            raise ValueError(
                f"num_groups={self.num_groups} with group_size={self.group_size}: the "
                f"{self.num_groups * self.group_size} episodes of a step must be a multiple of the mesh's data × fsdp "
                f"= {parts}: use group_size={fitting}, or another num_groups or number of devices"
            )

    def _check_on_policy(self) -> None:
        """Raises where a loss without a ratio would learn from what another policy did."""
        if self.algorithm.loss.surrogate != "reinforce":
            return
        why = "does not go with a loss that is on-policy, without a ratio, such as rloo"
        for name in ("num_epochs", "num_minibatches"):
            if getattr(self, name) > 1:
                raise ValueError(f"{name}={getattr(self, name)} {why}: use 1, or another loss")
        retried = getattr(self.rollout, "retry_temperature", self.policy.temperature)
        if retried != self.policy.temperature:
            raise ValueError(
                f"retry_temperature={retried} {why}: use that of the policy, {self.policy.temperature}, or another loss"
            )

    @property
    def num_rows(self) -> int:
        """Episodes that a pass goes through: those of the groups that the filter may keep."""
        kept = self.num_groups if self.filter is None else self.filter.most(self.num_groups)
        return kept * self.group_size

    def init(self, key: jax.Array) -> TrainState:
        """A fresh state; on a mesh it is computed straight into its layout."""
        check_key(key)
        if self.mesh is None:
            state = jax.jit(self._init)(key)
        else:
            state, _ = sharding.init_sharded(self._init, self.mesh, self._rules, key)
        if self.algorithm.loss.kl_coefficient:
            state = state._replace(reference=jax.tree.map(jnp.copy, state.params))  # buffers of its own, for donation
        return state

    def plan(self) -> sharding.Plan:
        """Where each leaf of the state lives; `.table()` prints it. Only with a mesh."""
        if self.mesh is None:
            raise ValueError("mesh is None: without a mesh nothing is split")
        return sharding.plan(self.abstract_state(), self.mesh, self._rules)

    def abstract_state(self) -> TrainState:
        """Shapes and dtypes of the state, with shardings on a mesh: what `Checkpointer.restore` takes as target."""
        state = jax.eval_shape(self._init, jax.random.key(0))
        if self.algorithm.loss.kl_coefficient:
            state = state._replace(reference=state.params)
        if self.mesh is None:
            return state
        layout = sharding.plan(state, self.mesh, self._rules).shardings
        placed = lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where)
        return jax.tree.map(placed, state, layout)

    def step(self, state: TrainState, tasks: TaskBank[Any]) -> tuple[TrainState, Metrics]:
        """Samples P tasks, plays them, filters, and updates the parameters. `state` is donated: use the returned one.

        Returns:
          The next state, and numbers, [] each: those of `metrics.of_trajectory`; "kept" (share of the groups that are
          learned from); and means over the updates of "loss", "policy_loss", "gradient_norm" (before clipping),
          "parameter_norm", "entropy", "clip_fraction", "old_kl", and as far as there are such "reference_kl" and
          "value_loss".
        """
        check_playable(self.policy.env, tasks)
        return self._step_program(self.policy.env, state, tasks)

    def lower(self, state: TrainState, tasks: TaskBank[Any]) -> jax.stages.Lowered:
        """The program of `step` without running it: `.compile()` has its memory, costs and text."""
        check_playable(self.policy.env, tasks)
        return self._step_program.lower(self.policy.env, state, tasks)

    def collect(self, state: TrainState, tasks: TaskBank[Any]) -> Trajectory:
        """The first half of `step` as a program of its own: the episodes that it would collect. `state` is kept."""
        check_playable(self.policy.env, tasks)
        return self._collect_program(self.policy.env, state, tasks)

    def learn(self, state: TrainState, trajectory: Trajectory) -> tuple[TrainState, Metrics]:
        """The second half of `step`: `learn(state, collect(state, tasks))` is what `step` does. `state` is donated.

        Args:
          state: the state.
          trajectory: made by `collect`.

        Returns:
          The next state, and the metrics of `step` but for those of the episodes.
        """
        return self._learn_program(self.policy.env, state, trajectory)

    def supervised_step(self, state: TrainState, trajectory: Trajectory) -> tuple[TrainState, Metrics]:
        """One update towards the turns of `trajectory` where `loss_mask` is True. `state` is donated.

        Args:
          state: the state.
          trajectory: such as `rollouts.demonstrated` makes, with as many rows at every call, as each number compiles.

        Returns:
          The next state, and "loss", "entropy", "gradient_norm" and "parameter_norm".
        """
        return self._supervised_program(self.policy.env, state, trajectory)

    @cached_property
    def _step_program(self) -> Any:
        return jax.jit(self._step, donate_argnums=1, **self._out_shardings)

    @cached_property
    def _collect_program(self) -> Any:
        return jax.jit(self._collect)

    @cached_property
    def _learn_program(self) -> Any:
        return jax.jit(self._learn, donate_argnums=1, **self._out_shardings)

    @cached_property
    def _supervised_program(self) -> Any:
        return jax.jit(self._supervised_step, donate_argnums=1, **self._out_shardings)

    @property
    def _out_shardings(self) -> dict[str, Any]:
        if self.mesh is None:
            return {}
        return {"out_shardings": (self.plan().shardings, NamedSharding(self.mesh, PartitionSpec()))}

    @property
    def _rules(self) -> sharding.Rules:
        return sharding.logical_rules(models.AXES) if self.rules is None else self.rules

    def _init(self, key: jax.Array) -> TrainState:
        params_key, key = jax.random.split(key)
        params = self.policy.model.init(params_key)
        return TrainState(params, self.optimizer.init(params), None, key, jnp.int32(0))

    def _step(self, env: Environment[Any, Any], state: TrainState, tasks: TaskBank[Any]) -> tuple[TrainState, Metrics]:
        trajectory = self._collect(env, state, tasks)
        metrics = metrics_of.of_trajectory(trajectory, self.group_size, env.num_actions)
        state, means = self._learn(env, state, trajectory)
        return state, metrics | means

    def _collect(self, env: Environment[Any, Any], state: TrainState, tasks: TaskBank[Any]) -> Trajectory:
        return self._collected(self.policy.replace(env=env), state.params, _keys(state).collect, tasks)

    @jax.named_scope("update")
    def _learn(
        self, env: Environment[Any, Any], state: TrainState, trajectory: Trajectory
    ) -> tuple[TrainState, Metrics]:
        policy, keys = self.policy.replace(env=env), _keys(state)
        trajectory, kept = self._filtered(trajectory)
        batch = self._batch(policy, state, trajectory)
        params, opt_state, means = self._updated(policy, state, batch, keys.order)
        reference = state.reference
        if reference is not None and self.reference_step_size:
            reference = optax.incremental_update(params, reference, self.reference_step_size)
        state = TrainState(params, opt_state, reference, keys.next, state.step + 1)
        return state, means | {"kept": kept}

    def _collected(self, policy: Policy, params: Any, key: jax.Array, tasks: TaskBank[Any]) -> Trajectory:
        """The trajectories of P tasks drawn from the bank."""
        tasks_key, rollout_key = jax.random.split(key)
        index = jax.vmap(tasks.sample_index)(jax.random.bits(tasks_key, (self.num_groups,), jnp.uint32))
        drawn = jax.tree.map(lambda leaf: leaf[index], tasks.instances)
        keys = jax.random.split(rollout_key, self.num_groups)
        if self.num_groups % sharding.num_parts(self.mesh) == 0:  # else devices share groups: only their rows are split
            keys, drawn = sharding.split_rows((keys, drawn), self.mesh)
        with jax.named_scope("rollout"):
            trajectory = self.rollout(params, keys, policy, drawn, group_size=self.group_size, num_turns=self.num_turns)
        return sharding.split_rows(trajectory, self.mesh)

    def _filtered(self, trajectory: Trajectory) -> tuple[Trajectory, jax.Array]:
        """The groups that are learned from, as many as may be kept, and their share of all."""
        if self.filter is None:
            return trajectory, jnp.float32(1)
        shape = (self.num_groups, self.group_size)
        kept = self.filter(trajectory.returns.reshape(shape), trajectory.mask.any(axis=-1).reshape(shape))
        groups = jnp.argsort(~kept, stable=True)[: self.num_rows // self.group_size]
        rows = (groups[:, None] * self.group_size + jnp.arange(self.group_size)).reshape(-1)
        picked = jax.tree.map(lambda leaf: leaf[rows], trajectory)
        learned = picked.loss_mask & jnp.repeat(kept[groups], self.group_size)[:, None]
        numbers = jnp.arange(self.num_rows, dtype=jnp.int32) // self.group_size
        return picked.replace(loss_mask=learned, groups=numbers), jnp.mean(kept.astype(jnp.float32))

    def _decisions(self, policy: Policy, trajectory: Trajectory) -> Batch:
        """The decisions that are learned from."""
        mask = _taken(policy, trajectory) & trajectory.loss_mask[..., None]
        return Batch(trajectory.observations, trajectory.actions, trajectory.action_mask, mask)

    def _batch(self, policy: Policy, state: TrainState, trajectory: Trajectory) -> Batch:
        """What the updates of this step need, with all that stays frozen over them."""
        batch = self._decisions(policy, trajectory)
        parts = self.num_minibatches * self.num_micro_batches
        decided = lambda params: update.in_parts(lambda part: update.decided(policy, params, part), batch, parts)
        old_log_probs, values = trajectory.log_probs[..., None], None
        several = policy.max_turn_actions > 1  # a search keeps the log-probability of such a turn as a whole
        if several or crediting.takes_values(self.algorithm):
            now = decided(state.params)
            values = now.values
            old_log_probs = now.log_probs if several else old_log_probs
        credited = crediting.assign(
            self.algorithm, trajectory, _taken(policy, trajectory), batch.mask, values,
            credit=self.credit, discount=self.discount,
        )  # fmt: skip
        return batch._replace(
            old_log_probs=old_log_probs,
            advantages=credited.advantages,
            value_targets=credited.value_targets,
            reference_log_probs=None if state.reference is None else decided(state.reference).log_probs,
        )

    def _updated(self, policy: Policy, state: TrainState, batch: Batch, key: jax.Array) -> tuple[Any, Any, Metrics]:
        """Parameters and optimiser's state after all updates of a step, and the means of their metrics."""
        coefficient = _VALUE_COEFFICIENT if self.value_coefficient is None else self.value_coefficient
        max_length = self.num_turns * policy.max_turn_actions
        loss = update.policy_loss(policy, self.algorithm, coefficient, max_length)
        turns_apart = policy.context == "turn" and self.algorithm.loss.ratio == "token"

        def one(carry: tuple[Any, Any], rows: jax.Array | None) -> tuple[tuple[Any, Any], Metrics]:
            part = batch if rows is None else jax.tree.map(lambda leaf: leaf[rows], batch)
            return self._apply(loss, *carry, part, turns_apart)

        carry = (state.params, state.opt_state)
        if self.num_epochs * self.num_minibatches == 1:
            (params, opt_state), means = one(carry, None)
            return params, opt_state, means
        orders = None
        if self.num_minibatches > 1:
            keys = jax.random.split(key, self.num_epochs)
            orders = jax.vmap(lambda key: jax.random.permutation(key, self.num_rows))(keys)
            orders = orders.reshape(self.num_epochs * self.num_minibatches, -1)
        (params, opt_state), metrics = jax.lax.scan(one, carry, orders, self.num_epochs * self.num_minibatches)
        return params, opt_state, jax.tree.map(jnp.mean, metrics)

    def _apply(
        self, loss: update.Loss, params: Any, opt_state: Any, batch: Batch, turns_apart: bool
    ) -> tuple[tuple[Any, Any], Metrics]:
        """One update of the optimiser."""
        gradient, metrics = update.gradient(
            loss, params, batch, self.num_micro_batches,
            turns_apart=turns_apart, num_shards=sharding.num_parts(self.mesh),
        )  # fmt: skip
        updates, opt_state = self.optimizer.update(gradient, opt_state, params)
        params = optax.apply_updates(params, updates)
        norms = {"gradient_norm": optax.tree.norm(gradient), "parameter_norm": optax.tree.norm(params)}
        return (params, opt_state), metrics | norms

    def _supervised_step(
        self, env: Environment[Any, Any], state: TrainState, trajectory: Trajectory
    ) -> tuple[TrainState, Metrics]:
        policy = self.policy.replace(env=env)
        batch = self._decisions(policy, trajectory)
        loss = update.supervised_loss(policy)
        turns_apart = policy.context == "turn"
        (params, opt_state), metrics = self._apply(loss, state.params, state.opt_state, batch, turns_apart)
        return state._replace(params=params, opt_state=opt_state, step=state.step + 1), metrics


def _taken(policy: Policy, trajectory: Trajectory) -> jax.Array:
    """bool[B, K, L]: all decisions; a turn that the episode's end cut short was not ended by the policy."""
    decided = models.decision_mask(policy.model.config, trajectory.actions)
    return decided & ((trajectory.actions >= 0) | ~trajectory.final[..., None])
