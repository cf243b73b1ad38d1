"""Load texts from a column of a Parquet, CSV or JSON Lines file, or from a directory per class."""

from __future__ import annotations

import codecs
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.json

from hpcml.data.dataset import Dataset
from hpcml.data.reading import (
    SEPARATOR,
    CsvFormat,
    check_column,
    check_delimiter,
    check_names,
    read_table,
    readable,
)
from hpcml.data.table import TableFile
from hpcml.errors import ConfigError, DataError, nearest, printable
from hpcml.keys import config_key, documented

# Block size in bytes. PyArrow rejects longer JSON objects.
_BLOCK = 64 * 1024**2

_COMPRESSED = {".gz", ".bz2", ".zst"}


@documented
@dataclass(frozen=True, kw_only=True)
class TextFile:
    """Texts and their targets."""

    path: str = config_key(
        MISSING,
        "Parquet, CSV or JSON Lines file (.jsonl, .ndjson, .json; CSV and JSON may be compressed: .gz, .bz2), a "
        "directory of Parquet files, or a directory with one directory for each class and one file for each text",
        example="mine.jsonl",
    )
    text: str = config_key("text", "Column with the texts")
    target: str | None = config_key(
        None, "Column to predict; it may hold text. A directory's classes are the names of its directories"
    )
    groups: str | None = config_key(None, "Column that keeps samples of one group together in every split")
    encoding: str = config_key("utf-8", "Encoding of CSV files and of a directory's texts", example="latin1")
    delimiter: str = config_key(",", "Character between the columns of a CSV file; tab for tabs")

    def __post_init__(self) -> None:
        if str(self.path) == "":
            raise DataError("data.path is empty", "type data.path=FILE")
        for key in ("text", "target", "groups"):
            object.__setattr__(self, key, check_column(key, getattr(self, key)))
        object.__setattr__(self, "delimiter", check_delimiter(self.delimiter))
        try:
            codecs.lookup(str(self.encoding))
        except LookupError as error:
            raise ConfigError(f"data.encoding={self.encoding}: unknown", "for example utf-8, latin1, cp1252") from error
        if self.text in {self.target, self.groups}:
            key = "target" if self.text == self.target else "groups"
            raise ConfigError(f"data.{key}={self.text}: is also the column of texts", "name another column")

    def load(self) -> Dataset:
        """Read the texts.

        Raises
        ------
        DataError
            If a file is missing, empty, damaged or in another encoding, a column is missing, or it
            does not contain text.
        """
        path = Path(str(self.path)).expanduser()
        with readable(self.path):
            if path.is_dir() and not any(path.glob("*.parquet")):
                return self._directory(path)
        table = self._table(path)
        self._check_columns(table)
        columns = TableFile(path=self.path)
        return Dataset(
            X=self._texts(table[self.text]),
            y=columns.labels(table, self.target),
            groups=columns.labels(table, self.groups),
            name=self.path,
        )

    def _table(self, path: Path) -> pa.Table:
        kind = path.with_suffix("").suffix if path.suffix in _COMPRESSED else path.suffix
        if kind not in {".jsonl", ".ndjson", ".json"} or path.is_dir():
            return read_table(self.path, CsvFormat(self.delimiter, encoding=self.encoding, texts=True))
        try:
            with readable(self.path):
                table = pyarrow.json.read_json(path, read_options=pyarrow.json.ReadOptions(block_size=_BLOCK))
        except DataError as error:
            wanted = 'expected one object per line, for example {"text": "some words", "target": "sad"}'
            hints = [wanted] if isinstance(error.__cause__, pa.ArrowException) else []
            raise DataError(error.message, *hints) from error
        check_names(table, self.path)
        return table

    def _check_columns(self, table: pa.Table) -> None:
        columns = table.schema.names
        for key in ("text", "target", "groups"):
            name = getattr(self, key)
            if name is not None and name not in columns:
                hints = [nearest(name, columns)]
                if len(columns) == 1:
                    hints.append(SEPARATOR)
                raise DataError(f"data.{key}={name}: {self.path} has no such column", *hints)
            if columns.count(name) > 1:
                raise DataError(f"{self.path}: two columns are named {name}")
        if table.num_rows == 0:
            raise DataError(f"{self.path}: has no rows")

    def _texts(self, column: Any) -> Any:
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        if pa.types.is_binary(kind):  # PyArrow's type for text that is not UTF-8
            raise DataError(
                f"{self.path}: column '{self.text}' is not in UTF-8", "for CSV set the encoding: data.encoding=latin1"
            )
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)):
            found = next((value for value in column.to_pylist() if value is not None), None)
            raise DataError(
                f"{self.path}: column '{self.text}' contains no text: its type is {kind}, for example "
                f"{printable(repr(found), 100)}",
                "name the column with the texts: data.text=COLUMN",
            )
        if column.null_count:
            first = next(number for number, text in enumerate(column) if not text.is_valid)
            raise DataError(
                f"{self.path}: {column.null_count} of {len(column)} texts are missing, the first in row {first}",
                "remove those rows, or replace them by empty texts",
            )
        return np.array(column.to_pylist(), dtype=object)

    def _directory(self, path: Path) -> Dataset:
        for key in ("target", "groups"):
            if getattr(self, key) is not None:
                raise DataError(
                    f"data.{key}={getattr(self, key)}: {self.path} is a directory and has no columns",
                    "the names of its subdirectories are the classes",
                )
        texts: list[str] = []
        classes: list[str] = []
        for directory in sorted(filter(_shown, path.iterdir())):
            if directory.is_dir():
                found = [self._file(file) for file in sorted(filter(_shown, directory.iterdir()))]
                if not found:
                    raise DataError(f"{directory}: contains no texts", "remove it")
                texts += found
                classes += [directory.name] * len(found)
        if not texts:
            raise DataError(
                f"{self.path}: contains neither directories of texts nor files *.parquet",
                "expected a directory per class, with a file per text",
            )
        return Dataset(X=np.array(texts, dtype=object), y=np.array(classes), name=self.path)

    def _file(self, path: Path) -> str:
        try:
            return path.read_bytes().decode(self.encoding)
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path}: is not in {self.encoding}: {error.reason} at byte {error.start}",
                "is the encoding another one? For example data.encoding=latin1",
            ) from error


def _shown(path: Path) -> bool:
    return not path.name.startswith(".")
