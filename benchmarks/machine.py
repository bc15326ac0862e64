"""What a run ran on: enough to judge its figures, nothing that names the computer or its owner."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from pathlib import Path
from typing import Any

import jax

from envs_jax.host_cores import available_cores

PACKAGES = (
    "envs-jax", "jax", "jaxlib", "numpy", "flax", "optax", "mctx",
    "gymnax", "jumanji", "gymnasium", "envpool", "gym-sokoban",
)  # fmt: skip


def fingerprint() -> dict[str, Any]:
    """CPU model, cores, memory (GiB), accelerators, operating system, and the load when the run started."""
    devices = jax.devices()
    accelerators = [device.device_kind for device in devices if device.platform != "cpu"]
    return {
        "cpu": _cpu_model(),
        "cores": available_cores(),
        "memory_gib": round(_memory_bytes() / 2**30, 1),
        "backend": devices[0].platform,
        "accelerators": accelerators,
        "system": f"{platform.system()} {platform.machine()}",
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def versions() -> dict[str, str]:
    """Python's version and those of the packages that matter, where they are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def same_machine(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Whether two fingerprints may be of one machine; the load does not count."""
    strip = lambda machine: {name: value for name, value in machine.items() if name != "load_average"}
    return strip(a) == strip(b)


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        match = re.search(r"model name\s*:\s*(.+)", cpuinfo.read_text())
        if match:
            return match.group(1).strip()
    return platform.processor() or platform.machine()


def _memory_bytes() -> int:
    import psutil

    return psutil.virtual_memory().total
