"""Measure the overhead with many threads: units that sleep a second, six for each thread.

The units run as `map`, as `search` and by Dask's client.map. For each number of threads, this
prints the share of the bound (the time of the sleeps alone), and the head's CPU time per unit,
which should not grow with the number of pending units.

    python benchmarks/scale.py [THREADS ...]
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
from _compare import local_workers
from distributed import as_completed
from sklearn.base import BaseEstimator, ClassifierMixin

from hpcml import Dataset, Map, Search
from hpcml.cluster.handle import Cluster
from hpcml.workloads.base import Inputs, Units

THREADS = (50, 200, 800, 2000)
WORKERS, PER_THREAD, NAP, ROUNDS = 2, 6, 1.0, 1


def nap(number: int) -> int:
    """Sleep for a unit's time without using a core."""
    time.sleep(NAP)
    return number


class Napping(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """An estimator that sleeps in fit and scores at no cost.

    scikit-learn's score would keep a thousand threads busy.
    """

    def __init__(self, number: int = 0) -> None:
        self.number = number

    def fit(self, X: np.ndarray, y: np.ndarray) -> Napping:  # noqa: ARG002
        time.sleep(NAP)
        self.classes_ = [0, 1]
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        return np.full(len(X), self.classes_[0])

    def score(self, X: np.ndarray, y: np.ndarray) -> float:  # noqa: ARG002
        return 0.5


def by_client(cluster: Cluster, count: int) -> None:
    """Run the units as a user of Dask would."""
    futures = cluster.client.map(nap, range(count), pure=False)
    with cluster.client.as_current():
        assert sum(1 for _ in as_completed(futures, with_results=True)) == count


def by_map(cluster: Cluster, count: int) -> None:
    workload, inputs = Map(function=nap, parameters={"number": list(range(count))}), Inputs(None, None, 0)
    prepared = workload.prepare(inputs)
    prepared.run(cluster.client, Units(prepared.n_units))


def by_search(cluster: Cluster, count: int) -> None:
    data = Dataset(X=np.zeros((40, 2)), y=np.arange(40) % 2)
    workload = Search(grid={"number": list(range(count // 2))}, cv=2, refit=False, test_size=None)
    inputs = Inputs(data, Napping(), 0)
    prepared = workload.prepare(inputs)
    prepared.run(cluster.client, Units(prepared.n_units))


WAYS: dict[str, Callable[[Cluster, int], None]] = {"client.map": by_client, "map": by_map, "search": by_search}


def one(name: str, threads: int) -> None:
    """Print the wall time of one way and the head's CPU time, in seconds."""
    way = WAYS[name]
    with local_workers(WORKERS, threads // WORKERS) as cluster:
        way(cluster, WORKERS)  # warm up imports
        began, cpu = time.perf_counter(), time.process_time()
        way(cluster, threads * PER_THREAD)
        print(time.perf_counter() - began, time.process_time() - cpu)


def main() -> None:
    bound = PER_THREAD * NAP
    print(f"units that nap {NAP:g} s, {PER_THREAD} for each thread, {WORKERS} worker processes; bound {bound:g} s")
    print("threads                  wall  of the bound  of client.map  head CPU a unit")
    for threads in [int(word) for word in sys.argv[1:]] or THREADS:
        walls: dict[str, list[float]] = {name: [] for name in WAYS}
        cpus: dict[str, list[float]] = {name: [] for name in WAYS}
        count = threads * PER_THREAD
        for _ in range(ROUNDS):
            for name in WAYS:
                # Run in a separate process, which the memory of earlier ways does not slow down.
                command = [sys.executable, __file__, "--one", name, str(threads)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                wall, cpu = map(float, done.stdout.split()[-2:])
                walls[name].append(wall)
                cpus[name].append(cpu / count)
        base = statistics.median(walls["client.map"])
        for name in WAYS:
            wall, spent = statistics.median(walls[name]), 1000 * statistics.median(cpus[name])
            shares = f"{bound / wall:12.2f}  {base / wall:13.2f}"
            print(f"{threads:>7}  {name:<10} {wall:7.1f} s  {shares}  {spent:12.2f} ms", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        one(sys.argv[2], int(sys.argv[3]))
    else:
        main()
