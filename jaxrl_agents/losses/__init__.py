"""Losses: pure functions of arrays with explicit masks, from advantages to one number.

algorithm = losses.grpo()                                   # or dapo(), gspo(), …, presets.trl(loss_type="grpo")
advantages = algorithm.advantages(rewards, groups)
loss, metrics = algorithm.loss(log_probs, old_log_probs, advantages, mask)
"""

from jaxrl_agents.losses import presets
from jaxrl_agents.losses.advantages import (
    Selection,
    bi_level_gae,
    discounted_returns,
    dynamic_sampling,
    gae,
    gigpo_advantages,
    group_advantages,
    informative,
    leave_one_out_advantages,
    overlong_penalty,
    whiten,
)
from jaxrl_agents.losses.aggregation import RULES, Counts, aggregate, count
from jaxrl_agents.losses.algorithms import (
    ALGORITHMS,
    GAE_LAMBDA,
    Algorithm,
    cispo,
    dapo,
    dr_grpo,
    gigpo,
    grpo,
    gspo,
    ppo,
    rloo,
)
from jaxrl_agents.losses.categorical import entropy, log_prob
from jaxrl_agents.losses.kl import k1, k2, k3, kl_divergence
from jaxrl_agents.losses.policy_gradient import (
    PolicyLoss,
    TokenLosses,
    clipped_surrogate,
    sequence_log_ratio,
    truncated_surrogate,
    value_loss,
)
from jaxrl_agents.losses.preference import dpo_loss
from jaxrl_agents.losses.supervised import negative_log_likelihood

__all__ = [
    "ALGORITHMS",
    "GAE_LAMBDA",
    "RULES",
    "Algorithm",
    "Counts",
    "PolicyLoss",
    "Selection",
    "TokenLosses",
    "aggregate",
    "bi_level_gae",
    "cispo",
    "clipped_surrogate",
    "count",
    "dapo",
    "discounted_returns",
    "dpo_loss",
    "dr_grpo",
    "dynamic_sampling",
    "entropy",
    "gae",
    "gigpo",
    "gigpo_advantages",
    "group_advantages",
    "grpo",
    "gspo",
    "informative",
    "k1",
    "k2",
    "k3",
    "kl_divergence",
    "leave_one_out_advantages",
    "log_prob",
    "negative_log_likelihood",
    "overlong_penalty",
    "ppo",
    "presets",
    "rloo",
    "sequence_log_ratio",
    "truncated_surrogate",
    "value_loss",
    "whiten",
]
