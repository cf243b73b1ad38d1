"""Test that the requested number of workers computes at each point, for all ways to send work."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import joblib
import numpy as np
import pyarrow.parquet
import pytest
from distributed import Client
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.svm import SVC

from hpcml import Dataset, LocalSpec, Outcome, RunSpec, Search, run
from hpcml.background import wait_until
from hpcml.cluster import Cluster
from hpcml.cluster.local import open_local
from hpcml.config.compose import compose
from hpcml.errors import ConfigError, WorkloadError
from hpcml.plan import plan
from hpcml.runs import RunPaths
from hpcml.spec import AttachSpec, PbsSpec
from hpcml.workloads.base import Inputs, Prepared, Units
from hpcml.workloads.engine.joblib_backend import TaskPoolBackend
from hpcml.workloads.engine.task_pool import TaskPool
from hpcml.workloads.fit import FitEstimator
from hpcml.workloads.scaling import Scaling, paused_workers
from hpcml.workloads.scaling.paused_workers import Resting

IRIS = Dataset(X=load_iris().data, y=load_iris().target, name="iris")
WORKERS = 3
UNITS = 12


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with open_local(LocalSpec(workers=WORKERS), RunPaths(tmp_path_factory.mktemp("run"))) as opened:
        yield opened


def who(number: Any = 0, seconds: float = 0.05) -> int:
    """Return the id of the worker process."""
    time.sleep(seconds)
    return os.getpid()


def by_crew(client: Client, units: Units) -> set[int]:
    return {found for _, found in TaskPool(client, units).each(who, [(f"unit {n}", (n,)) for n in range(UNITS)])}


def by_joblib(client: Client, units: Units) -> set[int]:
    backend = TaskPoolBackend(TaskPool(client, units), n_jobs=UNITS)
    with joblib.parallel_config(backend=backend, n_jobs=-1):
        return set(joblib.Parallel()(joblib.delayed(who)(n) for n in range(UNITS)))


def by_dask_joblib(client: Client, units: Units) -> set[int]:
    with joblib.parallel_config("dask", client=client, n_jobs=-1):
        return set(joblib.Parallel()(joblib.delayed(who)(n) for n in range(UNITS)))


def by_collections(client: Client, units: Units) -> set[int]:
    def block(values: Any) -> Any:
        return np.full(len(values), who())

    with client.as_current():
        array = da.zeros(UNITS, chunks=1).map_blocks(block, dtype=int).persist()
        return {*array.compute().tolist(), *dask.compute(*[dask.delayed(who)(n) for n in range(UNITS)])}


def by_map(client: Client, units: Units) -> set[int]:
    return set(client.gather(client.map(who, range(UNITS), pure=False)))


WAYS = {"pool": by_crew, "joblib": by_joblib, "dask joblib": by_dask_joblib, "dask": by_collections, "map": by_map}


@dataclass(kw_only=True)
class Asking:
    """A workload that records which workers compute."""

    way: str
    asked: list[tuple[set[int], int, int]] = field(default_factory=list)

    def prepare(self, inputs: Inputs) -> Prepared:
        return Prepared(UNITS, "asking", self.run)

    def run(self, client: Client, units: Units) -> Outcome:
        found = WAYS[self.way](client, units)
        self.asked.append((found, sum(client.ncores().values()), len(client.scheduler_info()["workers"])))
        return Outcome(metrics={"same": 1, "changing": len(found), "took_s": len(found)})


@pytest.mark.parametrize("way", WAYS)
def test_only_so_many_workers_compute(cluster: Cluster, way: str) -> None:
    workload = Scaling(workload=Asking(way=way), workers=[3, 1, 2])
    workload.prepare(Inputs(None, None, 0)).run(cluster.client, Units(3 * UNITS))
    processes = set(cluster.client.run(os.getpid).values())
    (one, *_), (two, *_), (three, *_) = workload.workload.asked
    assert (len(two), len(three)) == (2, 3)
    assert two < three == processes  # each includes the workers of the one before
    # joblib's Dask backend takes one to mean "here".
    assert one < two or (way == "dask joblib" and one == {os.getpid()})
    assert [asked[1:] for asked in workload.workload.asked] == [(1, 1), (2, 2), (3, 3)]
    assert {worker["status"] for worker in cluster.client.scheduler_info(n_workers=-1)["workers"].values()} == {
        "running"
    }


def test_the_last_point_is_the_outcome_and_differences_are_told(cluster: Cluster) -> None:
    workload = Scaling(workload=Asking(way="pool"), workers=[1, 2])
    units = Units(workload.prepare(Inputs(None, None, 0)).n_units)
    assert units.total == 2 * UNITS
    outcome = workload.prepare(Inputs(None, None, 0)).run(cluster.client, units)
    assert units.done == units.total
    assert outcome.metrics["changing"] == 2
    first, second = outcome.metrics["scaling"]
    assert outcome.tables["scaling"]["workers"] == outcome.tables["scaling"]["threads"] == [1, 2]
    assert first["speedup"] == first["efficiency"] == 1
    assert second["speedup"] == first["seconds"] / second["seconds"]
    assert second["efficiency"] == pytest.approx(second["speedup"] / 2)
    assert first["busy_core_s"] == pytest.approx(UNITS * 0.05, rel=0.5)
    assert outcome.warnings == ["the results of 1 worker and 2 workers differ: changing is 1 and 2"]
    assert list(outcome.summary) == ["1 worker", "2 workers"]
    left, right = outcome.figures["scaling"].axes
    assert left.get_ylabel() == "speed-up over 1 worker"
    assert right.get_ylabel() == "efficiency"


def test_points_need_not_begin_with_one(cluster: Cluster) -> None:
    outcome = (
        Scaling(workload=Asking(way="pool"), workers=[2, 3])
        .prepare(Inputs(None, None, 0))
        .run(cluster.client, Units(2 * UNITS))
    )
    first, second = outcome.metrics["scaling"]
    assert first["efficiency"] == 1
    assert second["efficiency"] == pytest.approx(second["speedup"] * 2 / 3)


@dataclass(kw_only=True)
class Failing(Asking):
    """A workload that fails with two workers."""

    def run(self, client: Client, units: Units) -> Outcome:
        outcome = super().run(client, units)
        if len(client.nthreads()) == 2:
            raise WorkloadError("not with two", outcome=Outcome(metrics={"own": 1}))
        return outcome


def test_points_before_a_failure_are_kept_and_all_workers_go_on(cluster: Cluster) -> None:
    units = Units(2 * UNITS)
    with pytest.raises(WorkloadError, match="not with two") as caught:
        Scaling(workload=Failing(way="pool"), workers=[1, 2]).prepare(Inputs(None, None, 0)).run(cluster.client, units)
    assert caught.value.outcome.metrics["own"] == 1
    assert caught.value.outcome.tables["scaling"]["workers"] == [1]
    assert units.so_far().tables["scaling"]["workers"] == [1]
    assert len(by_map(cluster.client, units)) == WORKERS


def test_units_of_a_point_have_keys_of_their_own(cluster: Cluster) -> None:
    class Listing(Units):
        keys: tuple[str, ...] = ()

        def finish(self, key: str, result: Any = None) -> None:
            super().finish(key, result)
            self.keys += (key,)

    workload = Scaling(workload=FitEstimator(chunk=2, test_size=None), workers=[1, 2])
    given = Inputs(IRIS, RandomForestClassifier(4, random_state=0), 0)
    units = Listing(workload.prepare(given).n_units)
    workload.prepare(given).run(cluster.client, units)
    assert set(units.keys) == {f"{n}: trees {t}" for n in ("1 worker", "2 workers") for t in ("0 to 1", "2 to 3")}


def test_a_total_that_grows_is_counted(cluster: Cluster) -> None:
    workload = Scaling(workload=FitEstimator(parallel="joblib"), workers=[1, 2])
    given = Inputs(IRIS, RandomForestClassifier(5, random_state=0), 0)
    prepared = workload.prepare(given)
    units = Units(prepared.n_units)
    outcome = prepared.run(cluster.client, units)
    assert units.done == units.total == 12  # the trees, and twice the fit itself
    assert not outcome.warnings


def die_once(path: Path) -> int:
    if not path.exists():
        path.touch()
        os._exit(1)
    return os.getpid()


def statuses(client: Client) -> list[str]:
    workers = Client.scheduler_info(client, n_workers=-1)["workers"]  # all of them, paused or not
    return sorted(worker["status"] for worker in workers.values())


@dataclass(kw_only=True)
class Dying(Asking):
    path: Path

    def run(self, client: Client, units: Units) -> Outcome:
        TaskPool(client, units).call("deadly", die_once, self.path)
        # The replacement of a dead worker is paused a moment after it registers.
        assert wait_until(lambda: statuses(client) == ["paused", "paused", "running"], 60, 0.1)
        assert len(by_crew(client, units)) == 1
        return Outcome()


def test_a_worker_that_dies_is_replaced_and_the_point_doubted(cluster: Cluster, tmp_path: Path) -> None:
    outcome = (
        Scaling(workload=Dying(way="", path=tmp_path / "died"), workers=[1])
        .prepare(Inputs(None, None, 0))
        .run(cluster.client, Units(1))
    )
    assert outcome.warnings == ["1 of 1 worker died and had to be replaced: the time is too long"]
    cluster.client.wait_for_workers(WORKERS, timeout=60)


def test_a_worker_whose_head_died_goes_on_by_itself(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    def rest(dask_worker: Any) -> None:
        paused_workers._LEASE = 0.2
        paused_workers._rest(dask_worker)

    (address, *_) = cluster.client.nthreads()
    cluster.client.run(rest, workers=[address])
    states: Counter[str] = Counter()
    deadline = time.monotonic() + 30
    while states["running"] == 0 or states["paused"] == 0:
        assert time.monotonic() < deadline
        states[cluster.client.scheduler_info(n_workers=-1)["workers"][address]["status"]] += 1
    cluster.client.run(lambda: setattr(paused_workers, "_LEASE", 30.0), workers=[address])


def test_a_view_that_goes_leaves_the_connection_open(cluster: Cluster) -> None:
    with Resting(cluster.client, 1) as part:
        assert isinstance(part, Client)
        with part.as_current():
            assert dask.delayed(who)(0).compute() in cluster.client.run(os.getpid).values()
        del part
    assert cluster.client.submit(who, 1).result() > 0


class TestFromTheCommandLine:
    def test_a_run_writes_table_and_figure(self, tmp_path: Path) -> None:
        args = ["scaling=[2,1]", "cluster.workers=2", "workload.grid={C: [0.1, 1]}", f"scratch={tmp_path}"]
        composed = compose("hpcml run", args)
        assert composed is not None
        record = run(composed.build())
        root = Path(record.path)
        assert pyarrow.parquet.read_table(root / "tables" / "scaling.parquet")["workers"].to_pylist() == [1, 2]
        assert (root / "tables" / "cv_results.parquet").exists()
        assert (root / "figures" / "scaling.png").read_bytes().startswith(b"\x89PNG")
        assert record.units_done == record.units_total == 14
        assert record.metrics["best_params"] == {"C": 1}
        assert "2 workers" in record.summary
        assert not record.warnings
        assert "scaling:\n- 2\n- 1\n" in (root / "config.yaml").read_text()

    def test_a_plan_counts_all_points_and_says_what_is_held(self, tmp_path: Path) -> None:
        spec = RunSpec(workload=Search(), data=IRIS, model=SVC(), scratch=str(tmp_path), scaling=[1, 2],
                       cluster=LocalSpec(workers=2))  # fmt: skip
        lines = plan(spec).lines
        assert lines["units of work"] == "8"
        assert lines["compute"].endswith("; on 1, 2 workers in turn, the whole cluster being held, and paid for")

    @pytest.mark.parametrize(
        ("value", "told"),
        [
            ("[]", r"scaling=\[\]: must be a list of numbers of workers"),
            ("[0,1]", "must be a list of numbers of workers"),
            ("[1,2,1]", "1 occurs twice"),
            ("[a]", "scaling"),
            ("2", "scaling"),
            ("[1,4]", r"scaling=\[1, 4\]: the cluster has only 2 workers\n  request more with cluster.workers, or"),
        ],
    )
    def test_wrong_numbers_are_refused(self, value: str, told: str, tmp_path: Path) -> None:
        def planned() -> None:
            composed = compose("hpcml run", [f"scaling={value}", "cluster.workers=2", f"scratch={tmp_path}"])
            assert composed is not None
            plan(composed.build())

        with pytest.raises(ConfigError, match=told):
            planned()

    def test_worker_jobs(self, tmp_path: Path) -> None:
        def asked(*args: str) -> RunSpec:
            composed = compose("hpcml plan", ["site=generic_pbs", f"scratch={tmp_path}", *args])
            assert composed is not None
            return composed.build()

        cluster = ("cluster.jobs=3", "cluster.ncpus=2", "cluster.mem=4GB")
        spec = asked("scaling=[1,6]", *cluster, "cluster.workers_per_job=2")
        assert isinstance(spec.cluster, PbsSpec)
        assert spec.cluster.min_workers == 6  # all are needed before the first point
        with pytest.raises(ConfigError, match=r"the cluster has only 6 workers\n  request more with cluster\.jobs"):
            plan(asked("scaling=[1,7]", *cluster, "cluster.workers_per_job=2"))
        with pytest.raises(ConfigError, match="idle jobs would be deleted"):
            asked("scaling=[1,6]", *cluster, "cluster.adaptive=true")

    def test_an_attached_cluster_must_have_them(self) -> None:
        spec = RunSpec(workload=Search(), scaling=[1, 5], cluster=AttachSpec(scheduler_file="x"))
        assert isinstance(spec.cluster, AttachSpec)
        assert spec.cluster.min_workers == 5
