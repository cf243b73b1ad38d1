"""What all tests share: a home of their own, an ordinary user, and a way to start hpcml as a user would."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples everywhere and each time, and no directory of them; to look for more: --hypothesis-seed=random
settings.register_profile("hpcml", derandomize=True, database=None, deadline=None)
settings.load_profile("hpcml")

NOBODY = 65534
ROOT = Path(__file__).parent.parent

Hpcml = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that a developer's shell or home says reaches a test, and no test writes there."""
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    ours = ("SCRATCH", "PROJECT", "XDG_STATE_HOME", "OMP_NUM_THREADS", "FORCE_COLOR", "EPHEMERAL", "SLURM_JOB_ID")
    for name in list(os.environ):
        if name in ours or name.startswith(("HPCML_", "PBS_", "DASK_")):
            monkeypatch.delenv(name)


@pytest.fixture
def hpcml(tmp_path: Path) -> Hpcml:
    """Start `hpcml ARGS` in a directory of its own, to its end."""

    def start(
        *args: str,
        cwd: Path = tmp_path,
        env: dict[str, str] | None = None,
        prefix: Sequence[str] = (),
        timeout: int = 120,
    ) -> subprocess.CompletedProcess[str]:
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


@pytest.fixture
def ordinary_user(tmp_path: Path) -> Iterator[Sequence[str]]:
    """Give a command prefix that drops root; permissions mean nothing to root.

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


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite", action="store_true", help="write recorded files anew instead of comparing with them")


@pytest.fixture
def recorded(request: pytest.FixtureRequest) -> Callable[[Path, str], None]:
    """Compare a text with a file of the repository, whole; with --rewrite make it the file."""

    def compare(path: Path, text: str) -> None:
        if request.config.getoption("--rewrite"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        assert path.read_text() == text, f"{path} says something else; if it should not: pytest --rewrite"

    return compare
