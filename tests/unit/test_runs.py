"""Run directories, atomic writes, manifest and record."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest

from hpcml import runs
from hpcml.errors import ConfigError, ScratchError
from hpcml.files import plain, replacing, write_json
from hpcml.fingerprints import fingerprints
from hpcml.record import Origin, Record, git_state, note_files, summarise, write_manifest
from hpcml.runs import RunPaths


def record(paths: RunPaths, **changes: object) -> Record:
    values = {
        "run": paths.run_id, "path": str(paths.root), "state": "DONE", "exit_code": 0, "error": None, "started": 1.0,
        "ended": 3.0, "wall_s": 2.0, "workers": 2, "threads": 1, "core_s_allocated": 4.0, "core_s_busy": 3.0,
        "units_done": 5, "units_total": 5, "tasks": {}, "jobs": [], "metrics": {"best_score": 0.5}, "summary": {},
        "warnings": [],
    }  # fmt: skip
    return Record(**{**values, **changes})  # type: ignore[arg-type]


class TestWriting:
    def test_a_reader_never_sees_half_a_file(self, tmp_path: Path) -> None:
        path = tmp_path / "a.json"
        write_json(path, {"a": 1})
        with pytest.raises(RuntimeError), replacing(path) as aside:  # noqa: PT012
            aside.write_text('{"a":')
            assert json.loads(path.read_text()) == {"a": 1}
            raise RuntimeError
        assert [p.name for p in tmp_path.iterdir()] == ["a.json"]

    def test_json_is_strict(self, tmp_path: Path) -> None:
        write_json(tmp_path / "a.json", {"nan": np.float64("nan"), "x": np.arange(2), "b": np.True_, "o": object})
        found = json.loads((tmp_path / "a.json").read_text(), parse_constant=pytest.fail)
        assert found == {"nan": None, "x": [0, 1], "b": True, "o": "<class 'object'>"}

    def test_plain_leaves_no_numpy_type(self) -> None:
        for value in (np.float64(0.5), np.int64(1), np.str_("a"), np.bool_(True)):
            assert type(plain(value)) in {float, int, str, bool}


class TestDirectories:
    def test_private(self, tmp_path: Path) -> None:
        old = os.umask(0)
        try:
            paths = runs.create(tmp_path / "scratch")
        finally:
            os.umask(old)
        assert stat.S_IMODE(paths.root.stat().st_mode) == 0o700
        assert list(paths.root.iterdir()) == []

    def test_two_runs_in_one_second_have_different_directories(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with ThreadPoolExecutor(16) as pool:
            made = list(pool.map(lambda _: runs.create(tmp_path), range(64)))
        assert len({paths.root for paths in made}) == 64
        tokens = iter(["000000", "000000", "111111"])
        monkeypatch.setattr(runs.time, "strftime", lambda _: "20260101T000000")
        monkeypatch.setattr(runs.secrets, "token_hex", lambda _: next(tokens))
        assert [runs.create(tmp_path).run_id[-6:] for _ in range(2)] == ["000000", "111111"]

    def test_scratch_that_is_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(ScratchError, match=r"file: cannot create a run directory: .*\n.*scratch=/path"):
            runs.create(tmp_path / "file")


class TestFinding:
    def test_by_id_part_path_and_last(self, tmp_path: Path) -> None:
        first, second = runs.create(tmp_path / "a"), runs.create(tmp_path / "b")
        first.root.rename(first.root.with_name("20200101T000000-aaaaaa"))
        first = RunPaths(first.root.with_name("20200101T000000-aaaaaa"))
        write_json(first.manifest, {})
        assert runs.find("last") == second
        assert runs.find("aaaaaa") == first
        assert runs.find(first.run_id) == first
        assert runs.find(str(first.root)) == first
        assert list(runs.find_all(runs.roots())) == [first, second]
        assert list(runs.find_all(runs.roots(str(tmp_path / "a")))) == [first]

    def test_by_the_environment(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        runs.create(tmp_path / "a")
        second = runs.create(tmp_path / "b")
        monkeypatch.setenv("HPCML_SCRATCH", str(tmp_path / "b"))
        assert list(runs.find_all(runs.roots())) == [second]

    def test_none_and_many(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"run last: no such run\n(.|\n)*nothing, since there are no runs yet"):
            runs.find("last")
        for _ in range(2):
            runs.create(tmp_path)
        with pytest.raises(ConfigError, match="run 20: 2 runs match"):
            runs.find("20")
        with pytest.raises(ConfigError, match=f"run nope: no such run\n  choices: .*\n  searched: {tmp_path}"):
            runs.find("nope")

    def test_an_unwritable_home_is_ignored(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", "/proc/nowhere")
        assert runs.create(tmp_path).root.is_dir()
        assert runs.roots() == []

    def test_other_directories_are_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        (tmp_path / "20200101T000000-zz").mkdir()
        assert list(runs.find_all([tmp_path, tmp_path / "missing"])) == []


class TestSummaries:
    def test_files(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("table.csv", "parts/b.csv", "parts/a.csv", "x1.txt", "x2.txt"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(name)
        (tmp_path / "own_module_of_mine.py").write_text("x = 1\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        importlib.import_module("own_module_of_mine")
        paths = runs.create(tmp_path / "runs")
        write_manifest(paths, 5.0, Origin(), None)
        sources = ["table.csv", "parts", "x*.txt", "**.csv", "missing"]
        note_files(paths, [str(tmp_path / name) for name in sources])
        found = json.loads(paths.manifest.read_text())
        listed = [Path(entry["path"]).relative_to(tmp_path).as_posix() for entry in found["data"]]
        assert listed == ["table.csv", "parts/a.csv", "parts/b.csv", "x1.txt", "x2.txt"]
        assert found["data"][0]["sha256"] == hashlib.sha256(b"table.csv").hexdigest()
        assert found["data"][0]["size"] == 9
        assert found["data"][0]["mtime"] == (tmp_path / "table.csv").stat().st_mtime
        (ours,) = [entry for entry in found["modules"] if "own_module_of_mine" in entry["path"]]
        assert ours["sha256"] == hashlib.sha256(b"x = 1\n").hexdigest()
        assert not [entry for entry in found["modules"] if "site-packages" in entry["path"]]
        assert found["started"] == 5.0

    def test_files_that_are_too_large_to_hash(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("hpcml.fingerprints._HASHED", 10)
        for name, size in (("a", 6), ("b", 6), ("c", 4)):
            (tmp_path / name).write_bytes(bytes(size))
        assert [file.sha256 is None for file in fingerprints([str(tmp_path)])] == [False, True, False]

    def test_manifest(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        paths = runs.create(tmp_path)
        write_manifest(paths, 5.0, Origin(["hpcml", "run"], ["seed=1"], {"model": "svc"}), None)
        found = json.loads(paths.manifest.read_text())
        assert found["argv"] == ["hpcml", "run"]
        assert found["overrides"] == ["seed=1"]
        assert found["packages"]["scikit-learn"]
        assert found["packages"]["distributed"]
        assert found["python"] == ".".join(map(str, sys.version_info[:3]))
        assert found["git"] is None
        assert found["cwd"] == str(tmp_path)

    def test_git_state(self, tmp_path: Path) -> None:
        git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]
        for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "x"]):
            subprocess.run([*git, *command], check=True)
        state = git_state(tmp_path)
        assert state is not None
        assert len(state["commit"]) == 40
        assert state["dirty"] is False
        (tmp_path / "new").touch()
        assert git_state(tmp_path) == {"commit": state["commit"], "dirty": True}
        assert git_state(tmp_path.parent) is None

    def test_states(self, tmp_path: Path) -> None:
        paths = runs.create(tmp_path)
        assert summarise(paths).state == "UNKNOWN"
        write_manifest(paths, 5.0, Origin(["job.py"]), None, begun=False)
        assert summarise(paths).state == "SUBMITTED"
        assert runs.adopt(str(paths.root)) == paths
        write_manifest(paths, 5.0, Origin(["job.py"]), None)
        assert summarise(paths).state == "RUNNING"
        with pytest.raises(ConfigError, match="has already started"):
            runs.adopt(str(paths.root))
        assert summarise(paths).what == "job.py"
        manifest = json.loads(paths.manifest.read_text())
        write_json(paths.manifest, {**manifest, "process_started": psutil.Process().create_time() - 100})
        assert summarise(paths).state == "LOST"
        write_json(paths.manifest, {**manifest, "host": "elsewhere"})
        assert summarise(paths).state == "UNKNOWN"
        record(paths).write(paths)
        assert summarise(paths).state == "DONE"
        assert summarise(paths).metrics == {"best_score": 0.5}

    def test_efficiency(self, tmp_path: Path) -> None:
        paths = runs.create(tmp_path)
        assert record(paths).efficiency == 0.75
        assert record(paths, core_s_allocated=0.0).efficiency is None


class TestSignals:
    CODE = """
import os, signal, sys, time
from hpcml import interrupt
from hpcml.errors import Cancelled
def send(s): os.kill(os.getpid(), s)
try:
    with interrupt.installed():
        {body}
except Cancelled as c:
    print("cancelled", c.exit_code)
"""

    @pytest.mark.parametrize(
        ("body", "expected"),
        [
            ("send(signal.SIGTERM); time.sleep(5); print('late')", ["cancelled 143"]),
            ("send(signal.SIGINT); time.sleep(5); print('late')", ["cancelled 130"]),
            ("send(signal.SIGHUP); time.sleep(5); print('late')", ["cancelled 129"]),
            # Deferred until the work is done, however often the signal arrives.
            (
                "\n        with interrupt.deferred():\n            send(signal.SIGTERM); send(signal.SIGINT)\n"
                "            print('written')\n        print('late')",
                ["written", "cancelled 143"],
            ),
            # Nested: only the outermost block raises.
            (
                "\n        with interrupt.deferred():\n            with interrupt.deferred():\n"
                "                send(signal.SIGTERM)\n            print('outer')\n        print('late')",
                ["outer", "cancelled 143"],
            ),
            # A second Ctrl-C does not interrupt the cleanup.
            (
                "\n        try:\n            send(signal.SIGINT); time.sleep(5)\n        finally:\n"
                "            interrupt.closing(); send(signal.SIGINT); print('cleaned')",
                ["cleaned", "cancelled 130"],
            ),
            # A swallowed signal, as in a finaliser, does not block later ones.
            (
                "\n        try:\n            send(signal.SIGINT); time.sleep(5)\n        except Cancelled:\n"
                "            pass\n        send(signal.SIGTERM); time.sleep(5); print('late')",
                ["cancelled 143"],
            ),
            # An error inside is more important than the signal.
            (
                "\n        try:\n            with interrupt.deferred():\n                send(signal.SIGTERM); 1 / 0\n"
                "        except ZeroDivisionError:\n            print('error')",
                ["error"],
            ),
            ("interrupt.closing(); send(signal.SIGTERM); print('ended')", ["ended"]),
        ],
    )
    def test_handler(self, body: str, expected: list[str]) -> None:
        code = self.CODE.format(body=body)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
        assert done.stdout.splitlines() == expected, done.stderr

    def test_nohup_is_respected(self) -> None:
        code = self.CODE.format(body="send(signal.SIGHUP); print('still here')")
        done = subprocess.run(
            ["nohup", sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
        )
        assert done.stdout.splitlines() == ["still here"]

    def test_threads_started_inside_ignore_ctrl_c(self) -> None:
        from hpcml import interrupt

        with interrupt.children_ignore_terminal(), ThreadPoolExecutor(1) as pool:
            inside = pool.submit(signal.pthread_sigmask, signal.SIG_BLOCK, set()).result()
        assert signal.SIGINT in inside
        assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, set())
