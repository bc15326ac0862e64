"""The examples that need other packages: those of docs/interop.md, and the PPO example."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import jax
import pytest

import envs_jax
from envs_jax import interop

ROOT = Path(__file__).parent.parent.parent

for peer in ("gymnax", "jumanji", "gymnasium", "dm_env", "flax", "optax"):
    pytest.importorskip(peer)


@pytest.mark.slow
def test_the_examples_of_the_page_run(capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs/interop.md").read_text()
    blocks = re.findall(r"^```py\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) == 7
    names: dict[str, Any] = {}
    exec("\n".join(blocks), names)
    assert names["success"].shape == (200, 64) and names["observations"].shape[0] == 1024
    assert names["solved"].dtype == bool and names["timestep"].first()
    assert capsys.readouterr().out.count("\n") == 8  # the map


@pytest.mark.slow
def test_ppo_learns_through_the_legacy_interface_of_gymnax() -> None:
    from gymnax.wrappers import LegacyStepAPIWrapper, LogWrapper

    example = runpy.run_path(str(ROOT / "examples/ppo_gymnax.py"))
    env, params = interop.to_gymnax(*envs_jax.make(example["ID"]))
    config = example["Config"](num_updates=100)
    train = jax.jit(example["train"], static_argnums=(0, 3))
    _, curves = train(LegacyStepAPIWrapper(LogWrapper(env)), params, jax.random.key(0), config)
    before, after = curves["success"][:10].mean(), curves["success"][-10:].mean()
    assert before < 0.3 and after > before + 0.15, (before, after)
    assert curves["return"][-10:].mean() > curves["return"][:10].mean() + 1
