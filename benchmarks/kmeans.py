"""Time ten iterations of k-means from the same centers: hpcml, dask_ml and scikit-learn.

hpcml works on blocks, scikit-learn in one process. The samples are on the workers, or in the
process, before the clock starts.
"""

from __future__ import annotations

import warnings

import dask_ml.cluster
import numpy as np
import sklearn.cluster
from _compare import compare, local_workers
from sklearn.datasets import make_blobs
from threadpoolctl import threadpool_limits

from hpcml import Dataset
from hpcml.data import in_blocks
from hpcml.workloads.base import Units
from hpcml.workloads.engine.persisted_blocks import PersistedBlocks
from hpcml.workloads.engine.stacked_arrays import stack
from hpcml.workloads.inputs.moments import Moments
from hpcml.workloads.kmeans import KMeans, lloyd
from hpcml.workloads.kmeans.clusters import Clusters

WORKERS = 2
ROWS, FEATURES, CLUSTERS, ITERATIONS = 1_000_000, 10, 8, 10


def main() -> None:
    X, _ = make_blobs(ROWS, FEATURES, centers=CLUSTERS, cluster_std=5.0, random_state=0)
    init = X[:CLUSTERS].copy()
    workload = KMeans(n_clusters=CLUSTERS, init=init, max_iter=ITERATIONS, tol=0)
    found: dict[str, np.ndarray] = {}

    def serial(threads: int) -> None:
        with threadpool_limits(threads), warnings.catch_warnings():
            # Ignore the warning that k-means has not converged.
            warnings.simplefilter("ignore")
            model = sklearn.cluster.KMeans(CLUSTERS, init=init, n_init=1, max_iter=ITERATIONS, tol=0)
            found["serial"] = model.fit(X).cluster_centers_

    with local_workers(WORKERS) as cluster:
        units = Units(0)
        persisted = PersistedBlocks(cluster.client, units, in_blocks(Dataset(X=X)), lloyd.read, lloyd.moments)
        of_all = Moments.total(persisted.facts)
        lazy = stack(persisted.futures, [(facts.n, FEATURES) for facts in persisted.facts], X.dtype)

        def hpcml() -> None:
            clusters = Clusters(of_all, {}, None, [])
            workload.iterate(persisted, init - of_all.mean, clusters, units)
            found["hpcml"] = clusters.centres

        def dask() -> None:
            with cluster.client.as_current(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model = dask_ml.cluster.KMeans(CLUSTERS, init=init, max_iter=ITERATIONS, tol=1e-300)
                found["dask_ml"] = model.fit(lazy).cluster_centers_

        ways = {"serial": lambda: serial(1), "2 threads": lambda: serial(2), "dask_ml": dask, "hpcml": hpcml}
        title = f"k-means, {ITERATIONS} iterations, {ROWS} x {FEATURES}, k={CLUSTERS}"
        compare(title, ways, base="dask_ml", cores=WORKERS)
    for name, centres in found.items():
        print(f"{name:<12} centres differ from serial's by {np.abs(centres - found['serial']).max():.1e} at most")


if __name__ == "__main__":
    main()
