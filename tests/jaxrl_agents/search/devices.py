"""A program of its own: searches of roots spread over eight devices, against the same roots in another way.

Prints the name of each mode whose results agree.
"""

import dataclasses

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

import envs_jax
from jaxrl_agents import search
from tests.jaxrl_agents.search.roots import as_text, random_lake, started

NUM_ROOTS, NUM_TURNS, CHUNK = 16, 5, 6
MODES = (
    (search.best_of_n, {"num_rollouts": 3}),
    (search.beam_search, {"beam_width": 3, "num_candidates": 3, "deduplicate": True}),
    (search.lookahead, {"depth": 1, "num_candidates": 2, "beam_width": 2}),
    (search.entropy_backtrack, {"entropy_threshold": 0.9, "num_rollouts": 2}),
)


def agree(mode, options, whole, model):
    """Whether all roots at once on eight devices find what they find on one, in chunks and in another order."""
    search_of = lambda keys, root, tasks: mode(None, keys, root, model, tasks=tasks, num_turns=NUM_TURNS, **options)
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("data",))
    spread = jax.jit(search_of)(*jax.device_put(whole, NamedSharding(mesh, PartitionSpec("data"))))
    assert len(spread.action.sharding.device_set) == 8
    order = np.random.default_rng(0).permutation(NUM_ROOTS)
    keys, (root, tasks) = whole[0][order], jax.tree.map(lambda leaf: np.asarray(leaf)[order], whole[1:])
    parts = search.chunked(mode, None, keys, root, model, tasks=tasks, chunk_size=CHUNK, num_turns=NUM_TURNS, **options)
    in_order = lambda leaf: leaf[:, order] if leaf.shape[:2] == (NUM_TURNS, NUM_ROOTS) else leaf[order]
    jax.tree.map(np.testing.assert_array_equal, own(parts), jax.tree.map(in_order, own(spread)))
    assert np.asarray(spread.counts.generated).min() > 0


def own(output):
    """What must not depend on the other roots: all but the rows spent on those that wait."""
    zeros = np.zeros(NUM_ROOTS)
    counts = dataclasses.replace(output.counts, wasted=zeros, policy_forwards=zeros)
    return jax.device_get(dataclasses.replace(output, counts=counts))


def main():
    env, bank = envs_jax.make("FrozenLake-v0", map=as_text(random_lake(seed, 4) for seed in range(NUM_ROOTS)))
    tasks, model = bank.instances, search.from_env(env)
    whole = (jax.random.split(jax.random.key(4), NUM_ROOTS), started(env, model, tasks), tasks)
    for mode, options in MODES:
        agree(mode, options, whole, model)
        print(mode.__name__)


if __name__ == "__main__":
    main()
