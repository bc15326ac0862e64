"""Files that are replaced at once."""

import re

import numpy as np
import pytest

from envs_jax import Task, make_bank, pytree_dataclass
from envs_jax.animation import save_gif
from envs_jax.files import replaced
from envs_jax.sokoban import levels


@pytree_dataclass
class TimedTask(Task):
    time_limit: np.ndarray


def save_bank(path):
    make_bank(TimedTask(np.ones(2, np.uint16))).save(path)


def save_levels(path):
    read = levels.parse("#####\n#@$.#\n#####")
    levels.write(path, read.layout, read.bank())


def save_frames(path):
    pytest.importorskip("PIL")
    save_gif([np.zeros((2, 2, 3), np.uint8)], path)


def test_the_file_is_replaced_when_the_block_ends(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with replaced(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_after_an_error_the_old_file_stands_alone(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(TypeError), replaced(path) as partial, open(partial, "w") as file:
        file.writelines(["new", 5])
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("save", [save_bank, save_levels, save_frames])
def test_folders_are_refused_and_nothing_is_left(save, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(IsADirectoryError, match=re.escape(f"path={str(folder)!r} is a folder; give the name")):
        save(folder)
    with pytest.raises(FileNotFoundError, match=r"there is no folder '.*none'; make it first"):
        save(tmp_path / "none" / "a")
    assert list(tmp_path.iterdir()) == [folder] and not list(folder.iterdir())
