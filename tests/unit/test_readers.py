"""Tables in every format: the right values, whatever the name of the file, or one message."""

from __future__ import annotations

import bz2
import decimal
import gzip
import lzma
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpcml.config.compose import compose
from hpcml.data import Dataset, RowGroups, TableFile, load, paths
from hpcml.data.rows import read_rows
from hpcml.errors import ConfigError, DataError
from hpcml.plan import check
from hpcml.spec import RunSpec

FRAME = pd.DataFrame({"a": [1, 2, 3, 4], "b": [0.5, 1.5, 2.5, 3.5], "y": [0, 1, 0, 1]})


def read(path: Path | list[str], **keys: Any) -> Dataset:
    return TableFile(path=path if isinstance(path, list) else str(path), **{"target": "y", **keys}).load()


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def composed(*overrides: str) -> RunSpec:
    found = compose("hpcml run", ["data=csv", *overrides])
    assert found is not None
    return found.build()


class TestEncodings:
    TEXT = "größe,y\nmüde,0\nwach,1\n"

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
    def test_found_by_content(self, tmp_path: Path, encoding: str) -> None:
        data = read(written(tmp_path / "a.csv", self.TEXT.encode(encoding)))
        assert data.X["größe"].tolist() == ["müde", "wach"]

    @pytest.mark.parametrize("encoding", ["latin1", "cp1252", "utf-16-le", "utf-8", "UTF8"])
    def test_named(self, tmp_path: Path, encoding: str) -> None:
        data = read(written(tmp_path / "a.csv", self.TEXT.encode(encoding)), encoding=encoding)
        assert data.X["größe"].tolist() == ["müde", "wach"]

    def test_of_another_script(self, tmp_path: Path) -> None:
        path = written(tmp_path / "a.csv", "大小,y\n小,0\n大,1\n".encode("gbk"))
        assert read(path, encoding="gbk").X["大小"].tolist() == ["小", "大"]

    @pytest.mark.parametrize(
        "text", ["größe,y\n1,0\n2,1\n", "a,y\nmüde,0\nwach,1\n", "a,y\n" + "x,1\n" * 400_000 + "é,0\n"]
    )
    def test_a_guess_is_reported_with_an_example(self, tmp_path: Path, text: str) -> None:
        path = written(tmp_path / "a.csv", text.encode("cp1252"))
        with pytest.warns(
            UserWarning, match=r"read as cp1252 \(Western European\), for example '(größe|müde|é)'"
        ) as caught:
            read(path)
        assert len(caught) == 1

    def test_the_wrong_name(self, tmp_path: Path) -> None:
        path = written(tmp_path / "a.csv", self.TEXT.encode("latin1"))
        with pytest.raises(DataError, match=r"not UTF-8 text\n.*data.encoding=latin1"):
            read(path, encoding="utf-8")
        for encoding in ("no-such", "zlib", 3):
            with pytest.raises(ConfigError, match=f"data.encoding={encoding}: unknown\n  for example utf-8"):
                read(path, encoding=encoding)


class TestCsv:
    @pytest.mark.parametrize("mark", [",", "."])
    def test_decimal_marks(self, tmp_path: Path, mark: str) -> None:
        path = written(tmp_path / "a.csv", f"a;y\n1{mark}25;0\n-0{mark}5;1\n")
        assert read(path, delimiter=";", decimal=mark).X["a"].tolist() == [1.25, -0.5]

    def test_decimal_commas_read_as_text_are_reported(self, tmp_path: Path) -> None:
        path = written(tmp_path / "a.csv", "a;b;y\n1,25;x;0\n-0,5;1,5;1\n")
        with pytest.warns(
            UserWarning, match=r"decimal comma in column 'a' are read as text, for example '1,25'.*data.dec"
        ):
            read(path, delimiter=";")

    @pytest.mark.parametrize(
        ("values", "expected"),
        [(None, ["?", None, "-999", "x"]), (["?", -999], [None, "NA", None, "x"]), ([], ["?", "NA", "-999", "x"])],
    )
    def test_missing_values(self, tmp_path: Path, values: Any, expected: list[Any]) -> None:
        path = written(tmp_path / "a.csv", "a,y\n?,0\nNA,1\n-999,0\nx,1\n")
        found = read(path, na_values=values).X["a"]
        assert [None if pd.isna(value) else value for value in found] == expected

    def test_a_marker_in_a_column_of_numbers(self, tmp_path: Path) -> None:
        path = written(tmp_path / "a.csv", "a,y\n1,0\n-999,1\n")
        np.testing.assert_array_equal(read(path, na_values=-999).X["a"], [1, np.nan])

    def test_a_class_named_na(self, tmp_path: Path) -> None:
        path = written(tmp_path / "a.csv", "a,y\n1,NA\n2,SA\n3,NA\n")
        with pytest.warns(
            UserWarning, match=r"target 'y' are read as missing values: 'NA' \(2x\); .*'data.na_values=\[\]'"
        ):
            read(path)
        assert read(path, na_values=[]).y.tolist() == ["NA", "SA", "NA"]

    def test_quotes_and_line_breaks_in_cells(self, tmp_path: Path) -> None:
        path = written(tmp_path / "a.csv", 'a,b,y\r\n"one, ""two""\r\nthree",1,0\r\n"","2",1\r\n')
        data = read(path)
        assert data.X["a"].tolist() == ['one, "two"\r\nthree', ""]
        assert data.X["b"].tolist() == [1, 2]

    @pytest.mark.parametrize("rows", [None, 3])
    def test_line_breaks_in_a_cell_above_a_block(self, tmp_path: Path, rows: int | None) -> None:
        cell = "line, of text\n" * 200_000
        path = written(tmp_path / "a.csv", f'a,b,y\nx,1,0\n"{cell}",2,1\nz,3,0\n')
        data = read(path, rows=rows)
        assert data.X["a"].tolist() == ["x", cell, "z"]
        assert data.X["b"].tolist() == [1, 2, 3]

    def test_line_breaks_in_cells_of_every_block(self, tmp_path: Path) -> None:
        path = tmp_path / "a.csv"
        frame = pd.DataFrame({"a": ["x\n,1\n"] * 300_000, "y": np.arange(300_000) % 2})
        frame.to_csv(path, index=False)
        data = read(path)
        assert data.n_samples == 300_000
        assert set(data.X["a"]) == {"x\n,1\n"}

    @pytest.mark.parametrize("columns", [[], ["a"]])
    def test_a_quote_that_is_not_closed(self, tmp_path: Path, columns: list[str]) -> None:
        path = written(tmp_path / "a.csv", 'a,y,note\n1,0,fine\n2,1,"oops\n3,0,fine\n4,1,fine\n')
        with pytest.raises(DataError, match=r"a quote is not closed in the row that ends with 'oops"):
            read(path, columns=columns)

    def test_windows_line_breaks_and_a_byte_order_mark(self, tmp_path: Path) -> None:
        path = written(tmp_path / "a.csv", b"\xef\xbb\xbfa,y\r\n1,0\r\n2,1\r\n")
        assert read(path).X.to_dict("list") == {"a": [1, 2]}

    @pytest.mark.parametrize(
        ("suffix", "compress"),
        [
            (".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress),
            (".zst", lambda content: pa.compress(content, "zstd", asbytes=True)),
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("rows", [None, 2])
    def test_compressed(
        self, tmp_path: Path, suffix: str, compress: Callable[[bytes], bytes], rows: int | None
    ) -> None:
        content = FRAME.to_csv(index=False).encode()
        for name in (f"a.csv{suffix}", "a"):
            data = read(written(tmp_path / name, compress(content)), rows=rows)
            pd.testing.assert_frame_equal(data.X, FRAME[["a", "b"]][:rows])

    def test_a_header_above_a_megabyte_in_a_small_compressed_file(self, tmp_path: Path) -> None:
        names = [f"{number:09d}" * 40 for number in range(4000)]
        content = ",".join([*names, "y"]) + "\n" + "0," * 4000 + "1\n"
        assert read(written(tmp_path / "a.csv.gz", gzip.compress(content.encode()))).X.shape == (1, 4000)

    @pytest.mark.parametrize("quote", ['"', ""])
    def test_lines_that_end_in_a_carriage_return(self, tmp_path: Path, quote: str) -> None:
        path = written(tmp_path / "a.csv", f"a,y\r{quote}one{quote},0\r{quote}two{quote},1\r")
        assert read(path).X["a"].tolist() == ["one", "two"]

    @pytest.mark.parametrize("number", [2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1])
    @pytest.mark.filterwarnings("ignore:.*beyond 2..53")
    def test_large_integers(self, tmp_path: Path, number: int) -> None:
        path = written(tmp_path / "a.csv", f"a,y\n3,0\n{number},1\n")
        assert read(path).X["a"].tolist() == [3, number]

    def test_numbers_as_names(self, tmp_path: Path) -> None:
        path = written(tmp_path / "a.csv", "1,2,y\n3,4,0\n5,6,1\n")
        assert read(path, target=2, drop=[1]).X.to_dict("list") == {"y": [0, 1]}

    def test_all_missing_columns_are_named(self, tmp_path: Path) -> None:
        path = written(tmp_path / "a.csv", "a,b,y\n3,4,0\n")
        message = (
            r"data.target=z, data.drop\[0\]=aa, data.columns\[0\]=bb: .*a.csv has no such columns\n(.|\n)*mean 'a'"
        )
        with pytest.raises(DataError, match=message):
            read(path, target="z", drop=["aa"], columns=["bb"])

    def test_a_list_as_target(self, tmp_path: Path) -> None:
        path = written(tmp_path / "numbers.csv", "1,2,y\n3,4,0\n5,6,1\n")
        data = read(path, target=["y", 2])
        assert data.feature_names == ("1",)
        assert data.y.tolist() == [[0, 4], [1, 6]]

    def test_a_late_change_of_type(self, tmp_path: Path) -> None:
        path = written(tmp_path / "a.csv", "a,b,y\n" + "1,1,0\n" * 400_000 + "1.5,x,1\n")
        for rows in (None, 400_001):
            data = read(path, rows=rows)
            assert data.X["a"].iloc[-1] == 1.5
            assert data.X["b"].iloc[-1] == "x"

    @pytest.mark.parametrize(
        ("keys", "message"),
        [
            ({"decimal": ";"}, "data.decimal=;: must be"),
            ({"decimal": ","}, "data.decimal=,: is also data.delimiter"),
            ({"na_values": [True]}, "neither text nor number"),
            ({"na_values": {"a": 1}}, "neither text nor number"),
            ({"rows": 0}, "data.rows=0: must be a whole number"),
            ({"path": ""}, "data.path is empty"),
            ({"path": []}, "data.path is empty"),
            ({"path": {"a": 1}}, "must be a path, or a list of paths"),
        ],
    )
    def test_bad_keys(self, keys: Any, message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            TableFile(**{"path": "a.csv", **keys})


class TestSeveralFiles:
    def test_patterns_lists_and_directories(self, tmp_path: Path) -> None:
        for number in range(4):
            FRAME[number : number + 1].to_csv(tmp_path / f"part-{number}.csv", index=False)
        written(tmp_path / "README.md", "about")
        written(tmp_path / "_SUCCESS", "")
        parts = [str(tmp_path / f"part-{number}.csv") for number in range(4)]
        for path in (str(tmp_path), str(tmp_path / "part-*.csv"), str(tmp_path / "part-?.*"), parts):
            data = TableFile(path=path, target="y").load()
            pd.testing.assert_frame_equal(data.X, FRAME[["a", "b"]])
        assert read([parts[2], parts[0]]).X["a"].tolist() == [3, 1]
        assert read(tmp_path, rows=2).X["a"].tolist() == [1, 2]
        assert read_rows(str(tmp_path / "part-*.csv"))[3] == {"a": 4, "b": 3.5, "y": 1}

    def test_types_that_fit_all(self, tmp_path: Path) -> None:
        written(tmp_path / "1.csv", "n,code,y\n1,007,0\n")
        written(tmp_path / "2.csv", "y,code,n\n1,A7,1.5\n")
        written(tmp_path / "3.csv", "n,code,y\n,,1\n")
        X = read(tmp_path).X
        np.testing.assert_array_equal(X["n"], [1, 1.5, np.nan])
        assert X["code"].tolist()[:2] == ["007", "A7"]

    def test_other_columns(self, tmp_path: Path) -> None:
        written(tmp_path / "1.csv", "a,y\n1,0\n")
        written(tmp_path / "2.csv", "a,z,y\n1,1,0\n")
        with pytest.raises(
            DataError, match=r"2.csv: has an additional column 'z': its columns differ from those of .*1.csv"
        ):
            read(tmp_path)
        assert read(tmp_path, columns=["a"]).n_samples == 2

    def test_files_without_rows_are_skipped(self, tmp_path: Path) -> None:
        written(tmp_path / "1.csv", "a,y\n1,0\n")
        written(tmp_path / "2.csv", "")
        written(tmp_path / "3.csv", "a,y\n")
        with pytest.warns(UserWarning, match="skips 1 file") as caught:
            assert read(tmp_path).n_samples == 1
        assert [str(warning.message).partition(": ")[2].partition(":")[0] for warning in caught] == [
            "skips 1 file of 0 bytes", "skips 1 file without rows",
        ]  # fmt: skip

    def test_other_formats(self, tmp_path: Path) -> None:
        FRAME.to_csv(tmp_path / "1.csv")
        FRAME.to_parquet(tmp_path / "2.parquet")
        with pytest.raises(DataError, match=r"1.csv is CSV, and .*2.parquet is Parquet(.|\n)*'data.path=.*/\*.csv'"):
            read(tmp_path)

    def test_no_match(self, tmp_path: Path) -> None:
        written(tmp_path / "flights.csv", "a,y\n1,0\n")
        with pytest.raises(
            DataError, match=r"flight.csv: cannot be read: No such file.*\n  did you mean 'flights.csv'"
        ):
            read(tmp_path / "flight.csv")
        with pytest.raises(DataError, match=r"flights-\*.csv: no file matches this pattern"):
            read(tmp_path / "flights-*.csv")
        (tmp_path / "empty").mkdir()
        with pytest.raises(DataError, match="empty: contains no files"):
            read(tmp_path / "empty")

    def test_a_file_with_a_pattern_as_its_name(self, tmp_path: Path) -> None:
        FRAME.to_csv(tmp_path / "x[1].csv", index=False)
        assert read(tmp_path / "x[1].csv").n_samples == 4

    def test_of_the_command_line(self, tmp_path: Path) -> None:
        composed(f"data.path={tmp_path}/*.csv", "data.target=y")
        with pytest.raises(DataError, match=r"b.csv: cannot be read: No such file"):
            composed(f"data.path=[{tmp_path},{tmp_path}/b.csv]", "data.target=y")

    def test_jobs_know_all_paths(self) -> None:
        known = ["/data/a.csv", "/data/b/*.csv", f"{Path.cwd()}/*.csv"]
        assert paths(TableFile(path=["/data/a.csv", "/data/b/*.csv", "*.csv"], na_values=("?",))) == known


class TestSelection:
    @pytest.mark.parametrize("suffix", ["csv", "parquet", "feather", "jsonl"])
    def test_only_these_columns_are_read(self, tmp_path: Path, suffix: str) -> None:
        frame = FRAME.assign(**{"a.b": 1, "odd": [1, 1, 2, 2]})
        path = tmp_path / f"t.{suffix}"
        write(frame, path)
        assert read(path, columns=["a"], groups="odd").X.to_dict("list") == {"a": [1, 2, 3, 4]}
        assert read(path, columns="b").feature_names == ("b",)
        assert read(path, drop=["a.b", "odd"]).feature_names == ("a", "b")

    def test_columns_that_are_not_read_may_be_odd(self, tmp_path: Path) -> None:
        table = pa.table({"a": [1, 2], "nested": [[1], [2]], "y": [0, 1]})
        pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
        assert read(tmp_path / "a.parquet", columns=["a"]).feature_names == ("a",)
        written(tmp_path / "a.csv", "a,b,b,y,,\n1,2,3,0,,\n")
        assert read(tmp_path / "a.csv", columns=["a"]).feature_names == ("a",)
        assert read(tmp_path / "a.csv", drop=["b", ""]).feature_names == ("a",)

    @pytest.mark.parametrize("suffix", ["csv", "parquet", "feather", "jsonl"])
    @pytest.mark.parametrize("rows", [1, 3, 4, 5])
    def test_first_rows(self, tmp_path: Path, suffix: str, rows: int) -> None:
        path = tmp_path / f"t.{suffix}"
        write(FRAME, path)
        pd.testing.assert_frame_equal(read(path, rows=rows).X, FRAME[["a", "b"]][:rows])

    @pytest.mark.parametrize("suffix", ["csv", "jsonl"])
    def test_no_more_than_the_first_rows_are_parsed(self, tmp_path: Path, suffix: str) -> None:
        lines = {"csv": ["a,y", *["1,0"] * 2_000_000, "a ragged line"], "jsonl": [*['{"a": 1, "y": 0}'] * 9999, "{"]}
        path = written(tmp_path / f"a.{suffix}", "\n".join(lines[suffix]))
        assert read(path, rows=1000).n_samples == 1000
        with pytest.raises(DataError, match="cannot be read"):
            read(path)


def write(frame: pd.DataFrame, path: Path) -> None:
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    elif path.suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    elif path.suffix == ".feather":
        frame.to_feather(path)
    elif path.suffix == ".arrows":
        table = pa.Table.from_pandas(frame)
        with pa.ipc.new_stream(path, table.schema) as stream:
            stream.write_table(table)
    else:
        frame.to_parquet(path, row_group_size=2)


class TestContent:
    @pytest.mark.parametrize("suffix", [".csv", ".parquet", ".feather", ".arrows", ".jsonl"])
    @pytest.mark.parametrize("name", ["t", "t.dat", "t.parq", "t.csv", "t.PARQUET", "t.gz"])
    def test_decides_not_the_name(self, tmp_path: Path, suffix: str, name: str) -> None:
        write(FRAME, tmp_path / f"original{suffix}")
        shutil.move(tmp_path / f"original{suffix}", tmp_path / name)
        pd.testing.assert_frame_equal(read(tmp_path / name).X, FRAME[["a", "b"]])

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"PK\x03\x04xlsx", "is a zip archive, .*\n.*from Excel save as CSV"),
            (b"\x89HDF\r\n", "is an HDF5 file"),
            (b"%PDF-1.7", "is a PDF document"),
            (bytes(range(256)) * 20, "is neither text nor a table"),
            (b'[{"a": 1}]', "is one JSON array"),
            (b"PAR1" + b"\0" * 20, "cannot be read"),
            (b"ARROW1\0\0" + b"\0" * 20, "cannot be read"),
        ],
    )
    def test_that_is_not_supported_is_named(self, tmp_path: Path, content: bytes, message: str) -> None:
        with pytest.raises(DataError, match=message) as caught:
            read(written(tmp_path / "a.csv", content))
        assert all(line.isprintable() for line in str(caught.value).split("\n"))

    def test_a_zip_archive(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "a.csv", "w") as archive:
            archive.writestr("a.csv", "a,y\n1,0\n")
        with pytest.raises(DataError, match="is a zip archive"):
            read(tmp_path / "a.csv")

    @settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(content=st.binary(max_size=200))
    @pytest.mark.filterwarnings("ignore::UserWarning")
    def test_any_bytes(self, tmp_path: Path, content: bytes) -> None:
        path = written(tmp_path / "a.csv", content)
        try:
            read(path, target=None)
        except DataError as error:
            message = str(error)
        else:
            message = ""
        assert all(line.isprintable() for line in message.split("\n"))


class TestParquet:
    @pytest.fixture
    def hive(self, tmp_path: Path) -> Path:
        """A directory with an integer and a text as partitions."""
        FRAME.assign(year=[2024, 2024, 2025, 2025], site=["x", "y", "x", "y"]).to_parquet(
            tmp_path / "hive", partition_cols=["year", "site"]
        )
        return tmp_path / "hive"

    def test_partitions_are_columns(self, hive: Path) -> None:
        X = read(hive).X.sort_values("a")
        assert X["year"].tolist() == [2024, 2024, 2025, 2025]
        assert X["site"].tolist() == ["x", "y", "x", "y"]
        assert X["year"].dtype.kind == "i"
        assert read(hive, target="year").y.tolist() == [2024, 2024, 2025, 2025]
        assert read(hive, columns=["year"]).feature_names == ("year",)
        assert read(hive, drop=["year", "site"]).feature_names == ("a", "b")
        assert read(hive / "year=2025").feature_names == ("a", "b", "site")
        assert read(hive / "year=*" / "site=x").X["a"].tolist() == [1, 3]

    def test_partitions_in_blocks(self, hive: Path) -> None:
        blocks = load(RowGroups(path=str(hive), target="y", drop=("site",), block_size=2))
        assert blocks.feature_names == ("a", "b", "year")
        whole = blocks.whole  # type: ignore[union-attr]
        assert whole.X["year"].tolist() == [2024, 2024, 2025, 2025]
        assert whole.y.tolist() == [0, 1, 0, 1]
        selected = load(RowGroups(path=str(hive / "year=*"), columns=("year", "a")))
        assert selected.whole.X.to_dict("list") == {"a": [1, 2, 3, 4], "year": [2024, 2024, 2025, 2025]}  # type: ignore[union-attr]

    def test_partitions_of_csv(self, tmp_path: Path) -> None:
        (tmp_path / "year=2024").mkdir()
        FRAME.to_csv(tmp_path / "year=2024" / "a.csv")
        with pytest.raises(DataError, match="partitioned directory, which hpcml reads from Parquet only, not CSV"):
            read(tmp_path)

    @pytest.mark.parametrize("reader", [TableFile, RowGroups])
    def test_files_without_rows_are_skipped(self, tmp_path: Path, reader: Any) -> None:
        FRAME.to_parquet(tmp_path / "1.parquet")
        FRAME[:0].astype(object).to_parquet(tmp_path / "2.parquet")
        written(tmp_path / "3.parquet", b"")
        with pytest.warns(
            UserWarning, match=r"skips 1 file (without rows: .*2.parquet|of 0 bytes: .*3.parquet)"
        ) as caught:
            found = load(reader(path=str(tmp_path), target="y"))
        assert found.n_samples == 4
        assert len(caught) == 2

    @pytest.mark.parametrize("reader", [TableFile, RowGroups])
    def test_all_files_without_rows(self, tmp_path: Path, reader: Any) -> None:
        FRAME[:0].to_parquet(tmp_path / "2.parquet")
        with pytest.raises(DataError, match=r"has (a header but )?no rows"):
            load(reader(path=str(tmp_path), target="y"))

    def test_blocks_of_other_formats(self, tmp_path: Path) -> None:
        FRAME.to_csv(tmp_path / "1.csv")
        with pytest.raises(DataError, match=r"1.csv: is CSV, and only Parquet is read in blocks"):
            load(RowGroups(path=str(tmp_path)))

    def test_dictionaries_and_decimals(self, tmp_path: Path) -> None:
        for number, letters in enumerate(("ab", "bc")):
            table = pa.table({
                "kind": pa.array(list(letters)).dictionary_encode(), "number": pa.array([1, 2]).dictionary_encode(),
                "y": [decimal.Decimal("1.25"), decimal.Decimal("0.5")],
            })  # fmt: skip
            pyarrow.parquet.write_table(table, tmp_path / f"{number}.parquet")
        data = read(tmp_path)
        assert data.X["kind"].tolist() == ["a", "b", "b", "c"]
        assert data.X["number"].tolist() == [1, 2, 1, 2]
        assert data.y.tolist() == [1.25, 0.5, 1.25, 0.5]
        assert data.y.dtype == np.float64

    def test_types_that_differ(self, tmp_path: Path) -> None:
        FRAME.to_parquet(tmp_path / "1.parquet")
        FRAME.astype({"a": str}).to_parquet(tmp_path / "2.parquet")
        with pytest.raises(DataError, match=r"2.parquet: column 'a' is (large_)?string, and int64 in .*1.parquet"):
            read(tmp_path)


class TestJsonLines:
    def test_keys_may_be_absent(self, tmp_path: Path) -> None:
        path = written(tmp_path / "a.jsonl", '{"a": 1, "y": 0}\n\n{"y": 1, "b": "x"}\n')
        X = read(path).X
        np.testing.assert_array_equal(X["a"], [1, np.nan])
        assert X["b"].tolist()[1] == "x"

    @pytest.mark.filterwarnings("ignore:.*beyond 2..53")
    def test_large_integers(self, tmp_path: Path) -> None:
        path = written(tmp_path / "a.jsonl", f'{{"a": {2**64 - 1}, "y": 0}}\n{{"a": 1, "y": 1}}\n')
        assert read(path).X["a"].tolist() == [2**64 - 1, 1]

    @pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin1"])
    @pytest.mark.parametrize("rows", [None, 2])
    def test_encodings(self, tmp_path: Path, encoding: str, rows: int | None) -> None:
        lines = '{"größe": "müde", "y": 0}\r\n{"größe": "wach", "y": 1}\r\n'
        path = written(tmp_path / "a.jsonl", lines.encode(encoding))
        named = "latin1" if encoding == "latin1" else None
        assert read(path, encoding=named, rows=rows).X["größe"].tolist() == ["müde", "wach"]
        with pytest.raises(DataError, match="cannot be read"):
            read(written(tmp_path / "b.jsonl", lines.encode("latin1")), encoding="utf-8")

    def test_nested_values_are_named(self, tmp_path: Path) -> None:
        path = written(tmp_path / "a.jsonl", '{"a": {"b": 1}, "c": [1], "y": 0}\n')
        with pytest.raises(DataError, match=r"'a' \(struct.*'c' \(list.*\n.*'data.drop=\[a,c\]'"):
            read(path)
        with pytest.raises(DataError, match=r"column 'c' is list"):
            read(path, target="c", drop=["a"])


@pytest.mark.parametrize("spelling", ['"\\t"', "\\t", "'\\t'", "tab", '"\t"', "\t"])
def test_tabs_on_the_command_line(tmp_path: Path, spelling: str) -> None:
    path = written(tmp_path / "a.tsv", "a\ty\n" + "1\t0\n2\t1\n" * 30)
    spec = composed(f"data.path={path}", f"data.delimiter={spelling}", "data.target=y")
    assert load(spec.data).X.shape == (60, 1)  # type: ignore[union-attr]


def test_an_error_of_the_data_repeats_warnings_of_its_loader(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "a,y\n" + "1,NA\n2,SA\n" * 30)
    spec = composed(f"data.path={path}", "data.target=y", "model=logistic", f"scratch={tmp_path}")
    with pytest.raises(DataError, match=r"only one class in the target: SA(.|\n)*'NA' \(30x\); .*data.na_values=\[\]"):
        check(spec)
