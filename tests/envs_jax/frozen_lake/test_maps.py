"""Maps: text in and out, solvability, and the distribution of random ones."""

import itertools

import jax
import numpy as np
import pytest
from hypothesis import given, settings

from envs_jax.frozen_lake import maps
from envs_jax.frozen_lake.env import FrozenLake
from tests.envs_jax.frozen_lake.lake import PythonLake, lake_maps

pytestmark = pytest.mark.usefixtures("quick_compilation")


@settings(max_examples=100, deadline=None)
@given(rows=lake_maps())
def test_text_and_boards_round_trip(rows):
    assert maps.parse_maps(maps.format_maps([rows, rows])) == [rows, rows]
    layout = maps.layout_of((7, 6))
    assert maps.to_rows(maps.to_lake(rows, layout), layout, len(rows), len(rows[0])) == rows


@settings(max_examples=30, deadline=None)
@given(rows=lake_maps(max_side=4))
def test_is_solvable_agrees_with_a_search(rows):
    lake = PythonLake(rows)
    assert maps.is_solvable(rows) == all(lake.reaches_goal(start) for start in lake.starts)


def test_unsolvable_maps_can_be_read():
    (rows,) = maps.parse_maps("SHG")
    assert not maps.is_solvable(rows)


@pytest.mark.parametrize(
    "text, message",
    [
        ("SFF\nFxG\n", "lakes.txt, line 2, column 2: unknown tile 'x'; tiles are S, F, H and G"),
        ("SF\nFG\n\nSFF\nFG\n", "lakes.txt, line 5: the row has 2 tiles, the rows above have 3"),
        ("SF\nFG\n\nFF\nFG\n", r"lakes.txt, line 4: the map has no start \(S\)"),
        ("SF\nFF", r"lakes.txt, line 1: the map has no goal \(G\)"),
        ("\n\n", "lakes.txt: there is no map"),
        ("S" + "F" * 63 + "G", "lakes.txt, line 1: the map has 1 × 65 tiles; at most 64 × 64"),
    ],
)
def test_bad_text_is_refused_with_its_line(text, message):
    with pytest.raises(ValueError, match=message):
        maps.parse_maps(text, source="lakes.txt")


def random_rows(seed, num_maps, size, **options):
    env = FrozenLake(maps.layout_of(size), "grid")
    tasks = jax.tree.map(np.asarray, env.random_tasks(jax.random.key(seed), num_maps, **options).instances)
    return [env.rows_of(jax.tree.map(lambda leaf, i=i: leaf[i], tasks)) for i in range(num_maps)]


@pytest.mark.parametrize("placement", ["corners", "random"])
def test_random_maps_are_solvable_and_well_formed(placement):
    for rows in random_rows(0, 200, (8, 8), frozen_probability=0.65, placement=placement):
        assert sorted(tile for row in rows for tile in row if tile in "SG") == ["G", "S"]
        assert PythonLake(rows).reaches_goal(PythonLake(rows).starts[0])
        assert placement == "random" or (rows[0][0], rows[-1][-1]) == ("S", "G")


def test_all_frozen_maps():
    assert set(random_rows(0, 5, (2, 3), frozen_probability=1.0)) == {("SFF", "FFG")}


def exact_distribution(size, frozen_probability, placement):
    """{map: probability} of independent tiles and ends, given that the goal can be reached, by enumeration."""
    cells = list(itertools.product(range(size[0]), range(size[1])))
    ends = [(cells[0], cells[-1])] if placement == "corners" else list(itertools.permutations(cells, 2))
    weights = {}
    for start, goal in ends:
        for tiles in itertools.product("FH", repeat=len(cells)):
            tile = dict(zip(cells, tiles, strict=True)) | {start: "S", goal: "G"}
            rows = tuple("".join(tile[r, c] for c in range(size[1])) for r in range(size[0]))
            if PythonLake(rows).reaches_goal(start):
                frozen = tiles.count("F")
                weight = frozen_probability**frozen * (1 - frozen_probability) ** (len(cells) - frozen)
                weights[rows] = weights.get(rows, 0) + weight
    total = sum(weights.values())
    return {rows: weight / total for rows, weight in weights.items()}


@pytest.mark.parametrize("placement", ["corners", "random"])
def test_random_maps_have_the_exact_conditional_distribution(placement):
    num_maps = 4_000
    expected = exact_distribution((2, 3), 0.6, placement)
    drawn = random_rows(1, num_maps, (2, 3), frozen_probability=0.6, placement=placement)
    assert set(drawn) <= set(expected)
    counts = np.array([drawn.count(rows) for rows in expected])
    mean = num_maps * np.array(list(expected.values()))
    statistic = ((counts - mean) ** 2 / mean).sum()
    freedom = len(expected) - 1
    assert statistic < freedom + 4 * np.sqrt(2 * freedom)
