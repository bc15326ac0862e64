"""What the tests of whole runs share: stopping one at a step, and comparing two."""

import os
import signal

import jax
import numpy as np

from jaxrl_agents.training.checkpoint import Checkpointer
from jaxrl_agents.training.progress import Display
from jaxrl_agents.training.records import read_rows


class StopAfter(Display):
    """Sends SIGTERM when the metrics of a step are shown."""

    def __init__(self, step):
        self.at = step

    def step(self, step, row):
        if step == self.at:
            os.kill(os.getpid(), signal.SIGTERM)


def timeless(folder):
    """The rows of a run without its times."""
    rows = read_rows(folder.metrics)
    return [{name: value for name, value in row.items() if not name.startswith("time/")} for row in rows]


def bits_of_the_last_state(setup, folder):
    with Checkpointer(folder.checkpoints) as checkpointer:
        state = checkpointer.restore(setup.learner.abstract_state(), setup.config.total_steps).state
    data = state._replace(key=jax.random.key_data(state.key))
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(data)]


def assert_same_run(setup, folder, whole):
    """Parameters, optimiser, key and metrics are bit for bit those of the other run."""
    assert bits_of_the_last_state(setup, folder) == bits_of_the_last_state(setup, whole)
    assert timeless(folder) == timeless(whole)
