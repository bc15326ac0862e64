"""Downloads, against a server on this machine that can break connections, refuse ranges and send wrong data."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from envs_jax import cli, download
from envs_jax.download import DownloadError, Progress, RemoteFile

CONTENTS = {f"set/{i:03}.txt": np.random.default_rng(i).bytes(200_000 + i) for i in range(4)}
FILES = [RemoteFile(path, len(data), hashlib.sha256(data).hexdigest()) for path, data in CONTENTS.items()]
FIRST = FILES[0]


@dataclasses.dataclass
class Server:
    """What the server does, and what it was asked."""

    url: str
    contents: dict[str, bytes]
    breaks: int = 0  # answers still to break off in the middle
    busy: int = 0  # answers still to refuse with 503
    ranges: bool = True
    asked: list[tuple[str, str | None]] = dataclasses.field(default_factory=list)  # path and Range header


class Handler(BaseHTTPRequestHandler):
    """Serves `Server.contents`."""

    settings: Server

    def do_GET(self) -> None:
        settings, path = self.settings, self.path[1:]
        wanted = self.headers.get("Range")
        settings.asked.append((path, wanted))
        if settings.busy > 0:
            settings.busy -= 1
            return self.send_error(503)
        if path not in settings.contents:
            return self.send_error(404)
        data = settings.contents[path]
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and settings.ranges else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        body = data[start:]
        if settings.breaks > 0:
            settings.breaks -= 1
            body = body[: len(body) // 2]
        self.wfile.write(body)
        return None

    def log_message(self, *_: Any) -> None:
        """Keeps the output of the tests clean."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(download, "PAUSE", 0.0)
    http = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {}))
    http.RequestHandlerClass.settings = settings = Server(f"http://127.0.0.1:{http.server_port}", dict(CONTENTS))
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield settings
    http.shutdown()
    thread.join()
    http.server_close()


def fetch(server: Server, folder: Path, files: list[RemoteFile] = FILES) -> int:
    return download.download(files, server.url, folder, Progress(io.StringIO()))


def test_all_files_arrive_and_a_second_run_asks_for_nothing(server: Server, tmp_path: Path) -> None:
    assert fetch(server, tmp_path) == 4
    assert {path: (tmp_path / path).read_bytes() for path in CONTENTS} == CONTENTS
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == [f"{i:03}.txt" for i in range(4)]
    server.asked.clear()
    assert fetch(server, tmp_path) == 0 and server.asked == []


def test_a_run_resumes_where_the_last_one_stopped(server: Server, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set/000.txt.partial").write_bytes(CONTENTS[FIRST.path][:70_000])
    assert fetch(server, tmp_path, [FIRST]) == 1
    assert server.asked == [(FIRST.path, "bytes=70000-")]
    assert (tmp_path / FIRST.path).read_bytes() == CONTENTS[FIRST.path]


def test_a_broken_connection_is_resumed_within_a_run(server: Server, tmp_path: Path) -> None:
    server.breaks = 2
    fetch(server, tmp_path, [FIRST])
    assert [wanted for _, wanted in server.asked] == [None, "bytes=100000-", "bytes=150000-"]
    assert (tmp_path / FIRST.path).read_bytes() == CONTENTS[FIRST.path]


def test_a_run_that_gives_up_leaves_what_the_next_one_resumes(server: Server, tmp_path: Path) -> None:
    server.breaks = download.ATTEMPTS
    with pytest.raises(
        DownloadError, match=r"set/000.txt: no download after 4 attempts \(the connection broke.*resumes"
    ):
        fetch(server, tmp_path, [FIRST])
    kept = (tmp_path / "set/000.txt.partial").stat().st_size
    assert not (tmp_path / FIRST.path).exists() and kept == 187_500
    server.asked.clear()
    fetch(server, tmp_path, [FIRST])
    assert server.asked == [(FIRST.path, f"bytes={kept}-")]


def test_a_server_without_ranges_sends_everything_again(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    server.breaks = 1
    fetch(server, tmp_path, [FIRST])
    assert [wanted for _, wanted in server.asked] == [None, "bytes=100000-"]
    assert (tmp_path / FIRST.path).read_bytes() == CONTENTS[FIRST.path]


def test_a_busy_server_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.busy = 2
    assert fetch(server, tmp_path, [FIRST]) == 1 and len(server.asked) == 3


def test_a_complete_partial_file_needs_no_request(server: Server, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set/000.txt.partial").write_bytes(CONTENTS[FIRST.path])
    assert fetch(server, tmp_path, [FIRST]) == 1 and server.asked == []
    assert (tmp_path / FIRST.path).read_bytes() == CONTENTS[FIRST.path]


@pytest.mark.parametrize("change", [lambda data: data[:-1] + b"?", lambda data: data + b"more"])
def test_wrong_data_is_detected_and_removed(server: Server, tmp_path: Path, change: Any) -> None:
    server.contents[FIRST.path] = change(CONTENTS[FIRST.path])
    with pytest.raises(DownloadError, match=f"set/000.txt: the checksum is wrong.*expected {FIRST.sha256}"):
        fetch(server, tmp_path, [FIRST])
    assert list((tmp_path / "set").iterdir()) == []


def test_a_corrupt_partial_file_is_detected_and_the_next_run_succeeds(server: Server, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set/000.txt.partial").write_bytes(b"x" * 1000)
    with pytest.raises(DownloadError, match="checksum"):
        fetch(server, tmp_path, [FIRST])
    assert fetch(server, tmp_path, [FIRST]) == 1
    assert (tmp_path / FIRST.path).read_bytes() == CONTENTS[FIRST.path]


@pytest.mark.parametrize("size", [300_000, 200_001])
def test_a_partial_file_that_is_too_long_is_dropped(server: Server, tmp_path: Path, size: int) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set/000.txt.partial").write_bytes(b"x" * size)
    assert fetch(server, tmp_path, [FIRST]) == 1
    assert (tmp_path / FIRST.path).read_bytes() == CONTENTS[FIRST.path]


def test_a_changed_file_is_reported_and_replaced_at_once(server: Server, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / FIRST.path).write_text("edited by hand")
    output = io.StringIO()
    assert download.download([FIRST], server.url, tmp_path, Progress(output)) == 1
    assert re.search(r"000.txt differs from the official file", output.getvalue())
    assert (tmp_path / FIRST.path).read_bytes() == CONTENTS[FIRST.path]
    (tmp_path / FIRST.path).write_text("edited again")
    server.contents.clear()
    with pytest.raises(DownloadError, match="the server answers 404"):
        fetch(server, tmp_path, [FIRST])
    assert (tmp_path / FIRST.path).read_text() == "edited again"  # nothing is lost where the download fails


def test_no_network_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PAUSE", 0.0)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        closed = http.server_port
    with pytest.raises(DownloadError, match=r"no download after 4 attempts .*refused.*Check the network connection"):
        download.download(FILES, f"http://127.0.0.1:{closed}", tmp_path, Progress(io.StringIO()))


def test_a_full_disk_is_one_clear_error(server: Server, tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("the system has no /dev/full")
    (tmp_path / "set").mkdir()
    (tmp_path / "set/000.txt.partial").symlink_to("/dev/full")
    with pytest.raises(DownloadError, match=r"set/000.txt: the disk is full. Free some space"):
        fetch(server, tmp_path, [FIRST])


def test_a_folder_that_cannot_be_written_is_one_clear_error(server: Server, tmp_path: Path) -> None:
    (tmp_path / "set").write_text("a file where the folder belongs")
    with pytest.raises(DownloadError, match=r"set/000.txt: cannot be written \(.*exists"):
        fetch(server, tmp_path, [FIRST])


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_progress_counts_every_byte_once(server: Server, tmp_path: Path) -> None:
    server.breaks = 3
    stream = Terminal()
    with Progress(stream) as progress:
        download.download(FILES, server.url, tmp_path, progress)
    assert stream.getvalue().rstrip("\n").endswith("0.8 / 0.8 MB   4 / 4 files")
    silent = io.StringIO()
    with Progress(silent) as progress:
        download.download(FILES, server.url, tmp_path / "other", progress)
    assert silent.getvalue() == ""


def test_the_manifest_of_boxoban_is_complete() -> None:
    files = download.boxoban_files(download.BOXOBAN_SPLITS)
    levels = [file for file in files if "/" in file.path]
    count = lambda split: sum(file.path.startswith(f"{split}/") for file in levels)
    assert [count(split) for split in download.BOXOBAN_SPLITS] == [900, 100, 1, 450, 50, 4]
    assert {file.path for file in files} - {file.path for file in levels} == {"LICENSE", "README.md"}
    assert len({file.path for file in files}) == len({file.sha256 for file in files}) == 1507
    assert all(re.fullmatch("[0-9a-f]{64}", file.sha256) for file in files)
    assert sum(file.size for file in levels) == 175_841_294
    assert len(download.boxoban_files(["hard"])) == 4 + 2
    with pytest.raises(ValueError, match="split='easy' is not one of unfiltered/train"):
        download.boxoban_files(["easy"])


def test_the_manifest_agrees_with_the_files_at_hand(data_dir: Path) -> None:
    checked = 0
    for file in download.boxoban_files(download.BOXOBAN_SPLITS):
        path = data_dir / "boxoban" / file.path
        if path.exists():
            data = path.read_bytes()
            assert (len(data), hashlib.sha256(data).hexdigest()) == (file.size, file.sha256), path
            checked += 1
    assert checked >= 10


def test_the_command_downloads_a_split(
    server: Server, tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = data_dir / "boxoban"
    server.contents = {file.path: (source / file.path).read_bytes() for file in download.boxoban_files(["hard"])}
    monkeypatch.setattr(download, "BOXOBAN_URL", server.url)
    command = ["data", "boxoban", "--split", "hard", "--out", str(tmp_path)]
    assert cli.main(command) == 0
    assert (tmp_path / "hard/003.txt").read_bytes() == (source / "hard/003.txt").read_bytes()
    assert (tmp_path / "LICENSE").exists()
    assert "6 files, all checksums right; 6 downloaded now" in capsys.readouterr().out
    (tmp_path / "hard/001.txt").unlink()
    server.contents["hard/001.txt"] = b"x" * 116_890
    assert cli.main(command) == 1
    assert re.search(r"error: .*hard/001.txt: the checksum is wrong", capsys.readouterr().err)


def test_the_command_refuses_an_unknown_split(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["data", "boxoban", "--split", "easy"])
    assert "invalid choice: 'easy'" in capsys.readouterr().err


def test_the_address_is_the_official_repository_at_a_fixed_commit() -> None:
    assert re.fullmatch(
        "https://raw.githubusercontent.com/google-deepmind/boxoban-levels/[0-9a-f]{40}", download.BOXOBAN_URL
    )
