"""Describe the spec of a run started from Python as a config.yaml that can rebuild it."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from hpcml.files import plain

# Larger arrays are data rather than parameters, and are described by their shape.
_MOST_VALUES = 100


def describe(value: Any) -> Any:
    """Convert an object to plain containers from which ``hydra.utils.instantiate`` can rebuild it.

    Data, lambdas and objects without known parameters become text.

    >>> from sklearn.svm import SVC
    >>> describe({"model": SVC(C=3)})["model"]["_target_"]
    'sklearn.svm.SVC'
    >>> describe({"ngram_range": (1, 2), "dtype": float})
    {'ngram_range': {'_target_': 'builtins.tuple', '_args_': [[1, 2]]}, \
'dtype': {'_target_': 'hydra.utils.get_class', 'path': 'builtins.float'}}
    """
    for applies, described in _KINDS:
        if applies(value):
            return described(value)
    return plain(value)


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _array(value: Any) -> Any:
    if value.ndim == 0 and hasattr(value, "item"):
        return describe(value.item())
    if value.size > _MOST_VALUES or value.dtype.kind not in "biufUS" or not hasattr(value, "tolist"):
        return _outline(value)
    return {"_target_": "numpy.array", "object": describe(value.tolist()), "dtype": str(value.dtype)}


def _partial(value: functools.partial[Any]) -> Any:
    return {"_target_": _path(value.func), "_partial_": True, **describe(value.keywords)}


def _distribution(value: Any) -> Any:
    """Describe a frozen SciPy distribution."""
    args = [describe(item) for item in value.args]
    return {"_target_": f"scipy.stats.{value.dist.name}", "_args_": args, **describe(value.kwds)}


def _dataclass(value: Any) -> Any:
    found = {}
    for field in fields(value):
        item = getattr(value, field.name)
        if _is_array(item):  # The field holds data, however small.
            found[field.name] = _outline(item)
        elif isinstance(item, tuple):  # Our dataclasses convert lists back to tuples.
            found[field.name] = describe(list(item))
        else:
            found[field.name] = describe(item)
    return {"_target_": _path(type(value)), **found}


def _with_parameters(value: Any) -> Any:
    return {"_target_": _path(type(value)), **describe(_parameters(value))}


def _outline(array: Any) -> str:
    return f"array of shape {tuple(array.shape)}, {array.dtype}"


def _parameters(value: Any) -> dict[str, Any] | None:
    """Return an object's constructor arguments if it stores them all as attributes."""
    attributes = getattr(value, "__dict__", None)
    if attributes is None:
        return None
    try:
        wanted = inspect.signature(type(value)).parameters.values()
    except (TypeError, ValueError):
        return None
    known = all(p.name in attributes and p.kind in {p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY} for p in wanted)
    return {p.name: attributes[p.name] for p in wanted} if known else None


def _importable(value: Any) -> bool:
    """Return whether a function can be imported, unlike lambdas and nested functions."""
    return callable(value) and _resolves(_module(value), _name(value), value)


def _module(value: Any) -> str:
    return str(getattr(value, "__module__", None) or "numpy")  # A ufunc has no module.


def _name(value: Any) -> str:
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    return str(name or type(value).__qualname__)


def _path(named: Any) -> str:
    """Return the dotted path of a class or function, without private modules if possible."""
    module, name = _module(named), _name(named)
    parts = module.split(".")
    for count in range(1, len(parts)):
        if parts[count].startswith("_") and _resolves(".".join(parts[:count]), name, named):
            return ".".join([*parts[:count], name])
    return f"{module}.{name}"


def _resolves(module: str, name: str, value: Any) -> bool:
    try:
        found = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        return False
    return found is value


# Predicates with their descriptions. The first match counts.
_KINDS: tuple[tuple[Callable[[Any], bool], Callable[[Any], Any]], ...] = (
    # Classes come first, since they have the attributes that later predicates look for.
    (lambda value: isinstance(value, type), lambda cls: {"_target_": "hydra.utils.get_class", "path": _path(cls)}),
    (_is_array, _array),
    (lambda value: isinstance(value, Mapping), lambda found: {str(key): describe(item) for key, item in found.items()}),
    (lambda value: isinstance(value, list), lambda items: [describe(item) for item in items]),
    (
        lambda value: isinstance(value, tuple),
        lambda items: {"_target_": "builtins.tuple", "_args_": [[describe(item) for item in items]]},
    ),
    (
        lambda value: isinstance(value, slice),
        lambda part: {"_target_": "builtins.slice", "_args_": [part.start, part.stop, part.step]},
    ),
    (lambda value: isinstance(value, functools.partial), _partial),
    (lambda value: isinstance(value, float), float),  # Unlike JSON, YAML has NaN and infinities.
    (lambda value: hasattr(value, "rvs") and hasattr(value, "dist"), _distribution),
    (is_dataclass, _dataclass),
    (
        lambda value: hasattr(value, "get_params"),
        lambda model: {"_target_": _path(type(model)), **describe(model.get_params(deep=False))},
    ),
    (_importable, lambda function: {"_target_": "hydra.utils.get_method", "path": _path(function)}),
    (lambda value: _parameters(value) is not None, _with_parameters),
)
