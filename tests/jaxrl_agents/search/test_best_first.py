"""The solver against plain Python, and its parts against plain data structures."""

import collections
import dataclasses
import functools
import itertools
import re
import threading
import time
from concurrent.futures import Future
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs_jax import bitboard as bb
from envs_jax.sokoban import levels
from envs_jax.sokoban.board import Layout
from envs_jax.sokoban.fitting import fit
from envs_jax.tasks import TaskBank, make_bank
from jaxrl_agents.search.best_first import Status, bounds, closed, core, frontier, plans, programs, sizes, solve, solver
from jaxrl_agents.search.best_first.lanes import compact, nth_set_bit, prefix_sum
from jaxrl_agents.search.best_first.types import LEVEL_SHIFT, Nodes, Starts
from tests.envs_jax.sokoban.positions import bank_of, boards_of, random_text
from tests.reference import sokoban as reference

pytestmark = pytest.mark.usefixtures("quick_compilation")

SMALL = Layout(7, 7)
BOXOBAN = Layout(10, 10)
MODES = ("optimal", "satisficing")

# Seven boxes, more than are matched; the middle ones block each other.
MANY_BOXES = """
##########
#  .  .  #
# $$ $ $ #
# .@. .  #
# $  $ $ #
#  .  .  #
##########
"""
# All targets in one corner: the bound sees little, and there are very many states.
CROWD = """
##########
#...     #
#... $ $ #
#.@$ $   #
#  $ $ $ #
#        #
##########
"""
# Six boxes that cannot move; a seventh has to pass them.
LENGTH = 34
CORRIDOR = f"""
{"#" * (LENGTH + 5)}
#*#*#*#*#*#*{"#" * (LENGTH - 7)}
#  ${" " * (LENGTH - 1)}.#
#@{" " * (LENGTH + 2)}#
{"#" * (LENGTH + 5)}
"""
# Seven boxes, all but one on targets.
ALMOST = """
#########
#@$   . #
# ***** #
# *     #
#       #
#########
"""
LARGE = """
##################
#       ##       #
# $  .  ##       #
#       ##       #
#   #        #   #
#   #    @   #   #
#       ##       #
#       ##  . $  #
#*      ##      *#
##################
#                #
##################
"""


def references_of(bank, layout):
    tasks = [jax.tree.map(lambda leaf, i=i: np.asarray(leaf)[i], bank.instances) for i in range(len(bank))]
    return [reference.parse_level(levels.to_text(layout, task)) for task in tasks]


def starts_of(bank):
    tasks = bank.instances
    return Starts(tasks.walls, tasks.targets, tasks.boxes, tasks.player)


def optimum(level, max_nodes=20_000):
    """Pushes of a shortest plan; −1 where there is none; None where that takes too long to find out."""
    try:
        plan = reference.solve_pushes(level, max_nodes)
    except reference.NodeLimit:
        return None
    return -1 if plan is None else reference.count_pushes(level, plan)


def shortest_walks(level, push_plan, layout):
    """Moves of a plan whose walks are shortest, by the reference's breadth-first search."""
    state, moves = level.start, 0
    for cell, direction in push_plan:
        box = level.cell(cell // layout.columns + 1, cell % layout.columns + 1)
        came, at = reference.walks(level, state), box - level.steps[direction]
        while came[at] is not None:
            at, moves = came[at][0], moves + 1
        moved = box + level.steps[direction]
        assert box in state.boxes and moved in level.floor and moved not in state.boxes
        state, moves = reference.State(box, state.boxes - {box} | {moved}), moves + 1
    return moves


def check_plans(result, references, layout):
    """Every plan replays to a solution in the reference, and the result's numbers and texts agree with it."""
    for i, level in enumerate(references):
        if result.status[i] != Status.SOLVED:
            assert result.pushes[i] == result.moves[i] == -1
            assert len(result.plans[i]) == len(result.push_plans[i]) == 0 and result.lurd(i) == ""
            continue
        plan = result.plans[i].tolist()
        states = reference.play(level, plan)
        assert all(a != b for a, b in itertools.pairwise(states)) and reference.is_solved(level, states[-1])
        assert len(plan) == result.moves[i] == shortest_walks(level, result.push_plans[i], layout)
        assert reference.count_pushes(level, plan) == result.pushes[i] == len(result.push_plans[i])
        assert levels.lurd_to_actions(result.lurd(i)).tolist() == plan
        pushes = [a.boxes != b.boxes for a, b in itertools.pairwise(states)]
        assert [letter.isupper() for letter in result.lurd(i)] == pushes == result.is_push[i].tolist()


@pytest.fixture(scope="module")
def small():
    """(bank, references, optima) of random levels, many of them without a solution."""
    rng = np.random.default_rng(0)
    texts = [random_text(SMALL, rng, int(rng.integers(1, 3)), 0.15) for _ in range(150)]
    bank = bank_of(SMALL, texts)
    references = references_of(bank, SMALL)
    optima = np.array([optimum(level) for level in references])
    assert 30 < (optima < 0).sum() < 120
    return bank, references, optima


@pytest.fixture(scope="module")
def solved(small):
    return solve(small[0], layout=SMALL)


def test_small_levels_equal_the_reference(small, solved):
    _, references, optima = small
    assert (solved.pushes == optima).all()
    assert (solved.status == np.where(optima < 0, Status.UNSOLVABLE, Status.SOLVED)).all()
    check_plans(solved, references, SMALL)


def test_satisficing_solves_the_same_levels(monkeypatch, small):
    """Their plans are walked sixteen at a time."""
    monkeypatch.setattr(plans, "_WORDS_TOGETHER", 16)
    bank, references, optima = small
    result = solve(bank, layout=SMALL, mode="satisficing")
    assert (result.solved == (optima >= 0)).all()
    assert ((result.status == Status.UNSOLVABLE) == (optima < 0)).all()
    assert (result.pushes >= optima).all()
    check_plans(result, references, SMALL)


def test_a_result_depends_on_nothing_else_in_the_bank(small, solved):
    bank, _, _ = small
    some = np.random.default_rng(1).permutation(len(bank))[:130]  # searched by the same program
    result = solve(bank[some], layout=SMALL)
    for name in ("status", "pushes"):
        assert (getattr(result, name) == getattr(solved, name)[some]).all()


def test_counts_of_work_are_plausible(small, solved):
    assert (solved.generated <= 8 * solved.expanded).all()  # two boxes, four directions
    assert (solved.expanded[solved.pushes > 0] >= solved.pushes[solved.pushes > 0]).all()


@pytest.mark.parametrize("split", ["unfiltered/test/000.txt", "medium/valid/000.txt", "hard/000.txt"])
def test_boxoban_levels_equal_the_reference(data_dir, split):
    bank = levels.load(data_dir / "boxoban" / split, BOXOBAN)[::100]
    references = references_of(bank, BOXOBAN)
    results = {mode: solve(bank, layout=BOXOBAN, mode=mode) for mode in MODES}
    compared = 0
    for i, level in enumerate(references):
        expected = optimum(level, max_nodes=2_000)
        if expected is not None:
            assert results["optimal"].pushes[i] == expected
            compared += 1
    assert compared >= 5
    assert (results["satisficing"].pushes >= results["optimal"].pushes).all()
    for result in results.values():
        assert result.solved.all()
        check_plans(result, references, BOXOBAN)


@pytest.mark.parametrize("mode", MODES)
def test_more_boxes_than_are_matched(mode):
    layout = levels.parse(MANY_BOXES).layout
    rng = np.random.default_rng(3)
    texts = [MANY_BOXES, *(random_text(layout, rng, 7, 0.0) for _ in range(5))]
    bank = bank_of(layout, texts)
    result = solve(bank, layout=layout, mode=mode, max_nodes=20_000)
    references = references_of(bank, layout)
    check_plans(result, references, layout)
    compared = 0
    for i, level in enumerate(references):
        expected = optimum(level, max_nodes=1_000)
        if expected is None:
            continue
        compared += 1
        assert result.solved[i] == (expected >= 0)
        assert result.pushes[i] == expected if mode == "optimal" else result.pushes[i] >= expected
    assert result.solved[0] and compared >= 2


@pytest.mark.parametrize("mode", MODES)
def test_a_corridor(mode):
    """The nearest targets are taken, so f rises by more than the first classes hold."""
    layout = levels.parse(CORRIDOR).layout
    result = solve(bank_of(layout, [CORRIDOR]), layout=layout, mode=mode)
    assert result.pushes.tolist() == [LENGTH]
    check_plans(result, references_of(bank_of(layout, [CORRIDOR]), layout), layout)


def test_large_boards(small, solved):
    """Levels on boards of many words, which the programs take as one array, by both kinds of bounds."""
    layout = Layout(24, 25)
    assert sizes.search_layout(layout).is_stacked and not sizes.search_layout(SMALL).is_stacked
    others = [levels.parse(text) for text in (LARGE, ALMOST)]
    banks = [fit(level.layout, level.bank(), layout) for level in others]
    some = TaskBank(jax.tree.map(lambda leaf: leaf[:20], small[0].instances))
    bank = TaskBank.concatenate([*banks, fit(SMALL, some, layout)])
    result, references = solve(bank, layout=layout), references_of(bank, layout)
    assert result.pushes.tolist() == [*map(optimum, references[:2]), *solved.pushes[:20]]
    assert result.status.tolist() == [Status.SOLVED] * 2 + solved.status[:20].tolist()
    check_plans(result, references, layout)


def test_mixed_numbers_of_boxes(small, solved):
    """The levels of a bank are searched by the number of their boxes: here in three groups."""
    bank, references, _ = small
    rng = np.random.default_rng(5)
    more = bank_of(SMALL, [random_text(SMALL, rng, n, 0.05) for n in (5, 7, 6)])
    order = rng.permutation(len(bank) + len(more))
    joined = jax.tree.map(lambda *leaves: np.concatenate(leaves)[order], bank.instances, more.instances)
    result = solve(TaskBank(joined), layout=SMALL, max_nodes=50_000)
    place = np.argsort(order)
    assert (result.pushes[place[: len(bank)]] == solved.pushes).all()
    check_plans(result, [[*references, *references_of(more, SMALL)][i] for i in order], SMALL)
    for at, level in zip(place[len(bank) :], references_of(more, SMALL), strict=True):
        expected = optimum(level, max_nodes=1_000)
        assert expected is None or result.pushes[at] == expected


# Limits ---------------------------------------------------------------------------------------------------------------


def tiny_config(monkeypatch, **changes):
    """Starts every search with these capacities; they grow to the usual ones."""
    make = solver.make_config

    def shrunk(layout, mode, num_slots, num_levels, growth=0, class_growth=0):
        config = make(layout, mode, num_slots, num_levels, max(growth - 2, 0), max(class_growth - 1, 0))
        return config if growth or class_growth else dataclasses.replace(config, **changes)

    monkeypatch.setattr(solver, "make_config", shrunk)


@pytest.mark.parametrize(
    "changes",
    [{"log_size": 64}, {"num_pages": 270}, {"num_classes": 2}, {"num_sets": 16}],
    ids=lambda c: next(iter(c)),
)
def test_a_full_structure_changes_no_result(monkeypatch, small, solved, changes):
    tiny_config(monkeypatch, **changes)
    configs = []
    compile_programs = solver.compile_programs
    monkeypatch.setattr(solver, "compile_programs", lambda c, m: configs.append(c) or compile_programs(c, m))
    result = solve(small[0], layout=SMALL)
    assert (result.status == solved.status).all() and (result.pushes == solved.pushes).all()
    check_plans(result, small[1], SMALL)
    # A full closed table only costs work; everything else has to grow.
    assert len(configs) == 1 + ("num_sets" not in changes)


def test_tables_are_made_once(monkeypatch, small, solved):
    """Also where a search has to begin anew."""
    tiny_config(monkeypatch, log_size=64)
    used, advance = [], solver._Run._advance
    record = lambda run, program, tables, *others: used.append(tables) or advance(run, program, tables, *others)
    monkeypatch.setattr(solver._Run, "_advance", record)
    chosen = np.resize(np.argsort(solved.expanded)[-30:], 150)  # all of them open when the log is full
    result = solve(small[0][chosen], layout=SMALL)
    assert len(used) == 2 and used[0] is used[1]
    assert (result.status == solved.status[chosen]).all() and (result.pushes == solved.pushes[chosen]).all()


def test_capacities_grow():
    """All of them, and the structures never hold more levels than they were made for."""
    sizes = [solver.make_config(SMALL, "optimal", 2, 150, growth) for growth in range(3)]
    for name in ("num_pages", "log_size", "num_sets"):
        assert getattr(sizes[0], name) < getattr(sizes[1], name) < getattr(sizes[2], name)
    assert len({size.num_levels for size in sizes}) == 1 and sizes[0].num_levels >= 150


def test_classes_grow_until_no_f_lacks_one():
    """They cost little beside what is searched, so that they end before memory does."""
    largest = 2 * (int(bounds.TOO_LONG) - 1)  # g and h
    for num_slots in (2, 0):
        sizes = [solver.make_config(SMALL, "optimal", num_slots, 1, 0, growth) for growth in range(4)]
        assert all(a.num_classes < b.num_classes or a.num_classes > largest for a, b in itertools.pairwise(sizes))
        assert sizes[-1].num_classes > largest and solver.memory(sizes[-1]) < 64 << 20


def test_every_board_fits_the_memory():
    layout = Layout(162, 202)
    assert 0.99 * bounds.MAX_CELLS < layout.num_cells <= bounds.MAX_CELLS
    config = solver.make_config(sizes.search_layout(layout), "optimal", bounds.MAX_MATCHED, 1)
    assert solver.memory(config) < 2 << 30 and sizes.addressed(config) < 1 << 31


def test_levels_are_searched_together_only_where_all_their_cells_can_be_addressed(small):
    layout = sizes.search_layout(Layout(82, 82))
    run = solver._Run(layout, "optimal", 100, 1 << 50, 0.0, solver._on_host(SMALL, small[0]))
    fits = lambda levels: run._fits(solver.make_config(layout, "optimal", 2, levels), SimpleNamespace(size=1))
    assert fits(1024) and not fits(2048)


def test_a_full_device_leaves_a_level_the_memory_of_all(monkeypatch, small):
    """What does not fit beside others is searched alone, on one device with all the memory, before it is given up."""
    tried = []
    record = lambda run, config, mesh, group: tried.append((mesh.size, group.size))
    monkeypatch.setattr(solver._Run, "_attempt", record)
    run = solver._Run(SMALL, "optimal", 100, 4 << 30, 0.0, solver._on_host(SMALL, small[0]))
    run.mesh = SimpleNamespace(size=4, devices=np.arange(4))
    monkeypatch.setattr(solver, "Mesh", lambda devices, axes: SimpleNamespace(size=len(devices), devices=devices))
    run.search(2, np.arange(20))
    assert tried == [(4, 20), (4, 5), (4, 4), *[(1, 1)] * 20]
    assert (run.status[:20] == Status.MEMORY_LIMIT).all()


def test_memory_that_does_not_suffice_is_reported(monkeypatch, small):
    tiny_config(monkeypatch, log_size=64)
    bank, _, optima = small
    limit = solver.memory(solver.make_config(SMALL, "optimal", 2, len(bank))) + 1
    result = solve(bank, layout=SMALL, memory_limit=limit)
    assert set(result.status) <= {Status.SOLVED, Status.UNSOLVABLE, Status.MEMORY_LIMIT}
    decided = result.status != Status.MEMORY_LIMIT
    assert (result.pushes[decided] == optima[decided]).all()
    nothing = solve(bank[:3], layout=SMALL, memory_limit=1)
    assert (nothing.status == Status.MEMORY_LIMIT).all() and nothing.expanded.sum() == 0


def test_costs_that_a_node_cannot_hold_are_reported(monkeypatch, small, solved):
    """As if a node's cost had room for one push only: no level is called unsolvable for want of room."""
    longest = 1
    for name in ("_compile_tables", "_compile_search"):
        monkeypatch.setattr(programs, name, functools.lru_cache(getattr(programs, name).__wrapped__))
    monkeypatch.setattr(bounds, "TOO_LONG", np.int32(longest + 1))
    chosen = np.flatnonzero(solved.pushes[:128] != 0)[-16:]  # of the last the bound says less than it takes
    result = solve(small[0][chosen], layout=SMALL)
    given_up = result.status == Status.LENGTH_LIMIT
    expected, pushes = solved.status[chosen], solved.pushes[chosen]
    assert (result.status[~given_up] == expected[~given_up]).all()
    assert (result.pushes[~given_up] == pushes[~given_up]).all()
    assert given_up[pushes > longest + 1].all() and not given_up.all()
    assert (result.expanded[given_up] == 0).any() and (result.expanded[given_up] > 0).any()  # at the start and later


def test_the_node_limit_gives_up_and_says_so(small, solved):
    bank, _, optima = small
    result = solve(bank, layout=SMALL, max_nodes=10)
    gave_up = result.status == Status.NODE_LIMIT
    assert gave_up.any() and not gave_up.all()
    assert (result.expanded[gave_up] >= 10).all()
    assert (result.pushes[~gave_up] == optima[~gave_up]).all()
    assert (solved.expanded[gave_up] >= 10).all()


def test_the_time_limit_gives_up_and_says_so():
    bank = bank_of(levels.parse(CROWD).layout, [CROWD])
    result = solve(bank, layout=levels.parse(CROWD).layout, time_limit=0.3)
    assert result.status.tolist() == [Status.TIME_LIMIT]
    assert 0.3 < result.seconds < 10 and result.expanded[0] > 0


def test_a_search_can_be_stopped(small):
    bank = small[0]
    asked = []
    stopped = solve(bank, layout=SMALL, stop=lambda: asked.append(0) or True)
    assert asked and (stopped.status == Status.INTERRUPTED).all() and not stopped.expanded.any()
    bank = bank_of(levels.parse(CROWD).layout, [CROWD])
    seen = []
    stopped = solve(bank, layout=levels.parse(CROWD).layout, on_progress=seen.append, stop=lambda: len(seen) > 1)
    assert stopped.status.tolist() == [Status.INTERRUPTED] and stopped.pushes.tolist() == [-1]
    assert stopped.expanded[0] > 0 and len(seen) == 2


def test_a_preparation_can_be_stopped(monkeypatch, small):
    """Between the parts of the tables, of which these levels have four."""
    monkeypatch.setattr(programs, "_compile_tables", functools.lru_cache(programs._compile_tables.__wrapped__))
    monkeypatch.setattr(bounds, "_PART", 4 * SMALL.num_cells)
    bank, seen = small[0][:16], []
    stopped = solve(bank, layout=SMALL, on_progress=seen.append, stop=lambda: len(seen) == 2)
    assert (stopped.status == Status.INTERRUPTED).all() and not stopped.expanded.any() and len(seen) == 2
    seen, late = [], lambda progress: seen.append(progress) or time.sleep(0.3)
    stopped = solve(bank, layout=SMALL, on_progress=late, time_limit=0.3)
    assert (stopped.status == Status.TIME_LIMIT).all() and not stopped.expanded.any() and len(seen) <= 1


@pytest.mark.parametrize("seconds_a_round", [1e-4, 0.02, 3.0])
def test_calls_are_short_on_every_board(seconds_a_round):
    rounds = 1
    for _ in range(10):
        rounds = solver._next_rounds(rounds, rounds * seconds_a_round)
    seconds = rounds * seconds_a_round
    assert rounds in (1, solver.ROUNDS_A_CALL) or solver.CALL_SECONDS / 2 <= seconds <= solver.CALL_SECONDS * 2
    assert rounds == 1 or seconds <= solver.CALL_SECONDS * 2


def test_a_compilation_can_be_stopped(monkeypatch, small):
    monkeypatch.setattr(solver, "compile_programs", lambda config, mesh: (Future(),))  # that never ends
    answers = iter([False, False])
    stopped = solve(small[0], layout=SMALL, stop=lambda: next(answers, True))
    assert (stopped.status == Status.INTERRUPTED).all() and list(answers) == []
    assert stopped.seconds < stopped.compile_seconds


def test_programs_are_compiled_in_the_background():
    may_end = threading.Event()
    compilation = programs.in_background(SimpleNamespace(compile=lambda: may_end.wait(60) and "program"))
    assert programs.is_compiling() and not compilation.done()
    may_end.set()
    assert compilation.result(timeout=60) == "program"

    def fail():
        raise ValueError("no such target")

    with pytest.raises(ValueError, match="no such target"):
        programs.in_background(SimpleNamespace(compile=fail)).result(timeout=60)


def test_a_device_without_the_memory_searches_fewer_levels_together(monkeypatch, small, solved):
    compile_programs = solver.compile_programs
    tried = []

    def compile_for_small_device(config, mesh):
        blank, prepare, *others = compile_programs(config, mesh)

        def prepare_if_small(*arguments):
            tried.append(config.num_levels)
            if config.num_levels > 32:
                raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
            return prepare.result()(*arguments)

        instead = Future()
        instead.set_result(prepare_if_small)
        return blank, instead, *others

    monkeypatch.setattr(solver, "compile_programs", compile_for_small_device)
    result = solve(small[0], layout=SMALL)
    assert (result.status == solved.status).all() and (result.pushes == solved.pushes).all()
    assert max(tried) > 32 >= min(tried)


def test_progress_is_reported(small):
    seen = []
    result = solve(small[0], layout=SMALL, on_progress=seen.append)
    assert seen[-1].total == len(small[0])
    assert seen[-1].solved == result.solved.sum() and seen[-1].given_up == (~result.solved).sum()
    assert seen[-1].expanded == result.expanded.sum()
    assert all(a.expanded <= b.expanded and a.seconds <= b.seconds for a, b in itertools.pairwise(seen))


# Wrong input ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"layout": Layout(7, 8)}, ValueError, "tasks were made for boards of 7×7 cells; layout is for boards of 7×8"),
        ({"layout": None}, TypeError, r"layout=None must be a Layout: Layout\(height, width\)"),
        ({"layout": (7, 7)}, TypeError, r"layout=\(7, 7\) must be a Layout: Layout\(7, 7\)"),
        ({"mode": "best"}, ValueError, "mode='best' is not one of optimal, satisficing"),
        ({"mode": ["optimal"]}, ValueError, r"mode=\['optimal'\] is not one of"),
        ({"max_nodes": 0}, ValueError, "max_nodes=0 must be at least 1"),
        ({"max_nodes": 2.5}, TypeError, r"max_nodes=2\.5 is not an integer"),
        ({"max_nodes": True}, TypeError, "max_nodes=True is a boolean"),
        ({"max_nodes": "5"}, TypeError, "max_nodes='5' is not an integer"),
        ({"max_nodes": None}, TypeError, "max_nodes=None is not an integer"),
        ({"max_nodes": 2**31}, ValueError, "max_nodes=2147483648 must be at most 2147483647"),
        ({"time_limit": 0.0}, ValueError, r"time_limit=0\.0 is not above 0; give seconds, or None for no limit"),
        ({"time_limit": float("nan")}, ValueError, "time_limit=nan is not above 0"),
        ({"time_limit": "1"}, TypeError, "time_limit='1' is not a number"),
        ({"memory_limit": -1}, ValueError, "memory_limit=-1 is not above 0; give bytes, such as 4 << 30"),
        ({"memory_limit": True}, TypeError, "memory_limit=True is not a number"),
        ({"memory_limit": None}, TypeError, "memory_limit=None is not a number"),
        ({"devices": []}, ValueError, r"devices=\[\] has no device; give at least one, or None for all"),
        ({"devices": 2}, TypeError, "devices=2 must be a list of devices, such as"),
        ({"devices": "cpu"}, TypeError, "devices='cpu' must be a list of devices"),
        ({"devices": [jax.devices()[0]] * 2}, ValueError, "must be different ones, all of one kind"),
        ({"on_progress": 3}, TypeError, "on_progress=3 is neither None nor a function"),
        ({"stop": True}, TypeError, r"stop=True is neither None nor a function \(\) -> bool"),
    ],
)
def test_wrong_arguments(monkeypatch, small, changes, error, message):
    monkeypatch.setattr(solver, "compile_programs", None)  # nothing is compiled
    with pytest.raises(error, match=message):
        solve(small[0], **{"layout": SMALL, **changes})


def test_wrong_tasks(small):
    bank, _, _ = small
    with pytest.raises(TypeError, match="tasks must be a TaskBank of Sokoban levels; got SokobanTask"):
        solve(bank[0], layout=SMALL)
    unnamed = dataclasses.replace(bank.instances, made_for="")
    with pytest.raises(ValueError, match="tasks were made for boards of 1 words; layout is for boards of 20×20"):
        solve(make_bank(unnamed), layout=Layout(20, 20))
    with pytest.raises(TypeError, match=r"tasks are traced; .* outside of jax\.jit"):
        jax.jit(lambda instances: solve(TaskBank(instances), layout=SMALL).status)(bank.instances)
    instances = dataclasses.replace(bank.instances, targets=tuple(word * 0 for word in bank.instances.targets))
    with pytest.raises(ValueError, match=r"tasks\[0\] has . boxes and 0 targets"):
        solve(make_bank(instances), layout=SMALL)


def test_a_solved_start_needs_no_push(small):
    bank = small[0]
    instances = dataclasses.replace(bank.instances, boxes=bank.instances.targets)
    on_box = np.asarray(bb.contains(instances.boxes, instances.player))
    result = solve(TaskBank(jax.tree.map(lambda leaf: leaf[~on_box], instances)), layout=SMALL)
    assert result.solved.all() and not result.pushes.any() and not result.moves.any()
    assert {result.lurd(i) for i in range(len(result.status))} == {""}


# Parts ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[2, 0], ids="slots={}".format)
def prepared(request, small):
    """(config, tables) of the small levels, with a matching of two boxes and with none."""
    bank, _, _ = small
    config = solver.make_config(SMALL, "optimal", request.param, len(bank))
    config = dataclasses.replace(config, num_levels=len(bank))
    tables = jax.jit(partial(core.blank_tables, config))()
    assert bounds.num_parts(config, len(bank)) == 1
    return config, jax.jit(partial(core.prepare, config))(starts_of(bank), tables, np.int32(0))


def test_tables_made_in_parts_are_the_same_and_take_the_memory_that_is_counted(monkeypatch, small):
    """All levels at once, four of them, and nine cells of one, which overlap in the last part."""
    config, starts, made = solver.make_config(SMALL, "optimal", 2, 16), starts_of(small[0][:16]), []
    for words, num_parts in ((16 * 25, 1), (4 * 25, 4), (9, 16 * 3)):
        monkeypatch.setattr(bounds, "_PART", words)
        tables = jax.jit(partial(core.blank_tables, config))()
        prepare = jax.jit(partial(core.prepare, config), donate_argnums=1)
        program = prepare.lower(starts, tables, np.int32(0)).compile()
        used = program.memory_analysis().temp_size_in_bytes
        assert used <= bounds.preparing_bytes(config) < solver.memory(config)
        assert bounds.num_parts(config, 16) == num_parts
        for part in range(num_parts):
            tables = program(starts, tables, np.int32(part))
        made.append(jax.tree.leaves(tables))
    for leaves in zip(*made, strict=True):
        assert all((np.asarray(leaf) == np.asarray(leaves[0])).all() for leaf in leaves)


def test_bounds_are_admissible_and_consistent(small, prepared):
    """On every state within reach of small levels, against exact distances to the goal."""
    _, references, optima = small
    config, tables = prepared
    chosen = np.flatnonzero(optima > 2)[:12]
    exact = [distances_to_goal(references[i]) for i in chosen]
    states = [(i, state) for i, distances in zip(chosen, exact, strict=True) for state in distances]
    index = {key: row for row, key in enumerate(states)}
    found = bounds_of(config, tables, references, states)
    strict = 0
    for i, distances in zip(chosen, exact, strict=True):
        for state, left in distances.items():
            h = found[index[i, state]]
            assert h <= left if left is not None else True
            strict += h == left
            for _, after in reference._push_successors(references[i], state):
                assert h <= 1 + found[index[i, after]]
    assert strict > 100


def distances_to_goal(level):
    """{state: fewest pushes to a solution, None where there is none} of every normalised state within reach."""
    start = reference._normalised(level, level.start)
    successors = {}
    queue = collections.deque([start])
    while queue:
        state = queue.popleft()
        if state not in successors:
            successors[state] = [after for _, after in reference._push_successors(level, state)]
            queue.extend(successors[state])
    predecessors = collections.defaultdict(list)
    for state, afters in successors.items():
        for after in afters:
            predecessors[after].append(state)
    distances = dict.fromkeys(successors)
    queue = collections.deque(state for state in successors if reference.is_solved(level, state))
    distances.update(dict.fromkeys(queue, 0))
    while queue:
        state = queue.popleft()
        for before in predecessors[state]:
            if distances[before] is None:
                distances[before] = distances[state] + 1
                queue.append(before)
    return distances


def bounds_of(config, tables, references, states):
    """The bound of every (level, state): int[n], infinite as a large number."""
    boards = [boards_of(config.layout, references[i], state) for i, state in states]
    boxes = tuple(np.array([boxes[w] for boxes, _ in boards]) for w in range(config.layout.num_words))
    player = np.array([player for _, player in boards], np.uint32)
    level = np.array([i for i, _ in states], np.int32)
    return np.asarray(_bounds_of(config, tables, level, boxes, player))


@partial(jax.jit, static_argnums=0)
def _bounds_of(config, tables, level, boxes, player):
    if config.num_slots:
        return bounds.matching(config, bounds.rows_of(config, tables, level, boxes, player))
    # Without slots a child's bound follows from its parent's; the start's is summed afresh, here for any state.
    own = jax.tree.map(lambda leaf: leaf.reshape(config.num_levels, -1)[level].reshape(-1), tables)
    return bounds.start_bound(dataclasses.replace(config, num_levels=len(level)), own, boxes, player)


@partial(jax.jit, static_argnums=0)
def _child_bounds(config, tables, nodes, player, box, target, direction):
    rows = bounds.rows_of(config, tables, nodes.level, nodes.boxes, player) if config.num_slots else []
    return bounds.child_bound(config, tables, nodes, rows, box, target, direction)


def test_a_childs_bound_equals_the_bound_afresh(small, prepared):
    _, references, optima = small
    config, tables = prepared
    parents, pushed, children = [], [], []
    for i in np.flatnonzero(optima > 0)[:30]:
        for (box, direction), _ in reference._push_successors(references[i], references[i].start):
            moved = box + references[i].steps[direction]
            parents.append((i, references[i].start))
            children.append((i, reference.State(box, references[i].start.boxes - {box} | {moved})))
            row, column = references[i].row_column(box)
            pushed.append(((row - 1) * SMALL.columns + column - 1, direction))
    before, expected = (bounds_of(config, tables, references, states) for states in (parents, children))
    boards = [boards_of(SMALL, references[i], state) for i, state in parents]
    boxes = tuple(np.array([boxes[w] for boxes, _ in boards]) for w in range(SMALL.num_words))
    player = np.array([player for _, player in boards], np.uint32)
    level = np.array([i for i, _ in parents], np.uint32)
    nodes = Nodes(boxes, level << LEVEL_SHIFT | player, level, before.astype(np.uint32))
    box, direction = np.array(pushed, np.int32).T
    target = box + np.array(SMALL.deltas)[direction]
    found = _child_bounds(config, tables, nodes, player, box, target, direction)
    possible = before < bounds.INFINITE
    assert possible.sum() > 50
    assert (np.asarray(found)[possible] == expected[possible]).all()


def node_batch(rng, config, count):
    """Random nodes, those of one level together, with a number of their own as `parent`."""
    level = np.sort(rng.integers(0, config.num_levels, count)).astype(np.uint32)
    words = rng.integers(0, 2**32, (config.layout.num_words, count), np.uint32)
    number = rng.integers(0, 2**32, count, np.uint32)
    return Nodes(tuple(words), level << LEVEL_SHIFT, number, number ^ 1)


FRONTIER = dataclasses.replace(
    solver.make_config(SMALL, "optimal", 2, 16), num_children=300, num_lanes=100, num_classes=12, num_pages=200
)
begin, push, pop = (jax.jit(partial(function, FRONTIER)) for function in (frontier.begin, frontier.push, frontier.pop))


def test_the_frontier_is_a_stack_for_each_level_and_class():
    config = FRONTIER
    rng = np.random.default_rng(0)
    roots = node_batch(rng, config, 16)
    roots = dataclasses.replace(roots, place=np.arange(16, dtype=np.uint32) << LEVEL_SHIFT)
    pool, pages = begin(roots, np.full(16, 3, np.int32))
    stacks = {(level, 3): [int(roots.parent[level])] for level in range(16)}
    is_open = rng.random(16) < 0.9
    popped = 0
    for _ in range(60):
        best = {
            level: min((c for (owner, c), stack in stacks.items() if owner == level and stack), default=None)
            for level in range(16)
        }
        nodes, count, pages, exhausted = pop(pool, pages, is_open)
        assert np.asarray(exhausted).tolist() == [bool(is_open[i]) and best[i] is None for i in range(16)]
        taken, nodes = collections.defaultdict(list), jax.device_get(nodes)
        for lane in range(int(count)):
            taken[int(nodes.level[lane])].append(int(nodes.parent[lane]))
            assert int(nodes.cost[lane]) == int(nodes.parent[lane]) ^ 1
        for level, numbers in taken.items():
            assert is_open[level]
            stack = stacks[level, best[level]]
            assert sorted(stack[-len(numbers) :]) == sorted(numbers)
            del stack[-len(numbers) :]
        assert set(taken) == {i for i in range(16) if is_open[i] and best[i] is not None}
        popped += int(count)
        batch, valid = node_batch(rng, config, 300), rng.random(300) < 0.5
        lowest = np.array([best[int(level)] or 0 for level in np.asarray(batch.level)])
        classes = np.minimum(lowest + rng.choice(9, 300, p=[0.4, 0.2, 0.1, *[0.05] * 6]), 11).astype(np.int32)
        pool, pages = push(pool, pages, batch, classes, valid)
        # Siblings of one stack may lie there in any order.
        for level, c, number in zip(np.asarray(batch.level)[valid], classes[valid], batch.parent[valid], strict=True):
            stacks.setdefault((int(level), int(c)), []).append(int(number))
        assert not bool(pages.overflow)
        sizes = np.asarray(pages.size).reshape(16, 12)
        assert all(sizes[at] == len(stack) for at, stack in stacks.items())
        used = sum(-(-len(stack) // frontier.PAGE) for stack in stacks.values())
        assert int(pages.num_free) == config.num_pages - used
    assert popped > 3_000


def test_the_frontier_reports_what_it_cannot_hold():
    rng = np.random.default_rng(0)
    held = begin(node_batch(rng, FRONTIER, 16), np.zeros(16, np.int32))
    batch, every = node_batch(rng, FRONTIER, 300), np.ones(300, bool)
    pool, pages = push(*held, batch, np.arange(300, dtype=np.int32) % 12, every)
    assert not bool(pages.overflow) and int(pages.num_free) == 8  # a page for each of 16 · 12 stacks
    one = dataclasses.replace(batch, place=np.zeros(300, np.uint32)), np.zeros(300, np.int32), every
    pool, pages = push(pool, pages, *one)
    assert not bool(pages.overflow) and int(pages.num_free) == 4
    assert bool(push(pool, pages, *one)[1].overflow)  # pages: five more are needed
    pages = push(*held, batch, np.full(300, 12, np.int32), every)[1]
    assert bool(pages.classless) and not bool(pages.overflow)


def test_the_closed_table_knows_what_it_was_told():
    config = dataclasses.replace(solver.make_config(SMALL, "optimal", 2, 16), num_sets=4096)
    insert = jax.jit(partial(closed.insert, config))
    table, seen = closed.empty_table(config), set()
    rng = np.random.default_rng(0)
    fresh = known = forgotten = 0
    for _ in range(30):
        boxes, place = rng.integers(0, 20, 128).astype(np.uint32), rng.integers(0, 20, 128).astype(np.uint32)
        valid = rng.random(128) < 0.9
        table, new = insert(table, (boxes,), place, valid)
        new = np.asarray(new)
        assert not (new & ~valid).any()
        batch = set()
        for state, is_new, is_valid in zip(zip(boxes, place, strict=True), new, valid, strict=True):
            if not is_valid:
                continue
            fresh, known, forgotten = fresh + is_new, known + (not is_new), forgotten + (is_new and state in seen)
            if is_new:
                batch.add(state)
        assert {state for state, v in zip(zip(boxes, place, strict=True), valid, strict=True) if v} <= batch | seen
        seen |= batch
    assert len(seen) > 390 and known > 2_500 and forgotten < 20


def test_lanes():
    rng = np.random.default_rng(0)
    both = jax.jit(lambda numbers, mask: (prefix_sum(numbers), compact(mask)))
    for size in (1, 31, 32, 100, 4096):
        numbers, mask = rng.integers(0, 4000, size, np.int32), rng.random(size) < 0.3
        sums, (lanes, count) = both(numbers, mask)
        assert (np.asarray(sums) == np.cumsum(numbers)).all()
        assert int(count) == mask.sum() and (np.asarray(lanes)[: int(count)] == np.flatnonzero(mask)).all()
    words = rng.integers(1, 2**32, 2000, np.uint32)
    n = np.array([rng.integers(0, int(word).bit_count()) for word in words], np.int32)
    expected = [[i for i in range(32) if int(word) >> i & 1][k] for word, k in zip(words, n, strict=True)]
    assert np.asarray(jax.jit(nth_set_bit)(words, n)).tolist() == expected


def test_no_large_constant_in_the_program():
    config = solver.make_config(BOXOBAN, "optimal", 4, 64)
    one = bank_of(BOXOBAN, [random_text(BOXOBAN, np.random.default_rng(0), 4, 0.1)])
    starts = jax.tree.map(lambda leaf: np.repeat(np.asarray(leaf), 64, axis=0), starts_of(one))
    tables = jax.eval_shape(partial(core.blank_tables, config))
    search = jax.eval_shape(partial(core.start, config), tables, starts, jnp.ones(64, bool))
    text = jax.jit(partial(core.advance, config)).lower(tables, search, jnp.int32(1), jnp.int32(1)).as_text()
    constants = re.findall(r'dense<"0x([0-9A-F]+)">', text)
    assert max((len(hexadecimal) // 2 for hexadecimal in constants), default=0) <= 65_536
    assert len(text) < 2_000_000
