"""Measure the memory and time of searches, fits and predictions on data that fills a good part of a worker.

``python benchmarks/memory.py``: SGDClassifier, 4 candidates x 3 folds on 600,000 x 60 float64 (288 MB in an .npz file),
beside scikit-learn's GridSearchCV with loky; then 10^7 rows x 20 columns, 12 of numbers, 5 of categories and 3 of text
of few values, predicted from Parquet beside pandas and scikit-learn in one process. ``python benchmarks/memory.py
search`` or ``predict``: one of them. Needs 8 GB of disk in the temporary directory.

Memory is the peak of the sum over all processes of their proportional set size (proc(5), smaps_rollup), which counts
shared pages once. Each way is a process of its own, since memory once used by one would count for the next.
"""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil

ROUNDS = 3

LOKY = """
import sys
import numpy as np
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import GridSearchCV, train_test_split
found = np.load(sys.argv[1])
X, _, y, _ = train_test_split(found["X"], found["y"], random_state=0, stratify=found["y"])
grid = {"alpha": [1e-5, 1e-4, 1e-3, 1e-2]}
model = SGDClassifier(max_iter=5, tol=None, random_state=0)
print(GridSearchCV(model, grid, cv=3, n_jobs=int(sys.argv[2])).fit(X, y).best_score_)
"""

LOOP = """
import sys
import joblib, pandas as pd
model = joblib.load(sys.argv[1])
found = pd.read_parquet(sys.argv[2])
predicted = model.predict(found.drop(columns="y"))
pd.DataFrame({"y": found["y"], "prediction": predicted}).to_parquet(sys.argv[3])
print((predicted == found["y"]).mean())
"""


def measured(command: Sequence[str]) -> tuple[str, int, int, float]:
    """Run a command; return its output, the peaks of all its processes and of the first, and its time."""
    began, peak, first = time.monotonic(), 0, 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        parent = psutil.Process(process.pid)
        while process.poll() is None:
            sizes = [0]
            with contextlib.suppress(psutil.Error):
                sizes = [_pss(each) for each in (parent, *parent.children(recursive=True))]
            peak, first = max(peak, sum(sizes)), max(first, sizes[0])
            time.sleep(0.1)
        output = process.stdout.read() if process.stdout else ""
    assert process.returncode == 0, command
    return output, peak, first, time.monotonic() - began


def _pss(process: psutil.Process) -> int:
    with contextlib.suppress(psutil.Error):
        return int(process.memory_full_info().pss)
    return 0


def table(ways: dict[str, Sequence[str]], size: int) -> None:
    """Measure the ways in turn, and print medians."""
    found: dict[str, list[tuple[int, int, float]]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, command in ways.items():
            found[name].append(measured(command)[1:])
    base = next(iter(ways))
    seconds = {name: statistics.median(each[2] for each in values) for name, values in found.items()}
    for name, values in found.items():
        everything, first = (statistics.median(each[number] for each in values) for number in (0, 1))
        print(
            f"{name:<24} all processes {everything / 1e6:6.0f} MB, the first {first / 1e6:6.0f} MB "
            f"({first / size:4.2f} x the data), {seconds[name]:6.1f} s ({seconds[name] / seconds[base]:4.2f} of {base})"
        )


def search(directory: Path) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600_000, 60))
    path = directory / "data.npz"
    np.savez(path, X=X, y=(X[:, :5].sum(axis=1) + rng.normal(size=len(X)) > 0).astype(int))
    size = X.nbytes
    del X
    print(f"a search, data of {size / 1e6:.0f} MB, medians of {ROUNDS}")
    for workers in (2, 6):
        hpcml = [
            sys.executable, "-m", "hpcml", "run", f"scratch={directory / 'runs'}", "data=npz", f"data.path={path}",
            "model=sgd", "model.max_iter=5", "+model.tol=null", "workload.grid={alpha: [1e-5, 1e-4, 1e-3, 1e-2]}",
            f"cluster.workers={workers}", "trial=false",
        ]  # fmt: skip
        table(
            {f"loky, {workers}": [sys.executable, "-c", LOKY, str(path), str(workers)], f"hpcml, {workers}": hpcml},
            size,
        )


def predict(directory: Path) -> None:
    import joblib
    import pandas as pd
    from sklearn.linear_model import LogisticRegression
    from skrub import tabular_pipeline

    rng = np.random.default_rng(0)
    parts = directory / "parts"
    parts.mkdir()
    model = None
    for number in range(10):
        rows = 1_000_000
        frame = pd.DataFrame({f"x{column}": rng.normal(size=rows).astype("float32") for column in range(12)})
        for column in range(5):
            frame[f"c{column}"] = pd.Categorical.from_codes(rng.integers(0, 8, rows), list("abcdefgh"))
        for column in range(3):
            frame[f"t{column}"] = np.array(["red", "green", "blue", "grey"])[rng.integers(0, 4, rows)]
        frame["y"] = (frame["x0"] + frame["c0"].cat.codes / 4 + rng.normal(size=rows) > 1).astype(int)
        if model is None:
            some = frame.iloc[:20_000]
            model = tabular_pipeline(LogisticRegression()).fit(some.drop(columns="y"), some["y"])
            joblib.dump(model, directory / "model.joblib")
        frame.to_parquet(parts / f"part-{number}.parquet", index=False, row_group_size=100_000)
    size = 10 * int(frame.memory_usage(index=False).sum())
    print(f"predictions of 10^7 rows x 20 mixed columns, {size / 1e6:.0f} MB as a frame, medians of {ROUNDS}")
    arguments = [str(directory / "model.joblib"), str(parts), str(directory / "out.parquet")]
    hpcml = [
        sys.executable, "-m", "hpcml", "run", f"scratch={directory / 'runs'}", "workload=predict",
        "data=parquet_blocks", f"data.path={parts}", "data.target=y", "model=from_run",
        f"model.run={directory / 'model.joblib'}", "cluster.workers=2",
    ]  # fmt: skip
    table({"pandas, one process": [sys.executable, "-c", LOOP, *arguments], "hpcml, 2 workers": hpcml}, size)


def main(which: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        if not which or "search" in which:
            search(Path(directory))
        if not which or "predict" in which:
            predict(Path(directory))


if __name__ == "__main__":
    main(sys.argv[1:])
