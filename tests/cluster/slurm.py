"""Run a Slurm of two nodes with its PBS commands, as one ordinary user and without Docker."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

import psutil
from tests.cluster.keeper import Keeper, wait_for
from tests.conftest import NOBODY

NODES = ("n1", "n2")
PACKAGES = "slurmctld slurmd slurm-client slurm-wlm-torque libswitch-perl munge"
SLURM = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "sinfo", "squeue", "scancel", "scontrol", "sacct")
PBS = ("qsub", "qstat", "qdel", "qalter", "qhold", "qrls", "pbsnodes")
# The daemons are in sbin, which is not on an ordinary user's PATH.
SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
PLUGINS = "/usr/lib/*/slurm-wlm"

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
    """Return the missing software of a testbed and how to install it, or None."""
    wanted = [*SLURM, *PBS, *(["setpriv"] if os.geteuid() == 0 else [])]
    missing = [name for name in wanted if shutil.which(name, path=SYSTEM_PATH) is None]
    if not missing and not list(Path("/").glob(f"{PLUGINS[1:]}/spank_pbs.so")):
        missing = ["spank_pbs.so"]
    if not missing and subprocess.run(["perl", "-MSwitch", "-e1"], capture_output=True, check=False).returncode != 0:
        missing = ["Perl's Switch"]
    if not missing:
        return None
    return f"no Slurm to test with, for want of {', '.join(missing)}: apt-get install {PACKAGES} util-linux"


class Slurm:
    """A Slurm with munged, slurmctld and two slurmd of 4 CPUs and 6000 MB each.

    If root starts it, the daemons and all commands run as an ordinary user with read access to
    everything, because the interpreter may lie in root's home.

    Attributes
    ----------
    directory
        The directory of the testbed, and of nothing else; removed by `stop`.
    home
        The user's home, where commands run.
    uid
        The user's id.
    prefix
        Precedes a command to run it as the user.
    environment
        The complete environment of the user's commands.
    """

    def __init__(self) -> None:
        root = os.geteuid() == 0
        self.uid = NOBODY if root else os.geteuid()
        self.prefix: Sequence[str] = _drop(self.uid) if root else ()
        # The path is short, since a socket's path has at most 107 bytes, and private, since munged
        # rejects a directory that others may write to.
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
        self._daemons: dict[str, Keeper] = {}
        self._ports = [_reserve() for _ in range(3)]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start all daemons; return when both nodes are idle."""
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
        """Stop the daemons and everything that they started, and check that all are gone."""
        ours = self.processes()
        for keeper in self._daemons.values():
            keeper.terminate()
        for keeper in self._daemons.values():
            keeper.wait(30)
        self._daemons.clear()
        for reserved in self._ports:
            reserved.close()
        shutil.rmtree(self.directory)
        wait_for(lambda: not any(process.is_running() for process in ours), f"the end of {ours}")

    def run(
        self,
        *command: str,
        timeout: float = 300,
        check: bool = True,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as the user, by default in the user's home; env extends the environment."""
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
        """Make a new directory in the user's home, owned by the user."""
        made = Path(tempfile.mkdtemp(prefix=prefix, dir=self.home))
        os.chown(made, self.uid, -1)
        return made

    def jobs(self) -> list[str]:
        """Return the ids of all jobs that are queued, running or completing."""
        return self.run("squeue", "--noheader", "--format=%i").stdout.split()

    def nodes(self) -> dict[str, str]:
        """Return each node's state in the words of sinfo; empty without an answer."""
        try:
            done = self.run("sinfo", "--noheader", "--Node", "--format=%N %T", check=False, timeout=10)
        except subprocess.TimeoutExpired:
            return {}
        return dict(line.split() for line in done.stdout.splitlines()) if done.returncode == 0 else {}

    def processes(self) -> list[psutil.Process]:
        """Return the daemons and their descendants that are still alive."""
        return [process for keeper in self._daemons.values() for process in keeper.processes()]

    def kill_node(self, name: str) -> None:
        """Kill a node's processes, as a power loss would, and mark the node down.

        Slurm would take 35 s to notice.
        """
        keeper = self._daemons.pop(name)
        keeper.terminate()
        keeper.wait(30)
        if "slurmctld" in self._daemons:
            self.run("scontrol", "update", f"NodeName={name}", "State=DOWN", "Reason=killed")

    def start_node(self, name: str) -> None:
        """Start a node that was killed; return when it is idle."""
        self._start_daemon(name)
        self._wait(lambda: self.nodes().get(name) == "idle", f"idle {name}")

    def stop_controller(self) -> None:
        """Stop slurmctld as its init would, so that it saves its state; jobs keep running."""
        for process in self._daemons["slurmctld"].children():
            process.terminate()
        self._daemons.pop("slurmctld").wait(60)

    def start_controller(self) -> None:
        """Start slurmctld; return when it answers."""
        self._start_daemon("slurmctld")
        self._wait(self.nodes, "slurmctld")

    def logs(self, lines: int = 30) -> str:
        """Return the last lines of all daemons' logs."""
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
            # Start without -D: only a daemon's log file has the reason when a job's step could not
            # start.
        }.get(name, ["slurmd", "-N", name])
        self._daemons[name] = Keeper(command, log=at / f"{name}.log", prefix=self.prefix, cwd=at, env=self.environment)

    def _wait(self, condition: Callable[[], object], what: str, seconds: float = 400) -> None:
        def so() -> object:
            ended = [name for name, keeper in self._daemons.items() if keeper.ended]
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
    # The same capability as in the fixture `ordinary_user`, but ambient, so that jobs, which the
    # daemon starts, inherit it.
    caps = "-all,+dac_read_search"
    prefix = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    return [*prefix, f"--bounding-set={caps}", f"--inh-caps={caps}", f"--ambient-caps={caps}"]


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _reserve() -> socket.socket:
    """Reserve a free port that daemons can listen on; nothing else gets it while this is open."""
    # Bind before SO_REUSEADDR is set, so that this fails for a port that another testbed has
    # reserved; afterwards it admits the daemons, which set the option too. A bound port is not
    # given to an outgoing connection either.
    reserved = socket.socket()
    reserved.bind(("", 0))
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return reserved
