"""TRL, verl and tunix: their losses to the digit, from their own argument names, values and defaults.

The same algorithm differs between them in the rows it averages over, in bounds that are on by default, in ε and in
what a name means (docs/losses.md has the table). Versions read: TRL f2cd577 (2026-07-24), verl b178a3c (2026-01-29),
tunix c7d8950 (2026-08-21). verl gives NaN for a batch without a single token; here the loss is then 0.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from jaxrl_agents.losses import arguments
from jaxrl_agents.losses.advantages import group_advantages, leave_one_out_advantages
from jaxrl_agents.losses.algorithms import Algorithm
from jaxrl_agents.losses.policy_gradient import PolicyLoss

_TRL_AGGREGATION = {
    "grpo": "row_mean_token_mean",
    "bnpo": "token_mean",
    "dapo": "token_mean",
    "cispo": "token_mean",
    "dr_grpo": "row_mean_token_scale",
}
_VERL_AGGREGATION = {
    "token-mean": "token_mean",
    "seq-mean-token-sum": "sequence_mean_token_sum",
    "seq-mean-token-mean": "sequence_mean_token_mean",
    "seq-mean-token-sum-norm": "row_sum_token_scale",
}
_TUNIX_AGGREGATION = {
    "token-mean": "token_mean",
    "sequence-mean-token-mean": "sequence_mean_token_mean",
    "sequence-mean-token-scale": "sequence_mean_token_scale",
    "seq-mean-token-sum": "sequence_mean_token_sum",
    "sequence-mean-token-sum-norm": "row_mean_token_sum",
}
_KL_NAMES = {"kl": "k1", "k1": "k1", "mse": "k2", "k2": "k2", "mse_kl": "k2", "low_var_kl": "k3", "k3": "k3"}


def trl(
    *,
    loss_type: str = "dapo",
    importance_sampling_level: str = "token",
    scale_rewards: str = "group",
    epsilon: float = 0.2,
    epsilon_high: float | None = None,
    delta: float | None = None,
    beta: float = 0.0,
    entropy_coef: float = 0.0,
    max_completion_length: int | None = None,
) -> Algorithm:
    """TRL's `GRPOTrainer` (`trl/trainer/grpo_trainer.py`), with the names and defaults of its `GRPOConfig`.

    "bnpo" is the mean over the tokens of a micro-batch, so it takes no `counts`; "dapo" and "cispo" take those of the
    whole batch. A reward that is NaN in TRL (unscorable) is a row that is False in `valid` here. KL is k3.
    """
    arguments.choice("loss_type", loss_type, _TRL_AGGREGATION)
    high = epsilon if epsilon_high is None else epsilon_high
    common: dict[str, Any] = {
        "ratio": arguments.choice("importance_sampling_level", importance_sampling_level, ("token", "sequence")),
        "aggregation": _TRL_AGGREGATION[loss_type],
        "max_length": max_completion_length,
        "kl_coefficient": beta,
        "entropy_coefficient": entropy_coef,
        "entropy_aggregation": "token_mean",
    }
    if loss_type == "cispo":  # there `epsilon_high` is the cap itself, and nothing bounds the ratio below
        loss = PolicyLoss(surrogate="truncated", clip_low=1.0, clip_high=high - 1.0, **common)
    elif delta is None:
        loss = PolicyLoss(clip_low=epsilon, clip_high=high, **common)
    else:  # the ratio is capped before the minimum is taken, which acts on each sign of the advantage in its own way
        arguments.number("delta", delta, low=1.0)
        clip_high, dual_clip = min(high, delta - 1.0), max(delta, 1.0 + high)
        loss = PolicyLoss(clip_low=epsilon, clip_high=clip_high, dual_clip=dual_clip, **common)
    return Algorithm(partial(group_advantages, scale=scale_rewards, epsilon=1e-4), loss)


def verl(
    *,
    adv_estimator: str = "grpo",
    norm_adv_by_std_in_grpo: bool = True,
    loss_mode: str = "vanilla",
    loss_agg_mode: str = "token-mean",
    clip_ratio_low: float = 0.2,
    clip_ratio_high: float = 0.2,
    clip_ratio_c: float = 3.0,
    use_kl_loss: bool = False,
    kl_loss_coef: float = 0.001,
    kl_loss_type: str = "low_var_kl",
    entropy_coeff: float = 0.0,
    loss_scale_factor: int | None = None,
) -> Algorithm:
    """The actor of verl (`verl/trainer/ppo/core_algos.py`), with the names and defaults of its `ActorConfig`.

    The dual clip is on (3.0), log-ratios are held within ±20, and a group of one keeps its reward as its advantage. The
    policy term of "gspo" is always "seq-mean-token-mean". verl adds 1e-8 to the length of a row.
    """
    arguments.choice("adv_estimator", adv_estimator, ("grpo", "rloo"))
    arguments.choice("loss_mode", loss_mode, ("vanilla", "gspo", "cispo"))
    rule = _VERL_AGGREGATION[arguments.choice("loss_agg_mode", loss_agg_mode, _VERL_AGGREGATION)]
    estimator = _KL_NAMES[
        arguments.choice("kl_loss_type", kl_loss_type, [name for name in _KL_NAMES if name != "mse_kl"])
    ]
    modes: dict[str, dict[str, Any]] = {
        "vanilla": {"dual_clip": clip_ratio_c, "log_ratio_bound": 20.0},
        "gspo": {"ratio": "sequence", "sequence_log_ratio_bound": 10.0},
        "cispo": {"surrogate": "truncated", "log_ratio_bound": 20.0},
    }
    loss = PolicyLoss(
        clip_low=clip_ratio_low,
        clip_high=clip_ratio_high,
        aggregation="sequence_mean_token_mean" if loss_mode == "gspo" else rule,
        max_length=loss_scale_factor,
        kl_coefficient=kl_loss_coef if use_kl_loss else 0.0,
        kl_estimator=estimator,
        kl_log_ratio_bound=20.0 if estimator == "k3" else None,
        kl_bound=10.0 if estimator == "k3" else None,
        kl_aggregation=rule,
        entropy_coefficient=entropy_coeff,
        entropy_aggregation=rule,
        **modes[loss_mode],
    )
    if adv_estimator == "rloo":
        return Algorithm(partial(leave_one_out_advantages, singleton="reward"), loss)
    scale = "group" if norm_adv_by_std_in_grpo else "none"
    return Algorithm(partial(group_advantages, scale=scale, epsilon=1e-6, singleton="reward"), loss)


def tunix(
    *,
    advantage_estimator: str = "grpo",
    loss_algo: str = "grpo",
    loss_agg_mode: str = "sequence-mean-token-mean",
    epsilon: float = 0.2,
    epsilon_high: float | None = None,
    epsilon_c: float | None = None,
    beta: float = 0.04,
    kl_loss_mode: str = "kl",
    kl_clamp_value: float | None = None,
) -> Algorithm:
    """The GRPO learner of tunix (`tunix/rl/algo_core.py`, `common.py`), with the names and defaults of `GRPOConfig`.

    Its KL penalty is on by default, as k1, whose gradient has mean 0 on-policy: choose "low_var_kl" to have an effect.
    """
    estimators: dict[str, Callable[..., Any]] = {
        "grpo": partial(group_advantages, epsilon=1e-6),
        "drgrpo": partial(group_advantages, scale="none"),
        "rloo": leave_one_out_advantages,
    }
    sequence = arguments.choice("loss_algo", loss_algo, ("grpo", "gspo-token")) == "gspo-token"
    loss = PolicyLoss(
        ratio="sequence" if sequence else "token",
        clip_low=epsilon,
        clip_high=epsilon if epsilon_high is None else epsilon_high,
        dual_clip=epsilon_c,
        log_ratio_bound=20.0,
        sequence_log_ratio_bound=10.0 if sequence else None,
        aggregation=_TUNIX_AGGREGATION[arguments.choice("loss_agg_mode", loss_agg_mode, _TUNIX_AGGREGATION)],
        kl_coefficient=beta,
        kl_estimator=_KL_NAMES[arguments.choice("kl_loss_mode", kl_loss_mode, ("kl", "mse_kl", "low_var_kl"))],
        kl_bound=kl_clamp_value,
    )
    return Algorithm(estimators[arguments.choice("advantage_estimator", advantage_estimator, estimators)], loss)


PRESETS = {"trl": trl, "verl": verl, "tunix": tunix}
