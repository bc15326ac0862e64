"""What the tests of whole runs share: starting one, stopping it at a step, and comparing two."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_agents.training.checkpoint import Checkpointer
from jaxrl_agents.training.progress import Display
from jaxrl_agents.training.records import read_rows


def process_of(*arguments, num_devices=1):
    """A process of Python, with output and errors as text, that compiles quickly."""
    environment = os.environ | {
        "JAX_NUM_CPU_DEVICES": str(num_devices),
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir or "",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    }
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)], cwd=Path(__file__).parents[3],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


class StopAfter(Display):
    """Sends SIGTERM when the metrics of a step are shown."""

    def __init__(self, step):
        self.at = step

    def step(self, step, row):
        if step == self.at:
            signal.raise_signal(signal.SIGTERM)


def petabytes(*_, **__):
    """Asks for 40 of them."""
    return jax.block_until_ready(jnp.zeros((10**8, 10**8)))


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
