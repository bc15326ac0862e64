"""Configurations: checked, printed, read back, and turned into the parts of a run."""

import dataclasses
import json

import jax
import numpy as np
import pytest

import envs_jax
from jaxrl_agents import losses
from jaxrl_agents.training import fields
from jaxrl_agents.training.config import BatchConfig, ModelConfig, OptimizerConfig, SearchConfig, TrainConfig
from jaxrl_agents.training.presets import PRESETS, preset, read_config
from jaxrl_agents.training.run_folder import RunFolder
from jaxrl_agents.training.setup import _optimizer, build


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"num_steps": 0}, "num_steps=0 must be an integer of at least 1"),
        ({"num_steps": 2.0}, "num_steps=2.0 must be an integer of at least 1"),
        ({"num_steps": True}, "num_steps=True must be an integer of at least 1"),
        ({"num_steps": "3"}, "num_steps='3' must be an integer of at least 1"),
        ({"seed": 2**32}, f"seed={2**32} must be an integer of at least 0 and at most 4,294,967,295"),
        ({"rollout": "beams"}, "rollout='beams' must be one of standard, best_of_n, beam, lookahead, entropy_"),
        ({"loss": None}, "loss=None must be one of grpo, dr_grpo"),
        ({"env_arguments": {"map": [1]}}, "env_arguments={'map': [1]} must be names with a value each, "),
        ({"env_arguments": 3}, "env_arguments=3 must be names with a value each, "),
        ({"model": {"d_model": 0}}, "model.d_model=0 must be an integer of at least 1"),
        ({"model": {"num_kv_heads": 0}}, "model.num_kv_heads=0 must be an integer of at least 1 or none"),
        ({"model": {"dtype": "float16"}}, "model.dtype='float16' must be one of float32, bfloat16"),
        ({"model": 3}, "model=3 must be an object of fields"),
        ({"policy": {"temperature": 1e-40}}, "policy.temperature=1e-40 must be a number of at least 1e-06"),
        ({"policy": {"action_mask": 1}}, "policy.action_mask=1 must be true or false"),
        ({"optimizer": {"learning_rate": float("nan")}}, "optimizer.learning_rate=nan must be a number above 0"),
        ({"optimizer": {"learning_rate": float("inf")}}, "optimizer.learning_rate=inf must be a number above 0"),
        ({"optimizer": {"beta1": 1}}, "optimizer.beta1=1 must be a number of at least 0 and below 1"),
        ({"filtering": {"share": 0}}, "filtering.share=0 must be a number above 0 and at most 1 or none"),
        ({"optimizer": {"learning_rat": 1.0}}, "optimizer.learning_rat=1.0 is no field; did you mean optimizer."),
        ({"zzz": 1}, "zzz=1 is no field: leave it out; there are env, env_arguments, rollout"),
        ([], "the configuration=[] must be an object of fields"),
    ],
    ids=str,
)  # fmt: skip
def test_a_bad_value_is_one_error_with_the_field_and_the_value(document, message):
    with pytest.raises(ValueError) as error:
        fields.updated(TrainConfig(), document)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_constructors_check_too():
    with pytest.raises(ValueError, match=r"^batch\.num_groups=-1 must be an integer of at least 1$"):
        TrainConfig(batch=BatchConfig(num_groups=-1))


def test_configurations_come_back_from_json(tmp_path):
    config = TrainConfig(
        env="Sokoban-v0",
        env_arguments={"num_levels": 8, "reward": "sparse", "deadlock_termination": True},
        rollout="beam",
        model=ModelConfig(d_model=16, num_kv_heads=2),
        search=SearchConfig(beam_width=3, deduplicate=True),
        optimizer=OptimizerConfig(learning_rate=1 / 3),
    )
    file = tmp_path / "config.json"
    file.write_text(fields.to_json(config))
    assert read_config(file) == config
    file.write_text(json.dumps({"env": "Sokoban-v0", "model": {"d_model": 64}}))
    partly = preset("Sokoban-v0")
    assert read_config(file) == dataclasses.replace(partly, model=dataclasses.replace(partly.model, d_model=64))
    assert read_config(file, "FrozenLake-v0").env == "FrozenLake-v0"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"num_steps": 3,\n oops', ":2: no JSON: "),
        ('{"num_steps": 0}', ": num_steps=0 must be"),
        ("[]", ": [] must be an object of fields"),
        ('{"env": 3}', ": env=3 must be text"),
        ('{"env": "Sokobann-v0"}', ": id='Sokobann-v0' is not registered. Did you mean 'Sokoban-v0'?"),
    ],
)
def test_bad_files_are_named(tmp_path, text, message):
    file = tmp_path / "config.json"
    file.write_text(text)
    with pytest.raises(ValueError) as error:
        read_config(file)
    assert str(error.value).startswith(f"{file}{message}") and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("section", "document", "message"),
    [
        ("warm_start", None, "warm_start.num_steps is missing, as in runs of another version: add what the run had; "
         "the default is now 0"),  # and not the preset's
        ("warm_start", {"num_steps": 0, "expert": None, "num_episodes": 9},
         "warm_start.learning_rate is missing, as in runs of another version: add what the run had; the default is "
         "now null"),
        ("search", {"annealing": 3}, "search.annealing=3 is no field: leave it out; there are num_rollouts, beam_"),
    ],
    ids=str,
)  # fmt: skip
def test_runs_of_another_version_are_refused(tmp_path, section, document, message):
    folder, config = RunFolder(tmp_path), preset("WebShop-v0")
    folder.write_config(config)
    assert folder.read_config() == config
    written = json.loads(folder.config.read_text())
    assert written["warm_start"]["num_episodes"] is None  # the default
    written.pop(section)
    folder.config.write_text(json.dumps(written | ({} if document is None else {section: document})))
    with pytest.raises(ValueError) as error:
        folder.read_config()
    assert str(error.value).startswith(f"{folder.config}: {message}") and "\n" not in str(error.value)


def test_arguments_of_the_environment_are_added(tmp_path):
    rooms = preset("Sokoban-RAGEN-v0")
    shorter = dataclasses.replace(rooms, env_arguments={**rooms.env_arguments, "time_limit": 20})
    few = {"env": "Sokoban-RAGEN-v0", "env_arguments": {"time_limit": 20}}
    assert fields.updated(rooms, few) == shorter
    file = tmp_path / "config.json"
    file.write_text(json.dumps(few))
    assert read_config(file) == shorter
    own = dataclasses.replace(rooms, env_arguments={"time_limit": 20})
    assert fields.updated(shorter, {"env_arguments": {"num_levels": None}}) == own
    file.write_text(fields.to_json(own))  # all there is: nothing of the preset comes back
    assert read_config(file) == own
    with pytest.raises(
        ValueError, match=r"^env_arguments=\{'num_levels': 16640, 'num_level': None\} must be names with"
    ):
        fields.updated(rooms, {"env_arguments": {"num_level": None}})


def test_differences_are_lines():
    old = TrainConfig()
    new = fields.updated(old, {"num_steps": 7, "optimizer": {"learning_rate": 0.5}})
    assert list(fields.differences(old, new)) == [
        f"num_steps: {old.num_steps} → 7",
        f"optimizer.learning_rate: {old.optimizer.learning_rate} → 0.5",
    ]


@pytest.mark.parametrize("env", envs_jax.registered_ids())
def test_every_environment_has_a_preset(env):
    assert preset(env).env == env


def test_presets_are_of_registered_environments():
    assert PRESETS.keys() <= set(envs_jax.registered_ids())


SMALL = {
    "env_arguments": {"time_limit": 4},
    "model": {"d_model": 8, "num_layers": 1, "num_heads": 2},
    "batch": {"num_groups": 16, "group_size": 16},
}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"env": "Lake-v0"}, "id='Lake-v0' is not registered."),
        ({"env_arguments": {"num_levels": 3}}, "env_arguments: id='FrozenLake-v0' has no argument 'num_levels'."),
        ({"env_arguments": {"seed": 3}}, "env_arguments.seed=3: it follows from the rest; leave it out"),
        ({"env_arguments": {"time_limit": 0}}, "env_arguments.time_limit=0 is not in 1 … 65,535"),
        ({"search": {"beam_width": 2}}, "search.beam_width=2 is no option of rollout='standard': it has none"),
        ({"rollout": "beam", "search": {"depth": 2}},
         "search.depth=2 is no option of rollout='beam': its options are search.beam_width, "),
        ({"filtering": {"p": 0.5}}, "filtering.p=0.5 is no option of filter='none': it has none"),
        ({"filter": "top_k"}, "filter='top_k' needs filtering.number, how many groups it keeps"),
        ({"filter": "top", "filtering": {"share": 0.01}}, "filtering.share=0.01 of 16 groups keeps none"),
        ({"model": {"num_heads": 3}}, "model.num_heads=3 does not divide d_model=8"),
        ({"objective": {"aggregation": "mean"}}, "objective.aggregation='mean'"),
        ({"batch": {"num_minibatches": 7}}, "batch.num_minibatches=7 must divide the 256 episodes"),
        ({"loss": "rloo", "batch": {"num_epochs": 2}}, "batch.num_epochs=2 does not go with a loss that is on-policy"),
        ({"loss": "rloo", "rollout": "entropy_backtrack"}, "search.retry_temperature=1.5 does not go with a loss that"),
        ({"evaluation": {"num_held_out": 1}}, "evaluation.num_held_out=1 leaves none of the 1 tasks to train on"),
        ({"mesh": {"fsdp": 1024}}, "mesh.fsdp=1024 × tensor=1 must divide the number of devices"),
    ],
    ids=str,
)  # fmt: skip
def test_what_does_not_fit_is_found_before_anything_is_traced(document, message):
    config = fields.updated(TrainConfig(env="FrozenLake-v0"), SMALL)
    merged = {name: {**SMALL.get(name, {}), **value} if isinstance(value, dict) else value
              for name, value in document.items()}  # fmt: skip
    with pytest.raises(ValueError) as error:
        build(fields.updated(config, merged))
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


DOES_NOTHING = [
    ({"objective": {"credit": "step"}, "loss": "ppo"},
     "objective.credit='step' has no effect on a loss that compares single actions by a value function: leave it out"),
    ({"objective": {"credit": "step"}, "loss": "gigpo"},
     "objective.credit='step' has no effect on a loss that compares turns in the same state: leave it out"),
    ({"objective": {"discount": 0.9}}, "objective.discount=0.9 has no effect where whole episodes are compared"),
    ({"objective": {"discount": 0.9, "credit": "episode"}, "loss": "rloo"}, "objective.discount=0.9 has no effect"),
    ({"objective": {"value_coefficient": 0.5}}, "objective.value_coefficient=0.5 has no effect without a value func"),
    ({"objective": {"advantages": "gae"}},
     "objective.advantages='gae' has no effect on loss='grpo', which has no value function: use loss='ppo', or leave"),
    ({"objective": {"gae_lambda": 1.0}, "loss": "gigpo"}, "objective.gae_lambda=1.0 has no effect on loss='gigpo'"),
    ({"objective": {"turn_discount": 0.9}, "loss": "ppo", "policy": {"max_turn_actions": 2}},
     "objective.turn_discount=0.9 has no effect where turns are not told from actions: give objective.advantages='bi"),
    ({"objective": {"advantages": "bi_level_gae"}, "loss": "ppo"},
     "objective.advantages='bi_level_gae' has no effect where a turn is one action, so that it is gae with another d"),
    ({"objective": {"reference_step_size": 0.1}}, "objective.reference_step_size=0.1 has no effect without a refer"),
    ({"objective": {"kl_estimator": "k1"}}, "objective.kl_estimator='k1' has no effect without a penalty: give obj"),
    ({"objective": {"max_length": 9}}, "objective.max_length=9 has no effect on objective.aggregation='sequence_mean"),
    ({"objective": {"clip_low": 0.1}, "loss": "rloo"},
     "objective.clip_low=0.1 has no effect on loss='rloo', which has no ratio to clip: use another loss, or leave it"),
    ({"objective": {"dual_clip": 3.0}, "loss": "cispo", "batch": {"num_epochs": 2}},
     "objective.dual_clip=3.0 has no effect on loss='cispo', whose ratio is a weight: use another loss, or leave it"),
    ({"objective": {"clip_high": 0.3}}, "objective.clip_high=0.3 has no effect where each step updates once: "),
    ({"objective": {"clip_high": 0.3}, "rollout": "entropy_backtrack", "policy": {"max_turn_actions": 2}},
     "objective.clip_high=0.3 has no effect where each step updates once: "),
    ({"objective": {"clip_low": 0.1}, "rollout": "entropy_backtrack", "search": {"retry_temperature": 1.0}},
     "objective.clip_low=0.1 has no effect where each step updates once: "),
    ({"filter": "top", "filtering": {"share": 1.0}},
     "filter='top' has no effect with filtering.share=1.0, as it keeps all 16 groups: keep fewer, or leave it out"),
    ({"filter": "top_k", "filtering": {"number": 16}}, "filter='top_k' has no effect with filtering.number=16, as it"),
    ({"checkpoint": {"keep_every": 150}, "num_steps": 299},
     "checkpoint.keep_every=150 has no effect where checkpoints are 100 steps apart and the run ends at 299: use a"),
    ({"batch": {"group_size": 1}}, "batch.group_size=1 leaves nothing to compare an episode with, so that every ad"),
    ({"batch": {"group_size": 1}, "loss": "gigpo", "filter": "informative", "filtering": {"number": 2}},
     "filter='informative' has no effect in groups of one, whose returns never differ: use batch.group_size above"),
    ({"batch": {"num_turns": 5}}, "batch.num_turns=5 is more than the 4 actions of the longest task: use at most 4"),
    ({"evaluation": {"num_turns": 5}}, "evaluation.num_turns=5 is more than the 4 actions of the longest task"),
    ({"rollout": "best_of_n", "search": {"num_rollouts": 1, "score": "step"}},
     "search.score='step' has no effect where there is nothing to choose from, 1 of 1: give more search.num_rollouts"),
    ({"rollout": "best_of_n", "search": {"num_rollouts": 16, "per": "group", "score": "step"}},
     "search.score='step' has no effect where there is nothing to choose from, 16 of 16: give more search.num_roll"),
    ({"rollout": "entropy_backtrack", "search": {"score": "step"}}, "search.score='step' has no effect where there"),
    ({"rollout": "entropy_backtrack", "search": {"distance": "fixed", "steps_back": 1}},
     "search.distance='fixed' has no effect where search.steps_back=1: give search.steps_back above 1, or leave it"),
    ({"rollout": "lookahead", "search": {"num_candidates": 1, "depth": 2}}, "search.depth=2 has no effect where the"),
    ({"rollout": "beam", "search": {"beam_width": 1, "deduplicate": True}},
     "search.deduplicate=True has no effect where search.beam_width=1: give a search.beam_width above 1, or leave"),
    ({"rollout": "beam", "search": {"per": "group"}, "batch": {"group_size": 1}, "loss": "ppo"},
     "search.per='group' has no effect in groups of one: give batch.group_size above 1, or leave it out"),
    ({"optimizer": {"warmup_steps": 8}, "num_steps": 4, "batch": {"num_epochs": 2}},
     "optimizer.warmup_steps=8 must be less than the 8 updates of the run: warm up for fewer, or take more steps"),
]  # fmt: skip


@pytest.mark.parametrize(("document", "message"), DOES_NOTHING, ids=str)
def test_what_would_do_nothing_is_an_error_with_a_way_out(document, message):
    config = fields.updated(TrainConfig(env="FrozenLake-v0"), SMALL)
    with pytest.raises(ValueError) as error:
        build(fields.updated(config, document))
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "document",
    [
        {"objective": {"credit": "step", "discount": 0.9}},
        {"objective": {"discount": 0.9, "value_coefficient": 0.1}, "loss": "ppo", "batch": {"group_size": 1}},
        {"objective": {"discount": 1.0, "clip_high": 0.3}, "batch": {"num_minibatches": 2}},
        {"objective": {"max_length": 9}, "loss": "dr_grpo", "checkpoint": {"keep_every": 150}, "num_steps": 300},
        {"filter": "top", "filtering": {"share": 1.0, "include_zero": False}},
        {
            "objective": {"clip_low": 0.1},
            "rollout": "entropy_backtrack",
            "search": {"score": "step", "num_rollouts": 2},
        },
        {"rollout": "beam", "search": {"beam_width": 1, "candidates": "enumerate", "score": "step"}},
        {"optimizer": {"warmup_steps": 7}, "num_steps": 4, "batch": {"num_epochs": 2, "num_turns": 4}},
    ],
    ids=str,
)
def test_what_does_something_is_none(document):
    build(fields.updated(fields.updated(TrainConfig(env="FrozenLake-v0"), SMALL), document))


def test_another_loss_leaves_the_objective_of_the_preset(tmp_path):
    assert preset("FrozenLake-v0").objective.discount is not None
    other = preset("FrozenLake-v0", "grpo")
    assert (other.loss, other.objective) == ("grpo", TrainConfig().objective)
    assert preset("FrozenLake-v0").batch.num_epochs > 1 == preset("FrozenLake-v0", "rloo").batch.num_epochs
    assert other.batch == preset("FrozenLake-v0").batch and preset("FrozenLake-v0", "gigpo") == preset("FrozenLake-v0")
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"batch": {"num_groups": 2}}))
    assert read_config(file, loss="grpo") == dataclasses.replace(other, batch=read_config(file).batch)
    file.write_text(json.dumps({"loss": "ppo", "objective": {"gae_lambda": 0.9}}))
    assert read_config(file).objective.gae_lambda == read_config(file, loss="ppo").objective.gae_lambda == 0.9
    assert read_config(file, loss="grpo").objective == TrainConfig().objective
    with pytest.raises(ValueError, match="^loss='trpo' must be one of grpo"):
        preset("FrozenLake-v0", "trpo")


def test_parts_are_as_configured():
    document = {
        "rollout": "beam",
        "loss": "dapo",
        "filter": "top",
        "search": {"beam_width": 3, "score": "step"},
        "filtering": {"share": 0.5},
        "objective": {"clip_high": 0.3, "kl_coefficient": 0.1, "credit": "step", "reference_step_size": 0.25},
        "policy": {"max_turn_actions": 2, "temperature": 0.5, "action_mask": True},
        "batch": {"num_groups": 4, "group_size": 6, "num_turns": 3, "num_epochs": 2, "num_minibatches": 3},
    }
    learner = build(fields.updated(fields.updated(TrainConfig(), SMALL), document)).learner
    assert (learner.rollout.beam_width, learner.rollout.score, learner.rollout.num_candidates) == (3, "step", 4)
    loss = learner.algorithm.loss
    assert (loss.clip_low, loss.clip_high, loss.kl_coefficient, loss.aggregation) == (0.2, 0.3, 0.1, "token_mean")
    assert learner.filter.share == 0.5 and (learner.credit, learner.reference_step_size) == ("step", 0.25)
    assert (learner.num_groups, learner.group_size, learner.num_turns) == (4, 6, 3)
    assert (learner.num_epochs, learner.num_minibatches) == (2, 3)
    policy = learner.policy
    assert policy.model.config.end_of_turn and (policy.max_turn_actions, policy.temperature) == (2, 0.5)
    assert policy.use_action_mask and policy.model.config.d_model == 8
    assert build(fields.updated(TrainConfig(), SMALL)).learner.num_turns == 4  # the tasks' time limit


@pytest.mark.parametrize(
    ("objective", "function", "options"),
    [
        ({}, losses.gae, {"decay": 0.95}),
        ({"advantages": "gae", "gae_lambda": 1}, losses.gae, {"decay": 1}),
        ({"advantages": "bi_level_gae"}, losses.bi_level_gae, {"decay": 0.95}),
        (
            {"advantages": "bi_level_gae", "gae_lambda": 1.0, "turn_discount": 0.9, "discount": 0.5},
            losses.bi_level_gae,
            {"decay": 1.0, "turn_discount": 0.9},
        ),
    ],
)
def test_the_advantages_of_ppo(objective, function, options):
    document = {"loss": "ppo", "objective": objective, "policy": {"max_turn_actions": 2}}
    learner = build(fields.updated(fields.updated(TrainConfig(), SMALL), document)).learner
    assert (learner.algorithm.advantages.func, learner.algorithm.advantages.keywords) == (function, options)
    assert learner.discount == objective.get("discount") and learner.algorithm.loss == losses.ppo().loss


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.0, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0]),
        ("linear", [0.0, 0.5, 1.0, 0.75, 0.5, 0.25, 0.0]),
        ("cosine", [0.0, 0.5, *(0.5 * (1 + np.cos(np.pi * np.arange(5) / 4)))]),
    ],
)
def test_the_schedule_counts_updates(schedule, expected):
    """Signs of Adam's updates are ±1 for constant gradients, so each update is the learning rate."""
    config = OptimizerConfig(learning_rate=1.0, schedule=schedule, warmup_steps=2, epsilon=1e-12)
    optimizer = _optimizer(config, 6)
    state, steps = optimizer.init({"bias": np.zeros(1, np.float32)}), []
    for _ in expected:
        updates, state = optimizer.update(
            {"bias": np.full(1, 0.1, np.float32)}, state, {"bias": np.ones(1, np.float32)}
        )
        steps.append(-float(updates["bias"][0]))
    np.testing.assert_allclose(steps, expected, atol=1e-5)


def test_long_gradients_are_shortened_and_only_matrices_decay():
    config = OptimizerConfig(learning_rate=1.0, weight_decay=0.5, max_gradient_norm=1e-12, epsilon=1.0)
    optimizer = _optimizer(config, 10)
    model = build(fields.updated(TrainConfig(), {**SMALL, "model": {"d_model": 8, "num_layers": 3}})).policy.model
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    assert shapes["layers"]["mlp_norm"]["scale"].shape == (2, 8)  # two layers that are stacked: no matrix
    params = jax.tree.map(lambda leaf: np.full(leaf.shape, 3.0, np.float32), shapes)
    update = jax.jit(lambda gradient, params: optimizer.update(gradient, optimizer.init(params), params)[0])
    updates = update(jax.tree.map(lambda leaf: 1e6 * np.ones_like(leaf), params), params)
    for path, change in jax.tree_util.tree_leaves_with_path(updates):
        expected = 0.0 if path[-1].key == "scale" else -1.5
        np.testing.assert_allclose(change, expected, atol=1e-6, err_msg=jax.tree_util.keystr(path))
