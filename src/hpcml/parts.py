"""Write tables larger than memory in parts, from the workers."""

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
    """A directory of Parquet files on a shared file system, written by the workers.

    Parameters
    ----------
    root : Path
        The directory, created with the first part.
    """

    root: Path

    def write(self, number: int, columns: Mapping[str, Any]) -> int:
        """Write one part atomically; called on a worker.

        Parameters
        ----------
        number : int
            Number of the part; an existing part with the same number is replaced.
        columns : mapping of str to array of shape (n_rows,)

        Returns
        -------
        int
            Size in bytes.

        Raises
        ------
        OSError
            For example on a full disk.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        path = self.root / f"part-{number:08d}.parquet"
        with replacing(path) as aside:
            pyarrow.parquet.write_table(pa.table(dict(columns)), aside)
        return path.stat().st_size
