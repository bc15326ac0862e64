"""A program of its own: searches of roots spread over eight devices, against the same roots in another way.

Prints the name of each mode whose results agree.
"""

from functools import partial

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

import envs_jax
from jaxrl_agents import search
from tests.jaxrl_agents.search.roots import as_text, random_lake, started

NUM_ROOTS, CHUNK = 16, 6
MODES = (
    (search.best_of_n, {"num_rollouts": 3}),
    (search.beam_search, {"beam_width": 3, "num_candidates": 3, "deduplicate": True}),
    (search.lookahead, {"depth": 1, "num_candidates": 2, "beam_width": 2}),
    (search.entropy_backtrack, {"entropy_threshold": 0.9, "num_rollouts": 2}),
)


def agree(mode, options):
    """Whether all roots at once on eight devices find what they find on one, in chunks and in another order."""
    env, bank = envs_jax.make("FrozenLake-v0", map=as_text(random_lake(seed, 4) for seed in range(NUM_ROOTS)))
    tasks, model = bank.instances, search.from_env(env)
    whole = (jax.random.split(jax.random.key(4), NUM_ROOTS), started(env, model, tasks), tasks)
    search_of = lambda keys, root, tasks: mode(None, keys, root, model, tasks=tasks, num_turns=5, **options)
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("data",))
    spread = jax.jit(search_of)(*jax.device_put(whole, NamedSharding(mesh, PartitionSpec("data"))))
    assert len(spread.action.sharding.device_set) == 8
    order = np.random.default_rng(0).permutation(NUM_ROOTS)
    keys, root, tasks = jax.jit(partial(jax.tree.map, lambda leaf: leaf[order]))(whole)
    parts = search.chunked(mode, None, keys, root, model, tasks=tasks, chunk_size=CHUNK, num_turns=5, **options)
    found, expected = results(parts), results(spread)
    for name, leaf in expected.items():
        np.testing.assert_array_equal(found[name], leaf[order], err_msg=name)
    assert np.asarray(spread.counts.generated).min() > 0


def results(output):
    """What must not depend on the other roots, [B, …] each."""
    counts = {name: getattr(output.counts, name) for name in ("generated", "unique", "evaluated", "dead_ends")}
    own = {name: getattr(output, name) for name in ("action", "action_weights", "value")}
    paths = jax.device_get(output).trajectories(output.search_tree.width)
    names = ("actions", "lengths", "rewards", "log_probs", "mask", "returns", "scores", "words")
    return jax.device_get(counts | own | {name: getattr(paths, name) for name in names})


if __name__ == "__main__":
    for mode, options in MODES:
        agree(mode, options)
        print(mode.__name__)
