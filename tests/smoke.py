"""Makes and steps every environment of an installed wheel; any attempt to open a connection fails."""

import socket


def _refuse(*args: object) -> None:
    raise AssertionError(f"a connection was attempted: {args}")


socket.socket.connect = _refuse  # type: ignore[method-assign,assignment]

import jax  # noqa: E402

import envs_jax  # noqa: E402
import jaxrl_agents  # noqa: E402

assert "site-packages" in envs_jax.__file__ and "site-packages" in jaxrl_agents.__file__, envs_jax.__file__
for id in envs_jax.registered_ids():
    env, tasks = envs_jax.make(id)
    observation, state = env.reset(jax.random.key(0), tasks[0])
    env.step(jax.random.key(1), state, 0, tasks[0])
    assert env.render_text(state, tasks[0])
    assert env.render_rgb(state, tasks[0]).ndim == 3
    print(f"{id}: {len(tasks)} tasks")
