"""Costs of jobs."""

from __future__ import annotations

import pytest
from tests.unit.requests import resolved, site

from hpcml.batch.cost import charge, charged, price
from hpcml.units import parse_walltime

GB = 1024**3


@pytest.mark.parametrize(
    ("queue", "ncpus", "mem", "su"),
    [
        ("normal", 4, 16, 40),
        ("normal", 8, 16, 80),
        ("normal", 8, 128, 320),
        ("normal", 8, 192, 480),
        ("express", 8, 16, 240),
        ("gpuvolta", 12, 90, 180),
        ("gpuvolta", 12, 380, 716.23),
    ],
)
def test_the_examples_that_nci_publishes(queue: str, ncpus: int, mem: int, su: float) -> None:
    """Five hours each: opus page 236880942, "Job Costs"."""
    assert round(charge(site("gadi").queues[queue], ncpus, mem * GB, 5), 2) == su


@pytest.mark.parametrize(
    "job",
    [
        ("hugemem", 16, 600, 1, "11:22:11", 639.55),  # 142112589
        ("copyq", 1, 10, 1, "00:01:25", 0.12),  # 137294139
        ("normalsr", 104, 510, 8, "00:27:57", 775.15),  # 168592214
        ("normal", 48, 2.2 * 1024 / 12, 12, "01:11:19", 1369.28),  # 161601756
        ("normal", 48, 192, 1, "00:48:37", 77.79),  # 22160355
        ("normal", 48, 192, 1, "00:30:02", 48.05),  # 34018944
        ("normal", 48, 1.5 * 1024 / 32, 32, "00:00:14", 11.95),  # 128061191
        ("normal", 48, 48, 1, "00:00:50", 1.33),  # 128060868
        ("normal", 48, 1000 / 6, 6, "00:00:43", 6.88),  # 22990186
        ("normal", 4, 8, 1, "00:00:27", 0.06),  # 142208190
        ("normal", 1, 0.2, 1, "00:02:01", 0.07),  # 77478053
        ("normal", 4, 8, 1, "00:00:03", 0.01),  # 32703092
        ("normal", 1, 4, 1, "00:00:05", 0.00),  # 152942530
        ("normalsr", 104, 1.95 * 1024 / 4, 4, "03:01:18", 2514.03),  # 168000932
        ("normalsr", 104, 4, 4, "02:00:45", 1674.40),  # 167977883
        ("normalsr", 104, 4, 1, "00:11:20", 39.29),  # 168572136
        ("normalsr", 104, 4, 1, "00:08:34", 29.70),  # 167889450
    ],
)
def test_charges_of_real_jobs_on_gadi(job: tuple[str, int, float, int, str, float]) -> None:
    """Usage printed by PBS for other users' jobs, with job ids; memory in GB per node."""
    queue, ncpus, mem, nodes, walltime, su = job
    hours = parse_walltime(walltime) / 3600
    assert round(charge(site("gadi").queues[queue], ncpus, int(mem * GB), hours, nodes), 2) == su


def test_a_request_is_priced_with_its_head() -> None:
    request, _ = resolved("gadi", ["cluster.project=ab12", "cluster.jobs=4", "cluster.walltime=02:00:00"])
    cost = price(request)
    assert (cost.unit, cost.workers, cost.head, cost.maximum) == ("SU", 4 * 96 * 2, 2 * 4, 776)
    assert cost.per_hour == 4 * 96 + 2


def test_an_allocation_is_one_job() -> None:
    request, _ = resolved("gadi", ["cluster=allocation", "cluster.project=ab12", "cluster.nodes=4"])
    assert price(request).maximum == 4 * 96


def test_whole_nodes_are_charged_whole() -> None:
    request, _ = resolved("derecho", ["cluster.project=ab12", "cluster.queue=main", "head.where=here"])
    assert price(request).maximum == 128
    assert price(request).show(price(request).maximum) == "128 core-hours"


def test_a_site_without_prices_counts_core_hours() -> None:
    request, _ = resolved("generic_pbs", ["cluster.ncpus=4", "cluster.mem=8GB", "cluster.jobs=2", "head.where=here"])
    assert (price(request).unit, price(request).maximum) == ("core-hours", 8)


class TestCharged:
    def test_idle_workers(self) -> None:
        request, _ = resolved("gadi", ["cluster.project=ab12"])
        found = charged(request.worker, 1800, busy_core_s=48 * 1350)
        assert (found.total, found.idle) == (48, 12)

    def test_a_job_that_never_ran(self) -> None:
        request, _ = resolved("gadi", ["cluster.project=ab12"])
        found = charged(request.worker, 0, busy_core_s=0)
        assert (found.total, found.idle) == (0, 0)

    def test_more_busy_than_allocated_is_not_negative(self) -> None:
        request, _ = resolved("gadi", ["cluster.project=ab12"])
        assert charged(request.worker, 100, busy_core_s=1e9).idle == 0
