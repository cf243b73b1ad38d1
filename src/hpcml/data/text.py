"""Texts of the user's own: a column of a Parquet, CSV or JSON-lines file, or a directory with one for each class."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from hpcml.data.dataset import Dataset
from hpcml.data.table import TableFile
from hpcml.errors import ConfigError, DataError, nearest

# So much is read at once, in bytes: PyArrow refuses a row that is longer.
_BLOCK = 64 * 1024**2

_SEPARATOR = "is the separator another one? 'data.delimiter=\";\"'"

_COMPRESSED = {".gz", ".bz2", ".zst"}


@dataclass(frozen=True, kw_only=True)
class TextFile:
    """Texts and what they are.

    Parameters
    ----------
    path : str
        Ends in .parquet or .pq; in .jsonl, .ndjson or .json, with one object a line; anything else that is a file is
        CSV. JSON and CSV may be compressed (.gz, .bz2). A directory holds Parquet files, or is in the layout of
        sklearn.datasets.load_files: a directory for each class, named after it, and in that a file for each text.
    text : str
        The column with the texts.
    target : str or None
        The column to predict; it may hold text. A directory's classes are the names of the directories in it.
    groups : str or None
        The column that keeps samples together, for splitters such as GroupKFold.
    encoding : str
        Of CSV files and of a directory's files; Parquet and JSON are UTF-8.
    delimiter : str
        CSV only.
    """

    path: str
    text: str = "text"
    target: str | None = None
    groups: str | None = None
    encoding: str = "utf-8"
    delimiter: str = ","

    def __post_init__(self) -> None:
        if str(self.path) == "":
            raise DataError("data.path is empty", "type data.path=FILE")
        try:
            codecs.lookup(self.encoding)
        except LookupError as error:
            raise ConfigError(f"data.encoding={self.encoding}: unknown", "for example utf-8, latin1, cp1252") from error
        if self.text in {self.target, self.groups}:
            key = "target" if self.text == self.target else "groups"
            raise ConfigError(f"data.{key}={self.text}: is the column of the texts as well", "name another")

    def load(self) -> Dataset:
        """Read the texts.

        Raises
        ------
        DataError
            If a file is missing, empty, damaged or in another encoding, there is no such column, or it does not hold
            texts.
        """
        path = Path(str(self.path)).expanduser()
        try:
            path.stat()  # as TableFile does: PyArrow names no reason
            if path.is_dir() and not any(path.glob("*.parquet")):
                return self._directory(path)
            table = self._table(path)
        except OSError as error:
            raise DataError(f"{error.filename or self.path}: cannot be read: {error.strerror or error}") from error
        except (pa.ArrowException, ValueError) as error:
            raise DataError(f"{self.path}: cannot be read: {error}", *self._hints(str(error))) from error
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
        if path.is_dir() or kind in {".parquet", ".pq"}:
            return pyarrow.parquet.read_table(path)
        if kind in {".jsonl", ".ndjson", ".json"}:
            return pyarrow.json.read_json(path, read_options=pyarrow.json.ReadOptions(block_size=_BLOCK))
        return pyarrow.csv.read_csv(
            path,
            read_options=pyarrow.csv.ReadOptions(block_size=_BLOCK, encoding=self.encoding),
            parse_options=pyarrow.csv.ParseOptions(delimiter=self.delimiter, newlines_in_values=True),
            # a text may well be "null" or "NA": only an empty cell is a missing value, and "" is an empty text
            convert_options=pyarrow.csv.ConvertOptions(
                null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
            ),
        )

    def _hints(self, message: str) -> list[str]:
        if "decode" in message:
            return ["what encoding has it? data.encoding=latin1, for example"]
        if "columns, got" in message:
            return [
                _SEPARATOR,
                'a text with a separator or a line break in it stands in "quotes"',
            ]
        if message.startswith("JSON parse error"):
            return ['wanted: one object a line, for example {"text": "so much for that", "target": "sad"}']
        return []

    def _check_columns(self, table: pa.Table) -> None:
        columns = table.schema.names
        for key in ("text", "target", "groups"):
            name = getattr(self, key)
            if name is not None and name not in columns:
                hints = [nearest(name, columns)]
                if len(columns) == 1:
                    hints.append(_SEPARATOR)
                raise DataError(f"data.{key}={name}: {self.path} has no such column", *hints)
            if columns.count(name) > 1:
                raise DataError(f"{self.path}: two columns are called {name}")
        if table.num_rows == 0:
            raise DataError(f"{self.path}: there are no rows in it")

    def _texts(self, column: Any) -> Any:
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        if pa.types.is_binary(kind):  # what PyArrow makes of text that is not UTF-8
            raise DataError(
                f"{self.path}: column '{self.text}' is not in UTF-8", "of CSV say what it is: data.encoding=latin1"
            )
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)):
            found = next((value for value in column.to_pylist() if value is not None), None)
            raise DataError(
                f"{self.path}: column '{self.text}' holds no texts: its type is {kind}, for example {found!r}",
                "name the column with the texts: data.text=COLUMN",
            )
        if column.null_count:
            first = next(number for number, text in enumerate(column) if not text.is_valid)
            raise DataError(
                f"{self.path}: {column.null_count} of {len(column)} texts are missing, the first in row {first}",
                "remove those rows, or make them empty texts",
            )
        return np.array(column.to_pylist(), dtype=object)

    def _directory(self, path: Path) -> Dataset:
        for key in ("target", "groups"):
            if getattr(self, key) is not None:
                raise DataError(
                    f"data.{key}={getattr(self, key)}: {self.path} is a directory, where nothing has columns",
                    "the classes are the names of the directories in it",
                )
        texts: list[str] = []
        classes: list[str] = []
        for directory in sorted(filter(_shown, path.iterdir())):
            if directory.is_dir():
                found = [self._file(file) for file in sorted(filter(_shown, directory.iterdir()))]
                if not found:
                    raise DataError(f"{directory}: there is no text in it", "remove it")
                texts += found
                classes += [directory.name] * len(found)
        if not texts:
            raise DataError(
                f"{self.path}: there are neither directories with texts in it, nor files *.parquet",
                "wanted: a directory for each class, and in it a file for each text",
            )
        return Dataset(X=np.array(texts, dtype=object), y=np.array(classes), name=self.path)

    def _file(self, path: Path) -> str:
        try:
            return path.read_bytes().decode(self.encoding)
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path}: is not in {self.encoding}: {error.reason} at byte {error.start}",
                "what encoding has it? data.encoding=latin1, for example",
            ) from error


def _shown(path: Path) -> bool:
    return not path.name.startswith(".")
