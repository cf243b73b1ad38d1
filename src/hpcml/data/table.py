"""Load CSV, JSON Lines, Parquet and Feather files."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from dataclasses import MISSING, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from hpcml.data.columns import check_column, check_columns, check_unique
from hpcml.data.content import check_encoding
from hpcml.data.csvfile import CsvFormat, check_decimal, check_delimiter, check_na_values
from hpcml.data.dataset import Dataset
from hpcml.data.files import SEPARATOR, check_paths, joined
from hpcml.data.index import find_row_numbers
from hpcml.data.reading import read_table, warn_words_read_as_missing
from hpcml.errors import DataError, nearest, printable
from hpcml.keys import check_keys, config_key, documented, kind, whole

# A float64 represents all integers up to this one exactly.
_EXACT = 2**53


@documented
@dataclass(frozen=True, kw_only=True)
class TableFile:
    """A table in CSV, JSON Lines, Parquet or Feather files. All columns except target and groups are features.

    The format is detected by content. Row numbers and stored indices are excluded with a warning.
    """

    path: str = config_key(
        MISSING,
        "File, pattern such as part-*.csv, or directory of files; or a list of them. Formats: CSV and JSON Lines "
        "(compressed too: gzip, bz2, zstd, lz4, xz), Parquet, Feather, Arrow",
        kind("path, or list of paths"),
        example="mine.csv",
    )
    target: str | None = config_key(None, "Column to predict; it may hold text")
    groups: str | None = config_key(None, "Column that keeps samples of one group together in every split")
    drop: tuple[str, ...] = config_key((), "Columns to exclude", kind("list of columns"), example="[id, date]")
    columns: tuple[str, ...] = config_key(
        (),
        "Columns to read; target and groups are read as well. []: all",
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
    # The paths, of which `path` is one text for messages.
    paths: tuple[str, ...] = field(init=False, repr=False, default=())

    def __post_init__(self) -> None:
        check_keys(self, "data.")
        object.__setattr__(self, "paths", check_paths(self.path))
        object.__setattr__(self, "path", joined(self.paths))
        object.__setattr__(self, "columns", check_columns("columns", self.columns))
        object.__setattr__(self, "drop", check_columns("drop", self.drop))  # Accepts data.drop=id as well.
        object.__setattr__(self, "target", check_column("target", self.target))
        object.__setattr__(self, "groups", check_column("groups", self.groups))
        object.__setattr__(self, "delimiter", check_delimiter(self.delimiter))
        object.__setattr__(self, "decimal", check_decimal(self.decimal, self.delimiter))
        object.__setattr__(self, "encoding", check_encoding(self.encoding))
        object.__setattr__(self, "na_values", check_na_values(self.na_values))

    def load(self) -> Dataset:
        """Read the table.

        Raises
        ------
        DataError
            If the file is missing, empty or ragged, a column is missing, or the type of a feature
            is one that no estimator takes.
        """
        table = self.read()
        self.check_unique(table.column_names)
        excluded = find_row_numbers(table, self.path, self.named)
        warn_excluded(self.path, excluded)
        return self.dataset(table, excluded)

    @property
    def named(self) -> set[str | None]:
        """Columns named by the user."""
        return {self.target, self.groups, *self.drop}

    def dataset(self, table: pa.Table, excluded: Collection[str] = ()) -> Dataset:
        """Build a dataset from the file's table, or part of it.

        Parameters
        ----------
        excluded : collection of str
            Columns to exclude in addition to :attr:`drop`.

        Raises
        ------
        DataError
        """
        features = self.features(table.schema, excluded)
        if table.num_rows == 0:
            raise DataError(f"{self.path}: has a header but no rows")
        check_types(self.path, table.schema, features)
        return Dataset(
            X=to_frame(table.select(features), self.path),
            y=self.labels(table, self.target),
            groups=self.labels(table, self.groups),
            name=self.path,
        )

    def check_unique(self, columns: list[str]) -> None:
        """Check that the names of columns are unique.

        Raises
        ------
        DataError
        """
        check_unique(columns, self.path)

    def features(self, schema: pa.Schema, excluded: Collection[str] = ()) -> list[str]:
        """Return the columns that are features.

        Raises
        ------
        DataError
            If a column named by the user does not exist, or no feature is left.
        """
        columns = schema.names
        named = {"target": self.target, "groups": self.groups, **{f"drop[{i}]": d for i, d in enumerate(self.drop)}}
        for key, name in named.items():
            if name is not None and name not in columns:
                hints = [nearest(name, columns)]
                if len(columns) == 1:
                    hints.append(f"there is only one column: {SEPARATOR}")
                raise DataError(f"data.{key}={name}: {self.path} has no such column", *hints)
        others = {*self.named, *excluded}
        features = [name for name in columns if name not in others]
        if not features:
            raise DataError(f"{self.path}: no columns are left as features", f"columns: {', '.join(columns)}")
        return features

    def read(self) -> pa.Table:
        """Read the table without checking its columns.

        Raises
        ------
        DataError
            If a file is missing, empty, ragged or damaged.
        """
        csv = CsvFormat(
            delimiter=self.delimiter,
            header=self.header,
            encoding=self.encoding,
            decimal=self.decimal,
            na_values=self.na_values,
        )
        table = read_table(self.paths, csv, self._wanted, self.rows)
        if self.target is not None and table.column_names.count(self.target) == 1:
            warn_words_read_as_missing(self.paths, csv, table, self.target)
        return table

    @property
    def _wanted(self) -> Mapping[str, str]:
        """Columns to read, by the keys that name them; empty for all."""
        if not self.columns:
            return {}
        wanted = {f"columns[{number}]": name for number, name in enumerate(self.columns)}
        wanted |= {f"drop[{number}]": name for number, name in enumerate(self.drop)}
        others = {"target": self.target, "groups": self.groups}
        return wanted | {key: name for key, name in others.items() if name is not None}

    def labels(self, table: pa.Table, name: str | None) -> Any:
        """Return a column, which may contain text; None if no name is given.

        Raises
        ------
        DataError
            If its cells are nested, or bytes.
        """
        if name is None:
            return None
        if pa.types.is_nested(table[name].type) or _is_bytes(table.schema, name):
            raise DataError(
                f"{self.path}: column '{name}' is {printable(table[name].type, 40)}", "expected numbers, text or dates"
            )
        return table[name].to_numpy()


def warn_excluded(path: str, excluded: dict[str, str]) -> None:
    """Warn about each excluded column, with the reason."""
    for name, reason in excluded.items():
        warnings.warn(f"{path}: column '{name}' is excluded: {reason}", stacklevel=2)


def _is_rounded(column: Any) -> bool:
    if not pa.types.is_integer(column.type) or column.type.bit_width < 64:
        return False
    ends = pc.min_max(column).as_py().values()
    return any(end is not None and abs(end) > _EXACT for end in ends)


def check_types(path: str, schema: pa.Schema, features: Collection[str]) -> None:
    """Check that estimators can take the columns, as numbers, text, categories or dates.

    Raises
    ------
    DataError
        The message names all columns that they cannot take.
    """
    wrong = [name for name in features if pa.types.is_nested(schema.field(name).type) or _is_bytes(schema, name)]
    if wrong:
        listed = ", ".join(f"'{printable(name)}' ({printable(schema.field(name).type, 40)})" for name in wrong)
        raise DataError(
            f"{path}: no estimator takes the columns {listed}", f"exclude them: 'data.drop=[{','.join(wrong)}]'"
        )


def _is_bytes(schema: pa.Schema, name: str) -> bool:
    kind = schema.field(name).type
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def to_frame(table: pa.Table, path: str) -> Any:
    """Convert a table to a pandas DataFrame; missing numbers become NaN.

    Decimals become floating-point numbers, times of day and durations become seconds. Integers and
    booleans keep their type if none is missing.
    """
    for name, column in zip(table.column_names, table.columns, strict=True):
        if _is_rounded(column):
            warnings.warn(
                f"{path}: column '{name}' contains integers beyond 2**53, which most estimators round", stacklevel=2
            )
    plain = pa.table([_plain(column) for column in table.columns], names=table.column_names)
    return plain.to_pandas(date_as_object=False, self_destruct=True, ignore_metadata=True)


def _plain(column: Any) -> Any:
    """Return a column as a type that pandas has other than that of Python objects."""
    kind = column.type
    if pa.types.is_null(kind) or pa.types.is_decimal(kind) or (pa.types.is_boolean(kind) and column.null_count):
        return column.cast(pa.float64())
    if pa.types.is_duration(kind):
        return pc.divide(column.cast(pa.duration("us")).cast(pa.int64()).cast(pa.float64()), 1e6)
    if pa.types.is_time(kind):
        return pc.divide(column.cast(pa.time64("us")).cast(pa.int64()).cast(pa.float64()), 1e6)
    return column
