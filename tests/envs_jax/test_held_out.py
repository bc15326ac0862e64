"""Tasks that are held out share nothing with those that are trained on."""

import dataclasses

import jax
import numpy as np
import pytest

import envs_jax
from tests.envs_jax.interop.corridor import Corridor, CorridorTask
from tests.envs_jax.web import shops


def same(one, other):
    return all(map(np.array_equal, jax.tree.leaves(one), jax.tree.leaves(other)))


def test_rooms_by_board():
    """A bank that holds every board several times, with the player in other places."""
    env, bank = envs_jax.make("Sokoban-RAGEN-v0", num_levels=40)
    moved = dataclasses.replace(bank.instances, player=(bank.instances.player + 1) % env.layout.num_cells)
    both = envs_jax.TaskBank.concatenate([bank, envs_jax.make_bank(moved)])
    training, held_out = env.hold_out(both, 12, seed=3)
    board = lambda tasks, i: tuple(
        np.asarray(leaf[i]).tobytes()
        for part in ("walls", "targets", "boxes")
        for leaf in getattr(tasks.instances, part)
    )
    boards = [{board(tasks, i) for i in range(len(tasks))} for tasks in (training, held_out, both)]
    assert len(held_out) == 12 and not boards[0] & boards[1] and boards[0] | boards[1] == boards[2]
    shuffled = both.shuffle(jax.random.key(3))
    left = [i for i in range(len(both)) if board(shuffled, i) not in boards[1]]
    assert same(held_out, shuffled[:12]) and same(training, shuffled[np.array(left)])
    with pytest.raises(ValueError, match="num_held_out=80 leaves none of the 80 tasks to train on"):
        env.hold_out(both, 80, seed=3)


def test_goals_by_product():
    env, bank = shops.synthetic()
    training, held_out = env.hold_out(bank, 20)
    products = [set(np.asarray(tasks.instances.product).tolist()) for tasks in (training, held_out, bank)]
    chosen = np.random.default_rng(0).permutation(sorted(products[2]))[: round(0.8 * len(products[2]))]
    assert len(held_out) == 20 and not products[0] & products[1] and products[0] == set(chosen.tolist())
    others = bank.filter(~np.isin(bank.instances.product, chosen))
    assert same(held_out, others.shuffle(jax.random.key(0))[:20])
    assert not same(held_out, env.hold_out(bank, 20, seed=1)[1])
    with pytest.raises(ValueError, match=r"num_held_out=400: there are \d+ goals of the 20% of the products"):
        env.hold_out(bank, 400)


def test_an_environment_of_ones_own():
    """By all fields but the time limit, or as its own method says."""
    goals, limits = np.repeat(np.arange(1, 8, dtype=np.int32), 2), np.arange(1, 15, dtype=np.uint16)
    bank = envs_jax.make_bank(CorridorTask(goals, limits))
    training, held_out = Corridor().hold_out(bank, 3, seed=5)
    assert len(held_out) == 3 and not set(training.instances.goal.tolist()) & set(held_out.instances.goal.tolist())
    assert same(held_out, bank.shuffle(jax.random.key(5))[:3])

    class Odd(Corridor):
        def hold_out(self, tasks, num_held_out, seed=0):
            odd = np.asarray(tasks.instances.goal) % 2 == 1
            return tasks.filter(~odd), tasks.filter(odd)[:num_held_out]

    assert Odd().hold_out(bank, 4)[1].instances.goal.tolist() == [1, 1, 3, 3]


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (ValueError, "num_held_out=0 must be at least 1", (0,)),
        (TypeError, "num_held_out=1.5", (1.5,)),
        (ValueError, "seed=-1 is not in", (1, -1)),
        (ValueError, "num_held_out=1: all tasks have a board that is held out", (1,)),
    ],
)
def test_errors(error, message, arguments):
    bank = envs_jax.make_bank(CorridorTask(np.full(3, 2, np.int32), np.full(3, 9, np.uint16)))
    with pytest.raises(error, match=f"^{message}"):
        Corridor().hold_out(bank, *arguments)
    with pytest.raises(TypeError, match="tasks holds CorridorTask; Sokoban plays SokobanTask"):
        envs_jax.make("Sokoban-RAGEN-v0", num_levels=2)[0].hold_out(bank, 1)
