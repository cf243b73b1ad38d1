"""Loaders of data, and their messages for damaged files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from sklearn.datasets import load_digits, make_blobs

from hpcml.data import ArrayFile, Dataset, TableFile, load
from hpcml.errors import DataError


def test_load_accepts_common_sources() -> None:
    X, y = np.eye(4), np.arange(4)

    class Loader:
        def load(self) -> Any:
            return X, y

    for source in (Dataset(X=X, y=y), (X, y), {"data": X, "target": y}, lambda: (X, y), Loader(), Loader):
        dataset = load(source)
        np.testing.assert_array_equal(dataset.X, X)
        np.testing.assert_array_equal(dataset.y, y)
    assert load((X, y, y)).groups is not None
    assert load(make_blobs).name == "make_blobs"


def test_bundled_data_keep_their_names() -> None:
    dataset = load(load_digits)
    assert dataset.X.shape == (1797, 64)
    assert dataset.feature_names is not None
    assert dataset.feature_names[0] == "pixel_0_0"
    assert dataset.describe() == "load_digits: 1797 samples x 64 features, 10 distinct targets"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (3, "returned a int"),
        (lambda: 1 / 0, "ZeroDivisionError: division by zero"),
        ((np.zeros(3), np.zeros(3)), re.escape("X has shape (3,)") + ".*\n.*reshape"),
        ((np.zeros((0, 3)), None), "is empty: "),
        ((np.zeros((3, 2)), np.zeros(4)), "X has 3 samples, y has shape"),
        ((np.zeros((2, 1)), None, np.array([1.0, np.nan])), "groups has 1 missing value among 2"),
        ((np.zeros((2, 1)), None, np.array(["a", None], dtype=object)), "groups has 1 missing value among 2"),
    ],
)
def test_load_rejects(source: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(source)


class TestTables:
    def test_csv(self, tmp_path: Path) -> None:
        path = tmp_path / "a.csv"
        path.write_text("id,a,b,kind,site\n1,2,true,x,s\n2,,false,y,t\n")
        dataset = TableFile(path=str(path), target="kind", groups="site", drop=("id",)).load()
        assert dataset.X.to_dict("list") == {"a": [2, pytest.approx(np.nan, nan_ok=True)], "b": [True, False]}
        assert list(dataset.y) == ["x", "y"]
        assert list(dataset.groups) == ["s", "t"]
        assert dataset.feature_names == ("a", "b")

    def test_csv_without_header_and_with_semicolons(self, tmp_path: Path) -> None:
        path = tmp_path / "a.csv"
        path.write_text("1;2;0\n3;4;1\n")
        dataset = TableFile(path=str(path), target="f2", delimiter=";", header=False).load()
        np.testing.assert_array_equal(dataset.X, [[1, 2], [3, 4]])
        np.testing.assert_array_equal(dataset.y, [0, 1])

    def test_parquet_file_and_directory(self, tmp_path: Path) -> None:
        table = pa.table({"a": [1.5, 2.5], "y": [0, 1]})
        (tmp_path / "many").mkdir()
        for path in (tmp_path / "a.parquet", tmp_path / "many" / "0.parquet"):
            pyarrow.parquet.write_table(table, path)
        for path in (tmp_path / "a.parquet", tmp_path / "many"):
            np.testing.assert_array_equal(TableFile(path=str(path), target="y").load().X, [[1.5], [2.5]])

    def test_drop_may_be_one_name(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text("id,a,y\n1,2,0\n")
        assert TableFile(path=str(tmp_path / "a.csv"), target="y", drop="id").load().X.shape == (1, 1)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("", "is empty"),
            ("a,y\n", "a header but no rows"),
            ("a,y\n1,2\n3\n", r"Expected 2 columns, got 1"),
            ("a,b,Y\n1,2,0\n", "data.target=y: .* has no such column\n  did you mean 'Y'"),
            ("a,a,y\n1,2,0\n", "duplicate column names: a"),
            ("y\n1\n", "no columns are left"),
            ("a;y\n1;2\n", "no such column(.|\n)*separator another one"),
            ("a;y\n1,5;2\n", "Expected 1 columns, got 2(.|\n)*separator another one"),
        ],
    )
    def test_damaged_files(self, tmp_path: Path, content: str, message: str) -> None:
        path = tmp_path / "a.csv"
        path.write_text(content)
        with pytest.raises(DataError, match=message) as caught:
            TableFile(path=str(path), target="y").load()
        assert str(path) in str(caught.value)

    def test_text_that_is_not_utf8(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_bytes("a,y\n1,café\n2,thé\n".encode("latin-1"))
        with pytest.warns(UserWarning, match=r"a.csv: is not UTF-8 text, and is read as cp1252 .*example 'café'"):
            assert list(TableFile(path=str(tmp_path / "a.csv"), target="y").load().y) == ["café", "thé"]
        with pytest.raises(DataError, match=r"cannot be read: .*\n.*data.encoding=latin1"):
            TableFile(path=str(tmp_path / "a.csv"), target="y", encoding="utf-16").load()

    def test_an_empty_path(self) -> None:
        with pytest.raises(DataError, match=r"data.path is empty"):
            TableFile(path="")

    def test_missing_file(self) -> None:
        with pytest.raises(DataError, match=r"/no/such.csv: cannot be read: No such file or directory"):
            TableFile(path="/no/such.csv").load()

    def test_damaged_parquet(self, tmp_path: Path) -> None:
        (tmp_path / "a.parquet").write_bytes(b"no parquet")
        with pytest.raises(DataError, match=r"a.parquet: has no rows"):
            TableFile(path=str(tmp_path / "a.parquet")).load()


class TestArrays:
    def test_npz(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "a.npz", X=np.eye(3), y=np.arange(3), g=np.ones(3))
        dataset = ArrayFile(path=str(tmp_path / "a.npz"), target="y", groups="g").load()
        assert dataset.X.shape == (3, 3)
        assert dataset.groups is not None

    def test_npy(self, tmp_path: Path) -> None:
        np.save(tmp_path / "X.npy", np.eye(3))
        np.save(tmp_path / "y.npy", np.arange(3))
        dataset = ArrayFile(path=str(tmp_path / "X.npy"), target=str(tmp_path / "y.npy")).load()
        np.testing.assert_array_equal(dataset.y, [0, 1, 2])

    def test_a_missing_array(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "a.npz", data=np.eye(3))
        with pytest.raises(DataError, match="has no array 'X'\n  choices: data"):
            ArrayFile(path=str(tmp_path / "a.npz")).load()

    def test_objects_are_not_unpickled(self, tmp_path: Path) -> None:
        np.save(tmp_path / "X.npy", np.array([{"a": 1}], dtype=object))
        np.savez(tmp_path / "X.npz", X=np.array([{"a": 1}], dtype=object))
        for name in ("X.npy", "X.npz"):
            with pytest.raises(DataError, match="cannot be read"):
                ArrayFile(path=str(tmp_path / name)).load()

    @pytest.mark.parametrize("content", [b"", b"not an array", b"PK\x03\x04 cut off"])
    def test_damaged(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "X.npy").write_bytes(content)
        with pytest.raises(DataError, match="cannot be read as a NumPy file"):
            ArrayFile(path=str(tmp_path / "X.npy")).load()

    def test_missing(self) -> None:
        with pytest.raises(DataError, match="No such file"):
            ArrayFile(path="/no/such.npy").load()
