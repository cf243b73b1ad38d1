"""Complete job scripts for every site, and properties of scripts for arbitrary requests."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from tests.unit.requests import SITES, places, resolved, site

from hpcml.batch.check import check
from hpcml.batch.directives import _keep_node, directives, head_script, lines, options, worker_script
from hpcml.batch.request import Job, Places, Request
from hpcml.batch.resolution import resolve
from hpcml.runs import RunPaths
from hpcml.site import Queue
from hpcml.spec import AllocationSpec, BatchSpec, EnvironmentSpec, HeadSpec, PbsSpec, SlurmSpec
from hpcml.units import parse_size, parse_walltime

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "data" / "scripts"
BODY = (ROOT / "scripts" / "pbs" / "head.pbs").read_text()
RUN = "20261121T101917-9bfdab"

FULL = [
    "cluster.project=ab12", "cluster.environment.modules=[python3/3.12.1, cuda/12.5]",
    "cluster.environment.venv=/home/me/venv", "cluster.environment.variables={GREETING: \"it's $HOME\"}",
    "cluster.extra_directives=['-m ae', '-M me@example.org']",
]  # fmt: skip
VARIANTS = {
    **{name: (name, ["cluster.project=ab12", "cluster.jobs=2"]) for name in SITES if not name.startswith("generic")},
    "generic_pbs": ("generic_pbs", ["cluster.ncpus=4", "cluster.mem=8GB"]),
    "generic_slurm": ("generic_slurm", ["cluster.ncpus=4", "cluster.mem=8GB", "cluster.ngpus=1", "cluster.jobfs=1TB"]),
    "gadi-environment": ("gadi", FULL),
    "gadi-allocation": ("gadi", ["cluster=allocation", "cluster.project=ab12", "cluster.nodes=4"]),
    "gadi-gpuvolta": ("gadi", ["cluster.project=ab12", "cluster.queue=gpuvolta", "cluster.ngpus=2"]),
    "polaris-allocation": ("polaris", ["cluster=allocation", "cluster.project=ab12", "cluster.nodes=2"]),
    "testbed_slurm-pbs": ("testbed_slurm", ["cluster=pbs"]),
    "testbed_slurm-allocation": ("testbed_slurm", ["cluster=allocation", "cluster.nodes=2"]),
    "testbed_openpbs-flat": ("testbed_openpbs", ["site.dialect=flat", "cluster.ncpus=2"]),
}


def scripts(request: Request) -> str:
    """Return all scripts of a request as one text."""
    paths = RunPaths(Path(request.places.scratch) / RUN)
    head = head_script(request, paths, BODY)
    return head if request.head is None else f"{head}\n{worker_script(request, paths, 'job-0')}"


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_the_scripts_of_every_site(variant: str, recorded: Callable[[Path, str], None]) -> None:
    name, overrides = VARIANTS[variant]
    request, diagnostics = resolved(name, overrides)
    assert not [diagnostic.text for diagnostic in diagnostics if diagnostic.severity == "error"]
    recorded(GOLDEN / f"{variant}.txt", scripts(request))


def test_every_site_has_its_scripts_recorded() -> None:
    assert {name for name, _ in VARIANTS.values()} == set(SITES)
    assert {path.stem for path in GOLDEN.iterdir()} == set(VARIANTS)


def test_the_directives_of_ncis_own_dask_tutorial() -> None:
    """NCI, intro-to-dask, notebooks/3_pbs.ipynb."""
    at = Places("/home/me", "/g/data/vp91/venv/bin/python", "/g/data/vp91/venv", "/scratch/vp91/me/runs")
    request, _ = resolved("gadi", ["cluster.project=vp91", "cluster.walltime=00:20:00", "cluster.jobs=2"], at=at)
    found = lines(directives(request.worker, request, RUN, "/scratch/vp91/me/runs/x/"), "pbs")
    for line in (
        "#PBS -q normal", "#PBS -P vp91", "#PBS -l ncpus=48", "#PBS -l mem=192GB", "#PBS -l walltime=00:20:00",
        "#PBS -l storage=scratch/vp91+gdata/vp91", "#PBS -l jobfs=192GB",
    ):  # fmt: skip
        assert line in found
    assert not [line for line in found if "select" in line or line.startswith("#PBS -A")]
    assert (request.site.interface, request.local_directory) == ("ib0", "$PBS_JOBFS")
    assert request.jobs == 2


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_each_directive_occurs_once(variant: str) -> None:
    request, _ = resolved(*VARIANTS[variant])
    for job in request.all_jobs:
        found = directives(job, request, RUN, "/x/")
        names = [f"{flag} {value.partition('=')[0]}" if flag == "-l" else flag for flag, value in found]
        assert len(names) == len(set(names))
        assert RUN in dict(found).get("-N", "") + dict(found).get("--job-name", "")
        assert ("-r", "n") in found or ("--no-requeue", "") in found


def test_options_are_words_of_a_command() -> None:
    assert options([("-l", "ncpus=4"), ("--mem", "4G"), ("--no-requeue", ""), ("-M", "'a b'")]) == [
        "-l", "ncpus=4", "--mem=4G", "--no-requeue", "-M", "a b",
    ]  # fmt: skip


# An independent parser of scripts, as a scheduler reads them.


def read(script: str) -> dict[str, Any]:
    """Parse the resources of a job from its script."""
    found: dict[str, Any] = {"nodes": 1, "ngpus": 0, "jobfs": 0, "flat": False}
    for line in script.splitlines():
        mark, _, text = line.partition(" ")
        if mark == "#PBS" and text.startswith("-l "):
            name, _, value = text[3:].partition("=")
            if name == "select":
                count, *chunk = value.split(":")
                found["nodes"] = int(count)
                for part in chunk:
                    _take(found, *part.split("="))
            else:
                found["flat"] = found["flat"] or name == "ncpus"
                _take(found, name, value)
        elif mark == "#SBATCH" and text.startswith("--"):
            name, _, value = text[2:].partition("=")
            known = {"cpus-per-task": "ncpus", "mem": "mem", "time": "walltime", "tmp": "jobfs", "nodes": "nodes",
                     "gpus-per-node": "ngpus"}  # fmt: skip
            if name in known:
                _take(found, known[name], value)
    return found


def _take(found: dict[str, Any], name: str, value: str) -> None:
    if name in {"mem", "jobfs"}:
        found[name] = parse_size(value)
    elif name == "walltime":
        found[name] = parse_walltime(value)
    elif name in {"ncpus", "ngpus", "nodes"}:
        found[name] = int(value)


def amounts(job: Job, flat: bool) -> dict[str, Any]:
    times = job.nodes if flat else 1
    return {
        "nodes": 1 if flat else job.nodes,
        "ncpus": job.ncpus * times,
        "mem": job.mem * times,
        "jobfs": (job.jobfs or 0) * times,
        "ngpus": job.ngpus * times,
        "walltime": job.walltime,
        "flat": flat,
    }


KINDS: dict[str, type[BatchSpec]] = {"pbs": PbsSpec, "slurm": SlurmSpec}
SIZES = st.none() | st.builds(lambda n, unit: f"{n}{unit}", st.integers(20, 200), st.sampled_from(["GB", "gb", "g"]))
ODD_SIZES = st.builds(
    lambda n, unit: f"{n}{unit}", st.integers(1, 10**7), st.sampled_from(["kb", "MB", "GB", "TB", ""])
)
SITE_NAMES = st.sampled_from(SITES)


@st.composite
def requests(draw: st.DrawFn) -> tuple[BatchSpec, HeadSpec, str]:
    """Generate requests, about a third of them valid."""
    name = draw(SITE_NAMES)
    machine = site(name)
    kind = draw(st.sampled_from([KINDS[machine.schedulers[0]], AllocationSpec]))
    queue = draw(st.sampled_from([None, *machine.queues]))
    limits = machine.queues.get(queue or machine.default_queue or "", Queue(ncpus=32))
    threads = draw(st.sampled_from([None, None, None, 1, 2, 4]))
    inside = kind is AllocationSpec
    usual = st.sampled_from([None, limits.ncpus, limits.ncpus_per_gpu or limits.ncpus_multiple * 4])
    spec = kind(
        queue=queue,
        project="ab12",
        ncpus=draw(usual if draw(st.booleans()) else st.integers(1, 256)) or (None if machine.queues else 32),
        mem=draw(st.none() | SIZES | SIZES | ODD_SIZES) or (None if machine.queues else "64GB"),
        ngpus=draw(st.sampled_from([None, None, None, None, None, 0, 1, 4])),
        jobfs=draw(st.none() | SIZES | SIZES | ODD_SIZES) if limits.jobfs or draw(st.integers(0, 9)) == 0 else None,
        walltime=str(draw(st.integers(60, 20_000) | st.integers(60, 200_000))),
        workers_per_job=draw(st.sampled_from([None, None, None, None, None, None, 1, 4])),
        threads=threads,
        **({"nodes": draw(st.integers(1, 4))} if inside else {"jobs": draw(st.integers(1, 50) | st.integers(1, 320))}),
    )
    head = HeadSpec(queue=draw(st.sampled_from([None, None, None, queue])), mem=draw(st.none() | SIZES))
    return spec, head, name


@settings(max_examples=1000)
@given(requests())
def test_accepted_requests_round_trip_through_the_script(asked: tuple[BatchSpec, HeadSpec, str]) -> None:
    spec, head, name = asked
    request, diagnostics = resolve(spec, head, site(name), places(name), here=False)
    diagnostics += check(request)
    event(right := not any(diagnostic.severity == "error" for diagnostic in diagnostics))
    if not right:
        return
    flat = request.site.dialect == "flat"
    assert request.workers_per_job * request.threads == request.worker.ncpus
    assert request.memory_limit * request.workers_per_job < request.worker.mem
    for job in request.all_jobs:
        found = read("\n".join(lines(directives(job, request, RUN, "/x/"), request.scheduler)))
        assert found == amounts(job, flat)
    for key in ("mem", "jobfs"):
        asked_size = getattr(spec, key)
        if asked_size is not None:
            asked_bytes = parse_size(asked_size)
            assert 0 <= getattr(request.worker, key) - asked_bytes < 1024  # PBS counts whole KB


TEXTS = st.text(max_size=30) | st.sampled_from(
    [
        "a\n#PBS -q express",
        "a\r\nb",
        "x; rm -rf ~",
        "$(id)",
        "`id`",
        "'",
        '"',
        "a b",
        "\u2028",
        "\x85",
        "\x0b",
        "\udce9",
        "-q x",
        "",
    ]
)


@st.composite
def hostile(draw: st.DrawFn) -> tuple[BatchSpec, HeadSpec, Places, str]:
    name = draw(SITE_NAMES)
    kind = KINDS[site(name).schedulers[0]]
    maybe = st.none() | TEXTS
    environment = EnvironmentSpec(
        script=draw(maybe),
        modules=draw(st.lists(TEXTS, max_size=2)),
        venv=draw(maybe),
        variables=draw(st.dictionaries(TEXTS | st.just("GOOD"), TEXTS, max_size=2)),
    )
    spec = kind(
        queue=draw(maybe), project=draw(maybe), mem=draw(maybe), jobfs=draw(maybe), walltime=draw(TEXTS), ncpus=4,
        storage=draw(maybe), extra_directives=draw(st.lists(TEXTS | TEXTS.map("-m {}".format), max_size=2)),
        environment=environment, name=draw(st.just("hpcml") | TEXTS), strict=draw(st.booleans()),
    )  # fmt: skip
    head = HeadSpec(queue=draw(maybe), mem=draw(maybe), walltime=draw(maybe), jobfs=draw(maybe), storage=draw(maybe))
    at = Places(
        "/work" + draw(st.just("") | TEXTS), "/venv/bin/python", "/venv", "/scratch" + draw(st.just("") | TEXTS)
    )
    return spec, head, at, name


@settings(max_examples=400)
@given(hostile())
def test_no_text_adds_a_line(asked: tuple[BatchSpec, HeadSpec, Places, str]) -> None:
    spec, head, at, name = asked
    request, diagnostics = resolve(spec, head, site(name), at, here=False)
    diagnostics += check(request)
    for diagnostic in diagnostics:
        assert "\n" not in diagnostic.text
    job = request.worker
    expected = len(directives(job, request, RUN, "/x/"))
    accepted = not any(diagnostic.severity == "error" for diagnostic in diagnostics)
    try:
        script = worker_script(request, RunPaths(Path(at.scratch) / RUN), "job-0")
    except ValueError:
        assert not accepted  # Accepted requests must produce a script.
        return
    header = [line for line in script.splitlines() if line.startswith(("#PBS", "#SBATCH"))]
    assert len(header) == expected
    assert script.splitlines() == script.split("\n")[:-1]
    if accepted:
        # A shell parses each line of the body as one command.
        body = script.split("\n")[1 + expected : -1]
        for line in body:
            words = shlex.split(line)
            assert words[0] in {"cd", ".", "module", "export", "exec"}
            assert line.startswith("cd ") or "||" not in words


@pytest.mark.parametrize("pipe", [False, True], ids=["file", "pipe"])
def test_a_job_that_fails_at_once_occupies_its_node_and_keeps_its_exit_code(tmp_path: Path, pipe: bool) -> None:
    """Test a pipe as output as well, which may never be read to its end."""
    paths = RunPaths(tmp_path)
    paths.jobs.mkdir()
    paths.record.touch()  # After the end of the run, nodes are no longer occupied.
    script = tmp_path / "job.sh"
    script.write_text("\n".join([*_keep_node(paths, "job-0"), "echo no such library >&2", "exit 5", ""]))
    command = ["bash", str(script)]
    if pipe:
        done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    else:
        with (tmp_path / "log").open("w") as log:
            done = subprocess.run(command, stdout=log, stderr=log, timeout=60, check=False)
    assert done.returncode == 5
    host, code, *said = paths.job_failure("job-0").read_text().splitlines()
    assert (bool(host), code, said) == (True, "5", [] if pipe else ["no such library"])
