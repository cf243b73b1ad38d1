"""Dask arrays of what lies on the workers already."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distributed import Future


def stack(futures: Sequence[Future[Any]], shapes: Sequence[tuple[int, ...]], dtype: Any) -> Any:
    """Make a Dask array of arrays on the workers, one chunk each, below each other.

    Parameters
    ----------
    futures : sequence of Future
        Of arrays; they must be kept as long as the Dask array is used.
    shapes : sequence of tuple of int
        Of the arrays.
    dtype : dtype
        Of all of them.

    Returns
    -------
    dask.array.Array
    """
    import dask.array as da

    parts = [da.from_delayed(future, shape, dtype) for future, shape in zip(futures, shapes, strict=True)]
    return da.concatenate(parts)
