"""Wrong requests and what each is told. docs/wrong-requests.md is written from this file: pytest --rewrite."""

# ruff: noqa: E501  # a table has a line for each request

from __future__ import annotations

import re
import shlex
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from tests.unit.requests import SITES, places, settled

from hpcml.batch.complaint import Complaint, RequestError
from hpcml.site import Site

DOCS = Path(__file__).parents[2] / "docs"


@dataclass(frozen=True)
class Wrong:
    """Overrides, the beginning of the complaint that they get, and overrides that mend it."""

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
    # the machine
    Wrong("gadi", P + "cluster=slurm", "cluster=slurm: NCI Gadi has pbs", "cluster=pbs"),
    Wrong("gadi", "", "cluster.project is not set", P),
    Wrong("gadi", P_ID, "cluster.project='ab12;id': cannot stand", P),
    Wrong("gadi", P + "cluster.queue=norml", "cluster.queue='norml': NCI Gadi has no such queue", "cluster.queue=normal"),
    Wrong("gadi", P + "'cluster.queue=normal -q express'", "cluster.queue='normal -q express': cannot stand", "cluster.queue=normal"),
    Wrong("testbed_openpbs", "site.default_queue=null cluster.ncpus=4 cluster.mem=6GB", "cluster.queue is not set", "cluster.queue=normal"),
    Wrong("generic_pbs", "cluster.mem=8GB", "cluster.ncpus is not set", "cluster.ncpus=4"),
    Wrong("generic_pbs", "cluster.ncpus=4", "cluster.mem is not set", "cluster.mem=8GB"),
    # cores
    Wrong("gadi", P + "cluster.ncpus=100", "cluster.ncpus=100: a worker job lives on one node and normal has 48", "cluster.ncpus=48 cluster.jobs=3"),
    Wrong("gadi", P + "cluster.ncpus=8 cluster.threads=3", "cluster.ncpus=8: is not workers_per_job=2 x threads=3", "cluster.ncpus=6"),
    Wrong("gadi", P + "cluster.ncpus=48 cluster.workers_per_job=5 cluster.threads=8", "cluster.ncpus=48: is not workers_per_job=5 x threads=8", "cluster.ncpus=48 cluster.workers_per_job=6"),
    Wrong("gadi", P + "cluster.queue=hugemembw cluster.ncpus=10", "cluster.ncpus=10: hugemembw takes multiples of 7", "cluster.ncpus=7"),
    Wrong("gadi", P + "cluster.queue=megamembw cluster.ncpus=16", "cluster.ncpus=16: megamembw takes multiples of 32", "cluster.ncpus=32"),
    Wrong("gadi", P + "cluster=allocation cluster.nodes=2 cluster.ncpus=24", "cluster.ncpus=24: a job on several nodes of normal takes whole ones", "cluster.ncpus=48"),
    Wrong("gadi", P + "cluster=allocation cluster.nodes=2 cluster.ncpus=96", "cluster.ncpus=96: one node of an allocation and normal has 48", "cluster.ncpus=48 cluster.nodes=4"),
    Wrong("gadi", P + "cluster=allocation cluster.queue=hugemem cluster.nodes=5", "cluster.nodes=5: 240 cores, and hugemem gives a job 192 at most", "cluster.nodes=4 cluster.walltime=05:00:00"),
    Wrong("derecho", P + "cluster.queue=main cluster.ncpus=64", "cluster.ncpus=64: main gives whole nodes only, of 128", "cluster.ncpus=128"),
    Wrong("polaris", P + "cluster=allocation cluster.nodes=3 cluster.queue=debug", "cluster.nodes=3: debug gives a job 2 nodes at most", "cluster.nodes=2"),
    Wrong("polaris", P + "cluster.queue=prod", "cluster.queue=prod: prod takes jobs of 10 nodes at least, and a worker job lives on one", "cluster=allocation cluster.nodes=10"),
    Wrong("gadi", P + "cluster.jobs=0", "cluster.jobs=0: must be 1 or more", "cluster.jobs=1"),
    Wrong("gadi", P + "cluster.min_workers=100", "cluster.min_workers=100: only 48 workers are asked for", "cluster.min_workers=48"),
    Wrong("gadi", P + "cluster.jobs=4 cluster.max_cost=100", "cluster.max_cost=100: 4 worker jobs and the head cost 390 SU to their walltime", "cluster.max_cost=390"),
    Wrong("gadi", P + "cluster.threads=0", "cluster.threads=0: must be 1 or more", "cluster.threads=1"),
    Wrong("gadi", P + "cluster=allocation cluster.nodes=-1", "cluster.nodes=-1: must be 1 or more", "cluster.nodes=1"),
    # time
    Wrong("gadi", P + "cluster.walltime=49:00:00", "cluster.walltime=49:00:00: normal gives a job of 48 cores 48:00:00 at most", "cluster.walltime=24:00:00"),
    Wrong("gadi", P + "cluster=allocation cluster.nodes=15 cluster.walltime=48:00:00", "cluster.walltime=48:00:00: normal gives a job of 720 cores 24:00:00 at most", "cluster.walltime=24:00:00"),
    Wrong("gadi", P + "cluster.walltime=tomorrow", "cluster.walltime=tomorrow: not a time", "cluster.walltime=02:00:00"),
    Wrong("gadi", P + "cluster.walltime=0", "cluster.walltime=0: a job needs some time", "cluster.walltime=01:00:00"),
    Wrong("gadi", P + "cluster.walltime=02:00:00 head.walltime=01:00:00", "head.walltime=01:00:00: worker jobs that wait in the queue would still be running", "head.walltime=04:00:00"),
    Wrong("gadi", P + "head.walltime=soon", "head.walltime=soon: not a time", "head.walltime=04:00:00"),
    # memory and disk
    Wrong("gadi", P + "cluster.mem=192GB", "cluster.mem=192GB: a node of normal gives 190GB at most", "cluster.mem=190GB"),
    Wrong("gadi", P + "cluster.mem=16GB", "cluster.mem=16GB: leaves each of 48 workers", "cluster.mem=20GB"),
    Wrong("gadi", P + "cluster.mem=8GB", "cluster.mem=8GB: leaves each of 48 workers", "cluster.workers_per_job=16 cluster.threads=3"),
    Wrong("gadi", P + "cluster.mem=190", "cluster.mem=190: a bare number is bytes", "cluster.mem=190GB"),
    Wrong("gadi", P + "cluster.mem=lots", "cluster.mem=lots: not a size", "cluster.mem=4GB cluster.ncpus=1"),
    Wrong("gadi", P + "cluster.jobfs=500GB", "cluster.jobfs=500GB: a node of normal gives 400GB at most", "cluster.jobfs=400GB"),
    Wrong("gadi", P + "cluster.jobfs=100MB", "cluster.jobfs=100MB: workers spill to $PBS_JOBFS, and not even one worker's", "cluster.jobfs=190GB"),
    Wrong("gadi", P + "cluster.jobfs=2GB", "cluster.jobfs=2GB: workers spill to $PBS_JOBFS, and not even one worker's", "cluster.jobfs=190GB", "warning"),
    Wrong("gadi", P + "cluster.jobfs=0", "cluster.jobfs=0KB: workers spill to $PBS_JOBFS, and not even one worker's", "cluster.jobfs=190GB"),
    Wrong("derecho", P + "cluster.jobfs=10GB", "cluster.jobfs=10GB: NCAR Derecho has no such resource", "cluster.jobfs=null"),
    Wrong("gadi", P + "head.mem=300MB", "head.mem=300MB: scheduler and client take 384MB", "head.mem=4GB"),
    Wrong("gadi", P + "head.ncpus=-1", "head.ncpus=-1: must be 1 or more", "head.ncpus=1"),
    Wrong("gadi", P + "head.mem=200GB", "head.mem=200GB: a node of normal gives 190GB at most", "head.mem=190GB"),
    # GPUs
    Wrong("gadi", P + "cluster.ngpus=1", "cluster.ngpus=1: a node of normal has none", "cluster.queue=gpuvolta"),
    Wrong("gadi", P + "cluster.queue=gpuvolta cluster.ngpus=5", "cluster.ngpus=5: a node of gpuvolta has 4", "cluster.ngpus=4"),
    Wrong("gadi", P + "cluster.queue=gpuvolta cluster.ngpus=1 cluster.ncpus=16", "cluster.ncpus=16: gpuvolta wants 12 for each GPU, and ngpus=1", "cluster.ngpus=1 cluster.ncpus=12"),
    Wrong("gadi", P + "cluster.queue=dgxa100 cluster.ngpus=0 cluster.ncpus=16", "cluster.ncpus=16: dgxa100 wants 16 for each GPU, and ngpus=0", "cluster.ngpus=1 cluster.ncpus=16"),
    # storage
    Wrong("gadi", P + "cluster.storage=scratch/ab12", "cluster.storage=scratch/ab12: does not name gdata/ab12, on which lies the environment, /g/data/ab12/venv", "cluster.storage=scratch/ab12+gdata/ab12"),
    Wrong("gadi", P + "cluster.storage=gdata/ab12", "cluster.storage=gdata/ab12: does not name scratch/ab12, on which lies the scratch of the project", "cluster.storage=gdata/ab12+scratch/ab12"),
    Wrong("gadi", P + "cluster.environment.venv=/g/data/xy1/venv cluster.storage=scratch/ab12", "cluster.storage=scratch/ab12: does not name gdata/xy1, on which lies the environment, /g/data/xy1/venv", "cluster.storage=scratch/ab12+gdata/xy1"),
    Wrong("gadi", P + "cluster.storage=scratch/ab12+gdata/ab12,wd", "cluster.storage='scratch/ab12+gdata/ab12,wd': 'gdata/ab12,wd' is no file system's name", "cluster.storage=scratch/ab12+gdata/ab12"),
    Wrong("gadi", P + "cluster.storage=scratch/ab12,gdata/ab12", "cluster.storage='scratch/ab12,gdata/ab12': 'scratch/ab12,gdata/ab12' is no file system's name", "cluster.storage=scratch/ab12+gdata/ab12"),
    Wrong("gadi", P + "cluster.storage=scratch/ab12+g/data/ab12", "cluster.storage='scratch/ab12+g/data/ab12': 'g/data/ab12' is no file system's name", "cluster.storage=scratch/ab12+gdata/ab12"),
    Wrong("gadi", P + "head.storage=scratch/ab12", "head.storage=scratch/ab12: does not name gdata/ab12", "head.storage=scratch/ab12+gdata/ab12"),
    Wrong("polaris", P + "cluster.storage=home", "cluster.storage=home: does not name eagle", "cluster.storage=home:eagle"),
    Wrong("aurora", P + "cluster.storage=:", "cluster.storage is empty: ALCF Aurora wants -l filesystems=", "cluster.storage=flare:home"),
    Wrong("derecho", P + "cluster.storage=scratch/ab12", "cluster.storage=scratch/ab12: NCAR Derecho wants none named", "cluster.storage=null"),
    # how many
    Wrong("gadi", P + "cluster.jobs=400", "cluster.jobs=400: normal runs 300 jobs at a time, of which the head takes one", "cluster.jobs=299"),
    Wrong("gadi", P + "cluster.queue=megamem cluster.jobs=301", "cluster.jobs=301: megamem lets 300 jobs wait", "cluster.jobs=50"),
    Wrong("casper", P + "cluster.ncpus=36 cluster.jobs=21", "cluster.jobs=21: casper runs 720 cores at a time", "cluster.jobs=9"),
    Wrong("cx3", "cluster.ncpus=100 cluster.jobs=6", "cluster.jobs=6: large24 runs 500 cores at a time", "cluster.jobs=5"),
    Wrong("cx3", "cluster.ncpus=200", "cluster.ncpus=200: a worker job lives on one node and large72 has 128", "cluster.ncpus=128 cluster.jobs=2"),
    # texts
    Wrong("gadi", P + "'cluster.name=my job'", "cluster.name='my job': cannot stand", "cluster.name=my-job"),
    Wrong("gadi", P + "cluster.name=1st", "cluster.name='1st': cannot stand", "cluster.name=first"),
    Wrong("gadi", P + "cluster.environment.venv=venv", "cluster.environment.venv='venv': jobs start elsewhere", "cluster.environment.venv=/g/data/ab12/venv"),
    Wrong("gadi", P + "'cluster.environment.modules=[\"python3/3.12;rm\"]'", "cluster.environment.modules='python3/3.12;rm': cannot stand", "\"cluster.environment.modules=[python3/3.12.1]\""),
    Wrong("gadi", P + "\"cluster.environment.variables={A-B:x}\"", "cluster.environment.variables='A-B': cannot stand", "\"cluster.environment.variables={A_B:x}\""),
    Wrong("gadi", P + "\"cluster.environment.variables={OMP_NUM_THREADS:'4'}\"", "cluster.environment.variables.OMP_NUM_THREADS='4': hpcml sets it", "'cluster.environment.variables={}' cluster.threads=4"),
    Wrong("gadi", P + "\"cluster.extra_directives=['-q express']\"", "cluster.extra_directives: '-q express': -q is there already", "cluster.extra_directives=[] cluster.queue=express"),
    Wrong("gadi", P + "\"cluster.extra_directives=['-l walltime=1:00']\"", "cluster.extra_directives: '-l walltime=1:00': -l walltime is there already", "cluster.extra_directives=[] cluster.walltime=00:01:00"),
    Wrong("gadi", P + "\"cluster.extra_directives=['-m ae -q express']\"", "cluster.extra_directives: '-m ae -q express': is no directive", "\"cluster.extra_directives=['-m ae']\""),
    Wrong("gadi", P + "\"cluster.extra_directives=['-m a','-m e']\"", "cluster.extra_directives: '-m e': -m is there already", "\"cluster.extra_directives=['-m ae']\""),
    Wrong("gadi", P + "\"cluster.extra_directives=['-l WALLTIME=48:00:00']\"", "cluster.extra_directives: '-l WALLTIME=48:00:00': -l walltime is there already", "cluster.extra_directives=[]"),
    Wrong("gadi", P + "\"cluster.extra_directives=['-h']\"", "cluster.extra_directives: '-h': makes a held job of it", "cluster.extra_directives=[]"),
    Wrong("gadi", P + "\"cluster.extra_directives=['-W block=true']\"", "cluster.extra_directives: '-W block=true': makes a command that waits of it", "\"cluster.extra_directives=['-W umask=022', '-W group_list=x']\""),
    Wrong("generic_slurm", "cluster.ncpus=4 cluster.mem=8GB \"cluster.extra_directives=['--parti=x']\"", "cluster.extra_directives: '--parti=x': --partition is there already", "cluster.extra_directives=[]"),
    Wrong("testbed_openpbs", "\"site.directives=['-l walltime=99:00:00']\"", "site.directives: '-l walltime=99:00:00': is no directive that a site may add", "site.directives=[]"),
    Wrong("testbed_openpbs", "'site.interface=\"ib0; id\"'", "site.interface='ib0; id': cannot stand", "site.interface=ib0"),
    Wrong("gadi", P + "\"cluster.extra_directives=['-J 0-9']\"", "cluster.extra_directives: '-J 0-9': makes an array of it", "cluster.extra_directives=[] cluster.jobs=10"),
    Wrong("aurora", P + "\"cluster.extra_directives=['-l place=free']\"", "cluster.extra_directives: '-l place=free': -l place is there already", "cluster.extra_directives=[]"),
    Wrong("generic_slurm", "cluster.ncpus=4 cluster.mem=8GB \"cluster.extra_directives=['--time=1']\"", "cluster.extra_directives: '--time=1': --time is there already", "cluster.extra_directives=[]"),
    Wrong("testbed_slurm", "cluster=pbs cluster.ngpus=1", "cluster.ngpus=1: Slurm's qsub ignores it", "cluster.ngpus=0"),
    # the head
    Wrong("gadi", P + "head.ncpus=64", "head.ncpus=64: a head job lives on one node and normal has 48", "head.ncpus=1"),
    Wrong("gadi", P + "head.queue=gpuvolta head.ncpus=1", "head.ncpus=1: gpuvolta wants 12 for each GPU", "head.ncpus=12"),
    Wrong("polaris", P + "head.queue=prod", "head.queue=prod: prod takes jobs of 10 nodes at least, and a head job lives on one", "head.queue=preemptable"),
    Wrong("gadi", P + "cluster.walltime=48:00:00", "head.walltime=48:00:00: worker jobs that wait in the queue would still be running", None, "warning"),
    Wrong("gadi", P + "cluster.walltime=02:00", "cluster.walltime=00:02:00: is 120 seconds, in which workers hardly start", "cluster.walltime=02:00:00", "warning"),
    Wrong("gadi", P + "cluster.jobs=4", "the head job costs 2 SU an hour, also while its worker jobs wait in the queue", None, "warning"),
    Wrong("gadi", P + "head.where=here", "head.where=here: if this is a login node", "head.where=job", "warning"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def _another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever schedulers the machine of the tests has."""
    monkeypatch.setattr(Site, "is_here", lambda site, scheduler: False)
    monkeypatch.setenv("LOGNAME", "me")


def complaints(wrong: Wrong, *more: str) -> list[Complaint]:
    return settled(wrong.site, [*wrong.words, *more])[1]


def of(wrong: Wrong) -> Complaint:
    found = [complaint for complaint in complaints(wrong) if complaint.text.startswith(wrong.text)]
    assert found, [complaint.text for complaint in complaints(wrong)]
    return found[0]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: f"{wrong.site} {wrong.overrides.replace(P, '')}"[:60])
class TestWrong:
    def test_is_told_with_its_rule_and_remedy(self, wrong: Wrong) -> None:
        found = of(wrong)
        assert found.severity == wrong.severity
        assert found.remedy
        assert found.source

    def test_what_is_said_to_type_mends_it(self, wrong: Wrong) -> None:
        if wrong.mended is not None:
            left = complaints(wrong, *shlex.split(wrong.mended))
            assert not [complaint.text for complaint in left if complaint.severity == "error"]
            assert not [complaint.text for complaint in left if complaint.text.startswith(wrong.text)]


# These break two rules: the project's name is in the storage as well, and a queue without GPUs is the other reason for
# not asking Slurm's qsub for one.
TWICE = {P_ID, "cluster=pbs cluster.ngpus=1"}


def test_one_mistake_gets_one_error() -> None:
    """What follows from it is not told as well."""
    for wrong in WRONG:
        errors = [complaint.text for complaint in complaints(wrong) if complaint.severity == "error"]
        assert len(errors) == 1 or wrong.severity == "warning" or wrong.overrides in TWICE, (wrong, errors)


def test_the_table_in_the_docs(recorded: Callable[[Path, str], None]) -> None:
    rows = []
    for wrong in WRONG:
        found = of(wrong)
        cells = [f"`site={wrong.site} {wrong.overrides}`", found.text, found.remedy, found.source]
        rows.append("| " + " | ".join(cell.replace("|", "\\|").strip() for cell in cells) + " |")
    text = (
        "# Wrong requests\n\n"
        f"{len(WRONG)} requests, and what `hpcml plan` says of each. `run` makes the same check before it submits\n"
        "anything. An error ends it with exit code 2; the last ones are warnings. All that is wrong with a request is told\n"
        "at once. `cluster.strict=false` makes warnings of what only breaks a figure of the site's, which may have changed.\n\n"
        "They are those of somebody whose environment lies in /g/data/ab12, /eagle/ab12 or /flare/ab12.\n\n"
        "This file is written by the tests: `pytest tests/unit/test_check.py --rewrite`.\n\n"
        "| typed | what is wrong | what to type | by which rule |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"
    )
    recorded(DOCS / "wrong-requests.md", text)


def test_there_are_enough_of_them() -> None:
    assert len({wrong.text.partition(":")[2] for wrong in WRONG}) > 30


@pytest.mark.parametrize("name", SITES)
def test_the_defaults_of_every_site_are_right(name: str) -> None:
    needed = {
        "generic_pbs": ["cluster.ncpus=4", "cluster.mem=8GB"],
        "generic_slurm": ["cluster.ncpus=4", "cluster.mem=8GB"],
    }
    for kind in ([], ["cluster=allocation"]):
        _, found = settled(name, [P.strip(), *needed.get(name, []), *kind])
        assert not [complaint.text for complaint in found if complaint.severity == "error"]


def test_all_that_is_wrong_is_told_at_once() -> None:
    _, found = settled(
        "gadi", ["cluster.ncpus=100", "cluster.walltime=x", "cluster.storage=gdata/xy", "head.mem=200GB"]
    )
    text = str(RequestError(found))
    assert re.match(r"[5-9] things are wrong with this request\n", text)
    for part in ("cluster.project", "cluster.ncpus=100", "cluster.walltime=x", "gdata/ab12", "head.mem=200GB"):
        assert part in text


def test_the_example_of_a_worker_job_that_is_too_large() -> None:
    found = of(next(wrong for wrong in WRONG if "cluster.ncpus=100" in wrong.overrides and wrong.site == "gadi"))
    assert found.text == "cluster.ncpus=100: a worker job lives on one node and normal has 48"
    assert found.remedy.startswith(
        "use cluster.ncpus=48 cluster.jobs=3; several nodes in one job only with cluster=alloc"
    )


class TestStrictFalse:
    def test_demotes_a_limit_of_the_sites(self) -> None:
        _, found = settled("gadi", [P.strip(), "cluster.walltime=49:00:00", "cluster.strict=false"])
        walltime = [complaint for complaint in found if complaint.text.startswith("cluster.walltime=49")]
        assert [complaint.severity for complaint in walltime] == ["warning"]

    def test_lets_a_queue_through_that_the_site_file_does_not_know(self) -> None:
        overrides = [P.strip(), "cluster.queue=biodev", "cluster.ncpus=48", "cluster.mem=190GB", "cluster.strict=false"]
        request, found = settled("gadi", overrides)
        assert request.worker.queue == "biodev"
        assert not [complaint for complaint in found if complaint.severity == "error"]

    @pytest.mark.parametrize(
        "text", ["cluster.ncpus=100", "cluster.threads=7", "cluster.mem=1GB", "cluster.name='a b'"]
    )
    def test_does_not_demote_what_cannot_work(self, text: str) -> None:
        _, found = settled("gadi", [P.strip(), *shlex.split(text), "cluster.strict=false"])
        assert [complaint for complaint in found if complaint.severity == "error"]


class TestHeadHere:
    OVERRIDES = ("cluster.project=ab12", "cluster.walltime=02:00:00")

    def test_on_a_login_node(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(socket, "gethostname", lambda: "gadi-login-03.gadi.nci.org.au")
        _, found = settled("gadi", self.OVERRIDES, here=True)
        (text,) = [complaint.text for complaint in found if complaint.severity == "error"]
        assert text == (
            "head.where=here: gadi-login-03 is a login node, where NCI Gadi ends a process after 00:30:00 or above 4GB, "
            "and the worker jobs have 02:00:00 after their wait in the queue"
        )

    def test_for_a_short_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(socket, "gethostname", lambda: "gadi-login-03")
        overrides = ["cluster.project=ab12", "cluster.walltime=00:20:00", "site.head.wait=00:05:00"]
        _, found = settled("gadi", overrides, here=True)
        assert not found

    def test_in_a_job(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PBS_JOBID", "1.gadi-pbs")
        _, found = settled("gadi", self.OVERRIDES, here=True)
        assert not found


def test_ncis_own_gpu_example_is_right() -> None:
    """opus page 236880942, "Job Costs": one GPU, 380GB, five hours."""
    overrides = [
        P.strip(),
        "cluster.queue=gpuvolta",
        "cluster.ngpus=1",
        "cluster.mem=380GB",
        "cluster.walltime=05:00:00",
    ]
    _, found = settled("gadi", overrides)
    assert [complaint.severity for complaint in found] == ["warning"]


def test_the_head_goes_where_it_can_live_long_enough() -> None:
    request, found = settled("derecho", [P.strip(), "cluster.queue=main", "cluster.walltime=09:00:00"])
    assert request.head is not None
    assert request.head.queue == "main"
    assert not [complaint for complaint in found if complaint.severity == "error"]


def test_whole_gpu_nodes_are_the_default_of_several() -> None:
    request, found = settled("gadi", [P.strip(), "cluster=allocation", "cluster.nodes=4", "cluster.queue=gpuvolta"])
    assert (request.worker.ncpus, request.worker.ngpus) == (48, 4)
    assert not [complaint for complaint in found if complaint.severity == "error"]


def test_large_numbers_are_answered_at_once() -> None:
    began = time.monotonic()
    settled("gadi", [P.strip(), "cluster.ncpus=480000000"])
    assert time.monotonic() - began < 5


def test_the_file_system_of_the_environments_script_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPCML_ENV", "/g/data/zz8/env.sh")
    request, _ = settled("gadi", [P.strip()])
    assert "gdata/zz8" in request.worker.storage


def test_storage_can_be_added_to() -> None:
    request, found = settled("gadi", [P.strip(), "cluster.storage=+gdata/zz9"])
    assert request.worker.storage == ("scratch/ab12", "gdata/ab12", "gdata/zz9")
    assert not [complaint for complaint in found if complaint.severity == "error"]


@pytest.mark.parametrize("typed", ["~/venv", "$HOME/venv", "/home/me/venv/bin/activate"])
def test_a_venv_as_people_write_it(typed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    request, _ = settled("gadi", [P.strip(), f"cluster.environment.venv='{typed}'"])
    assert request.environment.venv == "/home/me/venv"


def test_scratch_that_other_nodes_do_not_see() -> None:
    _, found = settled("testbed_openpbs", [], at=replace(places("x"), scratch="/tmp/me/runs"))
    assert [c.severity for c in found if "lies on one node's own disk" in c.text] == ["warning"]


def test_scratch_that_no_directive_can_name() -> None:
    _, found = settled("testbed_openpbs", [], at=replace(places("x"), scratch="/shared/my runs"))
    assert [c.text for c in found if c.severity == "error" and "my runs" in c.text]


def test_data_on_another_projects_disk_is_named() -> None:
    request, found = settled("gadi", [P.strip()], at=replace(places("gadi"), data=("/g/data/xy77/flights.parquet",)))
    assert request.worker.storage == ("scratch/ab12", "gdata/ab12", "gdata/xy77")
    assert not [complaint for complaint in found if complaint.severity == "error"]


def test_a_message_never_spreads_over_lines() -> None:
    for wrong in WRONG:
        for complaint in complaints(wrong):
            assert not re.search(r"[\n\r]", complaint.text + complaint.remedy + complaint.source)
