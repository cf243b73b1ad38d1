"""Load CSV, JSON Lines, Parquet and Feather files."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from dataclasses import MISSING, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from hpcml.data.columns import check_column, check_columns, check_known, check_targets, select
from hpcml.data.content import check_encoding
from hpcml.data.csvformat import CsvFormat, check_decimal, check_delimiter, check_na_values
from hpcml.data.dataset import Dataset
from hpcml.data.files import check_paths, joined
from hpcml.data.frames import check_types, is_opaque, plain, to_frame
from hpcml.data.index import find_row_numbers
from hpcml.data.reading import read_table, warn_words_read_as_missing
from hpcml.errors import DataError, printable
from hpcml.keys import check_keys, config_key, documented, kind, whole


@documented
@dataclass(frozen=True, kw_only=True)
class TableFile:
    """A table in CSV, JSON Lines, Parquet or Feather files. All columns except target and groups are features.

    The format is detected by content. Row numbers and stored indices are excluded with a warning.
    """

    path: str | Sequence[str] = config_key(
        MISSING,
        "File, pattern such as part-*.csv, or directory of files; or a list of them. Formats: CSV and JSON Lines "
        "(compressed too: gzip, bz2, zstd, lz4, xz), Parquet, Feather, Arrow",
        kind("path, or list of paths"),
        example="mine.csv",
    )
    target: Any = config_key(
        None,
        "Column to predict; it may hold text. A list of columns of one kind: several targets at once",
        kind("column, or list of columns"),
        example="price",
    )
    groups: str | None = config_key(None, "Column that keeps samples of one group together in every split")
    weight: str | None = config_key(None, "Column with the weights of the samples in fits; scores do not use them")
    id: str | None = config_key(None, "Column that names the samples in tables of predictions; it is no feature")
    drop: tuple[str, ...] = config_key((), "Columns to exclude", kind("list of columns"), example="[id, date]")
    columns: tuple[str, ...] = config_key(
        (),
        "Columns to read; target, groups, weight and id are read as well. []: all",
        kind("list of columns"),
        example="[age, income]",
    )
    rows: int | None = config_key(
        None, "Number of rows to read from the begin, for a first try. null: all", whole(), example="1000"
    )
    delimiter: str = config_key(",", "Character between the columns of a CSV file; tab for tabs")
    header: bool = config_key(True, "Whether the first line of a CSV file has the names. false: they are f0, f1, ...")
    decimal: str = config_key(".", "Decimal mark of numbers in a CSV file: a point or a comma", example="'\",\"'")
    encoding: str | None = config_key(
        None,
        "Encoding of CSV and JSON Lines files. null: found by the byte order mark; else UTF-8; else cp1252, with a "
        "warning",
        example="latin1",
    )
    na_values: tuple[str, ...] | None = config_key(
        None,
        "Words that mean a missing value in a CSV file, as an empty cell always does. null: NA, N/A, NaN, null, NULL "
        "and a few others. []: none, for example if NA is a class",
        kind("list of texts and numbers"),
        example='["?", -999]',
    )

    def __post_init__(self) -> None:
        check_keys(self, "data.")
        store = functools.partial(object.__setattr__, self)
        store("path", check_paths(self.path))
        store("target", check_targets(self.target))
        for key in ("groups", "weight", "id"):
            store(key, check_column(key, getattr(self, key)))
        store("drop", check_columns("drop", self.drop))
        store("columns", check_columns("columns", self.columns))
        store("delimiter", check_delimiter(self.delimiter))
        store("decimal", check_decimal(self.decimal, self.delimiter))
        store("encoding", check_encoding(self.encoding))
        store("na_values", check_na_values(self.na_values))

    @property
    def name(self) -> str:
        """The paths as one text, for messages."""
        return joined(check_paths(self.path))

    def load(self) -> Dataset:
        """Read the table.

        Raises
        ------
        DataError
            If a file is missing, empty or ragged, a column is missing, or the type of a feature is
            one that no estimator takes.
        """
        return self.dataset(self._read())

    def _read(self) -> pa.Table:
        """Read the columns of the dataset."""
        csv = CsvFormat(self.delimiter, self.header, self.encoding, decimal=self.decimal, na_values=self.na_values)
        paths = check_paths(self.path)
        table = read_table(paths, csv, self.choose, self.rows)
        for target in self.targets:
            warn_words_read_as_missing(paths, csv, table, target)
        excluded = find_row_numbers(table, self.name, self.named)
        warn_excluded(self.name, excluded)
        return table.drop_columns(list(excluded))

    @property
    def named(self) -> set[str]:
        """Columns named by the user."""
        return set(self._keys.values())

    @property
    def targets(self) -> tuple[str, ...]:
        """Columns to predict."""
        if self.target is None:
            return ()
        return (self.target,) if isinstance(self.target, str) else tuple(self.target)

    @property
    def _apart(self) -> dict[str, str]:
        """Columns that are not features, by the keys that name them."""
        named = {key: getattr(self, key) for key in ("groups", "weight", "id")}
        found = {key: name for key, name in named.items() if name is not None}
        if isinstance(self.target, str):
            return {"target": self.target, **found}
        return {**{f"target[{number}]": name for number, name in enumerate(self.targets)}, **found}

    @property
    def _keys(self) -> dict[str, str]:
        """Columns named by the user, by the keys that name them."""
        found = self._apart
        for key in ("drop", "columns"):
            found |= {f"{key}[{number}]": name for number, name in enumerate(getattr(self, key))}
        return found

    def choose(self, names: Sequence[str], path: str) -> list[str]:
        """Return the columns to read, given the names of all.

        Parameters
        ----------
        path : str
            The file of the columns, for messages.

        Raises
        ------
        DataError
            If columns named by the user do not exist, or the name of one to read is not unique.
        """
        check_known(self._keys, names, path)
        wanted = {*(self.columns or names)} - {*self.drop}
        wanted |= {*self._apart.values()}
        return select(names, wanted, path)

    def features(self, schema: pa.Schema) -> list[str]:
        """Return the columns that are features.

        Parameters
        ----------
        schema : pyarrow.Schema
            The columns of the dataset.

        Raises
        ------
        DataError
            If there are none, or the type of one is one that no estimator takes.
        """
        apart = {*self._apart.values()}
        found = [name for name in schema.names if name not in apart]
        if not found:
            raise DataError(f"{self.name}: no columns are left as features", f"columns: {', '.join(schema.names)}")
        check_types(self.name, schema, found)
        return found

    def dataset(self, table: pa.Table) -> Dataset:
        """Build a dataset from a table of its columns.

        Raises
        ------
        DataError
            If there are no features or rows, or the type of a feature is one that no estimator
            takes.
        """
        features = self.features(table.schema)
        if table.num_rows == 0:
            raise DataError(f"{self.name}: has a header but no rows")
        groups, weights, ids = (labels(table, name, self.name) for name in (self.groups, self.weight, self.id))
        y = self._labels(table)
        columns = {name: table[name] for name in features}
        del table  # Otherwise its columns would stay in memory while they are converted.
        X = to_frame(columns, self.name)
        return Dataset(X=X, y=y, groups=groups, weights=weights, ids=ids, name=self.name)

    def _labels(self, table: pa.Table) -> Any:
        if isinstance(self.target, str) or self.target is None:
            return labels(table, self.target, self.name)
        found = [labels(table, name, self.name) for name in self.targets]
        if len({values.dtype.kind in "OUS" for values in found}) > 1:
            raise DataError(
                f"{self.name}: of the targets {', '.join(self.targets)} some are text and others numbers",
                "predict them in runs of their own",
            )
        return np.column_stack(found)


def labels(table: pa.Table, name: str | None, path: str) -> Any:
    """Return a column, which may contain text, as an array; None if no name is given.

    Raises
    ------
    DataError
        If its cells are nested, or bytes.
    """
    if name is None:
        return None
    column = table[name]
    if is_opaque(column.type):
        raise DataError(f"{path}: column '{name}' is {printable(column.type, 40)}", "expected numbers, text or dates")
    return (plain(column) if pa.types.is_decimal(column.type) else column).to_numpy()


def warn_excluded(path: str, excluded: dict[str, str]) -> None:
    """Warn about each excluded column, with the reason."""
    for name, reason in excluded.items():
        warnings.warn(f"{path}: column '{name}' is excluded: {reason}", stacklevel=2)
