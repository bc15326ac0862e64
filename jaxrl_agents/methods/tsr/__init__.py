"""TSR: trajectory-search rollouts for multi-turn reinforcement learning (Djuhera et al., arXiv 2602.11767).

sizes = Sizes()
given = problem(DOMAINS["sokoban"], sizes, seed=0)
trainer = learner(given, METHODS["beam"], sizes)
state = trainer.init(jax.random.key(0))._replace(params=base_params(given, sizes, jax.random.key(0)))
state, metrics = trainer.step(state, given.tasks)
print(measure(given, state.params, jax.random.key(1)).success)
"""

from jaxrl_agents.methods.tsr.base import base_params
from jaxrl_agents.methods.tsr.domains import DOMAINS, NUM_HELD_OUT, Domain, boxoban
from jaxrl_agents.methods.tsr.learning import (
    GROUP_SIZE,
    METHODS,
    NUM_GROUPS,
    Measured,
    Problem,
    Sizes,
    guided,
    learner,
    measure,
    problem,
)
from jaxrl_agents.methods.tsr.optimum import turn_optimum
from jaxrl_agents.methods.tsr.scores import Guided, LakeScore, Score, ShopScore

__all__ = [
    "DOMAINS",
    "GROUP_SIZE",
    "METHODS",
    "NUM_GROUPS",
    "NUM_HELD_OUT",
    "Domain",
    "Guided",
    "LakeScore",
    "Measured",
    "Problem",
    "Score",
    "ShopScore",
    "Sizes",
    "base_params",
    "boxoban",
    "guided",
    "learner",
    "measure",
    "problem",
    "turn_optimum",
]
