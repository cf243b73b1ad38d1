"""Output for the user: progress, tables, errors and completion."""

from __future__ import annotations

import io
import json
import re
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from hpcml import __version__, display, progress, runs
from hpcml.cli import main
from hpcml.cluster import Load
from hpcml.errors import ConfigError
from hpcml.progress import Snapshot, watching
from hpcml.record import summarise
from hpcml.workloads.base import Units

CLUSTER: Any = SimpleNamespace(load=lambda: Load(2, 3 * 1024**2, 1024**3))


def watch(console: Console, file: Path, cluster: Any = CLUSTER) -> str:
    units = Units(10)
    with watching(cluster, units, console, file):
        [units.finish(str(n)) for n in range(4)]
        time.sleep(0.2)
        [units.finish(str(n)) for n in range(10)]
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_batch_log_gets_plain_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_LOOK", 0.05)
    text = watch(Console(file=io.StringIO()), tmp_path / "p.json")
    first, last = text.splitlines()  # The next line would appear half a minute later.
    assert "4/10 done" in first
    assert "left; 2 workers, 3MB of 1GB" in first
    assert "10/10 done" in last
    assert all(character.isprintable() or character == "\n" for character in text)
    assert json.loads((tmp_path / "p.json").read_text())["done"] == 10


def test_a_terminal_gets_a_live_bar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_LOOK", 0.05)
    text = watch(Console(file=io.StringIO(), force_terminal=True, width=120), tmp_path / "p.json")
    assert "\x1b[" in text
    assert "10/10" in text
    assert "2 workers  3MB/1GB" in text


def test_a_dead_scheduler_does_not_end_the_run(tmp_path: Path) -> None:
    def load() -> Load:
        raise OSError("gone")

    watch(Console(file=io.StringIO()), tmp_path / "p.json", SimpleNamespace(load=load))


def test_the_time_left() -> None:
    assert Snapshot(0, 0, 10, 5, 1, 0, 0).remaining is None
    assert Snapshot(0, 5, 10, 5, 1, 0, 0).remaining == 5


def test_an_error_is_printed_verbatim() -> None:
    console = Console(file=io.StringIO(), width=40)
    error = ConfigError("data.path=[red]x[/red]:x: " + "long " * 20, "type this")
    error.log = Path("/runs/1/hpcml.log")
    display.show_error(console, error)
    assert isinstance(console.file, io.StringIO)
    message, hint, log = console.file.getvalue().splitlines()
    assert message.startswith("error: data.path=[red]x[/red]:x: long")
    assert (hint, log) == ("  type this", "  log: /runs/1/hpcml.log")


class TestMain:
    def test_help(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--help"]) == 0
        out = capsys.readouterr().out
        for verb in ("run", "plan", "list", "status", "completion"):
            assert f"\n  {verb} " in out
        assert main([]) == 2
        for args in (["--version"], ["run", "--version"]):
            capsys.readouterr()
            assert main(args) == 0
            assert capsys.readouterr().out == f"hpcml {__version__}\n"
        with pytest.raises(SystemExit):
            main(["help", "list"])

    def test_unknown_verb(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["stats"]) == 2
        assert "hpcml stats: no such verb\n  did you mean 'status'" in capsys.readouterr().err

    def test_list_and_status_of_nothing(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        assert main(["list"]) == 0
        assert "no runs yet: hpcml run experiment=digits_svc" in capsys.readouterr().out
        assert main(["list", "--json", "--scratch", str(tmp_path)]) == 0
        assert json.loads(capsys.readouterr().out) == []
        assert main(["list", "--scratch", str(tmp_path / "none")]) == 2
        assert "/none: no such directory" in capsys.readouterr().err
        assert main(["status", "last"]) == 2
        assert "no such run" in capsys.readouterr().err

    def test_lines_of_a_list_are_not_wrapped(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        paths = runs.create(tmp_path)
        main(["list"])
        header, row = capsys.readouterr().out.splitlines()
        assert header.split() == ["run", "state", "what", "started", "wall", "units", "score"]
        assert row.split()[:2] == [paths.run_id, "UNKNOWN"]

    def test_a_narrow_terminal_keeps_id_and_state(self, tmp_path: Path) -> None:
        paths = runs.create(tmp_path)
        console = Console(file=io.StringIO(), force_terminal=True, color_system=None, width=80)
        display.show_runs(console, [summarise(paths)])
        assert isinstance(console.file, io.StringIO)
        row = console.file.getvalue().splitlines()[1]
        assert row.startswith(f"{paths.run_id}  UNKNOWN ")

    def test_an_internal_error_is_one_message(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        monkeypatch.setattr(runs, "roots", lambda _: 1 / 0)
        assert main(["list"]) == 1
        error = capsys.readouterr().err
        assert "ZeroDivisionError" in error
        assert "Traceback" not in error
        assert "Traceback" in next(tmp_path.glob("hpcml-*.log")).read_text()

    def test_completion_of_another_shell(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["completion", "fish"]) == 2
        assert "only bash" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("hpcml ", ["clean", "completion", "fetch", "keys", "list", "plan", "run", "status", "submit"]),
        ("hpcml st", ["status"]),
        ("hpcml run clu", ["cluster.", "cluster="]),
        ("hpcml run cluster=lo", ["cluster=local"]),
        ("hpcml run experiment=digits_svc model.ke", ["model.kernel="]),
        ("hpcml plan data=brea", ["data=breast_cancer"]),
        ("hpcml run nonsense", []),
        ("hpcml status l", ["last"]),
        ("hpcml list ", []),
    ],
)
def test_words(
    line: str, expected: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMP_LINE", line)
    assert main(["completion", "words"]) == 0
    assert capsys.readouterr().out.split() == expected


class TestKeys:
    def test_one_in_full(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["keys", "cluster.walltime"]) == 0
        assert capsys.readouterr().out == (
            "cluster.walltime  (cluster=pbs, slurm, allocation)\n"
            "           Walltime of each worker job\n"
            "  type     [[HH:]MM:]SS\n"
            "  default  01:00:00\n"
            "  example  cluster.walltime=04:00:00\n"
        )

    @pytest.mark.parametrize("verb", ["run", "submit", "plan"])
    def test_help_of_a_verb_for_a_key(self, verb: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert main([verb, "--help", "workload.passes"]) == 0
        assert "Passes over all blocks, at most" in capsys.readouterr().out

    def test_all_by_a_line_each(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["keys"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) > 200
        assert any(re.fullmatch(r"site\.queues\.NAME\.rate +Charge for one core-hour", line) for line in lines)

    def test_as_json(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["keys", "--json", "cluster.start_timeout"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert {(entry["section"], entry["unit"], entry["default"]) for entry in found} == {
            ("cluster=pbs, slurm, allocation", "seconds", "300"),
            ("cluster=attach", "seconds", "300"),
            ("cluster=local", "seconds", "120"),
        }

    @pytest.mark.parametrize(
        ("pattern", "words"),
        [
            ("cluster.waltime", ["cluster.waltime: no such key", "did you mean 'cluster.walltime'", "type hpcml keys"]),
            ("model.C", ["parameters of the model's class", "--cfg job --package model"]),
        ],
    )
    def test_unknown(self, pattern: str, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["keys", pattern]) == 2
        error = capsys.readouterr().err
        assert all(word in error for word in words)
