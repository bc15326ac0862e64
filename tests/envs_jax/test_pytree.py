"""Dataclasses that are pytrees: what JAX takes apart it puts together again, and no class passes for another."""

import itertools

import jax
import pytest

from envs_jax import pytree_dataclass, static_field


@pytree_dataclass
class Walk:
    length: int = static_field()

    def after(self, place):
        return place + self.length


@pytree_dataclass
class Turn:
    length: int = static_field()

    def after(self, place):
        return -place


@pytree_dataclass
class Jump:
    length: int = static_field()

    def after(self, place):
        return place + 10 * self.length

    def __post_init__(self):
        if not isinstance(self.length, int):
            raise TypeError("no length")


@pytree_dataclass
class Place:
    at: jax.Array
    name: str = static_field(default="")


@pytree_dataclass
class Goal:
    at: jax.Array
    name: str = static_field(default="")

    def __post_init__(self):
        if not isinstance(self.at, int):
            raise TypeError("no place")


def test_classes_with_equal_fields_are_told_apart():
    """A structure is what a compiled program is found by: equal ones of two classes would be one program."""
    for classes, fields in (((Walk, Turn, Jump), (2,)), ((Place, Goal), (3, "here"))):
        for a, b in itertools.product(classes, repeat=2):
            assert (jax.tree.structure(a(*fields)) == jax.tree.structure(b(*fields))) == (a is b)
    moved = jax.jit(lambda way, place: way.after(place))
    assert [int(moved(way(2), 3)) for way in (Walk, Turn, Jump, Turn, Walk)] == [5, -3, 23, -3, 5]
    with pytest.raises(ValueError, match="pytree"):
        jax.tree.map(max, Place(1), Goal(2))


@pytest.mark.parametrize("given", [Walk(2), Jump(2), Place(3, "here"), Goal(3, "here")], ids=repr)
def test_objects_are_rebuilt_as_they_were(given):
    """`__post_init__` sees what users pass, and nothing of what JAX puts in its place."""
    leaves, structure = jax.tree.flatten(given)
    again = jax.tree.unflatten(structure, leaves)
    assert type(again) is type(given) and vars(again) == vars(given) and repr(again) == repr(given)
    assert jax.tree.structure(jax.tree.map(str, given)) == structure
    found = jax.tree_util.tree_leaves_with_path(given)
    assert [jax.tree_util.keystr(path) for path, _ in found] == [".at"] * len(leaves)
    assert [leaf for _, leaf in found] == leaves
