"""Time the 48 x 3 fits of the main job: scikit-learn serially, loky, Dask's joblib, hpcml."""

from __future__ import annotations

import joblib
from _compare import compare, local_workers
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.svm import SVC

from hpcml import Dataset, Search
from hpcml.workloads.base import Inputs, Units

WORKERS = 2
GRID = {"C": [0.001, 0.01, 0.1, 0.5, 1, 2, 5, 10], "kernel": ["rbf", "poly", "sigmoid"], "shrinking": [True, False]}


def main() -> None:
    X, y = load_digits(return_X_y=True)
    train, _, y_train, _ = train_test_split(X, y, test_size=0.25, random_state=0, stratify=y)
    inputs = Inputs(Dataset(X=X, y=y), SVC(), 0)
    workload = Search(grid=GRID, refit=False)

    def fit(n_jobs: int | None = None) -> None:
        GridSearchCV(SVC(), GRID, cv=3, refit=False, n_jobs=n_jobs).fit(train, y_train)

    with local_workers(WORKERS) as cluster:

        def dask() -> None:
            with joblib.parallel_config("dask", client=cluster.client, scatter=[train, y_train]):
                fit(-1)

        def hpcml() -> None:
            prepared = workload.prepare(inputs)
            prepared.run(cluster.client, Units(prepared.n_units))

        ways = {"serial": fit, "loky": lambda: fit(WORKERS), "joblib dask": dask, "hpcml": hpcml}
        compare("48 candidates x 3 folds on digits", ways, base="loky", cores=WORKERS)


if __name__ == "__main__":
    main()
