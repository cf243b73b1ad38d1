"""Write docs/bad-data.md from the messages for tampered data: pytest --rewrite."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from dask_ml.linear_model import LogisticRegression as DaskLogisticRegression
from sklearn.datasets import make_classification
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import SGDClassifier

from hpcml.cluster import Cluster
from hpcml.cluster.local import open_local
from hpcml.data import RowGroups, TableFile, TextFile, load
from hpcml.errors import HpcmlError
from hpcml.models import pipeline
from hpcml.runs import RunPaths
from hpcml.spec import LocalSpec
from hpcml.workloads.base import Inputs, Units
from hpcml.workloads.dask_fit import DaskFit
from hpcml.workloads.fit import FitEstimator
from hpcml.workloads.incremental import Incremental
from hpcml.workloads.kmeans import KMeans
from hpcml.workloads.predict import Predict
from hpcml.workloads.search import Search

PAGE = Path(__file__).parents[2] / "docs" / "bad-data.md"

Columns = dict[str, Any]


def good(rows: int = 60) -> Columns:
    X, y = make_classification(rows, n_features=3, n_redundant=0, random_state=0)
    return {**{name: X[:, n] for n, name in enumerate("abc")}, "y": y}


def write(path: Path, columns: Columns) -> None:
    pyarrow.parquet.write_table(pa.table(columns), path)


def with_nan(columns: Columns) -> Columns:
    return {**columns, "b": np.r_[np.nan, columns["b"][1:]]}


def with_words(columns: Columns) -> Columns:
    return {**columns, "b": [f"word {number}" for number in range(len(columns["b"]))]}


def without_b(columns: Columns) -> Columns:
    return {name: values for name, values in columns.items() if name != "b"}


def without_target(columns: Columns) -> Columns:
    return {name: values for name, values in columns.items() if name != "y"}


def empty(columns: Columns) -> Columns:
    return {name: values[:0] for name, values in columns.items()}


def one_class(columns: Columns) -> Columns:
    return {**columns, "y": np.ones(len(columns["y"]), dtype=int)}


# How each of two files is tampered with.
TAMPERINGS: dict[str, tuple[Callable[[Columns], Columns], tuple[int, ...]]] = {
    "NaN in one of two files": (with_nan, (1,)),
    "text where numbers belong, in both files": (with_words, (0, 1)),
    "a feature that the second file lacks": (without_b, (1,)),
    "no target in either file": (without_target, (0, 1)),
    "a second file without rows": (empty, (1,)),
    "one class only": (one_class, (0, 1)),
}

FITTED = SGDClassifier(random_state=0).fit(np.column_stack([good()[name] for name in "abc"]), good()["y"])

# For each workload, the workload, its data loader and its model.
WORKLOADS: dict[str, tuple[Any, Any, Any]] = {
    "search": (Search(), TableFile, SGDClassifier()),
    "fit": (FitEstimator(), TableFile, SGDClassifier()),
    "predict": (Predict(), RowGroups, FITTED),
    "incremental": (Incremental(passes=1), RowGroups, SGDClassifier(random_state=0)),
    "kmeans": (KMeans(), RowGroups, None),
    "dask_fit": (DaskFit(), RowGroups, DaskLogisticRegression()),
}

# Not mistakes: clustering has no target, a prediction may have one class only, and files without
# rows are skipped.
HARMLESS = {
    ("kmeans", one_class),
    ("kmeans", without_target),
    ("predict", one_class),
    *((name, empty) for name in WORKLOADS),
}

TEXTS: dict[str, Columns] = {
    "a text that is missing": {"text": ["one", None, "three", "four"] * 5, "y": [0, 1, 1, 0] * 5},
    "numbers where texts belong": {"text": [1, 2, 3, 4] * 5, "y": [0, 1, 1, 0] * 5},
    "one class only": {"text": ["one", "two"] * 10, "y": [0] * 20},
    "no rows": {"text": pa.array([], pa.string()), "y": pa.array([], pa.int64())},
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with open_local(LocalSpec(workers=1), RunPaths(tmp_path_factory.mktemp("run"))) as opened:
        yield opened


def told(workload: Any, source: Any, model: Any, cluster: Cluster) -> tuple[str, str]:
    """Return when an error was raised, and its message."""
    when = "before"
    try:
        given = Inputs(load(source), model, 0)
        units = Units(workload.prepare(given).n_units)
        when = "while it runs"
        workload.prepare(given).run(cluster.client, units)
    except HpcmlError as error:
        return when, str(error)
    return "", ""


def row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n  ", "<br>") for cell in cells) + " |"


@pytest.mark.filterwarnings("ignore::UserWarning")  # warnings about the data are tested elsewhere
def test_the_page_of_bad_data(cluster: Cluster, tmp_path: Path, recorded: Callable[[Path, str], None]) -> None:
    lines = [
        "# Bad data\n\nThese are the messages that hpcml prints for bad data. It prints them before a cluster starts",
        "(exit code 2) or while a run reads blocks that were not checked before (exit code 1). A dash means",
        "that the data are valid for the workload. `search` and `fit` read `data=parquet`, the others",
        "`data=parquet_blocks`.",
        "\nThe tests write this file: `pytest tests/workloads/test_bad_data.py --rewrite`.",
        "\n| workload | data | when | message |",
        "|---|---|---|---|",
    ]
    for number, (what, (tamper, files)) in enumerate(TAMPERINGS.items()):
        directory = tmp_path / f"data{number}"
        directory.mkdir()
        for file in (0, 1):
            write(directory / f"{file}.parquet", tamper(good()) if file in files else good())
        for name, (workload, reader, model) in WORKLOADS.items():
            target = None if name == "kmeans" else "y"
            drop = ("y",) if name == "kmeans" and tamper is not without_target else ()
            when, message = told(workload, reader(path=str(directory), target=target, drop=drop), model, cluster)
            assert bool(message) is not ((name, tamper) in HARMLESS), (name, what, message)
            assert "Traceback" not in message
            lines.append(row(f"`{name}`", what, when or "-", message.replace(str(directory), "flights") or "-"))
    texts = pipeline(vect=HashingVectorizer(), clf=SGDClassifier())
    for number, (what, columns) in enumerate(TEXTS.items()):
        path = tmp_path / f"texts{number}.parquet"
        write(path, columns)
        when, message = told(Search(), TextFile(path=str(path), text="text", target="y"), texts, cluster)
        assert message, what
        lines.append(row("`search` of texts", what, when, message.replace(str(path), "texts.parquet")))
    recorded(PAGE, "\n".join(lines) + "\n")
