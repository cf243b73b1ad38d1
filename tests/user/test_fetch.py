"""Test hpcml fetch against a local server: scikit-learn reads its files, and every failure."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import io
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from benchmarks._corpus import archive
from sklearn.datasets import fetch_20newsgroups

CACHE = "20news-bydate_py3.pkz"

Hpcml = Any
Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, str]:
    path = tmp_path_factory.mktemp("archive") / "a.tar.gz"
    sha256 = archive(path, train=120, test=40)
    return path.read_bytes(), sha256


@contextlib.contextmanager
def served(answer: Answer) -> Iterator[str]:
    """Serve one answer to all requests; yield the URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with contextlib.suppress(ConnectionError):
                answer(self)

        def log_message(self, format: str, *args: Any) -> None: ...  # noqa: A002

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/files/5975967"
        finally:
            server.shutdown()
            thread.join()


def content(data: bytes, promised: int | None = None) -> Answer:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data) if promised is None else promised))
        handler.end_headers()
        handler.wfile.write(data)

    return answer


def moved_to(url: str) -> Answer:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", url)
        handler.end_headers()

    return answer


def test_what_is_written_is_read_by_scikit_learn_and_by_hpcml(
    hpcml: Hpcml, tmp_path: Path, made: tuple[bytes, str]
) -> None:
    data, sha256 = made
    with served(content(data)) as target, served(moved_to(target)) as url:
        done = hpcml("fetch", "newsgroups", "--data-home", "sk", "--url", url, "--sha256", sha256.upper())
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"wrote sk/{CACHE}",
        f"to use it: hpcml run experiment=newsgroups_grid data.data_home={tmp_path}/sk",
    ]
    assert f"connecting to {url}" in done.stderr
    assert [path.name for path in (tmp_path / "sk").iterdir()] == [CACHE]
    bunch = fetch_20newsgroups(data_home=str(tmp_path / "sk"), subset="all", download_if_missing=False)
    assert len(bunch.data) == 160

    planned = hpcml("plan", "experiment=newsgroups_grid", "data.data_home=sk", "size=small")
    assert planned.returncode == 0, planned.stderr
    assert "newsgroups: 12 texts, 2 distinct targets" in planned.stdout

    again = hpcml("fetch", "newsgroups", "--data-home", "sk")
    assert again.returncode == 0
    assert again.stdout.startswith(f"already exists: sk/{CACHE}")


def test_an_archive_that_was_brought_along(hpcml: Hpcml, tmp_path: Path, made: tuple[bytes, str]) -> None:
    (tmp_path / "a.tar.gz").write_bytes(made[0])
    env = {"SCIKIT_LEARN_DATA": str(tmp_path / "sk")}
    done = hpcml("fetch", "newsgroups", "--url", f"file://{tmp_path}/a.tar.gz", "--sha256", made[1], env=env)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "sk" / CACHE).is_file()
    assert done.stdout.endswith("hpcml run experiment=newsgroups_grid\n")


class TestFailures:
    """Exit code 1, one message, and no files left."""

    def fails(self, done: Any, home: Path, *expected: str, code: int = 1) -> None:
        assert done.returncode == code, done.stderr
        assert "error: " in done.stderr
        assert "Traceback" not in done.stderr
        for text in expected:
            assert text in done.stderr
        assert not home.exists() or list(home.iterdir()) == []

    def fetch(self, hpcml: Hpcml, home: Path, url: str, sha256: str, **keys: Any) -> Any:
        return hpcml("fetch", "newsgroups", "--data-home", str(home), "--url", url, "--sha256", sha256, **keys)

    def test_no_network(self, hpcml: Hpcml, tmp_path: Path, made: tuple[bytes, str]) -> None:
        with served(content(b"")) as url:
            pass  # nothing listens on this port any more
        done = self.fetch(hpcml, tmp_path / "sk", url, made[1])
        self.fails(done, tmp_path / "sk", f"{url}: cannot be downloaded: Connection refused", "copy queue", "file:///")

    def test_a_name_that_nobody_knows(self, hpcml: Hpcml, tmp_path: Path, made: tuple[bytes, str]) -> None:
        done = self.fetch(hpcml, tmp_path / "sk", "https://no-such-host.invalid/a", made[1])
        self.fails(
            done,
            tmp_path / "sk",
            "https://no-such-host.invalid/a: cannot be downloaded: ",
            "try again with internet access",
        )

    def test_another_archive(self, hpcml: Hpcml, tmp_path: Path, made: tuple[bytes, str]) -> None:
        with served(content(b"something else")) as url:
            done = self.fetch(hpcml, tmp_path / "sk", url, made[1])
        found = hashlib.sha256(b"something else").hexdigest()
        self.fails(done, tmp_path / "sk", f"sha256 is {found}, expected {made[1]}", "received 14 bytes")

    def test_a_download_that_ends_early(self, hpcml: Hpcml, tmp_path: Path, made: tuple[bytes, str]) -> None:
        with served(content(made[0][:1000], promised=len(made[0]))) as url:
            done = self.fetch(hpcml, tmp_path / "sk", url, made[1])
        self.fails(done, tmp_path / "sk", f"the connection closed after 1000 of {len(made[0])} bytes")

    def test_a_server_that_refuses(self, hpcml: Hpcml, tmp_path: Path, made: tuple[bytes, str]) -> None:
        with served(lambda handler: handler.send_error(403)) as url:
            done = self.fetch(hpcml, tmp_path / "sk", url, made[1])
        self.fails(done, tmp_path / "sk", f"{url}: cannot be downloaded: the server answered 403 Forbidden")

    @pytest.mark.parametrize(
        ("members", "message"),
        [
            (None, "cannot be read as a .tar.gz: "),
            ({}, "contains no messages 20news-bydate-train/GROUP/NUMBER"),
            ({"20news-bydate-train/sci.med/1": b"so"}, "contains no messages 20news-bydate-test/GROUP/NUMBER"),
            ({"../../escaped": b"so", "/etc/escaped/1": b"so"}, "contains no messages 20news-bydate-train"),
        ],
    )
    def test_an_archive_of_something_else(
        self, hpcml: Hpcml, tmp_path: Path, members: dict[str, bytes] | None, message: str
    ) -> None:
        raw = io.BytesIO()
        with tarfile.open(fileobj=raw, mode="w:gz") as tar:
            for name, text in (members or {}).items():
                member = tarfile.TarInfo(name)
                member.size = len(text)
                tar.addfile(member, io.BytesIO(text))
        data = b"no archive" if members is None else raw.getvalue()
        (tmp_path / "a.tar.gz").write_bytes(data)
        done = self.fetch(hpcml, tmp_path / "sk", f"file://{tmp_path}/a.tar.gz", hashlib.sha256(data).hexdigest())
        self.fails(done, tmp_path / "sk", message, "nothing was written")
        assert not list(tmp_path.parent.glob("**/escaped"))

    def test_a_directory_that_cannot_be_written_is_told_before_the_download(
        self, hpcml: Hpcml, tmp_path: Path, made: tuple[bytes, str], ordinary_user: Sequence[str]
    ) -> None:
        (tmp_path / "locked").mkdir(mode=0o755)
        if not ordinary_user:
            (tmp_path / "locked").chmod(0o555)
        asked: list[Any] = []
        with served(asked.append) as url:
            done = self.fetch(hpcml, tmp_path / "locked", url, made[1], prefix=ordinary_user)
        self.fails(done, tmp_path / "locked", f"{tmp_path}/locked/{CACHE}: cannot be written: Permission denied")
        assert "--data-home DIR" in done.stderr
        assert asked == []

    def test_a_directory_that_is_a_file(self, hpcml: Hpcml, tmp_path: Path, made: tuple[bytes, str]) -> None:
        (tmp_path / "file").touch()
        done = self.fetch(hpcml, tmp_path / "file" / "sk", "http://127.0.0.1:9/a", made[1])
        self.fails(done, tmp_path / "sk", "cannot be written: Not a directory")

    def test_a_disk_that_is_full(self, hpcml: Hpcml, tmp_path: Path, made: tuple[bytes, str]) -> None:
        with served(content(made[0])) as url:
            done = self.fetch(hpcml, tmp_path / "sk", url, made[1], prefix=["prlimit", "--fsize=5000"])
        self.fails(done, tmp_path / "sk", f"{CACHE}: cannot be written: File too large")

    @pytest.mark.parametrize(
        ("args", "message"),
        [
            (["--url", "ftp://example.org/a"], "--url ftp://example.org/a: must begin with https://"),
            (["--url", "a.tar.gz"], "--url a.tar.gz: must begin with"),
            (["--sha256", "abc"], "--sha256 abc: not 64 hexadecimal digits"),
        ],
    )
    def test_a_bad_request(self, hpcml: Hpcml, tmp_path: Path, args: list[str], message: str) -> None:
        done = hpcml("fetch", "newsgroups", "--data-home", "sk", *args)
        self.fails(done, tmp_path / "sk", message, code=2)

    def test_ctrl_c(self, tmp_path: Path, made: tuple[bytes, str]) -> None:
        asked = threading.Event()

        def slowly(handler: http.server.BaseHTTPRequestHandler) -> None:
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(made[0])))
            handler.end_headers()
            for byte in made[0][:600]:
                handler.wfile.write(bytes([byte]))
                asked.set()
                time.sleep(0.1)

        with served(slowly) as url:
            args = ["fetch", "newsgroups", "--data-home", str(tmp_path / "sk"), "--url", url, "--sha256", made[1]]
            process = subprocess.Popen(
                [sys.executable, "-m", "hpcml", *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            assert asked.wait(30)
            os.kill(process.pid, signal.SIGINT)
            _, error = process.communicate(timeout=120)
        assert process.returncode == 130
        assert "cancelled by SIGINT" in error
        assert "Traceback" not in error
        assert list((tmp_path / "sk").iterdir()) == []


def test_help_says_what_there_is_and_where_it_goes(hpcml: Hpcml) -> None:
    done = hpcml("fetch", "--help")
    assert done.returncode == 0
    for word in ("newsgroups", "--data-home", "--sha256", "copy queue", "$SCIKIT_LEARN_DATA"):
        assert word in done.stdout
    wrong = hpcml("fetch", "newsgroup")
    assert wrong.returncode == 2
    assert "invalid choice: 'newsgroup'" in wrong.stderr
