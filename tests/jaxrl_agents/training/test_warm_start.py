"""The warm start: what it learns from, how training goes on from it, and exact resume in its middle and at its end."""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs_jax import scripted
from envs_jax.frozen_lake.scripted import Optimal
from envs_jax.web.scripted import Oracle, Rule
from jaxrl_agents.models import Transformer, config_for
from jaxrl_agents.rollouts import performed
from jaxrl_agents.train_command import run_resume
from jaxrl_agents.training import fields
from jaxrl_agents.training.config import TrainConfig
from jaxrl_agents.training.experts import expert_for
from jaxrl_agents.training.loop import train
from jaxrl_agents.training.planned import Planned
from jaxrl_agents.training.records import read_rows
from jaxrl_agents.training.run_folder import RunFolder
from jaxrl_agents.training.setup import build
from jaxrl_agents.training.warm_start import restarted
from tests.envs_jax.web import shops
from tests.jaxrl_agents.rollouts import cases
from tests.jaxrl_agents.training.runs import StopAfter, assert_same_run

pytestmark = pytest.mark.usefixtures("quick_compilation")

TINY = {
    "env": "FrozenLake-v0",
    "env_arguments": {"map": "SFG", "is_slippery": False, "time_limit": 3},
    "num_steps": 2,
    "model": {"d_model": 8, "num_layers": 1, "num_heads": 2},
    "batch": {"num_groups": 2, "group_size": 4},
    "objective": {"kl_coefficient": 0.1},
    "optimizer": {"learning_rate": 1e-9},
    "warm_start": {"num_steps": 3, "num_episodes": 4, "learning_rate": 0.1},
    "evaluation": {"every": 0, "num_episodes": 8},
}


@pytest.fixture(scope="module")
def setup():
    return build(fields.updated(TrainConfig(), TINY))


@pytest.fixture(scope="module")
def whole(setup, tmp_path_factory):
    """A run of three supervised steps and two of training."""
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "whole")
    outcome = train(setup, folder)
    assert (outcome.step, outcome.finished) == (5, True)
    return folder


def test_supervised_steps_come_first_and_teach_what_the_expert_does(whole):
    rows = read_rows(whole.metrics)
    warm = [row for row in rows if "warm_start/loss" in row]
    trained = [row for row in rows if "train/loss" in row]
    measured = [row for row in rows if "evaluation/success" in row]
    assert [row["step"] for row in warm] == [1, 2, 3] and [row["step"] for row in trained] == [4, 5]
    assert [row["step"] for row in measured] == [3, 5]  # where the warm start ends, and at the end
    assert all(row["warm_start/expert_success"] == row["warm_start/expert_return"] == 1 for row in warm)
    assert warm[0]["warm_start/loss"] == pytest.approx(np.log(4), abs=0.1)
    assert warm[2]["warm_start/loss"] < 0.6 * warm[0]["warm_start/loss"]
    assert measured[0]["evaluation/success"] == 1


def test_training_starts_with_a_fresh_optimizer_and_the_learned_policy_as_reference(setup, whole):
    row = next(row for row in read_rows(whole.metrics) if row["step"] == 4)
    assert row["train/reference_kl"] == pytest.approx(0, abs=1e-6)
    state = setup.learner.init(jax.random.key(0))
    learned, _ = setup.warm_start.step(state, setup.tasks)
    fresh = restarted(setup.learner, learned)
    assert int(fresh.step) == 1 and (jax.random.key_data(fresh.key) == jax.random.key_data(learned.key)).all()
    first = setup.learner.init(jax.random.key(0))
    same = lambda a, b: jax.tree.all(jax.tree.map(lambda x, y: bool((x == y).all()), a, b))
    assert same(fresh.params, learned.params) and same(fresh.reference, learned.params)
    assert same(fresh.opt_state, first.opt_state) and not same(learned.opt_state, first.opt_state)
    assert not same(learned.params, first.params)


@pytest.mark.parametrize("last", [1, 2, 3])  # stopping takes one step more: the middle, the end, and after it
def test_resume_is_exact(setup, whole, tmp_path, last):
    folder = RunFolder(tmp_path / "run")
    stopped = train(setup, folder, display=StopAfter(last))
    assert not stopped.finished and last <= stopped.step <= last + 1
    assert train(setup, folder, resume=True).finished
    assert_same_run(setup, folder, whole)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--warm-start.num-steps", "2"], r"^warm_start\.num_steps=2 cannot differ from the 3 that the run began with"),
        (["--seed", "1"], r"^seed=1 cannot differ from the 0 that the run"),  # other tasks would be held out
        (["--env-arguments", "time_limit=4"],  # says what the tasks are, from which those are held out
         r"^env_arguments=\{'map': 'SFG', .*, 'time_limit': 4\} cannot differ from the \{.*'time_limit': 3\} that "),
        (["--env", "Sokoban-v0"], r"^env=Sokoban-v0 cannot differ from the FrozenLake-v0 that the run"),
        (["--evaluation.num-held-out", "1"], r"^evaluation\.num_held_out=1 cannot differ from the 0 that the run"),
    ],
)  # fmt: skip
def test_what_a_run_keeps_when_it_is_resumed(whole, flags, message):
    pytest.importorskip("tyro")
    with pytest.raises(argparse.ArgumentError, match=message):
        run_resume([str(whole.path), *flags])


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (
            {"warm_start": {"num_steps": 1, "expert": "oracle"}},
            r"^warm_start\.expert='oracle' is no expert of FrozenLake",
        ),
        (
            {"env": "TabularWeb-v0", "warm_start": {"num_steps": 1}},
            r"^warm_start\.num_steps=1: TabularWeb has no expert to start from; FrozenLake, Sokoban, WebShop have",
        ),
        (
            {"warm_start": {"expert": "optimal"}},
            r"^warm_start\.expert='optimal' has no effect without supervised steps",
        ),
        (
            {"warm_start": {"learning_rate": 0.1}},
            r"^warm_start\.learning_rate=0\.1 has no effect without supervised steps: give warm_start\.num_steps",
        ),
        (
            {"warm_start": {"num_steps": 1, "num_episodes": 0}},
            r"^warm_start\.num_episodes=0 must be an integer",
        ),
        ({"warm_start": {"num_steps": -1}}, r"^warm_start\.num_steps=-1 must be an integer of at least 0"),
    ],
)
def test_what_does_not_fit_is_one_error(document, message):
    with pytest.raises(ValueError, match=message):
        build(fields.updated(TrainConfig(), document))


def test_environments_have_their_experts():
    env, _ = shops.synthetic()
    assert isinstance(expert_for(env), Oracle) and isinstance(expert_for(env, "rule"), Rule)
    assert isinstance(expert_for(cases.lake()[0][0].env), Optimal)
    assert isinstance(expert_for(cases.rooms()[0][0].env), Planned)


def fewest_moves(room):
    """By breadth-first search in plain Python, from a room's text."""
    cells = {(y, x): glyph for y, row in enumerate(room.splitlines()) for x, glyph in enumerate(row)}
    walls, targets = ({at for at, glyph in cells.items() if glyph in kind} for kind in ("#", ".+*"))
    (player,), (box,) = ([at for at, glyph in cells.items() if glyph in kind] for kind in ("@+", "$*"))
    reached, frontier, number = {(player, box)}, {(player, box)}, 0
    while frontier and not any(box in targets for _, box in frontier):
        after = {moved(player, box, by, walls) for player, box in frontier for by in ((-1, 0), (1, 0), (0, -1), (0, 1))}
        frontier, number = after - reached, number + 1
        reached |= frontier
    return number if frontier else np.inf


def moved(player, box, by, walls):
    ahead = lambda at: (at[0] + by[0], at[1] + by[1])
    pushed = ahead(box) if ahead(player) == box else box
    return (player, box) if ahead(player) in walls or pushed in walls else (ahead(player), pushed)


def test_the_planner_solves_rooms_in_the_fewest_moves():
    (policy, _), tasks = cases.rooms()
    show = jax.jit(lambda tasks: performed(policy, jax.random.key(0), tasks, Planned(num_turns=10), num_turns=10))
    shown = jax.device_get(show(tasks.instances))
    states = jax.vmap(lambda task: policy.env.initial(jnp.uint32(0), task))(tasks.instances)
    state, task = (lambda row: jax.tree.map(lambda leaf: leaf[row], states)), (lambda row: tasks[row])
    fewest = [fewest_moves(policy.env.render_text(state(row), task(row))) for row in range(len(tasks))]
    assert len(set(fewest)) > 2
    np.testing.assert_array_equal(shown.success, np.array(fewest) <= 10)
    np.testing.assert_array_equal(shown.lengths, np.minimum(fewest, 10))


def test_a_script_meets_the_outcomes_that_its_trajectory_has():
    """On ice it acts on what happened: replayed actions must meet the same words."""
    (policy, _), tasks = cases.lake()
    drawn = cases.batch(tasks, 4)
    show = jax.jit(lambda key: performed(policy, key, drawn, scripted.Uniform(), num_turns=6))
    shown = jax.device_get(show(jax.random.key(3)))
    legal = np.take_along_axis(shown.action_mask, np.maximum(shown.actions, 0), axis=-1)[..., 0]
    assert legal[shown.mask].all()  # the mask depends on where the slips led
    assert shown.mask[:, 0].all() and (np.diff(shown.mask.astype(int), axis=1) <= 0).all()


def test_turns_of_several_actions_are_full_but_for_the_last():
    """Replayed actions meet the words that the script met: none goes on where the other has ended."""
    (policy, _), tasks = cases.lake()
    model = Transformer(config_for(policy.env, **cases.SIZES, end_of_turn=True))
    policy = policy.replace(model=model, max_turn_actions=3)
    show = jax.jit(lambda key: performed(policy, key, cases.batch(tasks, 32), scripted.Uniform(), num_turns=3))
    shown = jax.device_get(show(jax.random.key(3)))
    assert shown.actions.shape == (32, 3, 3) and 0 < shown.ended.sum() < 32
    assert (shown.ended | (shown.lengths == 9)).all()
    taken = (shown.actions >= 0).reshape(32, 9).astype(int)
    assert (np.diff(taken, axis=1) <= 0).all() and (taken.sum(1)[shown.ended] % 3 > 0).any()
