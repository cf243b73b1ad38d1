"""A Slurm of two nodes with PBS's commands, as one ordinary user in one directory: a scheduler for tests, no Docker."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

import psutil
from tests.conftest import NOBODY

NODES = ("n1", "n2")
PACKAGES = "slurmctld slurmd slurm-client slurm-wlm-torque libswitch-perl munge"
SLURM = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "sinfo", "squeue", "scancel", "scontrol", "sacct")
PBS = ("qsub", "qstat", "qdel", "qalter", "qhold", "qrls", "pbsnodes")
# The daemons are in sbin, which is on no ordinary user's PATH.
SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
PLUGINS = "/usr/lib/*/slurm-wlm"

# What one daemon is started under. Job steps leave their daemon, and become children of init unless somebody else wants
# them: this does, so that stopping it ends all that a daemon started, and nothing else. It ends by itself, with all of
# them, should whoever runs the tests be killed.
KEEPER = """
import contextlib, ctypes, os, psutil, signal, sys

def end(*_):
    while found := psutil.Process().children(recursive=True):
        for process in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        with contextlib.suppress(ChildProcessError):
            os.wait()
    os._exit(0)

parent, *command = sys.argv[1:]
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
signal.signal(signal.SIGTERM, end)
assert ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) == 0
assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
if os.getppid() == int(parent):
    os.spawnvp(os.P_NOWAIT, command[0], command)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()
"""

CONFIG = """
ClusterName=hpcml
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={directory}/munge.sock
StateSaveLocation={directory}/state
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/%n.pid
SlurmdSpoolDir={directory}/%n
SlurmdLogFile={directory}/%n.log
PlugStackConfig={directory}/plugstack.conf
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=2
JobAcctGatherParams=OverMemoryKill,UsePss
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=1000
EnforcePartLimits=ALL
JobSubmitPlugins=pbs
KillWait=5
MinJobAge=600
ReturnToService=2
SlurmdTimeout=20
SlurmdParameters=config_overrides
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=4 RealMemory=6000
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=4 RealMemory=6000
PartitionName=normal Nodes=n1,n2 Default=YES MaxTime=48:00:00 State=UP
PartitionName=express Nodes=n1,n2 MaxTime=00:05:00 State=UP
"""


def available() -> str | None:
    """Say what is missing for a testbed, and how to get it; None if nothing is."""
    wanted = [*SLURM, *PBS, *(["setpriv"] if os.geteuid() == 0 else [])]
    missing = [name for name in wanted if shutil.which(name, path=SYSTEM_PATH) is None]
    if not missing and not list(Path("/").glob(f"{PLUGINS[1:]}/spank_pbs.so")):
        missing = ["spank_pbs.so"]
    if not missing and subprocess.run(["perl", "-MSwitch", "-e1"], capture_output=True, check=False).returncode != 0:
        missing = ["Perl's Switch"]
    if not missing:
        return None
    return f"no Slurm to test with, for want of {', '.join(missing)}: apt-get install {PACKAGES} util-linux"


def wait_for(condition: Callable[[], object], what: str, seconds: float = 60) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.1)


class Slurm:
    """A testbed: munged, slurmctld and a slurmd for each of two nodes, of 4 CPUs and 6000 MB each.

    Started by root, the daemons and all commands are an ordinary user's, who may read everything, because the
    interpreter may lie in root's home.

    Attributes
    ----------
    directory
        where all of it is, and nothing else: gone after `stop`
    home
        the user's, where commands run
    uid
        of the user
    prefix
        before a command that shall be the user's
    environment
        for the user's commands, whole
    """

    def __init__(self) -> None:
        root = os.geteuid() == 0
        self.uid = NOBODY if root else os.geteuid()
        self.prefix: Sequence[str] = _drop(self.uid) if root else ()
        # Short, for a socket's path has at most 107 bytes; munged refuses what others may write to.
        self.directory = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
        self.home = self.directory / "home"
        user = _user_name(self.uid)
        self.environment = {
            "HOME": str(self.home),
            "USER": user,
            "LOGNAME": user,
            "SHELL": "/bin/bash",
            "LANG": "C.UTF-8",
            "PATH": f"{Path(sys.executable).parent}:{SYSTEM_PATH}",
            "SLURM_CONF": str(self.directory / "slurm.conf"),
        }
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        self._ports = [_reserve() for _ in range(3)]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start all daemons; come back when both nodes are idle."""
        try:
            self._write_files()
            self._assert_dropped()
            self._start_daemon("munged")
            self._wait((self.directory / "munge.sock").exists, "munged's socket")
            self.start_controller()
            for node in NODES:
                self._start_daemon(node)
            self._wait(lambda: set(self.nodes().values()) == {"idle"}, "idle nodes")
            for process in self.processes():
                self._assert_ordinary(process)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End all that the daemons started and the daemons, and see that they are gone."""
        ours = self.processes()
        for keeper in self._daemons.values():
            keeper.terminate()
        for keeper in self._daemons.values():
            keeper.wait(30)
        self._daemons.clear()
        for reserved in self._ports:
            reserved.close()
        shutil.rmtree(self.directory)
        left = [process for process in ours if process.is_running()]
        assert not left, f"still there after the testbed's end: {left}"

    def run(
        self,
        *command: str,
        timeout: float = 60,
        check: bool = True,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as the user, in the user's home unless told otherwise; env is added to the environment."""
        done = subprocess.run(
            [*self.prefix, *command],
            cwd=cwd or self.home,
            env={**self.environment, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0 or not check, f"{command} gave {done.returncode}: {done.stdout}{done.stderr}"
        return done

    def make_directory(self, prefix: str = "") -> Path:
        """Make a new directory of the user's, in the user's home."""
        made = Path(tempfile.mkdtemp(prefix=prefix, dir=self.home))
        os.chown(made, self.uid, -1)
        return made

    def jobs(self) -> list[str]:
        """List the ids of all jobs that are queued, run, or are just being ended."""
        return self.run("squeue", "--noheader", "--format=%i").stdout.split()

    def nodes(self) -> dict[str, str]:
        """Tell each node's state as sinfo does; nothing while the controller does not answer."""
        try:
            done = self.run("sinfo", "--noheader", "--Node", "--format=%N %T", check=False, timeout=10)
        except subprocess.TimeoutExpired:
            return {}
        return dict(line.split() for line in done.stdout.splitlines()) if done.returncode == 0 else {}

    def processes(self) -> list[psutil.Process]:
        """List the daemons and all that they started, and that is still there."""
        found = []
        for keeper in self._daemons.values():
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(keeper.pid)
                found += [process, *process.children(recursive=True)]
        return found

    def kill_node(self, name: str) -> None:
        """End a node and all that runs on it, as if it lost power, and let Slurm know: by itself it takes 35 s."""
        keeper = self._daemons.pop(name)
        keeper.terminate()
        keeper.wait(30)
        if "slurmctld" in self._daemons:
            self.run("scontrol", "update", f"NodeName={name}", "State=DOWN", "Reason=killed")

    def start_node(self, name: str) -> None:
        """Start a node that was killed; come back when it is idle."""
        self._start_daemon(name)
        self._wait(lambda: self.nodes().get(name) == "idle", f"idle {name}")

    def stop_controller(self) -> None:
        """Stop slurmctld as its init would, so that it writes down what it knows; what runs on nodes goes on."""
        for process in psutil.Process(self._daemons["slurmctld"].pid).children():
            process.terminate()
        self._daemons.pop("slurmctld").wait(60)

    def start_controller(self) -> None:
        """Start slurmctld; come back when it answers."""
        self._start_daemon("slurmctld")
        self._wait(self.nodes, "slurmctld")

    def logs(self, lines: int = 30) -> str:
        """Give the ends of all daemons' logs."""
        tails = []
        for path in sorted(self.directory.glob("*.log")):
            tail = path.read_text(errors="replace").splitlines()[-lines:]
            tails.append("\n".join([f"--- {path}", *tail]))
        return "\n".join(tails)

    def _write_files(self) -> None:
        self.directory.chmod(0o755)
        ports = [reserved.getsockname()[1] for reserved in self._ports]
        host = socket.gethostname().split(".")[0]
        user = self.environment["USER"]
        config = CONFIG.format(directory=self.directory, ports=ports, host=host, user=user)
        (self.directory / "slurm.conf").write_text(config)
        (self.directory / "plugstack.conf").write_text("optional spank_pbs.so\n")
        key = self.directory / "munge.key"
        key.touch(0o600)
        key.write_bytes(os.urandom(128))
        for name in ("munged", "slurmctld", *NODES):
            (self.directory / f"{name}.log").touch()
        for name in ("home", "state", *NODES):
            (self.directory / name).mkdir(0o755)
        if self.prefix:
            for path in (self.directory, *self.directory.iterdir()):
                os.chown(path, self.uid, self.uid)

    def _start_daemon(self, name: str) -> None:
        assert name not in self._daemons, f"{name} is there already"
        at = self.directory
        files = {"key-file": "munge.key", "socket": "munge.sock", "pid-file": "munged.pid", "seed-file": "munge.seed"}
        command = {
            "munged": ["munged", "--foreground", *(f"--{option}={at / file}" for option, file in files.items())],
            "slurmctld": ["slurmctld", "-D"],
            # No -D: only from a daemon's log file does one learn why a job's step could not start.
        }.get(name, ["slurmd", "-N", name])
        with (at / f"{name}.log").open("ab") as log:
            self._daemons[name] = subprocess.Popen(
                [*self.prefix, sys.executable, "-c", KEEPER, str(os.getpid()), *command],
                cwd=at,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C is for pytest, which then stops these
            )

    def _wait(self, condition: Callable[[], object], what: str, seconds: float = 30) -> None:
        def so() -> object:
            ended = [name for name, keeper in self._daemons.items() if keeper.poll() is not None]
            assert not ended, f"{ended} ended at once"
            return condition()

        try:
            wait_for(so, what, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.logs()}") from None

    def _assert_dropped(self) -> None:
        assert self.run("id", "-u").stdout == f"{self.uid}\n"
        done = self.run(sys.executable, "-c", "open('/etc/hpcml-probe', 'w')", check=False)
        assert "PermissionError" in done.stderr, "the testbed's user can write everywhere"

    def _assert_ordinary(self, process: psutil.Process) -> None:
        assert self.uid != 0
        with contextlib.suppress(psutil.NoSuchProcess):
            assert set(process.uids()) == {self.uid}, process


def _drop(uid: int) -> list[str]:
    # As the fixture `ordinary_user` does; ambient, so that what a daemon starts may read as much: it starts jobs.
    caps = "-all,+dac_read_search"
    prefix = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    return [*prefix, f"--bounding-set={caps}", f"--inh-caps={caps}", f"--ambient-caps={caps}"]


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _reserve() -> socket.socket:
    """Find a free port; nobody else gets it while the socket is open, but a daemon can listen at it."""
    # Bound before SO_REUSEADDR is set: so this fails for a port that another testbed has reserved, and afterwards lets
    # the daemons in, which do set it. A port that is bound is given to no outgoing connection either.
    reserved = socket.socket()
    reserved.bind(("", 0))
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return reserved
