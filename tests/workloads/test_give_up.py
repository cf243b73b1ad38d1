"""Test that every workload ends within seconds once its cluster has no workers left."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_iris
from sklearn.ensemble import BaggingClassifier, RandomForestClassifier
from tests.cluster.keeper import wait_for

from hpcml import Dataset, LocalSpec, Map, Search
from hpcml.cluster.local import open_local
from hpcml.data import Blocks
from hpcml.examples.asian_option import AsianOption
from hpcml.parts import Parts
from hpcml.runs import RunPaths
from hpcml.workloads.base import Inputs, Units
from hpcml.workloads.dask_fit import DaskFit
from hpcml.workloads.fit import FitEstimator
from hpcml.workloads.functions import Function
from hpcml.workloads.incremental import Incremental
from hpcml.workloads.kmeans import KMeans
from hpcml.workloads.predict import Predict
from hpcml.workloads.scaling import Scaling

LONG = 600
FOREST = RandomForestClassifier(n_estimators=10**6, random_state=0)
IRIS = Dataset(X=load_iris().data, y=load_iris().target, name="iris")
MANY = Dataset(X=np.random.default_rng(0).normal(size=(600, 2)), y=np.arange(600) % 2, name="many")


def nap(number: int) -> int:
    time.sleep(LONG)
    return number


class Napping(ClassifierMixin, BaseEstimator):
    """An estimator that sleeps in every method."""

    classes_ = np.arange(3)

    def __init__(self, number: int = 0) -> None:
        self.number = number

    def fit(self, X: Any, y: Any) -> Napping:
        time.sleep(LONG)
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> Napping:
        return self.fit(X, y)

    def predict(self, X: Any) -> Any:
        time.sleep(LONG)
        return np.zeros(len(X))


class Fitted(Napping):
    """An estimator that is fitted already."""

    def __sklearn_is_fitted__(self) -> bool:
        return True


def napping_blocks(target: bool = False) -> Blocks:
    return Blocks(rows=[10] * 4, recipe=lambda _: read, n_features=2, has_target=target, name="napping")


def read() -> tuple[Any, Any]:
    time.sleep(LONG)
    return np.zeros((10, 2)), np.arange(10) % 2


def gather(client: Any, data: Any) -> dict[str, Any]:
    return {"sum": sum(client.gather(client.map(nap, range(10))))}


def array(client: Any, data: Any) -> dict[str, Any]:
    import dask.array as da

    with client.as_current():
        slow = da.zeros(10, chunks=1).map_blocks(lambda x: x + nap(0), dtype=float, meta=np.empty(0))
        return {"sum": float(slow.sum().compute())}


def logistic() -> Any:
    from dask_ml.linear_model import LogisticRegression

    return LogisticRegression()


def xgboost() -> Any:
    from xgboost.dask import DaskXGBClassifier

    return DaskXGBClassifier(n_estimators=10**7)


def lightgbm() -> Any:
    from lightgbm import DaskLGBMClassifier

    return DaskLGBMClassifier(n_estimators=10**7)


CASES: dict[str, Callable[[], tuple[Any, Inputs]]] = {
    "search": lambda: (Search(grid={"number": [0, 1, 2]}, cv=2), Inputs(IRIS, Napping(), 0)),
    "search, last fit": lambda: (Search(cv=2, test_size=None), Inputs(IRIS, Napping(), 0)),
    "fit by trees": lambda: (
        FitEstimator(),
        Inputs(IRIS, FOREST, 0),
    ),
    "fit by joblib": lambda: (FitEstimator(), Inputs(IRIS, BaggingClassifier(Napping(), n_estimators=8), 0)),
    "fit by joblib, last call": lambda: (FitEstimator(), Inputs(IRIS, BaggingClassifier(Napping(), n_estimators=2), 0)),
    "fit on one worker": lambda: (FitEstimator(parallel="none"), Inputs(IRIS, Napping(), 0)),
    "predict": lambda: (Predict(), Inputs(IRIS, Fitted(), 0)),
    "incremental": lambda: (Incremental(block_size=50), Inputs(IRIS, Napping(), 0)),
    "incremental, reading": lambda: (Incremental(), Inputs(napping_blocks(target=True), Napping(), 0)),
    "kmeans, reading": lambda: (KMeans(n_clusters=2), Inputs(napping_blocks(), None, 0)),
    "dask_fit, reading": lambda: (DaskFit(), Inputs(napping_blocks(target=True), logistic(), 0)),
    "dask_fit, xgboost": lambda: (DaskFit(block_size=50), Inputs(IRIS, xgboost(), 0)),
    "dask_fit, lightgbm": lambda: (DaskFit(block_size=300), Inputs(MANY, lightgbm(), 0)),
    "map": lambda: (Map(function=nap, parameters={"number": list(range(20))}), Inputs(None, None, 0)),
    "map, last row": lambda: (Map(function=nap, parameters={"number": [1]}), Inputs(None, None, 0)),
    "asian option": lambda: (AsianOption(n=10**10, batch=10**7), Inputs(None, None, 0)),
    "python, gather": lambda: (Function(function=gather), Inputs(None, None, 0)),
    "python, array": lambda: (Function(function=array), Inputs(None, None, 0)),
    "scaling": lambda: (
        Scaling(workload=Map(function=nap, parameters={"number": [1, 2, 3]}), workers=[1, 2]),
        Inputs(None, None, 0),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_workload_ends_when_its_cluster_is_given_up(case: str, tmp_path: Path) -> None:
    workload, inputs = CASES[case]()
    raised: list[BaseException] = []

    with open_local(LocalSpec(workers=2), RunPaths(tmp_path)) as cluster:

        def run() -> None:
            try:
                prepared = workload.prepare(inputs)
                prepared.run(cluster.client, Units(prepared.n_units, lambda name: Parts(tmp_path / name)))
            except BaseException as error:
                raised.append(error)

        running = threading.Thread(target=run, daemon=True)
        running.start()
        scheduler = cluster.scheduler
        wait_for(lambda: raised or any(worker.processing for worker in list(scheduler.workers.values())), "a task", 60)
        assert not raised, raised
        time.sleep(1)  # until it waits
        _lose_all(cluster.client.cluster)
        cluster.client.close()  # as the supervisor of worker jobs and the local watchdog do
        running.join(30)
        assert not running.is_alive(), f"{case} waits for ever"
        assert raised


def _lose_all(local: Any) -> None:
    """Kill all workers permanently."""

    async def close() -> None:
        nannies = list(local.workers.values())
        for nanny in nannies:
            nanny.auto_restart = False
        await asyncio.gather(*(nanny.kill(timeout=0.1) for nanny in nannies), return_exceptions=True)
        await asyncio.gather(*(nanny.close(timeout=1) for nanny in nannies), return_exceptions=True)

    local.sync(close)
