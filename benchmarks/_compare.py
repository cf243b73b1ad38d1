"""Time several ways of doing one thing: alternated, with medians, ratios and the lower bound."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from hpcml import LocalSpec
from hpcml.cluster.handle import Cluster
from hpcml.cluster.local import open_local
from hpcml.logs import run_log
from hpcml.runs import RunPaths


@contextmanager
def local_workers(workers: int, threads: int = 1) -> Iterator[Cluster]:
    """Start a local cluster, and close it at the end."""
    with tempfile.TemporaryDirectory() as directory:
        paths = RunPaths(Path(directory))
        with run_log(paths.log), open_local(LocalSpec(workers=workers, threads=threads), paths) as cluster:
            yield cluster


def compare(title: str, ways: Mapping[str, Callable[[], object]], base: str, cores: int, rounds: int = 5) -> None:
    """Print a table of medians and of their ratios to one of the ways.

    Parameters
    ----------
    ways : mapping of str to callable
        One of them is called ``serial``; the lower bound is its time over the cores.
    """
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            if number:  # the first round warms up imports and worker processes
                times[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(values) for name, values in times.items()}
    print(f"{title}, {cores} workers x 1 thread, median of {rounds}")
    for name, median in medians.items():
        print(f"{name:<12} {median:7.3f} s  {median / medians[base]:5.2f} of {base}  (best {min(times[name]):.3f})")
    print(f"{'lower bound':<12} {medians['serial'] / cores:7.3f} s  serial / {cores}")
