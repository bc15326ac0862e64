"""Trajectories are what was searched: they replay, their log-probabilities are the model's, and N = 1 is plain."""

import dataclasses
import typing
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_agents.models import Transformer, adapter_for
from jaxrl_agents.rollouts import (
    EXPERT,
    POLICY,
    Beam,
    BestOfN,
    EntropyBacktrack,
    Lookahead,
    Standard,
    demonstrated,
)
from tests.jaxrl_agents.rollouts import cases

pytestmark = pytest.mark.usefixtures("quick_compilation")

GROUPS, SIZE, TURNS = 3, 4, 6
STRATEGIES = {
    "standard": Standard(),
    "best_of_n_group": BestOfN(6, per="group"),
    "beam_group": Beam(5, 3, per="group"),
    "beam_enumerate": Beam(2, candidates="enumerate"),
    "lookahead": Lookahead(depth=1, num_candidates=2),
    "free_backtrack": EntropyBacktrack(0.5, num_rollouts=2, free_backtrack=True),
}
PLAIN = [BestOfN(1), Beam(1, 1), Lookahead(depth=1, num_candidates=1), EntropyBacktrack(np.inf)]
_RUN = jax.jit(
    lambda strategy, params, key, policy, tasks, **sizes: strategy(params, key, policy, tasks, **sizes),
    static_argnums=0,
    static_argnames=("group_size", "num_turns"),
)


_READOUT = jax.jit(lambda env, observations: adapter_for(env)(observations).readout)
_DECIDED = jax.jit(lambda policy, *given: policy.decided(*given).log_probs)


GOAL, HOLE, ICE = 1.0, -1.0, 0.125


def lake():
    """The same in all tests, so that each strategy is compiled once."""
    return cases.lake(reward_schedule=(GOAL, HOLE, ICE))


def keys_of(seed):
    return jax.random.split(jax.random.key(seed), GROUPS)


def run(strategy, policy, params, tasks, keys=None, group_size=SIZE, num_turns=TURNS):
    """The trajectory of NumPy's arrays."""
    keys, instances = keys_of(0) if keys is None else keys, cases.batch(tasks, GROUPS)
    played = _RUN(strategy, params, keys, policy, instances, group_size=group_size, num_turns=num_turns)
    return jax.device_get(played)


def log_probs_of(policy, params, trajectory):
    made = _DECIDED(policy, params, trajectory.observations, trajectory.actions, trajectory.action_mask)
    return np.asarray(made).sum(-1)


def assert_same(actual, expected):
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(a, b, err_msg=jax.tree_util.keystr(path))


def assert_well_formed(trajectory):
    mask = trajectory.mask
    assert (mask[:, 1:] <= mask[:, :-1]).all(), "turns after the end"
    assert (trajectory.actions[~mask] == -1).all() and (trajectory.actions[mask][:, 0] >= 0).all()
    assert not trajectory.rewards[~mask].any() and not trajectory.log_probs[~mask].any()
    assert (trajectory.loss_mask == mask).all() and (trajectory.source == POLICY).all()
    assert (trajectory.groups == np.repeat(np.arange(GROUPS), SIZE)).all()
    assert trajectory.counts.env_steps.sum() >= trajectory.lengths.sum()
    assert trajectory.counts.policy_forwards.sum() >= mask.sum()


@pytest.mark.parametrize("name", STRATEGIES)
def test_slippery_trajectories_follow_from_the_rules_and_the_policy(name):
    (policy, params), tasks = lake()
    trajectory = run(STRATEGIES[name], policy, params, tasks)
    assert_well_formed(trajectory)
    assert trajectory.simulated == (name not in ("standard", "lookahead"))  # one rollout; played anew
    if "backtrack" not in name:  # retried turns are drawn at another temperature
        expected = log_probs_of(policy, params, trajectory)
        np.testing.assert_allclose(trajectory.log_probs, expected, rtol=1e-4, atol=1e-5)
    last = trajectory.mask.sum(1) - 1
    board = "FFFFFHFHFFFHHFFG"  # where it starts is ice
    for row, (path, actions) in enumerate(zip(_positions(trajectory), trajectory.actions[..., 0], strict=True)):
        for turn in range(last[row]):
            assert path[turn + 1] in _reachable(path[turn], actions[turn])
            assert board[path[turn + 1]] == "F"
        tiles = {board[cell] for cell in _reachable(path[last[row]], actions[last[row]])}
        assert (trajectory.rewards[row, : last[row]] == ICE).all()
        onto = {GOAL: "G", HOLE: "H", ICE: "F"}[float(trajectory.rewards[row, last[row]])]
        assert onto in tiles
        assert trajectory.success[row] == (onto == "G") and (onto != "F" or last[row] == TURNS - 1)


def _positions(trajectory):
    """The player's cell before each turn."""
    return np.asarray(_READOUT(lake()[0][0].env, trajectory.observations))[..., 0]


def _reachable(cell, action):
    row, column = divmod(int(cell), 4)
    moves = {0: (0, -1), 1: (1, 0), 2: (0, 1), 3: (-1, 0)}
    found = set()
    for direction in ((action - 1) % 4, action, (action + 1) % 4):
        down, right = moves[int(direction)]
        found.add(min(max(row + down, 0), 3) * 4 + min(max(column + right, 0), 3))
    return found


@pytest.mark.parametrize("strategy", [Beam(2, 3), EntropyBacktrack(0.5, max_retries=2)], ids=["beam", "backtrack"])
def test_rooms_replay_step_by_step(strategy):
    (policy, params), tasks = cases.rooms()
    trajectory = run(strategy, policy, params, tasks)
    assert_well_formed(trajectory)
    assert trajectory.action_mask is None
    instances = jax.tree.map(lambda leaf: np.repeat(leaf, SIZE, axis=0), cases.batch(tasks, GROUPS))
    observations, rewards, success = _replayed(policy.env, instances, trajectory.actions[..., 0], trajectory.mask)
    np.testing.assert_array_equal(trajectory.observations, observations)
    np.testing.assert_array_equal(trajectory.rewards, rewards)
    np.testing.assert_array_equal(trajectory.success, success)


@jax.jit
@partial(jax.vmap, in_axes=(None, 0, 0, 0))
def _replayed(env, task, actions, mask):
    """Observations, rewards and success of an episode, its turns played one after the other."""

    def play(state, turn):
        action, taken = turn
        after, reward, _, _ = env.transition(state, jnp.maximum(action, 0), jnp.uint32(0), task)
        kept = jax.tree.map(lambda new, old: jnp.where(taken, new, old), after, state)
        return kept, (env.observe(state, task), jnp.where(taken, reward, 0))

    last, (observations, rewards) = jax.lax.scan(play, env.initial(jnp.uint32(0), task), (actions, mask))
    return observations, rewards, env.success(last, task)


@pytest.mark.parametrize("strategy", PLAIN, ids=lambda strategy: type(strategy).__name__)
def test_with_one_of_everything_a_strategy_is_the_plain_rollout_bit_for_bit(strategy):
    (policy, params), tasks = lake()
    plain, same = run(Standard(), policy, params, tasks), run(strategy, policy, params, tasks)
    nothing = {"counts": None, "simulated": False}
    assert_same(same.replace(**nothing), plain.replace(**nothing))
    assert not plain.simulated and not same.simulated


@pytest.mark.parametrize("context", ["turn", "episode"])
def test_the_root_of_an_ended_episode_has_no_legal_action(context):
    (policy, params), tasks = cases.rooms(context=context)
    instances = cases.batch(tasks, 2)
    states = jax.vmap(policy.env.initial)(jnp.zeros(2, jnp.uint32), instances)
    steps = np.array([0, instances.time_limit[1]], np.uint16)
    model = policy.search_model(TURNS)
    root = jax.jit(model.root)(params, dataclasses.replace(states, steps=steps), instances)
    assert np.isneginf(root.prior_logits).all(axis=1).tolist() == [False, True]
    assert model.ended((params, instances), root.embedding).tolist() == [False, True]


def test_a_group_does_not_depend_on_the_other_groups():
    (policy, params), tasks = lake()
    whole = run(Standard(), policy, params, tasks)
    others = jax.random.key_data(keys_of(1)).at[1].set(jax.random.key_data(keys_of(0))[1])
    same = run(Standard(), policy, params, tasks, jax.random.wrap_key_data(others))
    differs = (whole.actions != same.actions).reshape(GROUPS, -1).any(axis=1)
    assert differs.tolist() == [True, False, True]
    rows = slice(SIZE, 2 * SIZE)
    np.testing.assert_array_equal(whole.observations[rows], same.observations[rows])


def test_best_of_a_group_are_its_best_rollouts():
    (policy, params), tasks = lake()
    best = run(BestOfN(6, per="group"), policy, params, tasks).rewards.sum(1).reshape(GROUPS, SIZE)
    everyone = run(BestOfN(6, per="group"), policy, params, tasks, group_size=6).rewards.sum(1).reshape(GROUPS, 6)
    assert all(len(np.unique(returns)) > 2 for returns in everyone)
    np.testing.assert_array_equal(best, -np.sort(-everyone)[:, :SIZE])


@pytest.mark.parametrize(
    ("strategy", "fields"),
    [
        (Standard(), {"max_turn_actions": 3}),
        (Beam(2, 2), {"max_turn_actions": 2, "context": "episode", "temperature": 0.7}),
    ],
    ids=["turns", "turns-episode"],
)
def test_turns_of_several_actions_and_whole_episodes_have_the_models_log_probabilities(strategy, fields):
    (policy, params), tasks = cases.rooms(**fields)
    trajectory = run(strategy, policy, params, tasks, num_turns=3)
    assert trajectory.actions.shape == (GROUPS * SIZE, 3, policy.max_turn_actions)
    expected = log_probs_of(policy, params, trajectory)
    whole = ~np.asarray(trajectory.final)  # an episode may end before its last turn does
    np.testing.assert_allclose(trajectory.log_probs[whole], expected[whole], rtol=1e-4, atol=2e-5)
    assert len(np.unique((trajectory.actions >= 0).sum(-1))) > 1  # turns end early, some of them


@pytest.mark.parametrize(
    ("strategy", "fields"),
    [
        (EntropyBacktrack(2.0, retry_temperature=4.0, max_retries=1), {"max_turn_actions": 3}),
        (
            EntropyBacktrack(1.0, retry_temperature=4.0, max_retries=1, num_rollouts=2),
            {"max_turn_actions": 2, "context": "episode", "temperature": 0.7},
        ),
    ],
    ids=["turns", "turns-episode"],
)
def test_turns_that_backtracking_retries_are_drawn_at_their_own_temperature(strategy, fields):
    (policy, params), tasks = cases.rooms(**fields)
    trajectory = run(strategy, policy, params, tasks, num_turns=3)
    taken = trajectory.mask & ~np.asarray(trajectory.final)  # an episode may end before its last turn does
    plain, hot = (
        log_probs_of(policy.replace(temperature=heat), params, trajectory)[taken] for heat in (policy.temperature, 4.0)
    )
    found = trajectory.log_probs[taken]
    is_plain, is_hot = (np.isclose(found, expected, rtol=1e-4, atol=2e-5) for expected in (plain, hot))
    assert np.all(is_plain | is_hot) and np.any(is_hot & ~is_plain) and np.any(is_plain & ~is_hot)
    assert trajectory.counts.env_steps.sum() > (trajectory.actions >= 0).sum()  # discarded turns among them


class Watched(Transformer):
    """Says how many observations it reads; the actions of turns come one token at a time."""

    read: typing.ClassVar[list[int]] = []

    def apply(self, params, tokens, cache=None):
        if tokens.word.shape[1] > 1:
            jax.debug.callback(lambda word: Watched.read.append(len(word)), tokens.word)
        return super().apply(params, tokens, cache)


@pytest.mark.parametrize(
    "strategy",
    [Standard(), Beam(2, 2), Lookahead(depth=2, num_candidates=2)],
    ids=lambda strategy: type(strategy).__name__,
)
def test_forwards_of_whole_turns_are_the_observations_that_were_read(strategy):
    (policy, params), tasks = cases.rooms(max_turn_actions=2)
    watched = policy.replace(model=Watched(policy.model.config))
    Watched.read.clear()
    trajectory = run(strategy, watched, params, tasks, num_turns=2)
    jax.effects_barrier()
    assert trajectory.counts.policy_forwards.sum() == sum(Watched.read)


def test_demonstrations_stop_at_the_end_of_the_episode():
    (policy, _), tasks = cases.lake(is_slippery=False)
    to_goal = [1, 1, 2, 1, 2, 2, 0, 0]
    into_hole = [2, 1, 0, 0, -1, -1, -1, -1]
    show = jax.jit(partial(demonstrated, policy))
    shown = jax.device_get(show(jax.random.key(0), cases.batch(tasks, 2), np.array([to_goal, into_hole])))
    assert (
        shown.mask.sum(1).tolist() == [6, 2] and shown.ended.all() and np.asarray(shown.final).sum(1).tolist() == [1, 1]
    )
    assert shown.success.tolist() == [True, False]
    assert shown.actions[0, :, 0].tolist() == [1, 1, 2, 1, 2, 2, -1, -1]
    assert shown.returns.tolist() == [1, 0] and (shown.source == EXPERT).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(BestOfN, 0), "num_rollouts=0"),
        (partial(BestOfN, per="task"), "per='task'"),
        (partial(Beam, beam_width=0), "beam_width=0"),
        (partial(Lookahead, depth=0), "depth=0"),
        (partial(EntropyBacktrack, float("nan")), "entropy_threshold=nan"),
        (partial(EntropyBacktrack, retry_temperature=0), "retry_temperature=0"),
        (lambda: lake()[0][0].replace(context="page"), "context='page'"),
        (lambda: lake()[0][0].replace(temperature=0.0), "temperature=0"),
        (lambda: run(BestOfN(2, per="group"), *lake()[0], lake()[1]), "num_rollouts=2"),
        (lambda: Standard()(None, jax.random.key(0), lake()[0][0], lake()[1][0], group_size=1, num_turns=1),
         "got one task"),
    ],
)  # fmt: skip
def test_errors_name_the_argument_and_the_value(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()
