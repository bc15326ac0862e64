"""The programs of the training suite: whole steps, their halves, and the bare forwards and gradients in them.

An item is one training step, or the share of one that the arm does, so that the times of arms can be added up.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import envs_jax
from benchmarks.measure import Arm, Program
from jaxrl_agents import losses
from jaxrl_agents.models import Transformer, adapter_for, config_for
from jaxrl_agents.rollouts import Policy, Standard, demonstrated
from jaxrl_agents.training import Learner

ID = "Sokoban-RAGEN-v0"  # 6×6, 1 box, 10 actions, which hardly ever end earlier
TURNS = 10
LEVELS = 256
LEARNING_RATE = 1e-6  # all repeats do the same work: the policy hardly changes


@dataclasses.dataclass(frozen=True)
class Work:
    """A learner with tasks, and the sizes of its step."""

    learner: Learner
    tasks: Any

    @property
    def policy(self) -> Policy:
        """Environment and model."""
        return self.learner.policy

    @property
    def batch_size(self) -> int:
        """Episodes of a step."""
        return self.learner.num_groups * self.learner.group_size

    @property
    def update_rows(self) -> int:
        """Observations that the update's forward and backward pass go through."""
        return self.batch_size * self.learner.num_turns

    @property
    def num_tokens(self) -> int:
        """Tokens of an observation."""
        return adapter_for(self.policy.env).num_tokens

    @functools.cached_property
    def first(self) -> tuple[Any, float]:
        """The state that training begins with, and the seconds it took to make, compilation included."""
        start = time.perf_counter()
        state = jax.block_until_ready(self.learner.init(jax.random.key(0)))
        return state, time.perf_counter() - start

    def state(self) -> Any:
        """The first state, with buffers of its own: a step's are donated."""
        return jax.tree.map(lambda leaf: leaf.copy(), self.first[0])

    @functools.cached_property
    def played(self) -> Any:
        """Episodes of random actions, as many as a step has: made without the policy, so that they compile quickly."""
        shape, num_actions = (self.batch_size, self.learner.num_turns), self.policy.env.num_actions
        actions = jax.random.randint(jax.random.key(1), shape, 0, num_actions)
        tasks = self.tasks[np.arange(self.batch_size) % len(self.tasks)]
        return jax.jit(demonstrated)(self.policy, jax.random.key(2), tasks, actions)


def work(
    num_groups: int, group_size: int, *, rollout: Any = None, num_micro_batches: int = 1, mesh: Any = None, **model: Any
) -> Work:
    """GRPO on Sokoban's smallest rooms; `model` are fields of `TransformerConfig`."""
    env, tasks = _rooms()
    policy = Policy(env, Transformer(config_for(env, **model)), use_action_mask=False)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(LEARNING_RATE))
    learner = Learner(
        policy, rollout or Standard(), losses.grpo(), optimizer, num_turns=TURNS, num_groups=num_groups,
        group_size=group_size, num_micro_batches=num_micro_batches, credit="step", mesh=mesh,
    )  # fmt: skip
    return Work(learner, tasks)


@functools.cache
def _rooms() -> tuple[Any, Any]:
    return envs_jax.make(ID, seed=0, observation="tokens", num_levels=LEVELS)


# The step and its halves --------------------------------------------------------------------------------------------


def step(work: Work) -> Arm:
    """The whole step as one donated program, as `Learner.step` runs it; the summary has what the first one gave."""
    start = time.perf_counter()
    executable = work.learner.lower(work.state(), work.tasks).compile()
    seconds = time.perf_counter() - start
    holder = [work.state()]
    counted: list[dict[str, Any]] = []

    def run(num_steps: int) -> None:
        for _ in range(num_steps):
            holder[0], metrics = executable(work.policy.env, holder[0], work.tasks)
            counted.append(metrics)
        jax.block_until_ready(holder[0])

    def finish() -> dict[str, float]:
        first = {f"first {name}": float(counted[0][name]) for name in ("loss", "gradient_norm")}
        counts = _means([{name: metrics[name] for name in ("env_steps", "policy_forwards")} for metrics in counted])
        return counts | first | {"bytes": live_bytes(executable)}

    run(1)
    return Arm(run, 1, seconds, finish)


def rollout(work: Work) -> Arm:
    """The rollout, search included, as a program of its own."""
    state = work.first[0]
    counted: list[dict[str, Any]] = []

    def run(num_steps: int) -> None:
        for _ in range(num_steps):
            now = state._replace(key=jax.random.fold_in(state.key, len(counted)))
            counts = jax.block_until_ready(work.learner.collect(now, work.tasks)).counts
            counted.append({name: jnp.sum(count) for name, count in counts._asdict().items()})

    run(1)
    return Arm(run, 1, None, lambda: _means(counted))


def update(work: Work) -> Arm:
    """The update, advantages and optimiser included, as a program of its own."""
    holder = [work.state()]
    trajectory = work.learner.collect(holder[0], work.tasks)

    def run(num_steps: int) -> None:
        for _ in range(num_steps):
            holder[0], _ = work.learner.learn(holder[0], trajectory)
        jax.block_until_ready(holder[0])

    run(1)
    return Arm(run, 1)


def step_program(work: Work) -> Program:
    """The step in a loop, for `profile`; items are steps of the environment."""
    state = work.state()
    count = float(jnp.sum(work.learner.collect(state, work.tasks).counts.env_steps))
    body = lambda tasks, state, key: work.learner.step(state._replace(key=key), tasks)[0]
    return Program(body, work.tasks, state, count)


# What it cannot do without ------------------------------------------------------------------------------------------


def forwards(work: Work, copies: int = 1) -> Arm:
    """The forwards of a plain rollout alone: a forward of all episodes for each turn, on `copies` rows for each.

    The summary has the "rows" that went through the policy in a step.
    """
    policy, params = work.policy, work.first[0].params
    adapter = adapter_for(policy.env)
    by_turn = lambda leaf: jnp.repeat(jnp.moveaxis(leaf, 1, 0), copies, axis=1)
    turns = jax.tree.map(by_turn, work.played.observations)

    @jax.jit
    def run(params: Any, turns: Any) -> jax.Array:
        one = lambda _, observation: (None, policy.model.apply(params, adapter(observation))[0])
        return jax.lax.scan(one, None, turns)[1]

    rows = float(copies * work.update_rows)
    return _calls(functools.partial(run, params, turns), {"rows": rows})


def gradient(work: Work) -> Arm:
    """The forward and backward pass of an update alone, see `bare_gradient`."""
    return _calls(bare_gradient(work), {"rows": float(work.update_rows)})


def bare_gradient(work: Work) -> Callable[[], Any]:
    """The gradient of the cross-entropy of a step's actions, summed over as many parts as the update has."""
    policy, params, parts = work.policy, work.first[0].params, work.learner.num_micro_batches
    adapter = adapter_for(policy.env)
    rows = (work.played.observations, jnp.maximum(work.played.actions[..., 0], 0))
    batch = jax.tree.map(lambda leaf: leaf.reshape(parts, -1, *leaf.shape[2:]), rows)

    def loss(params: Any, part: Any) -> jax.Array:
        observations, actions = part
        logits = policy.model.apply(params, adapter(observations))[0][:, 0]
        return optax.softmax_cross_entropy_with_integer_labels(logits, actions).sum()

    @jax.jit
    def run(params: Any, batch: Any) -> Any:
        if parts == 1:
            return jax.grad(loss)(params, jax.tree.map(lambda leaf: leaf[0], batch))
        add = lambda total, part: (jax.tree.map(jnp.add, total, jax.grad(loss)(params, part)), None)
        return jax.lax.scan(add, jax.tree.map(jnp.zeros_like, params), batch)[0]

    return functools.partial(run, params, batch)


def matrix_product(size: int, dtype: str) -> Program:
    """Square matrix products, the measured ceiling; items are floating-point operations."""
    draw = lambda seed: jax.random.normal(jax.random.key(seed), (size, size))
    weights, start = ((scale * draw(seed)).astype(dtype) for seed, scale in ((0, 1.5 * size**-0.5), (1, 1.0)))
    body = lambda weights, x, key: jnp.clip(x @ weights, -1, 1)  # stays where numbers are neither huge nor denormal
    return Program(body, weights, start, 2.0 * size**3)


def _calls(run: Callable[[], Any], summary: dict[str, float]) -> Arm:
    """A function without state as an arm, warm."""

    def repeat(num_steps: int) -> None:
        for _ in range(num_steps):
            jax.block_until_ready(run())

    repeat(1)
    return Arm(repeat, 1, None, lambda: summary)


def _means(counted: list[dict[str, Any]]) -> dict[str, float]:
    return jax.tree.map(lambda *values: float(np.mean(values)), *jax.device_get(counted))


# Sizes --------------------------------------------------------------------------------------------------------------


def live_bytes(executable: Any) -> float:
    """Bytes that a program needs while it runs, as the compiler says: donated arguments count once."""
    analysis = executable.memory_analysis()
    size = lambda part: getattr(analysis, f"{part}_size_in_bytes", 0)
    return float(size("argument") + size("output") + size("temp") - size("alias"))


def estimated_bytes(work: Work) -> float:
    """What a step has to hold: state, tasks, a gradient, the episodes, and what one part's backward pass reads."""
    state = work.learner.abstract_state()
    trajectory = jax.eval_shape(lambda state: work.learner.collect(state, work.tasks), state)
    rows = work.update_rows // work.learner.num_micro_batches
    cut = lambda leaf: jax.ShapeDtypeStruct((rows, *leaf.shape[2:]), leaf.dtype)
    observations = jax.tree.map(cut, trajectory.observations)

    def kept(params: Any, observations: Any) -> Any:
        tokens = adapter_for(work.policy.env)(observations)
        _, pullback = jax.vjp(lambda params: work.policy.model.apply(params, tokens)[0], params)
        return jax.tree.leaves(pullback)

    residuals = jax.eval_shape(kept, state.params, observations)
    leaves = jax.tree.leaves((state, work.tasks.instances, trajectory, residuals))  # residuals: parameters too
    return float(sum(leaf.size * leaf.dtype.itemsize for leaf in leaves))
