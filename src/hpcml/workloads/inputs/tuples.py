"""Lists that configs hold where scikit-learn takes tuples, such as ``ngram_range``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sklearn.base import clone

from hpcml.upstream.sklearn import takes_tuple


def with_tuples(model: Any) -> Any:
    """Return a model whose parameters are tuples where lists would be rejected."""
    found = {name: tuple(value) for name, value in _parameters(model).items() if _is_wrong(model, name, value)}
    if not found:
        return model
    changed = clone(model)
    return changed.set_params(**found)


def tuples_in(space: Mapping[str, Any], model: Any) -> dict[str, Any]:
    """Return a space of a search whose values are tuples where lists would be rejected."""
    return {name: _values(model, name, values) for name, values in space.items()}


def _values(model: Any, name: str, values: Any) -> Any:
    if hasattr(values, "rvs"):
        return values
    return [tuple(value) if _is_wrong(model, name, value) else value for value in values]


def _is_wrong(model: Any, name: str, value: Any) -> bool:
    if not isinstance(value, list):
        return False
    before, _, last = name.rpartition("__")
    owner = _parameters(model).get(before) if before else model
    return takes_tuple(owner, last)


def _parameters(model: Any) -> dict[str, Any]:
    found: dict[str, Any] = model.get_params(deep=True)
    return found
