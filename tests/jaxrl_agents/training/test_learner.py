"""The learner: what an update is made of, exact resume, equal numbers however a batch is cut or sharded, learning."""

import dataclasses
import os
import subprocess
import sys
from functools import cache, partial

import jax
import numpy as np
import optax
import pytest
from jax.sharding import AbstractMesh

import envs_jax
from jaxrl_agents import losses
from jaxrl_agents.models import Transformer, config_for
from jaxrl_agents.rollouts import Beam, Policy, Standard, Top, demonstrated
from jaxrl_agents.training import Checkpointer, Learner, credit, make_mesh, metrics, sharding, update
from tests.jaxrl_agents.rollouts import cases

pytestmark = pytest.mark.usefixtures("quick_compilation")

GROUPS, SIZE, TURNS = 4, 4, 5


def holes():
    """A lake in which returns differ from the first episodes on."""
    return cases.lake(reward_schedule=(1.0, -1.0, 0.0))


def learner(algorithm=None, optimizer=None, *, env=holes, **options):
    (policy, _), tasks = env()
    options = {"num_turns": TURNS, "num_groups": GROUPS, "group_size": SIZE} | options
    made = Learner(
        policy, options.pop("rollout", Standard()), algorithm or losses.grpo(), optimizer or optax.adam(1e-2), **options
    )
    return made, tasks


@cache
def made_by(name):
    """Learners that several tests share: (learner, tasks)."""
    parts = {"num_minibatches": 2, "num_micro_batches": 2}
    following = {"credit": "step", "reference_step_size": 0.25, "num_epochs": 2}
    return {
        "sgd": lambda: learner(losses.grpo(kl_coefficient=0.1), optax.sgd(0.5), num_epochs=2),
        "ppo": lambda: learner(losses.ppo(entropy_coefficient=0.01), **parts),
        "gigpo": lambda: learner(losses.gigpo(), filter=Top(0.5), rollout=Beam(2, 2)),
        "grpo": lambda: learner(losses.grpo(kl_coefficient=0.1), **parts, **following),
    }[name]()


def placed(state):
    """Committed to a device, as restored states are, so that all steps of a learner are one program."""
    return jax.device_put(state, jax.devices()[0])


def started(made):
    """A state whose policy is far from uniform."""
    state = made.init(jax.random.key(1))._replace(params=jax.tree.map(np.array, holes()[0][1]))
    reference = None if state.reference is None else jax.tree.map(lambda leaf: np.float32(0.9) * leaf, state.params)
    return placed(state._replace(reference=reference))


@cache
def first_batch(name):
    """The batch that the first step of `made_by(name)` learns from, and the trajectories that it is taken from."""
    made, tasks = made_by(name)

    @jax.jit
    def batch_of(policy, state, tasks):
        _, collect_key, _ = jax.random.split(state.key, 3)
        trajectory = made._collected(policy, state.params, collect_key, tasks)
        return made._batch(policy, state, made._filtered(trajectory)[0]), trajectory

    return jax.device_get(batch_of(made.policy, started(made), tasks))


def norm_of(tree):
    return np.sqrt(sum(np.square(leaf, dtype=np.float64).sum() for leaf in jax.tree.leaves(jax.device_get(tree))))


def assert_near(actual, expected, tolerance):
    """Equal but for `tolerance` of the norm of the whole."""
    actual, expected = jax.device_get((actual, expected))
    assert norm_of(jax.tree.map(np.subtract, actual, expected)) <= tolerance * norm_of(expected)


@cache
def batch_of_rooms():
    """Random decisions that a policy of several actions a turn might have taken."""
    (policy, params), tasks = cases.rooms(max_turn_actions=2)

    @jax.jit
    def drawn(policy, params, tasks):
        trajectory = Standard()(params, jax.random.key(0), policy, tasks, group_size=4, num_turns=3)
        draw = lambda seed: jax.random.normal(jax.random.key(seed), trajectory.actions.shape)
        mask = (trajectory.actions >= 0) & (draw(0) > -0.5)
        batch = update.Batch(trajectory.observations, trajectory.actions, trajectory.action_mask, mask)
        old = update.decided(policy, params, batch).log_probs
        return batch._replace(
            old_log_probs=old + 0.2 * draw(1), advantages=draw(2), value_targets=draw(3), reference_log_probs=old + 0.1
        )

    return policy, params, drawn(policy, params, cases.batch(tasks, 4))


@pytest.mark.parametrize("name", ["grpo", "dr_grpo", "dapo", "gspo"])
def test_micro_batches_have_the_gradient_of_the_whole_batch(name):
    """Whatever they are made of: episodes, or, where these do not hang together, turns."""
    policy, params, batch = batch_of_rooms()
    loss = update.policy_loss(policy, losses.ALGORITHMS[name](kl_coefficient=0.1, entropy_coefficient=0.01), 0.5, 6)
    gradient = jax.jit(partial(update.gradient, loss), static_argnums=2, static_argnames=("turns_apart", "num_shards"))
    whole, numbers = gradient(params, batch, 1)
    assert norm_of(whole) > 1e-3
    parts, summed = gradient(params, batch, 5, **({} if name == "gspo" else {"turns_apart": True, "num_shards": 2}))
    assert_near(parts, whole, 1e-6)
    for field in numbers:
        np.testing.assert_allclose(summed[field], numbers[field], rtol=2e-5, atol=1e-6, err_msg=field)


def test_parts_with_nothing_to_learn_are_left_out():
    """A part of them would be NaN here, and is not looked at."""
    batch = update.Batch(np.zeros(12), np.zeros((12, 1, 1)), None, np.isin(np.arange(12), [1, 6, 11])[:, None, None])
    looked_at = lambda params, part, counts: (params * part.mask.any() / part.mask.any(), {"rows": part.mask.sum()})
    for num_parts, looked in ((6, 2), (5, 1)):  # of two rows, of three
        slope, numbers = update.gradient(looked_at, 1.0, batch, num_parts)
        assert slope == looked and numbers["rows"] == 3


def test_parts_are_put_together_in_the_order_of_the_rows():
    batch = update.Batch(np.arange(12), np.arange(12), None, np.ones(12, bool))
    made = update.in_parts(lambda part: {"twice": 2 * part.observations}, batch, 3)
    assert made["twice"].tolist() == list(range(0, 24, 2))


def test_epochs_keep_the_log_probabilities_of_the_behaviour():
    """Two epochs are two updates on one batch whose old log-probabilities and advantages do not move."""
    (made, tasks), (batch, _) = made_by("sgd"), first_batch("sgd")
    state = started(made)
    loss = update.policy_loss(made.policy, made.algorithm, 0.5)
    gradient_of = jax.jit(lambda params: update.gradient(loss, params, batch, 1))
    params, fractions = jax.tree.map(np.array, state.params), []
    for _ in range(2):
        gradient, numbers = jax.device_get(gradient_of(params))
        params = jax.tree.map(lambda leaf, slope: leaf - np.float32(0.5) * slope, params, gradient)
        fractions.append(float(numbers["clip_fraction"]))
    assert fractions[0] == 0 and fractions[1] > 0  # on-policy at first, then measured against the old policy
    after, numbers = made.step(state, tasks)
    assert_near(after.params, params, 1e-6)
    assert float(numbers["clip_fraction"]) == pytest.approx(sum(fractions) / 2, rel=1e-5)


def test_credit_by_step_compares_returns_from_the_same_turn_on():
    rewards = np.array([[0, 0, 1], [0, 2, 0], [1, 0, 0], [0, 0, 0]], np.float32)
    taken = np.array([[1, 1, 1], [1, 1, 0], [1, 0, 0], [1, 1, 1]], bool)
    trajectory = first_batch("sgd")[1].replace(rewards=rewards, mask=taken, groups=np.array([0, 0, 1, 1]))
    assign = partial(credit.assign, losses.dr_grpo(), values=None, credit="step", discount=0.5)
    made = jax.jit(assign)(trajectory, taken[..., None], taken[..., None])
    returns = np.array([[0.25, 0.5, 1], [1, 2, 0], [1, 0, 0], [0, 0, 0]])
    expected = np.zeros((4, 3))
    for first in (0, 2):
        for turn in range(3):
            rows = [row for row in (first, first + 1) if taken[row, turn]]
            expected[rows, turn] = returns[rows, turn] - returns[rows, turn].mean()
    np.testing.assert_allclose(made.advantages[..., 0], expected, atol=1e-6)


def test_bi_level_gae_goes_over_turns_and_then_over_their_actions():
    """Of a policy with up to two actions a turn; whitened, as all advantages of a value function."""
    lengths = np.array([[2, 1, 2], [1, 2, 0], [2, 0, 0], [2, 2, 1]])
    draw = np.random.default_rng(0).normal
    rewards, values = draw(size=(4, 3)).astype(np.float32), draw(size=(4, 3, 2)).astype(np.float32)
    trajectory = first_batch("sgd")[1].replace(rewards=rewards)
    mask = np.arange(2) < lengths[..., None]
    algorithm = losses.ppo()._replace(advantages=partial(losses.bi_level_gae, turn_discount=0.9, decay=0.5))
    made = jax.jit(partial(credit.assign, algorithm, credit=None, discount=0.8))(trajectory, mask, mask, values)
    gains = np.zeros((4, 3, 2))
    for row in range(4):
        gain = worth = 0.0  # of the turn's last action, and of having come to that of the next turn
        for turn in reversed(np.flatnonzero(lengths[row])):
            last, value = lengths[row, turn] - 1, values[row, turn]
            gain = rewards[row, turn] + 0.9 * worth - value[last] + 0.9 * 0.5 * gain
            worth = value[last]
            gains[row, turn, last] = gain
            if last:
                gains[row, turn, 0] = 0.8 * value[1] - value[0] + 0.8 * 0.5 * gain
    targets = np.where(mask, gains + values, 0)
    whitened = (gains - gains[mask].mean()) / gains[mask].std(ddof=1)
    np.testing.assert_allclose(made.advantages, np.where(mask, whitened, 0), atol=1e-5)
    np.testing.assert_allclose(made.value_targets, targets, atol=1e-5)


@pytest.mark.parametrize(
    ("algorithm", "chosen", "advantage"),
    [
        (losses.dr_grpo(), "episode", 0.5),
        (losses.dr_grpo(), "step", 0.5),
        (losses.gigpo(), None, 1.0),  # of the episode, and of the step
        (losses.ppo()._replace(advantages=losses.gae), None, np.sqrt(0.75)),  # ± 0.5 by the deviation of four
    ],
    ids=["episode", "step", "gigpo", "ppo"],
)
def test_a_reward_counts_where_its_own_turn_is_not_learned_from(algorithm, chosen, advantage):
    """Returns 1 and 0 by the last of three turns, which another than the policy chose."""
    trajectory = jax.tree.map(lambda leaf: leaf[:2], first_batch("sgd")[1]).replace(
        rewards=np.array([[0, 0, 1], [0, 0, 0]], np.float32),
        mask=np.ones((2, 3), bool),
        state_keys=np.tile(np.arange(3, dtype=np.uint32)[:, None], (2, 1, 1)),
        groups=np.zeros(2, np.int32),
    )
    taken, learned = np.ones((2, 3, 1), bool), np.tile(np.array([True, True, False])[:, None], (2, 1, 1))
    assign = jax.jit(partial(credit.assign, algorithm, credit=chosen, discount=1.0))
    made = assign(trajectory, taken, learned, np.zeros((2, 3, 1), np.float32))
    found = np.where(learned, made.advantages, 0)[..., 0]
    np.testing.assert_allclose(found, [[advantage, advantage, 0], [-advantage, -advantage, 0]], rtol=1e-6)
    if made.value_targets is not None:
        np.testing.assert_array_equal(made.value_targets[:, :2, 0], [[1, 1], [0, 0]])


@pytest.mark.parametrize("name", ["ppo", "gigpo", "grpo"])
def test_a_step_learns_and_reports(name):
    made, tasks = made_by(name)
    batch, trajectory = first_batch("gigpo" if name == "gigpo" else "sgd")  # plain episodes are the same for all
    state = started(made)
    before, key = jax.tree.map(np.array, (state.params, state.reference)), np.array(jax.random.key_data(state.key))
    after, numbers = made.step(state, tasks)
    assert metrics.divergence(numbers) is None
    assert float(numbers["return"]) == pytest.approx(trajectory.rewards.sum(1).mean())
    assert int(numbers["env_steps"]) == int(trajectory.counts.env_steps.sum())
    assert float(numbers["kept"]) == (0.5 if made.filter else 1)
    assert 0 < float(numbers["entropy"]) <= np.log(4) and float(numbers["gradient_norm"]) >= 0
    assert ("value_loss" in numbers) == credit.takes_values(made.algorithm)
    assert int(after.step) == 1 and (np.asarray(jax.random.key_data(after.key)) != key).any()
    if after.reference is not None:
        blend = lambda new, old: 0.25 * np.asarray(new) + 0.75 * old
        assert_near(after.reference, jax.tree.map(blend, after.params, before[1]), 1e-6)
    if made.filter:  # the other groups are left out of the update
        returns = trajectory.rewards.sum(1).reshape(GROUPS, SIZE)
        best = np.sort(np.argsort(-returns.std(1, ddof=1), kind="stable")[:2])
        expected = trajectory.actions.reshape(GROUPS, SIZE, TURNS, 1)[best].reshape(-1, TURNS, 1)
        np.testing.assert_array_equal(batch.actions, expected)
        assert made.num_rows == 2 * SIZE


def test_resumed_training_is_the_same_bit_for_bit(tmp_path):
    made, tasks = made_by("grpo")
    state, history = placed(made.init(jax.random.key(0))), []
    with Checkpointer(tmp_path) as checkpointer:
        for step in range(4):
            if step == 2:
                checkpointer.save(step, state)
            state, numbers = made.step(state, tasks)
            history.append(jax.tree.map(np.asarray, numbers))
        restored = checkpointer.restore(made.abstract_state()).state
    assert type(restored) is type(state)
    for step in (2, 3):
        restored, numbers = made.step(restored, tasks)
        jax.tree.map(np.testing.assert_array_equal, jax.tree.map(np.asarray, numbers), history[step])
    data = lambda state: jax.tree.map(np.asarray, state._replace(key=jax.random.key_data(state.key)))
    jax.tree.map(np.testing.assert_array_equal, data(restored), data(state))


def test_what_is_not_finite_is_named():
    made, tasks = made_by("gigpo")
    state = started(made)
    heads = state.params["heads"]
    spoilt = state.params | {"heads": heads | {"norm": {"scale": np.full_like(heads["norm"]["scale"], np.nan)}}}
    _, numbers = made.step(placed(state._replace(params=spoilt)), tasks)
    assert metrics.divergence(numbers).endswith("_norm is nan")  # no action is legal under such a policy: no loss
    assert metrics.divergence({"loss": 1.0, "gradient_norm": np.inf}) == "gradient_norm is inf"
    assert metrics.divergence({"loss": 1.0}) is None


def test_it_learns_to_reach_the_goal():
    env, tasks = envs_jax.make("FrozenLake-v0", map=["SFF", "FHF", "FFG"], is_slippery=False, observation="tokens")
    policy = Policy(env, Transformer(config_for(env, **cases.SIZES)))
    made = Learner(
        policy, Standard(), losses.grpo(), optax.adam(0.03), num_turns=8, num_groups=4, group_size=16, num_epochs=2
    )
    state, first = made.step(made.init(jax.random.key(0)), tasks)
    for _ in range(25):
        state, numbers = made.step(state, tasks)
    assert float(first["success"]) < 0.5 < 0.9 < float(numbers["success"])


def test_supervised_steps_learn_what_was_shown():
    (policy, _), tasks = cases.lake(is_slippery=False)
    made = Learner(policy, Standard(), losses.grpo(), optax.adam(0.03), num_turns=6, num_micro_batches=2)
    show = jax.jit(partial(demonstrated, policy))
    shown = jax.device_get(show(jax.random.key(0), cases.batch(tasks, 4), np.array([[1, 1, 2, 1, 2, 2]] * 4)))
    masked = shown.replace(loss_mask=shown.mask & (np.arange(6) > 0))
    state, first = made.supervised_step(made.init(jax.random.key(0)), masked)
    for _ in range(30):
        state, last = made.supervised_step(state, masked)
    assert float(first["loss"]) > 0.8 and float(last["loss"]) < 0.1 and int(state.step) == 31


def test_turns_that_the_end_cut_short_were_not_ended_by_the_policy():
    env, tasks = envs_jax.make("FrozenLake-v0", is_slippery=False, observation="tokens")
    policy = Policy(env, Transformer(config_for(env, **cases.SIZES, end_of_turn=True)), max_turn_actions=3)
    made = Learner(policy, Standard(), losses.grpo(), optax.sgd(0.1), num_turns=2)
    plans = np.array([[[1, -1, -1], [2, -1, -1]], [[1, -1, -1], [1, -1, -1]]])  # into a hole, and not
    decisions = jax.jit(lambda *given: made._decisions(policy, demonstrated(policy, *given)))
    batch = decisions(jax.random.key(0), cases.batch(tasks, 2), plans)
    assert batch.mask.tolist() == [[[True, True, False], [True, False, False]], [[True, True, False]] * 2]


def test_coverage_and_diversity_are_those_of_the_definitions():
    _, trajectory = first_batch("sgd")
    numbers = jax.jit(metrics.of_trajectory, static_argnums=(1, 2))(trajectory, SIZE, 4)
    taken, keys, actions = trajectory.mask, trajectory.state_keys, trajectory.actions[..., 0]
    assert 0 < taken[:, -1].sum() < len(taken)  # some have ended, others have not
    kinds, differing, pairs = 0, 0, 0
    for rows in np.arange(GROUPS * SIZE).reshape(GROUPS, SIZE):
        kinds += len({(*keys[r, t], actions[r, t]) for r in rows for t in range(TURNS) if taken[r, t]})
        for turn in range(TURNS):
            if taken[rows, turn].any():
                pairs += SIZE * (SIZE - 1)
                differing += sum(actions[a, turn] != actions[b, turn] for a in rows for b in rows)
    assert float(numbers["coverage"]) == pytest.approx(kinds / taken.sum())
    assert float(numbers["diversity"]) == pytest.approx(differing / pairs)
    assert float(numbers["length"]) == pytest.approx(taken.sum() / len(taken))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_groups": 0}, "num_groups=0"),
        ({"credit": "turn"}, "credit='turn'"),
        ({"discount": 0.0}, "discount=0"),
        ({"reference_step_size": 2.0}, "reference_step_size=2"),
        ({"value_coefficient": float("nan")}, "value_coefficient=nan"),
        ({"credit": "step", "algorithm": losses.ppo()}, "credit='step' has no effect on a loss that compares single"),
        ({"group_size": 1}, "group_size=1 leaves nothing to compare"),
        ({"num_minibatches": 3}, "num_minibatches=3 must divide the 16"),
        ({"filter": Top(0.1)}, "share=0.1 of 4 groups"),
        (
            {"mesh": AbstractMesh((3, 2, 1), sharding.AXES)},
            "the 16 episodes of a step must be a multiple of .* = 6: use group_size=6, or another num_groups",
        ),
    ],
)
def test_errors_name_the_argument_and_the_value(options, message):
    with pytest.raises(ValueError, match=message):
        learner(**options)


def test_tasks_of_another_environment_are_refused():
    made, _ = made_by("sgd")
    with pytest.raises(TypeError, match="plays FrozenLakeTask"):
        made.step(None, cases.rooms(max_turn_actions=2)[1])


def numbers_on(mesh):
    """Parameters and metrics after two steps."""
    made, tasks = learner(losses.ppo(), optax.sgd(0.1), num_groups=8, num_micro_batches=2, rollout=Beam(2, 2))
    made = dataclasses.replace(made, mesh=mesh)
    state = made.init(jax.random.key(0))
    for _ in range(2):
        state, numbers = made.step(state, tasks)
    return jax.tree.map(np.asarray, (state.params, numbers)), made, state


def on_eight_devices():
    """Run in a process of its own: split over data, parameters and heads, they are the numbers of one device."""
    expected, _, _ = numbers_on(None)
    found, made, state = numbers_on(make_mesh(2, 2, 2))
    assert_near(found[0], expected[0], 2e-6)
    for name, value in expected[1].items():
        np.testing.assert_allclose(found[1][name], value, rtol=2e-5, atol=1e-5, err_msg=name)
    assert jax.tree.map(lambda leaf: leaf.sharding, state) == made.plan().shardings
    assert "heads/policy" in made.plan().table()
    print("equal")


@pytest.mark.slow
def test_eight_devices_give_the_numbers_of_one():
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "8", "JAX_PLATFORMS": "cpu"}
    environment["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    command = "from tests.jaxrl_agents.training.test_learner import on_eight_devices; on_eight_devices()"
    done = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, env=environment, timeout=300, check=False
    )
    assert done.returncode == 0 and "equal" in done.stdout, done.stderr[-3000:]
