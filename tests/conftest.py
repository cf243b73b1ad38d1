"""Fixtures of all tests: a private home, an ordinary user, and the command line."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import settings
from tests.ran import place

# Use the same examples everywhere, without a database; for others: --hypothesis-seed=random
settings.register_profile("hpcml", derandomize=True, database=None, deadline=None)
settings.load_profile("hpcml")

# Tests send these signals to their children, which would ignore them if this process does, as under
# nohup or in the background of a shell. A handler, unlike SIG_IGN, is reset to the default in children.
for _number in (signal.SIGHUP, signal.SIGINT):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, lambda *_: None)

NOBODY = 65534
ROOT = Path(__file__).parent.parent

# Log file of the tests that ran: tests/ran.py
RAN = os.environ.get("TESTS_RAN")

Hpcml = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Isolate tests from the developer's shell and home directory."""
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    ours = ("SCRATCH", "PROJECT", "XDG_STATE_HOME", "OMP_NUM_THREADS", "FORCE_COLOR", "EPHEMERAL", "SLURM_JOB_ID")
    for name in list(os.environ):
        if name in ours or name.startswith(("HPCML_", "PBS_", "DASK_")):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _no_trial(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Save the seconds that the trial fit of each run takes, except in tests of it."""
    if request.node.get_closest_marker("trial") is None:
        monkeypatch.setattr("hpcml.workloads.trial.trial.check", lambda _: [])


@pytest.fixture
def hpcml(tmp_path: Path) -> Hpcml:
    """Run `hpcml ARGS` in a new directory, to its end.

    In a fork of this process, which has imported its modules already: a process of its own, as a user's is, without
    the seconds that its imports take. With a prefix, it is started as a new program.
    """

    def start(
        *args: str,
        cwd: Path = tmp_path,
        env: dict[str, str] | None = None,
        prefix: Sequence[str] = (),
        timeout: int = 600,
    ) -> subprocess.CompletedProcess[str]:
        if not prefix:
            return forked(args, cwd, {**os.environ, **(env or {})}, timeout)
        return subprocess.run(
            [*prefix, sys.executable, "-m", "hpcml", *args],
            cwd=cwd,
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return start


def forked(args: Sequence[str], cwd: Path, env: dict[str, str], timeout: float) -> subprocess.CompletedProcess[str]:
    """Run `hpcml ARGS` in a fork of this process."""
    import hpcml.launcher  # noqa: F401  # once for all forks
    from hpcml.config import compose  # noqa: F401

    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        sys.stdout.flush()
        sys.stderr.flush()
        process = os.fork()
        if process == 0:
            _become(args, cwd, env, out.fileno(), err.fileno())
        status, deadline = None, time.monotonic() + timeout
        while status is None:
            ended, code = os.waitpid(process, os.WNOHANG)
            if ended:
                status = os.waitstatus_to_exitcode(code)
            elif time.monotonic() > deadline:
                os.kill(process, signal.SIGKILL)
                os.waitpid(process, 0)
                raise subprocess.TimeoutExpired(list(args), timeout)
            else:
                time.sleep(0.01)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read())
    return subprocess.CompletedProcess(list(args), status, *texts)


def _become(args: Sequence[str], cwd: Path, env: dict[str, str], out: int, err: int) -> NoReturn:
    """Be `hpcml ARGS` from now on: nothing of pytest stays that a program of its own would not have."""
    code = 1
    try:
        for source, target in ((os.open(os.devnull, os.O_RDONLY), 0), (out, 1), (err, 2)):
            os.dup2(source, target)
        sys.stdin, sys.stdout, sys.stderr = (os.fdopen(os.dup(fd), mode) for fd, mode in ((0, "r"), (1, "w"), (2, "w")))
        sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        logging.getLogger().handlers.clear()
        logging.getLogger().setLevel(logging.WARNING)
        warnings.resetwarnings()
        for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", category)
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(env)
        sys.argv = ["hpcml", *args]
        from hpcml.cli import main

        code = main(args)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


@pytest.fixture
def ordinary_user(tmp_path: Path) -> Iterator[Sequence[str]]:
    """Return a command prefix that drops root privileges, since permissions do not apply to root.

    The user may read everything, because the interpreter may lie in root's home, but can write only where it is let.
    """
    if os.geteuid() != 0:
        yield []
        return
    caps = "-all,+dac_read_search"
    prefix = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    prefix += [f"--bounding-set={caps}", f"--inh-caps={caps}", f"--ambient-caps={caps}"]
    probe = "import os; print(os.geteuid()); os.open('/etc/hpcml-probe', os.O_CREAT | os.O_WRONLY)"
    done = subprocess.run([*prefix, sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == str(NOBODY), f"the drop to an ordinary user did not happen: {done.stderr}"
    assert "PermissionError" in done.stderr, "the dropped user can still write everywhere"
    for directory in (tmp_path, *tmp_path.parents):
        if directory.stat().st_uid == 0 and directory != Path("/") and len(directory.parts) > 2:
            directory.chmod(directory.stat().st_mode | 0o055)
    yield prefix


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    where = place(report.nodeid)
    if RAN is None or where is None or not (report.when == "call" or report.skipped):
        return
    reason = report.longrepr[2] if report.skipped and isinstance(report.longrepr, tuple) else None
    with Path(RAN).open("a", encoding="utf-8") as file:
        print(json.dumps({"place": where, "skipped": reason and reason.removeprefix("Skipped: ")}), file=file)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite", action="store_true", help="write recorded files anew instead of comparing with them")


@pytest.fixture
def recorded(request: pytest.FixtureRequest) -> Callable[[Path, str], None]:
    """Compare a text with a file of the repository; with --rewrite update the file."""

    def compare(path: Path, text: str) -> None:
        if request.config.getoption("--rewrite"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        assert path.read_text() == text, f"{path} says something else; if it should not: pytest --rewrite"

    return compare
