"""Read JSON Lines files: one object on each line."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.json

from hpcml.data.content import Content, open_text
from hpcml.data.csvfile import Choose, may_be_unsigned
from hpcml.errors import DataError, printable

# Block sizes in bytes, tried in turn. PyArrow rejects longer objects.
_BLOCKS = (64 * 1024**2, 1024**3)

_EXAMPLE = 'expected one object on each line, for example {"text": "some words", "target": "sad"}'


class JsonLines:
    """A JSON Lines file.

    Parameters
    ----------
    path : str
        Name of the file in messages.
    """

    def __init__(self, file: Path, path: str, content: Content, encoding: str | None) -> None:
        self.file, self.path, self.content = file, path, content
        self.encoding = encoding or content.mark or "utf-8"

    def read(self, choose: Choose | None = None, rows: int | None = None) -> pa.Table:
        """Read the file; see :meth:`hpcml.data.csvfile.CsvFile.read`.

        Raises
        ------
        DataError
            If a line is not an object, or the type of a column changes.
        """
        table = self._parse(rows)
        large = {name: pa.uint64() for name in table.column_names if may_be_unsigned(table[name])}
        if large:
            # Numbers such as 1e19 are not integers.
            with contextlib.suppress(DataError):
                table = self._parse(rows, large)
        return table if choose is None else table.select(choose(table.column_names))

    def objects(self) -> Iterator[dict[str, Any]]:
        """Parse the objects one by one, with Python's types.

        Raises
        ------
        DataError
        """
        for number, line in self._lines():
            try:
                row = json.loads(line)
            except ValueError as error:
                raise DataError(f"{self.path}, line {number}: invalid JSON: {error}") from error
            if not isinstance(row, dict):
                raise DataError(
                    f"{self.path}, line {number}: not a JSON object", 'write lines such as {"name": value, ...}'
                )
            yield row

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        stream = open_text(self.file, self.content, self.encoding)
        for number, line in enumerate(io.BufferedReader(stream), 1):
            text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if text.strip():
                yield number, text

    def _parse(self, rows: int | None, types: Mapping[str, pa.DataType] | None = None) -> pa.Table:
        parse = pyarrow.json.ParseOptions(explicit_schema=pa.schema(types.items()) if types else None)
        for block_size in _BLOCKS:
            try:
                read = pyarrow.json.ReadOptions(block_size=block_size)
                return pyarrow.json.read_json(self._open(rows), read, parse)
            except (pa.ArrowException, UnicodeDecodeError) as error:
                if "straddling" not in str(error) or block_size == _BLOCKS[-1]:
                    raise DataError(f"{self.path}: cannot be read: {printable(error)}", _EXAMPLE) from error
        raise AssertionError  # unreachable: the last block size returns or raises

    def _open(self, rows: int | None) -> Any:
        if rows is None:
            return open_text(self.file, self.content, self.encoding)
        lines = (line.rstrip() for _, line in itertools.islice(self._lines(), rows))
        return io.BytesIO(b"\n".join(lines) + b"\n")
