"""The spec of a run started from Python, put into words: the config.yaml that Hydra would have made."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from hpcml.files import plain


def describe(value: Any) -> Any:
    """Turn objects into the plain containers of a config.

    >>> from sklearn.svm import SVC
    >>> describe({"model": SVC(C=3)})["model"]["_target_"]
    'sklearn.svm._classes.SVC'
    """
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"array of shape {tuple(value.shape)}, {value.dtype}"
    if isinstance(value, Mapping):
        return {str(key): describe(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [describe(item) for item in value]
    if isinstance(value, functools.partial):
        return {"_target_": _path(value.func), **describe(value.keywords)}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no NaN, but a config has
    if hasattr(value, "rvs") and hasattr(value, "dist"):  # a frozen scipy distribution
        return {"_target_": f"scipy.stats.{value.dist.name}", "_args_": describe(value.args), **describe(value.kwds)}
    if isinstance(value, type) or not hasattr(value, "__dict__"):
        return plain(value)
    if is_dataclass(value):
        return {"_target_": _path(type(value)), **{f.name: describe(getattr(value, f.name)) for f in fields(value)}}
    if hasattr(value, "get_params"):
        return {"_target_": _path(type(value)), **describe(value.get_params(deep=False))}
    return _path(value) if callable(value) else plain(value)


def _path(named: Any) -> str:
    return f"{named.__module__}.{getattr(named, '__qualname__', type(named).__qualname__)}"
