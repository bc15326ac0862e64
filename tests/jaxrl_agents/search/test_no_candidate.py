"""Turns that are no candidates: what the model answers with NaN, and proposals without an action."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_agents import search

pytestmark = pytest.mark.usefixtures("quick_compilation")

TURNS = 4
MODES = {
    "best_of_n": (search.best_of_n, {"num_rollouts": 2}),
    "entropy_backtrack": (search.entropy_backtrack, {"entropy_threshold": 1.0}),
    "beam": (search.beam_search, {"beam_width": 2, "num_candidates": 2, "candidates": "sample"}),
    "lookahead": (search.lookahead, {"depth": 1, "num_candidates": 2, "candidates": "sample"}),
}
SCORES = {"return": "return", "step": "step", "function": lambda params, candidate: jnp.ones_like(candidate.reward)}


def counting(broken: str):
    """A model that counts its steps from two roots on; `broken` is NaN on the step that follows the count of 1."""

    def step(params, key, action, embedding):
        number = lambda name: jnp.where((embedding == 1) & (broken == name), jnp.nan, 1.0)
        return number("reward"), number("discount"), embedding + 1

    return search.Model(step, lambda params, key, embedding: (jnp.zeros((2, 2)), jnp.zeros(2), embedding))


def paths(mode, broken: str, score, **options):
    """The best path of a root that meets the broken step, and of one that does not."""
    root = search.RootFnOutput(prior_logits=jnp.zeros((2, 2)), value=jnp.zeros(2), embedding=jnp.array([0, 7]))
    function, sizes = MODES[mode]
    output = function(
        None, jax.random.key(0), root, counting(broken), num_turns=TURNS, score=SCORES[score], **sizes, **options
    )
    return output, output.trajectories(1)


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("broken", ["reward", "discount"])
def test_nan_leaves_no_path_under_any_score(mode, score, broken):
    output, best = paths(mode, broken, score)
    np.testing.assert_array_equal(best.mask[:, 0], [[False] * TURNS, [True] * TURNS])
    np.testing.assert_array_equal(output.value > -np.inf, [False, True])
    assert output.action[0] == -1
    np.testing.assert_array_equal(best.returns[:, 0], [0, TURNS])


@pytest.mark.parametrize(("without", "score"), [("action", "return"), ("action", "step"), ("log_prob", "return")])
@pytest.mark.parametrize("mode", MODES)
def test_a_proposed_turn_without_an_action_or_with_a_log_prob_of_nan_is_not_played(mode, without, score):
    def propose(params, key, embedding):
        none = embedding == 1
        action = jnp.where(none & (without == "action"), -1, 0)
        log_prob = jnp.where(none & (without == "log_prob"), jnp.nan, -1.0)
        return search.Proposal(action, jnp.ones(2, jnp.int32), log_prob, jnp.full(2, jnp.nan))

    output, best = paths(mode, "nothing", score, propose=propose)
    np.testing.assert_array_equal(best.mask[:, 0], [[False] * TURNS, [True] * TURNS])
    np.testing.assert_array_equal(best.returns[:, 0], best.rewards[:, 0].sum(axis=-1))
    np.testing.assert_array_equal(best.log_probs[:, 0], [[0] * TURNS, [-1] * TURNS])
    assert output.action[0] == -1
    if mode == "entropy_backtrack":  # an entropy of NaN is above no threshold, and is to be seen
        np.testing.assert_array_equal(output.search_tree.steps_back, 0)
        assert np.isnan(output.search_tree.entropies[:, 1]).all()
