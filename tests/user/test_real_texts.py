"""Test a search on real texts: 23,703 short ones, to be classified by their four sources.

The texts are those of Hutto & Gilbert (2014), in the source distribution of vaderSentiment, under
the MIT licence. `make test` puts it where this looks for it; elsewhere HPCML_TEST_TEXTS is the path
of vaderSentiment-3.3.2.tar.gz.
"""

from __future__ import annotations

import io
import json
import os
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import skops.io
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import Pipeline

from hpcml.runs import RunPaths

Hpcml = Any

SDIST = Path(
    os.environ.get("HPCML_TEST_TEXTS") or Path(sys.prefix) / "share" / "hpcml-test" / "vaderSentiment-3.3.2.tar.gz"
)
SOURCES = {"amazonReviewSnippets": 3708, "movieReviewSnippets": 10605, "nytEditorialSnippets": 5190, "tweets": 4200}

pytestmark = pytest.mark.skipif(
    not SDIST.is_file(), reason=f"{SDIST} is not there: make test gets it, or name one with HPCML_TEST_TEXTS"
)


@pytest.fixture(scope="module")
def real() -> tuple[Any, Any]:
    """Read texts and sources from the archive in the archive."""
    with tarfile.open(SDIST) as outer:
        (name,) = [name for name in outer.getnames() if name.endswith("/hutto_ICWSM_2014.tar.gz")]
        member = outer.extractfile(name)
        assert member is not None
        inner = io.BytesIO(member.read())
    texts: list[str] = []
    sources: list[str] = []
    with tarfile.open(fileobj=inner) as archive:
        for source in SOURCES:
            file = archive.extractfile(f"hutto_ICWSM_2014/{source}_GroundTruth.txt")
            assert file is not None
            found = [line.split("\t")[2] for line in file.read().decode("utf-8").split("\r\n") if line]
            texts += found
            sources += [source] * len(found)
    return np.array(texts, dtype=object), np.array(sources)


def model() -> Pipeline:
    steps = [("vect", HashingVectorizer()), ("tfidf", TfidfTransformer())]
    return Pipeline([*steps, ("clf", SGDClassifier(max_iter=1000, random_state=0))])


def only_run(directory: Path) -> RunPaths:
    (found,) = (directory / "runs").iterdir()
    return RunPaths(found)


def test_the_source_of_every_text_is_found(hpcml: Hpcml, tmp_path: Path, real: tuple[Any, Any]) -> None:
    X, y = real
    assert {source: int((y == source).sum()) for source in SOURCES} == SOURCES
    pyarrow.parquet.write_table(pa.table({"text": list(X), "source": list(y)}), tmp_path / "texts.parquet")
    done = hpcml(
        "run", "data=text", "data.path=texts.parquet", "data.target=source", "model=text_sgd", "workload.cv=2",
        "workload.grid={clf__alpha: [1e-4, 1e-5]}", "cluster.workers=2",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "texts.parquet: 23703 texts, 4 distinct targets" in done.stderr
    paths = only_run(tmp_path)
    metrics = json.loads(paths.metrics.read_text())
    assert json.loads(paths.record.read_text())["state"] == "DONE"
    assert 0.85 < metrics["best_score"] < 0.99
    assert 0.85 < metrics["test_scores"]["score"] < 0.99

    (how,) = [line for line in done.stdout.splitlines() if "skops.io.load" in line]
    assert "trusted" not in how
    told = skops.io.load(paths.model("skops")).predict(["@anna lol see u tmrw!! #soexcited :)"])
    assert list(told) == ["tweets"]


def test_the_best_parameters_are_scikit_learns(hpcml: Hpcml, tmp_path: Path, real: tuple[Any, Any]) -> None:
    X, y = (values[::8] for values in real)
    lines = [json.dumps({"source": source, "text": text}) for text, source in zip(X, y, strict=True)]
    (tmp_path / "texts.jsonl").write_text("\n".join(lines))
    done = hpcml(
        "run", "data=text", "data.path=texts.jsonl", "data.target=source", "model=text_sgd", "cluster.workers=2",
        "workload.grid={tfidf__use_idf: [true, false], clf__alpha: [1e-3, 1e-5]}", "workload.cv=2",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    metrics = json.loads(only_run(tmp_path).metrics.read_text())
    train, test, y_train, y_test = train_test_split(X, y, test_size=0.25, random_state=0, stratify=y)
    grid = {"tfidf__use_idf": [True, False], "clf__alpha": [1e-3, 1e-5]}
    serial = GridSearchCV(model(), grid, cv=2).fit(train, y_train)
    assert metrics["best_params"] == serial.best_params_
    assert metrics["best_score"] == serial.best_score_
    assert metrics["test_scores"]["score"] == serial.score(test, y_test)
