"""Wrong requests and their diagnostics, the source of docs/wrong-requests.md: pytest --rewrite."""

# ruff: noqa: E501  # one line per request

from __future__ import annotations

import re
import shlex
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from tests.unit.requests import SITES, places, resolved

from hpcml.batch.diagnostic import Diagnostic, RequestError
from hpcml.batch.schedulers.base import Scheduler

DOCS = Path(__file__).parents[2] / "docs"


@dataclass(frozen=True)
class Wrong:
    """Overrides, the start of the expected diagnostic, and overrides that fix it."""

    site: str
    overrides: str
    text: str
    mended: str | None
    severity: str = "error"

    @property
    def words(self) -> list[str]:
        return shlex.split(self.overrides)


P = "cluster.project=ab12 "
P_ID = "cluster.project=ab12;id"

WRONG = [
    # site
    Wrong("gadi", P + "cluster=slurm", "cluster=slurm: NCI Gadi uses pbs", "cluster=pbs"),
    Wrong("gadi", "", "cluster.project is not set", P),
    Wrong("gadi", P_ID, "cluster.project='ab12;id': not allowed", P),
    Wrong("gadi", P + "cluster.queue=norml", "cluster.queue='norml': NCI Gadi has no such queue", "cluster.queue=normal"),
    Wrong("gadi", P + "'cluster.queue=normal -q express'", "cluster.queue='normal -q express': not allowed", "cluster.queue=normal"),
    Wrong("testbed_openpbs", "site.default_queue=null cluster.ncpus=4 cluster.mem=6GB", "cluster.queue is not set", "cluster.queue=normal"),
    Wrong("generic_pbs", "cluster.mem=8GB", "cluster.ncpus is not set", "cluster.ncpus=4"),
    Wrong("generic_pbs", "cluster.ncpus=4", "cluster.mem is not set", "cluster.mem=8GB"),
    # cores
    Wrong("gadi", P + "cluster.ncpus=100", "cluster.ncpus=100: a node of normal has 48 cores, and a worker job runs on one node", "cluster.ncpus=48 cluster.jobs=3"),
    Wrong("gadi", P + "cluster.ncpus=8 cluster.threads=3", "cluster.ncpus=8: must be workers_per_job=2 x threads=3", "cluster.ncpus=6"),
    Wrong("gadi", P + "cluster.ncpus=48 cluster.workers_per_job=5 cluster.threads=8", "cluster.ncpus=48: must be workers_per_job=5 x threads=8", "cluster.ncpus=48 cluster.workers_per_job=6"),
    Wrong("gadi", P + "cluster.queue=hugemembw cluster.ncpus=10", "cluster.ncpus=10: hugemembw requires a multiple of 7", "cluster.ncpus=7"),
    Wrong("gadi", P + "cluster.queue=megamembw cluster.ncpus=16", "cluster.ncpus=16: megamembw requires a multiple of 32", "cluster.ncpus=32"),
    Wrong("gadi", P + "cluster=allocation cluster.nodes=2 cluster.ncpus=24", "cluster.ncpus=24: on several nodes normal allocates whole nodes only", "cluster.ncpus=48"),
    Wrong("gadi", P + "cluster=allocation cluster.nodes=2 cluster.ncpus=96", "cluster.ncpus=96: a node of normal has 48 cores", "cluster.ncpus=48 cluster.nodes=4"),
    Wrong("gadi", P + "cluster=allocation cluster.queue=hugemem cluster.nodes=5", "cluster.nodes=5: 240 cores, and hugemem allows a job at most 192", "cluster.nodes=4 cluster.walltime=05:00:00"),
    Wrong("derecho", P + "cluster.queue=main cluster.ncpus=64", "cluster.ncpus=64: main allocates whole nodes only, of 128 cores", "cluster.ncpus=128"),
    Wrong("polaris", P + "cluster=allocation cluster.nodes=3 cluster.queue=debug", "cluster.nodes=3: debug allows a job at most 2 nodes", "cluster.nodes=2"),
    Wrong("polaris", P + "cluster.queue=prod", "cluster.queue=prod: prod requires at least 10 nodes per job, and a worker job runs on one", "cluster=allocation cluster.nodes=10"),
    Wrong("gadi", P + "cluster.jobs=0", "cluster.jobs=0: must be a whole number, 1 or more", "cluster.jobs=1"),
    Wrong("gadi", P + "cluster.min_workers=100", "cluster.min_workers=100: the request has only 48 workers", "cluster.min_workers=48"),
    Wrong("gadi", P + "cluster.jobs=4 cluster.max_cost=100", "cluster.max_cost=100: 4 worker jobs and the head job can cost 390 SU for the full walltime", "cluster.max_cost=390"),
    Wrong("gadi", P + "cluster.threads=0", "cluster.threads=0: must be a whole number, 1 or more", "cluster.threads=1"),
    Wrong("gadi", P + "cluster=allocation cluster.nodes=-1", "cluster.nodes=-1: must be a whole number, 1 or more", "cluster.nodes=1"),
    # time
    Wrong("gadi", P + "cluster.walltime=49:00:00", "cluster.walltime=49:00:00: normal allows a job of 48 cores at most 48:00:00", "cluster.walltime=24:00:00"),
    Wrong("gadi", P + "cluster=allocation cluster.nodes=15 cluster.walltime=48:00:00", "cluster.walltime=48:00:00: normal allows a job of 720 cores at most 24:00:00", "cluster.walltime=24:00:00"),
    Wrong("gadi", P + "cluster.walltime=tomorrow", "cluster.walltime=tomorrow: not a time", "cluster.walltime=02:00:00"),
    Wrong("gadi", P + "cluster.walltime=0", "cluster.walltime=0: a job needs more than zero seconds", "cluster.walltime=01:00:00"),
    Wrong("gadi", P + "cluster.walltime=02:00:00 head.walltime=01:00:00", "head.walltime=01:00:00: the head job would end before worker jobs that wait in the queue", "head.walltime=04:00:00"),
    Wrong("gadi", P + "head.walltime=soon", "head.walltime=soon: not a time", "head.walltime=04:00:00"),
    # memory and disk
    Wrong("gadi", P + "cluster.mem=200GB", "cluster.mem=200GB: a node of normal has at most 192GB", "cluster.mem=192GB"),
    Wrong("gadi", P + "cluster.mem=16GB", "cluster.mem=16GB: leaves 319MB for each of 48 workers", "cluster.mem=20GB"),
    Wrong("gadi", P + "cluster.mem=8GB", "cluster.mem=8GB: leaves 157MB for each of 48 workers", "cluster.workers_per_job=16 cluster.threads=3"),
    Wrong("gadi", P + "cluster.mem=190", "cluster.mem=190: a bare number is bytes", "cluster.mem=190GB"),
    Wrong("gadi", P + "cluster.mem=lots", "cluster.mem=lots: not a size", "cluster.mem=4GB cluster.ncpus=1"),
    Wrong("gadi", P + "cluster.jobfs=500GB", "cluster.jobfs=500GB: a node of normal has at most 400GB", "cluster.jobfs=400GB"),
    Wrong("gadi", P + "cluster.jobfs=100MB", "cluster.jobfs=100MB: workers spill to $PBS_JOBFS, which is smaller than the memory of one worker", "cluster.jobfs=192GB"),
    Wrong("gadi", P + "cluster.jobfs=2GB", "cluster.jobfs=2GB: workers spill to $PBS_JOBFS, which is smaller than the memory of one worker", "cluster.jobfs=192GB", "warning"),
    Wrong("gadi", P + "cluster.jobfs=0", "cluster.jobfs=0KB: workers spill to $PBS_JOBFS, which is smaller than the memory of one worker", "cluster.jobfs=192GB"),
    Wrong("derecho", P + "cluster.jobfs=10GB", "cluster.jobfs=10GB: NCAR Derecho has no such resource", "cluster.jobfs=null"),
    Wrong("gadi", P + "head.mem=300MB", "head.mem=300MB: scheduler and client need 384MB", "head.mem=4GB"),
    Wrong("gadi", P + "head.ncpus=-1", "head.ncpus=-1: must be a whole number, 1 or more", "head.ncpus=1"),
    Wrong("gadi", P + "head.mem=200GB", "head.mem=200GB: a node of normal has at most 192GB", "head.mem=192GB"),
    # GPUs
    Wrong("gadi", P + "cluster.ngpus=1", "cluster.ngpus=1: a node of normal has no GPUs", "cluster.queue=gpuvolta"),
    Wrong("gadi", P + "cluster.queue=gpuvolta cluster.ngpus=5", "cluster.ngpus=5: a node of gpuvolta has 4 GPUs", "cluster.ngpus=4"),
    Wrong("gadi", P + "cluster.queue=gpuvolta cluster.ngpus=1 cluster.ncpus=16", "cluster.ncpus=16: gpuvolta requires 12 cores per GPU, and ngpus=1", "cluster.ngpus=1 cluster.ncpus=12"),
    Wrong("gadi", P + "cluster.queue=dgxa100 cluster.ngpus=0 cluster.ncpus=16", "cluster.ncpus=16: dgxa100 requires 16 cores per GPU, and ngpus=0", "cluster.ngpus=1 cluster.ncpus=16"),
    # storage
    Wrong("gadi", P + "cluster.storage=scratch/ab12", "cluster.storage=scratch/ab12: does not include gdata/ab12, which holds the environment, /g/data/ab12/venv", "cluster.storage=scratch/ab12+gdata/ab12"),
    Wrong("gadi", P + "cluster.storage=gdata/ab12", "cluster.storage=gdata/ab12: does not include scratch/ab12, which holds the scratch of the project", "cluster.storage=gdata/ab12+scratch/ab12"),
    Wrong("gadi", P + "cluster.environment.venv=/g/data/xy1/venv cluster.storage=scratch/ab12", "cluster.storage=scratch/ab12: does not include gdata/xy1, which holds the environment, /g/data/xy1/venv", "cluster.storage=scratch/ab12+gdata/xy1"),
    Wrong("gadi", P + "cluster.storage=scratch/ab12+gdata/ab12,wd", "cluster.storage='scratch/ab12+gdata/ab12,wd': 'gdata/ab12,wd' is not a file system of NCI Gadi", "cluster.storage=scratch/ab12+gdata/ab12"),
    Wrong("gadi", P + "cluster.storage=scratch/ab12,gdata/ab12", "cluster.storage='scratch/ab12,gdata/ab12': 'scratch/ab12,gdata/ab12' is not a file system of NCI Gadi", "cluster.storage=scratch/ab12+gdata/ab12"),
    Wrong("gadi", P + "cluster.storage=scratch/ab12+g/data/ab12", "cluster.storage='scratch/ab12+g/data/ab12': 'g/data/ab12' is not a file system of NCI Gadi", "cluster.storage=scratch/ab12+gdata/ab12"),
    Wrong("gadi", P + "head.storage=scratch/ab12", "head.storage=scratch/ab12: does not include gdata/ab12", "head.storage=scratch/ab12+gdata/ab12"),
    Wrong("polaris", P + "cluster.storage=home", "cluster.storage=home: does not include eagle", "cluster.storage=home:eagle"),
    Wrong("aurora", P + "cluster.storage=:", "cluster.storage is empty: ALCF Aurora requires -l filesystems=", "cluster.storage=flare:home"),
    Wrong("derecho", P + "cluster.storage=scratch/ab12", "cluster.storage=scratch/ab12: jobs at NCAR Derecho do not name their storage", "cluster.storage=null"),
    # limits of queues
    Wrong("gadi", P + "cluster.jobs=400", "cluster.jobs=400: normal runs 300 jobs at a time, including the head job", "cluster.jobs=299"),
    Wrong("gadi", P + "cluster.queue=megamem cluster.jobs=301", "cluster.jobs=301: megamem allows 300 queued jobs", "cluster.jobs=50"),
    Wrong("casper", P + "cluster.ncpus=36 cluster.jobs=21", "cluster.jobs=21: casper runs 720 cores at a time", "cluster.jobs=9"),
    Wrong("cx3", "cluster.ncpus=100 cluster.jobs=6", "cluster.jobs=6: large24 runs 500 cores at a time", "cluster.jobs=5"),
    Wrong("cx3", "cluster.ncpus=200", "cluster.ncpus=200: a node of large72 has 128 cores, and a worker job runs on one node", "cluster.ncpus=128 cluster.jobs=2"),
    # text
    Wrong("gadi", P + "'cluster.name=my job'", "cluster.name='my job': not allowed", "cluster.name=my-job"),
    Wrong("gadi", P + "cluster.name=1st", "cluster.name='1st': not allowed", "cluster.name=first"),
    Wrong("gadi", P + "cluster.environment.venv=venv", "cluster.environment.venv='venv': must be an absolute path", "cluster.environment.venv=/g/data/ab12/venv"),
    Wrong("gadi", P + "'cluster.environment.modules=[\"python3/3.12;rm\"]'", "cluster.environment.modules='python3/3.12;rm': not allowed", "\"cluster.environment.modules=[python3/3.12.1]\""),
    Wrong("gadi", P + "\"cluster.environment.variables={A-B:x}\"", "cluster.environment.variables='A-B': not allowed", "\"cluster.environment.variables={A_B:x}\""),
    Wrong("gadi", P + "\"cluster.environment.variables={OMP_NUM_THREADS:'4'}\"", "cluster.environment.variables.OMP_NUM_THREADS='4': hpcml sets it", "'cluster.environment.variables={}' cluster.threads=4"),
    Wrong("gadi", P + "\"cluster.extra_directives=['-q express']\"", "cluster.extra_directives: '-q express': -q is already set", "cluster.extra_directives=[] cluster.queue=express"),
    Wrong("gadi", P + "\"cluster.extra_directives=['-l walltime=1:00']\"", "cluster.extra_directives: '-l walltime=1:00': -l walltime is already set", "cluster.extra_directives=[] cluster.walltime=00:01:00"),
    Wrong("gadi", P + "\"cluster.extra_directives=['-m ae -q express']\"", "cluster.extra_directives: '-m ae -q express': not a directive", "\"cluster.extra_directives=['-m ae']\""),
    Wrong("gadi", P + "\"cluster.extra_directives=['-m a','-m e']\"", "cluster.extra_directives: '-m e': -m is already set", "\"cluster.extra_directives=['-m ae']\""),
    Wrong("gadi", P + "\"cluster.extra_directives=['-l WALLTIME=48:00:00']\"", "cluster.extra_directives: '-l WALLTIME=48:00:00': -l walltime is already set", "cluster.extra_directives=[]"),
    Wrong("gadi", P + "\"cluster.extra_directives=['-h']\"", "cluster.extra_directives: '-h': would make it a held job", "cluster.extra_directives=[]"),
    Wrong("gadi", P + "\"cluster.extra_directives=['-W block=true']\"", "cluster.extra_directives: '-W block=true': would make it a command that waits", "\"cluster.extra_directives=['-W umask=022', '-W group_list=x']\""),
    Wrong("generic_slurm", "cluster.ncpus=4 cluster.mem=8GB \"cluster.extra_directives=['--parti=x']\"", "cluster.extra_directives: '--parti=x': --partition is already set", "cluster.extra_directives=[]"),
    Wrong("testbed_openpbs", "\"site.directives=['-l walltime=99:00:00']\"", "site.directives: '-l walltime=99:00:00': a site cannot add this directive", "site.directives=[]"),
    Wrong("testbed_openpbs", "'site.interface=\"ib0; id\"'", "site.interface='ib0; id': not allowed", "site.interface=ib0"),
    Wrong("gadi", P + "\"cluster.extra_directives=['-J 0-9']\"", "cluster.extra_directives: '-J 0-9': would make it an array", "cluster.extra_directives=[] cluster.jobs=10"),
    Wrong("aurora", P + "\"cluster.extra_directives=['-l place=free']\"", "cluster.extra_directives: '-l place=free': -l place is already set", "cluster.extra_directives=[]"),
    Wrong("generic_slurm", "cluster.ncpus=4 cluster.mem=8GB \"cluster.extra_directives=['--time=1']\"", "cluster.extra_directives: '--time=1': --time is already set", "cluster.extra_directives=[]"),
    Wrong("testbed_slurm", "cluster=pbs cluster.ngpus=1", "cluster.ngpus=1: the scheduler's submit command ignores it", "cluster.ngpus=0"),
    # head
    Wrong("gadi", P + "head.ncpus=64", "head.ncpus=64: a node of normal has 48 cores, and a head job runs on one node", "head.ncpus=1"),
    Wrong("gadi", P + "head.queue=gpuvolta head.ncpus=1", "head.ncpus=1: gpuvolta requires 12 cores per GPU", "head.ncpus=12"),
    Wrong("polaris", P + "head.queue=prod", "head.queue=prod: prod requires at least 10 nodes per job, and a head job runs on one", "head.queue=preemptable"),
    Wrong("gadi", P + "cluster.walltime=48:00:00", "head.walltime=48:00:00: the head job would end before worker jobs that wait in the queue", None, "warning"),
    Wrong("gadi", P + "cluster.walltime=02:00", "cluster.walltime=00:02:00: 120 seconds are hardly enough to start workers", "cluster.walltime=02:00:00", "warning"),
    Wrong("gadi", P + "cluster.jobs=4", "the head job costs 2 SU per hour, even while its worker jobs wait in the queue", None, "warning"),
    Wrong("gadi", P + "head.where=here", "head.where=here: if this is a login node", "head.where=job", "warning"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def _another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the schedulers of the machine that runs the tests."""
    monkeypatch.setattr(Scheduler, "is_here", lambda self: False)
    monkeypatch.setenv("LOGNAME", "me")


def diagnostics(wrong: Wrong, *more: str) -> list[Diagnostic]:
    return resolved(wrong.site, [*wrong.words, *more])[1]


def of(wrong: Wrong) -> Diagnostic:
    found = [diagnostic for diagnostic in diagnostics(wrong) if diagnostic.text.startswith(wrong.text)]
    assert found, [diagnostic.text for diagnostic in diagnostics(wrong)]
    return found[0]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: f"{wrong.site} {wrong.overrides.replace(P, '')}"[:60])
class TestWrong:
    def test_is_reported_with_rule_and_remedy(self, wrong: Wrong) -> None:
        found = of(wrong)
        assert found.severity == wrong.severity
        assert found.remedy
        assert found.source

    def test_the_remedy_fixes_it(self, wrong: Wrong) -> None:
        if wrong.mended is not None:
            left = diagnostics(wrong, *shlex.split(wrong.mended))
            assert not [diagnostic.text for diagnostic in left if diagnostic.severity == "error"]
            assert not [diagnostic.text for diagnostic in left if diagnostic.text.startswith(wrong.text)]


# These break two rules: the project's name is in the storage as well, and a queue without GPUs is the other reason for
# not asking Slurm's qsub for one.
TWICE = {P_ID, "cluster=pbs cluster.ngpus=1"}


def test_one_mistake_gets_one_error() -> None:
    """Consequences of a mistake are not reported as further errors."""
    for wrong in WRONG:
        errors = [diagnostic.text for diagnostic in diagnostics(wrong) if diagnostic.severity == "error"]
        assert len(errors) == 1 or wrong.severity == "warning" or wrong.overrides in TWICE, (wrong, errors)


def test_the_table_in_the_docs(recorded: Callable[[Path, str], None]) -> None:
    rows = []
    for wrong in WRONG:
        found = of(wrong)
        cells = [f"`site={wrong.site} {wrong.overrides}`", found.text, found.remedy, found.source]
        rows.append("| " + " | ".join(cell.replace("|", "\\|").strip() for cell in cells) + " |")
    text = (
        "# Wrong requests\n\n"
        f"{len(WRONG)} invalid or doubtful requests, and the message of `hpcml plan` for each. `run` and `submit`\n"
        "make the same checks before they submit anything. An error ends the command with exit code 2; the\n"
        "last requests get warnings. hpcml reports all problems of a request at once. With\n"
        "`cluster.strict=false`, a request that only exceeds a figure of the site gets a warning, because that\n"
        "figure may have changed.\n\n"
        "The requests are those of a user with an environment in /g/data/ab12, /eagle/ab12 or /flare/ab12.\n\n"
        "The tests write this file: `pytest tests/unit/test_check.py --rewrite`.\n\n"
        "| request | problem | correction | rule |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"
    )
    recorded(DOCS / "wrong-requests.md", text)


def test_the_table_covers_all_rules() -> None:
    assert len({wrong.text.partition(":")[2] for wrong in WRONG}) > 30


@pytest.mark.parametrize("name", SITES)
def test_the_defaults_of_every_site_are_valid(name: str) -> None:
    needed = {
        "generic_pbs": ["cluster.ncpus=4", "cluster.mem=8GB"],
        "generic_slurm": ["cluster.ncpus=4", "cluster.mem=8GB"],
    }
    for kind in ([], ["cluster=allocation"]):
        _, found = resolved(name, [P.strip(), *needed.get(name, []), *kind])
        assert not [diagnostic.text for diagnostic in found if diagnostic.severity == "error"]


def test_all_errors_are_reported_together() -> None:
    _, found = resolved(
        "gadi", ["cluster.ncpus=100", "cluster.walltime=x", "cluster.storage=gdata/xy", "head.mem=200GB"]
    )
    text = str(RequestError(found))
    assert re.match(r"the request has [5-9] errors\n", text)
    for part in ("cluster.project", "cluster.ncpus=100", "cluster.walltime=x", "gdata/ab12", "head.mem=200GB"):
        assert part in text


def test_too_many_cores_for_a_worker_job() -> None:
    found = of(next(wrong for wrong in WRONG if "cluster.ncpus=100" in wrong.overrides and wrong.site == "gadi"))
    assert found.text == "cluster.ncpus=100: a node of normal has 48 cores, and a worker job runs on one node"
    assert found.remedy.startswith("use cluster.ncpus=48 cluster.jobs=3; a job on several nodes needs cluster=alloc")


class TestStrictFalse:
    def test_demotes_site_limits(self) -> None:
        _, found = resolved("gadi", [P.strip(), "cluster.walltime=49:00:00", "cluster.strict=false"])
        walltime = [diagnostic for diagnostic in found if diagnostic.text.startswith("cluster.walltime=49")]
        assert [diagnostic.severity for diagnostic in walltime] == ["warning"]

    def test_allows_a_queue_missing_from_the_site_file(self) -> None:
        overrides = [P.strip(), "cluster.queue=biodev", "cluster.ncpus=48", "cluster.mem=190GB", "cluster.strict=false"]
        request, found = resolved("gadi", overrides)
        assert request.worker.queue == "biodev"
        assert not [diagnostic for diagnostic in found if diagnostic.severity == "error"]

    @pytest.mark.parametrize(
        "text", ["cluster.ncpus=100", "cluster.threads=7", "cluster.mem=1GB", "cluster.name='a b'"]
    )
    def test_does_not_demote_impossible_requests(self, text: str) -> None:
        _, found = resolved("gadi", [P.strip(), *shlex.split(text), "cluster.strict=false"])
        assert [diagnostic for diagnostic in found if diagnostic.severity == "error"]


class TestHeadHere:
    OVERRIDES = ("cluster.project=ab12", "cluster.walltime=02:00:00")

    def test_on_a_login_node(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(socket, "gethostname", lambda: "gadi-login-03.gadi.nci.org.au")
        _, found = resolved("gadi", self.OVERRIDES, here=True)
        (text,) = [diagnostic.text for diagnostic in found if diagnostic.severity == "error"]
        assert text == (
            "head.where=here: gadi-login-03 is a login node, where NCI Gadi kills a process after 00:30:00 "
            "or above 4GB; the worker jobs wait in the queue and then have 02:00:00"
        )

    def test_for_a_short_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(socket, "gethostname", lambda: "gadi-login-03")
        overrides = ["cluster.project=ab12", "cluster.walltime=00:20:00", "site.head.wait=00:05:00"]
        _, found = resolved("gadi", overrides, here=True)
        assert not found

    def test_in_a_job(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PBS_JOBID", "1.gadi-pbs")
        _, found = resolved("gadi", self.OVERRIDES, here=True)
        assert not found


def test_ncis_gpu_example_is_valid() -> None:
    """opus page 236880942, "Job Costs": one GPU, 380GB, five hours."""
    overrides = [
        P.strip(),
        "cluster.queue=gpuvolta",
        "cluster.ngpus=1",
        "cluster.mem=380GB",
        "cluster.walltime=05:00:00",
    ]
    _, found = resolved("gadi", overrides)
    assert [diagnostic.severity for diagnostic in found] == ["warning"]


def test_the_head_uses_a_queue_with_enough_walltime() -> None:
    request, found = resolved("derecho", [P.strip(), "cluster.queue=main", "cluster.walltime=09:00:00"])
    assert request.head is not None
    assert request.head.queue == "main"
    assert not [diagnostic for diagnostic in found if diagnostic.severity == "error"]


def test_several_gpu_nodes_are_whole_by_default() -> None:
    request, found = resolved("gadi", [P.strip(), "cluster=allocation", "cluster.nodes=4", "cluster.queue=gpuvolta"])
    assert (request.worker.ncpus, request.worker.ngpus) == (48, 4)
    assert not [diagnostic for diagnostic in found if diagnostic.severity == "error"]


def test_large_numbers_are_fast() -> None:
    resolved("gadi", [P.strip(), "cluster.ncpus=480000000"])


def test_storage_includes_the_environment_script(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPCML_ENV", "/g/data/zz8/env.sh")
    request, _ = resolved("gadi", [P.strip()])
    assert "gdata/zz8" in request.worker.storage


def test_storage_can_be_extended() -> None:
    request, found = resolved("gadi", [P.strip(), "cluster.storage=+gdata/zz9"])
    assert request.worker.storage == ("scratch/ab12", "gdata/ab12", "gdata/zz9")
    assert not [diagnostic for diagnostic in found if diagnostic.severity == "error"]


@pytest.mark.parametrize("typed", ["~/venv", "$HOME/venv", "/home/me/venv/bin/activate"])
def test_spellings_of_a_venv(typed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    request, _ = resolved("gadi", [P.strip(), f"cluster.environment.venv='{typed}'"])
    assert request.environment.venv == "/home/me/venv"


def test_scratch_on_a_local_disk() -> None:
    _, found = resolved("testbed_openpbs", [], at=replace(places("x"), scratch="/tmp/me/runs"))
    assert [c.severity for c in found if "is on a node's local disk" in c.text] == ["warning"]


def test_scratch_with_characters_that_directives_cannot_hold() -> None:
    _, found = resolved("testbed_openpbs", [], at=replace(places("x"), scratch="/shared/my runs"))
    assert [c.text for c in found if c.severity == "error" and "my runs" in c.text]


def test_storage_includes_data_of_another_project() -> None:
    request, found = resolved("gadi", [P.strip()], at=replace(places("gadi"), data=("/g/data/xy77/flights.parquet",)))
    assert request.worker.storage == ("scratch/ab12", "gdata/ab12", "gdata/xy77")
    assert not [diagnostic for diagnostic in found if diagnostic.severity == "error"]


def test_messages_are_single_lines() -> None:
    for wrong in WRONG:
        for diagnostic in diagnostics(wrong):
            assert not re.search(r"[\n\r]", diagnostic.text + diagnostic.remedy + diagnostic.source)
