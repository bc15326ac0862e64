"""Rollout options that do not fit the policy or the groups are found when a run is set up, not in its first step."""

import pytest

from jaxrl_agents.training import TrainConfig, build, fields

SMALL = {
    "env_arguments": {"time_limit": 4},
    "model": {"d_model": 8, "num_layers": 1, "num_heads": 2},
    "batch": {"num_groups": 2, "group_size": 4},
}
TURNS = {"max_turn_actions": 2}


@pytest.mark.parametrize(
    ("rollout", "search", "policy", "message"),
    [
        ("beam", {"beam_width": 3, "per": "group"}, {}, "search.beam_width=3 is less than group_size=4, and with per="),
        ("best_of_n", {"num_rollouts": 3, "per": "group"}, {}, "search.num_rollouts=3 is less than group_size=4, and "),
        ("beam", {"candidates": "gumbel", "num_candidates": 5}, {}, "search.num_candidates=5: with candidates="),
        ("lookahead", {"candidates": "gumbel", "num_candidates": 5}, {}, "search.num_candidates=5: with candidates="),
        ("beam", {"candidates": "gumbel"}, TURNS, "search.candidates='gumbel': turns of "),
        ("lookahead", {"candidates": "enumerate"}, TURNS, "search.candidates='enumerate': turns of "),
        ("beam", {"candidates": "enumerate", "num_candidates": 3}, {}, "search.num_candidates=3: search.candid"),
        ("lookahead", {"bootstrap": True}, {}, "search.bootstrap=True adds the value head's estimate, which loss="),
        *[(rollout, {"score": "best"}, {}, "search.score='best' is neither 'return' nor 'step' nor a function")
          for rollout in ("best_of_n", "beam", "lookahead", "entropy_backtrack")],
    ],
)  # fmt: skip
def test_what_a_rollout_cannot_do_is_one_clear_line(rollout, search, policy, message):
    document = SMALL | {"rollout": rollout, "search": search, "policy": policy}
    with pytest.raises(ValueError) as error:
        build(fields.updated(TrainConfig(env="FrozenLake-v0"), document))
    assert str(error.value).startswith(message) and "\n" not in str(error.value)
