"""Run the same tests on OpenPBS and on its double, so that the double cannot drift from it.

Never pass the real qdel a list of ids: a list of finished, held and unknown jobs made pbs_server
23.06.06 read freed memory and dump core. Deleting several ids is tested on the double only.

The double is always tested, the real one where it is available: tests/cluster/openpbs.py.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.cluster.openpbs import Elsewhere, OpenPbs
from tests.double.formats import envelope, job_json, job_text, parsed, render
from tests.double.pbs import GADI_NODES, NODES, QUEUES, PbsDouble
from tests.double.qsub import USAGE
from tests.unit.openpbs import samples

from hpcml.batch.schedulers.listing import read_json, read_nodes, read_text
from hpcml.batch.schedulers.usage import read_usage

SCRIPT = "#!/bin/bash\necho hello; echo bad >&2\nsleep ${1:-0}\n"


@dataclass
class Done:
    code: int
    out: str
    err: str
    raw: bytes = b""


@dataclass
class Pbs:
    """A PBS, the double or a real one, and a user's directory on it."""

    line: Callable[[str, bytes], subprocess.CompletedProcess[bytes]]
    double: PbsDouble | None
    home: str
    server: str = ""
    directory: str = ""
    jobs: list[str] = field(default_factory=list)

    def run(self, line: str, stdin: bytes = b"") -> Done:
        inside = f"cd {shlex.quote(self.directory)} || exit 9\n" if self.directory else ""
        done = self.line(inside + line, stdin)
        out, err = (text.decode(errors="surrogateescape") for text in (done.stdout, done.stderr))
        return Done(done.returncode, out, err, done.stdout)

    def put(self, name: str, content: str | bytes) -> None:
        content = content.encode() if isinstance(content, str) else content
        assert self.run(f"cat > {shlex.quote(name)}", content).code == 0

    def submit(self, words: str, script: str | None = None) -> str:
        """Submit a job, which is deleted when the test ends."""
        if script is not None:
            self.put(words.rsplit(maxsplit=1)[-1], script)
        done = self.run(f"qsub {words}")
        job_id = done.out.strip()
        # Add it first, so that the job is deleted even if an assertion fails.
        self.jobs += [job_id] if job_id else []
        assert (done.code, done.err) == (0, ""), f"qsub {words}: {done}"
        assert job_id.endswith(f".{self.server}"), f"{job_id} is of another server than {self.server}"
        return job_id

    def show(self, job_id: str) -> dict[str, Any]:
        done = self.run(f"qstat -x -f -F json {job_id}")
        assert (done.code, done.err) == (0, ""), done
        return json.loads(done.out, strict=False)["Jobs"][job_id]  # type: ignore[no-any-return]

    def wait(self, job_id: str, until: Callable[[dict[str, Any]], bool] | None = None) -> dict[str, Any]:
        """Wait until a job has finished or another condition holds."""
        deadline = time.monotonic() + (60 if self.double else 240)
        while True:
            job = self.show(job_id)
            if until(job) if until else job["job_state"] == "F":
                return job
            assert time.monotonic() < deadline, f"{job_id} did not come so far: {job}"
            time.sleep(0.1 if self.double else 0.5)

    def plain(self, text: str) -> str:
        """Replace values that differ between runs."""
        text = text.replace(self.directory, "DIR").replace(self.home, "HOME")
        text = re.sub(rf"\b\d+\.{re.escape(self.server)}\b", "ID", text)
        text = re.sub(r"\.([oe])\d+\b", r".\1N", text)
        text = re.sub(r"\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}", "DATE", text)
        return re.sub(r'("timestamp":\t)\d+', r"\1NOW", text)


def _double(directory: Path) -> Iterator[Pbs]:
    home = directory / "home"
    home.mkdir()
    with PbsDouble(
        directory / "pbs", home=str(home), user="hpcuser", kill_delay=3.0, undelivered_delay=3600.0
    ) as double:
        env = {"HOME": str(home), "USER": "hpcuser", "LOGNAME": "hpcuser", "SHELL": "/bin/bash", "LANG": "C.UTF-8"}
        env["PATH"] = f"{double.bin}:/usr/bin:/bin"

        def line(text: str, stdin: bytes) -> subprocess.CompletedProcess[bytes]:
            return subprocess.run(
                ["bash", "-c", text], env=env, input=stdin, capture_output=True, timeout=120, check=False
            )

        yield Pbs(line, double, str(home))


def _real(openpbs: OpenPbs | Elsewhere) -> Iterator[Pbs]:
    def line(text: str, stdin: bytes) -> subprocess.CompletedProcess[bytes]:
        return openpbs.run(text, stdin=stdin, timeout=300, check=False)

    pbs = Pbs(line, None, str(openpbs.home))
    nodes = json.loads(pbs.run("pbsnodes -a -F json").out)["nodes"]
    there = {name: node["resources_available"] for name, node in nodes.items()}
    queues = set(re.findall(r"^Queue: (\S+)", pbs.run("qstat -Q -f").out, re.MULTILINE))
    assert there == NODES, f"the testbed is not the one of which the double is one: {there}"
    assert queues == set(QUEUES), f"the testbed is not the one of which the double is one: {queues}"
    yield pbs


@pytest.fixture(scope="module", params=["double", "openpbs"])
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pbs]:
    real = request.param == "openpbs"
    made = _real(request.getfixturevalue("openpbs")) if real else _double(tmp_path_factory.mktemp("bench"))
    for pbs in made:
        pbs.server = json.loads(pbs.run("qstat -f -F json").out)["pbs_server"]
        yield pbs


def _own_directory(bench: Pbs) -> Iterator[Pbs]:
    pbs = Pbs(bench.line, bench.double, bench.home, bench.server)
    pbs.directory = pbs.run("mktemp -d ~/pbsdoubleXXXXXX").out.strip()
    pbs.put("h.sh", SCRIPT)
    yield pbs
    if pbs.jobs:
        ids = " ".join(pbs.jobs)
        # qdel rejects the ids of finished jobs.
        pbs.run(f"for job in {ids}; do qdel -W force $job; done")
        # Ending jobs still deliver their output to this directory, and would wait for long if it
        # were gone.
        deadline = time.monotonic() + 20
        while pbs.run(f"qstat {ids}").out and time.monotonic() < deadline:
            time.sleep(0.1)
    pbs.run(f"rm -rf {shlex.quote(pbs.directory)}")


@pytest.fixture
def pbs(bench: Pbs) -> Iterator[Pbs]:
    yield from _own_directory(bench)


@pytest.fixture(scope="module")
def idle(bench: Pbs) -> Iterator[Pbs]:
    """Yield a PBS for tests that leave no jobs."""
    yield from _own_directory(bench)


# --- rejected submissions ---

BAD, OVER = "Illegal attribute or resource value", "qsub: Job violates queue and/or server resource limits\n"
FLAT = '"-lresource=" cannot be used with "select" or "place", resource is:'
NO_MEMBER = "qsub: You are not a member of project {0}. You must be a member of a project to charge it.\n"
NO_ENV = "qsub: cannot send environment with the job\n"

# Line, exit code, stderr; True in the last place: and qsub's usage.
REFUSED: list[tuple[str, int, str] | tuple[str, int, str, bool]] = [
    ("qsub -q nosuch h.sh", 170, "qsub: Unknown queue\n"),
    ("qsub -q nosuch -l gpus=1 h.sh", 170, "qsub: Unknown queue\n"),
    ("qsub -q normal@ h.sh", 2, "qsub: illegally formed destination: normal@\n"),
    (
        "qsub -q normal@nosuchhost h.sh",
        160,
        "Unknown Host.\nqsub: cannot connect to server SERVER (errno=15008)\n",
    ),
    (
        "PBS_SERVER=nosuchhost qsub h.sh",
        160,
        "Unknown Host.\nqsub: cannot connect to server nosuchhost (errno=15008)\n",
    ),
    ("qsub -q normal -l walltime=49:00:00 h.sh", 188, OVER),
    ("qsub -q normal -l ncpus=100 h.sh", 188, OVER),
    ("qsub -q normal -l select=5:ncpus=4 h.sh", 188, OVER),
    ("qsub -q express -l walltime=00:06:00 h.sh", 188, OVER),
    ("qsub -l ncpus=two h.sh", 166, f"qsub: {BAD} Resource_List.ncpus\n"),
    ("qsub -l mem=lots h.sh", 166, f"qsub: {BAD} Resource_List.mem\n"),
    ("qsub -l mem=1.5gb h.sh", 166, f"qsub: {BAD} Resource_List.mem\n"),
    ("qsub -l mem=1GiB h.sh", 166, f"qsub: {BAD} Resource_List.mem\n"),
    ("qsub -l walltime=tomorrow h.sh", 166, f"qsub: {BAD} Resource_List.walltime\n"),
    ("qsub -l walltime=1:2:3:4 h.sh", 166, f"qsub: {BAD} Resource_List.walltime\n"),
    ("qsub -l place=banana h.sh", 166, f"qsub: {BAD} Resource_List.place\n"),
    ("qsub -l select=banana h.sh", 166, f"qsub: {BAD} Resource_List.select\n"),
    ("qsub -l select=1:ncpus h.sh", 166, f"qsub: {BAD} Resource_List.select\n"),
    ("qsub -l select=1:ncpus=1+ h.sh", 166, f"qsub: {BAD} Resource_List.select\n"),
    ("qsub -l select=1:ncpus=two h.sh", 166, f"qsub: {BAD} select.ncpus\n"),
    ("qsub -l select=1:jobfs=lots h.sh", 166, f"qsub: {BAD}\n"),
    ("qsub -l select=0:ncpus=1 h.sh", 166, f"qsub: {BAD}\n"),
    ("qsub -P zz99 h.sh", 32, NO_MEMBER.format("zz99")),
    ("qsub -P a/b h.sh", 32, NO_MEMBER.format("a/b")),
    ("qsub -l gpus=1 h.sh", 187, "qsub: Unknown resource Resource_List.gpus\n"),
    ("qsub -l wd h.sh", 187, "qsub: Unknown resource Resource_List.wd\n"),
    ("qsub -l select=1:gpus=1 h.sh", 187, "qsub: Unknown resource: gpus\n"),
    ("qsub -l select=1:walltime=3 h.sh", 4, 'qsub: Resource invalid in "select" specification: walltime\n'),
    ("qsub -l select=1 -l ncpus=2 h.sh", 5, f"qsub: {FLAT} ncpus\n"),
    ("qsub -l select=1 -l mem=1gb h.sh", 5, f"qsub: {FLAT} mem\n"),
    ("qsub -l select=1 -l ncpus=1,ngpus=1,mem=1gb h.sh", 5, f"qsub: {FLAT} ngpus\n"),
    ("qsub -l place=pack h.sh", 7, 'qsub: Cannot have "place" without "select"\n'),
    ("qsub -l ncpus=1, h.sh", 2, "qsub: illegal -l value\n", True),
    ("qsub -l 'storage=a&b' h.sh", 2, "qsub: illegal -l value\n illegal character:\nstorage=a&b\n         ^\n", True),
    ("qsub -N 'bad name' h.sh", 2, "qsub: illegal -N value\n", True),
    ("qsub -N a/b h.sh", 2, "qsub: illegal -N value\n", True),
    (f"qsub -N {'x' * 231} h.sh", 2, "qsub: Job name is too long \n"),
    ("cp h.sh 'a b.sh'; qsub 'a b.sh'", 2, "qsub: illegal -N value\n", True),
    ("qsub -j banana h.sh", 2, "qsub: illegal -j value\n", True),
    ("qsub -r maybe h.sh", 2, "qsub: illegal -r value\n", True),
    ("qsub -m x h.sh", 2, "qsub: illegal -m value\n", True),
    ("qsub -p banana h.sh", 2, "qsub: illegal -p value\n", True),
    ("qsub -S bash h.sh", 2, "qsub: illegal -S value\n", True),
    ("qsub -o '' h.sh", 2, "qsub: illegal -o value\n", True),
    ("qsub -e nosuchhost:/x h.sh", 2, "qsub: illegal -e value\n", True),
    ("qsub -W depend=afterwards:1 h.sh", 2, "qsub: illegal -W value\n", True),
    ("qsub -W depend=afterok:banana h.sh", 2, "qsub: illegal -W value\n", True),
    ("qsub -W block=banana h.sh", 2, "qsub: illegal -W value\n", True),
    ("qsub -W group_list=nosuch h.sh", 197, "qsub: Bad GID for job execution\n"),
    ("qsub -J banana h.sh", 2, "qsub: illegal -J value\n", True),
    ("qsub -Z h.sh", 2, "qsub: invalid option -- 'Z'\n", True),
    ("qsub -l", 2, "qsub: option requires an argument -- 'l'\n", True),
    ("qsub h.sh -N late", 2, "", True),
    ("qsub h.sh extra", 2, "", True),
    ("qsub -v NOSUCH h.sh", 1, NO_ENV),
    ("qsub -v 'A=\"x' h.sh", 1, NO_ENV),
    ("A='one \"' qsub -v A h.sh", 1, NO_ENV),
    ("qsub nothere.sh", 1, "qsub: script file:: No such file or directory\n"),
    ("qsub /tmp", 1, "qsub: script not a file\n"),
    (r"printf '#!/bin/bash\r\ntrue\r\n' > crlf.sh; qsub crlf.sh", 1, "qsub: script contains cr, lf\n"),
    (
        "printf '#PBS --frobnicate\\n' > bad.sh; qsub bad.sh",
        1,
        "qsub: invalid option -- '-'\nqsub: illegal -r value\nqsub: directive error: --frobnicate \n",
    ),
    (
        "printf '#PBS -q normal # why\\n' > bad.sh; qsub bad.sh",
        1,
        "qsub: directive error: -q normal # why \n",
    ),
    ("printf '#PBS -q nosuch\\n' > bad.sh; qsub bad.sh", 170, "qsub: Unknown queue\n"),
]


@pytest.mark.parametrize("case", REFUSED, ids=[case[0][:60] for case in REFUSED])
def test_qsub_refuses(idle: Pbs, case: tuple[Any, ...]) -> None:
    line, code, err = case[:3]
    done = idle.run(line)
    expected = err.replace("SERVER", idle.server) + (USAGE if len(case) == 4 else "")
    assert (done.code, done.out, done.err) == (code, "", expected)


UNKNOWN = "{}: Unknown Job Id 99999999.SERVER\n"
NOBODY = [
    ("qdel 99999999", 153, UNKNOWN.format("qdel")),
    ("qdel -W force 99999999", 153, UNKNOWN.format("qdel")),
    ("qdel banana", 1, "qdel: illegally formed job identifier: banana\n"),
    ("qdel 1.nosuchhost", 1, "qdel: illegally formed job identifier: 1.nosuchhost\n"),
    ("PBS_SERVER=nosuchhost qdel 1", 160, "Unknown Host.\nCouldn't connect to cluster: nosuchhost\n"),
    ("qstat 99999999", 153, UNKNOWN.format("qstat")),
    ("qstat banana", 170, "qstat: Unknown queue destination banana\n"),
    ("PBS_SERVER=nosuchhost qstat", 255, "Unknown Host.\nqstat: cannot connect to server nosuchhost (errno=15008)\n"),
    ("pbsnodes nosuchnode", 1, "Node: nosuchnode,  Error: Unknown node \n"),
]


@pytest.mark.parametrize(("line", "code", "err"), NOBODY)
def test_other_commands_refuse(idle: Pbs, line: str, code: int, err: str) -> None:
    done = idle.run(line)
    assert (done.code, done.out, done.err) == (code, "", err.replace("SERVER", idle.server))


@pytest.mark.parametrize(
    "line", ["qdel", "qdel -W banana 1", "qdel -Z 1", "qstat --nosuch", "qstat -F json", "pbsnodes"]
)
def test_usage(idle: Pbs, line: str) -> None:
    first = {
        "qdel -W banana 1": "qdel: illegal -W value",
        "qdel -Z 1": "qdel: invalid option -- 'Z'",
        "qstat --nosuch": "qstat: invalid option -- '-'",
        "qstat -F json": "qstat: conflicting options.",
        "pbsnodes": "usage:\tpbsnodes [-{o|r}][-C comment][-s server] host host ...",
    }
    done = idle.run(line)
    assert (done.code, done.out) == (1 if line == "pbsnodes" else 2, "")
    assert done.err.splitlines()[0] == first.get(line, "usage:")
    assert done.err.endswith(f"{line.split(maxsplit=1)[0]} --version\n" + ("\n" if line == "pbsnodes" else ""))


def test_json_of_unknown_jobs_is_valid_and_without_jobs(idle: Pbs) -> None:
    done = idle.run("qstat -x -f -F json 99999999")
    assert (done.code, done.err) == (153, UNKNOWN.format("qstat").replace("SERVER", idle.server))
    expected = f'{{\n\t"timestamp":\tNOW,\n\t"pbs_version":\t"23.06.06",\n\t"pbs_server":\t"{idle.server}"\n}}\n'
    assert idle.plain(done.out) == expected


# --- accepted submissions ---

LISTED = {
    "-l ncpus=2": {"ncpus": 2, "select": "1:ncpus=2"},
    "-l mem=1GB,jobfs=10mb,ngpus=0": {
        "jobfs": "10mb", "mem": "1gb", "ncpus": 1, "ngpus": 0, "select": "1:jobfs=10mb:mem=1gb:ncpus=1:ngpus=0",
    },
    "-l mem=7": {"mem": "7b", "ncpus": 1, "select": "1:mem=7b:ncpus=1"},
    "-l ncpus=1,ncpus=2 -l ncpus=3": {"ncpus": 3, "select": "1:ncpus=3"},
    "-l select=1": {"ncpus": 1, "place": "free", "select": 1},
    "-l select=2:ncpus=2:mem=512mb:mpiprocs=2 -l place=scatter": {
        "mem": "1024mb", "mpiprocs": 4, "ncpus": 4, "nodect": 2, "place": "scatter",
        "select": "2:ncpus=2:mem=512mb:mpiprocs=2",
    },
    "-l select=1:mem=1gb+2:ncpus=2:mem=512mb:jobfs=1gb": {
        "jobfs": "2gb", "mem": "2048mb", "ncpus": 5, "nodect": 3, "place": "free",
        "select": "1:mem=1gb+2:ncpus=2:mem=512mb:jobfs=1gb",
    },
    "-l walltime=90,storage=gdata/ab12+scratch/ab12": {
        "ncpus": 1, "select": "1:ncpus=1", "storage": "gdata/ab12+scratch/ab12", "walltime": "00:01:30",
    },
    "-l walltime=1:75": {"ncpus": 1, "select": "1:ncpus=1", "walltime": "00:02:15"},
    "-q normal": {"ncpus": 1, "select": "1:ncpus=1", "walltime": "01:00:00"},
    "-q express": {"ncpus": 1, "select": "1:ncpus=1", "walltime": "00:05:00"},
}  # fmt: skip


@pytest.mark.parametrize("options", LISTED)
def test_resources_of_a_request(pbs: Pbs, options: str) -> None:
    listed = pbs.show(pbs.submit(f"-h {options} h.sh"))["Resource_List"]
    expected = {"nodect": 1, "place": "pack", "walltime": "01:00:00", **LISTED[options]}
    assert list(listed.items()) == sorted(expected.items())


def test_a_malformed_value_of_a_custom_resource_is_dropped(pbs: Pbs) -> None:
    """A server with a queuejob hook drops it; without one it rejects the job."""
    listed = pbs.show(pbs.submit("-h -l jobfs=lots,ngpus=two h.sh"))["Resource_List"]
    assert not {"jobfs", "ngpus"} & set(listed)


def test_directives_and_options(pbs: Pbs) -> None:
    """The command line wins; the last option counts, but the first resource of a script."""
    script = """#!/bin/bash
#PBS -N first
#PBS -N second
#PBS -q express
#PBS -q normal
#PBS -l ncpus=1
#PBS -l ncpus=2,walltime=00:01:00
  #PBS -l jobfs=10mb
# a comment
:
#PBS -l mem=10mb -r n
true
#PBS -P late
"""
    job = pbs.show(pbs.submit("-h d.sh", script))
    assert (job["Job_Name"], job["queue"], job["project"]) == ("second", "normal", "_pbs_project_default")
    assert job["Rerunable"] == "False"
    assert job["Resource_List"] == {
        "jobfs": "10mb", "mem": "10mb", "ncpus": 1, "nodect": 1, "place": "pack",
        "select": "1:jobfs=10mb:mem=10mb:ncpus=1", "walltime": "00:01:00",
    }  # fmt: skip
    job = pbs.show(pbs.submit("-h -N one -N two -l ncpus=3 -l ncpus=4 -q express -r y d.sh"))
    assert (job["Job_Name"], job["queue"], job["Rerunable"]) == ("two", "express", "True")
    assert job["Resource_List"]["ncpus"] == 4


WHOLE = """\
{
	"timestamp":	NOW,
	"pbs_version":	"23.06.06",
	"pbs_server":	"SERVER",
	"Jobs":	{
		"ID":	{
			"Job_Name":	"1e5",
			"Job_Owner":	"hpcuser@SERVER",
			"job_state":	"H",
			"queue":	"normal",
			"server":	"SERVER",
			"Account_Name":	"0123",
			"Checkpoint":	"u",
			"ctime":	"DATE",
			"Error_Path":	"SERVER:DIR/1e5.eN",
			"Hold_Types":	"u",
			"Join_Path":	"oe",
			"Keep_Files":	"n",
			"Mail_Points":	"be",
			"Mail_Users":	"a@b,c",
			"mtime":	"DATE",
			"Output_Path":	"SERVER:DIR/out/",
			"Priority":	0,
			"qtime":	"DATE",
			"Rerunable":	"False",
			"Resource_List":	{
				"jobfs":	"1gb",
				"mem":	"1gb",
				"ncpus":	2,
				"nodect":	1,
				"place":	"free",
				"select":	"1:ncpus=2:mem=1gb:jobfs=1gb",
				"walltime":	"01:00:00"
			},
			"Shell_Path_List":	"/bin/sh",
			"substate":	20,
			"Variable_List":	{
				"PBS_O_HOME":	"HOME",
				"PBS_O_LANG":	"C.UTF-8",
				"PBS_O_LOGNAME":	"hpcuser",
				"PBS_O_PATH":	"PATH",
				"PBS_O_SHELL":	"/bin/bash",
				"PBS_O_INTERACTIVE_AUTH_METHOD":	"resvport",
				"PBS_O_INTERACTIVE_ENCRYPT_METHOD":	"",
				"PBS_O_WORKDIR":	"DIR",
				"PBS_O_SYSTEM":	"Linux",
				"A":	7,
				"B":	null,
				"C":	"nan",
				"D":	"inf",
				"E":	true,
				"F":	"",
				"G":	"0x10",
				"H":	1.5,
				"I":	-3,
				"J":	1.2345678901234567e+19,
				"K":	"x,y",
				"L":	"a b=c",
				"PBS_O_QUEUE":	"normal",
				"PBS_O_HOST":	"SERVER"
			},
			"Submit_arguments":	"-h -q normal -N 1e5 -P ab12 -A 0123 -l select=1:ncpus=2:mem=1gb:jobfs=1gb -r n -j oe -o out -S /bin/sh -m be -M a@b,c -v VARIABLES h.sh",
			"project":	"ab12",
			"Submit_Host":	"SERVER"
		}
	}
}
"""  # noqa: E501


def test_the_whole_of_a_listing(pbs: Pbs) -> None:
    """Byte for byte, except names and times."""
    variables = "A=007,B=1e400,C=nan,D=inf,E=true,F=,G=0x10,H=1.50,I=-3,J=12345678901234567890,K=\"x,y\",L='a b=c'"
    pbs.run("mkdir out")
    options = "-h -q normal -N 1e5 -P ab12 -A 0123 -l select=1:ncpus=2:mem=1gb:jobfs=1gb -r n -j oe -o out -S /bin/sh"
    job_id = pbs.submit(f"{options} -m be -M a@b,c -v {shlex.quote(variables)} h.sh")
    done = pbs.run(f"qstat -f -F json {job_id}")
    found = pbs.plain(done.out).replace(json.dumps(variables)[1:-1], "VARIABLES")
    found = re.sub(r'("PBS_O_PATH":\t)".*"', r'\1"PATH"', found)
    assert found == WHOLE.replace("SERVER", pbs.server)


def test_text_and_json_say_the_same(pbs: Pbs) -> None:
    """The lines of qstat -f are broken as in the real one, so that hpcml's reader joins them."""
    job_id = pbs.submit("-h -q normal -N a_job_with_a_long_name -l select=1:ncpus=2:mem=1gb -v A=1,B='x y' h.sh")
    done, text = pbs.run(f"qstat -f -F json {job_id}"), pbs.run(f"qstat -f {job_id}")
    from_json = read_json(done.raw, b"", 0)
    assert from_json.outage is None
    assert from_json == read_text(text.raw, b"", 0)
    assert text.out.startswith(f"Job Id: {job_id}\n    Job_Name = a_job_with_a_long_name\n")
    assert text.out.endswith(f"    Submit_Host = {pbs.server}\n\n")
    assert max(len(line) for line in text.out.splitlines()) <= 80


def test_the_table(pbs: Pbs) -> None:
    one, two = pbs.submit("-h -N short h.sh"), pbs.submit("-h -N a_name_of_more_than_15_letters h.sh")
    header = (
        "Job id            Name             User              Time Use S Queue\n"
        "----------------  ---------------- ----------------  -------- - -----\n"
    )
    rows = [
        f"{one:<17} short            hpcuser                  0 H normal          \n",
        f"{two:<17} a_name_of_more_* hpcuser                  0 H normal          \n",
    ]
    assert pbs.run(f"qstat {one} {two}").out == header + "".join(rows)
    # The header precedes the first job, or is missing.
    done = pbs.run(f"qstat 99999999 {two.split('.')[0]}")
    assert (done.code, done.out) == (153, rows[1])


ODD = {
    "A": ("x,y", "x,y", "x,y"),
    "B": ('{"a": [1, 2]}', r"{\\a\\: [1, 2]}", r"{\"a\": [1, 2]}"),
    "C": ("back\\slash", r"back\\\\slash", r"back\\slash"),
    "D": ("uni é ☃", "uni é ☃", "uni é ☃"),
    "G": ("a=b", "a=b", "a=b"),
    "H": ("tab\ttab", "tab\ttab", "tab\ttab"),
    "J": ("$HOME `x`", "$HOME `x`", "$HOME `x`"),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_variables(pbs: Pbs, name: str) -> None:
    """-v NAME escapes twice and so corrupts a value; -V does not."""
    value, by_name, by_all = ODD[name]
    export = f"export {name}={shlex.quote(value)}; "
    for option, shown in ((f"-v {name}", by_name), ("-V", by_all)):
        done = pbs.run(f"{export} qsub -h {option} h.sh")
        pbs.jobs.append(done.out.strip())
        assert pbs.show(done.out.strip())["Variable_List"][name] == shown


# --- several jobs ---


def test_json_of_several_jobs_shows_the_first_only(pbs: Pbs) -> None:
    """In 23.06.06, -F json prints only the first job found of several ids; polls avoid it."""
    one, two = pbs.submit("-h h.sh"), pbs.submit("-h h.sh")
    done = pbs.run(f"qstat -f -F json {one} {two}")
    assert (done.code, done.err, list(json.loads(done.out)["Jobs"])) == (0, "", [one])
    done = pbs.run(f"qstat -f -F json 99999999 {two} {one}")
    assert (done.code, list(json.loads(done.out)["Jobs"])) == (153, [two])
    assert re.findall(r"Job Id: (\S+)", pbs.run(f"qstat -f {one} {two}").out) == [one, two]
    everything = json.loads(pbs.run("qstat -f -F json").out)["Jobs"]
    assert {one, two} <= everything.keys()


def test_qdel_of_finished_jobs(pbs: Pbs) -> None:
    one, two = pbs.submit("-h h.sh"), pbs.submit("-h h.sh")
    assert pbs.run(f"qdel {one.split('.')[0]}").code == 0
    job = pbs.show(one)
    assert (job["job_state"], job["substate"]) == ("F", 91)
    assert not {"comment", "Exit_status", "obittime"} & job.keys()
    gone = f"qdel: Job has finished {one}\n"
    for line, code, err in (
        (f"qdel {one}", 35, gone),
        (f"qdel -W force {one}", 35, gone),
        (f"qdel {two}", 0, ""),
        (f"qdel {two}", 35, f"qdel: Job has finished {two}\n"),
        (f"qdel -x {two}", 0, ""),
        (f"qdel {two}", 153, f"qdel: Unknown Job Id {two}\n"),
    ):
        done = pbs.run(line)
        assert (done.code, done.out, done.err) == (code, "", err), line
    history = f"qstat: {one} Job has finished, use -x or -H to obtain historical job information\n"
    done = pbs.run(f"qstat -f -F json {one}")
    assert (done.code, done.err, "Jobs" in json.loads(done.out)) == (35, history, False)
    assert read_json(done.raw, done.err.encode(), done.code).answer(one) == "finished"


# --- running jobs ---

HEAD = "Job_Name Job_Owner {}job_state queue server Checkpoint ctime Error_Path"
MIDDLE = "Hold_Types Join_Path Keep_Files Mail_Points mtime Output_Path Priority qtime Rerunable Resource_List"
TAIL = "Submit_arguments {}project Submit_Host"
RUN = f"{HEAD} exec_host exec_vnode {MIDDLE} stime"
KEYS = {
    "starting": f"{RUN.format('')} substate Variable_List comment etime run_count {TAIL.format('')}",
    "running": f"{RUN.format('resources_used ')} session_id jobdir substate Variable_List comment etime run_count "
    + TAIL.format(""),
    "finished": f"{RUN.format('resources_used ')} obittime session_id jobdir substate Variable_List comment etime "
    f"run_count Stageout_status Exit_status {TAIL.format('history_timestamp ')}",
    "queued": f"{HEAD.format('')} {MIDDLE} substate Variable_List comment etime {TAIL.format('')}",
}


def test_the_life_of_a_job(pbs: Pbs) -> None:
    job_id = pbs.submit("-q express -l select=1:ncpus=2:mem=100mb -N life life.sh", SCRIPT.replace("${1:-0}", "5"))
    job = pbs.wait(job_id, lambda job: job["job_state"] == "R")
    if job["substate"] == 41:  # PBS sets the start time a moment later
        assert list(job) == [key for key in KEYS["starting"].split() if key != "stime" or key in job]
    job = pbs.wait(job_id, lambda job: job["substate"] == 42)
    assert list(job) == KEYS["running"].split()
    where = r"\((node[12]):ncpus=2:mem=102400kb\)"
    ran = rf"Job run at \w{{3}} \w{{3}} \d\d at \d\d:\d\d on {where}"
    assert re.fullmatch(ran, job["comment"])
    assert re.fullmatch(r"node[12]/\d\*2", job["exec_host"])
    assert re.fullmatch(where, job["exec_vnode"])
    assert list(job["resources_used"]) == ["cpupercent", "cput", "mem", "ncpus", "vmem", "walltime"]
    nodes = pbs.run("pbsnodes -a -F json")
    assert job_id in read_nodes(nodes.raw, b"", 0).nodes[job["exec_host"].partition("/")[0]].jobs
    job = pbs.wait(job_id)
    assert list(job) == KEYS["finished"].split()
    assert (job["Exit_status"], job["substate"], job["Stageout_status"]) == (0, 92, 1)
    assert re.fullmatch(rf"{ran} and finished", job["comment"])
    assert re.fullmatch(r"00:00:\d\d", job["resources_used"]["walltime"])
    number = job_id.partition(".")[0]
    assert pbs.run(f"cat life.o{number}").out == "hello\n"
    assert pbs.run(f"cat life.e{number}").out == "bad\n"
    assert pbs.run(f"stat -c %a life.o{number}").out == "600\n"


def test_nodes(pbs: Pbs) -> None:
    done = pbs.run("pbsnodes -a -F json")
    assert (done.code, done.err) == (0, "")
    nodes = json.loads(done.out)["nodes"]
    assert {name: node["resources_available"] for name, node in nodes.items()} == NODES
    always = ["Mom", "ntype", "state", "pcpus", "resources_available", "resources_assigned", "resv_enable", "sharing",
              "license", "last_state_change_time"]  # fmt: skip
    for node in nodes.values():
        assert [key for key in node if key not in ("jobs", "last_used_time")] == always
    found = read_nodes(done.raw, b"", 0)
    assert found.outage is None
    assert all(node.in_service and node.ncpus == 4 and node.mem == 6 << 30 for node in found.nodes.values())


MEMORY = "#!/bin/bash\n(head -c 300000000 /dev/zero; sleep 90) | tail -n 1\n"
ENDINGS: dict[str, tuple[str, str, int, int, str, str]] = {
    # Name: options, script, Exit_status, substate, the comment's end, stderr.
    "fails": ("", "exit 7\n", 7, 93, " and failed", ""),
    "kill9": ("", "kill -9 $$\n", 137, 93, " and failed", r"-?bash: line 1: +\d+ Killed +\S+\.SC\n"),
    "empty": ("", "", 127, 93, " and failed", r"-?bash: line 1: \S+\.SC: No such file or directory\n"),
    "badshell": (
        "-S /no/such",
        "true\n",
        254,
        93,
        " and failed",
        "pbs_mom, exec of /no/such failed with error: No such file or directory\n",
    ),
    "walltime": (
        "-l walltime=3",
        "sleep 90\n",
        -29,
        93,
        " and exceeded resource walltime",
        r"=>> PBS: job killed: walltime \d+ exceeded limit 3\n(Terminated\n)?",
    ),
    "mem": (
        "-l mem=100mb",
        MEMORY,
        -27,
        93,
        " and exceeded resource mem",
        r"=>> PBS: job killed: mem \d+kb exceeded limit 102400kb\n(Terminated\n)?",
    ),
    # A job that exits with 0 after its walltime has still failed.
    "trap": (
        "-l walltime=3 -j oe",
        "#!/bin/bash\ntrap 'echo cleaned; exit 0' TERM\nfor i in $(seq 90); do sleep 1; done\n",
        -29,
        93,
        " and exceeded resource walltime",
        r"=>> PBS: job killed: walltime \d+ exceeded limit 3\n(?s:.*)cleaned\n",
    ),
    "deaf": (
        "-l walltime=3",
        "#!/bin/bash\ntrap '' TERM\nfor i in $(seq 90); do sleep 1; done\n",
        -29,
        93,
        " and exceeded resource walltime",
        r"=>> PBS: job killed: walltime \d+ exceeded limit 3\n",
    ),
    "leftover": ("", "nohup sleep 77 >/dev/null 2>&1 &\nexit 0\n", 0, 92, " and finished", ""),
}


@pytest.fixture(scope="module")
def ended(bench: Pbs) -> Iterator[tuple[Pbs, dict[str, str]]]:
    """Run all of these at once, as the real one takes half a minute to notice some."""
    for pbs in _own_directory(bench):
        yield pbs, {name: pbs.submit(f"{case[0]} {name}.sh", case[1]) for name, case in ENDINGS.items()}


@pytest.mark.parametrize("name", ENDINGS)
def test_endings(ended: tuple[Pbs, dict[str, str]], name: str) -> None:
    pbs, ids = ended
    options, _, code, substate, comment, err = ENDINGS[name]
    job = pbs.wait(ids[name])
    assert (job["Exit_status"], job["substate"]) == (code, substate)
    assert job["comment"].endswith(f"){comment}")
    kind = "o" if "-j oe" in options else "e"
    found = pbs.run(f"cat {name}.sh.{kind}{ids[name].partition('.')[0]}").out
    assert re.fullmatch(err, found), found
    read = read_json(pbs.run(f"qstat -x -f -F json {ids[name]}").raw, b"", 0).find(ids[name])
    assert read is not None
    assert (read.state, read.exit_status) == ("finished", code)


def test_qdel_of_a_running_job(pbs: Pbs) -> None:
    """SIGTERM, then SIGKILL; meanwhile the state is R, and a comment names the user."""
    trap = "trap 'echo got TERM; sleep 0.5; echo cleaned; exit 5' TERM\nfor i in $(seq 90); do sleep 0.2; done\n"
    polite = pbs.submit("polite.sh", f"#!/bin/bash\n{trap}")
    deaf = pbs.submit("deaf.sh", "#!/bin/bash\ntrap '' TERM\nfor i in $(seq 90); do sleep 1; done\n")
    forced = pbs.submit("forced.sh", "sleep 90\n")
    for job_id in (polite, deaf, forced):
        pbs.wait(job_id, lambda job: job["substate"] == 42)
    done = pbs.run(f"qdel {polite}; qdel {deaf}; qdel -W force {forced}")
    assert (done.code, done.out, done.err) == (0, "", "")
    by = f" and terminated by hpcuser@{pbs.server}"
    job = pbs.show(deaf)
    assert (job["job_state"], job["substate"]) == ("R", 42)
    assert job["comment"].endswith(f"){by}")
    assert pbs.run(f"qdel {deaf}").code == 0  # a second qdel does no harm
    for job_id, codes in ((polite, {271, 143}), (deaf, {271, 143}), (forced, {265, 137})):
        job = pbs.wait(job_id)
        assert job["Exit_status"] in codes
        assert job["substate"] == 91
        assert job["comment"].endswith(f"){by}")
    assert pbs.run(f"cat polite.sh.o{polite.partition('.')[0]}").out == "got TERM\ncleaned\n"


def test_output_files(pbs: Pbs) -> None:
    pbs.run("mkdir out")
    into = pbs.submit("-o out -e out/ h.sh")
    oe, eo = pbs.submit("-j oe -N both h.sh"), pbs.submit("-j eo -o x.out -e y.err h.sh")
    lost = pbs.submit("-o /nonexistent/x h.sh")
    for job_id in (into, oe, eo):
        assert pbs.wait(job_id)["Stageout_status"] == 1
    number = oe.partition(".")[0]
    assert sorted(pbs.run("ls out").out.split()) == [f"{into}.ER", f"{into}.OU"]
    assert pbs.run(f"cat out/{into}.OU out/{into}.ER").out == "hello\nbad\n"
    assert pbs.run(f"cat both.o{number}; ls both.e{number}").out == "hello\nbad\n"
    assert pbs.run("cat y.err; ls x.out").out == "hello\nbad\n"
    job = pbs.wait(lost, lambda job: job["job_state"] in "EF")
    assert job["job_state"] == "E"  # it stays in this state for a while
    assert pbs.run(f"qdel {lost}").err == f"qdel: Request invalid for state of job {lost}\n"
    if pbs.double:  # the real one takes 100 seconds
        pbs.double.change(undelivered_delay=0.0)
        job = pbs.wait(lost)
        assert (job["Exit_status"], job["Stageout_status"]) == (0, 0)
        pbs.double.change(undelivered_delay=3600.0)


ENVIRONMENT = """#!/bin/bash
env -0 > env.bin
pwd; cat $PBS_NODEFILE; umask; stat -c %a "$TMPDIR"; ls -A "$TMPDIR"; basename "$0"; wc -c < "$0"
"""


def test_the_environment_of_a_job(pbs: Pbs) -> None:
    script = ENVIRONMENT.replace("env.bin", f"{pbs.directory}/env.bin")
    pbs.put("env.sh", script)
    done = pbs.run(
        "LEFT=behind TAKEN=along qsub -l select=1:ncpus=2:mpiprocs=2 -N named -v 'A=\"x,y\",TAKEN' env.sh; : > env.sh"
    )
    job_id = done.out.strip()
    pbs.jobs.append(job_id)
    job = pbs.wait(job_id)
    out = pbs.run(f"cat named.o{job_id.partition('.')[0]}").out.splitlines()
    node = job["exec_host"].partition("/")[0]
    # The script is the copy that qsub has made.
    assert out == [pbs.home, node, node, "0077", "700", f"{job_id}.SC", str(len(script))]
    found = dict(part.partition("=")[::2] for part in pbs.run("cat env.bin").out.split("\0") if part)
    shell = {"_", "PWD", "SHLVL", "OLDPWD", "MANPATH"}  # the shells set these
    fixed = {
        "A": "x,y", "TAKEN": "along", "ENVIRONMENT": "BATCH", "HOME": pbs.home, "LOGNAME": "hpcuser", "NCPUS": "2",
        "OMP_NUM_THREADS": "2", "PBS_ENVIRONMENT": "PBS_BATCH", "PBS_JOBDIR": pbs.home, "PBS_JOBID": job_id,
        "PBS_JOBNAME": "named", "PBS_MOMPORT": "15003", "PBS_NODENUM": "0", "PBS_O_HOME": pbs.home,
        "PBS_O_HOST": pbs.server, "PBS_O_INTERACTIVE_AUTH_METHOD": "resvport", "PBS_O_INTERACTIVE_ENCRYPT_METHOD": "",
        "PBS_O_LANG": "C.UTF-8", "PBS_O_LOGNAME": "hpcuser", "PBS_O_QUEUE": "normal", "PBS_O_SHELL": "/bin/bash",
        "PBS_O_SYSTEM": "Linux", "PBS_O_WORKDIR": pbs.directory, "PBS_QUEUE": "normal", "PBS_TASKNUM": "1",
        "SHELL": "/bin/bash", "USER": "hpcuser",
    }  # fmt: skip
    places = {"PATH", "PBS_NODEFILE", "PBS_O_PATH", "PBS_JOBCOOKIE", "TMPDIR"}
    assert {name: value for name, value in found.items() if name not in shell | places} == fixed
    assert places <= found.keys()
    assert found["TMPDIR"].endswith(f"/pbs.{job_id}")
    assert pbs.run(f"test -e {found['TMPDIR']}").code == 1


def test_qsub_from_a_job(pbs: Pbs) -> None:
    # Use the submitter's PATH, since a job's own may find the wrappers of a Slurm on the same
    # machine first.
    job_id = pbs.submit("outer.sh", f"PATH=$PBS_O_PATH; cd {pbs.directory}; qsub -h -N inner h.sh > inner\n")
    assert pbs.wait(job_id)["Exit_status"] == 0
    inner = pbs.run("cat inner").out.strip()
    pbs.jobs.append(inner)
    assert pbs.show(inner)["Job_Name"] == "inner"


def test_jobs_that_do_not_fit(pbs: Pbs) -> None:
    never = "Can Never Run: Insufficient amount of resource:"
    lacking = r"Insufficient amount of resource: {0} (\(R: {1} A: \w+ T: {2}\))?"
    free = f"Not Running: ({lacking}|Not enough free nodes available)"
    for options, comment in {
        "-l mem=100gb": re.escape(f"{never} mem (R: 100gb A: 12gb T: 12gb)"),
        "-l select=3:ncpus=1:mem=5gb": re.escape(f"{never} mem (R: 15gb A: 12gb T: 12gb)"),
        "-l ngpus=1": re.escape(f"{never} ngpus (R: 1 A: 0 T: 0)"),
        "-l select=3 -l place=scatter": "Can Never Run: Not enough total nodes available",
        "-l select=1:host=pbs9": re.escape(f"{never} host (pbs9 != node1,node2)"),
        "-l ncpus=5": free.format("ncpus", 5, 8),  # more than a node has
        "-l jobfs=15gb": free.format("jobfs", "15gb", "20gb"),
    }.items():
        job = pbs.wait(pbs.submit(f"{options} h.sh"), lambda job: "comment" in job)
        assert list(job) == KEYS["queued"].split()
        assert (job["job_state"], job["substate"]) == ("Q", 10)
        assert re.fullmatch(comment, job["comment"]), (options, job["comment"])
    assert pbs.run(f"qdel {pbs.jobs[0]}").code == 0
    assert pbs.show(pbs.jobs[0])["comment"] == f"{never} mem (R: 100gb A: 12gb T: 12gb) and terminated"


def test_jobs_wait_for_each_other(pbs: Pbs) -> None:
    """4 of 8 cores each and one node with a core left: the third waits, a small one passes it."""
    pbs.put("s.sh", f"until [ -e {pbs.directory}/go ]; do sleep 0.1; done\n")
    four, three = pbs.submit("-l select=1:ncpus=4:mem=100mb s.sh"), pbs.submit("-l select=1:ncpus=3:mem=100mb s.sh")
    for job_id in (four, three):
        pbs.wait(job_id, lambda job: job["job_state"] in "RF")
    two = pbs.submit("-l select=1:ncpus=2 -N two h.sh")
    job = pbs.wait(two, lambda job: "comment" in job)
    if pbs.double:  # there are no other users
        assert job["comment"] == "Not Running: Insufficient amount of resource: ncpus (R: 2 A: 1 T: 8)"
        nodes = read_nodes(pbs.run("pbsnodes -a -F json").raw, b"", 0).nodes
        assert [(node.states, node.assigned_ncpus) for node in nodes.values()] == [(("job-busy",), 4), (("free",), 3)]
    one = pbs.wait(pbs.submit("-l ncpus=1 -N one h.sh"))
    assert one["Exit_status"] == 0
    pbs.run("touch go")
    assert pbs.wait(two)["Exit_status"] == 0


# --- dependencies and block ---


def test_dependencies(pbs: Pbs) -> None:
    good = pbs.submit("-h h.sh")
    held = pbs.submit(f"-W depend=afterok:{good} h.sh")
    job = pbs.show(held)
    assert (job["job_state"], job["substate"], job["Hold_Types"]) == ("H", 22, "s")
    assert job["depend"] == f"afterok:{good}@{pbs.server}"
    assert "etime" not in job
    assert pbs.show(good)["depend"] == f"beforeok:{held}@{pbs.server}"
    both = pbs.submit(f"-h -W depend=after:{good.partition('.')[0]} h.sh")
    assert pbs.show(both)["Hold_Types"] == "su"
    parent = pbs.submit("-N parent p.sh", "sleep 2\nexit 7\n")
    kinds = {kind: pbs.submit(f"-N {kind} -W depend={kind}:{parent} h.sh") for kind in
             ("after", "afterok", "afternotok", "afterany")}  # fmt: skip
    assert pbs.wait(parent)["Exit_status"] == 7
    for kind, ends in (("after", 0), ("afternotok", 0), ("afterany", 0), ("afterok", None)):
        job = pbs.wait(kinds[kind])
        assert (job.get("Exit_status"), job["substate"]) == (ends, 92), kind
        assert ("comment" in job, job["Hold_Types"]) == (ends == 0, "n" if ends == 0 else "s")
        assert job.get("depend") == (None if ends == 0 else f"afterok:{parent}@{pbs.server}")
    # Dependencies on finished jobs.
    assert pbs.wait(pbs.submit(f"-W depend=afternotok:{parent} h.sh"))["Exit_status"] == 0
    assert "Exit_status" not in pbs.wait(pbs.submit(f"-W depend=afterok:{parent} h.sh"))
    # The job is accepted and ends without a message.
    job = pbs.wait(pbs.submit("-W depend=afterok:99999999 h.sh"))
    assert (job["substate"], "Exit_status" in job, "comment" in job) == (92, False, False)
    # A job that depends on one that was deleted before it ran is held indefinitely.
    pbs.run(f"qdel {good}")
    assert pbs.show(held)["job_state"] == "H"


def test_block(pbs: Pbs) -> None:
    pbs.put("x.sh", "exit 7\n")
    done = pbs.run("qsub -W block=true x.sh")
    assert (done.code, done.err) == (7, "")
    pbs.put("s.sh", "sleep 90\n")
    done = pbs.run("qsub -Wblock=true -l walltime=1 s.sh")
    assert (done.code, done.err) == (227, "")  # exit code -29
    line = "(qsub -h -W block=true h.sh > id 2> err; echo $? > code) & "
    line += "until [ -s id ]; do sleep 0.1; done; qstat -f $(cat id) | grep 'block ='; sleep 0.5; qdel $(cat id); wait"
    assert pbs.run(line).out == "    block = True\n"
    job_id = pbs.run("cat id").out.strip()
    by = f"qsub: {job_id} Job to be deleted at request of hpcuser@{pbs.server}\n"
    assert (pbs.run("cat code").out, pbs.run("cat err").out) == ("3\n", by)
    line = "(exec qsub -h -W block=true h.sh > id2 2> err2) & P=$!; "
    line += "until [ -s id2 ]; do sleep 0.1; done; sleep 0.5; kill $P; wait $P; echo $?"
    assert pbs.run(line).out == "2\n"
    job_id = pbs.run("head -1 id2").out.strip()
    assert pbs.run("cat id2").out == f"{job_id}\nJob {job_id} is being deleted\n"
    assert pbs.run("cat err2").out == f"qsub: wait for job {job_id} interrupted by signal 15\n"
    assert pbs.show(job_id)["job_state"] == "F"


# --- the double only: cases not possible on a real one, compared with its recorded output ---


@pytest.fixture
def double(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PbsDouble]:
    (tmp_path / "h.sh").write_text("#!/bin/sh\nsleep ${S:-0}\n")
    monkeypatch.chdir(tmp_path)
    with PbsDouble(tmp_path / "pbs", user="hpcuser", kill_delay=1.0, node_fail_requeue=1.0) as pbs:
        yield pbs


def _until(double: PbsDouble, job_id: str, comment: str) -> None:
    deadline = time.monotonic() + 30
    while (found := double.job(job_id).get("comment")) != comment:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def recorded(name: str) -> tuple[int, bytes, bytes]:
    sample = next(sample for sample in samples() if sample.name == name)
    return sample.code, sample.stdout, sample.stderr.replace(b"pbs-server", b"login")


def answered(done: subprocess.CompletedProcess[bytes]) -> tuple[int, bytes, bytes]:
    return done.returncode, done.stdout, done.stderr


JOBS = [sample for sample in samples("read_json") if "Jobs" in sample.stdout.decode(errors="replace")]


@pytest.mark.parametrize("sample", JOBS, ids=[sample.name for sample in JOBS])
def test_json_is_printed_as_recorded(sample: Any) -> None:
    """Printing a parsed recording gives the same bytes."""
    text = sample.stdout.decode(errors="surrogateescape")
    answer = json.loads(text, strict=False)
    assert render(answer) + "\n" == text


BOTH = [sample for sample in samples("read_text") if sample.name.startswith("job_")]


@pytest.mark.parametrize("sample", BOTH, ids=[sample.name for sample in BOTH])
def test_text_and_json_are_printed_as_recorded(sample: Any) -> None:
    """The attributes of a recorded text print as that text, and as the JSON recorded with it."""
    text = sample.stdout.decode()
    lines = text.replace("\n\t", "").rstrip("\n").split("\n")
    names = [line.strip().partition(" = ")[::2] for line in lines[1:]]
    found = [(name.partition(".")[0], name.partition(".")[2] or None, value) for name, value in names]
    job_id = lines[0].removeprefix("Job Id: ")
    if "H=tab\ttab" not in text:
        assert job_text(job_id, found) == text
    twin = next(s for s in samples() if s.name == sample.name.replace("qstat_-x_-f", "qstat_-x_-f_-F_json")
                .replace(".qstat_-f", ".qstat_-f_-F_json"))  # fmt: skip
    expected = twin.stdout.decode()
    stamp = json.loads(expected)["timestamp"]
    assert envelope("pbs-server", stamp, "23.06.06", Jobs={job_id: job_json(found)}) == expected


@pytest.mark.parametrize(
    ("text", "value"),
    [("007", 7), ("1e400", float("inf")), ("nan", "nan"), ("0x10", "0x10"), ("[1, 2]", [1, 2]), ("", ""), ("-", "-"),
     ("1-2", "1-2"), ('"x"', "x"), ("true", True), ("null", None), ("NaN", "NaN"), ("1 ", 1), ("00:05:00", "00:05:00")],
)  # fmt: skip
def test_values_are_typed_as_cjson_types_them(text: str, value: object) -> None:
    assert parsed(text) == value


def test_qdel_of_several(double: PbsDouble) -> None:
    """As recorded; the server rejects a list of unknown jobs with the error of the first."""
    one, two, three = (double.run("qsub", "-h", "h.sh").stdout.decode().strip() for _ in range(3))
    code, out, err = recorded("qdel_two_unknown_ids")
    assert answered(double.run("qdel", "99998", "99999")) == (code, out, err)
    assert answered(double.run("qdel", one, two, "99999", three)) == recorded("qdel_several")
    assert {double.job(job_id)["job_state"] for job_id in (one, two, three)} == {"F"}
    gone = "".join(f"qdel: Job has finished {job_id}\n" for job_id in (one, two)).encode()
    assert answered(double.run("qdel", one, two)) == (35, b"", gone)


def test_queues_that_refuse(double: PbsDouble) -> None:
    double.change_queue("express", enabled=False)
    assert answered(double.run("qsub", "-q", "express", "h.sh")) == recorded("qsub_err_queue_disabled")
    double.change_queue("express", enabled=True, denied=True)
    assert answered(double.run("qsub", "-q", "express", "h.sh")) == recorded("qsub_err_queue_acl")
    double.change_queue("express", denied=False, max_queued=1, started=False)
    job_id = double.run("qsub", "-q", "express", "h.sh").stdout.decode().strip()
    assert answered(double.run("qsub", "-q", "express", "h.sh")) == recorded("qsub_err_max_queued")
    _until(double, job_id, "Not Running: Queue not started.")
    double.change_queue("express", started=True)
    double.wait(job_id)
    assert double.run("qsub", "-q", "express", "h.sh").returncode == 0


def test_a_server_that_is_down(double: PbsDouble) -> None:
    job_id = double.run("qsub", "h.sh", env={**double.env, "S": "1"}).stdout.decode().strip()
    double.wait(job_id, "R", "F")
    double.server_down()
    assert answered(double.run("qstat")) == recorded("server_down.qstat")
    assert answered(double.run("qsub", "h.sh")) == recorded("server_down.qsub")
    assert answered(double.run("qdel", job_id)) == recorded("server_down.qdel")
    assert answered(double.run("pbsnodes", "-a", "-F", "json")) == recorded("server_down.pbsnodes")
    done = double.run("qstat", "-f", "-F", "json", job_id)
    code, out, err = recorded("server_down.qstat_-f_-F_json")
    assert (done.returncode, done.stderr) == (code, err)
    assert json.loads(done.stdout).keys() == json.loads(out).keys()
    assert read_json(done.stdout, done.stderr, done.returncode).answer(job_id) == "no answer"
    double.server_down(False)
    double.wait(job_id)
    assert double.run("qsub", "h.sh").returncode == 0


def test_a_node_that_is_down(double: PbsDouble, tmp_path: Path) -> None:
    (tmp_path / "s.sh").write_text("sleep 60\n")
    again, never = (
        double.run("qsub", "-l", "select=1:host=node2", "-r", r, "s.sh").stdout.decode().strip() for r in "yn"
    )
    double.wait(again, "R")
    double.wait(never, "R")
    double.node_down("node2")
    deadline = time.monotonic() + 30
    while True:
        nodes = json.loads(double.run("pbsnodes", "-a", "-F", "json").stdout)["nodes"]
        if nodes["node2"]["state"] == "down":
            break
        assert time.monotonic() < deadline
    assert nodes["node2"]["comment"] == "node down: communication closed"
    job = double.wait(again, "Q", timeout=30)
    assert (job["substate"], job["Exit_status"], "exec_host" in job, "stime" in job) == (10, -20, False, False)
    assert double.wait(never)["Exit_status"] == -20
    _until(double, again, "Not Running: Insufficient amount of resource: host ")
    double.node_down()
    assert double.wait(again, "R")["run_count"] == 2


def test_a_job_shows_r_while_its_node_is_down(double: PbsDouble, tmp_path: Path) -> None:
    double.change(node_fail_requeue=3600)
    (tmp_path / "s.sh").write_text("sleep 60\n")
    job_id = double.run("qsub", "s.sh").stdout.decode().strip()
    pid = double.wait(job_id, "R") and _session(double, job_id)
    double.node_down("node1")
    deadline = time.monotonic() + 30
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.5)
    assert double.job(job_id)["job_state"] == "R"


def _session(double: PbsDouble, job_id: str) -> int:
    deadline = time.monotonic() + 30
    while "session_id" not in (job := double.job(job_id)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return int(job["session_id"])


def test_spoilt_output_and_slow_commands(double: PbsDouble) -> None:
    job_id = double.run("qsub", "-h", "h.sh").stdout.decode().strip()
    double.garble("cut")
    done = double.run("qstat", "-f", "-F", "json", job_id)
    assert read_json(done.stdout, done.stderr, done.returncode).answer(job_id) == "no answer"
    double.garble("latin1")
    done = double.run("qstat", "-f", "-F", "json", job_id)
    with pytest.raises(UnicodeDecodeError):
        done.stdout.decode()
    assert read_json(done.stdout, done.stderr, done.returncode).answer(job_id) == "listed"
    double.garble(None)
    double.slow(qsub=1.0)
    started = time.monotonic()
    assert double.run("qsub", "-h", "h.sh").returncode == 0
    assert time.monotonic() - started > 1


def test_a_latin1_variable(double: PbsDouble) -> None:
    environment = {**{os.fsencode(name): os.fsencode(value) for name, value in double.env.items()}, b"A": b"\xe9t"}
    job_id = double.run("qsub", "-h", "-v", "A", "h.sh", env=environment).stdout.decode().strip()
    out = double.run("qstat", "-f", "-F", "json", job_id).stdout
    assert b'"A":\t"\xe9t"' in out
    assert b",A=\xe9t," in double.run("qstat", "-f", job_id).stdout.replace(b"\n\t", b"")


def test_what_it_does_not_know_it_says(double: PbsDouble) -> None:
    """The double raises an error where its answer might differ from that of PBS."""
    for words in (["qsub", "-J", "1-3", "h.sh"], ["qsub", "-I"], ["qsub", "-l", "nodes=1", "h.sh"], ["qstat", "-Q"],
                  ["qstat", "-a"], ["pbsnodes", "-a"]):  # fmt: skip
        done = double.run(*words)
        assert (done.returncode, b"the PBS double does not know" in done.stderr) == (99, True), words


def test_all_ends_with_it(tmp_path: Path) -> None:
    """This includes processes that jobs leave in other sessions."""
    script = tmp_path / "s.sh"
    script.write_text(f"setsid sleep 3601 & echo $! > {tmp_path}/left\nsleep 3602\n")
    with PbsDouble(tmp_path / "pbs") as double:
        job_id = double.run("qsub", str(script), cwd=tmp_path).stdout.decode().strip()
        shell = double.wait(job_id, "R") and _session(double, job_id)
        deadline = time.monotonic() + 30
        while not (tmp_path / "left").exists() or not (tmp_path / "left").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        left = int((tmp_path / "left").read_text())
    deadline = time.monotonic() + 30
    for pid in (shell, left):
        while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline, f"{pid} is still there"
            time.sleep(0.05)


# --- Gadi ---


@pytest.fixture
def gadi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PbsDouble]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "h.sh").write_text("env\n")
    with PbsDouble(tmp_path / "pbs", gadi=True, projects=["ab12"]) as pbs:
        yield pbs


def test_gadi_refuses(gadi: PbsDouble) -> None:
    done = gadi.run("qsub", "-P", "ab12", "-l", "select=1:ncpus=1", "h.sh")
    text = 'The system doesn\'t support the use of "-l select". Please use "-l ncpus" and "-l mem" instead.'
    assert answered(done) == (32, b"", f"qsub: Error: {text}\n".encode())
    done = gadi.run("qsub", "-P", "vp91", "-l", "ncpus=1", "h.sh")
    text = "You are not a member of project vp91. You must be a member of a project to submit a job under that project."
    assert answered(done) == (32, b"", f"qsub: Error: {text}\n".encode())
    assert gadi.run("qsub", "-l", "ncpus=1", "h.sh").returncode == 32
    assert answered(gadi.run("qsub", "-P", "ab12", "-q", "nosuch", "h.sh"))[0] == 170


def test_a_job_on_gadi(gadi: PbsDouble, tmp_path: Path) -> None:
    words = "qsub -q normal -P ab12 -l ncpus=48,mem=4gb,walltime=00:05:00,storage=scratch/ab12,wd -j oe -N job h.sh"
    job_id = gadi.run(*words.split()).stdout.decode().strip()
    assert job_id.endswith(".gadi-pbs")
    job = gadi.wait(job_id)
    assert (job["queue"], job["Exit_status"], job["project"]) == ("normal-exec", 0, "ab12")
    listed = job["Resource_List"]
    assert listed["select"] == "1:ncpus=48:mpiprocs=48:mem=4294967296:job_tags=normal:jobfs=104857600"
    assert (listed["mem"], listed["jobfs"], listed["place"]) == ("4294967296b", "104857600b", "free")
    assert job["exec_host"].partition("/")[0] in GADI_NODES
    out = (tmp_path / f"job.o{job_id.partition('.')[0]}").read_text()
    environment, _, block = out.partition("=" * 86)
    found = dict(line.partition("=")[::2] for line in environment.splitlines() if "=" in line)
    assert found["PBS_JOBFS"] == found["TMPDIR"]
    assert not Path(found["PBS_JOBFS"]).exists()
    assert (found["PBS_NCPUS"], found["PROJECT"], found["PBS_NCI_STORAGE"]) == ("48", "ab12", "scratch/ab12")
    usage = read_usage("=" * 86 + block)
    assert usage is not None
    assert (usage.job_id, usage.ncpus, usage.mem_requested, usage.exit_status) == (job_id, 48, 4 << 30, 0)
