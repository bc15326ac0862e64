"""ExpSeek as rollout augmentation: which rollouts a tabular policy is trained on, and what comes of it.

Four strategies on TabularWeb, a random web with sparse rewards: plain rollouts, rollouts that step back where the
policy is unsure, the best of N, and both. Each trains a softmax table with GRPO and a KL penalty to the initial policy.

    setting, config = expseek_rollouts.strategy("ExpSeek+BoN", required_pairs=4, learning_rate=10.0)
    run = expseek_rollouts.train(setting, make_web(0), jax.random.key(0), config=config)

`train_many` trains all settings on all seeds at once.
"""

from jaxrl_agents.methods.expseek_rollouts.metrics import Metrics, diversity, measure
from jaxrl_agents.methods.expseek_rollouts.rollouts import Rollouts, generate
from jaxrl_agents.methods.expseek_rollouts.settings import STRATEGIES, Config, Setting, Web, make_web, strategy
from jaxrl_agents.methods.expseek_rollouts.training import Run, train, train_many, update

__all__ = [
    "STRATEGIES",
    "Config",
    "Metrics",
    "Rollouts",
    "Run",
    "Setting",
    "Web",
    "diversity",
    "generate",
    "make_web",
    "measure",
    "strategy",
    "train",
    "train_many",
    "update",
]
