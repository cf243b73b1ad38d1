"""Test samples that workers map from a file instead of getting a copy each; here small ones count as large."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

import hpcml
from hpcml import Dataset, FitEstimator, LocalSpec, Search, data
from hpcml.cluster import Cluster
from hpcml.cluster.local import open_local
from hpcml.data import ArrayFile, samples, selection
from hpcml.data.selection import ArrayInFile, FrameInFile, Selection
from hpcml.runs import RunPaths
from hpcml.spec import RunSpec
from hpcml.workloads.base import Inputs, Outcome, Units

X, Y = load_digits(return_X_y=True)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with open_local(LocalSpec(workers=2), RunPaths(tmp_path_factory.mktemp("cluster"))) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _all_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "LARGE", 1)


def run(cluster: Cluster, workload: Any, source: Any, model: Any, directory: Path | None) -> Outcome:
    prepared = workload.prepare(Inputs(data.load(source), model, 0))
    units = Units(prepared.n_units, directory=directory)
    outcome: Outcome = prepared.run(cluster.client, units)
    if directory is not None:
        assert units.done == units.total
    return outcome


def _npy(directory: Path) -> Any:
    np.save(directory / "X.npy", X)
    np.save(directory / "y.npy", Y)
    return ArrayFile(path=str(directory / "X.npy"), target=str(directory / "y.npy"))


def _npz(directory: Path) -> Any:
    np.savez(directory / "both.npz", first=np.arange(3), X=np.asfortranarray(X), y=Y)
    return ArrayFile(path=str(directory / "both.npz"), target="y")


def _compressed(directory: Path) -> Any:
    np.savez_compressed(directory / "both.npz", X=X, y=Y)
    return ArrayFile(path=str(directory / "both.npz"), target="y")


@pytest.mark.parametrize("source", [_npy, _npz, _compressed, lambda _: (X, Y)])
def test_a_search_is_scikit_learns(cluster: Cluster, tmp_path: Path, source: Any) -> None:
    """The order of the samples matters to SGD."""
    loaded, grid = source(tmp_path), {"alpha": [1e-4, 1e-2]}
    model = SGDClassifier(random_state=0, max_iter=20, tol=None)
    outcome = run(cluster, Search(grid=grid), loaded, model, tmp_path / "laid")
    train, test, y_train, y_test = train_test_split(X, Y, random_state=0, stratify=Y)
    serial = GridSearchCV(model, grid, cv=3).fit(train, y_train)
    for fold in range(3):
        name = f"split{fold}_test_score"
        np.testing.assert_allclose(outcome.tables["cv_results"][name], serial.cv_results_[name], rtol=0, atol=1e-12)
    assert outcome.metrics["test_scores"]["score"] == pytest.approx(serial.score(test, y_test), abs=1e-12)
    np.testing.assert_array_equal(outcome.model.coef_, serial.best_estimator_.coef_)
    written = (tmp_path / "laid" / "samples.npy").exists()
    assert written == (source not in (_npy, _npz))  # Those are mapped where they are.


def frame() -> pd.DataFrame:
    columns = {f"x{number}": X[:, number] for number in range(20, 30)}
    table = pd.DataFrame(columns).astype({"x20": "float32", "x21": "int16"})
    table["kind"] = pd.Categorical(np.where(X[:, 27] > 8, "dark", "light"), categories=["light", "dark", "none"])
    table["name"] = np.where(X[:, 28] > 4, "left", "right")
    table["name"] = table["name"].astype("str")
    table["flag"] = X[:, 29] > 3
    table.loc[::7, "x22"] = np.nan
    return table


def test_frames_keep_their_types(tmp_path: Path) -> None:
    table = frame()
    laid = Selection(table, np.arange(0, 1797, 2)).laid_out(tmp_path)
    assert laid is not None
    assert isinstance(laid.source, FrameInFile)
    back = pickle.loads(pickle.dumps(laid)).whole()
    pd.testing.assert_frame_equal(back, table.iloc[::2])
    table["object"] = [None, {1: 2}, *(["x"] * 1795)]
    assert Selection(table, np.arange(10)).laid_out(tmp_path / "others") is None


@pytest.mark.parametrize("mixed", [False, True])
def test_a_search_of_a_frame(cluster: Cluster, tmp_path: Path, mixed: bool) -> None:
    table = frame().drop(columns="x22")
    if mixed:  # Python objects cannot be laid out, and are sent.
        table["name"] = table["name"].astype(object)
    encoder = make_column_transformer((OneHotEncoder(), ["kind", "name"]), remainder="passthrough")
    model = make_pipeline(encoder, DecisionTreeClassifier(random_state=0))
    grid = {"decisiontreeclassifier__max_depth": [2, 5]}
    outcome = run(cluster, Search(grid=grid), Dataset(X=table, y=Y), model, tmp_path / "laid")
    train, test, y_train, y_test = train_test_split(table, Y, random_state=0, stratify=Y)
    serial = GridSearchCV(model, grid, cv=3).fit(train, y_train)
    np.testing.assert_allclose(
        outcome.tables["cv_results"]["mean_test_score"], serial.cv_results_["mean_test_score"], rtol=0, atol=1e-12
    )
    assert outcome.metrics["test_scores"]["score"] == pytest.approx(serial.score(test, y_test), abs=1e-12)


def test_workers_with_other_file_systems_get_the_samples(cluster: Cluster, tmp_path: Path) -> None:
    outcome = run(cluster, Search(), _npy(tmp_path), GaussianNB(), None)
    train, _, y_train, _ = train_test_split(X, Y, random_state=0, stratify=Y)
    serial = GridSearchCV(GaussianNB(), {}, cv=3).fit(train, y_train)
    assert outcome.metrics["best_score"] == pytest.approx(serial.best_score_, abs=1e-12)


@pytest.mark.parametrize("test_size", [None, 0.25])
def test_a_precomputed_kernel(cluster: Cluster, tmp_path: Path, test_size: float | None) -> None:
    kernel, rows = X @ X.T, np.arange(len(Y))
    outcome = run(cluster, Search(test_size=test_size), (kernel, Y), SVC(kernel="precomputed"), tmp_path / "laid")
    train, test = (rows, rows) if test_size is None else train_test_split(rows, random_state=0, stratify=Y)
    serial = GridSearchCV(SVC(kernel="precomputed"), {}, cv=3).fit(kernel[np.ix_(train, train)], Y[train])
    assert outcome.metrics["best_score"] == pytest.approx(serial.best_score_, abs=1e-12)
    if test_size is not None:
        expected = serial.score(kernel[np.ix_(test, train)], Y[test])
        assert outcome.metrics["test_scores"]["score"] == pytest.approx(expected, abs=1e-12)


def test_an_array_that_the_user_has_changed_in_memory(cluster: Cluster, tmp_path: Path) -> None:
    """A memory map may be copy-on-write: its file lacks the changes."""
    leaking = np.column_stack([Y.astype(float), X])
    np.save(tmp_path / "leaking.npy", leaking)
    changed = np.load(tmp_path / "leaking.npy", mmap_mode="c")
    changed[:, 0] = 0
    outcome = run(cluster, Search(), (changed, Y), GaussianNB(), tmp_path / "laid")
    assert not changed[:, 0].any()
    expected = run(cluster, Search(), (np.array(changed), Y), GaussianNB(), tmp_path / "other")
    assert outcome.metrics["best_score"] == expected.metrics["best_score"] < 0.95


@pytest.mark.parametrize(
    "column", [pd.arrays.SparseArray(np.zeros(50)), pd.cut(np.arange(50.0), 3), pd.Series([object()] * 50)]
)
def test_columns_that_no_arrow_file_keeps_are_sent(tmp_path: Path, column: Any) -> None:
    table = pd.DataFrame({"a": np.arange(50.0), "odd": column})
    assert Selection(table, np.arange(10)).laid_out(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("parallel", ["trees", "none", "joblib"])
def test_a_fit(cluster: Cluster, tmp_path: Path, parallel: str) -> None:
    model = RandomForestClassifier(12, random_state=0)
    outcome = run(cluster, FitEstimator(parallel=parallel), _npy(tmp_path), model, tmp_path / "laid")
    train, test, y_train, y_test = train_test_split(X, Y, random_state=0, stratify=Y)
    serial = model.fit(train, y_train)
    assert outcome.metrics["test_scores"]["score"] == pytest.approx(serial.score(test, y_test), abs=1e-12)
    np.testing.assert_array_equal(outcome.model.predict_proba(test), serial.predict_proba(test))


def test_a_run_removes_what_it_laid_out(tmp_path: Path) -> None:
    spec = RunSpec(Search(cv=2), (X, Y), GaussianNB(), cluster=LocalSpec(workers=1), scratch=str(tmp_path))
    record = hpcml.run(spec)
    assert not (Path(record.path) / "data").exists()
    assert set(record.peak_memory) == {"worker 0", "head"}
    assert all(10**7 < peak < 10**10 for peak in record.peak_memory.values())


class TestSelections:
    def test_rows_in_any_order(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(selection, "_CHUNK", 5000)
        np.save(tmp_path / "x.npy", X)
        rows = np.random.default_rng(0).permutation(1797)[:1000]
        for source in (X, np.load(tmp_path / "x.npy", mmap_mode="r")):
            chosen = Selection(source, rows)
            assert chosen.shape == (1000, 64)
            np.testing.assert_array_equal(chosen.whole(), X[rows])
            np.testing.assert_array_equal(chosen[10:20], X[rows[10:20]])
            np.testing.assert_array_equal(samples.take(chosen, np.array([5, 5, 1])), X[rows[[5, 5, 1]]])

    def test_a_pickle_has_the_place_and_the_rows_only(self, tmp_path: Path) -> None:
        laid = Selection(np.zeros((10_000, 100)), np.arange(5)).laid_out(tmp_path)
        assert laid is not None
        assert isinstance(laid.source, ArrayInFile)
        assert len(pickle.dumps(laid)) < 1000
        assert pickle.loads(pickle.dumps(laid)).whole().shape == (5, 100)

    def test_a_part_of_a_mapped_array_is_written(self, tmp_path: Path) -> None:
        np.save(tmp_path / "x.npy", X)
        part = np.load(tmp_path / "x.npy", mmap_mode="r")[100:]
        laid = Selection(part, np.arange(3)).laid_out(tmp_path / "laid")
        assert laid is not None
        np.testing.assert_array_equal(laid.whole(), X[100:103])
        assert (tmp_path / "laid" / "samples.npy").exists()
