"""A wide beam that merges equal states is breadth-first search, and a narrower one solves less."""

import jax
import numpy as np
import pytest

import envs_jax
from envs_jax.sokoban import Layout, Sokoban
from jaxrl_agents import search
from tests.envs_jax.frozen_lake.lake import PythonLake
from tests.envs_jax.sokoban.positions import bank_of, random_text
from tests.jaxrl_agents.search.roots import as_text, random_lake, started
from tests.reference import sokoban as reference

pytestmark = pytest.mark.usefixtures("quick_compilation")

NUM_TURNS, WIDTH, NARROWER = 16, 160, 12
BREADTH_FIRST = {"num_turns": NUM_TURNS, "candidates": "enumerate", "deduplicate": True}


def breadth_first(start, successors, is_goal):
    """(the fewest steps to a goal or None, how many states can be reached); goals have no successors."""
    layer, seen, optimum, depth = [start], {start}, None, 0
    while layer:
        if optimum is None and any(map(is_goal, layer)):
            optimum = depth
        reached = {after for state in layer if not is_goal(state) for after in successors(state)} - seen
        seen |= reached
        layer, depth = list(reached), depth + 1
    return optimum, len(seen)


def sokoban_optimum(text):
    level = reference.parse_level(text)
    successors = lambda state: [reference.step(level, state, action) for action in range(4)]
    return breadth_first(level.start, successors, lambda state: reference.is_solved(level, state))


def lake_optimum(rows):
    lake = PythonLake(rows)
    successors = lambda cell: [lake.go(cell, a) for a in range(4)] if lake.tile(cell) != "H" else []
    return breadth_first(lake.starts[0], successors, lambda cell: lake.tile(cell) == "G")


def positions(size, num_boxes, walls, number):
    """[(text, optimum)] of random positions with at most WIDTH states, every third one without a solution."""
    rng, found = np.random.default_rng(size), {True: [], False: []}
    while len(found[True]) < number - number // 3 or len(found[False]) < number // 3:
        text = random_text(Layout(size, size), rng, num_boxes, walls)
        optimum, num_states = sokoban_optimum(text)
        if 20 < num_states <= WIDTH and (optimum is None or 3 < optimum <= NUM_TURNS):
            found[optimum is not None].append((text, optimum))
    return found[True][: number - number // 3] + found[False][: number // 3]


@pytest.fixture(scope="module")
def rooms():
    """6×6 with one box and 7×7 with two: (root, model, tasks, texts, optima)."""
    small, large = positions(6, 1, 0.15, 9), positions(7, 2, 0.4, 9)
    wider = lambda text: "\n".join([row + "#" for row in text.splitlines()] + ["#" * 7])
    texts, optima = zip(*[(wider(text), optimum) for text, optimum in small], *large, strict=True)
    tasks = bank_of(Layout(7, 7), texts)
    model = search.from_env(Sokoban(Layout(7, 7)))
    return started(model.env, model, tasks.instances), model, tasks, texts, optima


def beam(rooms, width, root=None):
    start, model, tasks, *_ = rooms
    root = start if root is None else root
    return search.beam_search(None, jax.random.key(0), root, model, tasks=tasks, beam_width=width, **BREADTH_FIRST)


def solved_by(rooms, width):
    output = beam(rooms, width)
    return jax.device_get((output.value > 5, output.trajectories(1).plan()))


@pytest.fixture(scope="module")
def widest(rooms):
    return solved_by(rooms, WIDTH)


def test_wide_beam_has_the_shortest_plans_of_sokoban(rooms, widest):
    *_, texts, optima = rooms
    solved, plans = widest
    assert solved.tolist() == [optimum is not None for optimum in optima]
    for text, optimum, plan in zip(texts, optima, plans, strict=True):
        if optimum is not None:
            level = reference.parse_level(text)
            states = reference.play(level, plan[plan >= 0].tolist())
            assert reference.is_solved(level, states[-1]) and len(states) - 1 == optimum


def test_wider_beams_solve_more(rooms, widest):
    counts = [int(solved_by(rooms, width)[0].sum()) for width in (1, NARROWER)] + [int(widest[0].sum())]
    assert counts[0] < counts[1] < counts[2] == 12


def test_next_root_goes_where_the_search_said(rooms):
    """Searching and taking one turn at a time; the child is evaluated as `model.root` would."""
    here, model, tasks, _, optima = rooms
    total = np.zeros(len(optima))
    for turn in range(NUM_TURNS):
        output = beam(rooms, NARROWER, here)
        here, played = search.next_root(None, jax.random.key(turn), here, model, output.action, tasks=tasks)
        rewards, expected = jax.device_get((played.rewards, output.trajectories(1).rewards))
        np.testing.assert_array_equal(rewards[:, 0], expected[:, 0, 0])
        total += rewards[:, 0]
        if turn == 0:
            again = jax.jit(model.root)(None, here.embedding, tasks.instances)
            np.testing.assert_array_equal(again.prior_logits, here.prior_logits)
    assert np.all(total[[optimum is None for optimum in optima]] < 5)
    assert (total > 5).sum() >= (np.asarray(beam(rooms, NARROWER).value) > 5).sum()


def test_wide_beam_has_the_shortest_ways_over_ice():
    """With a discount, a return says how long the way is."""
    env, named = envs_jax.make("FrozenLake-8x8-v0", is_slippery=False)
    known = [env.rows_of(named[0]), envs_jax.frozen_lake.maps.MAPS["4x4"]]
    maps = [*known, *(random_lake(seed, size) for seed in range(12) for size in (4, 8))]
    env, tasks = envs_jax.make("FrozenLake-v0", is_slippery=False, size=8, map=as_text(maps))
    model = search.from_env(env, discount=0.5)
    root = started(env, model, tasks.instances)
    options = BREADTH_FIRST | {"num_turns": 24, "beam_width": 64}
    output = search.beam_search(None, jax.random.key(0), root, model, tasks=tasks, **options)
    value, plans = jax.device_get((output.value, output.trajectories(1).plan()))
    optima = [lake_optimum(rows)[0] for rows in maps]
    assert optima[:2] == [14, 6] and 3 < optima.count(None) < 23 and max(filter(None, optima)) < 24
    np.testing.assert_array_equal(value, [0 if optimum is None else 0.5 ** (optimum - 1) for optimum in optima])
    for rows, optimum, plan in zip(maps, optima, plans, strict=True):
        cell, lake = (0, 0), PythonLake(rows)
        for action in plan[:optimum].tolist() if optimum else ():
            cell = lake.go(cell, action)
        assert not optimum or lake.tile(cell) == "G"
