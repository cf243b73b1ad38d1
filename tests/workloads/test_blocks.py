"""Test data in blocks: the same samples as the whole, read on workers, with reported errors."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from hpcml.data import Blocks, Dataset, Replicas, RowGroups, in_blocks, in_memory, load
from hpcml.errors import ConfigError, DataError

X = np.arange(60.0).reshape(20, 3)
Y = np.arange(20) % 2


def read(blocks: Blocks) -> tuple[Any, Any]:
    parts = [pickle.loads(pickle.dumps(blocks.block(number))).load() for number in range(len(blocks))]
    return np.concatenate([part.X for part in parts]), np.concatenate([part.y for part in parts])


def parquet(path: Path, rows: slice = slice(None), group: int = 4, **more: Any) -> Path:
    table = pa.table({**{f"x{i}": X[rows, i] for i in range(3)}, "y": Y[rows], **more})
    pyarrow.parquet.write_table(table, path, row_group_size=group)
    return path


def test_a_dataset_is_cut() -> None:
    blocks = in_blocks(Dataset(X=X, y=Y), block_size=7)
    assert list(blocks.rows) == [7, 7, 6]
    np.testing.assert_array_equal(read(blocks)[0], X)
    np.testing.assert_array_equal(in_memory(blocks).y, Y)
    assert in_blocks(blocks) is blocks
    with pytest.raises(ConfigError, match=r"workload.block_size=5: data is already in blocks\n.*data.block_size"):
        in_blocks(blocks, block_size=5)


def test_dask_arrays() -> None:
    lazy = da.from_array(X, chunks=(6, 2)), da.from_array(Y, chunks=9)
    blocks = load(lambda: lazy)
    assert isinstance(blocks, Blocks)
    assert blocks.describe().endswith("20 samples x 3 features in 4 blocks")
    for part, whole in zip(read(blocks), (X, Y), strict=True):
        np.testing.assert_array_equal(part, whole)


def test_dask_arrays_of_unknown_length() -> None:
    lazy = da.from_array(X, chunks=(5, 3))
    known = lazy[:, 0] > 20
    blocks = load((lazy[known], da.from_array(Y, chunks=5)[known]))
    assert isinstance(blocks, Blocks)
    assert blocks.n_samples is None
    np.testing.assert_array_equal(blocks.block(2).load().X, X[10:15])
    np.testing.assert_array_equal(blocks.block(2).load().y, Y[10:15])


def test_only_a_blocks_own_part_of_the_graph_travels() -> None:
    lazy = da.concatenate([da.from_array(X, chunks=X.shape) for _ in range(300)])
    blocks = load((lazy, None))
    assert isinstance(blocks, Blocks)
    assert len(pickle.dumps(blocks.block(7))) < 10_000


def test_replicas() -> None:
    blocks = Replicas(source=(X, Y), times=7, block_size=50).load()
    assert list(blocks.rows) == [40, 40, 40, 20]
    np.testing.assert_array_equal(read(blocks)[0], np.tile(X, (7, 1)))


def test_row_groups(tmp_path: Path) -> None:
    parquet(tmp_path / "a.parquet", slice(0, 10))
    parquet(tmp_path / "b.parquet", slice(10, 20), group=100)
    blocks = RowGroups(path=str(tmp_path), target="y", block_size=8).load()
    assert list(blocks.rows) == [8, 2, 10]
    assert blocks.feature_names == ("x0", "x1", "x2")
    fewer = RowGroups(path=str(tmp_path), target="y", drop=("x1",)).load()
    np.testing.assert_array_equal(read(fewer)[0], X[:, [0, 2]])
    for part, whole in zip(read(blocks), (X, Y), strict=True):
        np.testing.assert_array_equal(part, whole)


@pytest.mark.parametrize("value", ["abc", 0, True, 2.5])
def test_what_is_no_whole_number(value: Any) -> None:
    told = f"={value}: must be a whole number, 1 or more"
    with pytest.raises(ConfigError, match=f"data.times{told}"):
        Replicas(source=(X, Y), times=value)
    with pytest.raises(ConfigError, match=f"data.block_size{told}"):
        Replicas(source=(X, Y), block_size=value)
    with pytest.raises(ConfigError, match=f"data.block_size{told}"):
        RowGroups(path="x.parquet", block_size=value)


class TestTampered:
    @pytest.mark.parametrize(
        ("change", "told"),
        [
            (
                lambda path: parquet(path / "b.parquet", z=Y),
                "b.parquet: has an additional column 'z': its columns differ",
            ),
            (lambda path: (path / "b.parquet").write_text("nonsense"), "b.parquet: is CSV, and only Parquet"),
            (
                lambda path: pyarrow.parquet.write_table(pa.table({"x0": ["a"], "x1": [1], "x2": [1], "y": [0]}),
                                                         path / "b.parquet"),
                "b.parquet: column 'x0' is string, and double in the first file",
            ),
        ],
    )  # fmt: skip
    def test_another_file(self, tmp_path: Path, change: Any, told: str) -> None:
        parquet(tmp_path / "a.parquet")
        change(tmp_path)
        with pytest.raises(DataError, match=told):
            RowGroups(path=str(tmp_path), target="y").load()

    def test_columns(self, tmp_path: Path) -> None:
        parquet(tmp_path / "a.parquet", name=pa.array(["a"] * 20))
        with pytest.raises(DataError, match=r"data.target=z: .*no such column\n  choices: name, x0"):
            RowGroups(path=str(tmp_path), target="z").load()
        with pytest.raises(DataError, match="column 'name' holds text, and k-means takes numbers"):
            RowGroups(path=str(tmp_path), target="y").load().check_numeric("k-means")
        (tmp_path / "none").mkdir()
        with pytest.raises(DataError, match="contains no files"):
            RowGroups(path=str(tmp_path / "none")).load()

    def test_a_block_that_is_empty_or_no_number_when_it_is_read(self) -> None:
        lazy = da.from_array(X, chunks=(5, 3))
        blocks = load((lazy[lazy[:, 0] > 20], None))
        with pytest.raises(DataError, match="block 0: is empty"):
            blocks.block(0).load()
        words = da.from_array(np.array([["a"], ["b"]], dtype=object), chunks=(1, 1))
        with pytest.raises(DataError, match="block 1: column 'x0' holds text, and k-means takes numbers"):
            load((words, None)).block(1).load().dense("k-means")

    def test_a_source_that_fails_on_the_worker(self) -> None:
        def broken(block: Any) -> Any:
            raise RuntimeError("the disk is on fire")

        lazy = da.from_array(X, chunks=(5, 3)).map_blocks(broken, dtype=float, meta=np.empty((0, 0)))
        with pytest.raises(DataError, match="block 2: cannot be read: RuntimeError: the disk is on fire"):
            load((lazy, None)).block(2).load()

    def test_an_empty_chunk(self) -> None:
        with pytest.raises(DataError, match="block 1 of 3 has no rows"):
            load((da.from_array(X, chunks=((10, 0, 10), 3)), None))

    def test_more_than_memory(self) -> None:
        lazy = da.zeros((10**12, 10), chunks=(10**10, 10))
        with pytest.raises(DataError, match=r"74505\.8GB do not fit"):
            in_memory(load((lazy, None)))
