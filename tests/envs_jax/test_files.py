"""Files that are replaced at once."""

import os
import re
import threading

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


def test_links_modes_and_the_user_s_own_files_stay(tmp_path):
    path, link, other = tmp_path / "a.txt", tmp_path / "link", tmp_path / "a.txt.partial"
    path.write_text("old")
    other.write_text("mine")
    path.chmod(0o640)
    link.symlink_to("a.txt")
    with replaced(link) as partial:
        assert partial.stat().st_mode & 0o077 == 0
        partial.write_text("new")
    assert path.read_text() == "new" and path.stat().st_mode & 0o777 == 0o640
    assert link.is_symlink() and other.read_text() == "mine" and len(list(tmp_path.iterdir())) == 3
    with replaced(tmp_path / "b.txt") as partial:
        partial.write_text("new")
    (tmp_path / "c.txt").touch()
    assert (tmp_path / "b.txt").stat().st_mode == (tmp_path / "c.txt").stat().st_mode


def test_pipes_and_devices_are_written_to(tmp_path):
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()), daemon=True)
    reader.start()
    for path in (pipe, os.devnull):
        with replaced(path) as partial:
            partial.write_text("new")
    reader.join(10)
    assert read == ["new"] and pipe.is_fifo() and os.path.exists(os.devnull) and not os.path.isfile(os.devnull)
    assert list(tmp_path.iterdir()) == [pipe]


@pytest.mark.parametrize("save", [save_bank, save_levels, save_frames])
def test_folders_are_refused_and_nothing_is_left(save, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(IsADirectoryError, match=re.escape(f"path={str(folder)!r} is a folder; give the name")):
        save(folder)
    with pytest.raises(FileNotFoundError, match=r"there is no folder '.*none'; make it first"):
        save(tmp_path / "none" / "a")
    assert list(tmp_path.iterdir()) == [folder] and not list(folder.iterdir())
