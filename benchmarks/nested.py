"""A search over forests: trees as tasks of their own (joblib's Dask backend), or within their fold's task (hpcml)."""

from __future__ import annotations

import tempfile
from pathlib import Path

import joblib
from _compare import compare
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GridSearchCV

from hpcml import Dataset, LocalSpec, Search
from hpcml.cluster.local import open_local
from hpcml.logs import run_log
from hpcml.runs import RunPaths
from hpcml.workloads.base import Inputs, Units

WORKERS = 2
GRID = {"n_estimators": [50, 100], "max_depth": [3, None]}


def main() -> None:
    X, y = load_breast_cancer(return_X_y=True)
    model = RandomForestClassifier(random_state=0)
    inputs = Inputs(Dataset(X=X, y=y), model, 0)
    workload = Search(grid=GRID, refit=False, test_size=None)

    def fit(n_jobs: int | None = None) -> None:
        GridSearchCV(model, GRID, cv=3, refit=False, n_jobs=n_jobs).fit(X, y)

    with (
        tempfile.TemporaryDirectory() as directory,
        run_log(RunPaths(Path(directory)).log),
        open_local(LocalSpec(workers=WORKERS), RunPaths(Path(directory))) as cluster,
    ):

        def dask() -> None:
            with joblib.parallel_config("dask", client=cluster.client, scatter=[X, y]):
                fit(-1)

        def hpcml() -> None:
            workload.run(inputs, cluster.client, Units(workload.check(inputs)))

        ways = {"serial": fit, "joblib dask": dask, "hpcml": hpcml}
        compare("4 forests x 3 folds on breast_cancer", ways, base="joblib dask", cores=WORKERS)


if __name__ == "__main__":
    main()
