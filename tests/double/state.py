"""State of the fake server: one JSON file, read and written under a lock."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Data = dict[str, Any]

VERSION = "23.06.06"

# Attributes of a job in the server's order (master_job_attr_def.xml)
ORDER = (
    "Job_Name", "Job_Owner", "resources_used", "job_state", "queue", "server", "Account_Name", "Checkpoint", "ctime",
    "depend", "Error_Path", "exec_host", "exec_vnode", "group_list", "Hold_Types", "Join_Path", "Keep_Files",
    "Mail_Points", "Mail_Users", "mtime", "Output_Path", "Priority", "qtime", "Rerunable", "Resource_List", "stime",
    "obittime", "session_id", "Shell_Path_List", "sandbox", "jobdir", "substate", "Variable_List", "comment", "etime",
    "umask", "block", "run_count", "Stageout_status", "Exit_status", "Submit_arguments", "history_timestamp", "project",
    "Submit_Host",
)  # fmt: skip
TIMES = {"ctime", "mtime", "qtime", "stime", "obittime", "etime"}

# Resources consumed on nodes; all others only describe nodes.
CONSUMABLE = ("jobfs", "mem", "ncpus", "ngpus", "vmem")


class State:
    """The state directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._file = directory / "state.json"

    @classmethod
    def named(cls) -> State:
        """Return the state directory named by PBS_DOUBLE."""
        return cls(Path(os.environ["PBS_DOUBLE"]))

    def path(self, *parts: str) -> Path:
        return self.directory.joinpath(*parts)

    def read(self) -> Data:
        """Return a copy of the state; changes to it are lost."""
        return json.loads(self._file.read_bytes())  # type: ignore[no-any-return]

    def create(self, data: Data) -> None:
        for name in ("bin", "scripts", "spool", "aux", "tmp", "undelivered"):
            self.path(name).mkdir(parents=True, exist_ok=True)
        self.path("lock").touch()
        self._write(data)

    @contextmanager
    def changed(self) -> Iterator[Data]:
        """Yield the state to be changed; an exception discards the changes."""
        with self.path("lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            data = self.read()
            before = json.dumps(data)
            yield data
            if json.dumps(data) != before:
                self._write(data)

    def _write(self, data: Data) -> None:
        new = self.path("state.json.new")
        new.write_text(json.dumps(data))
        new.replace(self._file)


def job_number(job_id: str) -> int:
    return int(job_id.partition(".")[0])


def finished(job: Data) -> bool:
    return bool(job["attrs"]["job_state"] == "F")


def finish(job: Data, now: int, substate: int) -> None:
    """Move a job to the history."""
    attrs = job["attrs"]
    attrs.update(job_state="F", substate=substate, mtime=now, history_timestamp=now)


def depend_attribute(job: Data) -> str:
    """Render a job's dependencies as the server does."""
    server = job["attrs"]["server"]
    parts = [kind + "".join(f":{other}@{server}" for other in ids) for kind, ids in job["depend"].items() if ids]
    return ",".join(parts)


def end_by_dependency(data: Data, job: Data, now: int) -> None:
    """End a job with a dependency that cannot be met."""
    finish(job, now, 92)
    update_dependents(data, job, now)


def update_dependents(data: Data, parent: Data, now: int) -> None:
    """Release or end the jobs that depend on an ended job."""
    code = parent["attrs"].get("Exit_status")
    met = {"beforeok": code == 0, "beforenotok": code not in (0, None), "beforeany": True, "before": True}
    for kind, children in parent["depend"].items():
        if not kind.startswith("before"):
            continue
        for child_id in children:
            child = data["jobs"].get(child_id)
            if child is None or finished(child):
                continue
            if met[kind]:
                meet(child, "after" + kind.removeprefix("before"), parent["id"], now)
            else:
                end_by_dependency(data, child, now)


def meet(child: Data, kind: str, parent_id: str, now: int) -> None:
    """Remove a fulfilled dependency, and release the job after the last."""
    waits = child["depend"].get(kind, [])
    if parent_id in waits:
        waits.remove(parent_id)
    child["attrs"]["depend"] = depend_attribute(child)
    if any(ids for kind, ids in child["depend"].items() if kind.startswith("after")):
        return
    attrs = child["attrs"]
    holds = attrs["Hold_Types"].replace("s", "") or "n"
    attrs.update(Hold_Types=holds, mtime=now)
    if holds == "n":
        attrs.update(job_state="Q", substate=10, etime=now)
    else:
        attrs["substate"] = 20
