"""Samples in the forms that estimators take: arrays, texts, frames and sparse matrices.

An array has shape (n_samples, n_features), texts have shape (n_samples,). A frame is a DataFrame of
pandas or Polars; a sparse matrix is one of SciPy, in CSR format.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.sparse

from hpcml.data.selection import Selection, forget, gather, is_in_file
from hpcml.errors import DataError, printable

# The most columns that a message names.
_SHOWN = 5

# Bytes of an array that are scanned at a time.
_SCANNED = 64 * 1024**2

# The most distinct values of text that skrub's TableVectorizer treats as categories.
_FEW = 40


def is_frame(X: Any) -> bool:
    """Return whether samples are a DataFrame of pandas or Polars."""
    return type(X).__name__ == "DataFrame" and type(X).__module__.partition(".")[0] in ("pandas", "polars")


def is_sparse(X: Any) -> bool:
    """Return whether samples are a sparse matrix or array."""
    return bool(scipy.sparse.issparse(X))


def is_texts(X: Any) -> bool:
    """Return whether each sample is a text."""
    return not is_frame(X) and X.ndim == 1


def take(X: Any, rows: Any) -> Any:
    """Return some of the samples.

    Parameters
    ----------
    rows : slice, ndarray of int, or ndarray of bool
    """
    if is_in_file(X) and not isinstance(rows, slice) and rows.dtype.kind in "iu":
        return gather(X, rows)
    if isinstance(X, Selection) or not is_frame(X):
        return X[rows]
    if hasattr(X, "iloc"):
        return X.iloc[rows]
    if isinstance(rows, slice) or rows.dtype.kind != "b":
        return X[rows]
    return X.filter(rows)


def whole(X: Any) -> Any:
    """Return samples that an estimator takes: a copy of those that are selected."""
    return X.whole() if isinstance(X, Selection) else X


def columns(X: Any, at: Sequence[int]) -> Any:
    """Return some of the features, by position."""
    if not is_frame(X):
        return X[:, at]
    return X.iloc[:, list(at)] if hasattr(X, "iloc") else X[:, list(at)]


def names(X: Any) -> tuple[str, ...] | None:
    """Return the names of a frame's columns; None for other samples."""
    return tuple(map(str, X.columns)) if is_frame(X) else None


def n_bytes(part: Any) -> int:
    """Return the memory of samples or targets, in bytes; of texts and objects, that of their pointers."""
    if part is None:
        return 0
    if is_sparse(part):
        return int(part.data.nbytes + part.indices.nbytes + part.indptr.nbytes)
    if not is_frame(part):
        return int(part.nbytes)
    return int(part.memory_usage(index=False).sum() if hasattr(part, "iloc") else part.estimated_size())


def concatenate(parts: Sequence[Any]) -> Any:
    """Join samples of the same form."""
    if is_sparse(parts[0]):
        return scipy.sparse.vstack(parts, format="csr")
    if not is_frame(parts[0]):
        return np.concatenate(parts)
    if hasattr(parts[0], "iloc"):
        import pandas as pd

        return pd.concat(parts, ignore_index=True)
    import polars as pl

    return pl.concat(parts)


def not_numeric(X: Any) -> dict[str, str]:
    """Return the columns of a frame that estimators for numbers cannot take, each with its dtype."""
    if not is_frame(X):
        return {}
    types = zip(names(X) or (), X.dtypes, strict=True)
    return {name: str(dtype) for name, dtype in types if not _is_number(dtype)}


def _is_number(dtype: Any) -> bool:
    if hasattr(dtype, "is_numeric"):  # Polars
        return bool(dtype.is_numeric() or str(dtype) == "Boolean")
    return getattr(dtype, "kind", "O") in "iufb"


def kinds(X: Any) -> dict[str, str]:
    """Return the kind of each column of a frame: numeric, categorical, text, date, or its dtype.

    Text of few distinct values is categorical; the limit is that of skrub's TableVectorizer.
    """
    found = dict.fromkeys(names(X) or (), "numeric")
    columns = dict(zip(found, X.columns, strict=True))  # Names of columns need not be texts.
    for name, dtype in not_numeric(X).items():
        kind = _kind(dtype)
        if kind == "text" and len(set(X[columns[name]])) <= _FEW:
            kind = "categorical"
        found[name] = kind
    return found


def missing(X: Any) -> dict[str, float]:
    """Return the share of missing values in each column of a frame, 0 to 1."""
    if hasattr(X, "iloc"):
        return {str(name): float(share) for name, share in X.isna().mean().items()}
    return {name: X[name].null_count() / len(X) for name in X.columns}


def count_values(X: Any, wanted: Callable[[Any], Any]) -> Any:
    """Count values in each floating-point feature.

    Parameters
    ----------
    wanted : callable
        Returns the mask of the values to count in an array.

    Returns
    -------
    ndarray of shape (n_features,)
    """
    if is_frame(X):
        floats = [
            X[name].to_numpy() if _is_float(dtype) else None for name, dtype in zip(X.columns, X.dtypes, strict=True)
        ]
        return np.array([0 if column is None else int(wanted(column).sum()) for column in floats])
    if X.dtype.kind != "f":
        return np.zeros(X.shape[-1], dtype=int)
    if is_sparse(X):
        return np.bincount(X.indices[wanted(X.data)], minlength=X.shape[1])
    counts = np.zeros(X.shape[-1], dtype=int)
    step = max(1, _SCANNED // max(1, X[:1].nbytes))
    for begin in range(0, len(X), step):
        counts += wanted(X[begin : begin + step]).sum(axis=0)
        forget(X)
    return counts


def _is_float(dtype: Any) -> bool:
    return dtype.is_float() if hasattr(dtype, "is_float") else isinstance(dtype, np.dtype) and dtype.kind == "f"


def dense(X: Any, name: str, reader: str) -> Any:
    """Convert samples to an array of numbers, with the narrowest dtype that holds all columns.

    Parameters
    ----------
    name : str
        Origin of the samples, for messages.
    reader : str
        The estimator or algorithm that takes only numbers, for messages.

    Raises
    ------
    DataError
        If some are not numbers; the message names all columns.
    """
    if is_sparse(X):
        raise DataError(f"{name}: X is sparse, and {reader} takes dense numbers", "make it dense if it fits: toarray()")
    if is_texts(X):
        raise DataError(f"{name}: its samples are texts, and {reader} takes numbers")
    others = not_numeric(X)
    if others:
        raise reject(others, name, reader)
    array = X.to_numpy() if is_frame(X) else X
    # pandas turns a mixture of numbers and booleans, or nullable numbers, into objects.
    return array.astype(np.float64) if array.dtype.kind in "Ob" else array


def reject(types: Mapping[str, str], name: str, reader: str) -> DataError:
    """Return the error for columns that are not numbers where only numbers are taken."""
    remedy = f"'data.drop=[{','.join(types)}]'"
    return DataError(
        f"{name}: {describe_columns(types)}, and {reader} takes numbers",
        f"exclude: {remedy}; or encode as numbers first",
    )


def describe_columns(types: Mapping[str, str]) -> str:
    """Render columns with their dtypes: ``column 'sex' holds text``."""
    if len(types) == 1:
        ((name, dtype),) = types.items()
        return f"column '{printable(name)}' holds {_PLURALS.get(_kind(dtype), dtype)}"
    listed = ", ".join(f"'{printable(name)}' ({_kind(types[name])})" for name in list(types)[:_SHOWN])
    more = f" and {len(types) - _SHOWN} more" if len(types) > _SHOWN else ""
    return f"columns that are not numeric: {listed}{more}"


_PLURALS = {"text": "text", "categorical": "categories", "date": "dates"}


def _kind(dtype: str) -> str:
    if dtype in ("str", "string", "object", "String"):
        return "text"
    if dtype.startswith(("category", "Categorical", "Enum")):
        return "categorical"
    return "date" if dtype.lower().startswith("date") else dtype
