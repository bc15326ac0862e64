"""The documented bytes of a search beside the compiler's own figure."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs_jax
from jaxrl_agents import search
from tests.jaxrl_agents.search.roots import started

BATCH = 256
pytestmark = pytest.mark.usefixtures("quick_compilation")  # which changes no buffer


def step(params, key, action, words):
    words = words * jnp.uint32(3) + action.astype(jnp.uint32)[:, None]
    return (words[:, 0] & 1).astype(jnp.float32), jnp.where(words[:, -1] % 7 == 0, 0.0, 1.0), words


def model_of(num_actions):
    """Nodes of any size; the policy and the value are cheap, so that what is live is the search's."""

    def evaluate(params, key, words):
        logits = (words[:, :1] + jnp.arange(num_actions, dtype=jnp.uint32)) & 15
        return logits.astype(jnp.float32), (words[:, 0] & 7).astype(jnp.float32), words

    return search.Model(step, evaluate, state_key=lambda words: words)


def propose(params, key, words):
    bits = jax.random.key_data(key)[:, :1] >> jnp.arange(4, dtype=jnp.uint32)
    zeros = jnp.zeros(len(words))
    return search.Proposal((bits & 1).astype(jnp.int32), jnp.full(len(words), 4, jnp.int32), zeros, zeros)


def distance(params, candidate):
    return candidate.total - (candidate.embedding.sum(-1) & 15).astype(jnp.float32)


BEAM = {"num_turns": 4, "beam_width": 8, "num_candidates": 4}
FULL = {"num_turns": 2, "depth": 2, "num_candidates": 8, "continuation": "full"}
FOUR = {"max_turn_actions": 4}
RETRIES = {"num_turns": 8, "num_rollouts": 8, "entropy_threshold": 0.5}
WORDS_AND_ACTIONS = [  # of a node
    (search.beam_search, BEAM, 25, 4),
    (search.beam_search, {**BEAM, "num_candidates": None, "candidates": "enumerate", "deduplicate": True}, 3, 4),
    (search.beam_search, {**BEAM, **FOUR}, 3, 16),
    (search.beam_search, {**BEAM, **FOUR, "propose": propose}, 25, 4),
    (search.best_of_n, {"num_turns": 4, "num_rollouts": 16}, 25, 64),
    (search.lookahead, {"num_turns": 2, "depth": 4, "num_candidates": 8}, 3, 16),
    (search.lookahead, {"num_turns": 2, "depth": 2, "num_candidates": 8, **FOUR}, 25, 4),
    (search.lookahead, {**FULL, "num_candidates": 3, "candidates": "gumbel"}, 25, 4),
    (search.lookahead, {**FULL, "bootstrap": False}, 25, 4),
    (search.lookahead, {**FULL, "score": distance}, 25, 4),
    (search.entropy_backtrack, {**RETRIES, **FOUR, "free_backtrack": True}, 25, 4),
    (search.mcts, {"num_simulations": 16}, 3, 2),
    (search.mcts, {"num_simulations": 16}, 3, 64),
]


@pytest.mark.parametrize(("mode", "options", "words", "actions"), WORDS_AND_ACTIONS)
def test_memory_is_what_the_compiler_says(mode, options, words, actions):
    root = search.RootFnOutput(
        prior_logits=jnp.zeros((BATCH, actions)), value=jnp.zeros(BATCH), embedding=jnp.ones((BATCH, words), jnp.uint32)
    )
    estimate = search.estimate_bytes(mode, root, **options)
    compiled = search.compiled_bytes(mode, None, jax.random.key(0), root, model_of(actions), **options)
    assert 0.75 * estimate < compiled <= 1.2 * estimate


@pytest.mark.parametrize(
    ("name", "made", "mode", "options"),
    [
        ("Sokoban-v0", {"num_levels": BATCH}, search.beam_search,
         {"num_turns": 24, "beam_width": 8, "candidates": "enumerate"}),
        ("FrozenLake-v0", {}, search.lookahead, {**FULL, "num_candidates": 3, "candidates": "gumbel"}),
    ],
    ids=["Sokoban-v0", "FrozenLake-v0"],
)  # fmt: skip
def test_memory_on_an_environment(name, made, mode, options):
    """States of small integers, tasks, legal actions; shapes are all that is needed of them."""
    env, tasks = envs_jax.make(name, **made)
    tasks = tasks[np.arange(BATCH) % len(tasks)]
    model = search.from_env(env)
    root = jax.eval_shape(started, env, model, tasks.instances)
    estimate = search.estimate_bytes(mode, root, tasks=tasks, **options)
    compiled = search.compiled_bytes(mode, None, jax.random.key(0), root, model, tasks=tasks, **options)
    assert 0.8 * estimate < compiled <= 1.2 * estimate
    assert search.estimate_bytes(mode, root, tasks=(), **options) < estimate  # a model of one's own may need none
    with pytest.raises(ValueError, match="tasks is None, and root.embedding is a .*State: .* give tasks as for the"):
        search.estimate_bytes(mode, root, **options)
    with pytest.raises(ValueError, match=r"tasks\..* has shape \(3,\); its first axis must be the 256 roots"):
        search.estimate_bytes(mode, root, tasks=tasks[:3], **options)


def test_more_of_anything_takes_more_bytes():
    root = search.RootFnOutput(
        prior_logits=jnp.zeros((BATCH, 4)), value=jnp.zeros(BATCH), embedding=jnp.ones((BATCH, 3), jnp.uint32)
    )
    of = lambda mode, **options: search.estimate_bytes(mode, root, **options)
    beam, ahead = of(search.beam_search, **BEAM), of(search.lookahead, **FULL)
    for more in ({"num_turns": 8}, {"beam_width": 9}, {"num_candidates": 5}, {"max_turn_actions": 2}):
        assert of(search.beam_search, **{**BEAM, **more}) > beam
    for more in ({"depth": 3}, {"num_candidates": 9}, {"beam_width": 2}):
        assert of(search.lookahead, **{**FULL, **more}) > ahead > of(search.lookahead, **{**FULL, "bootstrap": False})
