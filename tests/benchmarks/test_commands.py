"""The commands, end to end, on small cases; and what they say about wrong arguments."""

import functools
import json
import os
import sys

import numpy as np
import pytest

from benchmarks import console, peers, plots, profiling, report
from benchmarks.__main__ import main
from benchmarks.boards import Grids
from benchmarks.measure import BUDGETS, Budget, Unavailable, measure
from benchmarks.results import Results, Row, Target
from benchmarks.suites import SUITES, Settings, load, select
from benchmarks.suites.levels import GIVEN, MAIN
from benchmarks.workloads import check_inputs

SMALL = "levels/Sokoban/loading"


@pytest.fixture(autouse=True)
def compilation_cache():
    """`run` turns JAX's cache off; the other tests want it."""
    import jax

    before = jax.config.jax_enable_compilation_cache
    yield
    jax.config.update("jax_enable_compilation_cache", before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("results")
    assert main(["run", SMALL, "environments/FrozenLake-8x8-v0", "--out", str(out)]) == 0
    return out


def test_run_writes_results_and_report(folder):
    results = Results.load(folder)
    assert results.complete and results.finished == [SMALL, "environments/FrozenLake-8x8-v0/sweep"]
    assert results.settings == {
        "suites": [SMALL, "environments/FrozenLake-8x8-v0"],
        "budget": "quick",
        "peers": False,
        "levels": None,
        "products": None,
    }
    assert {row.status for row in results.rows} == {"ok"}
    throughput = [row for row in results.rows if row.metric == "throughput" and row.case.endswith("sweep")]
    assert throughput and all(row.value > 1e5 and row.p10 <= row.value <= row.p90 for row in throughput)
    assert all(row.compile_seconds > 0.05 and row.batch_size == 8192 for row in throughput)
    text = (folder / "report.md").read_text()
    assert results.machine["cpu"] in text and "## Levels and catalogues" in text and "| throughput |" in text


def test_compare_of_a_result_with_itself_finds_no_change(folder, capsys):
    assert main(["compare", str(folder), str(folder / "results.json")]) == 0
    out = capsys.readouterr().out
    count = sum(row.value is not None for row in Results.load(folder).rows)
    assert f"{count} same" in out and "worse" not in out and "warning" not in out


def test_compare_shows_what_got_worse(folder, tmp_path, capsys):
    document = json.loads((folder / "results.json").read_text())
    for row in document["rows"]:
        for field in ("value", "p10", "p90"):
            row[field] /= 1_000  # beyond any noise
    (tmp_path / "results.json").write_text(json.dumps(document))
    assert main(["compare", str(folder), str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "worse" in out and "0.001" in out and "better" not in out


@pytest.mark.usefixtures("optimized_programs")
def test_profile_writes_a_trace_and_a_report(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(BUDGETS, "quick", Budget("quick", 2, 0.002))  # no figure is looked at
    assert main(["profile", "environments/FrozenLake-v0/step/bare", "--out", str(tmp_path)]) == 0
    out, text = capsys.readouterr().out, (tmp_path / "profile.md").read_text()
    for part in ("Distance from the machine's limits", "By kind of operation", "fusion", "frozen_lake/"):
        assert part in out and part in text
    assert list(tmp_path.glob("plugins/profile/*/perfetto_trace.json.gz"))


def profile_of_one_operation(name, program, budget, folder):
    """What `profiling.profile` might find: one addition of a nanosecond, a quarter of what the machine does."""
    rates = {"program": np.ones(2), "arithmetic on integers": np.full(2, 4.0)}
    cost = profiling.Cost("add.1", 1e-9, 5, 5)
    return profiling.Profile(name, 1.0, 1.0, 0.0, 0.0, {}, {}, 5, [cost], {}, rates, folder)


def unless(ending, error):
    """The same for all programs but one."""

    def profile(name, *arguments):
        if name.endswith(ending):
            raise error
        return profile_of_one_operation(name, *arguments)

    return profile


def test_profiles_of_several_programs_have_one_report(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(profiling, "profile", unless("/draw", ValueError("out of luck")))
    case = "environments/FrozenLake-v0/step"
    assert main(["profile", f"{case}/vmap", f"{case}/draw", f"{case}/vmap", "--out", str(tmp_path)]) == 1
    out, text, results = capsys.readouterr().out, (tmp_path / "report.md").read_text(), Results.load(tmp_path)
    assert results.finished == [f"profile/{case}/vmap", f"profile/{case}/draw"]
    assert "| vmap | 1 | 1 – 1 | 1 (25 %) | arithmetic on integers |" in text and "1 (25 %)" in out
    assert "## Not measured" in text and "out of luck" in text and results.machine["cpu"] in text
    assert "add" in (tmp_path / "environments-FrozenLake-v0-step-vmap" / "profile.md").read_text()
    assert main(["profile", case, "--out", str(tmp_path / "all")]) == 1
    (environments,) = {suite for suite, _ in select([case], Settings())}
    (step,) = [one for one in environments.cases(Settings()) if f"environments/{one.name}" == case]
    assert Results.load(tmp_path / "all").finished == [f"profile/{case}/{program}" for program in step.programs]


def test_interrupted_profiles_go_on_where_they_stopped(tmp_path, capsys, monkeypatch):
    case = "environments/FrozenLake-v0/step"
    arguments = ["profile", f"{case}/vmap", f"{case}/bare", "--out", str(tmp_path)]
    monkeypatch.setattr(profiling, "profile", unless("/bare", KeyboardInterrupt()))
    assert main(arguments) == 130
    assert f"`--out {tmp_path}` goes on from here" in capsys.readouterr().out
    assert "interrupted" in (tmp_path / "report.md").read_text()
    monkeypatch.setattr(profiling, "profile", unless("/vmap", ValueError("profiled twice")))
    assert main(arguments) == 0
    assert Results.load(tmp_path).finished == [f"profile/{case}/vmap", f"profile/{case}/bare"]


def test_list_names_every_case_and_says_what_it_measures(capsys):
    assert main(["list", "--peers"]) == 0
    out = capsys.readouterr().out
    rows = {line.split()[0]: line.split(maxsplit=1)[1:] for line in out.splitlines() if line.strip()}
    for suite, case in select([], Settings(peers=True)):
        assert case.summary and " ".join(rows[f"{suite.name}/{case.name}"]).startswith(case.summary[:30])
    assert "programs: draw, bare, vmap, same_step" in out
    assert rows["levels:"] == ["Levels and catalogues"]


def test_every_suite_loads_and_its_cases_have_different_names():
    for name in SUITES:
        suite = load(name)
        names = [case.name for case in suite.cases(Settings(peers=True))]
        assert suite.name == name and len(set(names)) == len(names) > 0


def test_select():
    settings = Settings()
    names = lambda wanted: [f"{suite.name}/{case.name}" for suite, case in select(wanted, settings)]
    assert set(names([])) == {f"{s}/{case.name}" for s in SUITES for case in load(s).cases(settings)}
    assert names(["levels/Sokoban/loading", "levels/Sokoban/loading"]) == [SMALL]
    assert set(names(["levels/Sokoban"])) < set(names(["levels"]))
    assert not any("peers" in name for name in names([]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "nothing"], "suite 'nothing' is unknown; there are: environments, levels, search, solving, training"),
        (["run", "levels/Sokoban/lo"], "'levels/Sokoban/lo' names no case"),
        (["run", "--levels", "no/such/path"], "--levels no/such/path: there is no such file"),
        (["profile", "environments/Sokoban-v0/step/bear"], "environments/Sokoban-v0/step/bare"),
        (["profile", "search/Sokoban-v0/network"], "names, and no case with any; close to it: search/Sokoban-v0/nodes"),
        (["compare", "no/such", "results"], "no/such: there is no such file or folder; name what `run` wrote"),
        (["compare", "tests", "results"], "tests: the folder holds no results.json; name what `run` wrote"),
    ],
)
def test_wrong_arguments(arguments, message, capsys):
    check_refused(arguments, message, capsys)


@pytest.mark.parametrize(
    ("command", "name", "options"),
    [
        ("run", "search/Sokoban-v0/batch", "--budget full"),
        ("run", "environments/peers/sokoban", "--peers"),
        ("profile", "environments/Sokoban-v0/step/next_step+observation", "--budget full"),
    ],
)
def test_what_takes_other_options_says_which(command, name, options, tmp_path, capsys):
    message = f"error: '{name}' is measured only with `{options}`\n"
    check_refused([command, name, "--out", tmp_path / "out"], message.removeprefix("error: "), capsys)
    assert not (tmp_path / "out").exists()


def test_rows_are_shown_as_they_come(capsys):
    progress = console.Progress(2)
    progress.started("toys/a")
    progress.measured(_row(arm="first arm"))
    shown = capsys.readouterr().out
    assert shown.splitlines()[0] == "toys/a" and "throughput" in shown and "first arm" in shown and "2 M" in shown
    progress.measured(_row(value=None, status="unavailable", note="not [installed]"))
    assert "not [installed]" in capsys.readouterr().out
    progress.ended("toys/a")
    assert progress.bar.tasks[0].completed == 1


@pytest.mark.parametrize("option", ["--levels", "--products"])
def test_an_empty_path_is_not_the_current_folder(option, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["run", option, ""])
    assert f"argument {option}: an empty path" in capsys.readouterr().err


def check_refused(arguments, message, capsys):
    """Status 2, and one line on stderr that begins with "error: " and holds the message; nothing else is printed."""
    assert main([str(argument) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert message in err and err.startswith("error: ") and err.count("\n") == 1 and out == ""


@pytest.mark.parametrize("command", ["run", "profile"])
def test_malformed_levels_are_refused_before_anything_is_measured(command, tmp_path, capsys):
    case = SMALL if command == "run" else "environments/FrozenLake-v0/step/bare"
    level, out = tmp_path / "levels" / "bad.txt", tmp_path / "out"
    level.parent.mkdir()
    arguments = [command, case, "--levels", level.parent, "--out", out]
    check_refused(arguments, "levels: the folder holds no .txt or .xsb file", capsys)
    level.write_text("; 0\n#####\n#@$.#\n#####\n; 1\n#####\n#@?.#\n#####\n")
    check_refused(arguments, "bad.txt:7: ", capsys)
    assert not out.exists()


@pytest.mark.parametrize("command", ["run", "profile"])
def test_levels_that_no_board_holds_are_refused_before_anything_is_measured(command, tmp_path, capsys):
    case = "environments/Sokoban-v0/memory" if command == "run" else "environments/Sokoban-v0/step/bare"
    level, out = tmp_path / "large.xsb", tmp_path / "out"
    level.write_text(f"{'#' * 12}\n#@$.{' ' * 7}#\n{'#' * 12}\n")
    check_refused(
        [command, case, "--levels", level, "--out", out], "the level is 3×12, larger than size=(10, 10)", capsys
    )
    assert not out.exists()
    check_inputs(Settings(levels=level), {"levels", "solving"})  # which take levels of any size


@pytest.mark.parametrize("boxes", [[3, 3], [4, 5]])
def test_jumanji_is_given_only_what_it_can_solve(boxes):
    cells = np.zeros((2, 10, 10), bool)
    cells.reshape(2, 100)[:] = np.arange(100) < np.array(boxes)[:, None]
    with pytest.raises(Unavailable, match=f"4 boxes.*10×10 and have {', '.join(map(str, sorted(set(boxes))))} boxes"):
        peers.jumanji_sokoban(Grids(cells, cells, cells, cells), 8)


@pytest.mark.parametrize("command", ["run", "profile"])
def test_a_folder_that_holds_no_products_is_refused_before_anything_is_measured(command, tmp_path, capsys):
    case = SMALL if command == "run" else "environments/FrozenLake-v0/step/bare"
    products, out = tmp_path / "products", tmp_path / "out"
    products.mkdir()
    arguments = [command, case, "--products", products, "--out", out]
    check_refused(arguments, "the folder must hold one items_shuffle*.json; found none", capsys)
    (products / "items_shuffle_1.json").write_text('[{"asin":}]')
    (products / "items_ins_v2_1.json").write_text('{"A": {"attributes": []}}')
    check_refused(arguments, "items_shuffle_1.json:1:10: malformed JSON", capsys)
    (products / "items_shuffle_1.json").write_text('[{"asin": "A", "name": 7}]')
    check_refused(arguments, "items_shuffle_1.json: product 0 (A): field 'name': expected a text", capsys)
    assert not out.exists()


def test_an_out_that_is_a_file_is_refused(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for out, message in (("file", "is a file; name a folder"), ("file/run", "Not a directory; name another folder")):
        check_refused(["run", SMALL, "--out", tmp_path / out], f"--out {tmp_path / out}", capsys)
        check_refused(["profile", "environments/Sokoban-v0/step/bare", "--out", tmp_path / out], message, capsys)


def test_who_reads_the_output_may_leave(capsys, monkeypatch):
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        assert main(["list"]) == 141
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[: len(text) // 2], "malformed JSON"),
        (lambda text: "[]", "not benchmark results (the document is list and not dict)"),
        (lambda text: "{}", "not benchmark results (field 'schema_version' is missing)"),
        (lambda text: text.replace('"schema_version": 1', '"schema_version": 2'), "schema_version is 2"),
        (lambda text: text.replace('"machine": {', '"machine": 3, "x": {', 1), "field 'machine' is int"),
        (lambda text: text.replace('"value": ', '"value": "x", "y": ', 1), "row 0: field 'value' is str"),
        (lambda text: text.replace('"p10": ', '"p10": NaN, "y": ', 1), "NaN is no number"),
        (lambda text: text.replace('"rows": [', '"rows": [[], ', 1), "row 0 is list and not dict"),
        (lambda text: text.replace('"complete"', '"unheard_of"', 1), "unheard_of"),
    ],
)
@pytest.mark.parametrize("as_folder", [False, True])
def test_results_that_are_none_are_refused(change, message, as_folder, folder, tmp_path, capsys):
    file = tmp_path / "results.json"
    file.write_text(change((folder / "results.json").read_text()))
    given = tmp_path if as_folder else file
    check_refused(["compare", folder, given], message, capsys)
    check_refused(["compare", given, folder], f"error: {file}:", capsys)


def test_the_exit_status_tells_of_failures(tmp_path, monkeypatch):
    import benchmarks.suites.levels as levels

    def broken(settings):
        raise MemoryError("no room")

    monkeypatch.setattr(levels, "run_loading", broken)
    assert main(["run", SMALL, "--out", str(tmp_path)]) == 1
    assert "MemoryError" in (tmp_path / "report.md").read_text()


def test_an_interrupt_writes_the_report_and_is_told(tmp_path, monkeypatch, capsys):
    import benchmarks.suites.levels as levels

    def interrupted(settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(levels, "run_loading", interrupted)
    assert main(["run", SMALL, "--out", str(tmp_path)]) == 130
    assert "interrupted" in (tmp_path / "report.md").read_text()
    assert f"--out {tmp_path}` goes on from here" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("module", "arm"),
    [
        ("envpool", lambda: peers.envpool("FrozenLake-v1", 4)),
        ("gymnasium", lambda: peers.gymnasium_frozen_lake(4)),
        ("gymnax", lambda: peers.gymnax_frozen_lake(4).arm()),
        ("gym_sokoban.envs.room_utils", peers.gym_sokoban_generate),
    ],
)
def test_a_peer_that_is_not_installed_is_reported(module, arm, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    found = measure({"peer": arm}, Budget("test", 1, 0.01))["peer"]
    assert found.status == "unavailable" and found.rates is None
    assert found.note.startswith(module.split(".")[0].replace("_", "-")) and "envs-jax[peers]" in found.note
    with pytest.raises(Unavailable):
        peers.require(module)


def _row(case="peers/sokoban", arm="same_step", **fields):
    fields = {"metric": "throughput", "unit": "steps/s", "value": 2e6, "p10": 1e6, "p90": 3e6, "repeats": 3, **fields}
    return Row(suite="environments", case=case, **{"parameters": {"arm": arm}, **fields})


def test_the_report_shows_targets_failures_and_notes():
    rows = [
        _row(target=Target(">=", 1e6), note="the | bar"),
        _row(arm="jumanji", target=Target(">=", 5e6)),
        _row(arm="envpool", value=None, status="unavailable", note="not installed"),
    ]
    machine = {"cpu": "A CPU", "cores": 2, "memory_gib": 8.0, "accelerators": [], "system": "X", "load_average": 0.1}
    results = Results(machine, {"jax": "1"}, {"suites": [], "budget": "full", "peers": True}, rows, complete=True)
    text = report.render(results, [(load("environments"), ["![a plot](a.png)"])])
    figures, rest = text.split("## Environments")
    assert "≥ 1 M steps/s pass" in figures and "≥ 5 M steps/s **miss**" in figures and "envpool" not in figures
    assert "2 M steps/s | 1 – 3 M" in rest and "the \\| bar" in rest and "![a plot](a.png)" in rest
    assert "**environments/peers/sokoban** throughput envpool: unavailable. not installed" in rest


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(52_340_000.0, "steps/s", "52.3 M"), (999.0, "steps/s", "999"), (0.0123, "s", "0.0123"), (2048.0, "", "2,048")],
)
def test_numbers(value, unit, text):
    assert console.number(value, unit) == text


def test_plots_are_drawn_from_rows(tmp_path):
    sweep = [
        _row("Sokoban-v0/sweep", arm, batch_size=size)
        for arm in ("same_step", "same_step+observation")
        for size in (1, 64)
    ]
    parts = [_row("Sokoban-v0/step", metric=part, unit="ns", value=5.0) for part in plots.PARTS]
    compared = [_row(), _row(arm="jumanji", value=5e4)]
    drawn = list(plots.environments([*sweep, *parts, *compared], tmp_path))
    histogram = {"values": [4.0, 5.0], "counts": [3.0, 1.0]}
    generated, easy = {"levels": MAIN}, {"levels": "10×10, 4 boxes, easy"}
    length = functools.partial(_row, "Sokoban/lengths", metric="median", unit="pushes", histogram=histogram)
    rates = [_row("Sokoban/generation", arm=MAIN), _row("Sokoban/generation", arm="10×10, 4 boxes, easy")]
    lengths = [length(parameters=of, value=value) for of, value in ((generated, 4), (easy, 3), ({"levels": GIVEN}, 5))]
    drawn += list(plots.levels([*rates, *lengths], tmp_path))
    files = ["throughput.png", "parts.png", "peers.png", "lengths.png", "difficulty.png"]
    assert [plot.file for plot in drawn] == files
    from PIL import Image

    for plot in drawn:
        with Image.open(tmp_path / plot.file) as image:
            assert image.width > 1000 and len(image.convert("RGB").getcolors(1 << 24)) > 20
    assert list(plots.environments([], tmp_path)) == list(plots.levels([], tmp_path)) == []
