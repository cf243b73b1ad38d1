"""Footprints: lower bounds on the memory that a run needs for its data."""

from __future__ import annotations

from dataclasses import dataclass

from dask.sizeof import sizeof

from hpcml.data import Dataset
from hpcml.units import format_size

# Memory of a process before it has any data, in bytes: Python with Dask and scikit-learn. Measured:
# 130 MB for a worker, 190 MB for a head.
_WORKER, _HEAD = 100 * 1024**2, 170 * 1024**2

# Copies of small data in a head that splits and sends it: the data, its parts, and their serialized
# form. Measured for a search and a fit on 288 MB: 3.2.
_COPIES = 3.2

# Memory for pages of a file that is mapped piece by piece, and for the numbers of the rows, in
# bytes.
_MAPPED = 128 * 1024**2


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
    in_head : int or None
        What a head holds of data that workers map from a file; None if it sends the data.
    """

    data: int
    shared: int
    copied: int
    in_head: int | None = None

    @property
    def head(self) -> int:
        if self.in_head is None:
            return _HEAD + int(_COPIES * self.data)
        return _HEAD + _MAPPED + self.in_head

    def worker(self, threads: int) -> int:
        """Return the memory of a worker with a given number of threads."""
        mapped = 0 if self.in_head is None else _MAPPED
        return _WORKER + mapped + self.shared + threads * self.copied

    def describe(self, threads: int) -> str:
        """Describe the memory that a worker needs."""
        each = "one thread" if threads == 1 else f"each of {threads} threads"
        copy = f"for the fit of {each} a copy of {format_size(self.copied)}"
        if self.in_head is not None:
            return copy
        copies = f", and {copy}" if self.copied else ""
        return f"the part of the data to train on, {format_size(self.shared)}{copies}"


def footprint(data: Dataset, test_size: float | None, copied: float, largest: float = 1.0) -> Footprint:
    """Compute the footprint of fits on the samples that are not held out.

    Parameters
    ----------
    copied : float
        The share of those samples, 0 to 1, that each fit copies from samples in memory.
    largest : float
        The largest share that a fit copies from samples in a file.
    """
    whole = sizeof(data) * data.n_all // data.n_samples
    if data.is_text:  # the array holds only pointers
        whole += sum(map(len, data.X))
    part = int(whole * (1 - (test_size or 0)))
    if data.is_large:
        return Footprint(whole, 0, int(largest * part), 0 if data.in_file else whole)
    # Copies of the array share its texts.
    return Footprint(whole, part, 0 if data.is_text else int(copied * part))
