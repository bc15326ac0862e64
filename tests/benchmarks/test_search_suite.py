"""The parts of the search and solving suites."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs_jax
from benchmarks import native_peer, search_arms, search_headline, search_plots, search_quality, search_workers
from benchmarks.hlo import Instruction, Module
from benchmarks.measure import BUDGETS, Measurement, Unavailable
from benchmarks.profiling import PHASES, write_phases
from benchmarks.results import Row, Target
from benchmarks.search_headline import Way
from benchmarks.search_problems import (
    cell_values,
    lean,
    problem,
    return_and_value,
    with_network,
    with_rollout_values,
    with_table,
)
from benchmarks.solving_worker import Answers, agreement, over_fewest
from benchmarks.suites import Settings, solving
from benchmarks.suites import search as suite
from jaxrl_agents import search
from jaxrl_agents.search.best_first import Status

pytestmark = pytest.mark.usefixtures("quick_compilation")

SETTINGS = Settings()
SIZE = 8


@pytest.fixture(scope="module")
def lake():
    return problem("FrozenLake-v0", SIZE, SETTINGS)


@pytest.fixture(scope="module")
def sokoban():
    return problem("Sokoban-v0", SIZE, SETTINGS)


def test_rates_count_only_nodes_that_the_search_generated(lake):
    searched = search_arms.Search(search.best_of_n, {"num_turns": 12, "num_rollouts": 3})
    arm = search_arms.searching(searched, lake)
    arm.run(2)
    found = arm.finish()
    keys = jax.random.split(jax.random.key(2), search_arms.KEYS)
    outputs = [searched(None, keys[call], lake.root(), lake.model, lake.tasks) for call in range(2)]
    generated = np.mean([np.asarray(output.counts.generated).mean() for output in outputs])
    assert found["generated"] == pytest.approx(generated) and 3 < generated < 36  # episodes end on the ice
    assert found["bytes"] > 0 and arm.compile_seconds > 0 and arm.items == SIZE
    measured = Measurement(np.array([10.0]), summary=found)
    np.testing.assert_allclose(search_arms.in_nodes(measured).rates, 10 * generated)


def test_roots_spread_over_two_devices():
    environment = {**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    command = [sys.executable, "-m", "tests.benchmarks.spread_roots"]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=root, check=False)
    assert done.stdout.split() == ["done"], done.stderr


def test_our_mcts_searches_what_mctx_does(lake):
    import mctx

    searched, key = lean(lake), jax.random.key(5)
    root = searched.root()
    alone = lambda params, key, root: mctx.gumbel_muzero_policy(params, key, root, searched.model, 8)
    theirs = jax.jit(alone)((None, lake.tasks), key, root)
    ours = search_arms.mcts(8)(None, key, root, searched.model, lake.tasks)
    np.testing.assert_array_equal(ours.search_tree.node_visits, theirs.search_tree.node_visits)
    np.testing.assert_array_equal(ours.action, theirs.action)


@pytest.mark.parametrize("words", [False, True])
def test_bare_steps_step_every_row(sokoban, words):
    program = search_arms.bare_steps(sokoban, 4, words=words)
    assert program.items == 4 * SIZE
    key = jax.random.key(0)
    states, reward, _, step = jax.jit(program.body)(program.constants, program.carry, key)
    drawn = jax.random.bits(key, (4, SIZE), jnp.uint32) if words else jnp.zeros((4, SIZE), jnp.uint32)
    action = drawn % 4 if words else jnp.arange(4)[:, None] + jnp.zeros((4, SIZE))
    stepped = jax.jit(jax.vmap(sokoban.env.live_transition))
    for row in range(4):
        expected = stepped(sokoban.states, action[row].astype(jnp.int32), drawn[row], sokoban.tasks)
        jax.tree.map(lambda a, b, row=row: np.testing.assert_array_equal(a[row], b), states, expected.state)
        np.testing.assert_array_equal(reward[row], expected.reward)
    assert step == 1


def test_the_table_policy_is_legal_and_differs_in_entropy(sokoban):
    root = with_table(sokoban).root()
    mask = np.asarray(jax.jit(jax.vmap(sokoban.env.action_mask))(sokoban.states, sokoban.tasks))
    np.testing.assert_array_equal(np.isfinite(root.prior_logits), mask)
    assert len(np.unique(np.asarray(root.prior_logits)[:, :].max(1))) > 1


def test_forwards_are_those_of_the_search(sokoban):
    base = with_network(sokoban)
    program = search_arms.forwards(base, 2)
    observations, logits, _ = jax.jit(program.body)(program.constants, program.carry, jax.random.key(0))
    observe = lambda params, states, tasks: base.model.policy(params, jax.vmap(base.env.observe)(states, tasks))
    expected, _ = jax.jit(observe)(base.params, base.states, base.tasks)
    np.testing.assert_allclose(logits[0], expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(observations[:, 1:], program.carry[0][:, :-1])
    assert program.items == 2 * SIZE


def test_a_program_for_profiles_moves_its_roots_on(lake):
    searched = search_arms.Search(search.best_of_n, {"num_turns": 3, "num_rollouts": 2})
    program = search_arms.search_program(searched, lake)
    root, tasks, output = jax.jit(program.body)(program.constants, program.carry, jax.random.key(0))
    np.testing.assert_array_equal(root.prior_logits, jnp.roll(lake.root().prior_logits, 1, axis=0))
    assert program.items > 0 and output.action.shape == (SIZE,)


def test_episodes_are_played_in_the_environment(lake):
    """Without slipping, a wide beam decides every step of the shortest way."""
    _, bank = envs_jax.make("FrozenLake-v0", is_slippery=False)
    dry = dataclasses.replace(lake, tasks=bank[np.zeros(SIZE, int)].instances)
    env, size = dry.env, 64
    contender = search_arms.Search(search.beam_search, {"num_turns": 8, "beam_width": size, "candidates": "enumerate",
                                                        "deduplicate": True})  # fmt: skip
    played = search_quality.play(contender, dry, 8)
    assert played.success.all() and (played.returns == 1).all()  # six steps to the goal, all found by a wide beam
    assert env.num_actions < played.nodes < 8 * 4 * size and (played.seconds > 0).all()


def test_equal_costs_are_interpolated_between_measured_sizes():
    points = {"a": [(1.0, 0.0), (100.0, 2.0)], "b": [(25.0, 3.0), (4.0, 1.0)], "c": [(1e3, 5.0), (4e3, 6.0)]}
    found = search_quality.at_equal(points)
    assert list(found) == [10.0]  # 3 is too little and 30 too much for b; nothing compares with c
    expected = {"a": 1.0, "b": 1 + 2 * np.log(10 / 4) / np.log(25 / 4)}
    assert found[10.0] == pytest.approx(expected)
    assert search_quality.at_equal({"a": points["a"], "c": points["c"]}) == {}


def test_values_of_cells_are_the_means_of_rollouts(lake):
    """Against Monte Carlo: what random actions return from the start, and from the cell before the goal."""
    base = with_rollout_values(lake)
    values = np.asarray(base.params)[0]
    rows, columns = jnp.array([0, 3], jnp.uint8), jnp.array([0, 2], jnp.uint8)
    many = 4_096
    states = dataclasses.replace(
        jax.tree.map(lambda leaf: jnp.zeros(2 * many, leaf.dtype), base.states),
        row=jnp.repeat(rows, many), column=jnp.repeat(columns, many),
    )  # fmt: skip
    tasks = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf[0], (2 * many, *leaf.shape[1:])), base.tasks)

    @jax.jit
    def rollouts(states, tasks):
        def step(carry, key):
            states, total = carry
            words = jax.random.bits(key, (2, 2 * many), jnp.uint32)
            action = (words[0] % 4).astype(jnp.int32)
            after = jax.vmap(base.env.transition)(states, action, words[1], tasks)
            return (after.state, total + after.reward), None

        return jax.lax.scan(step, (states, jnp.zeros(2 * many)), jax.random.split(jax.random.key(0), 100))[0][1]

    found = np.asarray(rollouts(states, tasks)).reshape(2, many).mean(1)
    np.testing.assert_allclose(found, values[[0, 14]], atol=4 * 0.5 / many**0.5)
    assert values[14] > 20 * values[0] > 0 and values[15] == 0  # the goal ends the episode
    np.testing.assert_allclose(base.root().value, values[0])
    of_states = cell_values(base.env)((jnp.broadcast_to(values, (2 * many, 16)), None), states)
    np.testing.assert_allclose(of_states, values[[0, 14]].repeat(many))


def test_trees_with_values_of_rollouts_beat_random_actions(lake):
    """Every decision by a search of 32 nodes: far more than the few per cent that random actions reach."""
    setting = search_quality.SETTINGS["FrozenLake-80"]
    base = problem(setting.id, 64, SETTINGS, **setting.options)
    base, score = with_rollout_values(base), return_and_value(base.env)
    contender = search_quality.contender(setting, "mcts", 32, score)
    played = search_quality.play(contender, base, 100)
    assert played.success.mean() > 0.2 and (played.returns == played.success).all()
    assert played.nodes <= 32 and (played.seconds > 0).all()


@pytest.mark.parametrize("name", search_quality.SETTINGS)
def test_every_size_of_a_mode_is_another_search(name):
    setting = search_quality.SETTINGS[name]
    for mode, sizes in setting.full.items():
        found = [search_quality.contender(setting, mode, size) for size in sizes]
        assert len({str(sorted(one.options.items())) for one in found}) == len(sizes) >= 3
    assert len(setting.full) == 6 and set(setting.quick) <= set(setting.full)
    assert min(setting.full["beam_search"]) > 1  # a beam of width 1 is no beam


def test_sizes_are_the_modes_own():
    sokoban, webshop = (search_quality.SETTINGS[name] for name in ("Sokoban", "WebShop"))
    options = lambda setting, mode, size: search_quality.contender(setting, mode, size).options
    assert (
        options(sokoban, "best_of_n", 16)["num_rollouts"]
        == options(sokoban, "entropy_backtrack", 16)["num_rollouts"]
        == 16
    )
    assert (
        options(sokoban, "beam_search", 8)["beam_width"] == options(sokoban, "beam_search, dedup", 8)["beam_width"] == 8
    )
    assert (
        options(sokoban, "beam_search, dedup", 8)["deduplicate"]
        and not options(sokoban, "beam_search", 8)["deduplicate"]
    )
    assert options(sokoban, "lookahead", 5)["depth"] == 5 and options(webshop, "lookahead", 24)["num_candidates"] == 24
    assert (
        options(webshop, "mcts", 8) == {"num_simulations": 8}
        and options(webshop, "beam_search", 2)["num_candidates"] == 4
    )


def test_rows_of_quality(monkeypatch):
    """What was played is made up: only what the rows say of it."""
    setting = search_quality.SETTINGS["Sokoban"]
    few = dataclasses.replace(setting, quick={"best_of_n": (4, 64), "mcts": (8, 128)})
    monkeypatch.setitem(search_quality.SETTINGS, "Sokoban", few)

    def play(contender, base, decisions):
        size = contender.options.get("num_rollouts") or contender.options["num_simulations"]
        seconds = size * np.array([1e-6, 2e-6, 3e-6])
        return search_quality.Played(np.array([size, size + 2.0]), np.array([True, False]), 2.0 * size, seconds)

    monkeypatch.setattr(search_quality, "play", play)
    monkeypatch.setattr(
        suite, "problem", lambda *arguments, **options: search_arms.Problem(None, None, None, np.zeros(2), None)
    )
    rows = list(suite.run_quality(SETTINGS, "Sokoban"))
    of = {(row.metric, *row.parameters.values()): row for row in rows}
    played, timed = of["return", "mcts", 8], of["time a decision", "mcts", 8]
    assert (played.value, played.repeats) == (9.0, 2) and played.p10 < 9 - 0.8 and "standard error 0.71" in played.note
    assert timed.value == 16 and timed.p10 < 16 < timed.p90 and timed.repeats == 3
    assert of["nodes a decision", "best_of_n", 64].value == 128 and of["success", "mcts", 128].value == 50
    equal = {key[1:]: row.value for key, row in of.items() if key[0] == "return at equal time"}
    assert set(equal) == {(mode, cost) for mode in ("best_of_n", "mcts") for cost in ("30 µs", "100 µs")}
    share = np.log(30 / 8) / np.log(128 / 8)
    assert equal["best_of_n", "30 µs"] == pytest.approx(5 + 60 * share)
    assert {key[2] for key in of if key[0] == "return at equal nodes"} == {"30 nodes", "100 nodes"}


def test_folders_of_level_files(tmp_path):
    for name in ("hard/000.txt", "hard/001.txt", "unfiltered/test/000.txt", "own/some.xsb", "own/mine.TXT", "top.txt",
                 "generated/0.txt", "own/notes.md"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = {name: [file.name for file in files] for name, files in solving.folders(tmp_path).items()}
    assert found == {"hard": ["000.txt", "001.txt"], "unfiltered-test": ["000.txt"], "own": ["mine.TXT", "some.xsb"],
                     "given-generated": ["0.txt"], tmp_path.name: ["top.txt"]}  # fmt: skip
    assert solving.folders(None) == {} and list(solving.folders(tmp_path / "hard/000.txt")) == ["000"]


def _answer(**fields):
    result = {"solved": 3, "seconds": [2.0, 4.0], "compile_seconds": 5.0, "expanded": 7.5, "moves": 9.0,
              "median_pushes": 6.0, "pushes": [4, 6, 8], "counts": [1, 1, 1], "reasons": {"NODE_LIMIT": 1}}  # fmt: skip
    both = dict.fromkeys(("optimal", "satisficing"), result)
    longer = {"optimal": 0.0, "satisficing": 5.0}
    return {"levels": 4, "devices": 2, "files": 1, "contestants": both, "over_fewest": longer, **fields}


def _solving_rows(monkeypatch, settings, answer, files=None):
    monkeypatch.setattr(solving, "call", lambda worker, arguments: answer)
    return {(row.metric, row.parameters.get("mode")): row for row in solving.run_solve(settings, "some", files)}


def test_solving_rows(monkeypatch):
    rows = _solving_rows(monkeypatch, SETTINGS, _answer(), [Path("a.txt"), Path("b.txt")])
    throughput = rows["throughput", "optimal"]
    assert throughput.value == 1.5 and throughput.verdict == "miss" and "first 1 of 2 files" in throughput.note
    assert rows["throughput a core", "optimal"].value == 0.75
    assert rows["solved", "optimal"].value == 75 and rows["solved", "optimal"].verdict == "miss"
    assert rows["solved", "optimal"].note == "1 node limit"
    assert rows["median pushes", "satisficing"].value == 6
    assert rows["pushes over the fewest", "satisficing"].value == 5


def test_solving_rows_beside_the_peer(monkeypatch):
    answer = _answer(agreement={"compared": 3, "different": 0, "which": []})
    answer["contestants"]["C++ A*"] = {**answer["contestants"]["optimal"], "seconds": [8.0], "moves": None}
    rows = _solving_rows(monkeypatch, Settings(peers=True), answer)
    assert rows["throughput", "C++ A*"].value == rows["throughput a core", "C++ A*"].value == 0.5
    assert rows["over C++ A*", "optimal"].value == 4 and rows["over C++ A*, a core", "optimal"].value == 2
    assert rows["fewest pushes as C++ A*", None].value == 100 and ("median moves", "C++ A*") not in rows
    answer["agreement"] = {"compared": 3, "different": 1, "which": ["a.txt:1 (4 and 5)"]}
    with pytest.raises(RuntimeError, match=r"differ in 1 levels: a\.txt:1 \(4 and 5\)"):
        _solving_rows(monkeypatch, Settings(peers=True), answer)
    lacking = _solving_rows(monkeypatch, Settings(peers=True), _answer(unavailable="no C++ compiler"))
    assert lacking["throughput", "C++ A*"].status == "unavailable"
    assert lacking["throughput", "C++ A*"].note == "no C++ compiler"


LEVELS = """; 0
#####
#@$.#
#####

; the box stands in a corner
#####
#$@.#
#####

#########
#   #   #
# $   . #
# @$  .-#
#########
"""


def test_the_peer_and_the_solver_agree(tmp_path, monkeypatch):
    """The whole worker: levels of two sizes, one of them without a solution."""
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    (tmp_path / "some.xsb").write_text(LEVELS)
    arguments = {"files": [str(tmp_path / "some.xsb")], "num_levels": 0, "modes": ["optimal"], "repeats": 1,
                 "peer": True}  # fmt: skip
    found = search_workers.call("solve", arguments)
    assert found["levels"] == 3 and found["files"] == 1 and found["contestants"]["optimal"]["solved"] == 2
    assert found["contestants"]["optimal"]["reasons"] == {"UNSOLVABLE": 1}
    if native_peer.NAME not in found["contestants"]:
        pytest.skip(found["unavailable"])
    assert found["agreement"] == {"compared": 3, "different": 0, "which": []}
    assert found["contestants"][native_peer.NAME]["pushes"] == found["contestants"]["optimal"]["pushes"]


@pytest.fixture(scope="module")
def peer(tmp_path_factory):
    """As it is, but for the optimisation, which `test_the_peer_and_the_solver_agree` pays for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native_peer, "FLAGS", tuple(flag for flag in native_peer.FLAGS if flag != "-O3"))
        try:
            return native_peer.build(tmp_path_factory.mktemp("native"))
        except Unavailable as error:
            pytest.skip(str(error))


def test_the_peer_counts_pushes_and_gives_up(peer, tmp_path):
    (tmp_path / "some.xsb").write_text(LEVELS)
    found = native_peer.solve(peer, tmp_path / "some.xsb", 1_000)
    assert found.pushes.tolist() == [1, native_peer.UNSOLVABLE, 7] and found.seconds >= 0
    found = native_peer.solve(peer, tmp_path / "some.xsb", 2)
    assert found.pushes.tolist() == [1, native_peer.UNSOLVABLE, native_peer.GIVEN_UP] and found.expanded[2] == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("; 0\n#####\n#@$?#\n#####\n", ":3: neither a row of a level nor a comment"),
        ("\n#####\n#@$ #\n#####\n", ":2: 1 boxes and 0 targets"),
        ("#####\n# $.#\n#####\n", ":1: 0 players"),
        ("; nothing\n", "no level"),
    ],
)
def test_the_peer_is_strict(text, message, peer, tmp_path):
    (tmp_path / "bad.txt").write_text(text)
    with pytest.raises(RuntimeError, match=f"ended with 2: .*bad.txt.*{message}"):
        native_peer.solve(peer, tmp_path / "bad.txt", 10)


def test_a_missing_compiler_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(native_peer.shutil, "which", lambda name: None)
    with pytest.raises(Unavailable, match=r"no C\+\+ compiler"):
        native_peer.build(tmp_path)


def test_agreement_is_about_levels_that_both_decided():
    solved, proven, limit = Status.SOLVED, Status.UNSOLVABLE, Status.NODE_LIMIT
    zeros = np.zeros(4, int)
    ours = Answers(np.array([solved, solved, proven, limit]), np.array([3, 5, -1, -1]), None, zeros, 1.0)
    theirs = Answers(np.array([solved, solved, solved, solved]), np.array([3, 4, 2, 2]), None, zeros, 1.0)
    found = agreement(ours, theirs, "abcd")
    assert found == {"compared": 3, "different": 2, "which": ["b (5 and 4)", "c (-1 and 2)"]}
    assert over_fewest(np.array([3, 6, -1]), np.array([3, 5, 4])) == pytest.approx(12.5)
    assert over_fewest(np.array([-1]), np.array([-1])) is None


def test_a_worker_that_fails_says_why():
    with pytest.raises(RuntimeError, match="no_such"):
        search_workers.call("solve", {"no_such": 1})


def test_a_worker_that_takes_too_long_says_what_it_may_take(monkeypatch):
    monkeypatch.setattr(search_workers, "TIMEOUT", 0.01)
    with pytest.raises(RuntimeError, match=r"for solve was ended after 0\.01 s.*TIMEOUT in benchmarks.search_workers"):
        search_workers.call("solve", {})


@pytest.mark.parametrize(("budget", "devices"), [("quick", 2), ("full", 2), ("full", 1)])
def test_what_is_compared_with_is_measured_in_both_ways(monkeypatch, budget, devices):
    """What is measured is prepared nowhere: only which arms there are, and the unit of their rates."""
    monkeypatch.setattr(search_headline.jax, "local_device_count", lambda: devices)
    times = lambda arms, budget: {key: Measurement(np.ones(3), summary={"generated": 7.0}) for key in arms}
    monkeypatch.setattr(search_headline, "measure", times)
    found = search_headline.measured(Settings(BUDGETS[budget]))
    ways = {}
    for way in found:
        ways.setdefault(way.arm, []).append(way.devices)
        assert way.measurement.rates[0] == (1 if way.arm.startswith("R") else 7)
    both = sorted({1, devices})
    assert (search_headline.MANY_ROOTS in ways) == ("lookahead, masked" in ways) == (budget == "full")
    assert set(ways) >= {*suite.modes(), "mctx", "mctx, with tree", "mcts", "R, 64 rows a root", "Rs, 8 rows a root"}
    for arm, counts in ways.items():
        assert counts == (both if budget == "full" or arm not in search_headline.OURS else [devices])


def test_the_headline_searches_all_actions_unless_masked(monkeypatch):
    monkeypatch.setattr(search_headline, "BATCH", SIZE)
    bases = {}
    for arm in ("beam_search", "beam_search, masked", "entropy_backtrack", "entropy_backtrack, masked"):
        search_headline._prepared(lambda base, arm=arm: bases.update({arm: base}), SETTINGS, arm, 1)
    for arm, base in bases.items():
        legal = jax.vmap(base.env.action_mask)(base.states, base.tasks) if arm.endswith("masked") else True
        np.testing.assert_array_equal(base.root().prior_logits > -jnp.inf, np.broadcast_to(legal, (SIZE, 4)))
    tables = [bases["entropy_backtrack" + rest].root().prior_logits for rest in ("", ", masked")]
    np.testing.assert_array_equal(tables[0], np.where(tables[1] > -jnp.inf, tables[1], tables[0]))


def test_the_proposed_policy_is_uniform():
    words = np.arange(4_096, dtype=np.uint32)
    keys = search_headline.rng.row_keys(words, search_headline.rng.PROPOSE)
    drawn = search_headline.draw_uniformly(None, keys, None)
    np.testing.assert_allclose(np.bincount(drawn.action, minlength=4) / len(words), 0.25, atol=0.03)
    np.testing.assert_allclose(np.exp(drawn.log_prob), 0.25, rtol=1e-6)
    np.testing.assert_allclose(drawn.entropy, np.log(4), rtol=1e-6)
    assert (drawn.length == 1).all()


def _ways():
    """Ways with rates made up: the beam is faster on two devices, the bare step with a word on one."""
    summary = {"bytes": 2e7, "generated": 100.0, "unique": 50.0, "wasted": 25.0, "triggered": 30.0}
    rates = {"R, 8 rows a root": (20, 30), "R, 64 rows a root": (80, 100), "Rs, 8 rows a root": (12, 14),
             "Rs, 64 rows a root": (50, 40), "mctx": (0.5, 1), "mctx, with tree": (0.8, 0.4), "mcts": (0.4, 0.9),
             "beam_search, masked": (5, 10), **dict.fromkeys(suite.modes(), (20, 30))}  # fmt: skip
    return [Way(arm, devices, Measurement(rate * np.array([1.0, 2.0, 3.0]), 1, 4.0 + devices, summary))
            for arm, both in rates.items() for devices, rate in zip((1, 2), both, strict=True)]  # fmt: skip


def test_ratios_of_the_headline_are_of_the_faster_ways(monkeypatch):
    """Through JSON, as the process that measures writes it."""
    text = json.dumps([way.document() for way in _ways()])
    asked = []
    monkeypatch.setattr(suite, "call", lambda worker, arguments: asked.append((worker, arguments)) or json.loads(text))
    rows = {(row.metric, *row.parameters.values()): row for row in suite.run_nodes(SETTINGS)}
    assert asked == [("nodes", {"budget": dataclasses.asdict(SETTINGS.budget), "levels": None})]
    rate = rows["throughput", "beam_search", "2 devices"]
    assert (rate.value, rate.unit, rate.batch_size, rate.compile_seconds) == (60, "nodes/s", 2 * suite.BATCH, 6)
    assert rows["throughput", "mcts", "1 device"].batch_size == suite.MCTX_BATCH
    assert rows["throughput", "R, 8 rows a root", "1 device"].unit == "steps/s"
    assert rows["over R", "lookahead"].value == 0.3 and rows["over Rs", "best_of_n"].value == 0.6
    assert rows["over Rs", "best_of_n"].note == "best_of_n: 2 devices; Rs, 64 rows a root: 1 device"
    assert rows["over R", "beam_search, masked"].value == 0.1
    assert rows["over R", "beam_search, dedup"].verdict == "pass" and rows["over R", "lookahead"].verdict == "miss"
    assert rows["over the faster mctx", "beam_search"].value == 30
    assert rows["mcts over mctx, with tree",].value == 0.9 / 0.8
    assert rows["first compile", "lookahead"].value == 5 and rows["rows stepped for nothing", "lookahead"].value == 20
    assert rows["live bytes a root", "best_of_n"].value == 2e7 / suite.BATCH
    assert rows["steps that step back", "entropy_backtrack"].value == 30
    assert ("live bytes over the formula", "mcts") in rows
    assert rows["unique nodes", "beam_search, dedup"].value == 30


def test_an_arm_that_fails_in_its_process_fails_alone(monkeypatch):
    broken = [dataclasses.replace(way, measurement=Measurement(status="failed", note="no memory"))
              if way.arm == "lookahead" else way for way in _ways()]  # fmt: skip
    document = json.loads(json.dumps([way.document() for way in broken]))
    monkeypatch.setattr(suite, "call", lambda *arguments: document)
    rows = list(suite.run_nodes(SETTINGS))
    assert {row.status for row in rows if "lookahead" in row.parameters.values()} == {"failed"}
    assert sum(row.status == "ok" for row in rows) > 30


def test_mctx_under_both_schedulers(monkeypatch):
    """The flags that the processes get, and the rows from what they find."""
    calls = []

    def call(worker, arguments, flags):
        calls.append((worker, flags))
        assert arguments["levels"] == "boards.txt"
        rate = 2.0 if flags else 1.0
        return {"mctx": [4 * rate] * 3, "mctx, with tree": [5 * rate] * 3, "mcts": [4.5 * rate, 5 * rate, 4 * rate]}

    monkeypatch.setattr(suite, "call", call)
    rows = {
        (row.metric, *row.parameters.values()): row for row in suite.run_scheduler(Settings(levels=Path("boards.txt")))
    }
    assert calls == [("mcts", flags) for flags in suite.SCHEDULERS.values()] and "=false" in calls[1][1]
    assert rows["throughput", "mctx", "in order"].value == 8 * suite.SIMULATIONS
    ratio = rows["mcts over mctx, with tree", "concurrent"]
    assert ratio.value == pytest.approx(0.9) and ratio.verdict == "miss" and ratio.repeats == 3
    assert rows["throughput", "mcts", "in order"].note == suite.SCHEDULERS["in order"]


def test_eight_devices_play_the_same_levels(monkeypatch):
    asked = []
    both = {"1": [2.0] * 3, str(suite.DEVICES): [1.0] * 3}
    monkeypatch.setattr(suite, "call", lambda worker, arguments: asked.append(arguments["levels"]) or both)
    *_, cost = suite.run_devices(Settings(levels=Path("boards.txt")))
    assert asked == ["boards.txt"] and cost.value == 2 and cost.verdict == "miss"


def test_the_worker_of_the_schedulers_times_all_three():
    found = search_workers.mcts(batch_size=4, num_simulations=2, repeats=2, seconds=0.005, levels=None)
    assert set(found) == {"mctx", "mctx, with tree", "mcts"}
    assert all(len(rates) == 2 and min(rates) > 0 for rates in found.values())


def test_workers_read_the_levels_that_they_are_given():
    with pytest.raises(FileNotFoundError, match="no_such"):
        search_workers.mcts(batch_size=4, num_simulations=2, repeats=2, seconds=0.005, levels="no_such.txt")


def test_cases_by_budget():
    quick = [case.name for case in suite.cases(SETTINGS)]
    full = [case.name for case in suite.cases(Settings(BUDGETS["full"]))]
    assert set(quick) < set(full) and {"FrozenLake/quality", "Sokoban-v0/batch"} < set(full) - set(quick)
    assert {"Sokoban/quality", "WebShop/quality"} < set(quick)
    (nodes,) = [case for case in suite.cases(SETTINGS) if case.name == "Sokoban-v0/nodes"]
    assert set(nodes.programs) == {*suite.modes(), "mcts", "mcts, from_env", "network"}


def test_sweeps_give_every_mode_its_own_size(monkeypatch):
    """What is measured is prepared nowhere: only which arms there are, and what their rows say."""
    measured = {}

    def measure(arms, budget):
        measured.update(arms)
        return {name: Measurement(np.ones(3), summary={"generated": 2.0}) for name in arms}

    monkeypatch.setattr(suite, "measure", measure)
    monkeypatch.setattr(suite, "problem", lambda id, batch_size, settings: batch_size)
    monkeypatch.setattr(suite, "roots", lambda settings, name, batch_size: batch_size)
    sizes = {axis: {(row.parameters["mode"], row.parameters[axis]) for row in suite.run_sweep(SETTINGS, axis)}
             for axis in suite.SWEEPS}  # fmt: skip
    assert {("mcts", 4_096), ("beam_search", 4_096)} < sizes["batch"]
    assert {("mcts", 128), ("best_of_n", 64), ("lookahead", 64)} < sizes["width"]
    assert {("mcts", 4), ("lookahead", 4), ("beam_search", 32)} < sizes["depth"]
    assert measured["lookahead"].args[0].options["beam_width"] == 1
    assert measured["mcts"].args == (256, suite.SIMULATIONS, 4)  # the last of the sweep over depths


def test_traces_name_the_phases(tmp_path):
    import gzip
    import json

    folder = tmp_path / "plugins/profile/now"
    folder.mkdir(parents=True)
    events = [{"name": "fusion.1", "args": {"hlo_op": "fusion.1"}}, {"name": "other", "args": {}}, {"name": "plain"}]
    with gzip.open(folder / "host.trace.json.gz", "wt") as file:
        json.dump({"traceEvents": events}, file)
    instruction = Instruction("fusion.1", "fusion", scope="select")
    write_phases(tmp_path, Module({"fusion.1": instruction}, {}))
    with gzip.open(tmp_path / PHASES) as file:
        names = [event["name"] for event in json.load(file)["traceEvents"]]
    assert names == ["select: fusion.1", "other", "plain"]


def _row(case, metric, value, unit="", **parameters):
    return Row(suite="search", case=case, metric=metric, unit=unit, value=value, parameters=parameters, batch_size=8)


def _drawn(rows, draw, tmp_path, monkeypatch):
    """The figures, by file, that are drawn from rows."""
    figures = {}
    save = search_plots.save

    def kept(figure, folder, name, caption):
        figures[name] = figure
        return save(figure, folder, name, caption)

    monkeypatch.setattr(search_plots, "save", kept)
    plots = list(draw(rows, tmp_path))
    assert [plot.file for plot in plots] == list(figures) and all((tmp_path / name).exists() for name in figures)
    return figures


def _lines(axes):
    return {line.get_label(): [tuple(point) for point in line.get_xydata().tolist()] for line in axes.get_lines()}


def test_plots_show_the_rows(tmp_path, monkeypatch):
    rows = [_row("S/nodes", "throughput", 1e7 / (i + 1), arm=arm, on="2 devices")
            for i, arm in enumerate(("R, 8 rows", "lookahead", "mcts"))]  # fmt: skip
    rows.append(_row("S/nodes", "throughput", 4e6, arm="mcts", on="1 device"))
    rows += [_row("S/batch", "throughput", 1e6 * size, mode="mcts", batch=size) for size in (1, 8)]
    rows += [_row("S/width", "throughput", 1e5 * size, mode="beam_search", width=size) for size in (4, 16)]
    for size in (64, 8):
        costs = {"return": 0.1 * size, "nodes a decision": 2 * size, "time a decision": 3 * size}
        rows += [_row("Lake/quality", metric, value, mode="lookahead", size=size) for metric, value in costs.items()]
    rows += [_row("Lake/quality", "return", value, mode=mode, size=0)
             for mode, value in (("optimum", 0.7), ("uniform policy", 0.1))]  # fmt: skip
    figures = _drawn(rows, search_plots.search, tmp_path, monkeypatch)

    (rates,) = figures["search_rates.png"].axes
    names = [label.get_text() for label in rates.get_yticklabels()]
    assert names == ["bare step, 8 rows", "lookahead", "mcts, 256 roots"]  # by the faster way of each
    assert [bar.get_width() for bar in rates.patches] == [1e7, 1e7 / 2, 1e7 / 3, 4e6] and rates.get_xscale() == "log"
    assert [bar.get_alpha() for bar in rates.patches] == [1, 1, 1, 0.5]
    assert rates.patches[3].get_y() > rates.patches[2].get_y() > 1.5  # one below the other
    assert rates.get_xlabel() == "nodes / s"

    batch, width = figures["search_sweeps.png"].axes
    assert _lines(batch) == {"mcts": [(1, 1e6), (8, 8e6)]} and _lines(width) == {"beam": [(4, 4e5), (16, 16e5)]}
    assert (batch.get_xlabel(), batch.get_ylabel(), width.get_xlabel()) == (
        "roots",
        "nodes / s",
        search_plots.AXES["width"],
    )
    (legend,) = figures["search_sweeps.png"].legends
    assert {text.get_text() for text in legend.get_texts()} == {"mcts", "beam"}

    by_nodes, by_time = figures["search_quality.png"].axes
    np.testing.assert_allclose(_lines(by_nodes)["lookahead"], [(16, 0.8), (128, 6.4)])  # in the order of the cost
    np.testing.assert_allclose(_lines(by_time)["lookahead"], [(24, 0.8), (192, 6.4)])
    exact = [line.get_ydata()[0] for line in by_nodes.get_lines() if line.get_linestyle() in (":", "--")]
    assert exact == [0.7, 0.1]
    assert (by_nodes.get_xlabel(), by_time.get_xlabel()) == ("nodes a decision", "µs a decision")
    assert by_nodes.get_ylabel() == "mean return of an episode" and by_nodes.get_title() == "Lake"
    assert list(search_plots.search([], tmp_path)) == []


def test_the_plot_of_solving_shows_rates_and_targets(tmp_path, monkeypatch):
    rows = [_row("hard/solve", "throughput", value, "levels/s", mode=mode)
            for mode, value in (("optimal", 900.0), ("satisficing", 1_800.0))]  # fmt: skip
    rows[0] = dataclasses.replace(rows[0], target=Target(">=", 1_000.0))
    (axes,) = _drawn(rows, search_plots.solving, tmp_path, monkeypatch)["solving.png"].axes
    assert [bar.get_width() for bar in axes.patches] == [900, 1_800] and axes.get_xlabel() == "levels / s"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["hard, optimal", "hard, satisficing"]
    assert [line.get_xdata()[0] for line in axes.get_lines()] == [1_000]
