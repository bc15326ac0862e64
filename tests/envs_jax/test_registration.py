"""The registry: ids, defaults and errors."""

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
    envs_jax.register("Echo-v3", lambda *, seed, size, depth=1: (seed, size, depth), size=4, description="An echo.")
    assert registration.describe("Echo-v3") == "An echo."
    assert "Echo-v3" in envs_jax.registered_ids()
    assert envs_jax.make("Echo-v3", seed=7) == (7, 4, 1)
    assert envs_jax.make("Echo-v3", size=5, depth=2) == (0, 5, 2)
    with pytest.raises(ValueError, match="registered already"):
        envs_jax.register("Echo-v3", lambda *, seed: None)
    for entry_point in (5, "", "envs_jax", "envs_jax.sokoban.env.make"):
        with pytest.raises(TypeError, match=f"entry_point={entry_point!r} is neither a function nor"):
            envs_jax.register("Echo-v4", entry_point)
    with pytest.raises(TypeError, match="id=5 is not a string"):
        envs_jax.register(5, lambda *, seed: None)
    with pytest.raises(ValueError, match="not of the form"):
        envs_jax.register("Echo", lambda *, seed: None)


def test_unknown_arguments_are_refused():
    with pytest.raises(TypeError, match="colour"):
        envs_jax.make("Sokoban-v0", colour="blue")
