"""The registry: ids, defaults and errors."""

import jax
import numpy as np
import pytest

import envs_jax
from envs_jax import registration


def test_unknown_ids_get_a_suggestion():
    with pytest.raises(ValueError, match="id='Sokoban-v1' is not registered. Did you mean 'Sokoban-v0'?"):
        envs_jax.make("Sokoban-v1")
    with pytest.raises(ValueError, match="Did you mean 'Sokoban-v0'?"):
        registration.describe("Sokobn-v0")
    with pytest.raises(ValueError, match="Known ids: FrozenLake"):
        envs_jax.make("")


def test_registering(monkeypatch):
    monkeypatch.setattr(registration, "_registry", dict(registration._registry))
    made, calls = envs_jax.make("FrozenLake-v0"), []

    def echo(*, seed, size, depth=1):
        calls.append((seed, size, depth))
        return made

    envs_jax.register("Echo-v3", echo, size=4, description="An echo.")
    assert registration.describe("Echo-v3") == "An echo."
    assert "Echo-v3" in envs_jax.registered_ids()
    assert envs_jax.make("Echo-v3", seed=7) is made and envs_jax.make("Echo-v3", size=5, depth=2) is made
    assert calls == [(7, 4, 1), (0, 5, 2)]
    with pytest.raises(ValueError, match="registered already"):
        envs_jax.register("Echo-v3", lambda *, seed: None)
    for entry_point in (5, "", "envs_jax", "envs_jax.sokoban.env.make"):
        with pytest.raises(TypeError, match=f"entry_point={entry_point!r} is neither a function nor"):
            envs_jax.register("Echo-v4", entry_point)
    with pytest.raises(TypeError, match="id=5 is not a string"):
        envs_jax.register(5, lambda *, seed: None)
    with pytest.raises(ValueError, match="not of the form"):
        envs_jax.register("Echo", lambda *, seed: None)


def test_functions_that_cannot_make_an_environment(monkeypatch):
    monkeypatch.setattr(registration, "_registry", dict(registration._registry))
    for function in (lambda: 3, lambda size: 3, lambda seed, /: 3, lambda *seed: 3):
        with pytest.raises(TypeError, match=r"id='Bad-v0': entry_point takes \(.*\); it must take `seed` as a keyword"):
            envs_jax.register("Bad-v0", function)
    assert "Bad-v0" not in envs_jax.registered_ids()
    for i, (answer, kinds) in enumerate([(3, "int"), (("a", None), "str, NoneType"), ((), "")]):
        envs_jax.register(f"Bad-v{i}", lambda answer=answer, **arguments: answer)
        with pytest.raises(TypeError, match=rf"id='Bad-v{i}': its function returned \({kinds}\), not \(Environment"):
            envs_jax.make(f"Bad-v{i}")
    envs_jax.register("Bad-v3", "math:dist")
    with pytest.raises(TypeError, match=r"id='Bad-v3': entry_point takes \(p, q\); it must take `seed`"):
        envs_jax.make("Bad-v3")


def test_functions_that_cannot_be_imported(monkeypatch):
    monkeypatch.setattr(registration, "_registry", dict(registration._registry))
    envs_jax.register("Bad-v0", "no_such_module:make")
    with pytest.raises(ImportError, match="id='Bad-v0': .*'no_such_module:make' cannot be imported: No module named"):
        envs_jax.make("Bad-v0")
    envs_jax.register("Bad-v1", "math:distance")
    with pytest.raises(ImportError, match="id='Bad-v1': .*does not exist: math has no function 'distance'"):
        envs_jax.make("Bad-v1")


def test_unknown_arguments_are_refused():
    with pytest.raises(TypeError, match="colour"):
        envs_jax.make("Sokoban-v0", colour="blue")


@pytest.mark.parametrize(
    ("id", "options"),
    [
        ("Sokoban-RAGEN-v0", {"num_levels": 2}),
        ("FrozenLake-RAGEN-v0", {"num_maps": 4}),
        ("TabularWeb-v0", {}),
    ],
)
def test_64_bit_types_change_no_task(id, options):
    made = lambda: jax.device_get(jax.tree.leaves(envs_jax.make(id, **options)))
    expected = made()
    with jax.enable_x64(True):
        found = made()
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.dtype == theirs.dtype
        np.testing.assert_array_equal(mine, theirs)
