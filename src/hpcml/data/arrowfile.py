"""Read Parquet files, Feather (Arrow) files and Arrow streams."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet

from hpcml.data.content import PARQUET, STREAM, Content
from hpcml.data.csvfile import Choose

# Rows to decode at a time if only the first rows are read.
_BATCH = 65_536


class ArrowFile:
    """A Parquet, Feather or Arrow file."""

    def __init__(self, file: Path, content: Content) -> None:
        self.file, self.content = file, content

    def read(self, choose: Choose | None = None, rows: int | None = None) -> pa.Table:
        """Read the file, which declares the types of its columns."""
        if self.content.format == PARQUET:
            return self._parquet(choose, rows)
        with self._batches() as (schema, batches):
            table = pa.Table.from_batches(_first(batches, rows), schema=schema).slice(0, rows)
        # Corrupt offsets would crash the process later; Parquet is checked while it is decoded.
        table.validate(full=True)
        return table if choose is None else table.select(choose(table.column_names))

    def _parquet(self, choose: Choose | None, rows: int | None) -> pa.Table:
        with pyarrow.parquet.ParquetFile(self.file) as file:
            columns = None if choose is None else choose(file.schema_arrow.names)
            if rows is None:
                return file.read(columns=columns)
            batches = list(_first(file.iter_batches(min(rows, _BATCH), columns=columns), rows))
            if not batches:
                return file.read(columns=columns)
            return pa.Table.from_batches(batches).slice(0, rows)

    @contextmanager
    def _batches(self) -> Iterator[tuple[pa.Schema, Iterator[Any]]]:
        with pa.memory_map(str(self.file)) as source:
            if self.content.format == STREAM:
                with pa.ipc.open_stream(source) as reader:
                    yield reader.schema, iter(reader)
            elif source.read(6) == b"ARROW1":
                with pa.ipc.open_file(source) as reader:
                    yield reader.schema, (reader.get_batch(number) for number in range(reader.num_record_batches))
            else:  # The first version of Feather
                table = pyarrow.feather.read_table(self.file)
                yield table.schema, iter(table.to_batches())


def _first(batches: Iterator[Any], rows: int | None) -> Iterator[Any]:
    """Return batches until they contain a number of rows."""
    total = 0
    for batch in batches:
        yield batch
        total += batch.num_rows
        if rows is not None and total >= rows:
            return
