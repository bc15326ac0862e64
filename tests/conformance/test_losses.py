"""Losses against the code of TRL, tunix and rlax, each where it is installed: see docs/losses.md.

TRL, tunix and rlax are heavy to import, and some losses are methods around models: their source is read, and the
functions that hold the formulas are compiled alone. They pass with TRL 1.16.0 (torch 2.13.0), tunix 0.1.7, rlax 0.1.9.
"""

import ast
import importlib.util
import types
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_agents import losses
from jaxrl_agents.losses import presets
from tests.jaxrl_agents.losses.cases import batch, call


def compiled(package, path, names, scope):
    """The functions `names` of a file of an installed package, without importing the package."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"{package} is not installed")
    file = Path(spec.origin).parent / path
    chosen = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.FunctionDef) and node.name in names:
            node.decorator_list, node.returns = [], None
            for argument in node.args.args:
                argument.annotation = None
            chosen.append(node)
    exec(compile(ast.Module(chosen, type_ignores=[]), str(file), "exec"), scope)
    return scope


def trl_loss(case, settings):
    """Loss and gradient of `GRPOTrainer._compute_loss`, its model replaced by given log-probabilities."""
    torch = pytest.importorskip("torch")
    nothing = lambda tensor: torch.tensor(0.0)
    scope = compiled(
        "trl", "trainer/grpo_trainer.py", {"_compute_loss"}, {"torch": torch, "nanmin": nothing, "nanmax": nothing}
    )
    lp = torch.tensor(case["lp"], requires_grad=True)
    entropies, mask = torch.tensor(case["ent"]), torch.tensor(case["mask"]).double()
    metrics = type("Metrics", (dict,), {"__missing__": lambda self, key: []})
    accelerator = types.SimpleNamespace(
        num_processes=1, gather=lambda x: x, gather_for_metrics=lambda x: x, reduce=lambda x, reduction: x,
        sync_gradients=True,
    )  # fmt: skip
    fields = {
        "loss_type": "dapo", "importance_sampling_level": "token", "epsilon_low": 0.2, "epsilon_high": 0.2, "beta": 0.0,
        "entropy_coef": 0.0, "max_completion_length": 9, "top_entropy_quantile": 1.0, "off_policy_mask_threshold": None,
        "use_vllm": False, "vllm_importance_sampling_correction": False, "aux_loss_enabled": False,
        "current_gradient_accumulation_steps": 1, "use_adaptive_entropy": False, "accelerator": accelerator,
        "_metrics": {"train": metrics()}, "model": types.SimpleNamespace(training=True),
        "args": types.SimpleNamespace(
            delta=settings.get("delta"), use_bias_correction_kl=False, steps_per_generation=1
        ),
        "_get_per_token_logps_and_entropies": lambda *args, **kwargs: (lp, entropies, None),
    }  # fmt: skip
    fields.update({key: value for key, value in settings.items() if key not in ("delta", "epsilon")})
    fields["epsilon_low"] = settings.get("epsilon", 0.2)
    fields["_entropy_bonus_enabled"] = fields["entropy_coef"] != 0
    ones = torch.ones_like(mask)
    inputs = {
        "prompt_ids": ones[:, :1], "prompt_mask": ones[:, :1], "completion_ids": ones, "completion_mask": ones,
        "tool_mask": mask, "advantages": torch.tensor(case["adv"]), "old_per_token_logps": torch.tensor(case["old"]),
        "ref_per_token_logps": torch.tensor(case["ref"]), "num_items_in_batch": mask.sum(),
    }  # fmt: skip
    loss = scope["_compute_loss"](types.SimpleNamespace(**fields), None, inputs)
    loss.backward()
    return loss.item(), lp.grad.numpy()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"loss_type": "grpo", "beta": 0.04},
        {"loss_type": "grpo", "importance_sampling_level": "sequence"},
        {"loss_type": "bnpo", "epsilon_high": 0.28, "entropy_coef": 0.01},
        {"loss_type": "dr_grpo"},
        {"loss_type": "dapo", "delta": 1.1, "epsilon_high": 0.3},
        {"loss_type": "cispo", "epsilon_high": 1.3},
    ],
    ids=str,
)
def test_trl(settings):
    case = batch(21)
    case["old"][0, 0] = case["lp"][0, 0]  # a ratio of exactly 1
    expected, expected_gradient = trl_loss(case, settings)
    with jax.enable_x64(True):
        loss = presets.trl(**settings, max_completion_length=9).loss
        value, gradient = jax.value_and_grad(lambda lp: call(loss, case, lp)[0])(jnp.asarray(case["lp"]))
    np.testing.assert_allclose(value, expected, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-12, atol=1e-14)


def test_rlax_gae_and_clipped_surrogate():
    scope = {"chex": chex, "jax": jax, "jnp": jnp}
    compiled("rlax", "_src/multistep.py", {"truncated_generalized_advantage_estimation"}, scope)
    rlax = types.SimpleNamespace(**compiled("rlax", "_src/policy_gradients.py", {"clipped_surrogate_pg_loss"}, scope))
    rng = np.random.default_rng(0)
    rewards, values = rng.normal(size=(2, 8)).astype(np.float32), rng.normal(size=(2, 9)).astype(np.float32)
    mask = np.ones((2, 8), bool)
    ours = losses.gae(rewards, values[:, :-1], mask, discount=0.9, decay=0.8, bootstrap=values[:, -1])[0]
    for row in range(2):
        theirs = rlax.truncated_generalized_advantage_estimation(rewards[row], np.full(8, 0.9), 0.8, values[row])
        np.testing.assert_allclose(ours[row], theirs, rtol=1e-4, atol=1e-5)
    ratio = np.exp(rng.normal(0, 0.4, (2, 8))).astype(np.float32)
    flat = rlax.clipped_surrogate_pg_loss(ratio.ravel(), rewards.ravel(), 0.2)
    token_losses = losses.clipped_surrogate(
        jnp.asarray(ratio), jnp.asarray(rewards), clip_low=0.2, clip_high=0.2
    ).losses
    np.testing.assert_allclose(losses.aggregate(token_losses, mask), flat, rtol=1e-5)


def test_tunix_advantages_and_gae():
    np_scope = {"np": np, "jnp": jnp, "jax": jax}
    names = {"compute_advantages", "compute_rloo_advantages", "compute_drgrpo_advantages", "compute_gae_advantages",
             "masked_whiten", "masked_mean", "masked_var"}  # fmt: skip
    tunix = compiled("tunix", "rl/algo_core.py", names, np_scope)
    rng = np.random.default_rng(1)
    rewards, groups = rng.normal(size=12).astype(np.float32), np.repeat([0, 1, 2], 4)
    for estimator, function in [
        ("grpo", tunix["compute_advantages"]),
        ("rloo", tunix["compute_rloo_advantages"]),
        ("drgrpo", tunix["compute_drgrpo_advantages"]),
    ]:
        ours = presets.tunix(advantage_estimator=estimator).advantages(rewards, groups)
        np.testing.assert_allclose(ours, function(rewards, 4), rtol=1e-4, atol=1e-5)
    values, rewards, mask = rng.normal(size=(3, 6)), rng.normal(size=(3, 6)), rng.random((3, 6)) < 0.7
    arrays = [x.astype(np.float32) for x in (rewards, values)]
    theirs = tunix["compute_gae_advantages"](*arrays, mask.astype(np.float32), 0.9, 0.8)
    advantages, returns = losses.gae(*arrays, mask, discount=0.9, decay=0.8)
    np.testing.assert_allclose(losses.whiten(advantages, mask)[mask], theirs[0][mask], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(returns[mask], theirs[1][mask], rtol=1e-4, atol=1e-5)
