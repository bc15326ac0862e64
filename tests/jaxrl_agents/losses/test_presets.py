"""Presets against the three libraries' definitions, values and gradients, in float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_agents.losses import ALGORITHMS, PolicyLoss, presets
from tests.jaxrl_agents.losses import libraries
from tests.jaxrl_agents.losses.cases import batch, call, numeric_gradient

pytestmark = pytest.mark.usefixtures("quick_compilation")

TRL = [
    {},
    {"loss_type": "grpo"},
    {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 0.05, "epsilon_high": 0.07},
    {"loss_type": "bnpo", "beta": 0.04},
    {"loss_type": "dapo", "epsilon_high": 0.28, "entropy_coef": 0.01},
    {"loss_type": "dapo", "importance_sampling_level": "sequence"},
    {"loss_type": "dr_grpo", "max_completion_length": 9},
    {"loss_type": "grpo", "delta": 1.4},
    {"loss_type": "grpo", "delta": 1.1, "epsilon_high": 0.3},
    {"loss_type": "cispo"},
    {"loss_type": "cispo", "epsilon_high": 1.3, "beta": 0.1, "entropy_coef": 0.02},
]
VERL = [
    {},
    {"use_kl_loss": True, "kl_loss_coef": 0.1, "entropy_coeff": 0.01},
    {"use_kl_loss": True, "kl_loss_coef": 0.1, "kl_loss_type": "kl", "loss_agg_mode": "seq-mean-token-sum"},
    {"use_kl_loss": True, "kl_loss_coef": 0.1, "kl_loss_type": "mse", "loss_agg_mode": "seq-mean-token-mean"},
    {"loss_agg_mode": "seq-mean-token-sum-norm", "clip_ratio_high": 0.28},
    {"loss_agg_mode": "seq-mean-token-sum-norm", "loss_scale_factor": 11},
    {"clip_ratio_c": 1.3},
    {"loss_mode": "gspo", "clip_ratio_low": 0.05, "entropy_coeff": 0.1, "use_kl_loss": True},
    {"loss_mode": "cispo", "clip_ratio_low": 0.1, "clip_ratio_high": 0.3},
]
TUNIX = [
    {},
    {"kl_loss_mode": "low_var_kl"},
    {"kl_loss_mode": "mse_kl", "kl_clamp_value": 0.02},
    {"beta": 0.0, "epsilon_high": 0.28, "loss_agg_mode": "token-mean"},
    {"loss_agg_mode": "sequence-mean-token-scale"},
    {"loss_agg_mode": "seq-mean-token-sum", "epsilon_c": 1.3},
    {"loss_agg_mode": "sequence-mean-token-sum-norm"},
    {"loss_algo": "gspo-token", "epsilon": 0.05},
]
RENAMED = {
    "importance_sampling_level": "level", "epsilon": "eps", "epsilon_high": "eps_high", "epsilon_c": "eps_c",
    "loss_agg_mode": "mode", "clip_ratio_low": "low", "clip_ratio_high": "high", "clip_ratio_c": "c",
    "kl_loss_coef": "kl_coef", "loss_scale_factor": "scale_factor", "kl_clamp_value": "kl_clamp",
    "kl_loss_type": "kl", "kl_loss_mode": "kl",
}  # fmt: skip
ESTIMATORS = {"kl": "k1", "mse": "k2", "mse_kl": "k2", "low_var_kl": "k3"}


def reference(name, options, case):
    """The library's loss as a function of log-probabilities; what it detaches stays at those of the case."""
    options = {RENAMED.get(key, key): value for key, value in options.items()}
    if "kl" in options:
        options["kl"] = ESTIMATORS[options["kl"]]
    if options.pop("use_kl_loss", False):
        options.setdefault("kl_coef", 0.001)
    arrays = [case[key] for key in ("lp", "old", "adv", "mask", "ref", "ent")]
    return lambda lp: getattr(libraries, name)(lp, *arrays, **options)


@pytest.mark.parametrize("spread", [0.4, 2.5], ids=["near", "far"])
@pytest.mark.parametrize(
    "name, options",
    [(name, options) for name, all_ in {"trl": TRL, "verl": VERL, "tunix": TUNIX}.items() for options in all_],
    ids=str,
)
def test_values_and_gradients(name, options, spread):
    case = batch(seed=5, spread=spread)
    expected = reference(name, options, case)
    with jax.enable_x64(True):
        loss = presets.PRESETS[name](**options).loss
        value, gradient = jax.value_and_grad(lambda lp: call(loss, case, lp)[0])(jnp.asarray(case["lp"]))
    np.testing.assert_allclose(value, expected(case["lp"]), rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(gradient, numeric_gradient(expected, case["lp"]), rtol=1e-5, atol=1e-7)
    assert not np.any(np.asarray(gradient)[~case["mask"]])


@pytest.mark.parametrize("name, options", [("trl", {"loss_type": "grpo"}), ("verl", {}), ("tunix", {})])
def test_float32_is_as_accurate_as_it_can_be(name, options):
    case = {key: value.astype(np.float32) if value.dtype == float else value for key, value in batch(3).items()}
    loss = presets.PRESETS[name](**options).loss
    value, gradient = jax.value_and_grad(lambda lp: call(loss, case, lp)[0])(jnp.asarray(case["lp"]))
    double = {key: value.astype(float) if value.dtype == np.float32 else value for key, value in case.items()}
    expected = reference(name, options, double)
    np.testing.assert_allclose(value, expected(double["lp"]), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(gradient, numeric_gradient(expected, double["lp"]), rtol=1e-5, atol=1e-6)


def test_one_masked_row_tells_the_libraries_apart():
    """The same batch and defaults: TRL's "grpo" divides by 6 rows, verl and tunix by the 5 that have a token."""
    case = batch()
    rows = {
        "trl": presets.trl(loss_type="grpo"),
        "verl": presets.verl(loss_agg_mode="seq-mean-token-mean"),
        "tunix": presets.tunix(beta=0.0),
    }
    losses = {name: float(call(algorithm.loss, case)[0]) for name, algorithm in rows.items()}
    np.testing.assert_allclose(losses["trl"] * 6, losses["tunix"] * 5, rtol=1e-5)
    np.testing.assert_allclose(losses["verl"], losses["tunix"], rtol=1e-5)


REWARDS, GROUPS = np.array([1.0, 0.0, 0.5, 2.0, 2.0, -1.0]), np.array([0, 0, 0, 4, 4, 2])


@pytest.mark.parametrize(
    "algorithm, expected",
    [
        (presets.trl(), {"eps": 1e-4, "singleton": "zero"}),
        (presets.trl(scale_rewards="none"), {"eps": 0.0, "singleton": "zero", "std": False}),
        (presets.verl(), {"eps": 1e-6, "singleton": "reward"}),
        (presets.verl(norm_adv_by_std_in_grpo=False), {"eps": 0.0, "singleton": "reward", "std": False}),
        (presets.tunix(), {"eps": 1e-6, "singleton": "zero"}),
        (presets.tunix(advantage_estimator="drgrpo"), {"eps": 0.0, "singleton": "zero", "std": False}),
    ],
)
def test_advantages(algorithm, expected):
    with jax.enable_x64(True):
        actual = algorithm.advantages(jnp.asarray(REWARDS), GROUPS)
    eps = expected.pop("eps")
    np.testing.assert_allclose(actual, libraries.group_z(REWARDS, GROUPS, eps, **expected), rtol=1e-12, atol=1e-12)


def test_trl_scales_by_the_batch():
    with jax.enable_x64(True):
        actual = presets.trl(scale_rewards="batch").advantages(jnp.asarray(REWARDS), GROUPS)
    centered = libraries.group_z(REWARDS, GROUPS, 0.0, singleton="zero", std=False)
    np.testing.assert_allclose(actual, centered / (REWARDS.std(ddof=1) + 1e-4), rtol=1e-12)


def test_trl_leaves_unscorable_rewards_out():
    rewards = np.array([1.0, np.nan, 0.0, 2.0], np.float32)
    actual = presets.trl().advantages(rewards, np.zeros(4, int), valid=~np.isnan(rewards))
    scored = rewards[[0, 2, 3]]
    np.testing.assert_allclose(actual[np.array([0, 2, 3])], (scored - 1) / (scored.std(ddof=1) + 1e-4), rtol=1e-6)
    assert actual[1] == 0


@pytest.mark.parametrize("singleton, alone", [("verl", -1.0), ("tunix", 0.0)])
def test_leave_one_out(singleton, alone):
    make = {
        "verl": partial(presets.verl, adv_estimator="rloo"),
        "tunix": partial(presets.tunix, advantage_estimator="rloo"),
    }
    actual = make[singleton]().advantages(REWARDS.astype(np.float32), GROUPS)
    np.testing.assert_allclose(actual, [1 - 0.25, 0 - 0.75, 0, 0, 0, alone], atol=1e-6)


def test_errors_name_the_argument():
    for make, options, message in [
        (presets.trl, {"loss_type": "sapo"}, "loss_type='sapo' must be one of 'grpo'"),
        (presets.trl, {"importance_sampling_level": "turn"}, "importance_sampling_level='turn'"),
        (presets.trl, {"delta": 0.5}, "delta=0.5 must be from 1"),
        (presets.verl, {"loss_agg_mode": "mean"}, "loss_agg_mode='mean' must be one of 'token-mean'"),
        (presets.verl, {"loss_mode": "ppo"}, "loss_mode='ppo'"),
        (presets.verl, {"kl_loss_type": "abs"}, "kl_loss_type='abs'"),
        (presets.tunix, {"loss_algo": "gspo"}, "loss_algo='gspo'"),
        (presets.tunix, {"advantage_estimator": "gae"}, "advantage_estimator='gae'"),
    ]:
        with pytest.raises(ValueError, match=message.replace("(", r"\(")):
            make(**options)
    with pytest.raises(ValueError, match="scale='std'"):
        presets.trl(scale_rewards="std").advantages(REWARDS.astype(np.float32), GROUPS)


def test_all_losses_are_hashable_and_distinct():
    made = [algorithm() for algorithm in ALGORITHMS.values()] + [preset() for preset in presets.PRESETS.values()]
    assert all(isinstance(algorithm.loss, PolicyLoss) and hash(algorithm.loss) for algorithm in made)
    assert presets.trl().loss == presets.trl().loss != presets.trl(epsilon=0.1).loss
