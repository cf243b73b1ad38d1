"""Conversion of user functions' results to values for table cells and metrics."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import numpy as np
from dask.base import is_dask_collection
from distributed import Future

from hpcml.errors import WorkloadError


def cell(value: Any) -> Any:
    """Convert a value to numbers, texts, None, and lists and mappings of them.

    Times and paths become text.

    Raises
    ------
    WorkloadError
        For any other value, since it would be lost. For a lazy value, the message names the call
        that computes it.

    Examples
    --------
    >>> cell({"a": np.float64(1.5), "when": datetime.date(2024, 2, 29)})
    {'a': 1.5, 'when': '2024-02-29'}
    """
    refuse_lazy(value)
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(name): cell(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [cell(item) for item in value]
    if isinstance(value, np.ndarray):
        return [cell(item) for item in value] if value.ndim else cell(value[()])
    if isinstance(value, (datetime.date, datetime.time, datetime.timedelta, PurePath)):
        return str(value)
    raise WorkloadError(
        f"a {type(value).__module__}.{type(value).__qualname__} was returned",
        "return numbers, texts, or lists and mappings of them",
    )


def refuse_lazy(value: Any) -> None:
    """Reject futures and lazy collections, which would be lost with the cluster.

    Raises
    ------
    WorkloadError
    """
    if isinstance(value, Future):
        raise WorkloadError("a future was returned", "return what it holds: future.result()")
    if is_dask_collection(value):
        kind = f"{type(value).__module__.partition('.')[0]} {type(value).__name__}"
        raise WorkloadError(f"a {kind} was returned, which is still to be computed", "return value.compute()")
