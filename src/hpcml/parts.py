"""Tables that are written in parts, by the workers: for results larger than memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from hpcml.files import replacing


@dataclass(frozen=True)
class Parts:
    """A directory of Parquet files; it travels to the workers, which see the same file system.

    Parameters
    ----------
    root : Path
        It is made when the first part is written.
    """

    root: Path

    def write(self, number: int, columns: Mapping[str, Any]) -> int:
        """Write one part, whole or not at all; called on a worker.

        Parameters
        ----------
        number : int
            Of the part; the same part written again replaces the first.
        columns : mapping of str to array of shape (n_rows,)

        Returns
        -------
        int
            Its size in bytes.

        Raises
        ------
        OSError
            For example if the disk is full.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        path = self.root / f"part-{number:08d}.parquet"
        with replacing(path) as aside:
            pyarrow.parquet.write_table(pa.table(dict(columns)), aside)
        return path.stat().st_size
