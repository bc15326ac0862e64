"""The named algorithms, as published: how each turns rewards into advantages, and log-probabilities into a loss.

An `Algorithm` is a pair of pure functions:

    algorithm = losses.grpo(kl_coefficient=0.01)
    advantages = algorithm.advantages(rewards, groups)
    loss, metrics = algorithm.loss(log_probs, old_log_probs, advantages, mask, reference_log_probs=reference)

Every function here takes the fields of `PolicyLoss` as keyword arguments, which replace the algorithm's own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from jaxrl_agents.losses.advantages import (
    gae,
    gigpo_advantages,
    group_advantages,
    leave_one_out_advantages,
)
from jaxrl_agents.losses.policy_gradient import PolicyLoss

GAE_LAMBDA = 0.95  # of `ppo`


class Algorithm(NamedTuple):
    """Advantages and a loss that belong together."""

    advantages: Callable[..., Any]
    loss: PolicyLoss


def grpo(**fields: Any) -> Algorithm:
    """GRPO (DeepSeekMath, arXiv 2402.03300, equations 3 and 4); the paper's KL penalty is `kl_coefficient=0.04`."""
    return Algorithm(group_advantages, PolicyLoss(**fields))


def dr_grpo(**fields: Any) -> Algorithm:
    """Dr. GRPO (arXiv 2503.20783): no division by the deviation, and none by the length of an answer.

    Set `max_length` to the longest answer that may be drawn; otherwise the padded length stands for it.
    """
    defaults = {"aggregation": "row_mean_token_scale"}
    return Algorithm(partial(group_advantages, scale="none"), PolicyLoss(**{**defaults, **fields}))


def dapo(**fields: Any) -> Algorithm:
    """DAPO (arXiv 2503.14476, equation 8): clip-higher, mean over all tokens, no KL penalty.

    Its other two parts work on rewards and batches: `overlong_penalty` and `dynamic_sampling`.
    """
    defaults = {"clip_high": 0.28, "aggregation": "token_mean"}
    return Algorithm(group_advantages, PolicyLoss(**{**defaults, **fields}))


def gspo(**fields: Any) -> Algorithm:
    """GSPO (arXiv 2507.18071, equation 5): the ratio of whole sequences, clipped at 3e-4 and 4e-4 (section 5.1)."""
    defaults = {"ratio": "sequence", "clip_low": 3e-4, "clip_high": 4e-4}
    return Algorithm(group_advantages, PolicyLoss(**{**defaults, **fields}))


def cispo(**fields: Any) -> Algorithm:
    """CISPO (MiniMax-M1, arXiv 2506.13585, equation 4): weights capped at 5 (ScaleRL, arXiv 2510.13786) only."""
    defaults = {"surrogate": "truncated", "clip_low": 1.0, "clip_high": 4.0, "aggregation": "token_mean"}
    return Algorithm(group_advantages, PolicyLoss(**{**defaults, **fields}))


def rloo(**fields: Any) -> Algorithm:
    """RLOO (arXiv 2402.14740): REINFORCE on the log-probability of a sequence, on-policy."""
    defaults = {"surrogate": "reinforce", "aggregation": "row_mean_token_sum"}
    return Algorithm(leave_one_out_advantages, PolicyLoss(**{**defaults, **fields}))


def gigpo(**fields: Any) -> Algorithm:
    """GiGPO (arXiv 2505.10978); its advantages are those of steps, from (rewards, anchors, groups, mask) of steps."""
    return Algorithm(gigpo_advantages, PolicyLoss(**fields))


def ppo(**fields: Any) -> Algorithm:
    """PPO (arXiv 1707.06347, equation 9); the advantages are `gae`, which gives returns for `value_loss` too."""
    return Algorithm(partial(gae, decay=GAE_LAMBDA), PolicyLoss(**{"aggregation": "token_mean", **fields}))


ALGORITHMS: dict[str, Callable[..., Algorithm]] = {
    function.__name__: function for function in (grpo, dr_grpo, dapo, gspo, cispo, rloo, gigpo, ppo)
}
