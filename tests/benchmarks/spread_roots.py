"""What the arms do on two devices, against the same on one: run in a process that has two."""

import jax
import numpy as np

from benchmarks.measure import Runner
from benchmarks.search_arms import KEYS, Search, bare_steps, searching
from benchmarks.search_problems import problem
from benchmarks.suites import Settings
from jaxrl_agents import search

SIZE = 8


def searches_of_both_halves(lake, searched):
    """An arm apart counts what a search from either half of the roots counts, each with a key of its own."""
    arm = searching(searched, lake.over(2, apart=True))
    arm.run(1)
    key = jax.random.split(jax.random.key(2), KEYS)[0]
    alone = jax.jit(lambda key, root, tasks: searched(None, key, root, lake.model, tasks).counts.generated)
    found = []
    for half in range(2):
        rows = slice(half * SIZE // 2, (half + 1) * SIZE // 2)
        root, tasks = jax.tree.map(lambda leaf, rows=rows: leaf[rows], (lake.root(), lake.tasks))
        found.append(alone(jax.random.fold_in(key, half), root, tasks))
    assert not np.array_equal(*found), "both have the same random numbers"
    np.testing.assert_allclose(arm.finish()["generated"], np.mean(found))


def bare_steps_of_every_row(lake):
    """The same rows end up in the same states, and stay on their devices."""
    carries = []
    for base in (lake, lake.over(2, apart=True)):
        program = bare_steps(base, 3, words=True)
        runner = Runner(program.compiled()[0], program.constants, program.carry)
        runner(2)
        runner(3)
        carries.append(runner.carry)
    jax.tree.map(np.testing.assert_array_equal, *carries)
    states = jax.tree.leaves(carries[1][0])
    assert all(leaf.sharding.shard_shape(leaf.shape)[:2] == (3, SIZE // 2) for leaf in states)


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 2)
    frozen_lake = problem("FrozenLake-v0", SIZE, Settings())
    best = Search(search.best_of_n, {"num_turns": 12, "num_rollouts": 3})
    searches_of_both_halves(frozen_lake, best)
    bare_steps_of_every_row(frozen_lake)
    print("done")
