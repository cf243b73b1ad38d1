"""Tables: CSV and Parquet files."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from hpcml.data.dataset import Dataset
from hpcml.errors import DataError, nearest


@dataclass(frozen=True, kw_only=True)
class TableFile:
    """A CSV or Parquet file; every column but target and groups is a feature.

    Parameters
    ----------
    path : str
        Ends in .parquet or .pq, or is a directory, for Parquet; anything else is CSV (compressed ones too: .gz, .bz2).
    target : str or None
        The column to predict; it may hold text.
    groups : str or None
        The column that keeps samples together, for splitters such as GroupKFold.
    drop : sequence of str
        Columns to leave out.
    delimiter : str
        CSV only.
    header : bool
        CSV only: whether the first line has the names; without, they are f0, f1, ...
    """

    path: str
    target: str | None = None
    groups: str | None = None
    drop: tuple[str, ...] = ()
    delimiter: str = ","
    header: bool = True

    def __post_init__(self) -> None:
        if str(self.path) == "":
            raise DataError("data.path is empty", "type data.path=FILE")
        if isinstance(self.drop, str):  # data.drop=id, without the brackets of a list
            object.__setattr__(self, "drop", (self.drop,))

    def load(self) -> Dataset:
        """Read the table.

        Raises
        ------
        DataError
            If the file is missing, empty, ragged, has no such column, or a feature is not numeric.
        """
        return self.dataset(self.read())

    def dataset(self, table: pa.Table) -> Dataset:
        """Make a dataset of the file's table, or of a part of it.

        Raises
        ------
        DataError
        """
        features = self.features(table.schema)
        if table.num_rows == 0:
            raise DataError(f"{self.path}: has a header but no rows")
        return Dataset(
            X=self._samples(table, features),
            y=self.labels(table, self.target),
            groups=self.labels(table, self.groups),
            feature_names=tuple(features),
            name=self.path,
        )

    def _samples(self, table: pa.Table, features: list[str]) -> Any:
        X = np.empty((table.num_rows, len(features)))
        for number, name in enumerate(features):  # one after the other: all would be a second copy of the table
            X[:, number] = self._feature(table, name)
        return X

    def features(self, schema: pa.Schema) -> list[str]:
        """Name the columns that are features.

        Raises
        ------
        DataError
            If a column that was named is not there, or none is left.
        """
        columns = schema.names
        if len(set(columns)) < len(columns):
            twice = sorted({name for name in columns if columns.count(name) > 1})
            raise DataError(f"{self.path}: column names stand twice: {', '.join(twice)}")
        named = {"target": self.target, "groups": self.groups, **{f"drop[{i}]": d for i, d in enumerate(self.drop)}}
        for key, name in named.items():
            if name is not None and name not in columns:
                hints = [nearest(name, columns)]
                if len(columns) == 1:
                    hints.append("there is one column only: is the separator another one? 'data.delimiter=\";\"'")
                raise DataError(f"data.{key}={name}: {self.path} has no such column", *hints)
        features = [name for name in columns if name not in {self.target, self.groups, *self.drop}]
        if not features:
            raise DataError(f"{self.path}: no column is left for the features", f"columns: {', '.join(columns)}")
        return features

    def read(self) -> pa.Table:
        """Read the table as it is, whatever its columns hold.

        Raises
        ------
        DataError
            If the file is missing, empty, ragged or damaged.
        """
        path = Path(str(self.path)).expanduser()
        try:
            path.stat()  # PyArrow's own message for a missing file repeats the path and names no reason
            if path.is_dir() or path.suffix in {".parquet", ".pq"}:
                return pyarrow.parquet.read_table(path)
            return pyarrow.csv.read_csv(
                path,
                read_options=pyarrow.csv.ReadOptions(autogenerate_column_names=not self.header),
                parse_options=pyarrow.csv.ParseOptions(delimiter=self.delimiter),
                # an empty cell of a text column is a missing value, as it is in any other column
                convert_options=pyarrow.csv.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=False),
            )
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read: {error.strerror or error}") from error
        except (pa.ArrowException, ValueError) as error:
            # ragged lines, an empty file, a damaged footer: PyArrow says which line and why
            hints = ["is the separator another one? 'data.delimiter=\";\"'"] if "columns, got" in str(error) else []
            raise DataError(f"{self.path}: cannot be read: {error}", *hints) from error

    def _feature(self, table: pa.Table, name: str) -> Any:
        column = table[name]
        if not is_number(column.type):
            if pa.types.is_null(column.type):
                raise DataError(f"{self.path}: column '{name}' is empty", f"leave it out: 'data.drop=[{name}]'")
            raise DataError(
                f"{self.path}: column '{name}' is not numeric: {_example(column)}",
                f"leave it out: 'data.drop=[{name}]'; or encode it as numbers first",
            )
        # a missing value becomes NaN; whether the model takes those is checked later
        return column.cast(pa.float64()).to_numpy()

    def labels(self, table: pa.Table, name: str | None) -> Any:
        """Give a column that may hold text; None if it has no name.

        Raises
        ------
        DataError
            If its text is not UTF-8.
        """
        if name is None:
            return None
        if pa.types.is_binary(table[name].type):  # what PyArrow makes of text that is not UTF-8
            raise DataError(
                f"{self.path}: column '{name}' is not UTF-8 text",
                f"convert it: iconv -f latin1 -t utf8 {shlex.quote(str(self.path))} > utf8.csv",
            )
        return table[name].to_numpy()


def is_number(kind: pa.DataType) -> bool:
    """Tell whether a column of this type can be a feature."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def _example(column: Any) -> str:
    for value in column.to_pylist():
        try:
            float(value)
        except (TypeError, ValueError):
            if value is not None:
                return f"for example {value!r}"
    return f"its type is {column.type}"
