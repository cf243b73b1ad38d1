"""The commands qsub, qstat, qdel and pbsnodes. Each call is a short process, as in OpenPBS."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from types import FrameType
from typing import Any, NoReturn

from . import qsub
from .formats import HEADER, attributes, envelope, job_json, job_row, job_text
from .state import VERSION, Data, State, finish, finished

_QSTAT_USAGE = """\
usage: 
qstat [-f] [-J] [-p] [-t] [-x] [-E] [-F format | -w] [-D delim] [ job_identifier... | destination... ]
qstat [-a|-i|-r|-H|-T] [-J] [-t] [-u user] [-n] [-s] [-G|-M] [-1] [-w]
	[ job_identifier... | destination... ]
qstat -Q [-f] [-F format] [-D delim] [ destination... ]
qstat -q [-G|-M] [ destination... ]
qstat -B [-f] [-F format] [-D delim] [ server_name... ]
qstat --version
"""  # noqa: W291  (the space is PBS's)
_QDEL_USAGE = """\
usage:
	qdel [-W force|suppress_email=X] [-x] job_identifier...
	qdel --version
"""
_PBSNODES_USAGE = """\
usage:	pbsnodes [-{o|r}][-C comment][-s server] host host ...
	pbsnodes -l [-s server]
	pbsnodes [-s server] -v vnode vnode ...
	pbsnodes -a[v][S[j][L]][-F format][-D delim][-s server]
	pbsnodes -[H][S[j][L]][-F format][-D delim] host host ...
	pbsnodes --version

"""
_UNKNOWN, _FINISHED, _BAD_STATE, _DOWN, _NO_HOST = 153, 35, 170, 162, 160
_HISTORY = "use -x or -H to obtain historical job information"


def main() -> NoReturn:
    """Run the command named by the first argument."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]
    name, *words = sys.argv[1:]
    state = State.named()
    data = state.read()
    time.sleep(data["settings"]["slow"].get(name, 0))
    if words == ["--version"]:
        sys.stdout.write(f"pbs_version = {VERSION}\n")
        raise SystemExit(0)
    data = state.read() if data["settings"]["slow"] else data
    code = {"qsub": _qsub, "qstat": _qstat, "qdel": _qdel, "pbsnodes": _pbsnodes}[name](state, data, words)
    sys.stdout.flush()
    raise SystemExit(code & 255)


def _now() -> int:
    return int(time.time())


def _no_server(data: Data, program: str, server: str = "") -> tuple[int, int] | None:
    """Print that the server is unreachable, with PBS's error number and exit code."""
    ours = data["settings"]["server"]
    asked = server or os.environ.get("PBS_SERVER", "") or ours
    if asked.partition(":")[0] not in (ours, data["settings"]["host"]):
        sys.stderr.write("Unknown Host.\n")
        error, code, named = 15008, _NO_HOST, os.environ.get("PBS_SERVER", "") or ours
    elif data["settings"]["down"]:
        sys.stderr.write("Connection refused\n")
        error, code, named = 15010, _DOWN, asked
    else:
        return None
    if program == "qdel":
        sys.stderr.write(f"Couldn't connect to cluster: {asked}\n")
    elif program == "pbsnodes":
        sys.stderr.write(f"pbsnodes: cannot connect to server {named}, error={error}\n")
    else:
        sys.stderr.write(f"{program}: cannot connect to server {named} (errno={error})\n")
    return error, code


def _not_done(program: str, what: str) -> int:
    sys.stderr.write(f"{program}: the PBS double does not know {what}; see tests/double/commands.py\n")
    return qsub.NOT_DONE


# --- qsub ---


def _qsub(state: State, data: Data, words: list[str]) -> int:
    try:
        request, script = _requested(words)
        destination = request.queue
        if not re.fullmatch(r"\s*[\w.-]*(@[\w.-]+(:\d+)?)?", destination, re.ASCII):
            raise qsub.RefusedError(2, f"qsub: illegally formed destination: {destination}\n")
        if failed := _no_server(data, "qsub", destination.partition("@")[2]):
            return failed[1]
        directory = qsub.working_directory()
        variables = qsub.job_variables(request, directory)
        qsub.verify(request, data, directory)
        with state.changed() as changed:
            try:
                job, refusal = qsub.enter(changed, request, variables, directory, _now()), None
            except qsub.RefusedError as error:
                refusal = error  # The number that it used is lost.
            else:
                spooled = state.path("scripts", f"{job['id']}.SC")
                if script:  # An empty script never reaches the node and is then missing there.
                    spooled.write_bytes(script)
                    spooled.chmod(0o700)
        if refusal:
            raise refusal
    except qsub.RefusedError as error:
        sys.stderr.write(error.text)
        return error.code
    if not request.quiet:
        sys.stdout.write(f"{job['id']}\n")
        sys.stdout.flush()
    return _block(state, job["id"]) if request.block else 0


def _requested(words: list[str]) -> tuple[qsub.Request, bytes]:
    request = qsub.Request(words)
    options, operands, errors, late = qsub.getopt(words, qsub.SPEC, "qsub")
    errors += request.process(options, qsub.CMDLINE)
    if "--" in operands and len(operands) > 1:
        raise qsub.not_done("a command after --")
    if errors or late or len(operands) > 1 or "--" in operands:
        raise qsub.RefusedError(2, usage=True)
    return request, qsub.read_script(request, operands)


def _block(state: State, job_id: str) -> int:
    """Wait for the end of a job, as -W block=true does."""

    def interrupted(number: int, _: FrameType | None) -> None:
        sys.stderr.write(f"qsub: wait for job {job_id} interrupted by signal {number}\n")
        sys.stdout.write(f"Job {job_id} is being deleted\n")
        sys.stdout.flush()
        with state.changed() as data:
            _delete(data, data["jobs"][job_id], force=False)
        os._exit(2)

    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(number, interrupted)
    while state.path("ready").exists():
        time.sleep(0.05)
        data = state.read()
        job = data["jobs"].get(job_id)
        if job is None or job["delete"]:
            owner = f"{data['settings']['user']}@{data['settings']['host']}"
            sys.stderr.write(f"qsub: {job_id} Job to be deleted at request of {owner}\n")
            return 3
        if finished(job):
            return int(job["attrs"].get("Exit_status", 0))
    return 3


# --- qstat ---


def _qstat(state: State, data: Data, words: list[str]) -> int:
    options, operands, errors, _ = qsub.getopt(words, "ainpqrstwxu:fGHJMQEBW:T1F:D:", "qstat")
    chosen = dict(options)
    style = chosen.get("F", "default").lower()
    full, history = "f" in chosen, "x" in chosen
    if errors or style not in ("default", "dsv", "json") or (style != "default" and not full):
        if not errors and style in ("dsv", "json"):
            sys.stderr.write("qstat: conflicting options.\n")
        sys.stderr.write(_QSTAT_USAGE)
        return 2
    if chosen.keys() - set("fxFt") or style == "dsv":
        return _not_done("qstat", " ".join(words))
    printer = _Printer(full, style == "json")
    code = 0
    for operand in operands or [""]:
        code = _show(data, operand, history, printer) or code
    _print(data, printer.end(data))
    return code


class _Printer:
    """Prints jobs for the operands of qstat, in order."""

    def __init__(self, full: bool, as_json: bool) -> None:
        self.full, self.as_json = full, as_json
        self._out = ""
        self._jobs: dict[str, Any] | None = None
        self._asked = False

    def show(self, jobs: list[Data]) -> None:
        if self.as_json:
            if jobs and self._jobs is None:  # PBS prints only the first that it finds.
                self._jobs = {job["id"]: job_json(attributes(job)) for job in jobs}
        elif self.full:
            self._out += "".join(job_text(job["id"], attributes(job)) for job in jobs)
        elif jobs:
            # The header is printed with the first operand, or never.
            self._out += ("" if self._asked else HEADER) + "".join(job_row(job["id"], job) for job in jobs)
        self._asked = True

    def end(self, data: Data) -> str:
        if not self.as_json:
            return self._out
        jobs = {} if self._jobs is None else {"Jobs": self._jobs}
        return envelope(data["settings"]["server"], _now(), VERSION, **jobs)


def _show(data: Data, operand: str, history: bool, printer: _Printer) -> int:
    """Print one operand, a job, a queue or all jobs, and return the exit code."""
    server = data["settings"]["server"]
    job_id, at = operand, ""
    if operand[:1].isdigit():
        named = _job_id(data, operand)
        if named is None:
            sys.stderr.write(f"qstat: illegally formed job identifier: {operand}\n")
            return 1
        job_id, at = named
    if _no_server(data, "qstat", at):
        return 255
    everything = sorted(data["jobs"].values(), key=lambda job: int(job["id"].partition(".")[0]))
    if not operand[:1].isdigit():
        queue = operand.partition("@")[0]
        if queue and queue not in {q.get("exec", name) for name, q in data["queues"].items()} | data["queues"].keys():
            sys.stderr.write(f"qstat: Unknown queue destination {queue}\n")
            return _BAD_STATE
        wanted = [job for job in everything if queue in ("", job["attrs"]["queue"])]
        printer.show([job for job in wanted if history or not finished(job)])
        return 0
    job = data["jobs"].get(job_id)
    if job is None:
        sys.stderr.write(f"qstat: Unknown Job Id {job_id}\n")
        printer.show([])
        return _UNKNOWN
    if finished(job) and not history:
        sys.stderr.write(f"qstat: {job['id']} Job has finished, {_HISTORY}\n")
        printer.show([])
        return _FINISHED
    assert job["id"].endswith(server)
    printer.show([job])
    return 0


def _job_id(data: Data, text: str) -> tuple[str, str] | None:
    """Return the full job id and its server; None if the text is not a job id."""
    match = re.fullmatch(r"(\d+)(\.[\w.-]+)?(@[\w.-]+)?", text, re.ASCII)
    server = data["settings"]["server"]
    if match is None or (match[2] or f".{server}")[1:] not in (server, data["settings"]["host"]):
        return None
    return f"{match[1]}.{server}", (match[3] or "@")[1:]


def _print(data: Data, text: str) -> None:
    """Print output, corrupted as the test requests."""
    spoilt = text.encode(errors="surrogateescape")
    if data["settings"]["garble"] == "cut":
        spoilt = spoilt[: len(spoilt) // 2]
    elif data["settings"]["garble"] == "latin1":
        spoilt = spoilt.replace(b'"PBS_O_SYSTEM":\t"Linux"', b'"PBS_O_SYSTEM":\t"Linux",\n\t\t\t\t"A":\t"\xe9t\xe9"')
        spoilt = spoilt.replace(b"PBS_O_SYSTEM=Linux", b"PBS_O_SYSTEM=Linux,A=\xe9t\xe9")
    sys.stdout.flush()
    sys.stdout.buffer.write(spoilt)
    sys.stdout.buffer.flush()


# --- qdel ---


def _qdel(state: State, data: Data, words: list[str]) -> int:
    options, operands, errors, _ = qsub.getopt(words, "W:x", "qdel")
    chosen = dict(options)
    delay = chosen.get("W", "0")
    if delay != "force" and not delay.startswith("suppress_email=") and not re.fullmatch(r"\d+", delay, re.ASCII):
        sys.stderr.write("qdel: illegal -W value\n")
        errors += 1
    if errors or not operands:
        sys.stderr.write(_QDEL_USAGE)
        return 2
    code = 0
    by_server: dict[str, list[str]] = {}
    for operand in operands:
        named = _job_id(data, operand) if operand[:1].isdigit() else None
        if named is None:
            sys.stderr.write(f"qdel: illegally formed job identifier: {operand}\n")
            code = 1
        else:
            by_server.setdefault(named[1], []).append(named[0])
    for server, ids in by_server.items():
        if failed := _no_server(data, "qdel", server):
            code = failed[1]
            continue
        with state.changed() as changed:
            code = _delete_all(changed, ids, force=delay == "force", erase="x" in chosen) or code
    return code


def _delete_all(data: Data, ids: list[str], *, force: bool, erase: bool) -> int:
    # If the server knows none of the ids, it rejects the whole list with the first.
    known = [job_id for job_id in ids if job_id in data["jobs"]]
    code = 0
    for job_id in ids if known else ids[:1]:
        job = data["jobs"].get(job_id)
        if job is None:
            sys.stderr.write(f"qdel: Unknown Job Id {job_id}\n")
            code = _UNKNOWN
        elif finished(job):
            if erase:
                del data["jobs"][job_id]
            else:
                sys.stderr.write(f"qdel: Job has finished {job_id}\n")
                code = _FINISHED
        elif job["attrs"]["job_state"] == "E" and not force:
            sys.stderr.write(f"qdel: Request invalid for state of job {job_id}\n")
            code = _BAD_STATE
        else:
            _delete(data, job, force=force)
            if erase:
                job["erase"] = True
                if finished(job):
                    del data["jobs"][job_id]
    return code


def _delete(data: Data, job: Data, *, force: bool) -> None:
    """Delete a job; the daemon ends it if it runs."""
    attrs, now = job["attrs"], _now()
    if attrs["job_state"] in "RE":
        if not job["delete"]:
            owner = f"{data['settings']['user']}@{data['settings']['host']}"
            attrs["comment"] = f"{attrs['comment']} and terminated by {owner}"
        job["delete"] = "force" if force else job["delete"] or "term"
        return
    if attrs.get("comment"):
        attrs["comment"] += " and terminated"
    job["delete"] = "term"
    finish(job, now, 91)  # Jobs that depend on it stay held, as in OpenPBS.


# --- pbsnodes ---


def _pbsnodes(state: State, data: Data, words: list[str]) -> int:
    options, operands, errors, _ = qsub.getopt(words, "ac:C:dD:F:HjlLoOrRs:Sqv", "pbsnodes")
    chosen = dict(options)
    if errors or not (chosen or operands):
        sys.stderr.write(_PBSNODES_USAGE)
        return 1
    if _no_server(data, "pbsnodes"):
        return 1
    for name in operands:
        if name not in data["nodes"]:
            sys.stderr.write(f"Node: {name},  Error: Unknown node \n")
            return 1
    if chosen.keys() - {"a", "F"} or chosen.get("F") != "json":
        return _not_done("pbsnodes", " ".join(words))
    nodes = {name: _node(name, node, data) for name, node in data["nodes"].items() if not operands or name in operands}
    _print(data, envelope(data["settings"]["server"], _now(), VERSION, nodes=nodes))
    return 0


def _node(name: str, node: Data, data: Data) -> Data:
    jobs = [job for job in data["jobs"].values() if name in job.get("assigned", {})]
    assigned = node_assigned(name, data)
    shown = {
        key: f"{value}kb" if key in ("jobfs", "mem", "vmem") else value for key, value in assigned.items() if value
    }
    return {
        "Mom": name,
        "ntype": "PBS",
        "state": node_state(name, node, data),
        "pcpus": node["available"]["ncpus"],
        **({"jobs": [job["id"] for job in jobs]} if jobs else {}),
        "resources_available": {key: node["available"][key] for key in sorted(node["available"])},
        "resources_assigned": shown,
        **({"comment": "node down: communication closed"} if name in data["settings"]["nodes_down"] else {}),
        "resv_enable": "True",
        "sharing": "default_shared",
        "license": "l",
        "last_state_change_time": node["changed"],
        **({"last_used_time": node["used"]} if node.get("used") else {}),
    }


def node_assigned(name: str, data: Data) -> dict[str, int]:
    """Sum the cores and sizes (in KB) of the jobs on a node."""
    found: dict[str, int] = {}
    for job in data["jobs"].values():
        for resource, value in job.get("assigned", {}).get(name, {}).items():
            found[resource] = found.get(resource, 0) + value
    return dict(sorted(found.items()))


def node_state(name: str, node: Data, data: Data) -> str:
    if name in data["settings"]["nodes_down"]:
        return "down"
    return "job-busy" if node_assigned(name, data).get("ncpus", 0) >= node["available"]["ncpus"] else "free"
