"""The reader and the writer of level files."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs_jax.sokoban import levels
from envs_jax.sokoban.board import Layout
from envs_jax.sokoban.levels import LevelError
from tests.envs_jax.sokoban.positions import bank_of, random_text, texts
from tests.reference import sokoban as reference

BOX = "#####\n#@$.#\n#####"
BOXOBAN = "##########\n#        #\n# $ $ .. #\n# @      #\n# $ $ .. #\n" + "#        #\n" * 4 + "##########"


def boxoban_file(num_levels, *changes):
    """Boxoban text; `changes` are (level, row, the new row or None to leave it out)."""
    blocks = [BOXOBAN.split("\n") for _ in range(num_levels)]
    for level, row, text in changes:
        blocks[level][row : row + 1] = [] if text is None else [text]
    return "".join(f"; {i}\n" + "\n".join(rows) + "\n\n" for i, rows in enumerate(blocks))


def text_of(bank, layout, index=0):
    return levels.to_text(layout, bank[index])


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


# Reading -------------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(texts(Layout(7, 9)))
def test_text_goes_round(text):
    layout = Layout(7, 9)
    bank = bank_of(layout, [text])
    assert text_of(bank, layout) == text
    level = reference.parse_level(text)
    assert reference.to_text(level) == text
    assert same(levels.parse(text_of(bank, layout)).bank(layout), bank)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_files_of_mixed_sizes_go_round(seed):
    rng = np.random.default_rng(seed)
    layout = Layout(12, 14)
    sizes = [Layout(int(rng.integers(4, 13)), int(rng.integers(4, 15))) for _ in range(4)]
    originals = [random_text(size, rng, int(rng.integers(1, 3))) for size in sizes]
    joined = "A collection\n" + "".join(
        f"; {i}\n{text}\n{rng.choice(['', 'Title: x'])}\n" for i, text in enumerate(originals)
    )
    read = levels.parse(joined)
    assert read.sizes.tolist() == [[size.height, size.width] for size in sizes]
    bank = read.bank(layout, time_limit=77)
    assert bank.instances.time_limit.tolist() == [77] * 4
    for i, (text, size) in enumerate(zip(originals, sizes, strict=True)):
        rows = text_of(bank, layout, i).split("\n")
        assert [row[: size.width] for row in rows[: size.height]] == text.split("\n")
        padding = [row[size.width :] for row in rows[: size.height]] + rows[size.height :]
        assert set("".join(padding)) <= {"#"}


def test_write_and_read(tmp_path):
    layout = Layout(10, 10)
    rng = np.random.default_rng(0)
    bank = bank_of(layout, [random_text(layout, rng, 4) for _ in range(5)])
    levels.write(tmp_path / "levels.txt", layout, bank)
    assert same(levels.load(tmp_path / "levels.txt", layout), bank)
    assert (tmp_path / "levels.txt").read_text().startswith("; 0\n####")
    assert [path.name for path in tmp_path.iterdir()] == ["levels.txt"]


def test_all_glyphs_and_ragged_rows():
    read = levels.parse("  ####\n###  #\n#+-_*##\n#$ $  #\n#  .  #\n#######\n")
    layout = Layout(7, 8)
    expected = "########\n###  ###\n#+  *###\n#$ $  ##\n#  .  ##\n########\n########"
    assert text_of(read.bank(layout), layout) == expected
    assert read.sizes.tolist() == [[6, 7]]


def test_outside_becomes_wall_and_enclosed_pockets_stay_floor():
    text = "#######\n#@$. ##\n###### \n# #    \n###    "
    layout = Layout(5, 7)
    assert text_of(levels.parse(text).bank(layout), layout) == "#######\n#@$. ##\n#######\n# #####\n#######"


def test_comments_titles_line_ends_and_byte_order_mark(tmp_path):
    text = "\ufeffA collection\r\n\r\n; 1 first\r\n#####\r\n#@$.#  \r\n#####\r\nTitle: Ça\r\nAuthor: x\r\n\r\n" + BOX
    (tmp_path / "a.xsb").write_bytes(text.encode())
    read = levels.read(tmp_path / "a.xsb")
    assert len(read) == 2
    assert read.lines.tolist() == [4, 10]
    assert read.where(1) == f"{tmp_path / 'a.xsb'}:10"
    bank = read.bank()
    assert same(bank[0], bank[1])


def test_headers_may_stand_below_their_levels():
    assert len(levels.parse(f"{BOX}\n; 1\n\n{BOX}\n; 2\n")) == 2


def test_numbers_may_start_anywhere_and_a_file_may_hold_one_level():
    assert (
        len(levels.parse(boxoban_file(3).replace("; 2", "; 12").replace("; 1\n", "; 11\n").replace("; 0", "; 10"))) == 3
    )
    assert len(levels.parse(boxoban_file(1).rstrip().replace("\n", "\r\n"))) == 1


def test_ragged_levels_under_numbers_are_told_from_boxoban_by_blank_lines_or_titles():
    ragged = " ####\n##@.#\n# $ ###\n#     #\n#######"
    for text in (f"; 1\n\n{BOX}\n\n; 3\n\n{ragged}\n", f"By someone\n\n; 1\n{BOX}\n\n; 3\n{ragged}\n"):
        assert levels.parse(text).sizes.tolist() == [[3, 5], [5, 7]]
    with pytest.raises(LevelError, match=r"text:2: the row has length 5 .* not 7 as the others; .* leave a blank line"):
        levels.parse(f"; 1\n{BOX}\n\n; 2\n#######\n#     #\n# @$. #\n#######\n")


def test_folders_are_read_in_order(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "1.txt").write_text(BOX)
    (tmp_path / "a.XSB").write_text(BOX.replace("@$.", "@$ .").replace("#####", "######"))
    (tmp_path / "notes.md").write_text("# not a level")
    read = levels.read(tmp_path)
    assert [Path(source).name for source in read.sources] == ["a.XSB", "1.txt"]
    assert levels.read([tmp_path / "b", tmp_path / "a.XSB"]).sizes.tolist() == [[3, 5], [3, 6]]


def test_boxoban_files(data_dir):
    folder = data_dir / "boxoban"
    path = folder / "unfiltered" / "test" / "000.txt"
    layout = Layout(10, 10)
    bank = levels.load(path, layout)
    assert len(bank) == 1000
    blocks = re.split(r"; \d+\n", path.read_text())[1:]
    assert [text_of(bank, layout, i) for i in range(0, 1000, 37)] == [block.strip("\n") for block in blocks[::37]]
    assert len(levels.read(folder / "unfiltered" / "train")) == 10_000
    assert len(levels.read(folder / "hard")) == 3332
    for board in (bank.instances.boxes, bank.instances.targets):
        assert (sum(np.bitwise_count(np.asarray(word)) for word in board) == 4).all()


# Refusing ------------------------------------------------------------------------------------------------------------

BAD = {
    "unknown glyph": ("#####\n#@$x#\n#..##\n#####", 2, "column 4"),
    "tab in a row": ("#####\n#@$\t.#\n#####", 2, "column 4"),
    "no player": (f"{BOX}\n\n#####\n# $.#\n#####", 5, "0 players"),
    "two players": ("######\n#@@$.#\n######", 1, "2 players"),
    "more boxes than targets": ("######\n#@$$.#\n######", 1, "2 boxes .* 1 targets"),
    "more targets than boxes": ("######\n#+$..#\n######", 1, "1 boxes .* 3 targets"),
    "no box": ("#####\n#@  #\n#####", 1, "no box"),
    "solved": ("#####\n#@* #\n#####", 1, "solved already"),
    "open at the side": ("#####\n#@$. \n#####", 2, "not enclosed"),
    "open through a short row": ("######\n#@ $.\n######", 2, "not enclosed"),
    "open at the bottom": ("#####\n#@$.#\n## ##", 2, "not enclosed"),
    "a box outside": ("#####\n#@$.#\n#####\n#  .#\n#  $ \n#####", 4, "not enclosed"),
    "cut off after some rows": (f"; 0\n{BOXOBAN}\n\n; 1\n" + "\n".join(BOXOBAN.split("\n")[:6]), 14, "10×10 .* 6×10"),
    "a short row": (boxoban_file(4, (2, 7, "# #######")), 33, "length 9 .* not 10 as"),
    "a long row": (boxoban_file(1, (0, 7, "#         #")), 9, "length 11 .* not 10 as"),
    "a short row in the only level": (boxoban_file(1, (0, 7, "#        ")), 9, "length 1 .* not 10 as"),
    "a short last row in the only level": (boxoban_file(1, (0, 9, "#########")), 11, "length 9 .* not 10 as"),
    "a short last row in the last of two levels": (boxoban_file(2, (1, 9, "#########")), 23, "length 9 .* not 10 as"),
    "a row is missing in the first of two levels": (boxoban_file(2, (0, 7, None)), 2, "10×10 .* 9×10"),
    "a row is missing in the last of two levels": (boxoban_file(2, (1, 7, None)), 14, "10×10 .* 9×10"),
    "a row is blank in the only level": (boxoban_file(1, (0, 7, "")), 10, "without that line"),
    "a short row under a licence": ("Some licence\n" + boxoban_file(3, (1, 9, "####")), 24, "length 4 .* not 10 as"),
    "two sizes": (f"; 0\n{BOX}\n\n; 1\n#####\n#@  #\n# $.#\n#####", 2, "must be 4×5 .* 3×5"),
    "the first header is missing": (boxoban_file(2).removeprefix("; 0\n"), 1, "without that line"),
    "a number is left out": (boxoban_file(3).replace("; 2", "; 3"), 25, "number 3, but 2 comes next"),
    "a number is repeated": (boxoban_file(3).replace("; 1", "; 0"), 13, "number 0, but 1 comes next"),
    "numbers go down": (boxoban_file(2).replace("; 0", "; 7"), 13, "number 1, but 8 comes next"),
    "carriage returns end the lines": (f"; 0\n{BOX}\n".replace("\n", "\r"), 1, "a carriage return without"),
    "a carriage return in a row": (f"; 0\n{BOX}\r\n".replace("$.", "$\r."), 3, "a carriage return without"),
    "cut off inside the last wall rows": (
        f"; 0\n{BOXOBAN}\n\n; 1\n{BOXOBAN}\n\n; 2\n##########\n#@$.######\n" + "##########\n" * 6, 26, "10×10 .* 8×10",
    ),
    "cut off after a header": (f"; 0\n{BOXOBAN}\n\n; 1\n", 13, "no level follows"),
    "two headers": (f"; 0\n; 1\n{BOX}\n", 1, "no level follows"),
    "a header is missing": (f"; 0\n{BOXOBAN}\n\n; 1\n{BOXOBAN}\n\n{BOXOBAN}\n", 25, "without that line"),
    "a damaged row": ("#####\n#@$.#\n?####\n#####", 3, r"'\?####'"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_levels_are_refused_with_file_line_and_reason(name, tmp_path):
    text, line, reason = BAD[name]
    (tmp_path / "bad.txt").write_bytes(text.encode())
    with pytest.raises(LevelError, match=re.escape(f"{tmp_path / 'bad.txt'}:{line}: ") + f".*{reason}"):
        levels.read(tmp_path / "bad.txt")


def test_empty_files_and_folders_are_refused(tmp_path):
    for content in ("", "\n \n", "no level here\n"):
        (tmp_path / "empty.txt").write_text(content)
        with pytest.raises(LevelError, match=r"empty\.txt: the file holds no level"):
            levels.read(tmp_path)
    (tmp_path / "empty.txt").rename(tmp_path / "empty.md")
    with pytest.raises(LevelError, match=re.escape(f"{tmp_path}: the folder holds no .txt or .xsb file")):
        levels.read(tmp_path)
    with pytest.raises(LevelError, match="no path was given"):
        levels.read([])
    for paths in ("", [tmp_path, ""]):
        with pytest.raises(LevelError, match=re.escape(f"levels={paths!r} has an empty path; name a level file")):
            levels.read(paths)


def test_paths_that_do_not_exist_are_named_with_the_argument(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"levels='.*missing\.txt': no such file or folder; give the path"):
        levels.read([tmp_path / "missing.txt"])
    with pytest.raises(LevelError, match=r"levels='####.* is the text of a level, not a path; .*\.levels\.parse"):
        levels.read("\n\n".join([BOX] * 500))


@pytest.mark.parametrize("wrong", [3, 2.5, b"levels.txt", [3], {"a": 1}])
def test_what_is_no_path_is_refused(wrong):
    with pytest.raises(TypeError, match=re.escape(f"levels={wrong!r} must be the path")):
        levels.read(wrong)


@pytest.mark.parametrize("wrong", [BOX.encode(), None, 5])
def test_what_is_no_string_is_refused(wrong):
    for read in (levels.parse, levels.lurd_to_actions):
        with pytest.raises(TypeError, match="^text=.* is not a string"):
            read(wrong)


@pytest.mark.parametrize("wrong", [2.5, True, "9"])
def test_time_limits_are_integers_that_fit(wrong, tmp_path):
    (tmp_path / "box.xsb").write_text(BOX)
    with pytest.raises(TypeError, match=re.escape(f"time_limit={wrong!r} is not an integer")):
        levels.load(tmp_path / "box.xsb", Layout(10, 10), time_limit=wrong)
    for number in (-1, 0, 70_000):
        with pytest.raises(ValueError, match=re.escape(f"time_limit={number} is not in 1 … 65,535")):
            levels.parse(BOX).bank(time_limit=number)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "latin.txt").write_bytes(BOX.encode() + b"\n\nTitle: \xe9t\xe9\n")
    with pytest.raises(LevelError, match=r"latin\.txt:5: byte 0xe9 is not UTF-8"):
        levels.read(tmp_path / "latin.txt")
    for code in (b"\x00", b"\x1a", b"\x7f"):
        (tmp_path / "binary.txt").write_bytes(BOX.encode() + b"\n" + code)
        with pytest.raises(LevelError, match=rf"binary\.txt:4: byte {code[0]:#04x} is a control character"):
            levels.read(tmp_path / "binary.txt")


def test_levels_that_are_too_large_are_refused_with_the_size_that_fits():
    read = levels.parse(f"{BOX}\n\n########\n#@ $  .#\n########", "some.xsb")
    assert read.layout == Layout(3, 8)
    with pytest.raises(LevelError, match=r"some\.xsb:5: the level is 3×8, larger than size=\(10, 7\).*size=\(3, 8\)"):
        read.bank(Layout(10, 7))


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="#@$. \n;1x*+-", max_size=60))
def test_any_text_is_read_whole_or_refused(text):
    """Whatever is accepted has all its pieces on the boards."""
    try:
        read = levels.parse(text)
    except LevelError:
        return
    bank = read.bank()
    rows = [line for line in text.split("\n") if line.strip() and not line.startswith(";") and "x" not in line]
    pieces = "".join(rows)
    written = "".join(text_of(bank, read.layout, i) for i in range(len(bank)))
    for glyph in "@$.*+":
        assert written.count(glyph) == pieces.count(glyph)


# Plans ---------------------------------------------------------------------------------------------------------------


def test_lurd():
    text = "#######\n#     #\n# @$ .#\n#     #\n#######"
    layout = Layout(6, 8)
    task = levels.parse(text).bank(layout)[0]
    plan = reference.solve_moves(reference.parse_level(text))
    assert levels.actions_to_lurd(layout, task, plan) == "RR"
    assert levels.actions_to_lurd(layout, task, [2, 0, 3, 1, 3, 3]) == "lurdRR"
    assert levels.lurd_to_actions(" lurd\nRR").tolist() == [2, 0, 3, 1, 3, 3]
    assert levels.actions_to_lurd(layout, task, []) == "" and levels.lurd_to_actions("").shape == (0,)
    long = [0, 1] * 40
    assert levels.lurd_to_actions(levels.actions_to_lurd(layout, task, long)).tolist() == long
    with pytest.raises(ValueError, match=r"actions\[2\]=2 is blocked"):
        levels.actions_to_lurd(layout, task, [2, 0, 2])
    with pytest.raises(TypeError, match=r"actions\[0\]=0\.7 is not an integer"):
        levels.actions_to_lurd(layout, task, [0.7, 3.9])
    with pytest.raises(ValueError, match=r"actions\[1\]=4 is not in 0 … 3"):
        levels.actions_to_lurd(layout, task, [0, 4])
    with pytest.raises(ValueError, match="'x' at move 3"):
        levels.lurd_to_actions("ulx")
