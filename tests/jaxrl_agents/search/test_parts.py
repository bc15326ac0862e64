"""The parts that searches are made of, turns of several actions and memory."""

import math
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import envs_jax
from jaxrl_agents import search
from jaxrl_agents.search import dedup, packing, proposals, rng, selection
from tests.jaxrl_agents.search import tables
from tests.jaxrl_agents.search.roots import started
from tests.reference import search as reference

pytestmark = pytest.mark.usefixtures("quick_compilation")

PROCESSES = tables.processes(8)
TASKS = tables.table(PROCESSES)
ROOT = tables.root(TASKS)
BEAM = {"num_turns": 2, "beam_width": 2, "num_candidates": 2}
LOOK = {"num_turns": 2, "depth": 1, "num_candidates": 2}
BACK = {"num_turns": 2, "entropy_threshold": 0.5}


best = jax.jit(partial(selection.best, np.int32(0)), static_argnums=1)


@settings(max_examples=30, deadline=None)
@given(
    scores=st.lists(
        st.lists(st.sampled_from([-math.inf, -2.0, -0.0, 0.0, 0.5, 3.0]), min_size=12, max_size=12),
        min_size=2,
        max_size=2,
    ),
    width=st.sampled_from([1, 5, 12]),
)
def test_best_candidates(scores, width):
    """Best first, ties to the lower index; −0 and 0 tie."""
    array = np.array(scores, np.float32).T
    values, chosen = best(array, width)
    expected = np.argsort(-(array + 0.0), axis=0, kind="stable")[:width]
    np.testing.assert_array_equal(chosen, expected)
    np.testing.assert_array_equal(values, np.take_along_axis(array, expected, 0))


@pytest.mark.parametrize("number, batch_size", [(60, 64), (300, 4)])
def test_many_candidates(number, batch_size):
    """Both ways of selecting and of merging, for few and many candidates."""
    generator = np.random.default_rng(0)
    scores = generator.integers(-5, 5, (number, batch_size)).astype(np.float32)
    scores[generator.random(scores.shape) < 0.2] = -np.inf
    scores[generator.random(scores.shape) < 0.1] = -0.0  # as good as 0
    keys = generator.choice(np.array([0, 1, 63, 64, 2**31], np.uint32), (2, number, batch_size))
    keys = np.concatenate([keys, keys[:1] >> 4, np.zeros_like(keys)])  # five words, alike in part
    _, chosen = best(scores, 20)
    np.testing.assert_array_equal(chosen, np.argsort(-scores, axis=0, kind="stable")[:20])
    left, merged = jax.jit(dedup.keep_best)(np.int32(0), scores, tuple(keys))
    expected = scores.copy()
    for b in range(batch_size):
        seen = set()
        for i in np.argsort(-scores[:, b], kind="stable"):
            if scores[i, b] == -np.inf:
                continue
            key = tuple(keys[:, i, b])
            if key in seen:
                expected[i, b] = -np.inf
            seen.add(key)
    np.testing.assert_array_equal(left, expected)
    np.testing.assert_array_equal(merged, (np.isfinite(scores) & ~np.isfinite(expected)).sum(0))


def test_packing_is_lossless():
    generator = np.random.default_rng(0)
    tree = {
        "bytes": jnp.asarray(generator.integers(0, 256, (5, 3)), jnp.uint8),
        "signed": jnp.asarray(generator.integers(-128, 128, (5, 3)), jnp.int8),
        "short": jnp.asarray(generator.integers(0, 65536, (5, 3)), jnp.uint16),
        "flag": jnp.asarray(generator.random((5, 3)) < 0.5),
        "word": jnp.asarray(generator.integers(0, 2**32, (5, 3)), jnp.uint32),
        "number": jnp.asarray(generator.normal(size=(5, 3)), jnp.float32),
        "vector": jnp.asarray(generator.normal(size=(5, 3, 4)), jnp.float32),
        "half": jnp.asarray(generator.normal(size=(5, 3)), jnp.bfloat16),
    }
    packed = packing.pack(tree)
    assert len(packed.words) == 4  # two of 32 bits, 16 + 8 + 8, and the flag
    assert len(packed.whole) == 2
    jax.tree.map(np.testing.assert_array_equal, packed.unpack(), tree)


@pytest.mark.parametrize("num_actions", [4, 40])
def test_sampling_follows_the_policy(num_actions):
    """Frequencies of both ways to sample; actions without probability are never drawn, whatever the word."""
    logits = np.random.default_rng(1).normal(size=num_actions).astype(np.float32)
    logits[[0, num_actions - 1]] = [-np.inf, -1e9]
    words = np.append(np.asarray(jax.random.bits(jax.random.key(0), (39_998,), jnp.uint32)), np.uint32([0, 0xFFFFFFFF]))
    draw = jax.jit(lambda logits, words: proposals.sample(proposals.distribution(logits, 0.7), words))
    actions = np.asarray(draw(np.tile(logits[:, None], len(words)), words))
    share = np.bincount(actions, minlength=num_actions) / len(words)
    exact = reference.probabilities(logits[1:-1], 0.7)
    np.testing.assert_allclose(share[1:-1], exact, atol=0.01)
    assert share[0] == share[-1] == 0


def test_words_are_the_contract():
    keys = tables.keys(3)
    words = np.asarray(jax.jit(rng.turn_words, static_argnums=2)(keys, np.int32(4), 5))
    for b, key in enumerate(keys):
        assert words[:, b].tolist() == reference.words(key, 4, 5)
    mixed = np.asarray(jax.jit(rng.mix)(words[:, 0], 7))
    assert mixed.tolist() == [reference.mixed(int(word), 7) for word in words[:, 0]]


def propose_pairs(params, key, state):
    """Turns of up to three actions: 0, 1, 2 or a shorter beginning of it, by the key."""
    drawn = jax.vmap(lambda k: jax.random.randint(k, (), 1, 4))(key)
    action = jnp.broadcast_to(jnp.arange(3, dtype=jnp.int32), (len(state), 3))
    zeros = jnp.zeros(len(state))
    return search.Proposal(action, drawn, zeros - 1.5, zeros)


def test_turns_of_several_actions():
    """A turn ends early with the episode; rewards are discounted within it; plans replay."""
    processes = tables.processes(8, illegal=0.0)
    tasks = tables.table(processes)
    root = tables.root(tasks)
    output = search.beam_search(
        None, tables.keys(8), root, tables.MODEL, tasks=tasks, num_turns=3, beam_width=3, num_candidates=2,
        propose=propose_pairs, max_turn_actions=3,
    )  # fmt: skip
    found = jax.device_get(output.trajectories(3))
    assert found.actions.shape == (8, 3, 3, 3)
    assert output.action.shape == (8, 3)
    assert output.action_weights.shape == (8, 2)
    for b, process in enumerate(processes):
        for i in range(3):
            if float(found.scores[b, i]) == -math.inf:
                continue
            node = reference.Node(0)
            for t in range(3):
                length = int(found.lengths[b, i, t])
                scale, total = node.scale, node.total
                turn = [int(a) for a in found.actions[b, i, t]]
                assert turn == list(range(length)) + [-1] * (3 - length)
                for action in turn[:length]:
                    assert node.scale != 0
                    node = node.child(process, action)
                if length:
                    assert float(found.rewards[b, i, t]) * scale == node.total - total
                    assert float(found.log_probs[b, i, t]) == -1.5
            assert float(found.returns[b, i]) == node.total
    played = search.execute(None, jax.random.key(5), root, tables.MODEL, jnp.asarray(found.plan()), tasks=tasks)
    np.testing.assert_array_equal(played.returns, found.returns[:, 0])


ENDLESS = tables.table(tables.processes(2, illegal=0.0, ends=0.0))


def propose_given(params, key, state):
    """The turn and its length that are the parameters."""
    (turn, length), _ = params
    rows = len(state)
    zeros = jnp.zeros(rows)
    return search.Proposal(jnp.broadcast_to(turn, (rows, *turn.shape)), zeros.astype(int) + length, zeros, zeros)


@pytest.mark.parametrize(
    "action, length, played",
    [(1, 5, 1), (-1, 1, 0), (77, 1, 0), (0, -3, 0), ([0, -1, 1], 3, 1), ([0, 1, 77], 9, 2), ([2, 1, 0], 3, 3)],
)
def test_a_proposed_turn_ends_before_what_is_no_action(action, length, played):
    turn = np.atleast_1d(np.array(action, np.int32))
    turn = turn if len(turn) > 1 else turn[0]
    output = search.best_of_n(
        (turn, np.int32(length)), tables.keys(2), tables.root(ENDLESS), tables.MODEL, tasks=ENDLESS, num_turns=1,
        num_rollouts=1, propose=propose_given, max_turn_actions=turn.size,
    )  # fmt: skip
    assert np.all(output.counts.generated == played) and np.all(output.search_tree.lengths == played)
    expected = np.where(np.arange(turn.size) < played, turn, -1)
    np.testing.assert_array_equal(np.reshape(output.action, (2, -1)), [expected] * 2)
    np.testing.assert_array_equal(output.trajectories(1).mask[:, 0, 0], [played > 0] * 2)


@pytest.mark.parametrize(
    "mode, options",
    [
        (search.best_of_n, {"num_rollouts": 4}),
        (search.beam_search, {"beam_width": 4, "num_candidates": 2}),
        (search.lookahead, {"beam_width": 4, "num_candidates": 2, "depth": 1}),
        (search.entropy_backtrack, {"num_rollouts": 4, "entropy_threshold": 0.6, "retry_temperature": 1.0}),
    ],
)
def test_turns_drawn_as_they_are_played(mode, options):
    output = mode(None, tables.keys(8), ROOT, tables.MODEL, tasks=TASKS, num_turns=3, max_turn_actions=2, **options)
    found = jax.device_get(output.trajectories(4))
    for b, process in enumerate(PROCESSES):
        for i in range(4):
            state = 0
            for t in range(3):
                log_prob = 0.0
                for action in found.actions[b, i, t][: int(found.lengths[b, i, t])]:
                    assert int(action) in process.legal(state)
                    log_prob += math.log(reference.probabilities(process.logits[state], 1.0)[int(action)])
                    state = int(process.next[state, int(action)])
                assert float(found.log_probs[b, i, t]) == pytest.approx(log_prob, abs=1e-5)


@pytest.fixture(scope="module")
def shop():
    """(env, model, four tasks, root) of WebShop."""
    env, tasks = envs_jax.make("WebShop-v0")
    model, picked = search.from_env(env), tasks[np.arange(4)]
    return env, model, picked, started(env, model, picked.instances)


def search_shop(model, root, tasks):
    return search.beam_search(
        None, jax.random.key(0), root, model, tasks=tasks, num_turns=6, beam_width=8, num_candidates=4,
        candidates="gumbel",
    )  # fmt: skip


def test_no_large_constants(shop):
    """Shared arrays of an environment are arguments of the compiled program."""
    _, model, picked, root = shop
    lowered = jax.jit(search_shop).lower(model, root, picked.instances)
    assert max(len(line) for line in lowered.as_text().splitlines()) < 100_000


def test_webshop_search_never_clicks_what_is_not_there(shop):
    env, model, picked, root = shop
    output = search_shop(model, root, picked)
    found = jax.device_get(output.trajectories(1))
    played = search.execute(None, jax.random.key(1), root, model, jnp.asarray(found.plan()), tasks=picked)
    np.testing.assert_allclose(played.returns, found.returns[:, 0], rtol=1e-6)
    masks = jax.jit(jax.vmap(jax.vmap(env.action_mask, in_axes=(0, None))))(played.embeddings, picked.instances)
    there = np.take_along_axis(np.asarray(masks)[:, :6], np.maximum(found.actions[:, 0, :, None], 0), axis=2)[..., 0]
    assert found.mask.any() and there[found.mask[:, 0]].all()


@pytest.mark.parametrize(
    "mode, options, phases",
    [
        (search.beam_search, BEAM, "propose step select gather evaluate"),
        (search.best_of_n, {"num_turns": 2, "num_rollouts": 2}, "propose step evaluate"),
        (search.lookahead, LOOK, "propose step select gather evaluate"),
        (search.entropy_backtrack, BACK, "propose step gather evaluate"),
        (search.mcts, {"num_simulations": 2}, "step evaluate"),
    ],
)
def test_phases_have_names(mode, options, phases):
    """A profile of the compiled program can tell where the time goes."""
    run = lambda key, root, tasks: mode(None, key, root, tables.MODEL, tasks=tasks, **options)
    text = jax.jit(run).lower(jax.random.key(0), ROOT, TASKS).as_text(debug_info=True)
    scopes = set(re.findall(r"[\"/](propose|step|select|gather|evaluate)/", text))
    assert scopes == set(phases.split())
