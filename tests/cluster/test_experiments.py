"""Test that every small experiment gives the same results in two worker jobs as locally.

The scheduler does not change the computation: OpenPBS runs all of them, Slurm one of each way to
send data to workers.
"""

from __future__ import annotations

import numpy as np
import palmerpenguins
import pytest
from tests.cluster import experiments
from tests.cluster.beds import Bed

on_real_ones = pytest.mark.parametrize("bed", ["slurm", "openpbs"], indirect=True)


# One each of: samples sent once for all units, blocks that the workers keep, files that the workers
# read, no data.
ON_SLURM = {"newsgroups_grid", "kmeans_large", "predict_large", "asian_study"}
PAIRS = [
    (bed, name) for bed in ("slurm", "openpbs") for name in experiments.NAMES if bed == "openpbs" or name in ON_SLURM
]


@pytest.mark.parametrize(("bed", "name"), PAIRS, indirect=["bed"])
def test_an_experiment_gives_the_same_everywhere(bed: Bed, name: str) -> None:
    ran = experiments.run(bed, name)
    assert ran.jobs == 2, ran.record["jobs"]
    local = experiments.run(bed, name, *experiments.LOCAL)
    assert local.workers == 2, local.record["tasks"]
    assert experiments.differences(ran.metrics, local.metrics) == []


# Files that a user may write, in the working directory, from which workers read them.
OWN = """
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin

def load(n=200):
    rng = np.random.default_rng(0)
    y = np.arange(n) % 2
    return rng.normal(size=(n, 3)) + y[:, None], y

class Shift(TransformerMixin, BaseEstimator):
    def __init__(self, by=0.0): self.by = by
    def fit(self, X, y=None): return self
    def transform(self, X): return X + self.by

class Threshold(ClassifierMixin, BaseEstimator):
    def __init__(self, at=0.5): self.at = at
    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self
    def predict(self, X): return self.classes_[(X.mean(axis=1) > self.at).astype(int)]

class Halves:
    def get_n_splits(self, X=None, y=None, groups=None): return 2
    def split(self, X, y=None, groups=None):
        middle = len(X) // 2
        first, second = np.arange(middle), np.arange(middle, len(X))
        yield first, second
        yield second, first

def balanced(model, X, y):
    right = model.predict(X) == y
    return float(np.mean([right[y == label].mean() for label in np.unique(y)]))

def area(width, height): return {"area": width * height}

def study(client, data, power):
    futures = client.map(lambda value: float(value) ** power, range(10))
    return {"total": sum(client.gather(futures)), "samples": data.n_samples}
"""

SEARCH = (
    "data=custom", "data._target_=own.load", "model=custom", "model._target_=hpcml.models.pipeline",
    "+model.shift={_target_: own.Shift}", "+model.cut={_target_: own.Threshold}",
    "workload.grid={shift__by: [0.0, 1.0], cut__at: [0.5, 1.5, 2.5]}", "workload.scoring=own.balanced",
    "workload.cv={_target_: own.Halves}",
)  # fmt: skip

MAP = (
    "workload=map", "data=null", "model=null", "workload.function=own.area",
    "workload.parameters={width: [1, 2, 3], height: [5, 7]}",
)  # fmt: skip

PYTHON = (
    "workload=python", "data=custom", "data._target_=own.load", "model=null", "workload.function=own.study",
    "workload.arguments={power: 2}",
)  # fmt: skip


@on_real_ones
def test_what_a_user_brings(bed: Bed) -> None:
    (bed.work / "own.py").write_text(OWN)
    code, out = bed.submit(*experiments.TWO_JOBS, *SEARCH)
    assert code == 0, out
    metrics = bed.last("metrics.json")
    best = metrics["best_params"]
    assert best["cut__at"] - best["shift__by"] == 0.5
    assert (metrics["n_candidates"], metrics["n_folds"], metrics["n_failed_fits"]) == (6, 2, 0)
    code, out = bed.submit(*experiments.TWO_JOBS, *MAP)
    assert code == 0, out
    assert bed.last("record.json")["units_done"] == 6
    code, out = bed.submit(*experiments.TWO_JOBS, *PYTHON)
    assert code == 0, out
    metrics = bed.last("metrics.json")
    assert (metrics["total"], metrics["samples"]) == (285.0, 200)


@on_real_ones
def test_a_table_gives_the_same_everywhere(bed: Bed) -> None:
    """A table with text and missing values, as its package distributes it, and samples that workers map."""
    palmerpenguins.load_penguins().to_csv(bed.work / "penguins.csv", index=False)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(100_000, 50))
    np.savez(bed.work / "large.npz", X=X, y=(X[:, 0] + rng.normal(size=len(X)) > 0).astype(int))
    table = ("data=csv", f"data.path={bed.work}/penguins.csv", "data.target=species", "model=tabular", "trial=true")
    large = ("data=npz", f"data.path={bed.work}/large.npz", "model=sgd", "workload.cv=4")
    for request in (table, large):
        found = []
        for where in ((*bed.overrides, *experiments.TWO_JOBS), experiments.LOCAL):
            code, out = bed.run("run", *where, f"scratch={bed.scratch}", *request)
            assert code == 0, out
            found.append(bed.last("metrics.json"))
        assert experiments.differences(*found) == []
        assert found[0]["n_failed_fits"] == 0
