"""Read odd tables: every reader returns a dataset, or raises one message of hpcml."""

from __future__ import annotations

import datetime
import decimal
import functools
import gzip
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hpcml.data import ArrayFile, Blocks, RowGroups, TableFile, TextFile, load
from hpcml.data.rows import read_rows
from hpcml.errors import ConfigError, DataError

NAMES = [
    "", "a", "b", "y", "é", "1", "2.5", "true", "null", "Unnamed: 0", "__index_level_0__", "a b", "[x]", "a=b", " ",
]  # fmt: skip
CELLS = [
    "", "0", "1", "-3", "2.5", "1e400", "nan", "NA", "null", "true", "red", "é", "2024-01-01", "12:30", "1,5",
    "1152921504606846976", "99999999999999999999", '"', '"x', "a\nb", " ", "0x10", "\0", "\x1b[31m",
]  # fmt: skip
# Values that a user may type as the name of a column.
TYPED = st.sampled_from([*NAMES, "Y", 1, 2.5, True, None, ["a", "y"], {"a": 1}])

LEAKS = re.compile(r"\b(?!DataError|ConfigError)\w+(Error|Exception|Invalid|Warning)\b|Traceback|\bpyarrow\b|<class ")

properties = settings(
    max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def message_of(read: Callable[[], Any]) -> str | None:
    """Read a table; return the validated message if it is rejected."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            read()
        except ConfigError as error:
            message = str(error)
        else:
            return None
    assert not LEAKS.search(message), message
    assert all(line.isprintable() for line in message.split("\n")), message
    return message


def check(path: Path, make: Any, **keys: Any) -> None:
    def read() -> None:
        found = load(functools.partial(make, path=str(path), **keys))
        dataset = found.whole if isinstance(found, Blocks) else found
        assert dataset.n_samples > 0

    message_of(read)


CSV = st.fixed_dictionaries(
    {
        "names": st.lists(st.sampled_from(NAMES), min_size=1, max_size=4),
        "rows": st.lists(st.lists(st.sampled_from(CELLS), min_size=1, max_size=4), min_size=0, max_size=5),
        "delimiter": st.sampled_from([",", ";", "\\t", "tab"]),
        "encoding": st.sampled_from(["utf-8", "utf-8-sig", "latin-1", "utf-16"]),
        "cut": st.integers(0, 40) | st.none(),
        "target": TYPED,
        "drop": st.lists(TYPED, max_size=2) | TYPED,
        "reader": st.sampled_from([TableFile, TextFile]),
        "packed": st.booleans(),
    }
)
PLAIN: dict[str, Any] = {
    "delimiter": ",",
    "encoding": "utf-8",
    "cut": None,
    "drop": [],
    "reader": TableFile,
    "packed": False,
}


@properties
@given(case=CSV)
@example(case={**PLAIN, "names": ["é", "y"], "rows": [["0", "1"]], "encoding": "latin-1", "target": "y"})
@example(case={**PLAIN, "names": ["a", "y"], "rows": [["1152921504606846976", "1"]], "target": "y"})
@example(case={**PLAIN, "names": ["1", "2", "y"], "rows": [["1", "1", "0"]], "target": 2, "drop": [1]})
@example(case={**PLAIN, "names": ["a", "y"], "rows": [["1", "0"]], "target": ["a", "y"]})
def test_csv(tmp_path: Path, case: dict[str, Any]) -> None:
    mark = "\t" if case["delimiter"] in ("\\t", "tab") else case["delimiter"]
    text = "\n".join(mark.join(cells) for cells in [case["names"], *case["rows"]]) + "\n"
    content = text.encode(case["encoding"], errors="replace")[: case["cut"]]
    path = tmp_path / "odd.csv"
    path.write_bytes(gzip.compress(content) if case["packed"] else content)
    keys = {"drop": case["drop"]} if case["reader"] is TableFile else {"text": "a"}
    check(path, case["reader"], target=case["target"], delimiter=case["delimiter"], **keys)
    message_of(lambda: read_rows(str(path)))


COLUMNS = {
    "integers": pa.array([1, 2, None]),
    "large integers": pa.array([2**62, -(2**62), 3]),
    "unsigned": pa.array([2**63, 0, 1], pa.uint64()),
    "small": pa.array([1, 2, 3], pa.int8()),
    "numbers": pa.array([1.5, float("nan"), float("inf")]),
    "half": pa.array(np.array([1, 2, 3], dtype=np.float16)),
    "booleans": pa.array([True, None, False]),
    "texts": pa.array(["red", None, "é"]),
    "large texts": pa.array(["red", "x" * 5000, "\x1b[31m"], pa.large_string()),
    "bytes": pa.array([b"\xe9", b"\0", None]),
    "categories": pa.array(["a", "b", "a"]).dictionary_encode(),
    "integer categories": pa.array([1, 2, 1]).dictionary_encode(),
    "dates": pa.array([datetime.date(2024, 1, 1), None, datetime.date(2024, 1, 3)]),
    "timestamps": pa.array([datetime.datetime(2024, 1, 1), None, None]),
    "times": pa.array([datetime.time(1, 2), None, None]),
    "durations": pa.array([datetime.timedelta(1), None, None]),
    "decimals": pa.array([decimal.Decimal("1.5"), None, None]),
    "nothing": pa.nulls(3),
    "lists": pa.array([[1, 2], [], None]),
    "mappings": pa.array([{"a": 1}, {"a": 2}, None]),
    "pairs": pa.array([[("k", 1)], [], None], pa.map_(pa.string(), pa.int64())),
}


PARQUET = st.fixed_dictionaries(
    {
        "kinds": st.lists(st.sampled_from(sorted(COLUMNS)), min_size=1, max_size=3),
        "names": st.lists(st.sampled_from(NAMES), min_size=3, max_size=3),
        "rows": st.integers(0, 3),
        "cut": st.integers(0, 300) | st.none(),
        "target": TYPED,
        "reader": st.sampled_from([TableFile, RowGroups, TextFile]),
        "file": st.sampled_from(["odd.parquet", "odd.parq", "odd.PARQUET", "odd", "odd.csv"]),
    }
)


@properties
@given(case=PARQUET)
def test_parquet(tmp_path: Path, case: dict[str, Any]) -> None:
    arrays = [COLUMNS[kind].slice(0, case["rows"]) for kind in case["kinds"]]
    path = tmp_path / case["file"]
    try:
        pyarrow.parquet.write_table(pa.table(arrays, names=case["names"][: len(arrays)]), path)
    except (pa.ArrowException, ValueError):  # It cannot be written.
        return
    if case["cut"] is not None:
        path.write_bytes(path.read_bytes()[: case["cut"]])
    keys = {"text": case["names"][0]} if case["reader"] is TextFile else {}
    check(path, case["reader"], target=case["target"], **keys)


@pytest.mark.parametrize("kind", sorted(COLUMNS))
@pytest.mark.parametrize("reader", [TableFile, RowGroups])
@pytest.mark.parametrize("role", ["feature", "target"])
def test_a_column_of_every_kind(tmp_path: Path, kind: str, reader: Any, role: str) -> None:
    columns = {"odd": COLUMNS[kind], "plain": pa.array([1, 2, 3])}
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "odd.parquet")
    check(tmp_path / "odd.parquet", reader, target="odd" if role == "target" else "plain")


ARRAYS = [
    np.array(3.0),
    np.zeros((0, 3)),
    np.zeros((3, 0)),
    np.zeros((2, 2, 2)),
    np.array([["a", "b"], ["c", "d"]]),
    np.array([["1", "2"], ["3", "4"]]),
    np.ones((3, 2), dtype=complex),
    np.zeros(3, dtype=[("a", int), ("b", float)]),
    np.array(["2024-01-01", "2024-01-02"], dtype="datetime64[D]").reshape(2, 1),
    np.ones((3, 2), dtype=bool),
    np.full((2, 2), np.inf),
    np.array([[2**63]], dtype=np.uint64),
    np.ones((3, 2), dtype=np.float16),
    np.array([b"a", b"b"]),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}{array.shape}")
@pytest.mark.parametrize(("role", "keys"), [("X", {}), ("y", {"target": "y"}), ("groups", {"groups": "groups"})])
def test_an_array_of_every_kind(tmp_path: Path, array: Any, role: str, keys: dict[str, str]) -> None:
    np.savez(tmp_path / "odd.npz", **{"X": np.ones((3, 2)), role: array})
    check(tmp_path / "odd.npz", ArrayFile, **keys)


NO_TABLES = [
    b"PK\x03\x04zip", b"\xfd7zXZ", b"ARROW1\0\0", b"\x93NUMPY", b"\x89HDF", b"\0\1\2", b"SQLite format 3\0",
    b"\xff\xfea\0", b"\x1f\x8bcut", b"BZhcut", b"PAR1cut", b"",
]  # fmt: skip


@pytest.mark.parametrize("content", NO_TABLES)
@pytest.mark.parametrize("reader", [TableFile, TextFile, RowGroups, ArrayFile])
def test_other_formats(tmp_path: Path, content: bytes, reader: Any) -> None:
    path = tmp_path / "odd.csv"
    path.write_bytes(content)
    message = message_of(lambda: load(reader(path=str(path))))
    assert message is not None
    assert str(path) in message


class TestRowNumbers:
    """Row numbers and stored indices are never features."""

    FRAME = pd.DataFrame({"a": np.arange(30) % 7 / 2, "y": np.arange(30) % 2})
    SHUFFLED = FRAME.sample(frac=1, random_state=0)

    def features(self, path: Path, **keys: Any) -> tuple[str, ...] | None:
        with pytest.warns(UserWarning, match="is excluded: it"):
            return load(TableFile(path=str(path), target="y", **keys)).feature_names

    @pytest.mark.parametrize("frame", [FRAME, SHUFFLED], ids=["in order", "shuffled"])
    def test_csv_of_pandas(self, tmp_path: Path, frame: pd.DataFrame) -> None:
        frame.to_csv(tmp_path / "a.csv")
        assert self.features(tmp_path / "a.csv") == ("a",)

    def test_csv_of_pandas_read_and_written_again(self, tmp_path: Path) -> None:
        self.FRAME.to_csv(tmp_path / "a.csv")
        pd.read_csv(tmp_path / "a.csv").to_csv(tmp_path / "b.csv")
        pd.read_csv(tmp_path / "b.csv").to_csv(tmp_path / "c.csv", index=False)
        assert self.features(tmp_path / "b.csv") == ("a",)
        assert self.features(tmp_path / "c.csv") == ("a",)

    def test_csv_of_r(self, tmp_path: Path) -> None:
        lines = ['"","a","y"', *(f'"{n}",{n % 7 / 2},{n % 2}' for n in range(1, 31))]
        (tmp_path / "a.csv").write_text("\n".join(lines))
        assert self.features(tmp_path / "a.csv") == ("a",)

    def test_an_empty_column_behind_the_last_comma(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text("a,y,\n1,0,\n2,1,\n")
        assert self.features(tmp_path / "a.csv") == ("a",)

    @pytest.mark.parametrize("reader", [TableFile, RowGroups])
    @pytest.mark.parametrize(
        "frame",
        [SHUFFLED, FRAME.set_index(pd.Index(np.arange(30.0), name="row")), pd.read_csv],
        ids=["unnamed", "named", "read from csv"],
    )
    def test_parquet_of_pandas(self, tmp_path: Path, frame: Any, reader: Any) -> None:
        if frame is pd.read_csv:
            self.FRAME.to_csv(tmp_path / "a.csv")
            frame = pd.read_csv(tmp_path / "a.csv")
        frame.to_parquet(tmp_path / "a.parquet")
        with pytest.warns(UserWarning, match="is excluded: it"):
            found = load(reader(path=str(tmp_path / "a.parquet"), target="y"))
        assert found.feature_names == ("a",)

    @pytest.mark.parametrize("reader", [TableFile, RowGroups])
    def test_parquet_of_dask(self, tmp_path: Path, reader: Any) -> None:
        table = pa.table({"__null_dask_index__": [0, 1, 2], "a": [0.5, 1.5, 2.5], "y": [0, 1, 0]})
        (tmp_path / "dir").mkdir()
        pyarrow.parquet.write_table(table, tmp_path / "dir" / "part.0.parquet")
        with pytest.warns(UserWarning, match="__null_dask_index__"):
            assert load(reader(path=str(tmp_path / "dir"), target="y")).feature_names == ("a",)

    def test_a_range_index_is_not_a_column(self, tmp_path: Path) -> None:
        self.FRAME.to_parquet(tmp_path / "a.parquet")
        assert load(TableFile(path=str(tmp_path / "a.parquet"), target="y")).feature_names == ("a",)

    def test_columns_named_by_the_user_are_kept(self, tmp_path: Path) -> None:
        self.FRAME.to_csv(tmp_path / "a.csv")
        assert load(TableFile(path=str(tmp_path / "a.csv"), target="", drop=("y",))).feature_names == ("a",)

    @pytest.mark.parametrize(
        ("cells", "shown"), [(["car", "bus"], "'car'"), ([1, 1], "1"), ([0.5, 1.5], "0.5")], ids=str
    )
    def test_other_unnamed_columns_are_reported(self, tmp_path: Path, cells: list[Any], shown: str) -> None:
        (tmp_path / "a.csv").write_text(f",a,y\n{cells[0]},1,0\n{cells[1]},2,1\n")
        with pytest.raises(DataError, match="column 1 has no name, and does not contain row numbers") as caught:
            load(TableFile(path=str(tmp_path / "a.csv"), target="y"))
        assert f"for example {shown}" in str(caught.value)
        assert "'data.drop=[\"\"]'" in str(caught.value)
        assert load(TableFile(path=str(tmp_path / "a.csv"), target="y", drop=("",))).feature_names == ("a",)

    def test_a_table_of_parameters(self, tmp_path: Path) -> None:
        self.FRAME.to_csv(tmp_path / "a.csv")
        with pytest.warns(UserWarning, match="is excluded"):
            assert list(read_rows(str(tmp_path / "a.csv"))[0]) == ["a", "y"]


@pytest.mark.parametrize("spelling", ["\t", "\\t", "tab"])
@pytest.mark.parametrize("reader", [TableFile, TextFile])
def test_tabs(tmp_path: Path, spelling: str, reader: Any) -> None:
    (tmp_path / "a.tsv").write_text("a\tb\ty\nred\t1\t0\nblue\t2\t1\n")
    keys = {"drop": ("a",)} if reader is TableFile else {"text": "a"}
    assert load(reader(path=str(tmp_path / "a.tsv"), target="y", delimiter=spelling, **keys)).n_samples == 2


def test_a_header_above_a_megabyte(tmp_path: Path) -> None:
    names = [f"ENSG{number:09d}" for number in range(90_000)]
    rows = [",".join(str((column * row) % 9) for column in range(90_000)) + f",{row % 2}" for row in range(3)]
    (tmp_path / "wide.csv").write_text("\n".join([",".join([*names, "y"]), *rows]) + "\n")
    assert load(TableFile(path=str(tmp_path / "wide.csv"), target="y")).X.shape == (3, 90_000)


def test_large_integers_are_exact_and_reported(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,y\n1152921504606846977,0\n3,1\n")
    with pytest.warns(UserWarning, match="column 'id' contains integers beyond 2\\*\\*53, which most estimators round"):
        assert load(TableFile(path=str(tmp_path / "a.csv"), target="y")).X["id"].tolist() == [2**60 + 1, 3]
