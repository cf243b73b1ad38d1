"""Time a forest of 800 trees: scikit-learn, alone and by three joblib backends, and hpcml.

The backends are threads, processes (loky) and Dask's.
"""

from __future__ import annotations

import joblib
from _compare import compare, local_workers
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier

from hpcml import Dataset
from hpcml.workloads.base import Inputs, Units
from hpcml.workloads.fit import FitEstimator

WORKERS = 2
TREES = 800


def main() -> None:
    X, y = load_digits(return_X_y=True)
    model = RandomForestClassifier(TREES, random_state=0)
    inputs = Inputs(Dataset(X=X, y=y), model, 0)
    workload = FitEstimator(test_size=None)

    def fit(n_jobs: int | None = None) -> None:
        RandomForestClassifier(TREES, random_state=0, n_jobs=n_jobs).fit(X, y)

    def loky() -> None:
        with joblib.parallel_config("loky"):
            fit(WORKERS)

    with local_workers(WORKERS) as cluster:

        def dask() -> None:
            with joblib.parallel_config("dask", client=cluster.client, scatter=[X, y]):
                fit(-1)

        def hpcml() -> None:
            prepared = workload.prepare(inputs)
            prepared.run(cluster.client, Units(prepared.n_units))

        ways = {"serial": fit, "threads": lambda: fit(WORKERS), "loky": loky, "joblib dask": dask, "hpcml": hpcml}
        compare(f"a forest of {TREES} trees on digits", ways, base="joblib dask", cores=WORKERS)


if __name__ == "__main__":
    main()
