"""Load texts from a column of a table, or from a directory per class."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from hpcml.data.columns import check_column, check_known, select
from hpcml.data.content import FALLBACKS, check_encoding, decode
from hpcml.data.csvformat import CsvFormat, check_delimiter
from hpcml.data.dataset import Dataset
from hpcml.data.files import TABLE_SUFFIXES, check_paths, joined, readable, suffix_of
from hpcml.data.reading import read_table
from hpcml.data.table import labels
from hpcml.errors import ConfigError, DataError, printable
from hpcml.keys import check_keys, config_key, documented, kind, whole


@documented
@dataclass(frozen=True, kw_only=True)
class TextFile:
    """Texts and their targets."""

    path: str | Sequence[str] = config_key(
        MISSING,
        "Parquet, CSV, JSON Lines or Feather file (CSV and JSON may be compressed), pattern or directory of files, or "
        "a list of them; or a directory with one directory for each class and one file for each text",
        kind("path, or list of paths"),
        example="mine.jsonl",
    )
    text: str = config_key("text", "Column with the texts")
    target: str | None = config_key(
        None, "Column to predict; it may hold text. A directory's classes are the names of its directories"
    )
    groups: str | None = config_key(None, "Column that keeps samples of one group together in every split")
    encoding: str | None = config_key(
        None,
        "Encoding of CSV and JSON Lines files and of a directory's texts. null: found by the byte order mark; else "
        "UTF-8; else cp1252, with a warning",
        example="latin1",
    )
    delimiter: str = config_key(",", "Character between the columns of a CSV file; tab for tabs")
    rows: int | None = config_key(
        None, "Number of rows to read from the begin of a table, for a first try. null: all", whole(), example="1000"
    )

    def __post_init__(self) -> None:
        check_keys(self, "data.")
        store = functools.partial(object.__setattr__, self)
        store("path", check_paths(self.path))
        for key in ("text", "target", "groups"):
            store(key, check_column(key, getattr(self, key)))
        store("delimiter", check_delimiter(self.delimiter))
        store("encoding", check_encoding(self.encoding))
        if self.text in {self.target, self.groups}:
            key = "target" if self.text == self.target else "groups"
            raise ConfigError(f"data.{key}={self.text}: is also the column of texts", "name another column")

    @property
    def name(self) -> str:
        """The paths as one text, for messages."""
        return joined(check_paths(self.path))

    def load(self) -> Dataset:
        """Read the texts.

        Raises
        ------
        DataError
            If a file is missing, empty, damaged or in another encoding, a column is missing, or it
            does not contain text.
        """
        paths = check_paths(self.path)
        path = Path(paths[0]).expanduser()
        with readable(self.name):
            if len(paths) == 1 and path.is_dir() and not _contains_tables(path):
                return self._directory(path)
        csv = CsvFormat(self.delimiter, encoding=self.encoding, texts=True)
        table = read_table(paths, csv, self._choose, self.rows)
        if table.num_rows == 0:
            raise DataError(f"{self.name}: has no rows")
        return Dataset(
            X=self._texts(table[self.text]),
            y=labels(table, self.target, self.name),
            groups=labels(table, self.groups, self.name),
            name=self.name,
        )

    def _choose(self, names: Sequence[str], path: str) -> list[str]:
        named = {"text": self.text, "target": self.target, "groups": self.groups}
        wanted = {key: name for key, name in named.items() if name is not None}
        check_known(wanted, names, path)
        return select(names, set(wanted.values()), path)

    def _texts(self, column: Any) -> Any:
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)):
            found = next((value for value in column.to_pylist() if value is not None), None)
            raise DataError(
                f"{self.name}: column '{self.text}' contains no text: its type is {kind}, for example "
                f"{printable(repr(found), 100)}",
                "name the column with the texts: data.text=COLUMN",
            )
        if column.null_count:
            first = next(number for number, text in enumerate(column) if not text.is_valid)
            raise DataError(
                f"{self.name}: {column.null_count} of {len(column)} texts are missing, the first in row {first}",
                "remove those rows, or replace them by empty texts",
            )
        return np.array(column.to_pylist(), dtype=object)

    def _directory(self, path: Path) -> Dataset:
        for key in ("target", "groups", "rows"):
            if getattr(self, key) is not None:
                raise DataError(
                    f"data.{key}={getattr(self, key)}: {self.name} is a directory of texts and has no columns",
                    "the names of its subdirectories are the classes",
                )
        texts: list[str] = []
        fallbacks: list[str] = []
        classes: list[str] = []
        for directory in sorted(filter(_shown, path.iterdir())):
            if directory.is_dir():
                found = [self._file(file, fallbacks) for file in sorted(filter(_shown, directory.iterdir()))]
                if not found:
                    raise DataError(f"{directory}: contains no texts", "remove it")
                texts += found
                classes += [directory.name] * len(found)
        if not texts:
            raise DataError(
                f"{self.name}: contains neither directories of texts nor tables",
                "expected a directory per class, with a file per text",
            )
        _warn_guessed(fallbacks, self.name)
        return Dataset(X=np.array(texts, dtype=object), y=np.array(classes), name=self.name)

    def _file(self, path: Path, fallbacks: list[str]) -> str:
        try:
            text, encoding = decode(path.read_bytes(), self.encoding)
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path}: is not in {self.encoding}: {error.reason} at byte {error.start}",
                "is the encoding another one? For example data.encoding=latin1",
            ) from error
        if self.encoding is None and encoding in FALLBACKS:
            fallbacks.append(str(path))
        return text


def _warn_guessed(files: list[str], name: str) -> None:
    if files:
        texts = "1 text is" if len(files) == 1 else f"{len(files)} texts are"
        warnings.warn(
            f"{name}: {texts} not in UTF-8, and read as cp1252 or latin1 (Western European): {joined(files)}; "
            "if that is wrong, name the encoding, for example data.encoding=latin2",
            stacklevel=2,
        )


def _contains_tables(path: Path) -> bool:
    """Return whether a directory contains tables, not a directory for each class."""
    shown = list(filter(_shown, path.iterdir()))
    suffixes = {suffix_of(file) for file in shown if file.is_file()}
    return ".parquet" in suffixes or (bool(suffixes & TABLE_SUFFIXES) and not any(entry.is_dir() for entry in shown))


def _shown(path: Path) -> bool:
    return not path.name.startswith(".")
