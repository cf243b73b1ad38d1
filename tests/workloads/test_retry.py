"""Test repeated attempts of a fit that loses workers: restarted, aborted or given up."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from distributed import CancelledError

from hpcml.errors import WorkloadError
from hpcml.workloads.dask_fit import dask_models, retry


class Boosted:
    """An estimator that looks like one of XGBoost."""

    __module__ = "xgboost.dask"


class Cluster:
    """A client with workers that join and leave as a test requires."""

    def __init__(self, count: int) -> None:
        self.status = "running"
        self.futures: dict[str, Any] = {}
        self.workers = {f"tcp://{number}": {"status": "running"} for number in range(count)}
        self.cancelled = threading.Event()
        self.restarted: list[str] = []

    def scheduler_info(self, n_workers: int) -> dict[str, Any]:
        assert n_workers == -1
        return {"workers": dict(self.workers)}

    def cancel(self, futures: list[Any]) -> None:
        assert not futures
        self.cancelled.set()

    def restart_workers(self, workers: list[str], timeout: float, raise_for_error: bool) -> None:
        assert timeout > 0
        assert not raise_for_error
        self.restarted += workers

    def replace(self, old: str, new: str) -> None:
        del self.workers[old]
        self.workers[new] = {"status": "running"}


class Arrays:
    def __init__(self, good: bool = True) -> None:
        self.good, self.renewed = good, 0

    def __call__(self) -> tuple[None, None]:
        return None, None

    def renew(self) -> bool:
        self.renewed += 1
        return self.good


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in {"_LOOK": 0.02, "_GRACE": 0.1, "_NEWS": 0.2, "_REPLACED": 0.2}.items():
        monkeypatch.setattr(retry, name, seconds)


def fits(monkeypatch: pytest.MonkeyPatch, *ends: Callable[[], Any]) -> list[int]:
    """Make successive attempts end as given; return a list that grows with each."""
    begun: list[int] = []

    def fit(*_: Any) -> Any:
        begun.append(1)
        return ends[len(begun) - 1]()

    monkeypatch.setattr(dask_models, "fit", fit)
    return begun


def fail(cluster: Cluster | None = None, lost: str = "", new: str = "") -> Callable[[], Any]:
    def end() -> None:
        if cluster is not None:
            cluster.replace(lost, new)
        raise ValueError("socket")

    return end


def test_what_fails_for_itself_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = fits(monkeypatch, fail())
    with pytest.raises(WorkloadError, match=r"^Boosted: the fit failed: ValueError: socket$"):
        retry.fit(Boosted(), Arrays(), Cluster(2))  # type: ignore[arg-type]
    assert len(begun) == 1


def test_a_lost_worker_is_waited_for_and_the_fit_begun_again(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, arrays = Cluster(2), Arrays()
    fits(monkeypatch, fail(cluster, "tcp://0", "tcp://5"), lambda: "model")
    fitted, seconds, told = retry.fit(Boosted(), arrays, cluster)  # type: ignore[arg-type]
    assert (fitted, arrays.renewed) == ("model", 1)
    assert seconds >= 0
    assert told == ["Boosted was fitted 2 times, as workers were lost"]
    assert "tcp://1" in cluster.restarted  # it had a connection to the dead worker


def test_other_estimators_outlive_a_worker_so_that_it_explains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(2)
    begun = fits(monkeypatch, fail(cluster, "tcp://0", "tcp://5"))
    with pytest.raises(WorkloadError, match=r"^Arrays: the fit failed: ValueError: socket$"):
        retry.fit(Arrays(), Arrays(), cluster)  # type: ignore[arg-type]
    assert len(begun) == 1


def test_three_tries_are_the_most(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(1)
    begun = fits(monkeypatch, *(fail(cluster, f"tcp://{number}", f"tcp://{number + 1}") for number in range(4)))
    with pytest.raises(WorkloadError, match=r"failed, try 3 of 3, 1 worker lost: ValueError: socket\n  workers die"):
        retry.fit(Boosted(), Arrays(), cluster)  # type: ignore[arg-type]
    assert len(begun) == 3


def test_a_fit_that_waits_for_the_dead_is_broken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(1)

    def wait() -> None:
        cluster.replace("tcp://0", "tcp://1")
        assert cluster.cancelled.wait(30)
        raise CancelledError

    fits(monkeypatch, wait, lambda: "model")
    assert retry.fit(Boosted(), Arrays(), cluster)[0] == "model"  # type: ignore[arg-type]


def test_a_block_that_cannot_be_read_again_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(2)
    fits(monkeypatch, fail(cluster, "tcp://0", "tcp://5"))
    with pytest.raises(WorkloadError, match="every worker that tried to read one of the blocks died"):
        retry.fit(Boosted(), Arrays(good=False), cluster)  # type: ignore[arg-type]


def test_without_workers_it_waits_until_the_cluster_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(1)

    def lose() -> None:
        cluster.workers.clear()
        threading.Timer(0.5, lambda: setattr(cluster, "status", "closed")).start()  # later than _REPLACED
        raise ValueError("socket")

    begun = fits(monkeypatch, lose)
    with pytest.raises(ValueError, match="socket"):
        retry.fit(Boosted(), Arrays(), cluster)  # type: ignore[arg-type]
    assert (len(begun), cluster.status) == (1, "closed")
