"""From a configuration to the parts of a run: environment, tasks, policy and learner. Nothing is trained here."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

import envs_jax
from envs_jax.environment import Environment
from envs_jax.tasks import TaskBank
from jaxrl_agents import losses, rollouts
from jaxrl_agents.arguments import LARGEST
from jaxrl_agents.losses import Algorithm, PolicyLoss
from jaxrl_agents.models import Transformer, config_for
from jaxrl_agents.rollouts.policy import Policy
from jaxrl_agents.rollouts.types import Strategy
from jaxrl_agents.training import memory, unused
from jaxrl_agents.training.config import ObjectiveConfig, OptimizerConfig, TrainConfig, chosen
from jaxrl_agents.training.credit import takes_values
from jaxrl_agents.training.evaluation import Evaluation, evaluate
from jaxrl_agents.training.experts import expert_for
from jaxrl_agents.training.learner import Learner, TrainState
from jaxrl_agents.training.metrics import Metrics
from jaxrl_agents.training.sharding import make_mesh
from jaxrl_agents.training.warm_start import WarmStart, restarted


@dataclasses.dataclass(frozen=True)
class Setup:
    """The parts of a run."""

    config: TrainConfig
    env: Environment[Any, Any]
    tasks: TaskBank[Any]  # to train on
    evaluation_tasks: TaskBank[Any]
    learner: Learner
    evaluation_turns: int  # of its episodes
    warm_start: WarmStart | None = None  # what comes before the learner's steps

    @property
    def policy(self) -> Policy:
        """Environment and model."""
        return self.learner.policy

    def step(self, number: int, state: TrainState) -> tuple[TrainState, Metrics]:
        """Step `number`, from 1, of the run: one of the warm start, or one of training. `state` is donated."""
        if self.warm_start is not None:
            last = self.config.warm_start.num_steps
            if number <= last:
                return self.warm_start.step(state, self.tasks)
            if number == last + 1:
                state = self.placed(restarted(self.learner, state))
        return self.learner.step(state, self.tasks)

    def placed(self, state: TrainState) -> TrainState:
        """A fresh state committed to its device, as restored ones are: both ways the same program is compiled."""
        return state if self.learner.mesh is not None else jax.device_put(state, jax.local_devices()[0])

    def evaluate(self, params: Any, key: jax.Array) -> Evaluation:
        """Measures a policy on the evaluation tasks."""
        return evaluate(
            params, key, self.policy, self.evaluation_tasks,
            num_turns=self.evaluation_turns, num_episodes=self.config.evaluation.num_episodes,
            greedy=self.config.evaluation.greedy, mesh=self.learner.mesh,
        )  # fmt: skip

    @property
    def size(self) -> str:
        """What the state takes, for people."""
        number = self.policy.model.config.num_parameters
        size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(self.learner.abstract_state()))
        return f"the policy has {number:,} parameters, {size / 1e9:,.3g} GB with its optimiser"

    @property
    def layout(self) -> str:
        """A table of the state's arrays: how each is split over the devices, and how many bytes each device holds."""
        mesh = make_mesh() if self.learner.mesh is None else self.learner.mesh
        return dataclasses.replace(self.learner, mesh=mesh).plan().table()

    @property
    def summary(self) -> str:
        """One line on what is trained, and another one where parameters are not split as the mesh says."""
        config = self.config
        held_out = f"{len(self.evaluation_tasks):,} held out" if config.evaluation.num_held_out else "none held out"
        devices, num_processes = jax.devices(), jax.process_count()
        warm = f"{config.warm_start.num_steps} supervised steps, then " if self.warm_start is not None else ""
        return (
            f"{config.env}: {len(self.tasks):,} task{'s' if len(self.tasks) != 1 else ''}, {held_out}; a policy of "
            f"{self.policy.model.config.num_parameters:,} parameters; {warm}{config.rollout} rollouts, {config.loss}, "
            f"{self.learner.num_groups} × {self.learner.group_size} episodes of up to {self.learner.num_turns} turns a "
            f"step; {len(devices)} {devices[0].platform} device{'s' if len(devices) != 1 else ''}"
            f"{f' of {num_processes} processes' if num_processes > 1 else ''}"
            f"{self._not_split}"
        )

    @property
    def _not_split(self) -> str:
        """A line on the parameters that stay whole since the mesh does not divide them; empty without such."""
        if self.learner.mesh is None:
            return ""
        whole = [item for item in self.learner.plan().replicated if item.path.startswith("params/")]
        texts = [f"{item.path.removeprefix('params/')} ({item.note.replace(': not split', '')})" for item in whole]
        return f"\nnot split  {', '.join(texts)}" if texts else ""


def build(config: TrainConfig, *, spread: bool = True) -> Setup:
    """Makes the parts; the same configuration gives the same tasks on every machine.

    Args:
      config: the configuration.
      spread: train on all devices, as `config.mesh` says; False: the learner is for one device, whatever there are.

    Raises:
      OutOfMemory: the tasks need more than the devices have.
      TypeError, ValueError: a value that does not fit the environment or the others; nothing was traced yet.
    """
    strategy, algorithm, chosen_filter = choices(config)
    optimizer = _optimizer(config.optimizer, unused.num_updates(config))
    fewer = f"make fewer tasks of {config.env}, or smaller ones: env_arguments says how many"
    with _fields_named(config), memory.told(lambda: fewer):
        env, bank = _make(config)
        number = config.evaluation.num_held_out
        tasks, held_out = env.hold_out(bank, number, config.seed) if number else (bank, bank)
    longest = int(jnp.max(bank.instances.time_limit))
    unused.check_turns(config, longest)
    _check_batch(config, longest)
    with _fields_named(config):
        mesh = _mesh(config) if spread else None
        learner = _learner(config, _policy(config, env), strategy, algorithm, optimizer, chosen_filter, longest, mesh)
    warm_start = _warm_start(config, learner)
    return Setup(config, env, tasks, held_out, learner, config.evaluation.num_turns or longest, warm_start)


def choices(config: TrainConfig) -> tuple[Strategy, Algorithm, rollouts.Filter | None]:
    """Rollout, algorithm and filter. Raises ValueError for fields that do not go together, whatever the environment."""
    strategy, algorithm, chosen_filter = _strategy(config), _algorithm(config), _filter(config)
    _check_values(config, algorithm)
    unused.check(config, algorithm.loss, strategy)
    unused.check_warmup(config)
    return strategy, algorithm, chosen_filter


def _check_batch(config: TrainConfig, longest: int) -> None:
    """Raises where a step would collect more turns than can be counted."""
    batch = config.batch
    num_turns = batch.num_turns or longest
    if batch.num_groups * batch.group_size * num_turns > LARGEST:
        raise ValueError(
            f"batch.num_groups={batch.num_groups} with batch.group_size={batch.group_size}: a step of "
            f"{batch.num_groups * batch.group_size:,} episodes of {num_turns:,} turns is more than {LARGEST:,} turns; "
            "use fewer groups"
        )


def _learner(
    config: TrainConfig,
    policy: Policy,
    strategy: Strategy,
    algorithm: Algorithm,
    optimizer: optax.GradientTransformation,
    chosen_filter: rollouts.Filter | None,
    longest: int,
    mesh: Mesh | None,
) -> Learner:
    return Learner(
        policy=policy,
        rollout=strategy,
        algorithm=algorithm,
        optimizer=optimizer,
        num_turns=config.batch.num_turns or longest,
        num_groups=config.batch.num_groups,
        group_size=config.batch.group_size,
        num_epochs=config.batch.num_epochs,
        num_minibatches=config.batch.num_minibatches,
        num_micro_batches=config.batch.num_micro_batches,
        filter=chosen_filter,
        credit=config.objective.credit,
        discount=config.objective.discount,
        value_coefficient=config.objective.value_coefficient,
        reference_step_size=config.objective.reference_step_size,
        mesh=mesh,
    )


def _warm_start(config: TrainConfig, learner: Learner) -> WarmStart | None:
    given = config.warm_start
    if given.num_steps == 0:
        return None
    constant = dataclasses.replace(
        config.optimizer, learning_rate=given.learning_rate or config.optimizer.learning_rate,
        schedule="constant", warmup_steps=0,
    )  # fmt: skip
    teacher = dataclasses.replace(learner, optimizer=_optimizer(constant, given.num_steps))
    try:
        expert = expert_for(learner.policy.env, given.expert)
    except ValueError as error:
        field = "warm_start." if given.expert is not None else f"warm_start.num_steps={given.num_steps}: "
        raise ValueError(f"{field}{error}") from error
    try:
        return WarmStart(teacher, expert, given.num_episodes or WarmStart.num_episodes)
    except ValueError as error:
        raise ValueError(f"warm_start.{error}") from error


def _make(config: TrainConfig) -> tuple[Environment[Any, Any], TaskBank[Any]]:
    arguments = dict(config.env_arguments)
    for name in ("seed", "observation"):
        if name in arguments:
            raise ValueError(f"env_arguments.{name}={arguments[name]!r}: it follows from the rest; leave it out")
    try:
        return with_tokens(config.env, config.seed, arguments)
    except TypeError as error:
        raise ValueError(f"env_arguments: {error}") from error


def with_tokens(env: str, seed: int, arguments: Mapping[str, Any]) -> tuple[Environment[Any, Any], TaskBank[Any]]:
    """What `envs_jax.make` gives, with the observations that models take: tokens, or those of an only kind."""
    try:
        return envs_jax.make(env, seed=seed, observation="tokens", **arguments)
    except TypeError as error:
        if "no argument 'observation'" not in str(error):
            raise
    return envs_jax.make(env, seed=seed, **arguments)


def _policy(config: TrainConfig, env: Environment[Any, Any]) -> Policy:
    sizes = dataclasses.asdict(config.model)
    several = config.policy.max_turn_actions > 1
    model = Transformer(config_for(env, **sizes, end_of_turn=several))
    return Policy(
        env,
        model,
        context=config.policy.context,
        max_turn_actions=config.policy.max_turn_actions,
        use_action_mask=config.policy.action_mask,
        temperature=config.policy.temperature,
    )


def _strategy(config: TrainConfig) -> Strategy:
    make: Any = rollouts.STRATEGIES[config.rollout]
    names = inspect.signature(make).parameters
    options = chosen("search", config.search, names, f"rollout={config.rollout!r}")
    if options.get("candidates") == "enumerate" and "num_candidates" in options:
        raise ValueError(
            f"search.num_candidates={options['num_candidates']}: search.candidates='enumerate' takes all actions; "
            "leave it out"
        )
    try:
        return make(**options)
    except ValueError as error:
        raise ValueError(f"search.{error}") from error


@contextlib.contextmanager
def _fields_named(config: TrainConfig) -> Iterator[None]:
    """Makes an error that begins with the name of a part's argument begin with the field that it comes from."""
    try:
        yield
    except ValueError as error:
        name = str(error).partition("=")[0]
        for section in ("batch", "objective", "filtering", "search", "policy", "model", "evaluation", "mesh"):
            if hasattr(getattr(config, section), name):
                raise ValueError(f"{section}.{error}") from error
        if name in config.env_arguments:
            raise ValueError(f"env_arguments.{error}") from error
        raise


def _filter(config: TrainConfig) -> rollouts.Filter | None:
    make: Any = rollouts.FILTERS.get(config.filter)
    names = inspect.signature(make).parameters if make else ()
    options = chosen("filtering", config.filtering, names, f"filter={config.filter!r}")
    if make is None:
        return None
    if "number" in names and "number" not in options:
        raise ValueError(f"filter={config.filter!r} needs filtering.number, how many groups it keeps")
    return make(**options)


def _algorithm(config: TrainConfig) -> Algorithm:
    names = {field.name for field in dataclasses.fields(PolicyLoss)}
    given = dataclasses.asdict(config.objective)
    options = {name: value for name, value in given.items() if name in names and value is not None}
    try:
        with _fields_named(config):
            algorithm = losses.ALGORITHMS[config.loss](**options)
    except TypeError as error:
        raise ValueError(f"objective: {error}") from error
    return algorithm._replace(advantages=_advantages(config.objective)) if takes_values(algorithm) else algorithm


def _advantages(objective: ObjectiveConfig) -> Callable[..., Any]:
    """What a value function's advantages are computed with."""
    decay = losses.GAE_LAMBDA if objective.gae_lambda is None else objective.gae_lambda
    if objective.advantages != "bi_level_gae":
        return partial(losses.gae, decay=decay)
    between = {} if objective.turn_discount is None else {"turn_discount": objective.turn_discount}
    return partial(losses.bi_level_gae, decay=decay, **between)


def _check_values(config: TrainConfig, algorithm: Algorithm) -> None:
    """Raises where a search would add values that nothing trains."""
    if config.search.bootstrap and not takes_values(algorithm):
        raise ValueError(
            f"search.bootstrap=True adds the value head's estimate, which loss={config.loss!r} does not train: use "
            "loss='ppo', or leave it out"
        )


def _optimizer(config: OptimizerConfig, num_updates: int) -> optax.GradientTransformation:
    """Clipping, then AdamW; the schedule counts updates."""
    decay: dict[str, optax.Schedule] = {
        "constant": optax.constant_schedule(config.learning_rate),
        "linear": optax.linear_schedule(config.learning_rate, 0.0, max(1, num_updates - config.warmup_steps)),
        "cosine": optax.cosine_decay_schedule(config.learning_rate, max(1, num_updates - config.warmup_steps)),
    }
    warmup = optax.linear_schedule(0.0, config.learning_rate, max(1, config.warmup_steps))
    schedule = decay[config.schedule]
    if config.warmup_steps:
        schedule = optax.join_schedules([warmup, schedule], [config.warmup_steps])
    matrices = partial(jax.tree_util.tree_map_with_path, _is_matrix)
    return optax.chain(
        optax.clip_by_global_norm(config.max_gradient_norm),
        optax.adamw(
            schedule, config.beta1, config.beta2, config.epsilon, weight_decay=config.weight_decay, mask=matrices
        ),
    )


def _is_matrix(path: Any, leaf: Any) -> bool:
    """Whether a parameter of the policy is one; those of the stacked layers have a dimension of layers in front."""
    return leaf.ndim - (path[0].key == "layers") > 1


def _mesh(config: TrainConfig) -> Mesh | None:
    """A mesh where there are several devices; None for one."""
    sizes = dataclasses.asdict(config.mesh)
    if len(jax.devices()) == 1 and set(sizes.values()) <= {None, 1}:
        return None
    return make_mesh(**sizes)
