"""Read CSV files."""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from hpcml.data.content import FALLBACKS, Content, open_text, tail
from hpcml.data.csvformat import CsvFormat
from hpcml.data.csvwarnings import text_sample
from hpcml.errors import DataError, printable

# Block sizes in bytes, tried in turn. PyArrow rejects lines that are longer than a block.
_BLOCKS = (1024**2, 32 * 1024**2, 1024**3)

# Integers between these need uint64; PyArrow infers float64, which rounds them.
_LEAST_UNSIGNED, _MOST_UNSIGNED = 2.0**63, 2.0**64

# Values of a column to look at before all.
_FIRST = 100

# Returns the columns to read, given the names of all.
Choose = Callable[[Sequence[str]], list[str]]


def first_rows(batches: Iterable[Any], schema: pa.Schema | None, rows: int | None) -> pa.Table:
    """Return the first rows of record batches, without reading more batches than necessary.

    Parameters
    ----------
    schema : Schema or None
        None if there is at least one batch.
    rows : int or None
        None for all.
    """
    found, total = [], 0
    for batch in batches:
        found.append(batch)
        total += batch.num_rows
        if rows is not None and total >= rows:
            break
    return pa.Table.from_batches(found, schema=schema).slice(0, rows)


class CsvFile:
    """A CSV file.

    Parameters
    ----------
    path : str
        Name of the file in messages.
    """

    def __init__(self, file: Path, path: str, content: Content, csv: CsvFormat) -> None:
        self.file, self.path, self.content, self.csv = file, path, content, csv
        self.encoding = csv.encoding or content.mark or "utf-8"
        self._guessed = False
        # Those that are long enough for the lines read so far.
        self._blocks = list(_BLOCKS)

    def read(
        self,
        choose: Choose | None = None,
        rows: int | None = None,
        types: Mapping[str, pa.DataType] | None = None,
    ) -> pa.Table:
        """Read the file; choose an encoding if none is given and it is not UTF-8.

        Parameters
        ----------
        choose : callable or None
            Returns the columns to read, given the names of all; None to read all.
        rows : int or None
            Number of rows to read from the begin of the file.
        types : mapping of str to DataType or None
            Types of columns, which are inferred otherwise.

        Raises
        ------
        DataError
            If a quote is not closed, or text is not in the encoding.
        """
        columns: list[str] = []
        chosen: list[str] = []
        if choose is not None:
            names = self._decode(lambda: self._read(rows=0)).column_names
            chosen = choose(names)
            if chosen != names:
                # The last column shows whether a quote is not closed.
                columns = list(dict.fromkeys([*chosen, names[-1]]))
        table = self._decode(lambda: self._read(columns, rows, types))
        self._warn_guessed(table)
        self._check_quotes(table)
        if columns:
            table = table.select(chosen)
        return self._with_large_integers(table, rows, types or {})

    def _decode(self, read: Callable[[], pa.Table]) -> pa.Table:
        """Read a table; if it is not UTF-8 and no encoding is given, read it in another one."""
        table = read()
        bad = _not_utf8(table)
        if bad is None:
            return table
        if self.csv.encoding is not None or self.content.mark is not None:
            raise DataError(f"{self.path}: {bad} not UTF-8 text", "name the encoding, for example data.encoding=latin1")
        for self.encoding in FALLBACKS:
            with contextlib.suppress(UnicodeDecodeError):
                table = read()
                break
        self._guessed = True
        return table

    def _warn_guessed(self, table: pa.Table) -> None:
        """Warn once about an encoding that was neither named nor UTF-8."""
        if self._guessed:
            self._guessed = False
            warnings.warn(
                f"{self.path}: is not UTF-8 text, and is read as {self.encoding} (Western European)"
                f"{text_sample(table)}; if that is wrong, name the encoding, for example data.encoding=latin2",
                stacklevel=2,
            )

    def _read(
        self, columns: Sequence[str] = (), rows: int | None = None, types: Mapping[str, pa.DataType] | None = None
    ) -> pa.Table:
        convert = self.csv.convert_options()
        convert.include_columns = list(columns)
        convert.column_types = dict(types or {})
        while True:
            try:
                return self._attempt(rows, convert)
            except pa.ArrowInvalid as error:
                self._check_block(error, rows)
                self._blocks.pop(0)

    def _attempt(self, rows: int | None, convert: Any) -> Any:
        read = self.csv.read_options(self._blocks[0])
        quoted = rows is not None or self._is_quoted
        parse = self.csv.parse_options(quoted)
        stream = open_text(self.file, self.content, self.encoding)
        if rows is None:
            return pyarrow.csv.read_csv(stream, read, parse, convert)
        with pyarrow.csv.open_csv(stream, read, parse, convert) as reader:
            return first_rows(reader, reader.schema, rows)

    @functools.cached_property
    def _is_quoted(self) -> bool:
        """Whether a row may contain quotes; assumed if the answer requires decompression."""
        if self.content.compression is not None:
            return True
        with self.file.open("rb") as raw:
            names = raw.readline()  # Some programs put all names in quotes.
            if b"\r" in names.rstrip(b"\r\n"):
                return True  # Lines end in \r only, so this may be the whole file.
            return any(b'"' in chunk for chunk in iter(lambda: raw.read(_BLOCKS[0]), b""))

    def _check_block(self, error: pa.ArrowInvalid, rows: int | None) -> None:
        """Raise an error again unless a larger block may help."""
        message = str(error)
        empty = "Empty CSV file or block" in message
        last = len(self._blocks) == 1
        small = self.content.compression is None and self.file.stat().st_size < self._blocks[0]
        if empty and (small or last):
            raise DataError(f"{self.path}: has no rows", "expected names in the first line, and rows below") from error
        # If only the first rows are read, the types are those of the first block.
        other_type = rows is not None and "conversion error" in message
        if not empty and not other_type and "straddling" not in message:
            raise error
        if last:
            raise DataError(f"{self.path}: a line is longer than 1GB", "is a quote not closed?") from error

    def _check_quotes(self, table: pa.Table) -> None:
        """Check that the last cell does not contain the rest of the file because of a lone quote.

        Raises
        ------
        DataError
        """
        if not table.num_rows or not table.num_columns or not pa.types.is_string(table.schema.types[-1]):
            return
        last = table.column(table.num_columns - 1)[-1].as_py() or ""
        if "\n" in last and not tail(self.file, self.content, self.encoding).rstrip().endswith(b'"'):
            raise DataError(
                f"{self.path}: a quote is not closed in the row that ends with {printable(repr(last), 100)}",
                'close it; or write a quote in a cell as "" and the cell in quotes',
            )

    def _with_large_integers(self, table: pa.Table, rows: int | None, types: Mapping[str, pa.DataType]) -> pa.Table:
        """Replace columns of integers from 2**63 to 2**64, which PyArrow infers as float64."""
        names = table.column_names
        large = [number for number, column in enumerate(table.columns) if may_be_unsigned(column)]
        for number in large:
            name = names[number]
            if name in types or names.count(name) > 1:
                continue
            # Numbers such as 1e19 are not integers.
            with contextlib.suppress(pa.ArrowInvalid, DataError):
                column = self._read([name], rows, {name: pa.uint64()})
                table = table.set_column(number, name, column[0])
        return table


def may_be_unsigned(column: Any) -> bool:
    """Return whether a column of float64 may contain integers from 2**63 to 2**64."""
    if not pa.types.is_floating(column.type):
        return False
    first = column.slice(0, _FIRST)
    if pc.any(pc.not_equal(first, pc.floor(first))).as_py():
        return False  # Fractions: this is faster than the search for the largest.
    ends = pc.min_max(column).as_py()
    least, most = ends["min"], ends["max"]
    return least is not None and least >= 0 and _LEAST_UNSIGNED <= most <= _MOST_UNSIGNED


def _not_utf8(table: pa.Table) -> str | None:
    """Describe the columns of a table that are not UTF-8; None if all are."""
    try:
        names = table.schema.names
    except UnicodeDecodeError:
        return "the names of the columns are"
    bad = [repr(name) for name, kind in zip(names, table.schema.types, strict=True) if pa.types.is_binary(kind)]
    if not bad:
        return None
    return f"column {bad[0]} is" if len(bad) == 1 else f"columns {', '.join(bad)} are"
