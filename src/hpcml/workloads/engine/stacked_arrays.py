"""Dask arrays built from arrays that are already on the workers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distributed import Future


def stack(futures: Sequence[Future[Any]], shapes: Sequence[tuple[int, ...]], dtype: Any) -> Any:
    """Build a Dask array from arrays on the workers, one chunk each, joined along the first axis.

    Parameters
    ----------
    futures : sequence of Future
        The arrays; keep a reference as long as the Dask array is used.
    shapes : sequence of tuple of int
        The shapes of the arrays.
    dtype : dtype
        The common dtype.

    Returns
    -------
    dask.array.Array
    """
    import dask.array as da

    parts = [da.from_delayed(future, shape, dtype) for future, shape in zip(futures, shapes, strict=True)]
    return da.concatenate(parts)
