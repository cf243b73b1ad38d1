"""The sites of hpcml: their files, and the schema."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from tests.unit.requests import SITES, site

from hpcml.batch.schedulers import check_names, scheduler_of
from hpcml.errors import ConfigError
from hpcml.site import Commands, HeadRules, Queue, Site, Storage, Tier
from hpcml.units import parse_walltime

CONF = Path(__file__).parents[2] / "conf" / "site"

# Walltimes from NCI's table: cores of a job, and hours.
GADI = {
    "normal": {1: 48, 672: 48, 720: 24, 1440: 24, 1488: 10, 2976: 10, 3024: 5, 20736: 5},
    "express": {1: 24, 480: 24, 528: 5, 3168: 5},
    "normalbw": {336: 48, 364: 24, 840: 24, 868: 10, 1736: 10, 1764: 5, 10080: 5},
    "expressbw": {280: 24, 308: 5, 1848: 5},
    "normalsl": {288: 48, 320: 24, 608: 24, 640: 10, 1984: 10, 2016: 5, 3200: 5},
    "normalsr": {1040: 48, 1144: 24, 2080: 24, 2184: 10, 4160: 10, 4264: 5, 10400: 5},
    "expresssr": {1040: 24, 1144: 5, 2080: 5},
    "hugemem": {48: 48, 96: 24, 144: 5, 192: 5},
    "megamem": {48: 48, 96: 24},
    "hugemembw": {7: 48, 28: 48, 56: 12, 140: 12},
    "megamembw": {32: 48, 64: 12},
    "gpuvolta": {12: 48, 96: 48, 144: 24, 192: 24, 240: 5, 960: 5},
    "dgxa100": {16: 48, 128: 48, 144: 5, 256: 5},
    "gpuhopper": {12: 48, 48: 48},
    "copyq": {1: 10},
}


def test_the_sites() -> None:
    assert SITES == [
        "aurora", "casper", "cx3", "derecho", "gadi", "generic_pbs", "generic_slurm", "polaris", "testbed_openpbs",
        "testbed_slurm",
    ]  # fmt: skip


@pytest.mark.parametrize("name", SITES)
def test_a_site_file_names_its_sources(name: str) -> None:
    text = (CONF / f"{name}.yaml").read_text()
    found = site(name)
    assert found.name
    assert found.source
    if not name.startswith(("generic", "testbed")):
        assert re.search(r"looked up on 20\d\d-\d\d-\d\d|all looked up on 20", text)
        assert "uncertain" in text


def test_all_queues_of_gadi() -> None:
    assert set(site("gadi").queues) == set(GADI)


@pytest.mark.parametrize("queue", sorted(GADI))
def test_walltimes_of_gadi(queue: str) -> None:
    found = site("gadi").queues[queue]
    assert {ncpus: (found.max_walltime(ncpus) or 0) / 3600 for ncpus in GADI[queue]} == GADI[queue]
    assert found.max_ncpus == max(GADI[queue])
    assert found.jobfs
    assert found.charged_mem


def test_queues_that_report_another_name() -> None:
    assert site("gadi").queue_named("normal-exec") == "normal"
    assert site("gadi").queue_named("normal") == "normal"
    assert site("generic_pbs").queue_named("batch-exec") == "batch-exec"


class TestStorage:
    def test_names(self) -> None:
        storage = site("gadi").storage
        assert storage.names("/g/data/ab12/me") == {"gdata/ab12"}
        assert storage.names("/scratch/ab12") == {"scratch/ab12"}
        assert storage.names("/scratch/ab12/../cd34/x") == {"scratch/cd34"}
        assert not storage.names("/home/123/me")
        assert not storage.names("/scratchy/ab12")
        assert site("polaris").storage.names("/lus/eagle/projects/x") == {"eagle"}

    def test_links_are_followed(self, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "data")
        storage = Storage("storage", roots={str(tmp_path / "data"): "data"})
        assert storage.names(str(tmp_path / "link" / "x")) == {"data"}


def test_scratch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "me")
    assert site("gadi").scratch_of("ab12") == "/scratch/ab12/me"
    assert site("gadi").scratch_of(None) is None
    assert site("cx3").scratch_of(None) is None  # $EPHEMERAL is not set.
    monkeypatch.setenv("EPHEMERAL", "/rds/me/ephemeral")
    assert site("cx3").scratch_of(None) == "/rds/me/ephemeral"


def test_commands() -> None:
    assert scheduler_of(site("testbed_slurm"), "pbs").commands.status == "qstat -f"
    assert scheduler_of(site("testbed_slurm"), "slurm").commands.submit == "sbatch"
    assert scheduler_of(site("gadi"), "pbs").commands.delete == "qdel"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schedulers": ["sge"]}, "site.schedulers=sge: choose from pbs, slurm"),
        ({"schedulers": []}, "site.schedulers="),
        ({"commands": {"sge": Commands(submit="x")}}, "site.commands=sge"),
    ],
)
def test_unknown_schedulers(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        check_names(Site(name="x", source="x", **change))


def test_walltimes_that_yaml_parses_as_numbers() -> None:
    assert Queue(tiers=[Tier(walltime="172800")]).max_walltime(1) == parse_walltime("48:00:00")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dialect": "flatt"}, "site.dialect=flatt"),
        ({"project": "-X"}, "site.project=-X"),
        ({"local_directory": "$PBS_JOBFS; rm"}, "site.local_directory"),
        ({"default_queue": "x", "queues": {"a": Queue()}}, "site.default_queue=x"),
        ({"head": HeadRules(queue="x"), "queues": {"a": Queue()}}, "site.head.queue=x"),
        ({"head": HeadRules(ncpus=-1)}, "site.head.ncpus=-1"),
        ({"storage": Storage("storage", separator="")}, "site.storage.separator"),
        ({"storage": Storage("storage", roots={"/a/{other}": "a"})}, "site.storage.roots=/a/{other}"),
        ({"scratch": "/s/{group}"}, "site.scratch=/s/{group}"),
        ({"scratch": "/s/{}/{user"}, "site.scratch"),
        ({"scratch": "runs"}, "site.scratch=runs"),
        ({"commands": {"pbs": Commands(submit=" ")}}, "site.commands.pbs.submit is empty"),
        ({"queues": {"a": Queue(rate=float("nan"))}}, "rate=nan"),
        ({"queues": {"a": Queue(ncpus_per_gpu=12)}}, "site.queues.a.ncpus_per_gpu=12"),
        ({"head": HeadRules(wait="long")}, "site.head.wait=long"),
        ({"head": HeadRules(mem="lots")}, "site.head.mem=lots"),
        ({"queues": {"a": Queue(ncpus=0)}}, "site.queues.a.ncpus=0"),
        ({"queues": {"a": Queue(mem="x")}}, "site.queues.a.mem=x"),
        ({"queues": {"a": Queue(mem="0")}}, "site.queues.a.mem=0"),
        ({"queues": {"a": Queue(rate=-1)}}, "rate=-1"),
        ({"queues": {"a": Queue(whole_nodes=True)}}, "site.queues.a.whole_nodes"),
        ({"queues": {"a": Queue(tiers=[Tier("x")])}}, "site.queues.a.tiers"),
        ({"queues": {"a": Queue(tiers=[Tier("1:00", 9), Tier("1:00", 3)])}}, "ascending"),
    ],
    ids=str,
)
def test_invalid_values(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        Site(name="x", source="x", **change)  # type: ignore[arg-type]


def test_a_site_is_recognised_by_its_command_and_file_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    machine = Site(name="x", source="x", storage=Storage("storage", roots={f"{tmp_path}/data/{{project}}": "data"}))
    assert not scheduler_of(machine, "pbs").is_here()
    (tmp_path / "qsub").touch(mode=0o755)
    assert not scheduler_of(machine, "pbs").is_here()  # Another machine may have a qsub as well.
    (tmp_path / "data").mkdir()
    assert scheduler_of(machine, "pbs").is_here()
    assert not scheduler_of(machine, "slurm").is_here()
