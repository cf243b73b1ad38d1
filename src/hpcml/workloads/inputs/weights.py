"""Weights of samples: which argument of a fit takes them."""

from __future__ import annotations

from typing import Any

from sklearn.pipeline import Pipeline
from sklearn.utils.validation import has_fit_parameter

from hpcml.data import Dataset
from hpcml.errors import DataError


def weight_argument(model: Any, data: Dataset) -> str | None:
    """Return the name of the argument of ``fit`` that takes the weights; None if the data has none.

    Raises
    ------
    DataError
        If the model takes no weights.
    """
    if data.weights is None:
        return None
    names, last = [], model
    while isinstance(last, Pipeline) and last.steps:
        name, last = last.steps[-1]
        names.append(name)
    if not has_fit_parameter(last, "sample_weight"):
        raise DataError(
            f"{data.name}: there are weights, and {type(last).__name__} takes none", "leave them out: data.weight=null"
        )
    return "__".join([*names, "sample_weight"])


def reject_weights(data: Dataset, what: str) -> None:
    """Reject weights that a workload would ignore.

    Parameters
    ----------
    what : str
        The workload, for the message.

    Raises
    ------
    DataError
    """
    if data.weights is not None:
        raise DataError(f"{data.name}: there are weights, and {what} takes none", "leave them out: data.weight=null")
