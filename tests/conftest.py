"""What all tests share: a home of their own, an ordinary user, and a way to start hpcml as a user would."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

NOBODY = 65534
ROOT = Path(__file__).parent.parent

Hpcml = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that a developer's shell or home says reaches a test, and no test writes there."""
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    for name in ("SCRATCH", "HPCML_SCRATCH", "XDG_STATE_HOME", "PBS_JOBFS", "OMP_NUM_THREADS", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)


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
