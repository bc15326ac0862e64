"""Policies: a transformer behind pure functions, its decoding cache, and adapters for the environments.

config = config_for(env, d_model=64, num_layers=2)   # env made with observation="tokens"
model = Transformer(config)
params = model.init(jax.random.key(0))
search_model = search.from_env(env, policy=one_turn_policy(env, model))
"""

from jaxrl_agents.models.axes import AXES
from jaxrl_agents.models.cache import Cache
from jaxrl_agents.models.config import TransformerConfig
from jaxrl_agents.models.observations import Adapter, adapter_for, config_for
from jaxrl_agents.models.policies import (
    EpisodeFunctions,
    EpisodeNode,
    episode_functions,
    one_turn_policy,
    one_turn_proposer,
)
from jaxrl_agents.models.tokens import Tokens, action_tokens, joined, turns
from jaxrl_agents.models.transformer import Params, Transformer
from jaxrl_agents.models.turns import Decisions, Turn, check_turns, decision_mask, decisions, decode_turn

__all__ = [
    "AXES",
    "Adapter",
    "Cache",
    "Decisions",
    "EpisodeFunctions",
    "EpisodeNode",
    "Params",
    "Tokens",
    "Transformer",
    "TransformerConfig",
    "Turn",
    "action_tokens",
    "adapter_for",
    "check_turns",
    "config_for",
    "decision_mask",
    "decisions",
    "decode_turn",
    "episode_functions",
    "joined",
    "one_turn_policy",
    "one_turn_proposer",
    "turns",
]
