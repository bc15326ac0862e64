"""The checks of what users' functions return, with errors that name the function, what is expected and what was found.

They are made while a search is traced: it is traced no further, and compiled programs do not change. (What users pass
is checked before that, in `arguments`.)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_agents.search.arrays import described, is_array
from jaxrl_agents.search.types import Candidate, Proposal


def check_step(name: str, found: Any, embedding: Any, batch_size: int) -> None:
    """Raises unless `found` is (reward [B], discount [B], embedding), as a model's step must return it."""
    reward, discount, child = _parts(name, found, ("reward", "discount", "embedding"))
    _check_numbers(name, "reward", reward, (batch_size,))
    _check_numbers(name, "discount", discount, (batch_size,))
    _check_like(name, child, embedding)


def check_policy(name: str, found: Any, shape: tuple[int, ...]) -> None:
    """Raises unless `found` is (logits [B, A], value [B]), as a policy must return it."""
    logits, value = _parts(name, found, ("logits", "value"))
    _check_floats(name, "logits", logits, shape)
    _check_floats(name, "value", value, shape[:1])


def check_evaluate(name: str, found: Any, embedding: Any, shape: tuple[int, ...]) -> None:
    """Raises unless `found` is (logits [B, A], value [B], embedding), as a model's evaluate must return it."""
    logits, value, after = _parts(name, found, ("logits", "value", "embedding"))
    check_policy(name, (logits, value), shape)
    _check_like(name, after, embedding)


def check_recurrent(name: str, found: Any, embedding: Any, shape: tuple[int, ...]) -> None:
    """Raises unless `found` is (mctx.RecurrentFnOutput, embedding), as mctx's recurrent_fn must return it."""
    output, child = _parts(name, found, ("mctx.RecurrentFnOutput", "embedding"))
    if not all(hasattr(output, field) for field in ("reward", "discount", "prior_logits", "value")):
        raise ValueError(f"{name} must return (mctx.RecurrentFnOutput, embedding); the first is {described(output)}")
    _check_numbers(name, "reward", output.reward, shape[:1])
    _check_numbers(name, "discount", output.discount, shape[:1])
    _check_floats(name, "prior_logits", output.prior_logits, shape)
    _check_floats(name, "value", output.value, shape[:1])
    _check_like(name, child, embedding)


def check_state_key(name: str, found: Any, batch_size: int) -> None:
    """Raises unless `found` is uint32[B, K], as a model's state_key must return it."""
    if _is(found, jnp.uint32) and len(found.shape) == 2 and found.shape[0] == batch_size and found.shape[1] > 0:
        return
    hint = "; add an axis: key[:, None]" if getattr(found, "shape", None) == (batch_size,) else ""
    raise ValueError(f"{name} must return uint32[{batch_size}, K] with K at least 1; got {described(found)}{hint}")


@dataclasses.dataclass(frozen=True)
class Propose:
    """A caller's `propose`, checked, its results int32 and float32. Equal ones are one to the cache of programs.

    A turn ends with its length, after L actions, or before the first action that is none, −1 for example. One whose
    log-probability is NaN has no action: it cannot be told from what it was drawn.
    """

    function: Callable[[Any, jax.Array, Any], Proposal]
    max_turn_actions: int
    num_actions: int
    name: str = "propose"  # what errors call it

    def __call__(self, params: Any, key: jax.Array, embedding: Any) -> Proposal:
        found = self.function(params, key, embedding)
        action, length, log_prob, entropy = _parts(self.name, found, Proposal._fields)
        rows, most = key.shape, self.max_turn_actions
        shape = (*rows, most) if most > 1 else rows
        _check(self.name, f"action (max_turn_actions={most})", action, shape, "integers", jnp.integer)
        _check(self.name, "length", length, rows, "integers", jnp.integer)
        _check_floats(self.name, "log_prob", log_prob, rows)
        _check_floats(self.name, "entropy", entropy, rows)
        turns = action if most > 1 else action[..., None]
        exists = jnp.cumprod((turns >= 0) & (turns < self.num_actions), axis=-1, dtype=jnp.int32)
        length = jnp.minimum(jnp.maximum(length, 0), exists.sum(axis=-1, dtype=jnp.int32)).astype(jnp.int32)
        length = jnp.where(jnp.isnan(log_prob), 0, length)
        turns = jnp.where(np.arange(most, dtype=np.int32) < length[..., None], turns, -1).astype(jnp.int32)
        action = turns if most > 1 else turns[..., 0]
        return Proposal(action, length, log_prob.astype(jnp.float32), entropy.astype(jnp.float32))


@dataclasses.dataclass(frozen=True)
class Score:
    """A caller's `score`, checked; equal ones are one, as of `Propose`."""

    function: Callable[[Any, Candidate], jax.Array]

    def __call__(self, params: Any, candidate: Candidate) -> jax.Array:
        found = self.function(params, candidate)
        _check_numbers("score", "scores", found, candidate.total.shape)
        return found


def _parts(name: str, found: Any, parts: tuple[str, ...]) -> tuple[Any, ...]:
    if not isinstance(found, tuple | list) or len(found) != len(parts):
        got = f"{len(found)} values" if isinstance(found, tuple | list) else described(found)
        raise ValueError(f"{name} must return ({', '.join(parts)}); got {got}")
    return tuple(found)


def _is(value: Any, *kinds: Any) -> bool:
    return is_array(value) and any(jnp.issubdtype(value.dtype, kind) for kind in kinds)


def _check_numbers(name: str, part: str, value: Any, shape: tuple[int, ...]) -> None:
    _check(name, part, value, shape, "numbers", jnp.floating, jnp.integer, jnp.bool_)


def _check_floats(name: str, part: str, value: Any, shape: tuple[int, ...]) -> None:
    _check(name, part, value, shape, "floats", jnp.floating)


def _check(name: str, part: str, value: Any, shape: tuple[int, ...], what: str, *kinds: Any) -> None:
    if _is(value, *kinds) and value.shape == shape:
        return
    hint = "; drop its last axis: [..., 0]" if is_array(value) and value.shape == (*shape, 1) else ""
    raise ValueError(f"{name} must return {part} as {what} {list(shape)}; got {described(value)}{hint}")


def _check_like(name: str, found: Any, given: Any) -> None:
    """Raises unless an embedding that a function returned has the form of the one that it was given."""
    structure: Any = jax.tree.structure(given)
    if jax.tree.structure(found) != structure:
        raise ValueError(
            f"{name} must return an embedding like the one that it gets, {structure}; got {jax.tree.structure(found)}"
        )
    for (path, leaf), expected in zip(jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(given), strict=True):
        if not is_array(leaf) or leaf.shape != expected.shape or leaf.dtype != expected.dtype:
            raise ValueError(
                f"{name} must return embedding{jax.tree_util.keystr(path)} as it gets it, {described(expected)}; got "
                f"{described(leaf)}"
            )
