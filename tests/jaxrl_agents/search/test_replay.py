"""What a search exports replays in plain Python, move by move, and names no action that the policy rules out."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs_jax
from jaxrl_agents import search
from tests.envs_jax.frozen_lake.lake import PythonLake
from tests.jaxrl_agents.search import tables
from tests.jaxrl_agents.search.roots import as_text, random_lake
from tests.reference import search as reference

pytestmark = pytest.mark.usefixtures("quick_compilation")

NUM_ROOTS, NUM_TURNS, SIDE, DISCOUNT = 24, 6, 4, 0.5
TEMPERATURE, RETRY_TEMPERATURE = 0.7, 1.5
REWARDS = (4.0, -1.0, -0.25)  # goal, hole, ice
LAKES = [PythonLake(random_lake(seed, SIDE), rewards=REWARDS) for seed in range(NUM_ROOTS)]
KEYS = tables.keys(NUM_ROOTS)
WORDS = np.array([[reference.words(key, turn, 15) for turn in range(NUM_TURNS)] for key in KEYS])  # [B, K, C]
NOWHERE = 5  # a root without a legal action


def policy(params, observation):
    logits = params[observation]
    return logits, jnp.zeros(len(logits), logits.dtype)


def policy_table(dtype):
    """Logits by cell that bfloat16 holds exactly; the illegal ones in all customs, a few cells without any other."""
    rng = np.random.default_rng(1)
    logits = jnp.asarray(rng.normal(size=(SIDE * SIDE, 4)), jnp.bfloat16)
    lowest = float(jnp.finfo(dtype).min)
    customs = rng.choice([-np.inf, lowest, -1e9], logits.shape)
    illegal = rng.random(logits.shape) < 0.3
    illegal[0], illegal[6] = [False, False, True, False], True
    return jnp.asarray(np.where(illegal, customs, logits.astype(jnp.float32)), dtype)


LOGITS = np.asarray(policy_table(jnp.float32))
LOGITS = np.where(LOGITS < -5e8, -np.inf, LOGITS)
INVALID = np.eye(4, dtype=bool)[np.arange(NUM_ROOTS) % 4]
INVALID[NOWHERE] = True

MODES = {
    search.best_of_n: {"num_rollouts": 4},
    search.beam_search: {"beam_width": 5, "num_candidates": 3, "deduplicate": True},
    search.lookahead: {"depth": 1, "num_candidates": 2, "beam_width": 2},
    search.entropy_backtrack: {
        "num_rollouts": 2, "entropy_threshold": 0.6, "retry_temperature": RETRY_TEMPERATURE,
    },
}  # fmt: skip
IN_HALF = (search.beam_search, search.mcts)  # the two ways to ask a model for logits


@pytest.fixture(scope="module")
def results():
    """The output and all paths of every mode, by (mode, dtype of the policy)."""
    env, tasks = envs_jax.make(
        "FrozenLake-v0", map=as_text(lake.rows for lake in LAKES), observation="index", reward_schedule=REWARDS
    )
    model = search.from_env(env, policy, DISCOUNT)
    states = jax.jit(jax.vmap(env.initial))(jnp.zeros(NUM_ROOTS, jnp.uint32), tasks.instances)
    outcomes = {}
    for dtype in (jnp.float32, jnp.bfloat16):
        params = policy_table(dtype)
        root = jax.jit(model.root)(params, states, tasks.instances)
        given = {"tasks": tasks, "invalid_actions": INVALID}
        for mode, options in MODES.items():
            if dtype == jnp.bfloat16 and mode not in IN_HALF:
                continue
            options = options | given | {"num_turns": NUM_TURNS, "temperature": TEMPERATURE}
            output = jax.device_get(mode(params, KEYS, root, model, **options))
            outcomes[mode, dtype] = output, jax.device_get(output.trajectories(output.search_tree.width))
        output = jax.device_get(search.mcts(params, KEYS, root, model, num_simulations=8, **given))
        outcomes[search.mcts, dtype] = output, jax.device_get(output.trajectories(4))
    return outcomes


def replay(b, i, found, temperature_of):
    """(the last cell, the discounted return) of path i of root b, whose every number is checked on the way."""
    lake, cell, scale, total = LAKES[b], (0, 0), 1.0, 0.0
    for t in range(int(found.mask[b, i].sum())):
        action, (turn, word) = int(found.actions[b, i, t]), found.words[b, i, t].tolist()
        logits = np.where(INVALID[b] & (t == 0), -np.inf, LOGITS[lake.cells.index(cell)])
        probability = reference.probabilities(logits, temperature_of(turn, b, word))[action]
        assert scale != 0 and probability > 0
        assert found.log_probs[b, i, t] == pytest.approx(math.log(probability), abs=1e-5)
        cell, reward = lake.step(cell, action, WORDS[b, turn, word] / 2**32)
        assert found.rewards[b, i, t] == reward and found.lengths[b, i, t] == 1
        total, scale = total + scale * reward, scale * DISCOUNT * (lake.tile(cell) in "SF")
    return cell, scale, total


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.__name__)
def test_exported_paths_replay(results, mode):
    """Chance, rewards, log-probabilities at their temperatures, and returns, from actions and words alone."""
    output, found = results[mode, jnp.float32]
    tree = output.search_tree
    hot = lambda turn, b, slot: mode is search.entropy_backtrack and tree.steps_back[turn, b, slot] > 0
    temperature_of = lambda *node: RETRY_TEMPERATURE if hot(*node) else TEMPERATURE
    played = 0
    for b in range(NUM_ROOTS):
        ends = []
        for i in range(tree.width):
            mask = found.mask[b, i]
            assert not np.any(mask[1:] & ~mask[:-1])
            assert np.all(found.actions[b, i][~mask] == -1) and np.all(found.words[b, i][~mask] == -1)
            if found.scores[b, i] == -np.inf:
                assert not mask.any()
                continue
            cell, scale, total = replay(b, i, found, temperature_of)
            assert found.returns[b, i] == found.scores[b, i] == total
            finished = scale == 0 or LOGITS[LAKES[b].cells.index(cell)].max() == -np.inf or b == NOWHERE
            assert finished or mask.sum() == NUM_TURNS or mode is search.entropy_backtrack
            ends.append(cell)
            played += mask.sum()
        assert len(ends) > 0 and (mode is not search.beam_search or len(set(ends)) == len(ends))
    assert played > 2 * NUM_ROOTS


EVERY_MODE = [*MODES, search.mcts]


BLANK = {"parents": -1, "action_from_parent": -1, "lengths": 0, "rewards": 0, "log_probs": 0, "node_values": -np.inf}


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.__name__)
def test_empty_slots_are_blank(results, mode):
    tree = results[mode, jnp.float32][0].search_tree
    empty = tree.node_visits == 0
    assert empty.any() or mode is search.best_of_n
    for name, blank in BLANK.items():
        assert np.all(getattr(tree, name)[empty] == blank)
    if mode is not search.entropy_backtrack:  # nor do copies of ended nodes name a word
        assert not np.any(tree.candidates[tree.lengths == 0])


@pytest.mark.parametrize("mode", EVERY_MODE, ids=lambda mode: mode.__name__)
def test_a_root_without_legal_actions(results, mode):
    output, found = results[mode, jnp.float32]
    assert output.action[NOWHERE] == -1 and not output.action_weights[NOWHERE].any()
    assert output.counts.generated[NOWHERE] == 0 and not found.mask[NOWHERE, 0].any()
    others = np.delete(np.arange(NUM_ROOTS), NOWHERE)
    legal = (LOGITS[0] > -np.inf) & ~INVALID
    assert legal[others, output.action[others]].all() and not output.action_weights[~legal].any()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_mcts_visits_no_illegal_action(results, dtype):
    output, found = results[search.mcts, dtype]
    legal = (LOGITS[0] > -np.inf) & ~INVALID
    first, took = found.actions[:, :, 0], found.mask[:, :, 0]
    assert np.take_along_axis(legal, np.maximum(first, 0), axis=1)[took].all() and took.sum() > NUM_ROOTS
    others = np.arange(NUM_ROOTS) != NOWHERE
    assert not output.search_tree.children_visits[others, 0][~legal[others]].any()
    allowed = output.search_tree.children_prior_logits[others, 1:] > -5e8
    visited = output.search_tree.children_visits[others, 1:] > 0
    assert visited.any() and not np.any(visited & ~allowed & allowed.any(axis=-1, keepdims=True))


@pytest.mark.parametrize("mode", IN_HALF, ids=lambda mode: mode.__name__)
def test_half_the_precision_of_priors_changes_nothing(results, mode):
    """bfloat16 holds these logits exactly, so all draws and all that is reported are the same."""
    single, half = (results[mode, dtype] for dtype in (jnp.float32, jnp.bfloat16))
    summary = lambda output, found: (output.action, output.action_weights, output.value, output.counts, found)
    jax.tree.map(np.testing.assert_array_equal, summary(*half), summary(*single))
