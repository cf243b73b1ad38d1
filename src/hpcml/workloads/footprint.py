"""Footprints: lower bounds on the memory that a run needs for its data."""

from __future__ import annotations

from dataclasses import dataclass

from dask.sizeof import sizeof

from hpcml.data import Dataset
from hpcml.units import format_size

# Memory of a process before it has any data, in bytes: Python with Dask and scikit-learn. Measured:
# 130 MB for a worker, 190 MB for a head.
_WORKER, _HEAD = 100 * 1024**2, 170 * 1024**2

# Copies of the data in a head that splits and sends it: the data, its parts, and their serialized
# form. Measured for a search and a fit on 288 MB: 3.2.
_COPIES = 3.2


@dataclass(frozen=True)
class Footprint:
    """Lower bounds on the memory that a run needs, in bytes.

    Parameters
    ----------
    data : int
        One copy of the data.
    shared : int
        The part that each worker holds.
    copied : int
        The amount that each thread of a worker copies of that for its fit.
    """

    data: int
    shared: int
    copied: int

    @property
    def head(self) -> int:
        return _HEAD + int(_COPIES * self.data)

    def worker(self, threads: int) -> int:
        """Return the memory of a worker with a given number of threads."""
        return _WORKER + self.shared + threads * self.copied

    def describe(self, threads: int) -> str:
        """Describe the memory that a worker needs."""
        copies = ""
        if self.copied:
            each = "one thread" if threads == 1 else f"each of {threads} threads"
            copies = f", and for the fit of {each} a copy of {format_size(self.copied)}"
        return f"the part of the data to train on, {format_size(self.shared)}{copies}"


def footprint(data: Dataset, test_size: float | None, copied: float) -> Footprint:
    """Compute the footprint of fits on the samples that are not held out.

    Parameters
    ----------
    copied : float
        The share of those samples, 0 to 1, that each fit copies.
    """
    whole = sizeof(data)
    if data.is_text:  # the array holds only pointers
        whole += sum(map(len, data.X))
    part = int(whole * (1 - (test_size or 0)))
    # Copies of the array share its texts.
    return Footprint(whole, part, 0 if data.is_text else int(copied * part))
