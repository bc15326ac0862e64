"""TRL, verl and tunix in plain Python and float64, written from the definitions in their sources.

TRL f2cd577, `trl/trainer/grpo_trainer.py`; verl b178a3c, `verl/trainer/ppo/core_algos.py`; tunix c7d8950,
`tunix/rl/algo_core.py` and `tunix/rl/common.py`. One token at a time, so that nothing is shared with what is tested.
What a library detaches from the gradient is computed from `frozen`, a copy of the log-probabilities.
"""

import math

import numpy as np


def clip(x, low, high):
    return min(max(x, low), high)


def k_estimate(kind, lp, ref):
    d = ref - lp
    return {"k1": -d, "k2": 0.5 * d * d, "k3": math.exp(d) - d - 1}[kind]


def tokens_of(mask):
    """For each row the positions that count."""
    return [[t for t in range(mask.shape[1]) if mask[i, t]] for i in range(mask.shape[0])]


def trl(
    lp, frozen, old, adv, mask, ref, ent, *, loss_type="dapo", level="token", eps=0.2, eps_high=None, delta=None,
    beta=0.0, entropy_coef=0.0, max_completion_length=None,
):  # fmt: skip
    eps_high = eps if eps_high is None else eps_high
    rows = tokens_of(mask)
    losses = np.zeros(mask.shape)
    for i, row in enumerate(rows):
        mean_log_ratio = sum(lp[i, t] - old[i, t] for t in row) / max(len(row), 1)
        for t in row:
            r = math.exp(lp[i, t] - old[i, t] if level == "token" else mean_log_ratio)
            if loss_type == "cispo":
                frozen_mean = sum(frozen[i, s] - old[i, s] for s in row) / max(len(row), 1)
                weight = math.exp(frozen[i, t] - old[i, t] if level == "token" else frozen_mean)
                losses[i, t] = -min(weight, eps_high) * adv[i] * lp[i, t]
            else:
                first = r if delta is None else min(r, delta)
                losses[i, t] = -min(first * adv[i], clip(r, 1 - eps, 1 + eps_high) * adv[i])
            if beta:
                losses[i, t] += beta * k_estimate("k3", lp[i, t], ref[i, t])
    num_tokens = max(sum(map(len, rows)), 1)
    if loss_type == "grpo":
        loss = sum(losses[i].sum() / max(len(row), 1) for i, row in enumerate(rows)) / len(rows)
    elif loss_type == "dr_grpo":
        loss = losses.sum() / (len(rows) * max_completion_length)
    else:
        loss = losses.sum() / num_tokens
    return loss - entropy_coef * sum(ent[i, t] for i, row in enumerate(rows) for t in row) / num_tokens


def verl_aggregate(losses, rows, mode, width, scale_factor=None):
    real = sum(1 for row in rows if row)
    if mode == "token-mean":
        return losses.sum() / sum(map(len, rows))
    if mode == "seq-mean-token-sum":
        return losses.sum() / real
    if mode == "seq-mean-token-mean":
        return sum(losses[i].sum() / (len(row) + 1e-8) for i, row in enumerate(rows) if row) / real
    return losses.sum() / (scale_factor or width)


def verl(
    lp, frozen, old, adv, mask, ref, ent, *, loss_mode="vanilla", mode="token-mean", low=0.2, high=0.2, c=3.0,
    kl_coef=0.0, kl="k3", entropy_coeff=0.0, scale_factor=None,
):  # fmt: skip
    rows, width = tokens_of(mask), mask.shape[1]
    losses, kls, ents = np.zeros(mask.shape), np.zeros(mask.shape), np.zeros(mask.shape)
    for i, row in enumerate(rows):
        for t in row:
            ents[i, t] = ent[i, t]
            if kl == "k3":
                d = clip(ref[i, t] - lp[i, t], -20, 20)
                kls[i, t] = clip(math.exp(d) - d - 1, -10, 10)
            else:
                kls[i, t] = k_estimate(kl, lp[i, t], ref[i, t])
            if loss_mode == "gspo":
                mean = sum(frozen[i, s] - old[i, s] for s in row) / len(row)
                r = math.exp(min(lp[i, t] - frozen[i, t] + mean, 10))
                losses[i, t] = max(-adv[i] * r, -adv[i] * clip(r, 1 - low, 1 + high))
                continue
            r = math.exp(clip(lp[i, t] - old[i, t], -20, 20))
            if loss_mode == "cispo":
                weight = clip(math.exp(clip(frozen[i, t] - old[i, t], -20, 20)), 1 - low, 1 + high)
                losses[i, t] = -weight * adv[i] * lp[i, t]
                continue
            single = max(-adv[i] * r, -adv[i] * clip(r, 1 - low, 1 + high))
            losses[i, t] = min(-adv[i] * c, single) if adv[i] < 0 else single
    policy_mode = "seq-mean-token-mean" if loss_mode == "gspo" else mode
    loss = verl_aggregate(losses, rows, policy_mode, width, scale_factor)
    loss -= entropy_coeff * verl_aggregate(ents, rows, mode, width, scale_factor)
    return loss + kl_coef * verl_aggregate(kls, rows, mode, width, scale_factor)


def tunix_aggregate(losses, rows, mode, width):
    real = max(sum(1 for row in rows if row), 1)
    if mode == "token-mean":
        return losses.sum() / max(sum(map(len, rows)), 1)
    if mode == "sequence-mean-token-mean":
        return sum(losses[i].sum() / max(len(row), 1) for i, row in enumerate(rows)) / real
    if mode == "sequence-mean-token-scale":
        return losses.sum() / width / real
    if mode == "seq-mean-token-sum":
        return losses.sum() / real
    return losses.sum() / len(rows)


def tunix(
    lp, frozen, old, adv, mask, ref, ent, *, loss_algo="grpo", mode="sequence-mean-token-mean", eps=0.2, eps_high=None,
    eps_c=None, beta=0.04, kl="k1", kl_clamp=None,
):  # fmt: skip
    eps_high = eps if eps_high is None else eps_high
    rows, width = tokens_of(mask), mask.shape[1]
    losses, kls = np.zeros(mask.shape), np.zeros(mask.shape)
    for i, row in enumerate(rows):
        for t in row:
            log_ratio = clip(lp[i, t] - old[i, t], -20, 20)
            if loss_algo == "gspo-token":
                mean = sum(clip(frozen[i, s] - old[i, s], -20, 20) for s in row) / len(row)
                log_ratio = min(lp[i, t] - frozen[i, t] + mean, 10)
            r = math.exp(log_ratio)
            losses[i, t] = max(-adv[i] * r, -adv[i] * clip(r, 1 - eps, 1 + eps_high))
            if eps_c is not None and adv[i] < 0:
                losses[i, t] = min(-eps_c * adv[i], losses[i, t])
            kls[i, t] = k_estimate(kl, lp[i, t], ref[i, t])
            if kl_clamp is not None:
                kls[i, t] = clip(kls[i, t], -kl_clamp, kl_clamp)
    return tunix_aggregate(losses, rows, mode, width) + beta * tunix_aggregate(kls, rows, mode, width)


def group_z(rewards, groups, eps, *, singleton, std=True):
    """A row at a time: verl and tunix, ε 1e-6; TRL, ε 1e-4; a group of one keeps its reward in verl."""
    out = []
    for reward, group in zip(rewards, groups, strict=True):
        peers = [r for r, g in zip(rewards, groups, strict=True) if g == group]
        if len(peers) == 1:
            out.append((reward / (1 + eps) if std else reward) if singleton == "reward" else 0.0)
            continue
        mean = sum(peers) / len(peers)
        deviation = math.sqrt(sum((p - mean) ** 2 for p in peers) / (len(peers) - 1))
        out.append((reward - mean) / (deviation + eps) if std else reward - mean)
    return np.array(out)
