"""Test that the pool computes and reports every unit once, whatever happens to workers."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpcml.cluster import Cluster
from hpcml.cluster.local import open_local
from hpcml.errors import DataError, WorkloadError
from hpcml.runs import RunPaths
from hpcml.spec import LocalSpec
from hpcml.workloads.base import Units
from hpcml.workloads.engine.task_pool import TaskPool


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with open_local(LocalSpec(workers=2), RunPaths(tmp_path_factory.mktemp("run"))) as opened:
        yield opened


def square(number: int, bias: int = 0) -> int:
    return number * number + bias


def units_of(count: int) -> list[tuple[str, tuple[Any, ...]]]:
    return [(f"number {number}", (number,)) for number in range(count)]


def test_all_are_done_and_reported(cluster: Cluster) -> None:
    units = Units(50)
    pool = TaskPool(cluster.client, units)
    found = dict(pool.each(square, units_of(50)))
    assert found == {f"number {number}": number**2 for number in range(50)}
    assert units.done == 50


def test_no_more_are_sent_than_the_workers_can_use(cluster: Cluster) -> None:
    taken = []

    def todo() -> Iterator[tuple[str, tuple[Any, ...]]]:
        for unit in units_of(1000):
            taken.append(unit)
            yield unit

    results = TaskPool(cluster.client, Units(1000)).each(square, todo())
    next(results)
    assert len(taken) <= 2 * 6 + 1
    results.close()


def test_fewer_are_sent_of_what_is_large(cluster: Cluster) -> None:
    taken = []

    def todo() -> Iterator[tuple[str, tuple[Any, ...]]]:
        for number in range(1000):
            taken.append(number)
            yield f"array {number}", (np.zeros(100_000),)

    results = TaskPool(cluster.client, Units(1000)).each(np.sum, todo())
    for _ in range(20):
        next(results)
    # The first message is sent before any size is known.
    assert len(taken) <= 20 + 2 * 2 + 1 + 2 * 6 + 1
    results.close()


def test_many_short_units_are_under_way_at_once(cluster: Cluster) -> None:
    """Otherwise workers would wait for the head every few units."""
    pool = TaskPool(cluster.client, Units(0))
    assert pool.window.room(0) == 2 * 6 + 1
    pool.window.rate = 1000.0
    assert pool.window.room(0) == 500
    assert pool.window.room(490) == 0  # too few for a message


def test_what_is_shared_travels_once(cluster: Cluster) -> None:
    pool = TaskPool(cluster.client, Units(3))
    bias = pool.share(7)
    todo = [(str(number), (number, bias)) for number in range(3)]
    assert dict(pool.each(square, todo)) == {"0": 7, "1": 8, "2": 11}


def picky(number: int) -> int:
    if number == 3:
        raise ValueError("not three")
    if number == 5:
        raise SystemExit(5)
    if number == 7:
        raise DataError("seven is no data", "take eight")
    return number


def test_a_unit_that_fails_is_named(cluster: Cluster) -> None:
    pool = TaskPool(cluster.client, Units(4))
    with pytest.raises(WorkloadError, match="number 3: ValueError: not three"):
        list(pool.each(picky, units_of(4)))
    with pytest.raises(WorkloadError, match="RuntimeError: SystemExit: 5"):
        pool.call("five", picky, 5)
    with pytest.raises(WorkloadError, match="seven is no data\n  take eight") as caught:
        pool.call("seven", picky, 7)
    assert caught.value.exit_code == 1


def test_failures_can_be_results(cluster: Cluster) -> None:
    units = Units(6)
    found = dict(TaskPool(cluster.client, units).each(picky, units_of(6), failed=lambda key, why: why))
    assert found["number 3"] == "ValueError: not three"
    assert found["number 4"] == 4
    assert units.done == 6


def deadly(number: int) -> int:
    if number == 4:
        os._exit(1)
    time.sleep(0.1)
    return number


def test_what_kills_its_workers_is_found_and_the_rest_is_done(cluster: Cluster) -> None:
    found = dict(TaskPool(cluster.client, Units(12)).each(deadly, units_of(12), failed=lambda key, why: why))
    assert found.pop("number 4").startswith("every worker that tried it died")
    assert found == {f"number {number}": number for number in range(12) if number != 4}


class Bias:
    """A value that kills up to ``most`` workers that receive it; each leaves a file."""

    def __init__(self, where: Path, most: int) -> None:
        self.where, self.most = where, most

    def __reduce__(self) -> Any:
        return arrive, (self.where, self.most, os.getpid())


def arrive(where: Path, most: int, head: int) -> Any:
    if os.getpid() == head:  # the scheduler unpickles it
        return Bias(where, most)
    if len(list(where.iterdir())) < most:
        (where / str(os.getpid())).touch()
        os._exit(1)
    return 7


def test_what_is_shared_outlives_two_workers_that_die_of_it(cluster: Cluster, tmp_path: Path) -> None:
    units = Units(12)
    pool = TaskPool(cluster.client, units)
    bias = pool.share(Bias(tmp_path, 2))
    found = dict(pool.each(square, [(str(number), (number, bias)) for number in range(12)]))
    assert found == {str(number): number**2 + 7 for number in range(12)}
    assert len(list(tmp_path.iterdir())) == 2
    assert units.done == 12


def test_what_is_shared_and_kills_every_worker_ends_what_needs_it(cluster: Cluster, tmp_path: Path) -> None:
    pool = TaskPool(cluster.client, Units(1))
    with pytest.raises(WorkloadError, match="nine: every worker that tried it died"):
        pool.call("nine", square, 9, pool.share(Bias(tmp_path, 100)))


def several(*numbers: int) -> list[int]:
    return [deadly(number) for number in numbers]


def test_a_unit_that_is_split_is_none_that_is_done(cluster: Cluster) -> None:
    units, finished = Units(4), []
    finish = units.finish
    units.finish = lambda key, result=None: finished.append(key) or finish(key)  # type: ignore[method-assign,func-returns-value]
    found = dict(
        TaskPool(cluster.client, units).each(
            several,
            [("0-2", (0, 1, 2)), ("3-4", (3, 4))],
            failed=lambda key, why: why,
            split=lambda unit: [(str(number), (number,)) for number in unit[1]] if len(unit[1]) > 1 else [],
        )
    )
    assert (found["0-2"], found["3"]) == ([0, 1, 2], [3])
    assert found["4"].startswith("every worker that tried it died")
    assert sorted(finished) == ["0-2", "3", "4"]
