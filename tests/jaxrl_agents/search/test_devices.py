"""Results depend neither on the number of devices nor on the batch: its order and its size."""

import os
import subprocess
import sys
from pathlib import Path

from tests.jaxrl_agents.search import devices


def test_devices_order_and_chunks_change_nothing():
    flags = f"--xla_force_host_platform_device_count=8 {os.environ.get('XLA_FLAGS', '')}"
    environment = {**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "XLA_FLAGS": flags}
    command = [sys.executable, "-m", devices.__name__]
    root = Path(__file__).parents[3]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=root, check=False)
    assert done.stdout.split() == [mode.__name__ for mode, _ in devices.MODES], done.stderr
