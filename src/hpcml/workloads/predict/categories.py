"""Categories of a table that a fitted model does not know."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hpcml.data import samples
from hpcml.errors import printable

# Modules of estimators, parts of which may be encoders.
_PACKAGES = ("sklearn.", "skrub.", "hpcml.")

# The most values that a warning names.
_SHOWN = 3


def known_categories(model: Any) -> dict[str, frozenset[Any]]:
    """Return the categories that the fitted encoders in a model know, by the name of the column."""
    return dict(_known(model, set()))


def _known(part: Any, seen: set[int]) -> Iterator[tuple[str, frozenset[Any]]]:
    if id(part) in seen:
        return
    seen.add(id(part))
    if isinstance(part, Mapping):
        inner = list(part.values())
    elif isinstance(part, (list, tuple)):
        inner = list(part)
    elif type(part).__module__.startswith(_PACKAGES):
        inner = list(getattr(part, "__dict__", {}).values())
        yield from _of_encoder(part)
    else:
        return
    for each in inner:
        yield from _known(each, seen)


def _of_encoder(part: Any) -> Iterator[tuple[str, frozenset[Any]]]:
    """Yield the categories of scikit-learn's encoders, which document both attributes."""
    names, categories = getattr(part, "feature_names_in_", None), getattr(part, "categories_", None)
    if names is not None and isinstance(categories, list) and len(names) == len(categories):
        for name, known in zip(names, categories, strict=True):
            yield str(name), frozenset(known.tolist())


def unknown_categories(model: Any, X: Any) -> dict[str, frozenset[Any]]:
    """Return the values of a frame that the encoders in a model do not know, by the name of the column."""
    if not hasattr(X, "iloc"):
        return {}
    known, found = known_categories(model), {}
    for name in known.keys() & set(samples.names(X) or ()):
        unknown = frozenset(X[name].dropna().unique().tolist()) - known[name]
        if unknown:
            found[name] = unknown
    return found


def warnings(unknown: Mapping[str, frozenset[Any]]) -> list[str]:
    """Render one line for each column."""
    lines = []
    for name in sorted(unknown):
        values = sorted(map(str, unknown[name]))
        more = f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else ""
        shown = ", ".join(f"'{printable(value, 40)}'" for value in values[:_SHOWN])
        lines.append(f"column '{printable(name)}' has values that the model was not fitted on: {shown}{more}")
    return lines
