"""What jobs cost."""

from __future__ import annotations

import pytest
from tests.unit.requests import settled, site

from hpcml.batch.cost import charge, charged, price

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
    """Of five hours each: opus page 236880942, "Job Costs"."""
    assert round(charge(site("gadi").queues[queue], ncpus, mem * GB, 5), 2) == su


def test_a_request_is_priced_with_its_head() -> None:
    request, _ = settled("gadi", ["cluster.project=ab12", "cluster.jobs=4", "cluster.walltime=02:00:00"])
    cost = price(request)
    assert (cost.unit, cost.workers, cost.head, cost.maximum) == ("SU", 4 * 96 * 2, 2 * 4, 776)
    assert cost.per_hour == 4 * 96 + 2


def test_an_allocation_is_one_job() -> None:
    request, _ = settled("gadi", ["cluster=allocation", "cluster.project=ab12", "cluster.nodes=4"])
    assert price(request).maximum == 4 * 96


def test_whole_nodes_are_charged_whole() -> None:
    request, _ = settled("derecho", ["cluster.project=ab12", "cluster.queue=main", "head.where=here"])
    assert price(request).maximum == 128
    assert price(request).show(price(request).maximum) == "128 core-hours"


def test_a_site_without_prices_counts_core_hours() -> None:
    request, _ = settled("generic_pbs", ["cluster.ncpus=4", "cluster.mem=8GB", "cluster.jobs=2", "head.where=here"])
    assert (price(request).unit, price(request).maximum) == ("core-hours", 8)


class TestCharged:
    def test_what_idle_workers_were(self) -> None:
        request, _ = settled("gadi", ["cluster.project=ab12"])
        found = charged(request.worker, 1800, busy_core_s=48 * 1350)
        assert (found.total, found.idle) == (48, 12)

    def test_a_job_that_never_ran(self) -> None:
        request, _ = settled("gadi", ["cluster.project=ab12"])
        found = charged(request.worker, 0, busy_core_s=0)
        assert (found.total, found.idle) == (0, 0)

    def test_more_busy_than_allocated_is_not_negative(self) -> None:
        request, _ = settled("gadi", ["cluster.project=ab12"])
        assert charged(request.worker, 100, busy_core_s=1e9).idle == 0
