"""Run an OpenPBS with two nodes on this machine, each host in its own Linux namespaces.

There are no containers. Each host has its own root file system (an overlay on this machine's, so
nothing here is changed), its own network and its own name. The hosts share this machine's processes
and one directory, which holds the users' homes. The configuration is that of the containers in
docker/pbs.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Self

import psutil
from tests.cluster.keeper import Keeper, wait_for
from tests.conftest import ROOT

EXEC = Path("/opt/pbs")
NODES = ("node1", "node2")
HOSTS = {"login": "10.213.77.10", "node1": "10.213.77.11", "node2": "10.213.77.12"}
# Ordinary users of the testbed that exist on its hosts only; the first one runs the tests.
USERS = {"hpcuser": 61077, "other": 61078}
TOOLS = ("unshare", "nsenter", "setpriv", "ip", "pivot_root", "mount")
# How often the start is attempted.
_TRIES = 4
SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"

# Run in new namespaces: make a root file system, enter it, and stay. $1 is the testbed's directory,
# $2 the host's name, the rest are paths that are shared with this machine.
_HOST = """
set -euo pipefail
shared=$1 name=$2
shift 2
own=$shared/hosts/$name root=$shared/hosts/$name/root
hostname "$name"
mount -t overlay overlay -o "lowerdir=/,upperdir=$own/upper,workdir=$own/work" "$root"
for path in "$shared" "$@"; do
    mkdir -p "$root$path"
    mount --rbind "$path" "$root$path"
    # a closed directory above it, such as root's home, may be passed through here
    while [ "$path" != / ]; do path=$(dirname "$path"); chmod a+x "$root$path"; done
done
for path in /proc /sys /dev; do mount --rbind "$path" "$root$path"; done
mount --bind "$own/tmp" "$root/tmp"
cp -r "$own/etc/." "$root/etc/"
cd "$root"
mkdir -p .outside
pivot_root . .outside
umount -l /.outside
cd /
mkfifo "$own/start"
echo $$ > "$own/pid"
# Daemons are started from here, so that they are the keeper's: a line in the FIFO starts them.
while read -r _ < "$own/start"; do
    status=0
    "$PBS" start > "$own/started.log" 2>&1 || status=$?
    echo $status > "$own/started"
done
"""


def missing() -> str | None:
    """Return why no OpenPBS can be started here and how to fix it, or None."""
    if not (EXEC / "sbin" / "pbs_server.bin").exists():
        return f"no OpenPBS: there is none in {EXEC}; HPCML_TEST_OPENPBS names one elsewhere"
    if os.geteuid() != 0:
        return "no OpenPBS: only root may start one in namespaces; HPCML_TEST_OPENPBS names one elsewhere"
    lacking = [name for name in TOOLS if shutil.which(name, path=SYSTEM_PATH) is None]
    if not _database():
        lacking.append("PostgreSQL")
    lacking += sorted(set(re.findall(r"^\s*(\S+) => not found", _libraries(), re.MULTILINE)))
    if lacking:
        return f"no OpenPBS: this machine lacks {', '.join(lacking)}; .ci/openpbs installs them on Debian"
    tried = subprocess.run(
        ["unshare", "--mount", "--uts", "--net", "true"], capture_output=True, text=True, check=False
    )
    return None if tried.returncode == 0 else f"no OpenPBS: namespaces cannot be made: {tried.stderr.strip()}"


def _database() -> str | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return str(found[-1].parent) if found else None


def _libraries() -> str:
    binaries = [str(EXEC / path) for path in ("sbin/pbs_server.bin", "sbin/pbs_mom", "sbin/pbs_sched", "bin/qstat")]
    return subprocess.run(["ldd", *binaries], capture_output=True, text=True, check=False).stdout


def _lives(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


class DatabaseError(Exception):
    """Raised if PBS's database does not start in time; the started daemons are stopped."""


class Elsewhere:
    """An OpenPBS that ``HPCML_TEST_OPENPBS`` names, configured as in docker/pbs.

    Parameters
    ----------
    prefix : str
        A command that runs a line of shell as an ordinary user on a host that has hpcml and shares
        this machine's files.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = shlex.split(prefix)
        self.home = Path(self.run("echo -n $HOME").stdout.decode())
        assert self.run("id -u").stdout != b"0\n", "jobs must be an ordinary user's"

    def command(self, line: str) -> list[str]:
        """Return a command that runs a line of shell as the ordinary user."""
        return [*self._prefix, f"cd && {line}"]

    def run(
        self, line: str, *, stdin: bytes = b"", timeout: float = 300, check: bool = True
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a line of shell as the ordinary user, in the user's home."""
        done = subprocess.run(self.command(line), input=stdin, capture_output=True, timeout=timeout, check=False)
        assert done.returncode == 0 or not check, f"{line} gave {done.returncode}: {done.stdout!r} {done.stderr!r}"
        return done

    def make_directory(self, prefix: str = "") -> Path:
        """Make a new directory in the user's home."""
        return Path(self.run(f"mktemp -d ~/{prefix}XXXXXX").stdout.decode().strip())

    def jobs(self) -> list[str]:
        """Return the ids of all jobs in the queue."""
        return self.run("qselect").stdout.decode().split()

    def logs(self) -> str:
        return ""


class OpenPbs:
    """An OpenPBS server on the host login, and two nodes of 4 cores and 6 GB each.

    Attributes
    ----------
    directory : Path
        Shared by all hosts and this machine, under the same path; removed by :meth:`stop`.
    user : str
        The ordinary user that runs commands.
    home : Path
        That user's home directory.
    """

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="openpbs-", dir="/var/tmp"))
        self.user = next(iter(USERS))
        self.home = self.home_of(self.user)
        self._keepers: dict[str, Keeper] = {}

    def __enter__(self) -> Self:
        for _ in range(_TRIES):
            try:
                self.start()
            except DatabaseError:
                # On a busy machine, PBS's own script does not wait long enough for the database.
                continue
            return self
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def home_of(self, user: str) -> Path:
        return self.directory / "home" / user

    def start(self) -> None:
        """Start the hosts and their daemons; return when both nodes are free."""
        try:
            self.directory.mkdir(exist_ok=True)
            self._write_files()
            for host in HOSTS:
                self._start_host(host)
            wait_for(lambda: all(self._file(host, "pid").exists() for host in HOSTS), "namespaces")
            self._connect()
            prepared = [self._popen(host, f"{EXEC}/libexec/pbs_postinstall") for host in HOSTS]
            for process in prepared:
                output, _ = process.communicate(timeout=300)
                assert process.returncode == 0, output
            for host in HOSTS:
                self._configure_daemons(host)
            self.start_daemons("login")
            self.on("login", f"{EXEC}/bin/qmgr < /etc/hpcml/configuration.qmgr")
            for node in NODES:
                self.start_daemons(node)
            wait_for(lambda: set(self.nodes().values()) == {"free"}, "free nodes")
            self._assert_ordinary()
        except BaseException:
            print(self.logs(), file=sys.stderr)
            self.stop()
            raise

    def stop(self) -> None:
        """Kill all processes of the hosts, which ends the namespaces, and remove the directory."""
        ours = [*self._inside(), *(process for keeper in self._keepers.values() for process in keeper.processes())]
        for keeper in self._keepers.values():
            keeper.terminate()
        for process in self._inside():  # for example of a head that a test has killed
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        for keeper in self._keepers.values():
            keeper.wait(30)
        self._keepers.clear()
        shutil.rmtree(self.directory, ignore_errors=True)
        wait_for(lambda: not any(_lives(process) for process in ours), f"the end of {ours}")

    def command(self, line: str, user: str | None = None, host: str = "login") -> list[str]:
        """Return a command that runs a line of shell as an ordinary user and passes signals on.

        Parameters
        ----------
        line : str
            End it in ``exec COMMAND``, or the signal goes to the shell.
        user : str or None
            None: :attr:`user`.
        """
        user = user or self.user
        environment = {
            "HOME": str(self.home_of(user)),
            "USER": user,
            "LOGNAME": user,
            "SHELL": "/bin/bash",
            "LANG": "C.UTF-8",
            "PATH": f"{EXEC}/bin:{SYSTEM_PATH}:{Path(sys.executable).parent}",
        }
        drop = ["setpriv", f"--reuid={USERS[user]}", f"--regid={USERS[user]}", "--init-groups"]
        variables = ["env", "-i", *(f"{name}={value}" for name, value in environment.items())]
        return [*self._enter(host), *drop, *variables, "bash", "-c", f"cd && {line}"]

    def run(
        self, line: str, *, stdin: bytes = b"", user: str | None = None, timeout: float = 300, check: bool = True
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a line of shell as an ordinary user on login, in the user's home."""
        done = subprocess.run(self.command(line, user), input=stdin, capture_output=True, timeout=timeout, check=False)
        assert done.returncode == 0 or not check, f"{line} gave {done.returncode}: {done.stdout!r} {done.stderr!r}"
        return done

    def on(self, host: str, line: str, *, check: bool = True, timeout: float = 300) -> str:
        """Run a line of shell as root on a host and return its output."""
        process = self._popen(host, line)
        output, _ = process.communicate(timeout=timeout)
        assert process.returncode == 0 or not check, f"{line} on {host} gave {process.returncode}: {output}"
        return output

    def make_directory(self, prefix: str = "", user: str | None = None) -> Path:
        """Make a new directory in the user's home, owned by the user."""
        user = user or self.user
        made = Path(tempfile.mkdtemp(prefix=prefix, dir=self.home_of(user)))
        os.chown(made, USERS[user], USERS[user])
        return made

    def jobs(self) -> list[str]:
        """Return the ids of all jobs in the queue."""
        return self.on("login", f"{EXEC}/bin/qselect").split()

    def nodes(self) -> dict[str, str]:
        """Return the state of each node; empty while the server does not answer."""
        shown = self.on("login", f"{EXEC}/bin/pbsnodes -a", check=False)
        return dict(re.findall(r"^(\S+)\n(?:     .*\n)*?     state = (.+)$", shown, re.MULTILINE))

    def start_daemons(self, host: str) -> None:
        """Start the PBS daemons of a host, as its init would."""
        started = self._file(host, "started")
        started.unlink(missing_ok=True)
        self._file(host, "start").write_text("\n")
        wait_for(lambda: started.exists() and started.read_text(), f"the daemons of {host}")
        said = self._file(host, "started.log").read_text(errors="replace")
        if "the database system is starting up" in said:
            raise DatabaseError(said)
        assert started.read_text() == "0\n", said

    def stop_daemons(self, host: str) -> None:
        """Stop the PBS daemons of a host, as its init would; jobs keep running."""
        self.on(host, f"{EXEC}/libexec/pbs_init.d stop")

    def cut(self, node: str) -> None:
        """Disconnect a node from the network; its jobs keep running."""
        self.on("login", f"ip link set {node} down")

    def mend(self, node: str) -> None:
        """Reconnect a node to the network."""
        self.on("login", f"ip link set {node} up")

    def logs(self, lines: int = 30) -> str:
        """Return the last lines of all daemons' logs."""
        tails = []
        for path in sorted(self.directory.glob("hosts/*/upper/var/spool/pbs/*_logs/2*")):
            tail = path.read_text(errors="replace").splitlines()[-lines:]
            tails.append("\n".join([f"--- {path}", *tail]))
        tails += [f"--- {path}\n{path.read_text(errors='replace')}" for path in self.directory.glob("hosts/*/host.log")]
        return "\n".join(tails)

    # --- creating the hosts ---

    def _inside(self) -> list[psutil.Process]:
        """Return the processes in the hosts' namespaces, whichever process started them."""
        files = [self._file(host, "pid") for host in HOSTS]
        spaces = {_mount_namespace(file.read_text().strip()) for file in files if file.exists()} - {None}
        return [process for process in psutil.process_iter() if _mount_namespace(process.pid) in spaces]

    def _file(self, host: str, *parts: str) -> Path:
        return self.directory.joinpath("hosts", host, *parts)

    def _write_files(self) -> None:
        self.directory.chmod(0o755)
        passwd, group = Path("/etc/passwd").read_text(), Path("/etc/group").read_text()
        for user, uid in USERS.items():
            home = self.home_of(user)
            home.mkdir(parents=True, mode=0o755)
            os.chown(home, uid, uid)
            passwd += f"{user}:x:{uid}:{uid}::{home}:/bin/bash\n"
            group += f"{user}:x:{uid}:\n"
        hosts = "127.0.0.1 localhost\n" + "".join(f"{address} {name}\n" for name, address in HOSTS.items())
        for host in HOSTS:
            for name in ("upper", "work", "root", "tmp", "etc/hpcml"):
                self._file(host, name).mkdir(parents=True)
            self._file(host, "tmp").chmod(0o1777)
            etc = {"passwd": passwd, "group": group, "hosts": hosts, "pbs.conf": _pbs_conf(host)}
            for name, text in etc.items():
                self._file(host, "etc", name).write_text(text)
            for name in ("configuration.qmgr", "project.py"):
                shutil.copyfile(ROOT / "docker" / "pbs" / name, self._file(host, "etc/hpcml", name))

    def _start_host(self, host: str) -> None:
        needed = dict.fromkeys([ROOT, Path(sys.prefix), Path(sys.base_prefix).resolve(), EXEC])
        self._keepers[host] = Keeper(
            ["unshare", "--mount", "--uts", "--net", "--propagation", "private",
             "bash", "-c", _HOST, "host", str(self.directory), host, *map(str, needed)],
            log=self._file(host, "host.log"),
            env={"PATH": f"{_database()}:{SYSTEM_PATH}", "PBS": str(EXEC / "libexec" / "pbs_init.d")},
        )  # fmt: skip

    def _connect(self) -> None:
        """Connect the hosts by a bridge in the network of login, invisible to this machine."""
        self.on("login", "ip link set lo up; ip link add bridge type bridge; ip link set bridge up")
        self.on("login", f"ip address add {HOSTS['login']}/24 dev bridge")
        for node in NODES:
            pid = self._file(node, "pid").read_text().strip()
            self.on(
                "login",
                f"ip link add {node} type veth peer name eth0 netns {pid} && ip link set {node} master bridge up",
            )
            self.on(node, f"ip link set lo up; ip address add {HOSTS[node]}/24 dev eth0; ip link set eth0 up")

    def _configure_daemons(self, host: str) -> None:
        spool = "/var/spool/pbs"
        lines = ["$clienthost login", f"$usecp *:{self.directory} {self.directory}", "$enforce mem"]
        # By default MoM polls for ended jobs every 10 seconds or less often.
        lines += ["$min_check_poll 1", "$max_check_poll 2"]
        self.on(host, f"printf '%s\\n' {shlex.join(lines)} > {spool}/mom_priv/config")
        # The same change as in docker/pbs/install-system.
        edit = 's/^resources: "\\(.*\\)"/resources: "\\1, jobfs, ngpus"/'
        self.on(host, f"sed -i {shlex.quote(edit)} {spool}/sched_priv/sched_config")
        self.on(host, f"chmod 4755 {EXEC}/sbin/pbs_iff {EXEC}/sbin/pbs_rcp")

    def _enter(self, host: str) -> list[str]:
        pid = self._file(host, "pid").read_text().strip()
        return ["nsenter", "--target", pid, "--mount", "--uts", "--net", "--"]

    def _popen(self, host: str, line: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self._enter(host), "env", "-i", f"PATH={SYSTEM_PATH}", "HOME=/root", "bash", "-c", line],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def _assert_ordinary(self) -> None:
        assert self.run("id -u").stdout == f"{USERS[self.user]}\n".encode()
        probe = shlex.join([sys.executable, "-c", "import hpcml; open('/etc/hpcml-probe', 'w')"])
        done = self.run(probe, check=False)
        assert b"PermissionError" in done.stderr, f"the testbed's user can write everywhere, or not run Python: {done}"


def _mount_namespace(pid: int | str) -> str | None:
    with contextlib.suppress(OSError):
        return str(Path(f"/proc/{pid}/ns/mnt").readlink())
    return None


def _pbs_conf(host: str) -> str:
    starts = dict.fromkeys(("SERVER", "SCHED", "COMM"), 1 if host == "login" else 0)
    starts["MOM"] = 0 if host == "login" else 1
    values = {"PBS_SERVER": "login", "PBS_EXEC": EXEC, "PBS_HOME": "/var/spool/pbs"}
    values |= {f"PBS_START_{daemon}": start for daemon, start in starts.items()}
    return "".join(f"{name}={value}\n" for name, value in values.items())
