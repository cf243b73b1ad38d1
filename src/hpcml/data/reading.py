"""Read a table from files in any supported format, with one clear error message."""

from __future__ import annotations

import functools
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from hpcml.data.arrowfile import ArrowFile
from hpcml.data.content import CSV, JSON_LINES, Content, detect
from hpcml.data.csvfile import Choose, CsvFile
from hpcml.data.csvformat import CsvFormat
from hpcml.data.csvwarnings import warn_decimal_commas
from hpcml.data.files import DataFile, check_room, find_files, joined, readable
from hpcml.data.jsonlines import JsonLines
from hpcml.data.partitions import Values, partition_values, with_partitions
from hpcml.data.union import Part, combine
from hpcml.errors import DataError, printable
from hpcml.units import count

# Returns the columns to read, given the names of all and the path of the file.
ChooseOfFile = Callable[[Sequence[str], str], list[str]]

# Number of words to list in the warning about words that are read as missing.
_WORDS = 3


@dataclass(frozen=True)
class _Source:
    file: DataFile
    content: Content
    partitions: Values

    def open(self, csv: CsvFormat) -> CsvFile | JsonLines | ArrowFile:
        file, path = self.file.path, str(self.file)
        if self.content.format == CSV:
            return CsvFile(file, path, self.content, csv)
        if self.content.format == JSON_LINES:
            return JsonLines(file, path, self.content, csv.encoding)
        return ArrowFile(file, self.content)


def read_table(
    path: str | Sequence[str],
    csv: CsvFormat,
    choose: ChooseOfFile | None = None,
    rows: int | None = None,
) -> pa.Table:
    """Read CSV, JSON Lines, Parquet, Feather and Arrow files as one table.

    Parameters
    ----------
    path : str or sequence of str
        Files, patterns and directories. The format is detected by content.
    choose : callable or None
        Returns the columns to read, given the names of all and the path of a file; None to read all.
    rows : int or None
        Number of rows to read from the begin; None for all.

    Raises
    ------
    DataError
        If a file is missing, empty, ragged or damaged, or formats or columns differ.
    """
    paths = [path] if isinstance(path, str) else list(path)
    name = joined(paths)
    sources = _sources(paths, name, csv)
    with readable(name):
        if rows is None:
            check_room([source.file.path for source in sources], name)
    parts = list(_parts(sources, csv, choose, rows))
    with readable(name):
        table = combine(_without_rows(parts, name))
    if sources[0].content.format == CSV and not csv.texts and csv.decimal == ".":
        warn_decimal_commas(table, name)
    return table


def _parts(sources: Sequence[_Source], csv: CsvFormat, choose: ChooseOfFile | None, rows: int | None) -> Iterator[Part]:
    """Read files until they contain a number of rows."""
    for source in sources:
        part = _part(source, csv, choose, rows)
        yield part
        if rows is not None:
            rows -= part.table.num_rows
            if rows <= 0:
                return


def open_json_lines(path: str) -> list[JsonLines] | None:
    """Return the JSON Lines files of a path; None if it contains another format.

    Raises
    ------
    DataError
    """
    opened = [source.open(CsvFormat()) for source in _sources([path], path, CsvFormat())]
    lines = [source for source in opened if isinstance(source, JsonLines)]
    return lines or None


def _sources(paths: Sequence[str], name: str, csv: CsvFormat) -> list[_Source]:
    """Find and detect the files of a table."""
    with readable(name):
        files = without_empty(find_files(paths), name)
    contents = []
    for file in files:
        with readable(str(file)):
            contents.append(detect(file.path, str(file), csv.encoding))
    _check_formats(files, contents)
    with readable(name):
        partitions = partition_values(files, contents[0].format)
    return [_Source(*source) for source in zip(files, contents, partitions, strict=True)]


def without_empty(files: Sequence[DataFile], name: str) -> list[DataFile]:
    """Leave out files of 0 bytes, with a warning.

    Raises
    ------
    DataError
        If all are empty.
    """
    empty = [file for file in files if not file.path.stat().st_size]
    if len(empty) == len(files):
        raise DataError(f"{name}: is empty" if len(files) == 1 else f"{name}: all {len(files)} files are empty")
    warn_skipped([str(file) for file in empty], name, "of 0 bytes")
    return [file for file in files if file not in empty] if empty else list(files)


def _without_rows(parts: Sequence[Part], name: str) -> list[Part]:
    """Leave out tables without rows, unless all have none: their types are unknown."""
    full = [part for part in parts if part.table.num_rows]
    if len(parts) > 1:
        warn_skipped([part.path for part in parts if not part.table.num_rows], name, "without rows")
    return full or list(parts[:1])


def warn_skipped(skipped: Sequence[str], name: str, what: str) -> None:
    """Warn about files that are skipped."""
    if skipped:
        warnings.warn(f"{name}: skips {count(len(skipped), 'file')} {what}: {joined(skipped)}", stacklevel=2)


def _check_formats(files: Sequence[DataFile], contents: Sequence[Content]) -> None:
    first = contents[0].format
    for file, content in zip(files, contents, strict=True):
        if content.format != first:
            raise DataError(
                f"{files[0]} is {first}, and {file} is {content.format}: the files of a table must have one format",
                f"name them by a pattern: 'data.path={files[0].path.parent}/*{files[0].path.suffix}'",
            )


def _part(source: _Source, csv: CsvFormat, choose: ChooseOfFile | None, rows: int | None) -> Part:
    """Read one file."""
    path, partitions = str(source.file), source.partitions
    opened = source.open(csv)
    chosen: list[str] = []

    def of_file(names: Sequence[str]) -> list[str]:
        assert choose is not None
        chosen[:] = choose([*names, *(name for name in partitions if name not in names)], path)
        kept = set(chosen)
        return [name for name in names if name in kept]

    of_these = None if choose is None else of_file
    with readable(path):
        table = with_partitions(opened.read(of_these, rows), partitions)
        table = table.select(chosen) if chosen else table
    if isinstance(opened, CsvFile):
        return Part(path, table, functools.partial(_read_as_text, opened, of_these, rows))
    return Part(path, table)


def _read_as_text(source: CsvFile, choose: Choose | None, rows: int | None, names: Sequence[str]) -> pa.Table:
    with readable(source.path):
        return source.read(choose, rows, dict.fromkeys(names, pa.string()))


def warn_words_read_as_missing(path: Sequence[str], csv: CsvFormat, table: pa.Table, column: str) -> None:
    """Warn about words such as NA in a target of text that are read as missing: they may be a class.

    Parameters
    ----------
    table : pyarrow.Table
        The table as it was read.
    """
    if csv.na_values is not None or not pa.types.is_string(table[column].type) or not table[column].null_count:
        return
    with warnings.catch_warnings():  # They were shown when the table was read.
        warnings.simplefilter("ignore")
        if _sources(path, "", csv)[0].content.format != CSV:
            return
        literal = read_table(path, replace(csv, na_values=()), lambda *_: [column], table.num_rows)[column]
    words = Counter(literal.filter(pc.is_null(table[column])).drop_null().to_pylist())
    if words:
        shown = ", ".join(f"'{printable(word)}' ({number}x)" for word, number in words.most_common(_WORDS))
        warnings.warn(
            f"{joined(path)}: words in the target '{printable(column)}' are read as missing values: {shown}; "
            "if they are classes, type 'data.na_values=[]'",
            stacklevel=2,
        )
