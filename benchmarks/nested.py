"""Time a search over forests, with trees as tasks (joblib's Dask backend) or not (hpcml).

hpcml fits all trees of a fold in the fold's task.
"""

from __future__ import annotations

import joblib
from _compare import compare, local_workers
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GridSearchCV

from hpcml import Dataset, Search
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

    with local_workers(WORKERS) as cluster:

        def dask() -> None:
            with joblib.parallel_config("dask", client=cluster.client, scatter=[X, y]):
                fit(-1)

        def hpcml() -> None:
            prepared = workload.prepare(inputs)
            prepared.run(cluster.client, Units(prepared.n_units))

        ways = {"serial": fit, "joblib dask": dask, "hpcml": hpcml}
        compare("4 forests x 3 folds on breast_cancer", ways, base="joblib dask", cores=WORKERS)


if __name__ == "__main__":
    main()
