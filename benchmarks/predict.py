"""Measure predictions: rows per second beside a serial loop, and peak memory.

``python benchmarks/predict.py``: 10^7 rows several times, side by side, then 10^8 once. ``python
benchmarks/predict.py memory``: 8GB of Parquet, written to a temporary directory and removed
afterwards, on two workers of 1GB each.
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from _compare import compare, local_workers
from sklearn.datasets import make_classification

from hpcml.data import Blocks, Replicas
from hpcml.models import logistic_cv
from hpcml.parts import Parts
from hpcml.runs import RunPaths
from hpcml.workloads.base import Inputs, Units
from hpcml.workloads.predict import Predict

WORKERS = 2
METHODS = ["predict", "predict_proba"]
BLOCK = 1_000_000

SOURCE = functools.partial(
    make_classification, n_features=2, n_redundant=0, n_informative=2, random_state=1, n_clusters_per_class=1,
    n_samples=1000,
)  # fmt: skip

# 10^8 rows x 10 columns of 8 bytes, in row groups of PyArrow's default size.
COLUMNS, GROUP, GROUPS = 10, 1024**2, 96


def loop(model: Any, data: Blocks, parts: Parts) -> None:
    """Do the same as the workload in a loop: the same blocks, predictions, score and files."""
    right = 0
    for number in range(len(data)):
        block = data.block(number).load()
        predicted, proba = model.predict(block.X), model.predict_proba(block.X)
        right += int((predicted == block.y).sum())
        columns = {"y": block.y, "prediction": predicted, "proba_0": proba[:, 0], "proba_1": proba[:, 1]}
        parts.write(number, columns)


def speed() -> None:
    with local_workers(WORKERS) as cluster, tempfile.TemporaryDirectory() as directory:
        model = logistic_cv(cv=3).fit(*SOURCE())
        workload = Predict(methods=METHODS, scoring="accuracy")

        def hpcml(times: int) -> Mapping[str, Any]:
            data = Replicas(source=SOURCE, times=times, block_size=BLOCK).load()
            inputs = Inputs(data, model, 0, lambda name: Parts(Path(directory) / name))
            prepared = workload.prepare(inputs)
            return prepared.run(cluster.client, Units(prepared.n_units)).metrics

        few = Replicas(source=SOURCE, times=10_000, block_size=BLOCK).load()
        ways = {"serial": lambda: loop(model, few, Parts(Path(directory) / "loop")), "hpcml": lambda: hpcml(10_000)}
        compare("10^7 rows x 2 features, predict and predict_proba, written", ways, base="serial", cores=WORKERS)
        found = hpcml(100_000)
        print(f"10^8 rows: {found['predict_s']:.1f} s, {found['rows_per_s']:,.0f} rows a second")


def write(path: Path) -> None:
    """Write 8GB of random numbers, one row group at a time."""
    rng = np.random.default_rng(0)
    schema = pa.schema([(f"f{number}", pa.float64()) for number in range(COLUMNS)])
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        for _ in range(GROUPS):
            columns = [rng.standard_normal(GROUP) for _ in range(COLUMNS)]
            writer.write_table(pa.table(columns, schema=schema), row_group_size=GROUP)


def bounded() -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        began = time.perf_counter()
        write(directory / "large.parquet")
        size = (directory / "large.parquet").stat().st_size
        print(f"wrote {size / 1024**3:.1f}GB in {time.perf_counter() - began:.0f} s")
        # Run in a separate process, because the peak memory of this one is that of writing.
        subprocess.run(
            [
                sys.executable, "-m", "hpcml", "run", "data=parquet_blocks", "data.path=large.parquet", "model=ridge",
                "workload=predict", f"cluster.workers={WORKERS}", "cluster.memory_limit=1GB", "scratch=runs",
                "workload.train={_target_: sklearn.datasets.make_regression, _partial_: true, n_samples: 10000, "
                f"n_features: {COLUMNS}, random_state: 0}}",
            ],
            cwd=directory, check=True,
        )  # fmt: skip
        (run,) = (directory / "runs").iterdir()
        found = json.loads(RunPaths(run).metrics.read_text())
        print(f"{found['n_samples']:,} rows x {COLUMNS} features in {found['n_blocks']} blocks")
        print(f"{found['predict_s']:.0f} s, {found['rows_per_s']:,.0f} rows a second")
        print(f"{'process':<12} peak resident memory")
        for process, peak in found["peak_memory"].items():
            print(f"{process:<12} {peak / 1024**2:6.0f} MB")


if __name__ == "__main__":
    bounded() if sys.argv[1:] == ["memory"] else speed()
