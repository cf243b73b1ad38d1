"""Read Parquet files, Feather (Arrow) files and Arrow streams."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from hpcml.data.content import PARQUET, STREAM, Content
from hpcml.data.csvfile import Choose, first_rows

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
            table = first_rows(batches, schema, rows)
        if choose is not None:
            table = table.select(choose(table.column_names))
        # Corrupt offsets would crash the process later; Parquet is checked while it is decoded.
        table.validate(full=True)
        return table

    def _parquet(self, choose: Choose | None, rows: int | None) -> pa.Table:
        with pyarrow.parquet.ParquetFile(self.file) as file:
            names = file.schema_arrow.names
            columns = names if choose is None else choose(names)
            if rows is None or not file.metadata.num_rows:
                table = file.read(columns=columns)
            else:
                table = first_rows(file.iter_batches(min(rows, _BATCH), columns=columns), None, rows)
        # PyArrow reads a column a.b as well if a is wanted.
        return table if choose is None else table.select(columns)

    @contextmanager
    def _batches(self) -> Iterator[tuple[pa.Schema, Iterator[Any]]]:
        with pa.memory_map(str(self.file)) as source:
            if self.content.format == STREAM:
                with pa.ipc.open_stream(source) as reader:
                    yield reader.schema, iter(reader)
            else:
                with pa.ipc.open_file(source) as reader:
                    yield reader.schema, map(reader.get_batch, range(reader.num_record_batches))
