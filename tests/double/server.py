"""The daemon, as server and MoM: places jobs on nodes, runs them locally, and ends them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from .commands import node_assigned, node_state
from .formats import exact_size, size_bytes, size_kb, write_time
from .state import CONSUMABLE, Data, State, finish, finished, job_number, meet, update_dependents

_SIZES = ("jobfs", "mem", "vmem")
_LACKING = "Insufficient amount of resource"


@dataclass
class Running:
    """Processes of a job."""

    shell: subprocess.Popen[bytes]
    started: float
    told: float | None = None  # time of SIGTERM
    over: str | None = None  # exceeded limit
    forced: bool = False
    cpu: dict[int, float] = field(default_factory=dict)
    mem: int = 0
    vmem: int = 0
    looked: float = 0.0

    def members(self) -> list[psutil.Process]:
        """Return the processes of its session, the shell first."""
        found = []
        for pid in psutil.pids():
            try:
                if os.getsid(pid) == self.shell.pid:
                    found.append(psutil.Process(pid))
            except (OSError, psutil.Error):
                continue
        return sorted((process for process in found if _alive(process)), key=lambda process: process.pid)

    def signal(self, number: int) -> None:
        for process in self.members():
            try:
                process.send_signal(number)
            except psutil.Error:
                continue

    def measure(self) -> int:
        """Update the usage, and return the current memory in KB."""
        now = vm = 0
        for process in self.members():
            try:
                memory, times = process.memory_info(), process.cpu_times()
            except psutil.Error:
                continue
            now, vm = now + memory.rss // 1024, vm + memory.vms // 1024
            self.cpu[process.pid] = times.user + times.system
        self.mem, self.vmem = max(self.mem, now), max(self.vmem, vm)
        return now


def _alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


class Daemon:
    """Background work of the server."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.running: dict[str, Running] = {}

    def tick(self) -> None:
        with self.state.changed() as data:
            now = time.time()
            for job_id in list(self.running):
                self._watch(data, data["jobs"][job_id], self.running[job_id], now)
            for job in list(data["jobs"].values()):
                if job["attrs"]["job_state"] == "E":
                    self._leave(data, job, now)
                elif job.get("lost"):
                    self._requeue(data, job, now)
            if not data["settings"]["down"]:
                self._schedule(data, now)

    # --- running jobs ---

    def _watch(self, data: Data, job: Data, running: Running, now: float) -> None:
        settings, attrs = data["settings"], job["attrs"]
        if set(job["assigned"]) & set(settings["nodes_down"]):
            running.signal(signal.SIGKILL)  # The node lost power and reports nothing.
            running.shell.wait()
            del self.running[job["id"]]
            job["lost"] = now
            return
        code = running.shell.poll()
        elapsed = now - running.started
        if code is None or running.told:
            self._limits(data, job, running, now)
        if elapsed > settings["update_delay"] and attrs["substate"] == 41:
            attrs.update(substate=42, session_id=running.shell.pid, jobdir=settings["home"], mtime=int(now))
            self._usage(job, running, 0)
        if attrs.get("comment", "").startswith("Job was sent"):
            self._comment_run(job)
        if code is None:
            return
        if running.told and not running.forced and running.members():
            return  # A process that ignores SIGTERM has some time left.
        running.signal(signal.SIGKILL)
        del self.running[job["id"]]
        status = {"walltime": -29, "mem": -27}.get(running.over or "", 256 - code if code < 0 else code)
        self._usage(job, running, int(elapsed))
        attrs.update(
            job_state="E", substate=50, Exit_status=265 if running.forced else status, obittime=int(now),
            mtime=int(now), jobdir=settings["home"], Stageout_status=1,
        )  # fmt: skip
        job["over"] = running.over

    def _comment_run(self, job: Data) -> None:
        attrs = job["attrs"]
        attrs["comment"] = attrs["comment"].replace("Job was sent for execution at", "Job run at", 1)

    def _limits(self, data: Data, job: Data, running: Running, now: float) -> None:
        """End jobs above a limit or to be deleted: SIGTERM, later SIGKILL."""
        settings, listed = data["settings"], job["attrs"]["Resource_List"]
        elapsed = int(now - running.started)
        if now - running.looked >= settings["look"]:
            running.looked = now
            used = running.measure()
            if job["attrs"]["substate"] == 42:
                self._usage(job, running, elapsed)
            limit = size_kb(listed["mem"]) if "mem" in listed else None
            if limit is not None and used > limit and running.told is None:
                self._exceed(job, running, now, f"mem {used}kb exceeded limit {limit}kb")
        limit = _seconds(listed["walltime"]) if "walltime" in listed else None
        if limit is not None and elapsed > limit and running.told is None:
            self._exceed(job, running, now, f"walltime {elapsed} exceeded limit {limit}")
        if job["delete"] and running.told is None:
            self._tell(running, now)
        if job["delete"] == "force":
            running.forced = True
            running.signal(signal.SIGKILL)
        elif running.told and now - running.told > settings["kill_delay"]:
            running.signal(signal.SIGKILL)

    def _exceed(self, job: Data, running: Running, now: float, text: str) -> None:
        with self._spooled(job, "Error_Path").open("a") as out:
            out.write(f"=>> PBS: job killed: {text}\n")
        running.over = text.split(maxsplit=1)[0]
        self._tell(running, now)

    def _tell(self, running: Running, now: float) -> None:
        running.told = now
        running.signal(signal.SIGTERM)

    def _usage(self, job: Data, running: Running, elapsed: int) -> None:
        ncpus = sum(int(node["ncpus"]) for node in job["assigned"].values())
        cpu = sum(running.cpu.values())
        job["attrs"]["resources_used"] = {
            "cpupercent": int(100 * cpu / elapsed) if elapsed else 0,
            "cput": write_time(int(cpu)),
            "mem": f"{running.mem}kb",
            "ncpus": ncpus,
            "vmem": f"{running.vmem}kb",
            "walltime": write_time(elapsed),
        }

    # --- the end of a job ---

    def _leave(self, data: Data, job: Data, now: float) -> None:
        """Deliver the files and move the job to the history, later if delivery fails."""
        settings, attrs = data["settings"], job["attrs"]
        if "stuck" not in job:
            self._append_usage(settings, job)
            shutil.rmtree(self._temporary(settings, job), ignore_errors=True)
            job["stuck"] = None if self._deliver(job) else now
            if job["stuck"]:
                attrs.update(substate=51, Stageout_status=0)
        if job["stuck"] and now - job["stuck"] < settings["undelivered_delay"]:
            return
        comment, status = attrs["comment"], attrs["Exit_status"]
        if job["delete"]:
            substate = 91
        elif job["over"]:
            comment, substate = f"{comment} and exceeded resource {job['over']}", 93
        else:
            comment, substate = f"{comment} and {'failed' if status else 'finished'}", 93 if status else 92
        attrs["comment"] = comment
        self._release(data, job)
        finish(job, int(now), substate)
        update_dependents(data, job, int(now))
        if job.get("erase"):
            del data["jobs"][job["id"]]

    def _release(self, data: Data, job: Data) -> None:
        for name in job.pop("assigned", {}):
            data["nodes"][name]["used"] = int(time.time())

    def _spooled(self, job: Data, kind: str) -> Path:
        """Return the path of a job's output or errors while it runs."""
        joined = {"oe": "Output_Path", "eo": "Error_Path"}.get(job["attrs"]["Join_Path"])
        return self.state.path("spool", f"{job['id']}.{'OU' if (joined or kind) == 'Output_Path' else 'ER'}")

    def _deliver(self, job: Data) -> bool:
        done = True
        for kind in ("Output_Path", "Error_Path"):
            spooled = self.state.path("spool", f"{job['id']}.{'OU' if kind == 'Output_Path' else 'ER'}")
            if not spooled.exists():
                continue
            target = job["attrs"][kind].partition(":")[2]
            if target.endswith("/"):
                target += spooled.name
            try:
                shutil.copyfile(spooled, target)
                Path(target).chmod(0o666 & ~int(str(job["attrs"].get("umask", 77)), 8))
                spooled.unlink()
            except OSError:
                shutil.move(spooled, self.state.path("undelivered", spooled.name))
                done = False
        return done

    def _append_usage(self, settings: Data, job: Data) -> None:
        """Append Gadi's usage block to the output."""
        spooled = self.state.path("spool", f"{job['id']}.OU")
        if not settings["gadi"] or not spooled.exists():
            return
        attrs, listed, used = job["attrs"], job["attrs"]["Resource_List"], job["attrs"]["resources_used"]
        rule = "=" * 86
        rows = [
            ("Job Id:", job["id"], "", ""),
            ("Project:", attrs["project"], "", ""),
            ("Exit Status:", str(attrs["Exit_status"]), "", ""),
            ("Service Units:", "0.00", "", ""),
            ("NCPUs Requested:", listed["ncpus"], "NCPUs Used:", str(used["ncpus"])),
            ("", "", "CPU Time Used:", used["cput"]),
            ("Memory Requested:", _human(listed.get("mem", "0b")), "Memory Used:", _human(used["mem"])),
            ("Walltime requested:", listed.get("walltime", ""), "Walltime Used:", used["walltime"]),
            ("JobFS requested:", _human(listed.get("jobfs", "0b")), "JobFS used:", "0B"),
        ]
        body = "".join(f"   {a:<19} {b:<20}{c:>18} {d}".rstrip() + "\n" for a, b, c, d in rows)
        heading = f"Resource Usage on {time.strftime('%Y-%m-%d %H:%M:%S')}:"
        with spooled.open("a") as out:
            out.write(f"\n{rule}\n{heading:>54}\n{body}{rule}\n")

    # --- nodes that are down ---

    def _requeue(self, data: Data, job: Data, now: float) -> None:
        """Give up a job on a node that was down for long, or has returned without it."""
        down = set(job["assigned"]) & set(data["settings"]["nodes_down"])
        if down and now - job["lost"] < data["settings"]["node_fail_requeue"]:
            return
        attrs = job["attrs"]
        del job["lost"]
        self._release(data, job)
        attrs.update(Exit_status=-20, obittime=int(now), mtime=int(now))
        for kind in ("OU", "ER"):
            self.state.path("spool", f"{job['id']}.{kind}").unlink(missing_ok=True)
        attrs.pop("resources_used", None)
        if attrs["Rerunable"] == "True" and not job["delete"]:
            for name in ("exec_host", "exec_vnode", "stime", "jobdir", "comment"):
                attrs.pop(name, None)
            attrs.update(job_state="Q", substate=10)
        else:
            finish(job, int(now), 91 if job["delete"] else 93)
            update_dependents(data, job, int(now))

    # --- queued jobs ---

    def _schedule(self, data: Data, now: float) -> None:
        waiting = [job for job in data["jobs"].values() if job["attrs"]["job_state"] == "Q"]
        for job in sorted(waiting, key=lambda job: job_number(job["id"])):
            reason = self._place(data, job, now)
            if reason and reason != job["attrs"].get("comment"):
                job["attrs"]["comment"] = reason

    def _place(self, data: Data, job: Data, now: float) -> str | None:
        """Start a job, or set the scheduler's comment with the reason."""
        queues = {queue.get("exec", name): queue for name, queue in data["queues"].items()}
        if not queues[job["attrs"]["queue"]].get("started", True):
            return "Not Running: Queue not started."
        chunks = [dict(chunk) for count, chunk in job["chunks"] for _ in range(count)]
        listed = job["attrs"]["Resource_List"]
        wanted = {name: listed[name] for name in CONSUMABLE if name in listed}
        total = {
            name: sum(_quantity(node["available"].get(name, 0)) for node in data["nodes"].values()) for name in wanted
        }
        if never := self._never(data, chunks, wanted, total, listed["place"]):
            return f"Can Never Run: {never}"
        free = {
            name: self._free(data, name)
            for name, node in data["nodes"].items()
            if node_state(name, node, data) == "free"
        }
        placed = self._now(chunks, wanted, total, free, listed["place"])
        if isinstance(placed, str):
            return f"Not Running: {placed}"
        self._start(data, job, chunks, placed, now)
        return None

    def _never(self, data: Data, chunks: list[Data], wanted: Data, total: Data, place: str) -> str | None:
        """Return the first shortage over all nodes together."""
        for name, value in wanted.items():
            if _quantity(value) > total[name]:
                there = _written(name, total[name])
                return f"{_LACKING}: {name} (R: {value} A: {there} T: {there})"
        nodes = data["nodes"]
        if strange := {chunk["host"] for chunk in chunks if "host" in chunk} - nodes.keys():
            return f"{_LACKING}: host ({min(strange)} != {','.join(nodes)})"
        return "Not enough total nodes available" if "scatter" in place and len(chunks) > len(nodes) else None

    def _now(self, chunks: list[Data], wanted: Data, total: Data, free: Data, place: str) -> list[str] | str:
        """Choose nodes, or return the shortage on free nodes."""
        hosts = {chunk["host"] for chunk in chunks if "host" in chunk}
        scatter = "scatter" in place
        if hosts and not hosts & free.keys():
            return f"{_LACKING}: host "
        if not free or (scatter and len(chunks) > len(free)):
            return "Not enough free nodes available"
        for name, value in wanted.items():
            there = sum(node.get(name, 0) for node in free.values())
            if _quantity(value) > there:
                return f"{_LACKING}: {name} (R: {value} A: {_written(name, there)} T: {_written(name, total[name])})"
        placed = self._fit(chunks, free, scatter=scatter, pack="pack" in place)
        return f"{_LACKING}: {placed} " if isinstance(placed, str) else placed

    def _free(self, data: Data, name: str) -> dict[str, int]:
        """Return the free resources of a node; sizes in bytes."""
        used = node_assigned(name, data)
        has = data["nodes"][name]["available"]
        factor = dict.fromkeys(_SIZES, 1024)
        return {r: _quantity(has[r]) - used.get(r, 0) * factor.get(r, 1) for r in CONSUMABLE if r in has}

    def _fit(self, chunks: list[Data], free: Data, *, scatter: bool, pack: bool) -> list[str] | str:
        """Choose a node for each chunk, or return the resource that is short."""
        left = {name: dict(node) for name, node in free.items()}
        placed: list[str] = []
        missing = "ncpus"
        for chunk in chunks:
            for name, node in left.items():
                if chunk.get("host", name) != name or (scatter and name in placed) or (pack and {*placed} - {name}):
                    continue
                lacking = [r for r in CONSUMABLE if r in chunk and _quantity(chunk[r]) > node.get(r, 0)]
                if not lacking:
                    placed.append(name)
                    for r in CONSUMABLE:
                        if r in chunk:
                            node[r] -= _quantity(chunk[r])
                    break
                missing = lacking[0]
            else:
                return missing
        return placed

    def _start(self, data: Data, job: Data, chunks: list[Data], placed: list[str], now: float) -> None:
        attrs = job["attrs"]
        hosts: list[str] = []
        vnodes: list[str] = []
        assigned: dict[str, dict[str, int]] = {}
        for chunk, name in zip(chunks, placed, strict=True):
            there = {r: _in_kb(r, chunk[r]) for r in chunk if r in CONSUMABLE}
            hosts.append(f"{name}/{self._slot(data, name, hosts)}{_times(int(chunk['ncpus']))}")
            words = [f"{r}={value}kb" if r in _SIZES else f"{r}={value}" for r, value in there.items()]
            vnodes.append(f"({name}:{':'.join(words)})")
            node = assigned.setdefault(name, {})
            for r, value in there.items():
                node[r] = node.get(r, 0) + value
        when = time.strftime("%a %b %d at %H:%M", time.localtime(now))
        attrs.update(
            job_state="R", substate=41, exec_host="+".join(hosts), exec_vnode="+".join(vnodes), stime=int(now),
            mtime=int(now), run_count=attrs.get("run_count", 0) + 1,
            comment=f"Job was sent for execution at {when} on {'+'.join(vnodes)}",
        )  # fmt: skip
        for name in ("obittime", "session_id", "Exit_status"):
            attrs.pop(name, None)
        job["assigned"] = assigned
        for child_id in job["depend"].get("before", []):
            if child_id in data["jobs"] and not finished(data["jobs"][child_id]):
                meet(data["jobs"][child_id], "after", job["id"], int(now))
        self.running[job["id"]] = Running(self._launch(data, job, chunks, placed), now)

    def _slot(self, data: Data, name: str, mine: list[str]) -> int:
        """Return the first index on a node that no other job has."""
        taken = set()
        hosts = [
            job["attrs"]["exec_host"].split("+") for job in data["jobs"].values() if name in job.get("assigned", {})
        ]
        for host in [host for there in hosts for host in there] + mine:
            node, _, slot = host.partition("/")
            if node == name:
                taken.add(int(slot.partition("*")[0]))
        return next(number for number in range(len(taken) + 1) if number not in taken)

    # --- processes ---

    def _temporary(self, settings: Data, job: Data) -> Path:
        return self.state.path("jobfs", job["id"]) if settings["gadi"] else self.state.path("tmp", f"pbs.{job['id']}")

    def _launch(self, data: Data, job: Data, chunks: list[Data], placed: list[str]) -> subprocess.Popen[bytes]:
        """Start a shell in its own session, which reads the script's name from stdin, as in PBS."""
        settings, attrs = data["settings"], job["attrs"]
        lines = [name for chunk, name in zip(chunks, placed, strict=True) for _ in range(int(chunk.get("mpiprocs", 1)))]
        self.state.path("aux", job["id"]).write_text("".join(f"{name}\n" for name in lines))
        self._temporary(settings, job).mkdir(parents=True, exist_ok=True, mode=0o700)
        script = self.state.path("scripts", f"{job['id']}.SC")
        shell = str(attrs.get("Shell_Path_List") or settings["shell"]).partition(",")[0].partition("@")[0]
        reader, writer = os.pipe()
        os.write(writer, f"{script}\n".encode())
        os.close(writer)
        umask = int(str(attrs.get("umask", 77)), 8)
        with self._open(job, "Output_Path") as out, self._open(job, "Error_Path") as err, os.fdopen(reader) as commands:
            what = {"stdin": commands, "stdout": out, "stderr": err, "env": self._environment(data, job, chunks)}
            try:
                return subprocess.Popen(
                    [Path(shell).name],
                    executable=shell,
                    cwd=settings["home"],
                    start_new_session=True,
                    umask=umask,
                    **what,
                )
            except OSError as error:
                text = f"pbs_mom, exec of {shell} failed with error: {error.strerror}\n"
                os.write(err.fileno(), text.encode())
                return subprocess.Popen(["/bin/sh", "-c", "exit 254"], start_new_session=True, **what)

    def _open(self, job: Data, kind: str):  # type: ignore[no-untyped-def]
        path = self._spooled(job, kind)
        path.touch(mode=0o600)
        return path.open("ab")

    def _environment(self, data: Data, job: Data, chunks: list[Data]) -> dict[str, str]:
        settings, attrs = data["settings"], job["attrs"]
        listed = attrs["Resource_List"]
        temporary = str(self._temporary(settings, job))
        first = chunks[0]
        found = {
            "PATH": settings["path"],
            **dict(part.partition("=")[::2] for part in job["variables"]),
            "ENVIRONMENT": "BATCH",
            "HOME": settings["home"],
            "LOGNAME": settings["user"],
            "NCPUS": str(first["ncpus"]),
            "OMP_NUM_THREADS": str(first.get("ompthreads", first["ncpus"])),
            "PBS_ENVIRONMENT": "PBS_BATCH",
            "PBS_JOBCOOKIE": f"{job_number(job['id']):032X}",
            "PBS_JOBDIR": settings["home"],
            "PBS_JOBID": job["id"],
            "PBS_JOBNAME": attrs["Job_Name"],
            "PBS_MOMPORT": "15003",
            "PBS_NODEFILE": str(self.state.path("aux", job["id"])),
            "PBS_NODENUM": "0",
            "PBS_QUEUE": attrs["queue"],
            "PBS_TASKNUM": "1",
            "SHELL": settings["shell"],
            "TMPDIR": temporary,
            "USER": settings["user"],
        }
        if settings["gadi"]:
            found |= {
                "PBS_JOBFS": temporary,
                "PBS_NCPUS": listed["ncpus"],
                "PBS_NGPUS": listed.get("ngpus", "0"),
                "PBS_VMEM": str(size_bytes(listed.get("mem", "0"))),
                "PBS_NCI_NCPUS_PER_NODE": str(settings["cores_per_node"]),
                "PBS_NCI_STORAGE": listed.get("storage", ""),
                "PROJECT": attrs["project"],
            }
        return found

    def kill_all(self) -> None:
        for running in self.running.values():
            running.signal(signal.SIGKILL)
            running.shell.wait()


def _seconds(text: str) -> int:
    hours, minutes, seconds = (int(part) for part in text.split(":"))
    return hours * 3600 + minutes * 60 + seconds


def _quantity(value: object) -> int:
    """Parse a number, or a size in bytes."""
    return size_bytes(str(value))


def _in_kb(name: str, value: str) -> int:
    return size_kb(value) if name in _SIZES else int(value)


def _written(name: str, value: int) -> str:
    return exact_size(value) if name in _SIZES else str(value)


def _times(ncpus: int) -> str:
    return f"*{ncpus}" if ncpus > 1 else ""


def _human(size: str) -> str:
    number = size_bytes(size)
    unit, shift = next(((u, s) for u, s in (("GB", 30), ("MB", 20), ("KB", 10)) if number >= 1 << s), ("B", 0))
    return f"{number / (1 << shift):.1f}{unit}" if shift else f"{number}B"


def main() -> None:
    """Run until stopped, or until the parent process ends."""
    state = State(Path(sys.argv[1]))
    daemon = Daemon(state)
    parent = os.getppid()
    stopped: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: stopped.append(number))
    try:
        state.path("ready").touch()
        poll = state.read()["settings"]["poll"]
        while not stopped and os.getppid() == parent:
            daemon.tick()
            time.sleep(poll)
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        daemon.kill_all()
